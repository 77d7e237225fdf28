"""The settings that all trainings share."""

from pathlib import Path
from typing import Literal

from ..utils.types import as_optional_path
from .options import convert_fields, converted, option, settings


@settings
class LoopConfig:
    """How [`train`] trains; `--help` of a training command explains each option.

    Raises:
        ValueError: for a number out of its range.
    """

    out: Path | None = converted(default=None, help="folder for what the training makes", converter=as_optional_path)
    resume: bool = option(
        False,
        "resume from the newest checkpoint in the folder, if any, with the settings saved there",
    )
    epochs: int = option(10, "passes over the data")
    batch_size: int | None = option(
        None, "images a step and process (default: 128; fewer where the set has fewer than 4,096 images a process)"
    )
    steps_per_epoch: int | None = option(None, "batches that count as an epoch, for data whose length is not known")
    accumulate: int = option(1, "batches whose gradients make one step of the optimizer")
    optimizer: str = option("adamw", "any optimizer of timm: sgd, adamw, nmuon (Muon with Nesterov momentum), lion …")
    learning_rate: float = option(2e-3, "at the peak of the schedule")
    momentum: float = option(0.9, "of the optimizers that have it")
    weight_decay: float = option(0.01, "not applied to biases and normalisations")
    layer_decay: float | None = option(None, "factor on the learning rate from each layer to the one before it")
    schedule: Literal["cosine", "triangular", "constant"] = option("cosine", "of the learning rate after its rise")
    warmup: float = option(0.2, "part of the steps in which the learning rate rises")
    max_grad_norm: float | None = option(None, "longer gradients are shortened to this norm")
    ema: float = option(0.0, "decay of the moving average of the weights, which is then what is evaluated and kept")
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = option(
        "auto", "auto takes bf16 where the hardware computes in it, else fp32"
    )
    compile: bool = option(False, "compile the model with torch.compile")
    gradient_checkpointing: bool = option(False, "compute activations again in the backward pass, to save memory")
    patience: int | None = option(None, "stop after so many epochs without a better result on the validation data")
    keep: Literal["best", "last"] = option("best", "the epoch whose weights come out: best by validation, or last")
    checkpoint_minutes: float = option(5.0, "time from one checkpoint to the next")
    keep_checkpoints: int = option(2, "how many of the newest checkpoints are kept")
    workers: int = option(0, "processes that read data; sets held in memory need none")
    trackers: list[str] = option([], "tensorboard, wandb, trackio")
    seed: int = option(0, "of weights, data order and augmentation")

    def __post_init__(self):
        convert_fields(self)
        for name in ("epochs", "accumulate", "learning_rate", "keep_checkpoints"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}.")
        for name in ("batch_size", "steps_per_epoch", "layer_decay", "max_grad_norm", "patience"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0 or not given, got {getattr(self, name)}.")
        for name in ("warmup", "ema", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}.")
        for name in ("weight_decay", "checkpoint_minutes", "workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        if self.steps_per_epoch is not None and self.steps_per_epoch % self.accumulate:
            raise ValueError(
                f"steps_per_epoch must be a multiple of accumulate={self.accumulate}, got {self.steps_per_epoch}."
            )
        if self.resume and self.out is None:
            raise ValueError("resume needs out, the folder of the training that is to go on.")

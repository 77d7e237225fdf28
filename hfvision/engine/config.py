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

    out: Path | None = converted(default=None, help="output folder", converter=as_optional_path)
    resume: bool = option(
        False,
        "resume from the newest checkpoint in the output folder, with the options saved there",
    )
    epochs: int = option(10, "number of training epochs")
    batch_size: int | None = option(
        None, "batch size per process (default: 128, or less for fewer than 4,096 images per process)"
    )
    steps_per_epoch: int | None = option(None, "batches per epoch, for streams of unknown length")
    accumulate: int = option(1, "gradient accumulation steps")
    optimizer: str = option(
        "adamw", "name of a timm optimizer: sgd, adamw, nmuon (Muon with Nesterov momentum), lion …"
    )
    learning_rate: float = option(2e-3, "peak learning rate")
    momentum: float = option(0.9, "momentum, for optimizers that have it")
    weight_decay: float = option(0.01, "weight decay; not applied to biases and normalization layers")
    layer_decay: float | None = option(None, "layer-wise learning rate decay factor")
    schedule: Literal["cosine", "triangular", "constant"] = option("cosine", "learning rate schedule after warmup")
    warmup: float = option(0.2, "fraction of training steps with linear learning rate warmup")
    max_grad_norm: float | None = option(None, "gradient clipping: maximum gradient norm (default: no clipping)")
    ema: float = option(
        0.0, "decay of an exponential moving average of the weights, which is evaluated and saved; 0 disables it"
    )
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = option(
        "auto", "mixed precision; auto: bf16 if the hardware supports it, else fp32"
    )
    compile: bool = option(False, "compile the model with torch.compile")
    gradient_checkpointing: bool = option(False, "recompute activations in the backward pass to save memory")
    patience: int | None = option(
        None, "stop after this many epochs without improvement on the validation data (default: never)"
    )
    keep: Literal["best", "last"] = option(
        "best", "weights to save: those of the best epoch by validation, or of the last"
    )
    checkpoint_minutes: float = option(5.0, "minutes between checkpoints")
    keep_checkpoints: int = option(2, "number of most recent checkpoints to keep")
    workers: int = option(0, "data loading processes; not needed for datasets held in memory")
    trackers: list[str] = option([], "experiment trackers: tensorboard, wandb, trackio")
    seed: int = option(0, "random seed of weights, data order and augmentation")

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

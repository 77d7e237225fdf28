"""The settings of a training of a super-resolution network."""

from pathlib import Path
from typing import Any, Literal

from ...data.transforms.degradation_presets import PRESETS as DEGRADATIONS
from ...data.transforms.degradation_presets import Preset
from ...engine.config import LoopConfig
from ...engine.options import converted, option, settings, yaml_mapping
from ...models.presets import SRGAN
from ...utils.types import as_name, as_names, as_optional_name, as_path

GANLoss = Literal["vanilla", "relativistic"]


@settings
class SuperResTrainingConfig(LoopConfig):
    """How [`train_superres`] trains; `hfvision train superres --help` explains each option.

    Raises:
        ValueError: for options that are out of range or do not go together.
    """

    out: Path = converted(
        default=Path("runs/upscaler"), help="folder for the model and what tells of its training", converter=as_path
    )
    data: list[str] = converted(
        default=[],
        help="photographs: folders, files, parquet files or Hub ids; what is given twice is drawn from twice as often",
        converter=as_names,
    )
    validation_data: list[str] = converted(
        default=[], help="photographs to choose the best weights by, as data", converter=as_names
    )
    validation: float = option(0.05, "part of the photographs set aside where there are no validation_data")
    model: str = converted(
        default="fast-light",
        help=f"start: a preset ({', '.join(SRGAN)}), Hub id, folder or shipped checkpoint",
        converter=as_name,
    )
    model_fields: str | None = option(None, "fields of a preset to replace, as YAML: '{hidden_size: 32}'")
    scale: int | None = option(None, "2, 3 or 4; weights of another scale are taken but for the last layer")
    epochs: int = option(20, "validations; each after steps_per_epoch batches")
    steps_per_epoch: int = option(1000, "batches from one validation to the next")
    batch_size: int = option(16, "crops a step and process")
    crop: int = option(48, "side of the low-resolution crops in pixels")
    shrink: float = option(1.0, "smallest factor that photographs are shrunk by, at random, before crops are taken")
    candidates: int = option(1, "crops drawn for each one taken, which is the one of most detail")
    turn: bool = option(True, "flip and turn the crops at random; not for what has an upright, as signs and text")
    degradation: Preset = option(
        "bicubic",
        "how small images are made: MATLAB's bicubic; mild: as from a camera; strong: blurred, noisy and compressed "
        "several times, as on the web; photo: a mixture of the three (blind: its former name)",
    )
    pixel_loss: Literal["l1", "l2", "charbonnier"] = option("l1", "of the pixels")
    luma: float = option(0.0, "part of the pixel loss that brightness alone decides, which PSNR is measured on")
    pixel_weight: float = option(1.0, "of the pixel loss")
    teacher: str | None = converted(
        default=None,
        help="larger network to distill from: Hub id, folder or shipped checkpoint",
        converter=as_optional_name,
    )
    distillation: Literal["pixels", "features"] = option("pixels", "what is learned from the teacher")
    distillation_weight: float = option(0.5, "part of the pixel loss that the teacher decides")
    self_ensemble: bool = option(False, "show the teacher each crop flipped or turned at random: its mean is better")
    gan: Literal["none", GANLoss] = option("none", "second stage: train against a discriminator, from PSNR weights")
    gan_weight: float = option(0.005, "of the discriminator's opinion")
    grid_weight: float = option(1.0, "of patterns of the scale's period, as which a GAN likes to fake texture")
    discriminator_learning_rate: float = option(1e-4, "at the peak of the schedule")
    r1: float = option(0.0, "weight of the R1 penalty on the discriminator's gradient")
    perceptual: str | None = converted(
        default=None,
        help="classifier whose features are compared in the second stage: as model, or timm/NAME",
        converter=as_optional_name,
    )
    perceptual_weight: float = option(1.0, "of the features")
    learning_rate: float = option(1e-3, "at the peak of the schedule")
    weight_decay: float = option(0.0, "not applied to biases")
    warmup: float = option(0.05, "part of the steps in which the learning rate rises")
    ema: float = option(0.999, "decay of the moving average of the weights, which is then what is evaluated and kept")
    trust_remote_code: bool = option(False, "run the code of the start model's Hub repository")

    def __post_init__(self):
        super().__post_init__()
        if not self.data:
            raise ValueError("data must name photographs to train on, as --data photos/ or --data user/name.")
        twice = next((source for source in self.data if self.data.count(source) > 1), None)
        if twice and not self.validation_data:
            raise ValueError(
                f"data names {twice} more than once: photographs set aside from it would be trained on too. Give "
                "--validation-data."
            )
        if self.scale not in (None, 2, 3, 4):
            raise ValueError(f"scale must be 2, 3 or 4, got {self.scale}.")
        if self.degradation not in DEGRADATIONS:
            raise ValueError(f"degradation must be one of {', '.join(DEGRADATIONS)}, got {self.degradation}.")
        if self.crop < 8:
            raise ValueError(f"crop must be at least 8 pixels, got {self.crop}.")
        if not 0 < self.shrink <= 1:
            raise ValueError(f"shrink must be above 0 and at most 1, got {self.shrink}.")
        if self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {self.candidates}.")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation must be at least 0 and below 1, got {self.validation}.")
        if self.self_ensemble and (not self.teacher or self.distillation != "pixels"):
            raise ValueError("self_ensemble is of a teacher of pixels: give --teacher with --distillation pixels.")
        if self.self_ensemble and not self.turn:
            raise ValueError("self_ensemble shows turned crops, which turn=False rules out: leave one of the two out.")
        for name in ("distillation_weight", "luma"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}.")
        for name in ("pixel_weight", "gan_weight", "grid_weight", "perceptual_weight", "r1"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        if self.discriminator_learning_rate <= 0:
            raise ValueError(f"discriminator_learning_rate must be above 0, got {self.discriminator_learning_rate}.")
        if self.gan == "none" and (self.r1 or self.perceptual):
            raise ValueError("r1 and perceptual belong to the second stage: add --gan relativistic or --gan vanilla.")
        self.overrides()

    def overrides(self) -> dict[str, Any]:
        """`model_fields` as a dict, with the scale where given."""
        return yaml_mapping("model_fields", self.model_fields) | ({"scale": self.scale} if self.scale else {})

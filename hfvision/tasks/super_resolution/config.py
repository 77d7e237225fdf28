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
        default=Path("runs/upscaler"), help="output folder for the model, metrics and record", converter=as_path
    )
    data: list[str] = converted(
        default=[],
        help="photographs: folders, files, parquet files or Hub ids; a source given twice is sampled twice as often",
        converter=as_names,
    )
    validation_data: list[str] = converted(
        default=[], help="photographs for validation, as data (default: held out from the data)", converter=as_names
    )
    validation: float = option(0.05, "fraction of photographs held out for validation if there is no validation data")
    model: str = converted(
        default="fast-light",
        help=f"model to start from: preset, Hub id, folder or shipped checkpoint; presets: {', '.join(SRGAN)}",
        converter=as_name,
    )
    model_fields: str | None = option(
        None, "configuration fields of a preset to override, as YAML: '{hidden_size: 32}'"
    )
    scale: int | None = option(
        None, "upscaling factor: 2, 3 or 4; weights of another scale are loaded except for the last layer"
    )
    epochs: int = option(20, "number of epochs of steps_per_epoch batches, each followed by validation")
    steps_per_epoch: int = option(1000, "batches per epoch")
    batch_size: int = option(16, "crops per batch and process")
    crop: int = option(48, "low-resolution crop size in pixels")
    shrink: float = option(1.0, "minimum random downscaling factor of photographs before cropping")
    candidates: int = option(1, "candidate crops per training crop; the one with the most detail is used")
    turn: bool = option(True, "random flips and rotations by 90 degrees; disable for upright content such as text")
    degradation: Preset = option(
        "bicubic",
        "degradation model of the low-resolution images; bicubic: MATLAB's, mild: camera-like, strong: blur, noise "
        "and repeated compression, photo: a mixture of the three (blind: its former name)",
    )
    pixel_loss: Literal["l1", "l2", "charbonnier"] = option("l1", "pixel loss")
    luma: float = option(0.0, "fraction of the pixel loss computed on luma (Y) only")
    pixel_weight: float = option(1.0, "weight of the pixel loss")
    teacher: str | None = converted(
        default=None,
        help="teacher for knowledge distillation: Hub id, folder or shipped checkpoint",
        converter=as_optional_name,
    )
    distillation: Literal["pixels", "features"] = option("pixels", "distillation target")
    distillation_weight: float = option(0.5, "fraction of the pixel loss computed against the teacher")
    self_ensemble: bool = option(False, "augment the teacher's input with random flips and rotations")
    gan: Literal["none", GANLoss] = option("none", "fine-tune with a GAN loss, starting from PSNR-trained weights")
    gan_weight: float = option(0.005, "weight of the GAN loss")
    grid_weight: float = option(1.0, "weight of the penalty on grid artifacts with the period of the scale")
    discriminator_learning_rate: float = option(1e-4, "peak learning rate of the discriminator")
    r1: float = option(0.0, "weight of the R1 gradient penalty of the discriminator")
    perceptual: str | None = converted(
        default=None,
        help="classifier for the perceptual loss of GAN training: Hub id, folder, shipped checkpoint or timm/NAME",
        converter=as_optional_name,
    )
    perceptual_weight: float = option(1.0, "weight of the perceptual loss")
    learning_rate: float = option(1e-3, "peak learning rate")
    weight_decay: float = option(0.0, "weight decay; not applied to biases")
    warmup: float = option(0.05, "fraction of training steps with linear learning rate warmup")
    ema: float = option(
        0.999, "decay of an exponential moving average of the weights, which is evaluated and saved; 0 disables it"
    )
    trust_remote_code: bool = option(False, "run custom model code from the start model's Hub repository")

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

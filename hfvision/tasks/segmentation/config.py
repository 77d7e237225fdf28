"""The settings of a training of a segmenter."""

from pathlib import Path
from typing import Any, Literal

from ...data.transforms.augmentation import MaskAugmentation
from ...engine.config import LoopConfig
from ...engine.options import converted, option, settings, yaml_mapping
from ...utils.types import as_name, as_optional_name, as_path


@settings
class SegmenterTrainingConfig(LoopConfig):
    """How [`train_segmenter`] trains; `hfvision train segmenter --help` explains each option.

    Raises:
        ValueError: for options that are out of range or do not go together.
    """

    out: Path = converted(
        default=Path("runs/segmenter"), help="output folder for the model, metrics and record", converter=as_path
    )
    data: str = converted(
        default="", help="folder with images/ and masks/, parquet file or folder, or Hub id", converter=as_name
    )
    image_column: str | None = option(None, "image column (default: detected)")
    mask_column: str | None = option(None, "mask column (default: detected)")
    validation_group: str | None = option(
        None, "column of groups, such as patients, that are not split between training and validation"
    )
    by: str | None = option(None, "column to report metrics by, such as the kind of image")
    classes: list[str] = option([], "class names of the mask values 0, 1, … (default: the teacher's)")
    validation: float = option(
        0.1, "fraction of training images held out for validation if the data has no validation split"
    )
    memory_limit: float = option(4.0, "memory limit in GB for holding decoded images in memory")
    model: str = converted(
        default="cnn:unet",
        help="model to start from: preset (cnn:unet, vit:cifar), timm/NAME[:random], segmentation model or classifier",
        converter=as_name,
    )
    model_fields: str | None = option(
        None, "configuration fields of a preset to override, as YAML: '{decoder_widths: [32, 16, 8]}'"
    )
    num_channels: int | None = option(None, "1 for grayscale images, 3 for RGB (default: the model's, or 3)")
    trust_remote_code: bool = option(False, "run custom model code from the start model's Hub repository")
    epochs: int = option(60, "number of epochs; each is one crop of every image, or steps_per_epoch batches")
    batch_size: int | None = option(
        None, "crops per batch and process (default: 16, or less for fewer than 512 images per process)"
    )
    crop: int = option(128, "crop size in pixels")
    flip: bool = option(True, "random horizontal flip")
    turn: bool = option(
        False, "random rotations by 90 degrees and vertical flips, for images without an upright orientation"
    )
    rotation: float = option(0.0, "maximum random rotation in degrees")
    zoom: float = option(0.25, "random scaling by factors from 1 / (1 + zoom) to 1 + zoom")
    light: float = option(0.25, "brightness and contrast jitter: factors from 1 / (1 + light) to 1 + light")
    colour: float = option(0.2, "saturation jitter; hue jitter is a quarter of it")
    balance: bool = option(False, "oversample rare values of `by`, by one over the square root of their count")
    dice_weight: float = option(1.0, "weight of the Dice loss added to the cross-entropy")
    teacher: str | None = converted(
        default=None,
        help="teacher for knowledge distillation: Hub id, folder or shipped checkpoint",
        converter=as_optional_name,
    )
    distillation: Literal["soft", "hard", "features"] = option(
        "soft", "distillation target: soft or hard labels, or features"
    )
    distillation_weight: float = option(0.5, "weight of the distillation loss, 0 to 1")
    distillation_temperature: float = option(2.0, "softmax temperature of soft distillation")
    learning_rate: float = option(2e-3, "peak learning rate")
    warmup: float = option(0.1, "fraction of training steps with linear learning rate warmup")
    tta: Literal["none", "flip", "turn"] = option("none", "test-time augmentation of the final evaluation")

    def __post_init__(self):
        super().__post_init__()
        if not self.data:
            raise ValueError("data must name images with masks, as --data cells/ with cells/images and cells/masks.")
        if self.crop < 16:
            raise ValueError(f"crop must be at least 16 pixels, got {self.crop}.")
        if self.dice_weight < 0:
            raise ValueError(f"dice_weight must not be negative, got {self.dice_weight}.")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation must be at least 0 and below 1, got {self.validation}.")
        if self.balance and self.by is None:
            raise ValueError("balance needs by, the column of what is rare and what is not.")
        self.overrides()
        self.augmentation()

    def overrides(self) -> dict[str, Any]:
        """`model_fields` as a dict."""
        return yaml_mapping("model_fields", self.model_fields)

    def augmentation(self) -> MaskAugmentation:
        """What crops are varied by."""
        return MaskAugmentation(self.flip, self.turn, self.rotation, self.zoom, self.light, self.colour)

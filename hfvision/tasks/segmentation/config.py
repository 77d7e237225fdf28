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
        default=Path("runs/segmenter"), help="folder for the model and what tells of its training", converter=as_path
    )
    data: str = converted(
        default="", help="folder with images/ and masks/, parquet file or folder, or Hub id", converter=as_name
    )
    image_column: str | None = option(None, "column of the images, where it is not found by itself")
    mask_column: str | None = option(None, "column of the masks, where it is not found by itself")
    validation_group: str | None = option(
        None, "images that agree in it, as of one patient, are not split by validation"
    )
    by: str | None = option(None, "column, as the kind of an image: figures are also given for each of its values")
    classes: list[str] = option([], "names of the masks' values 0, 1, … (default: the teacher's)")
    validation: float = option(0.1, "part of the training images set aside where the data has no validation split")
    memory_limit: float = option(4.0, "GB of decoded images that are held in memory")
    model: str = converted(
        default="cnn:unet",
        help="start: a preset (cnn:unet, vit:cifar), timm/NAME, a segmenter or a classifier",
        converter=as_name,
    )
    model_fields: str | None = option(None, "fields of a preset to replace, as YAML: '{decoder_widths: [32, 16, 8]}'")
    num_channels: int | None = option(None, "1 for grey images, 3 for colours (default: the model's, or 3)")
    trust_remote_code: bool = option(False, "run the code of the start model's Hub repository")
    epochs: int = option(60, "validations; each after one crop of every image, or steps_per_epoch batches")
    batch_size: int | None = option(
        None, "crops a step and process (default: 16; fewer where the set has fewer than 512 images a process)"
    )
    crop: int = option(128, "side of the crops in pixels")
    flip: bool = option(True, "mirror crops")
    turn: bool = option(False, "turn crops by quarters, and upside down; for what has no upright, as cells or soil")
    rotation: float = option(0.0, "degrees that crops are turned by to either side")
    zoom: float = option(0.25, "crops are shown up to 1 + zoom times larger or smaller")
    light: float = option(0.25, "brightness and contrast vary by factors from 1 / (1 + light) to 1 + light")
    colour: float = option(0.2, "part by which saturation varies; hue by a quarter of it")
    balance: bool = option(False, "draw crops of rare values of `by` more often: by one over the root of their number")
    dice_weight: float = option(1.0, "of the Dice loss, beside the cross-entropy")
    teacher: str | None = converted(
        default=None,
        help="segmenter to distill from: Hub id, folder or shipped checkpoint",
        converter=as_optional_name,
    )
    distillation: Literal["soft", "hard", "features"] = option("soft", "what is learned from the teacher")
    distillation_weight: float = option(0.5, "weight of the teacher's loss; the labels' gets the rest")
    distillation_temperature: float = option(2.0, "softens the teacher's answers")
    learning_rate: float = option(2e-3, "at the peak of the schedule")
    warmup: float = option(0.1, "part of the steps in which the learning rate rises")
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

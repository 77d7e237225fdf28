"""The settings of a training of a classifier."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from ...data.transforms.augmentation import PRESETS, Augmentation
from ...engine.config import LoopConfig
from ...engine.options import converted, option, settings, yaml_mapping
from ...robustness.threat_model import DEFAULT_EPSILON, Method, Norm, check_adversary
from ...utils.types import as_name, as_optional_name, as_path


@settings
class ClassifierTrainingConfig(LoopConfig):
    """How [`train_classifier`] trains; `hfvision train classifier --help` explains each option.

    Raises:
        ValueError: for options that are out of range or do not go together.
    """

    out: Path = converted(
        default=Path("runs/classifier"), help="folder for the model and what tells of its training", converter=as_path
    )
    data: str = converted(
        default="",
        help="Hub id, folder of class folders, parquet file or folder, or a sample set: fashion_mnist",
        converter=as_name,
    )
    image_column: str | None = option(None, "column of the images, where it is not found by itself")
    label_column: str | None = option(None, "column of the labels, where it is not found by itself")
    validation: float = option(0.1, "part of the training images set aside where the data has no validation split")
    validation_group: str | None = option(
        None, "column of patients, objects …: all images of one are on the same side of that choice"
    )
    streaming: bool = option(False, "read the data as a stream: for sets larger than the disk")
    memory_limit: float = option(4.0, "GB; sets whose decoded images fit are held in memory")
    bad_images: Literal["stop", "skip"] = option("stop", "what to do about an image that cannot be read")
    model: str = converted(
        default="cnn:cifar",
        help="start: a preset (cnn:resnet18, vit:small), timm/NAME, Hub id or folder",
        converter=as_name,
    )
    model_fields: str | None = option(None, "fields of a preset to replace, as YAML: '{distillation_token: true}'")
    image_size: int | None = option(None, "side in pixels that images are brought to (default: the model's)")
    num_channels: int | None = option(None, "1 for grey images, 3 for colours (default: the model's, or 3)")
    trust_remote_code: bool = option(False, "run the code of the start model's Hub repository")
    freeze: Literal["none", "backbone"] = option("none", "backbone: train the head alone")
    lora_rank: int | None = option(None, "train low-rank adapters of this rank in place of the weights")
    dora: bool = option(False, "weight-decomposed adapters (DoRA)")
    whiten: bool = option(False, "start a CNN's stem as the frozen whitening of the training images' patches")
    augment: Literal["none", "classic", "strong", "upright", "imagenet"] = option(
        "strong", "preset of the augmentation"
    )
    flip: bool | None = option(None, "mirror images (default: as the preset)")
    erasing: float | None = option(None, "probability that a rectangle is erased (default: as the preset)")
    mixup: float | None = option(None, "alpha of mixup (default: as the preset)")
    cutmix: float | None = option(None, "alpha of cutmix (default: as the preset)")
    corruptions: float = option(0.0, "part of the training images that get a random corruption: noise, blur, JPEG …")
    label_smoothing: float = option(0.1, "part of each label that goes to all classes alike")
    balance: Literal["none", "weights", "sampling"] = option("none", "against classes of unequal size")
    teacher: str | None = converted(
        default=None, help="model to distill from: Hub id, folder or shipped checkpoint", converter=as_optional_name
    )
    distillation: Literal["soft", "hard", "features"] = option("soft", "what is learned from the teacher")
    distillation_weight: float = option(0.5, "part of the loss that the teacher decides")
    distillation_temperature: float = option(2.0, "softens the teacher's answers")
    adversarial: Literal["none", Method] = option("none", "train on attacked images: fast is N-FGSM, pgd Madry's")
    epsilon: str | None = option(
        None, "how far an attack may change a pixel in [0, 1]; for l2 the whole image (default: 8/255; 0.5 for l2)"
    )
    norm: Norm = option("linf", "what epsilon measures")
    attack_steps: int = option(10, "of pgd, trades and mart")
    attack_step_size: float | None = option(None, "of pgd, trades and mart (default: 2.5 epsilon / steps)")
    adversarial_weight: float | None = option(None, "of the divergence in trades (default 6) and mart (default 5)")
    awp: float = option(0.0, "perturb weights too, by this part of their norm: adversarial weight perturbation")
    robust_images: int = option(512, "validation images that each epoch's PGD attacks, to choose the best by")
    tta: Literal["none", "flip", "flip_shift"] = option("none", "test-time augmentation of the final evaluation")

    def __post_init__(self):
        super().__post_init__()
        if not self.data:
            raise ValueError("data must name the images to train on, as --data photos/ or --data user/name.")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1, got {self.label_smoothing}.")
        if not 0 <= self.corruptions <= 1:
            raise ValueError(f"corruptions must be from 0 to 1, got {self.corruptions}.")
        if self.streaming and self.balance != "none":
            raise ValueError("balance needs all labels before the training, which streaming does not have.")
        if self.lora_rank is not None and self.freeze != "none":
            raise ValueError("lora_rank freezes the weights by itself: leave freeze out.")
        self.overrides()
        if self.lora_rank is not None and ":" in self.model:
            raise ValueError(f"lora_rank adapts a trained model, and {self.model} starts with random weights.")
        if self.whiten and self.streaming:
            raise ValueError("whiten looks at images before the training, which streaming cannot.")
        if self.dora and self.lora_rank is None:
            raise ValueError("dora needs lora_rank.")
        if self.adversarial == "none" and (self.awp or self.adversarial_weight is not None):
            raise ValueError("awp and adversarial_weight need adversarial, as --adversarial trades.")
        if self.adversarial in ("trades", "mart") and self.teacher:
            raise ValueError(
                f"adversarial={self.adversarial} has a loss of its own: a teacher goes with pgd and fast."
            )
        if self.adversarial == "mart" and (self.augmentation().mixup or self.augmentation().cutmix):
            raise ValueError("adversarial=mart needs images of one class each: leave mixup and cutmix out.")
        if not 0 <= self.awp < 1:
            raise ValueError(f"awp must be at least 0 and below 1, got {self.awp}.")
        if self.robust_images < 1:
            raise ValueError(f"robust_images must be at least 1, got {self.robust_images}.")
        if self.adversarial != "none":
            check_adversary(self.adversarial, **self.attack_settings())

    def overrides(self) -> dict[str, Any]:
        """`model_fields` as a dict."""
        return yaml_mapping("model_fields", self.model_fields)

    def attack_settings(self) -> dict[str, Any]:
        """The settings of the attack on training images."""
        return {
            "epsilon": self.epsilon or DEFAULT_EPSILON[self.norm],
            "norm": self.norm,
            "steps": self.attack_steps,
            "step_size": self.attack_step_size,
            "weight": self.adversarial_weight,
        }

    def augmentation(self) -> Augmentation:
        """The preset with the options that are given."""
        given = {name: getattr(self, name) for name in ("flip", "erasing", "mixup", "cutmix")}
        changes = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(PRESETS[self.augment], **changes)

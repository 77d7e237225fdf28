"""The settings of a training of a classifier."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from ...data.transforms.augmentation import PRESETS, Augmentation
from ...engine.config import LoopConfig
from ...engine.options import converted, option, settings, yaml_mapping
from ...models import presets
from ...robustness.threat_model import DEFAULT_EPSILON, Method, Norm, check_adversary
from ...utils.types import as_name, as_optional_name, as_path

CLASSIFIERS = ", ".join([*(f"cnn:{name}" for name in presets.CNN), *(f"vit:{name}" for name in presets.VIT)])


@settings
class ClassifierTrainingConfig(LoopConfig):
    """How [`train_classifier`] trains; `hfvision train classifier --help` explains each option.

    Raises:
        ValueError: for options that are out of range or do not go together.
    """

    out: Path = converted(
        default=Path("runs/classifier"), help="output folder for the model, metrics and record", converter=as_path
    )
    data: str = converted(
        default="",
        help="Hub id, folder with one subfolder per class, parquet file or folder, or sample dataset (fashion_mnist)",
        converter=as_name,
    )
    image_column: str | None = option(None, "image column (default: detected)")
    label_column: str | None = option(None, "label column (default: detected)")
    validation: float = option(
        0.1, "fraction of training images held out for validation if the data has no validation split"
    )
    validation_group: str | None = option(
        None, "column of groups, such as patients, that are not split between training and validation"
    )
    streaming: bool = option(False, "stream the dataset, for data larger than the disk")
    memory_limit: float = option(4.0, "memory limit in GB for holding decoded images in memory")
    bad_images: Literal["stop", "skip"] = option("stop", "what to do with images that cannot be decoded")
    model: str = converted(
        default="cnn:cifar",
        help="model to start from: preset (random weights), timm/NAME[.TAG] (pretrained), timm/NAME:random, Hub id or "
        f"folder; presets: {CLASSIFIERS}",
        converter=as_name,
    )
    model_fields: str | None = option(
        None, "configuration fields of a preset to override, as YAML: '{distillation_token: true}'"
    )
    image_size: int | None = option(None, "image size in pixels (default: the model's)")
    num_channels: int | None = option(None, "1 for grayscale images, 3 for RGB (default: the model's, or 3)")
    trust_remote_code: bool = option(False, "run custom model code from the start model's Hub repository")
    freeze: Literal["none", "backbone"] = option("none", "backbone: train the classification head only")
    lora_rank: int | None = option(None, "train LoRA adapters of this rank instead of all weights")
    dora: bool = option(False, "use weight-decomposed low-rank adapters (DoRA)")
    whiten: bool = option(False, "initialize and freeze the stem of a CNN as a whitening of training image patches")
    augment: Literal["none", "classic", "strong", "upright", "imagenet"] = option("strong", "augmentation preset")
    flip: bool | None = option(None, "random horizontal flip (default: by preset)")
    erasing: float | None = option(None, "random erasing probability (default: by preset)")
    mixup: float | None = option(None, "mixup alpha (default: by preset)")
    cutmix: float | None = option(None, "CutMix alpha (default: by preset)")
    corruptions: float = option(0.0, "fraction of training images with a random corruption: noise, blur, JPEG …")
    label_smoothing: float = option(0.1, "label smoothing")
    balance: Literal["none", "weights", "sampling"] = option(
        "none", "class balancing: weights of the loss, or sampling"
    )
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
    adversarial: Literal["none", Method] = option(
        "none", "adversarial training method; fast: N-FGSM, rs_fgsm: random-start FGSM"
    )
    epsilon: str | None = option(None, "attack radius for pixels in [0, 1] (default: 8/255 for linf, 0.5 for l2)")
    norm: Norm = option("linf", "norm of the attack radius")
    attack_steps: int = option(10, "attack steps of pgd, trades and mart")
    attack_step_size: float | None = option(
        None, "attack step size of pgd, trades and mart (default: 2.5 epsilon / steps)"
    )
    adversarial_weight: float | None = option(
        None, "weight of the regularization term (default: 6 for trades, 5 for mart)"
    )
    awp: float = option(
        0.0, "adversarial weight perturbation: size relative to the norm of the weights; 0 disables it"
    )
    robust_images: int = option(
        512, "validation images attacked with PGD after each epoch, to select the best weights"
    )
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

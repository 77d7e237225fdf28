"""The settings of pruning."""

from pathlib import Path
from typing import Literal

from ..engine.options import converted, option, settings
from ..tasks.classification.config import ClassifierTrainingConfig
from ..tasks.segmentation.config import SegmenterTrainingConfig
from ..tasks.super_resolution.config import SuperResTrainingConfig
from ..utils.types import as_name, as_path

Metric = Literal["params", "macs", "latency"]


@settings
class PruneOptions:
    """What is cut, beside how what is left is trained.

    Raises:
        ValueError: for none or several targets, or a number out of its range.
    """

    model: str = converted(
        default="", help="model to prune: Hub id, folder or shipped checkpoint; it is not changed", converter=as_name
    )
    target_params: float | None = option(None, "parameters to keep: a fraction up to 1, or a number")
    target_macs: float | None = option(None, "MACs per image to keep: a fraction up to 1, or a number")
    target_latency: float | None = option(None, "latency per image on this CPU: a fraction up to 1, or milliseconds")
    importance: Literal["taylor", "magnitude"] = option(
        "taylor", "importance criterion: first-order Taylor expansion, or weight magnitude"
    )
    importance_images: int = option(1024, "training images or crops for the Taylor criterion")
    rounds: int = option(1, "rounds of pruning and fine-tuning")
    finetune: bool = option(True, "fine-tune after pruning, with the original model as teacher by default")

    def __post_init__(self):
        super().__post_init__()  # pyright: ignore[reportAttributeAccessIssue]: of the training that this is mixed into
        if len([name for name in ("params", "macs", "latency") if getattr(self, f"target_{name}") is not None]) != 1:
            raise ValueError("Say what is to be left by one of target_params, target_macs and target_latency.")
        if self.target()[1] <= 0:
            raise ValueError(f"The target must be above 0, got {self.target()[1]}.")
        for name in ("importance_images", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not self.finetune and self.rounds > 1:
            raise ValueError("Several rounds train in between: leave finetune on, or cut in one.")

    def target(self) -> tuple[Metric, float]:
        """What is to be left, and how much of it."""
        names: tuple[Metric, ...] = ("params", "macs", "latency")
        return next((n, getattr(self, f"target_{n}")) for n in names if getattr(self, f"target_{n}") is not None)


@settings
class ClassifierPruneConfig(PruneOptions, ClassifierTrainingConfig):
    """How [`prune_and_train`] makes a classifier smaller."""

    out: Path = converted(
        default=Path("runs/pruned"),
        help="output folder for the pruned model, metrics and record",
        converter=as_path,
    )


@settings
class SuperResPruneConfig(PruneOptions, SuperResTrainingConfig):
    """How [`prune_and_train`] makes an upscaler smaller."""

    out: Path = converted(
        default=Path("runs/pruned"),
        help="output folder for the pruned model, metrics and record",
        converter=as_path,
    )


@settings
class SegmenterPruneConfig(PruneOptions, SegmenterTrainingConfig):
    """How [`prune_and_train`] makes a segmenter smaller."""

    out: Path = converted(
        default=Path("runs/pruned"),
        help="output folder for the pruned model, metrics and record",
        converter=as_path,
    )


PruneConfig = ClassifierPruneConfig | SuperResPruneConfig | SegmenterPruneConfig

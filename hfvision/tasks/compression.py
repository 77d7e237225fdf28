"""What compression needs to know of a task: data to calibrate and to rate with, how quality is measured, training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ..records import ModelRecord, TrainingSettings

CALIBRATION_BATCH = 10
MINIMUM_IMAGES = 10  # to calibrate with


@dataclass(frozen=True)
class QualityMetric:
    """How well models of a task do, as one number: larger is better.

    Attributes:
        name: its key in records, as `top1`.
        label: for the headers of tables.
        form: a format string of its values.
        agreement_form: a format string of how far two models agree.
        unit: what one unit of `max_drop` is of it: 0.01, a point, for shares of 0 to 1.
    """

    name: str
    label: str
    form: str
    agreement_form: str
    unit: float = 0.01


@dataclass(frozen=True)
class CalibrationConfig:
    """Which images a model is calibrated with.

    Attributes:
        sources: of the data.
        images: how many images or crops to calibrate with.
        seed: of their choice.
        training: the settings of the model's training, where they are recorded.
    """

    sources: Sequence[str]
    images: int = 300
    seed: int = 0
    training: TrainingSettings = field(default_factory=TrainingSettings)


@dataclass(frozen=True)
class CalibrationData:
    """Images that a model is calibrated with, and others that tell what the quantization costs.

    Attributes:
        batches: float32 (N, C, H, W), as the network gets them.
        measure: of a model as [`loading.load_model`] gives it, its outputs and its quality by the task's metric.
        images: how many are measured on.
        fingerprint: of the data, where it has one.
    """

    batches: list[Tensor]
    measure: Callable[[Any], tuple[list[Tensor], float]]
    images: int
    fingerprint: str | None = None


@dataclass(frozen=True)
class PruningData:
    """Images that rate the units of a network, and a measure of quality.

    Attributes:
        batches: what `loss` takes.
        loss: of a model and a batch, a scalar.
        measure: the quality of a model by the task's metric.
        images: how many `measure` uses.
    """

    batches: list[dict[str, Tensor]]
    loss: Callable[[PreTrainedModel, dict[str, Tensor]], Tensor]
    measure: Callable[[PreTrainedModel], float]
    images: int


@dataclass(frozen=True)
class BenchmarkData:
    """Images that models on several engines are compared on.

    Attributes:
        measure: of a function from pixels float32 (N, C, H, W) to outputs, with the model's configuration and image
            processor, its outputs and its quality by the task's metric.
        images: how many.
    """

    measure: Callable[[Callable[[Tensor], Tensor], Any, BaseImageProcessor], tuple[list[Tensor], float]]
    images: int


@dataclass(frozen=True)
class TaskCompression:
    """How models of a task are compressed; the object `COMPRESSION` in the module `compression` of a task's folder.

    Attributes:
        training_config: the dataclass of options of the task's training.
        train: trains by such options and returns the record.
        calibration: of a model in fp32, its image processor and a [`CalibrationConfig`].
        pruning: of options of a training with `importance_images`, a model and its image processor.
        benchmark: of the parent's configuration, a source of data, a split, and the number of images at most.
        agreement: of a model's outputs and its parent's, as any `measure` gives them, by the task's
            `agreement_form`: a share of equal answers, or the PSNR in dB.
    """

    training_config: type
    train: Callable[[Any], ModelRecord]
    calibration: Callable[[PreTrainedModel, BaseImageProcessor, CalibrationConfig], CalibrationData]
    pruning: Callable[[Any, PreTrainedModel, BaseImageProcessor], PruningData]
    benchmark: Callable[[Any, str, str, int], BenchmarkData]
    agreement: Callable[[Sequence[Tensor], Sequence[Tensor]], float]


def check_calibration_images(count: int, source: str) -> None:
    """Raise ValueError for too few images to calibrate with."""
    if count < MINIMUM_IMAGES:
        raise ValueError(f"{source} gives {count} images to calibrate with: at least {MINIMUM_IMAGES} are needed.")


def training_split(config: CalibrationConfig) -> dict[str, Any]:
    """How validation images are chosen: as the model's training chose them, where that is recorded, else by the
    seed."""
    recorded = config.training
    if not recorded.validation:
        return {"seed": config.seed}
    return {
        "validation": recorded.validation,
        "validation_group": recorded.validation_group,
        "seed": config.seed if recorded.seed is None else recorded.seed,
    }


def check_split(splits: Mapping[str, Any], split: str, data: str) -> None:
    """Raise ValueError where the data has no such split."""
    if split not in splits:
        raise ValueError(f"{data} has no split {split!r}: choose --split {' or '.join(splits)}.")

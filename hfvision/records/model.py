"""The record of a model: where it comes from, how it was trained and made smaller, and what is measured of it."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ..utils.secrets import hide_paths
from .figures import (
    BinaryFigures,
    Calibration,
    ClassifierFigures,
    Evaluation,
    RobustnessFigures,
    SegmenterFigures,
)
from .part import Part, renamed


@dataclass(frozen=True, kw_only=True)
class Machine(Part):
    """The machine that figures were measured on."""

    gpu: str | None
    threads: int | None = None
    cpu_cores: int | None = None
    system: str | None = None
    architecture: str | None = None


@dataclass(frozen=True, kw_only=True)
class Environment(Part):
    """Versions of Python and the libraries, and the machine."""

    python: str | None = None
    libraries: dict[str, str] = field(default_factory=dict)
    machine: Machine | None = None


@dataclass(frozen=True, kw_only=True)
class NamedData(Part):
    """Training data as a reader knows it; `id` is that of the Hub."""

    name: str
    source: str | None = None
    license: str | None = renamed("licence")
    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedFigures(Part):
    """What the authors of weights say of them: top-1 accuracy, 0 to 1, and on what data."""

    top1: float
    data: str


@dataclass(frozen=True, kw_only=True)
class WeightSource(Part):
    """Where weights come from that were not trained with hfvision."""

    authors: str
    file: str
    package: str
    sha256: str
    changes: str
    license: str | None = renamed("licence")
    published: PublishedFigures | None = None


@dataclass(frozen=True, kw_only=True)
class About(Part):
    """What a training does not know: licenses, what the data is called, further limits, and notes for the card."""

    license: str | None = renamed("licence")
    data: list[NamedData] = field(default_factory=list)
    note: str | None = None
    limits: str | None = None
    description: str | None = None
    citation: str | None = None
    weights: WeightSource | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(Part):
    """The options of a training that others ask for; all others are in `extra`."""

    model: str | None = None
    epochs: int | None = None
    steps: int | None = None
    steps_per_epoch: int | None = None
    seed: int | None = None
    keep: str | None = None
    validation: float | None = None
    validation_group: str | None = None
    adversarial: str | None = None
    epsilon: str | float | None = None
    norm: str | None = None
    attack_steps: int | None = None
    teacher: str | None = None
    distillation: str | None = None
    self_ensemble: bool | None = None
    degradation: str | None = None
    gan: str | None = None
    crop: int | None = None

    @property
    def is_adversarial(self) -> bool:
        """Whether it trained on attacked images."""
        return self.adversarial not in (None, "none")

    @property
    def uses_gan(self) -> bool:
        """Whether it trained against a discriminator."""
        return self.gan not in (None, "none")


@dataclass(frozen=True, kw_only=True)
class TrainingData(Part):
    """The images of a training: a `source` of labeled ones, or `sources` of photographs, and how many of which."""

    source: str | None = None
    sources: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    fingerprint: str | None = None
    images: int | None = None
    unreadable: int | None = None
    validation_images: int | None = None
    photographs: int | None = None
    validation_photographs: int | None = None


@dataclass(frozen=True, kw_only=True)
class Emissions(Part):
    """Grams of CO₂, and what estimated them."""

    emissions: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Training(Part):
    """One training; `history` has its figures by epoch."""

    command: str | None = None
    config: TrainingSettings = field(default_factory=TrainingSettings)
    data: TrainingData = field(default_factory=TrainingData)
    parameters: int | None = None
    bicubic_psnr: float | None = None
    seconds: float | None = None
    history: Sequence[Mapping[str, float | None]] = field(default_factory=list)
    environment: Environment | None = None
    emissions: Emissions | None = None


@dataclass(frozen=True, kw_only=True)
class Change(Part):
    """A figure before and after a step of compression."""

    before: float | None = None
    after: float | None = None


@dataclass(frozen=True, kw_only=True)
class SizeChange(Change):
    """Bytes of weights before and after; `before_fp32` where all of them are counted as fp32."""

    before_fp32: int | None = None


@dataclass(frozen=True, kw_only=True)
class StepQuality(Part):
    """What a step of compression cost: `top1`, 0 to 1, or `psnr`, dB, on validation images.

    `agreement` is the share of equal answers, for super-resolution the PSNR in dB between both results.
    """

    images: int
    metric: str
    before: float | None = None
    after: float | None = None
    agreement: float | None = None
    fingerprint: str | None = None


@dataclass(frozen=True, kw_only=True)
class CompressionStep(Part):
    """One step by which a model was made smaller: pruning, a training of what is left, quantization."""

    step: str
    method: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    parameters: Change | None = None
    macs: Change | None = None
    bytes: SizeChange | None = None
    latency_ms: Change | None = None
    validation: StepQuality | None = None

    @property
    def is_training(self) -> bool:
        return self.step in ("distill", "train")


@dataclass(frozen=True, kw_only=True)
class ModelRecord(Part):
    """All that is recorded of a model; what is not recorded is None or empty."""

    version: ClassVar[int] = 1
    about: About = field(default_factory=About)
    parent: str | None = None
    training: Training | None = None
    compression: list[CompressionStep] = field(default_factory=list)
    validation: ClassifierFigures | SegmenterFigures | None = None
    test: ClassifierFigures | SegmenterFigures | None = None
    calibration: Calibration | None = None
    evaluation: ClassifierFigures | SegmenterFigures | Evaluation | None = None
    robustness: RobustnessFigures | None = None
    binary: BinaryFigures | None = None
    environment: Environment | None = None

    @property
    def settings(self) -> TrainingSettings:
        """The options of the training, the defaults where none is recorded."""
        return self.training.config if self.training else TrainingSettings()

    @property
    def data(self) -> TrainingData:
        """The data of the training, without any content where none is recorded."""
        return self.training.data if self.training else TrainingData()

    @property
    def data_name(self) -> str | None:
        """What the training data is called, where that is recorded."""
        names = [data.name for data in self.about.data]
        sources = self.data.sources or ((self.data.source,) if self.data.source else ())
        return "; ".join(names or map(strip_path, sources)) or None

    @property
    def hub_dataset(self) -> str | None:
        """The Hub id of the data that a classifier was evaluated on, where that is recorded."""
        named = [data.id for data in self.about.data if data.id]
        evaluated = self.evaluation.data if self.evaluation else None
        source = self.data.source or ""
        if evaluated is not None:
            source = "" if isinstance(evaluated, str) else evaluated.source
        is_id = source.count("/") == 1 and strip_path(source) == source and not source.endswith("/")
        return named[0] if named else source if is_id else None

    @property
    def was_retrained(self) -> bool:
        """Whether a step of the compression is a training, which the record then has instead of the parent's."""
        return any(step.is_training for step in self.compression)


def strip_path(source: str) -> str:
    """A source of data without where it lies: of a path its last part, a Hub id as it is."""
    path = Path(source)
    with suppress(OSError):  # of a name that is too long for one
        if path.is_absolute() or source.startswith((".", "~")) or path.exists():
            return path.name
    return hide_paths(source)

"""What is measured of a model, as it is recorded: quality, speed, robustness."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from .part import Part

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class EvaluatedData(Part):
    """The images that figures are of."""

    source: str
    split: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True, kw_only=True)
class ClassScores(Part):
    """Of one class: number of images, precision, recall and F1, 0 to 1."""

    precision: float
    recall: float
    f1: float
    images: int | None = None


@dataclass(frozen=True, kw_only=True)
class Latency(Part):
    """Of one image, in milliseconds."""

    median: float
    p90: float | None = None


@dataclass(frozen=True, kw_only=True)
class Speed(Part):
    """Of a classifier: in batches, and one image at a time, with what it was measured on."""

    images_per_second: float | None = None
    latency_ms: Latency | None = None
    device: str | None = None
    threads: int | None = None
    dtype: str | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class ClassifierFigures(Part):
    """One evaluation of a classifier, as of `evaluate_classifier`; accuracies are 0 to 1."""

    marker: ClassVar[str] = "top1"
    images: int
    top1: float
    top1_interval: Interval
    nll: float | None
    ece: float | None
    tta: str
    top5: float | None = None
    classes: dict[str, ClassScores] = field(default_factory=dict)
    confusion_matrix: list[list[int]] | None = None
    reliability: dict[str, list[float | None]] | None = None
    parameters: int | None = None
    speed: Speed | None = None
    model: str | None = None
    data: EvaluatedData | None = None
    command: str | None = None

    def __repr__(self) -> str:
        low, high = self.top1_interval
        return f"ClassifierFigures(top-1 {self.top1:.2%} ({low:.2%} to {high:.2%}) of {self.images:,} images)"


@dataclass(frozen=True, kw_only=True)
class ClassOverlap(Part):
    """Overlap of one class's masks, 0 to 1; None where no image has the class."""

    dice: float | None
    iou: float | None
    dice_pooled: float | None
    iou_pooled: float | None = None
    pixels: int | None = None


@dataclass(frozen=True, kw_only=True)
class MaskScores(Part):
    """Overlap of masks over some images, 0 to 1; the pooled ones are of all pixels together."""

    images: int
    dice: float
    iou: float
    dice_interval: Interval | None = None
    dice_pooled: float | None = None
    iou_pooled: float | None = None
    classes: dict[str, ClassOverlap] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, repr=False)
class SegmenterFigures(MaskScores):
    """One evaluation of a segmenter, as of `evaluate_segmenter`; `groups` has the scores by the values of `by`."""

    marker: ClassVar[str] = "dice"
    tta: str
    by: str | None = None
    groups: dict[str, MaskScores] | None = None
    each: list[float] | None = None
    parameters: int | None = None
    model: str | None = None
    data: EvaluatedData | None = None
    command: str | None = None

    def __repr__(self) -> str:
        return f"SegmenterFigures(Dice {self.dice:.3f}, IoU {self.iou:.3f}, of {self.images:,} images)"


@dataclass(frozen=True, kw_only=True)
class ImageQuality(Part):
    """Means over a set of photographs: PSNR in dB, SSIM, perceptual distance and NIQE; `psnr` is None where all images
    are restored."""

    psnr: float | None
    ssim: float | None = None
    perceptual: float | None = None
    niqe: float | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class UpscalerFigures(Part):
    """Quality and costs of an upscaler or an interpolation; costs are in `extra`, by name and dtype."""

    marker: ClassVar[str] = "scale"
    scale: int
    sets: dict[str, ImageQuality] = field(default_factory=dict)
    parameters: int | None = None

    def cpu_seconds(self, dtype: str) -> float | None:
        """CPU seconds for a megapixel of output on one thread, where they were measured."""
        value = self.extra.get(f"cpu_seconds_per_megapixel_{dtype}")
        return value if isinstance(value, int | float) else None

    def __repr__(self) -> str:
        sets = [f"{name} {quality.psnr:.2f} dB" for name, quality in self.sets.items() if quality.psnr is not None]
        return f"UpscalerFigures(×{self.scale}: {', '.join(sets)})"


@dataclass(frozen=True, kw_only=True)
class LowConfidence(Part):
    """The probability below which fewer than half of the answers were right."""

    threshold: float
    images: int
    right: int


@dataclass(frozen=True, kw_only=True)
class Evaluation(Part):
    """Several evaluations: of a classifier by test-time augmentation, or of upscalers by name."""

    command: str | None = None
    data: str | EvaluatedData | None = None
    split: str | None = None
    results: dict[str, ClassifierFigures | UpscalerFigures] = field(default_factory=dict)
    low_confidence: LowConfidence | None = None


@dataclass(frozen=True, kw_only=True)
class OperatingPoint(Part):
    """A threshold of a classifier of two classes, and its shares of right answers, 0 to 1."""

    threshold: float
    chosen: str
    sensitivity: float
    sensitivity_interval: Interval
    specificity: float
    specificity_interval: Interval


@dataclass(frozen=True, kw_only=True)
class Abstention(Part):
    """Errors among the most confident answers: `at` by the share that is answered, as `50%`."""

    at: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class BinaryFigures(Part):
    """One evaluation of a classifier of two classes as a test for one of them, as of `evaluate_binary`."""

    positive: str
    images: int
    auroc: float
    auroc_interval: Interval
    operating_point: OperatingPoint
    ece: float
    abstention: Abstention
    data: EvaluatedData
    groups: int | None = None
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class CalibrationError(Part):
    """Negative log-likelihood and expected calibration error."""

    ece: float
    nll: float


@dataclass(frozen=True, kw_only=True)
class Calibration(Part):
    """A temperature, what it was fitted on, and what was gained by it, as of `calibrate`."""

    temperature: float
    images: int
    split: str
    measured_on: str
    before: CalibrationError
    after: CalibrationError
    data: Any = None


@dataclass(frozen=True, kw_only=True)
class Accuracy(Part):
    """An accuracy with its 95 % interval, 0 to 1."""

    accuracy: float
    interval: Interval
    images: int | None = None


@dataclass(frozen=True, kw_only=True)
class CorruptionFigures(Part):
    """Accuracy under natural corruptions: by name, a value for each severity, and the mean of all."""

    mean: float
    accuracy: dict[str, list[float]] | None = None
    images: int | None = None


@dataclass(frozen=True, kw_only=True)
class RobustnessFigures(Part):
    """One evaluation of robustness, as of `evaluate_robustness`; `robust` is the accuracy after all `attacks`."""

    images: int
    norm: str
    epsilon: float
    settings: dict[str, dict[str, Any]]
    seed: int
    precision: str
    seconds: float
    device: str
    threads: int
    complete: bool
    notes: list[str]
    clean: Accuracy | None = None
    attacks: dict[str, Accuracy] = field(default_factory=dict)
    robust: Accuracy | None = None
    corruptions: CorruptionFigures | None = None
    masked: bool | None = None
    model: str | None = None
    data: EvaluatedData | None = None
    command: str | None = None

"""A classifier of two classes as a test for one of them: ROC, a threshold and its errors, abstention."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ...data.datasets.class_names import class_names, match_classes
from ...data.transforms.normalize import Normalize
from ...metrics.abstention import area_under_risk_coverage, risk_coverage
from ...metrics.auroc import auroc, auroc_interval, operating_point, roc_curve, youden_threshold
from ...metrics.calibration import expected_calibration_error, negative_log_likelihood, reliability
from ...records import write_record
from ...utils.plots import abstention_picture, reliability_diagram, roc_picture
from .evaluate import predict_logits

COVERAGES = (1.0, 0.95, 0.9, 0.8)  # shares of the images that are answered
POINTS = 200  # of each curve in the record


@dataclass(frozen=True)
class BinaryTest:
    """What a classifier of two classes is a test for, and where its threshold comes from.

    Attributes:
        positive: the class that is looked for.
        threshold: the probability of `positive`, 0 to 1, from which on an image is called so.
        validation: instead, other images than those of the evaluation and of the training, prepared as they are, to
            choose the threshold on by Youden's index ([`metrics.auroc.youden_threshold`]).
        groups: of the images of the evaluation, as their patients: intervals are then wider, as images of one group
            carry less information than images of several.

    Raises:
        ValueError: for neither or both of `validation` and `threshold`, and a threshold out of range.
    """

    positive: str
    threshold: float | None = None
    validation: Dataset | None = None
    groups: Sequence[object] | None = None

    def __post_init__(self):
        if (self.validation is None) == (self.threshold is None):
            raise ValueError("Give either validation images to choose a threshold on, or a threshold.")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ValueError(f"The threshold is a probability and must be above 0 and below 1, got {self.threshold}.")


class Scores(NamedTuple):
    """Predictions of N images: `logits` float64 (N, 2), `labels` int64 (N,), the log odds `scores` of the positive
    class float64 (N,), and whether it is `true`, bool (N,)."""

    logits: Tensor
    labels: Tensor
    scores: Tensor
    true: Tensor


def evaluate_binary(
    model: PreTrainedModel,
    dataset: Dataset,
    processor: BaseImageProcessor,
    test: BinaryTest,
    *,
    names: Sequence[str] | None = None,
    batch_size: int = 256,
    accelerator: Accelerator | None = None,
) -> dict[str, Any]:
    """All metrics of a classifier of two classes on one split, ready for JSON.

    Args:
        model: a classifier of two classes as it was loaded or trained; it is moved to the accelerator's device.
        dataset: from [`data.datasets.prepare.prepare_images`] with `processor`.
        processor: the model's.
        test: what is tested for.
        names: of the data's classes, in the order of its labels; where not given, they are the model's.
        batch_size, accelerator: as for [`tasks.classification.evaluate.predict_logits`].

    Returns:
        `images`, `positives`, `groups` (their number, or None), `positive`; `auroc` with its 95 % `auroc_interval`;
        `roc`, points with `threshold`, `sensitivity` and `false_alarms`; `operating_point`, as of
        [`metrics.auroc.operating_point`] with its `threshold` as a probability and how it was `chosen`; `nll`, `ece`,
        `reliability`; and `abstention`: `area` under the risk-coverage curve, its `curve`, points with `coverage` and
        `risk`, and the `risk` `at` some coverages. The confidence of an answer is the distance of its log odds from
        the threshold's.

    Raises:
        ValueError: for a number of classes other than two, an unknown positive class, classes that are not the
            model's, or images of a single class.
    """
    known = class_names(model.config)
    names = list(names or known)
    order = match_classes(known, names)
    if len(names) != 2:
        raise ValueError(f"The model has {len(names)} classes: this evaluation is for two.")
    if test.positive not in names:
        raise ValueError(f"There is no class {test.positive!r}: choose {names[0]!r} or {names[1]!r} as positive.")
    number = names.index(test.positive)
    accelerator = accelerator or Accelerator()
    normalize = Normalize.from_processor(processor)
    model.to(accelerator.device).eval()  # pyright: ignore[reportArgumentType]  # the stub lacks torch.device

    def predict(images: Dataset) -> Scores:
        logits, labels = predict_logits(model, images, normalize, batch_size=batch_size, accelerator=accelerator)
        logits = logits[:, order].double()
        return Scores(logits, labels, logits[:, number] - logits[:, 1 - number], labels == number)

    predictions = predict(dataset)
    if test.validation is None:
        cutoff, chosen = torch.logit(torch.tensor(test.threshold, dtype=torch.float64)).item(), "given"
    else:
        others = predict(test.validation)
        cutoff = youden_threshold(others.scores, others.true)
        chosen = f"by Youden's index on {len(others.true):,} validation images"
    figures = binary_figures(predictions, cutoff, test)
    figures["operating_point"]["chosen"] = chosen
    return figures


def binary_figures(predictions: Scores, cutoff: float, test: BinaryTest) -> dict[str, Any]:
    """The metrics of [`evaluate_binary`] for predictions; images with scores from `cutoff` on are called positive."""
    logits, labels, scores, true = predictions
    point = operating_point(scores, true, cutoff, test.groups)
    point |= {"threshold": torch.sigmoid(torch.tensor(cutoff)).item()}
    confidence, right = (scores - cutoff).abs(), (scores >= cutoff) == true
    answered = risk_coverage(confidence, right)
    roc = roc_curve(scores, true)
    roc = roc._replace(threshold=roc.threshold.sigmoid())
    at = {f"{share:.0%}": answered.risk[max(round(share * len(true)), 1) - 1].item() for share in COVERAGES}
    return {
        "positive": test.positive,
        "images": len(true),
        "positives": int(true.sum()),
        "groups": None if test.groups is None else len(set(test.groups)),
        "auroc": auroc(scores, true),
        "auroc_interval": auroc_interval(scores, true, groups=test.groups),
        "operating_point": point,
        "nll": negative_log_likelihood(logits, labels),
        "ece": expected_calibration_error(logits, labels),
        "reliability": {name: values.tolist() for name, values in reliability(logits, labels)._asdict().items()},
        "roc": thinned(roc._asdict()),
        "abstention": {
            "area": area_under_risk_coverage(confidence, right),
            "at": at,
            "curve": thinned(answered._asdict()),
        },
    }


def thinned(curve: dict[str, Tensor]) -> dict[str, list[float]]:
    """At most [`POINTS`] points of a curve, the first and the last among them."""
    length = len(next(iter(curve.values())))
    kept = torch.linspace(0, length - 1, min(POINTS, length)).round().long()
    return {name: values[kept].tolist() for name, values in curve.items()}


def write_binary(record: dict[str, Any], folder: Path) -> None:
    """Write binary.json, roc.png, abstention.png and reliability.png of an [`evaluate_binary`] into a folder."""
    write_record(folder / "binary.json", record)
    roc_picture(record, folder / "roc.png")
    abstention_picture(record, folder / "abstention.png")
    reliability_diagram(record["reliability"], folder / "reliability.png")


def format_binary(record: dict[str, Any]) -> str:
    """The metrics of [`evaluate_binary`], with `model` and `data`, for the terminal."""

    def share(name: str) -> str:
        low, high = point[f"{name}_interval"]
        return f"{point[name]:.2%}, 95% interval {low:.2%} to {high:.2%}"

    point, (low, high) = record["operating_point"], record["auroc_interval"]
    groups = f" of {record['groups']:,} groups" if record["groups"] else ""
    risks = ", ".join(f"{risk:.2%} of {share}" for share, risk in record["abstention"]["at"].items())
    lines = {
        "model": record["model"],
        "data": f"{record['data']['source']}, {record['data']['split']}: {record['images']:,} images{groups}, "
        f"{record['positives']:,} of {record['positive']}",
        "AUROC": f"{record['auroc']:.4f}, 95% interval {low:.4f} to {high:.4f}",
        "threshold": f"probability of {point['threshold']:.4f}, {point['chosen']}",
        "sensitivity": f"{share('sensitivity')}: {point['false_negatives']:,} missed",
        "specificity": f"{share('specificity')}: {point['false_positives']:,} false alarms",
        "accuracy": share("accuracy"),
        "negative log-likelihood": f"{record['nll']:.4f}",
        "calibration error": f"{record['ece']:.2%}",
        "errors among the surest": risks,
    }
    return "\n".join(f"{name:25}{text}" for name, text in lines.items())

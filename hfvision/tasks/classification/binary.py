"""How good a classifier of two classes is as a test for one of them: ROC, a threshold and its errors, abstention."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def evaluate_binary(
    model: PreTrainedModel,
    dataset: Dataset,
    processor: BaseImageProcessor,
    *,
    positive: str,
    names: Sequence[str] | None = None,
    validation: Dataset | None = None,
    threshold: float | None = None,
    groups: Sequence[object] | None = None,
    batch_size: int = 256,
    accelerator: Accelerator | None = None,
) -> dict[str, Any]:
    """All figures of a classifier of two classes on one split, ready for JSON.

    Args:
        model: a classifier of two classes as it was loaded or trained; it is moved to the accelerator's device.
        dataset: from [`data.datasets.prepare.prepare_images`] with `processor`.
        processor: the model's.
        positive: the class that is looked for.
        names: of the data's classes, in the order of its labels; where not given, they are the model's.
        validation: other images than those of `dataset` and of the training, to choose the threshold on by Youden's
            index ([`metrics.auroc.youden_threshold`]).
        threshold: instead, the probability of `positive`, 0 to 1, from which on an image is called so.
        groups: of the images of `dataset`, as their patients: intervals are then wider, as images of one group tell
            less than images of several.
        batch_size, accelerator: as for [`tasks.classification.evaluate.predict_logits`].

    Returns:
        `images`, `positives`, `groups` (their number, or None), `positive`; `auroc` with its 95 % `auroc_interval`;
        `roc`, points with `threshold`, `sensitivity` and `false_alarms`; `operating_point`, as of
        [`metrics.auroc.operating_point`] with its `threshold` as a probability and how it was `chosen`; `nll`, `ece`,
        `reliability`; and `abstention`: `area` under the risk-coverage curve, its `curve`, points with `coverage` and
        `risk`, and the `risk` `at` some coverages. Answers are surer the further their log odds are from the
        threshold's.

    Raises:
        ValueError: for another number of classes than two, an unknown `positive`, classes that are not the model's,
            neither or both of `validation` and `threshold`, a threshold out of range, or images of one class alone.
    """
    if (validation is None) == (threshold is None):
        raise ValueError("Give either validation images to choose a threshold on, or a threshold.")
    if threshold is not None and not 0 < threshold < 1:
        raise ValueError(f"The threshold is a probability and must be above 0 and below 1, got {threshold}.")
    known = class_names(model.config)
    names = list(names or known)
    order = match_classes(known, names)
    if len(names) != 2:
        raise ValueError(f"The model tells {len(names)} classes apart: this evaluation is for two.")
    if positive not in names:
        raise ValueError(f"There is no class {positive!r}: choose {names[0]!r} or {names[1]!r} as positive.")
    number = names.index(positive)
    accelerator = accelerator or Accelerator()
    normalize = Normalize.from_processor(processor)
    model.to(accelerator.device).eval()

    def predict(images: Dataset) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits, labels = predict_logits(model, images, normalize, batch_size=batch_size, accelerator=accelerator)
        logits = logits[:, order].double()
        return logits, labels, logits[:, number] - logits[:, 1 - number], labels == number

    logits, labels, scores, truth = predict(dataset)
    if validation is None:
        cut, chosen = torch.logit(torch.tensor(threshold, dtype=torch.float64)).item(), "given"
    else:
        _, _, other_scores, other_truth = predict(validation)
        cut = youden_threshold(other_scores, other_truth)
        chosen = f"by Youden's index on {len(other_truth):,} validation images"
    point = operating_point(scores, truth, cut, groups)
    point |= {"threshold": torch.sigmoid(torch.tensor(cut)).item(), "chosen": chosen}
    certainty, right = (scores - cut).abs(), (scores >= cut) == truth
    answered = risk_coverage(certainty, right)
    roc = roc_curve(scores, truth)
    roc = roc._replace(threshold=roc.threshold.sigmoid())
    at = {f"{share:.0%}": answered.risk[max(round(share * len(truth)), 1) - 1].item() for share in COVERAGES}
    return {
        "positive": positive,
        "images": len(truth),
        "positives": int(truth.sum()),
        "groups": None if groups is None else len(set(groups)),
        "auroc": auroc(scores, truth),
        "auroc_interval": auroc_interval(scores, truth, groups=groups),
        "operating_point": point,
        "nll": negative_log_likelihood(logits, labels),
        "ece": expected_calibration_error(logits, labels),
        "reliability": {name: values.tolist() for name, values in reliability(logits, labels)._asdict().items()},
        "roc": thinned(roc._asdict()),
        "abstention": {
            "area": area_under_risk_coverage(certainty, right),
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
    """The figures of [`evaluate_binary`], with `model` and `data`, for the terminal."""

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

"""How well a score tells two classes apart: ROC curve, area under it with its interval, a threshold and its errors."""

from collections.abc import Sequence
from math import exp, inf, log, sqrt
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from .accuracy import wilson_interval


class ROC(NamedTuple):
    """The points of a ROC curve, from (0, 0) to (1, 1), one a distinct score and the first.

    `threshold`: float64 (points,), falling from infinity: scores of at least that are called positive;
    `sensitivity`, `false_alarms`: float64 (points,), the shares of positives and of negatives called so, 0 to 1.
    """

    threshold: Tensor
    sensitivity: Tensor
    false_alarms: Tensor


def check_scores(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Scores as float64 and labels as bool; ValueError unless both are (N,), there are both classes, and no NaN."""
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(f"Scores and labels must be (N,) alike, got {tuple(scores.shape)} and {tuple(labels.shape)}.")
    if odd := sorted(set(labels.unique().tolist()) - {0, 1}):
        raise ValueError(f"Labels of two classes must be 0 or 1, got {odd[0]}.")
    if scores.isnan().any():
        raise ValueError("The scores contain NaN.")
    labels = labels.bool()
    if labels.all() or not labels.any():
        raise ValueError(f"All {len(labels)} labels are {int(labels.any())}: both classes are needed.")
    return scores.double(), labels


def roc_curve(scores: Tensor, labels: Tensor) -> ROC:
    """Sensitivity and false alarms at every threshold.

    Args:
        scores: float (N,), higher for what is likelier positive.
        labels: (N,) of 0 (negative) and 1 (positive), integers or bool.

    Raises:
        ValueError: for other shapes or labels, NaN, or a single class.
    """
    scores, labels = check_scores(scores, labels)
    threshold, place = scores.unique(return_inverse=True)
    counts = [place[kind].bincount(minlength=len(threshold)).flip(0).cumsum(0) for kind in (labels, ~labels)]
    shares = [torch.cat([count.new_zeros(1), count]).double() / count[-1] for count in counts]
    return ROC(torch.cat([threshold.new_full((1,), inf), threshold.flip(0)]), *shares)


def auroc(scores: Tensor, labels: Tensor) -> float:
    """The area under the ROC curve: how often a positive image scores higher than a negative one, ties half; 0 to 1.

    Arguments and errors as for [`roc_curve`].
    """
    _, sensitivity, false_alarms = roc_curve(scores, labels)
    return torch.trapezoid(sensitivity, false_alarms).item()


def auroc_interval(
    scores: Tensor, labels: Tensor, *, groups: Sequence[object] | None = None, confidence: float = 0.95
) -> tuple[float, float]:
    """The interval of an [`auroc`], 0 to 1, whose images were drawn at random, a whole group at a time.

    The variance is that of Obuchowski 1997, "Nonparametric analysis of clustered ROC curve data", equation 8, which
    for groups of one image is that of DeLong et al. 1988; the interval is symmetric in the log odds. Where the classes
    are apart altogether, and the variance says nothing, it is Wilson's for as many images as the smaller class has.

    Args:
        scores, labels: as for [`roc_curve`].
        groups: N names of patients, objects, days …: images of one are not independent. Not given: each is its own.
        confidence: of the interval, 0 to 1.

    Raises:
        ValueError: as for [`roc_curve`], and for another number of groups.
    """
    area = auroc(scores, labels)
    scores, labels = check_scores(scores, labels)
    members = group_numbers(groups, len(scores))
    positive, negative = scores[labels], scores[~labels]
    # How often each positive beats a negative, and each negative is beaten by a positive, less the mean of both.
    beats = win_share(positive, negative) - area
    beaten = 1 - win_share(negative, positive) - area
    total = int(members.max()) + 1
    sums = [
        torch.zeros(total, dtype=torch.float64).index_add_(0, members[side], values)
        for side, values in ((labels, beats), (~labels, beaten))
    ]
    with_positive, with_negative = (len(members[side].unique()) for side in (labels, ~labels))
    p, n = len(positive), len(negative)
    variance = bessel(with_positive) * sums[0].square().sum() / p**2
    variance += bessel(with_negative) * sums[1].square().sum() / n**2
    variance += bessel(total) * 2 * (sums[0] * sums[1]).sum() / (p * n)
    if area in (0.0, 1.0) or variance <= 0:
        return wilson_interval(area, min(p, n), confidence)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre, half = log(area / (1 - area)), z * sqrt(variance) / (area * (1 - area))
    return 1 / (1 + exp(half - centre)), 1 / (1 + exp(-half - centre))


def bessel(groups: int) -> float:
    return groups / max(groups - 1, 1)


def win_share(mine: Tensor, theirs: Tensor) -> Tensor:
    """For each of `mine` the share of `theirs` that is lower, ties half."""
    ordered = theirs.sort().values
    below = torch.searchsorted(ordered, mine, right=False) + torch.searchsorted(ordered, mine, right=True)
    return below.double() / (2 * len(theirs))


def group_numbers(groups: Sequence[object] | None, count: int) -> Tensor:
    """int64 (count,): a number from 0 for each group, in the order of their first images; each its own for None."""
    if groups is None:
        return torch.arange(count)
    if len(groups) != count:
        raise ValueError(f"There must be one group for each of the {count} scores, got {len(groups)}.")
    numbers: dict[object, int] = {}
    return torch.tensor([numbers.setdefault(group, len(numbers)) for group in groups])


def youden_threshold(scores: Tensor, labels: Tensor) -> float:
    """The threshold of the largest sensitivity + specificity - 1 (Youden 1950, "Index for rating diagnostic tests").

    It lies midway between the lowest score called positive and the next one below; of equals, the one of the highest
    sensitivity. Arguments and errors as for [`roc_curve`].
    """
    threshold, sensitivity, false_alarms = roc_curve(scores, labels)
    index = sensitivity - false_alarms
    best = int((index >= index.max() - 1e-12).nonzero()[-1])
    return threshold[best : best + 2].mean().item()


def share_interval(
    hits: Tensor, groups: Sequence[object] | None = None, confidence: float = 0.95
) -> tuple[float, float]:
    """Wilson's interval of a share, of as many independent images as these are worth.

    Images of one group are alike and worth fewer: their number is divided by the design effect, where that is above 1
    (Rao and Scott 1992, "A simple method for the analysis of clustered binary data").

    Args:
        hits: bool (N,), at least one.
        groups: N names, or None for independent images.
        confidence: of the interval, 0 to 1.
    """
    share, count = hits.double().mean().item(), len(hits)
    members = group_numbers(groups, count)
    total = int(members.max()) + 1
    sums = torch.zeros(total, dtype=torch.float64).index_add_(0, members, hits.double() - share)
    binomial = share * (1 - share) * count
    effect = sums.square().sum().item() / binomial if binomial else 1.0
    return wilson_interval(share, count / max(effect, 1.0), confidence)


def operating_point(
    scores: Tensor, labels: Tensor, threshold: float, groups: Sequence[object] | None = None
) -> dict[str, object]:
    """What calling scores of at least `threshold` positive gets right, ready for JSON.

    Args:
        scores, labels: as for [`roc_curve`].
        threshold: of the scores, best chosen on other images, as by [`youden_threshold`].
        groups: as for [`auroc_interval`].

    Returns:
        `threshold`; `sensitivity`, the share of positives called so, and `specificity`, the share of negatives not
        called so, 0 to 1, each with its 95 % interval ([`share_interval`]) as `sensitivity_interval` and
        `specificity_interval`; `accuracy`, `accuracy_interval`; and `true_positives`, `false_negatives`,
        `true_negatives`, `false_positives`.

    Raises:
        ValueError: as for [`roc_curve`].
    """
    scores, labels = check_scores(scores, labels)
    called = scores >= threshold
    point: dict[str, object] = {"threshold": threshold}
    for name, side in {"sensitivity": labels, "specificity": ~labels, "accuracy": torch.ones_like(labels)}.items():
        right = (called == labels)[side]
        inside = None if groups is None else [groups[i] for i in side.nonzero()[:, 0].tolist()]
        point[name] = right.double().mean().item()
        point[f"{name}_interval"] = share_interval(right, inside)
    counts = {"true_positives": called & labels, "false_negatives": ~called & labels}
    counts |= {"true_negatives": ~called & ~labels, "false_positives": called & ~labels}
    return point | {name: int(kind.sum()) for name, kind in counts.items()}

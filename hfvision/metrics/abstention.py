"""What a classifier gains by leaving its least sure answers to somebody else."""

from typing import NamedTuple

import torch
from torch import Tensor


class RiskCoverage(NamedTuple):
    """A risk-coverage curve, from the surest image alone to all of them.

    `coverage`: float64 (N,), the share of images that are answered, rising to 1; `risk`: float64 (N,), the share of
    those answers that are wrong, 0 to 1.
    """

    coverage: Tensor
    risk: Tensor


def risk_coverage(certainty: Tensor, right: Tensor) -> RiskCoverage:
    """The errors among the surest answers (El-Yaniv and Wiener 2010, "On the foundations of noise-free selective
    classification").

    Args:
        certainty: float (N,), higher for surer answers, as the largest probability. Answers that are equally sure are
            wrong equally often: they share their mistakes.
        right: bool (N,), whether the answer is right.

    Raises:
        ValueError: for other shapes, no images, or NaN.
    """
    check_answers(certainty, right)
    _, place = (-certainty.double()).unique(return_inverse=True)  # 0 for the surest
    images = place.bincount()
    wrong = place.bincount((~right.bool()).double()) / images
    mistakes = wrong.repeat_interleave(images).cumsum(0)
    answered = torch.arange(1, len(right) + 1, dtype=torch.float64, device=certainty.device)
    return RiskCoverage(answered / len(right), mistakes / answered)


def check_answers(certainty: Tensor, right: Tensor) -> None:
    if certainty.ndim != 1 or certainty.shape != right.shape or not len(right):
        raise ValueError(
            f"Certainty and right must be (N,) alike, N at least 1, got {tuple(certainty.shape)} and "
            f"{tuple(right.shape)}."
        )
    if certainty.isnan().any():
        raise ValueError("The certainty contains NaN.")


def area_under_risk_coverage(certainty: Tensor, right: Tensor) -> float:
    """Mean risk over all coverages, 0 to 1; 0 is best, the error rate is what random certainty gives.

    Geifman, Uziel, El-Yaniv 2019, "Bias-reduced uncertainty estimation for deep neural classifiers". Arguments and
    errors as for [`risk_coverage`].
    """
    return risk_coverage(certainty, right).risk.mean().item()


def low_confidence_threshold(confidence: Tensor, right: Tensor) -> float:
    """The confidence at which answers turn from mostly wrong to mostly right: what separates both with the fewest
    mistakes. Fewer than half of the answers below it are right.

    Args:
        confidence: float (N,), the probability of each answer, 0 to 1.
        right: bool (N,), whether the answer is right.

    Returns:
        Half-way between the last answer below and the first above; 0 where no threshold helps, 1 where all are below.

    Raises:
        ValueError: for other shapes, no images, or NaN.
    """
    check_answers(confidence, right)
    values, place = confidence.double().unique(return_inverse=True)
    surplus = torch.zeros_like(values).index_add_(0, place, 1 - 2 * right.double()).cumsum(0)  # wrong less right below
    last = int(surplus.argmax())
    if surplus[last] <= 0:
        return 0.0
    return 1.0 if last + 1 == len(values) else values[last : last + 2].mean().item()

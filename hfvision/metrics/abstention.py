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
    if certainty.ndim != 1 or certainty.shape != right.shape or not len(right):
        raise ValueError(
            f"Certainty and right must be (N,) alike, N at least 1, got {tuple(certainty.shape)} and "
            f"{tuple(right.shape)}."
        )
    if certainty.isnan().any():
        raise ValueError("The certainty contains NaN.")
    _, place = (-certainty.double()).unique(return_inverse=True)  # 0 for the surest
    images = place.bincount()
    wrong = place.bincount((~right.bool()).double()) / images
    mistakes = wrong.repeat_interleave(images).cumsum(0)
    answered = torch.arange(1, len(right) + 1, dtype=torch.float64, device=certainty.device)
    return RiskCoverage(answered / len(right), mistakes / answered)


def area_under_risk_coverage(certainty: Tensor, right: Tensor) -> float:
    """Mean risk over all coverages, 0 to 1; 0 is best, the error rate is what random certainty gives.

    Geifman, Uziel, El-Yaniv 2019, "Bias-reduced uncertainty estimation for deep neural classifiers". Arguments and
    errors as for [`risk_coverage`].
    """
    return risk_coverage(certainty, right).risk.mean().item()

"""Whether a classifier is as sure as it is right: negative log-likelihood and expected calibration error."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .accuracy import check_logits


class Reliability(NamedTuple):
    """What a reliability diagram shows, for each of the bins of confidence, equally wide from 0 to 1.

    `images`: int64 (bins,), how many are in it; `confidence`, `accuracy`: float64 (bins,), their means in 0 to 1, both
    0 where there are no images.
    """

    images: Tensor
    confidence: Tensor
    accuracy: Tensor


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> float:
    """Mean of -log(probability of the label), natural logarithm; 0 is best, log(C) is what guessing gives.

    Args:
        logits: float (N, C).
        labels: integers (N,) in 0..C-1.

    Raises:
        ValueError: for other shapes or types, no images, NaN, or a label out of range.
    """
    check_logits(logits, labels)
    return cross_entropy(logits.double(), labels.long()).item()


def reliability(logits: Tensor, labels: Tensor, *, bins: int = 15) -> Reliability:
    """Images sorted into bins by confidence, the probability of the likeliest class (Guo et al. 2017, section 2).

    Args:
        logits: float (N, C), of which the softmax gives probabilities.
        labels: integers (N,) in 0..C-1.
        bins: how many; a confidence on the border of two counts for the lower one.

    Raises:
        ValueError: for other shapes or types, no images, NaN, a label out of range, or fewer than one bin.
    """
    check_logits(logits, labels)
    if bins < 1:
        raise ValueError(f"There must be at least one bin, got {bins}.")
    confidence, predicted = logits.double().softmax(1).max(1)
    borders = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=logits.device)
    place = torch.bucketize(confidence, borders[1:-1])
    images = place.bincount(minlength=bins)
    sums = [place.bincount(values.double(), minlength=bins) for values in (confidence, predicted == labels)]
    return Reliability(images, *(total / images.clamp(min=1) for total in sums))


def expected_calibration_error(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    """Mean over the images of |accuracy - confidence| of their bin of [`reliability`], 0 to 1; 0 is best.

    Guo, Pleiss, Sun, Weinberger 2017, "On calibration of modern neural networks", equation 3. Arguments and errors as
    for [`reliability`].
    """
    images, confidence, accuracy = reliability(logits, labels, bins=bins)
    return ((accuracy - confidence).abs() * images).sum().item() / len(labels)

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


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T > 0 by which logits / T are likeliest to give the labels: above 1 for a classifier that is too
    sure, below 1 for one that is not sure enough.

    Guo et al. 2017, section 4.2. The negative log-likelihood is convex in 1/T; the zero of its derivative is found by
    halving, to twelve digits. Predicted classes stay as they are.

    Args:
        logits: float (N, C), of images that neither trained the classifier nor judge the result.
        labels: integers (N,) in 0..C-1.

    Raises:
        ValueError: as [`reliability`]; and if there is no best temperature from 0.001 to 1000: all predictions are
            right, or they are worse than guesses.
    """
    check_logits(logits, labels)
    logits = logits.double()
    own = logits.gather(1, labels.long()[:, None])[:, 0]

    def slope(inverse: float) -> float:
        return (((logits * inverse).softmax(1) * logits).sum(1) - own).mean().item()

    low, high = -3.0, 3.0  # decimal logarithms of 1/T
    if slope(10**high) <= 0:
        raise ValueError(
            f"All {len(labels)} predictions are right, so that no temperature is too low: calibrate on more images."
        )
    if slope(10**low) >= 0:
        raise ValueError("The logits say nothing of the labels: no temperature makes them likelier than guesses.")
    for _ in range(45):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(10**middle) < 0 else (low, middle)
    return 10 ** -((low + high) / 2)

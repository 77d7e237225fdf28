"""Top-k accuracy."""

from math import sqrt
from statistics import NormalDist

from torch import Tensor


def check_labels(labels: Tensor, predictions: Tensor) -> None:
    """Raise ValueError unless there are labels, integers (N,), and N predictions, (N, C) or (N,)."""
    if labels.ndim != 1 or labels.is_floating_point() or not labels.numel():
        raise ValueError(f"Labels must be one or more integers (N,), got {labels.dtype} of {tuple(labels.shape)}.")
    if predictions.ndim not in (1, 2) or len(predictions) != len(labels):
        raise ValueError(
            f"For {len(labels)} labels, predictions must be logits ({len(labels)}, C) or labels ({len(labels)},), "
            f"got {tuple(predictions.shape)}."
        )


def check_logits(logits: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless there are labels, integers (N,) in 0..C-1, and logits (N, C) without NaN."""
    check_labels(labels, logits)
    if logits.ndim != 2:
        raise ValueError(f"Logits must be ({len(labels)}, C), got {tuple(logits.shape)}.")
    classes = logits.shape[1]
    low, high = (bound.item() for bound in labels.aminmax())
    if low < 0 or high >= classes:
        raise ValueError(f"Labels from {low} to {high} do not fit logits of {classes} classes, 0 to {classes - 1}.")
    if logits.isnan().any():
        raise ValueError("The logits contain NaN.")


def accuracy(predictions: Tensor, labels: Tensor, *, top_k: int = 1) -> float:
    """The share of images, 0 to 1, whose label is among the `top_k` most likely classes.

    Args:
        predictions: logits or probabilities (N, C), or predicted labels, integers (N,), for `top_k` 1. Of equal
            logits the one of the lower class counts as larger.
        labels: integers (N,), for logits in 0..C-1.
        top_k: 1 to C.

    Raises:
        ValueError: for other shapes or types, no images, NaN, or a label or `top_k` out of range.
    """
    check_labels(labels, predictions)
    labels = labels.to(predictions.device)
    if predictions.ndim == 1:
        if predictions.is_floating_point() or top_k != 1:
            raise ValueError(f"Predictions (N,) must be integers for top_k=1, got {predictions.dtype}, top_k={top_k}.")
        return (predictions == labels).double().mean().item()
    if not 1 <= top_k <= predictions.shape[1]:
        raise ValueError(f"top_k must be from 1 to the {predictions.shape[1]} classes, got {top_k}.")
    check_logits(predictions, labels)
    best = predictions.argsort(dim=1, descending=True, stable=True)[:, :top_k]
    return (best == labels[:, None]).any(1).double().mean().item()


def wilson_interval(share: float, images: float, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of an accuracy, 0 to 1, that was measured as `share` of `images` drawn at random.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (share + z**2 / (2 * images)) / (1 + z**2 / images)
    half = z / (1 + z**2 / images) * sqrt(share * (1 - share) / images + z**2 / (4 * images**2))
    return max(0.0, centre - half), min(1.0, centre + half)

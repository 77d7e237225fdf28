"""How well predicted masks cover the true ones: Dice coefficient and intersection over union, of each class."""

import torch
from torch import Tensor


def overlap(prediction: Tensor, label: Tensor, num_classes: int, ignored: int = 255) -> Tensor:
    """Pixels of each class in both masks, in the predicted one, and in the true one.

    Args:
        prediction: predicted classes, integers (H, W) or any other shape, in 0..num_classes-1.
        label: true classes, integers of the same shape, in 0..num_classes-1, or `ignored`.
        num_classes: C.
        ignored: pixels of this label do not count, whatever is predicted there.

    Returns:
        Int64 (C, 3). Add them up over images for [`dice`] and [`iou`] of all pixels.

    Raises:
        ValueError: for other shapes or types, or a class out of range.
    """
    if prediction.shape != label.shape:
        raise ValueError(
            f"Masks to compare must agree in shape, got {tuple(prediction.shape)} and {tuple(label.shape)}."
        )
    if prediction.is_floating_point() or label.is_floating_point():
        raise ValueError(f"Masks hold whole numbers of classes, got {prediction.dtype} and {label.dtype}.")
    counts = label != ignored
    prediction, label = prediction[counts].long(), label[counts].long()
    for name, classes in (("predicted", prediction), ("true", label)):
        if len(classes) and (classes.min() < 0 or classes.max() >= num_classes):
            raise ValueError(
                f"The {name} mask has values out of 0 to {num_classes - 1}: {classes.unique().tolist()[:9]}."
            )
    found = [label[prediction == label], prediction, label]
    return torch.stack([classes.bincount(minlength=num_classes) for classes in found], dim=1)


def dice(counts: Tensor) -> Tensor:
    """The Dice coefficient 2·|A∩B| / (|A| + |B|) (Dice 1945), the F1 score of pixels.

    Args:
        counts: int64 (…, C, 3), from [`overlap`].

    Returns:
        Float64 (…, C) in 0 to 1; NaN for a class that is in neither mask.
    """
    both, predicted, true = counts.double().unbind(-1)
    return 2 * both / (predicted + true)


def iou(counts: Tensor) -> Tensor:
    """Intersection over union |A∩B| / |A∪B| (Jaccard 1912); arguments and result as of [`dice`]."""
    both, predicted, true = counts.double().unbind(-1)
    return both / (predicted + true - both)

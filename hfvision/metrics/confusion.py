"""What a classifier takes for what: confusion matrix, and precision, recall and F1 of each class."""

from typing import NamedTuple

from torch import Tensor

from .accuracy import check_labels


class ClassScores(NamedTuple):
    """Scores of each class, float64 (C,) in 0 to 1; 0 where they would be 0/0."""

    precision: Tensor
    recall: Tensor
    f1: Tensor


def confusion_matrix(predictions: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """How many images of each class (row) were taken for each class (column).

    Args:
        predictions: predicted classes, integers (N,) in 0..num_classes-1.
        labels: true classes, integers (N,) in 0..num_classes-1.
        num_classes: C.

    Returns:
        Int64 (C, C), whose sum is N.

    Raises:
        ValueError: for other shapes or types, no images, or a class out of range.
    """
    check_labels(labels, predictions)
    if predictions.ndim != 1 or predictions.is_floating_point():
        raise ValueError(f"Predictions must be integers (N,), got {predictions.dtype} of {tuple(predictions.shape)}.")
    for name, classes in (("Predictions", predictions), ("Labels", labels)):
        low, high = (bound.item() for bound in classes.aminmax())
        if low < 0 or high >= num_classes:
            raise ValueError(f"{name} from {low} to {high} do not fit {num_classes} classes, 0 to {num_classes - 1}.")
    cells = labels.to(predictions.device).long() * num_classes + predictions
    return cells.bincount(minlength=num_classes**2).view(num_classes, num_classes)


def class_scores(matrix: Tensor) -> ClassScores:
    """Precision, recall and F1 of each class from a [`confusion_matrix`], int64 (C, C).

    Precision: the share of the images taken for the class that are of it. Recall: the share of the images of the class
    that are taken for it. F1: the harmonic mean of both.

    Raises:
        ValueError: for a matrix that is not square.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"A confusion matrix must be (C, C), got {tuple(matrix.shape)}.")
    right, taken, there = matrix.diagonal().double(), matrix.sum(0), matrix.sum(1)
    return ClassScores(
        right / taken.clamp(min=1), right / there.clamp(min=1), 2 * right / (taken + there).clamp(min=1)
    )

"""The metrics as `evaluate.Metric`s, which need no download. Apart from the functions, for `evaluate` imports slowly.

The image metrics write all images to a file and read them back as lists at `compute`: for a large set, average the
plain functions instead.
"""

import evaluate
import torch
from datasets import Features, List, Value

from .accuracy import accuracy
from .auroc import auroc
from .calibration import expected_calibration_error, negative_log_likelihood
from .confusion import class_scores, confusion_matrix
from .niqe import niqe
from .overlap import dice, iou, overlap
from .psnr import psnr
from .ssim import ssim

IMAGE = List(List(List(Value("float32"))))
LABEL = Value("int64")
LOGITS = List(Value("float32"))
MASK = List(List(Value("int64")))


class PSNR(evaluate.Metric):
    """Mean of [`psnr.psnr`] in dB over images, float (C, H, W) in [0, 1], whose sizes may differ.

    `PSNR().compute(predictions=…, references=…, crop=0, y_channel=True)` returns `{"psnr": float}`.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Peak signal-to-noise ratio in dB, on BT.601 luma unless y_channel is False.",
            citation="",
            inputs_description="predictions, references: images, float (C, H, W) in [0, 1]",
            features=Features(predictions=IMAGE, references=IMAGE),
        )

    def _compute(self, predictions: list, references: list, **options) -> dict[str, float]:  # pyright: ignore[reportIncompatibleMethodOverride]
        pairs = zip(predictions, references, strict=True)
        return {
            "psnr": torch.cat([psnr(torch.tensor([a]), torch.tensor([b]), **options) for a, b in pairs]).mean().item()
        }


class SSIM(evaluate.Metric):
    """Mean of [`ssim.ssim`] over images, float (C, H, W) in [0, 1], whose sizes may differ.

    `SSIM().compute(predictions=…, references=…, crop=0, y_channel=True)` returns `{"ssim": float}`.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Structural similarity, on BT.601 luma unless y_channel is False.",
            citation="Wang, Bovik, Sheikh, Simoncelli: Image quality assessment: from error visibility to structural "
            "similarity. IEEE Transactions on Image Processing 13(4), 2004.",
            inputs_description="predictions, references: images, float (C, H, W) in [0, 1]",
            features=Features(predictions=IMAGE, references=IMAGE),
        )

    def _compute(self, predictions: list, references: list, **options) -> dict[str, float]:  # pyright: ignore[reportIncompatibleMethodOverride]
        pairs = zip(predictions, references, strict=True)
        return {
            "ssim": torch.cat([ssim(torch.tensor([a]), torch.tensor([b]), **options) for a, b in pairs]).mean().item()
        }


class NIQE(evaluate.Metric):
    """Mean of [`niqe.niqe`] over images, float (C, H, W) in [0, 1], whose sizes may differ; there is no reference.

    `NIQE().compute(predictions=…, crop=0)` returns `{"niqe": float}`.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Natural image quality evaluator: distance from the statistics of pristine photographs.",
            citation="Mittal, Soundararajan, Bovik: Making a 'completely blind' image quality analyzer. IEEE Signal "
            "Processing Letters 20(3), 2013.",
            inputs_description="predictions: images, float (C, H, W) in [0, 1]",
            features=Features(predictions=IMAGE),
        )

    def _compute(self, predictions: list, **options) -> dict[str, float]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return {"niqe": torch.cat([niqe(torch.tensor([image]), **options) for image in predictions]).mean().item()}


class Accuracy(evaluate.Metric):
    """[`accuracy.accuracy`] from logits (N, C) or predicted labels (N,).

    `Accuracy().compute(predictions=…, references=…)` returns `{"accuracy": float}`, and `"top5_accuracy"` with it for
    logits of more than five classes.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of images whose label is the most likely class, or one of the five most likely.",
            citation="",
            inputs_description="predictions: logits (N, C) or labels (N,); references: labels (N,)",
            features=[
                Features(predictions=LOGITS, references=LABEL),
                Features(predictions=LABEL, references=LABEL),
            ],
        )

    def _compute(self, predictions: list, references: list) -> dict[str, float]:  # pyright: ignore[reportIncompatibleMethodOverride]
        scores, labels = torch.tensor(predictions), torch.tensor(references)
        result = {"accuracy": accuracy(scores, labels)}
        if scores.ndim == 2 and scores.shape[1] > 5:
            result["top5_accuracy"] = accuracy(scores, labels, top_k=5)
        return result


class AUROC(evaluate.Metric):
    """[`auroc.auroc`] from scores (N,) and labels (N,) of 0 and 1.

    `AUROC().compute(predictions=…, references=…)` returns `{"auroc": float}`.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Area under the ROC curve: how often a positive scores higher than a negative.",
            citation="Hanley, McNeil: The meaning and use of the area under a receiver operating characteristic (ROC) "
            "curve. Radiology 143(1), 1982.",
            inputs_description="predictions: scores (N,); references: labels (N,) of 0 and 1",
            features=Features(predictions=Value("float64"), references=LABEL),
        )

    def _compute(self, predictions: list, references: list) -> dict[str, float]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return {"auroc": auroc(torch.tensor(predictions, dtype=torch.float64), torch.tensor(references))}


class CalibrationError(evaluate.Metric):
    """[`calibration.expected_calibration_error`] from logits (N, C).

    `CalibrationError().compute(predictions=…, references=…, bins=15)` returns `{"ece": float}`.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Mean difference between how sure a classifier is and how often it is right.",
            citation="Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks. ICML 2017.",
            inputs_description="predictions: logits (N, C); references: labels (N,)",
            features=Features(predictions=LOGITS, references=LABEL),
        )

    def _compute(self, predictions: list, references: list, **options) -> dict[str, float]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return {"ece": expected_calibration_error(torch.tensor(predictions), torch.tensor(references), **options)}


class NegativeLogLikelihood(evaluate.Metric):
    """[`calibration.negative_log_likelihood`] from logits (N, C).

    `NegativeLogLikelihood().compute(predictions=…, references=…)` returns `{"nll": float}`.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Mean of minus the logarithm of the probability that a classifier gives to the label.",
            citation="",
            inputs_description="predictions: logits (N, C); references: labels (N,)",
            features=Features(predictions=LOGITS, references=LABEL),
        )

    def _compute(self, predictions: list, references: list) -> dict[str, float]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return {"nll": negative_log_likelihood(torch.tensor(predictions), torch.tensor(references))}


class ConfusionMatrix(evaluate.Metric):
    """[`confusion.confusion_matrix`], and [`confusion.class_scores`] from it, of predicted labels (N,).

    `ConfusionMatrix().compute(predictions=…, references=…, num_classes=C)` returns `{"confusion_matrix": C lists of C
    numbers, "precision": C numbers, "recall": C numbers, "f1": C numbers}`.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Images by true class (row) and predicted one (column); precision, recall, F1 of each class.",
            citation="",
            inputs_description="predictions, references: labels (N,)",
            features=Features(predictions=LABEL, references=LABEL),
        )

    def _compute(self, predictions: list, references: list, num_classes: int) -> dict[str, list]:  # pyright: ignore[reportIncompatibleMethodOverride]
        matrix = confusion_matrix(torch.tensor(predictions), torch.tensor(references), num_classes)
        scores = class_scores(matrix)._asdict()
        return {"confusion_matrix": matrix.tolist()} | {name: values.tolist() for name, values in scores.items()}


class Dice(evaluate.Metric):
    """[`overlap.dice`] of masks, integers (H, W), whose sizes may differ.

    `Dice().compute(predictions=…, references=…, num_classes=C, ignored=255)` returns `{"dice": C numbers, the mean
    over the images that have the class in either mask, "dice_pooled": C numbers, of the pixels of all images}`; NaN
    for a class that no mask has.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Twice the intersection of a predicted and a true mask over the sum of their sizes.",
            citation="Dice: Measures of the amount of ecologic association between species. Ecology 26(3), 1945.",
            inputs_description="predictions, references: masks of classes, integers (H, W)",
            features=Features(predictions=MASK, references=MASK),
        )

    def _compute(self, predictions: list, references: list, **options) -> dict[str, list]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return mean_and_pooled("dice", dice, predictions, references, **options)


class IoU(evaluate.Metric):
    """[`overlap.iou`] of masks, integers (H, W), whose sizes may differ.

    `IoU().compute(predictions=…, references=…, num_classes=C, ignored=255)` returns `{"iou": C numbers, "iou_pooled":
    C numbers}`, as [`Dice`] does.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Intersection of a predicted and a true mask over their union.",
            citation="Jaccard: The distribution of the flora in the alpine zone. New Phytologist 11(2), 1912.",
            inputs_description="predictions, references: masks of classes, integers (H, W)",
            features=Features(predictions=MASK, references=MASK),
        )

    def _compute(self, predictions: list, references: list, **options) -> dict[str, list]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return mean_and_pooled("iou", iou, predictions, references, **options)


def mean_and_pooled(name, measure, predictions: list, references: list, **options) -> dict[str, list]:
    pairs = zip(predictions, references, strict=True)
    counts = torch.stack([overlap(torch.tensor(a), torch.tensor(b), **options) for a, b in pairs])
    return {name: measure(counts).nanmean(0).tolist(), f"{name}_pooled": measure(counts.sum(0)).tolist()}

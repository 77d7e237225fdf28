"""The metrics as `evaluate.Metric`s, which need no download. Apart from the functions, for `evaluate` imports slowly.

The image metrics write all images to a file and read them back as lists at `compute`: for a large set, average the
plain functions instead.
"""

import evaluate
import torch
from datasets import Features, List, Value

from .accuracy import accuracy
from .psnr import psnr
from .ssim import ssim

IMAGE = List(List(List(Value("float32"))))
LABEL = Value("int64")


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

    def _compute(self, predictions: list, references: list, **options) -> dict[str, float]:
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

    def _compute(self, predictions: list, references: list, **options) -> dict[str, float]:
        pairs = zip(predictions, references, strict=True)
        return {
            "ssim": torch.cat([ssim(torch.tensor([a]), torch.tensor([b]), **options) for a, b in pairs]).mean().item()
        }


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
                Features(predictions=List(Value("float32")), references=LABEL),
                Features(predictions=LABEL, references=LABEL),
            ],
        )

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        scores, labels = torch.tensor(predictions), torch.tensor(references)
        result = {"accuracy": accuracy(scores, labels)}
        if scores.ndim == 2 and scores.shape[1] > 5:
            result["top5_accuracy"] = accuracy(scores, labels, top_k=5)
        return result

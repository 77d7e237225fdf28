"""Compression of classifiers: labelled images to calibrate and to rate with, and top-1 accuracy."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ...data.datasets.class_names import class_names, match_classes
from ...data.datasets.classification import load_image_dataset
from ...data.datasets.prepare import prepare_images
from ...data.transforms.normalize import Normalize
from ...metrics.accuracy import accuracy
from ..compression import (
    CALIBRATION_BATCH,
    BenchmarkData,
    CalibrationConfig,
    CalibrationData,
    PruningData,
    TaskCompression,
    check_calibration_images,
    check_split,
    training_split,
)
from .config import ClassifierTrainingConfig
from .evaluate import predict_logits
from .train import train_classifier

IMPORTANCE_BATCH = 64
BENCHMARK_BATCH = 32
LARGEST_VALIDATION = 2000  # images


def some_rows(split: Any, count: int, seed: int) -> Dataset:
    """At most `count` rows of a split, drawn by the seed."""
    return split.shuffle(seed=seed).select(range(min(len(split), count)))


def calibration(model: PreTrainedModel, processor: BaseImageProcessor, config: CalibrationConfig) -> CalibrationData:
    """Images of the training split to calibrate with, and of the validation split, which is the one of the model's
    training where that is recorded, to measure on.

    Raises:
        ValueError: for several sources, or too few images.
    """
    if len(config.sources) > 1:
        raise ValueError(f"A classifier calibrates with one data set, got {', '.join(config.sources)}.")
    splits: Any = load_image_dataset(config.sources[0], **training_split(config))
    order = match_classes(class_names(model.config), splits["train"].features["label"].names)
    normalize = Normalize.from_processor(processor)
    images = prepare_images(some_rows(splits["train"], config.images, config.seed), processor)
    validation = prepare_images(some_rows(splits["validation"], LARGEST_VALIDATION, config.seed), processor)
    check_calibration_images(len(images), config.sources[0])
    batches = [
        normalize(images.__getitems__(list(range(start, min(start + CALIBRATION_BATCH, len(images)))))["images"])
        for start in range(0, len(images), CALIBRATION_BATCH)
    ]

    def measure(net: Any) -> tuple[list[Tensor], float]:
        logits, labels = predict_logits(net, validation, normalize)
        return [logits[:, order].argmax(1)], accuracy(logits[:, order], labels)

    return CalibrationData(batches, measure, len(validation), splits["train"]._fingerprint)


def pruning(config: Any, model: PreTrainedModel, processor: BaseImageProcessor) -> PruningData:
    """Training images to rate units with by the cross-entropy, and the validation images of the training."""
    names = ("image_column", "label_column", "validation_group")
    columns = {name: getattr(config, name) for name in names}
    splits: Any = load_image_dataset(config.data, validation=config.validation, seed=config.seed, **columns)
    order = match_classes(class_names(model.config), splits["train"].features["label"].names)
    normalize = Normalize.from_processor(processor)
    images = prepare_images(some_rows(splits["train"], config.importance_images, config.seed), processor)
    held_out = prepare_images(splits["validation"], processor) if "validation" in splits else images
    batches = []
    for start in range(0, len(images), IMPORTANCE_BATCH):
        batch = images.__getitems__(list(range(start, min(start + IMPORTANCE_BATCH, len(images)))))
        labels = torch.tensor(order)[batch["labels"]]
        batches.append({"pixel_values": normalize(batch["images"]), "labels": labels})

    def loss(net: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
        return cross_entropy(net(pixel_values=batch["pixel_values"]).logits, batch["labels"])

    def measure(net: PreTrainedModel) -> float:
        logits, labels = predict_logits(net, held_out, normalize)
        return accuracy(logits[:, order], labels)

    return PruningData(batches, loss, measure, len(held_out))


def benchmark(parent: Any, data: str, split: str, count: int) -> BenchmarkData:
    """At most `count` labelled images of a split.

    Raises:
        ValueError: if there is no such split.
    """
    splits: Any = load_image_dataset(data, validation=0 if split == "train" else 0.1)
    check_split(splits, split, data)
    rows = some_rows(splits[split], count, 0)

    def measure(
        run: Callable[[Tensor], Tensor], config: Any, processor: BaseImageProcessor
    ) -> tuple[list[Tensor], float]:
        order = match_classes(class_names(config), rows.features["label"].names)
        images, normalize = prepare_images(rows, processor), Normalize.from_processor(processor)
        logits = []
        for start in range(0, len(images), BENCHMARK_BATCH):
            indices = [index % len(images) for index in range(start, start + BENCHMARK_BATCH)]
            logits.append(run(normalize(images.__getitems__(indices)["images"]))[:, order])
        answers = torch.cat(logits)[: len(images)].argmax(1)
        return [answers], accuracy(answers, images.labels)

    return BenchmarkData(measure, len(rows))


def agreement(outputs: Sequence[Tensor], parent_outputs: Sequence[Tensor]) -> float:
    """The share of equal answers."""
    return accuracy(outputs[0], parent_outputs[0])


COMPRESSION = TaskCompression(ClassifierTrainingConfig, train_classifier, calibration, pruning, benchmark, agreement)

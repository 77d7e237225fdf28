"""Compression of segmenters: crops of images with masks to calibrate and to rate with, and the Dice coefficient."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ...data.datasets.class_names import class_names
from ...data.datasets.mask_crops import MaskedCrops
from ...data.datasets.segmentation import MaskedImages, load_mask_dataset, name_classes
from ...data.transforms.augmentation import MaskAugmentation
from ...data.transforms.normalize import Normalize
from ...metrics.overlap import overlap
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
from .config import SegmenterTrainingConfig
from .evaluate import at_size, image_scores
from .losses import SegmenterLoss
from .train import train_segmenter

CROP = 128  # side in pixels of crops, for models of no size of their own
IMPORTANCE_BATCH = 16
LARGEST_VALIDATION = 200  # images, each of which goes through whole
NO_AUGMENTATION = MaskAugmentation(flip=False, zoom=0, light=0, colour=0)


def some_images(split: Any, count: int, seed: int, num_channels: int) -> MaskedImages:
    """At most `count` images of a split with their masks, drawn by the seed."""
    return MaskedImages(split.shuffle(seed=seed).select(range(min(len(split), count))), num_channels)


def channels_of(config: Any) -> int:
    return getattr(config, "num_channels", 3)


@torch.inference_mode()
def measure_masks(
    run: Callable[[Tensor], Tensor], images: MaskedImages, normalize: Normalize, names: Sequence[str]
) -> tuple[list[Tensor], float]:
    """The mask of each image, uint8 (H, W), and the mean of their Dice coefficients ([`image_scores`]).

    Args:
        run: from pixels float32 (1, C, H, W), normalized, to logits (1, classes, h, w).
        images: with masks of the classes `names`; each goes through whole.
        normalize: the model's.
        names: of the classes.
    """
    outputs, counts = [], []
    for index in range(len(images)):
        image, mask = images[index]
        logits = run(normalize(image[None]))
        prediction = at_size(logits.float(), mask.shape)[0].argmax(0)
        counts.append(overlap(prediction, mask, len(names)))
        outputs.append(prediction.to(torch.uint8))
    return outputs, image_scores(torch.stack(counts), names).mean().item()


def logits_of(net: Any) -> Callable[[Tensor], Tensor]:
    """A model as a function from pixels to logits, in the dtype of its weights."""
    return lambda pixels: net(pixel_values=pixels.to(net.dtype)).logits


def calibration(model: PreTrainedModel, processor: BaseImageProcessor, config: CalibrationConfig) -> CalibrationData:
    """Crops of training images to calibrate with, and the validation images, those of the model's training where that
    is recorded, to measure on.

    Raises:
        ValueError: for several sources, masks that are not of the model's classes, or too few images.
    """
    if len(config.sources) > 1:
        raise ValueError(f"A segmenter calibrates with one data set, got {', '.join(config.sources)}.")
    splits: Any = load_mask_dataset(config.sources[0], **training_split(config))
    channels, names = channels_of(model.config), class_names(model.config)
    images = {
        "train": some_images(splits["train"], config.images, config.seed, channels),
        "validation": some_images(splits["validation"], LARGEST_VALIDATION, config.seed, channels),
    }
    name_classes(images, names)
    side = getattr(model.config, "image_size", None) or CROP
    crops = MaskedCrops(images["train"], side, NO_AUGMENTATION, config.images, config.seed)
    check_calibration_images(len(crops), config.sources[0])
    normalize = Normalize.from_processor(processor)
    batches = [
        normalize(torch.stack([crops[i]["images"] for i in range(start, min(start + CALIBRATION_BATCH, len(crops)))]))
        for start in range(0, len(crops), CALIBRATION_BATCH)
    ]

    def measure(net: Any) -> tuple[list[Tensor], float]:
        return measure_masks(logits_of(net), images["validation"], normalize, names)

    return CalibrationData(batches, measure, len(images["validation"]), splits["train"]._fingerprint)


def pruning(config: Any, model: PreTrainedModel, processor: BaseImageProcessor) -> PruningData:
    """Augmented crops of training images to rate units with by the loss of the training, and its validation images."""
    columns = {name: getattr(config, name) for name in ("image_column", "mask_column", "validation_group")}
    splits: Any = load_mask_dataset(config.data, validation=config.validation, seed=config.seed, **columns)
    channels, names = channels_of(model.config), class_names(model.config)
    images = {"train": some_images(splits["train"], config.importance_images, config.seed, channels)}
    if "validation" in splits:
        images["validation"] = MaskedImages(splits["validation"], channels)
    name_classes(images, names)
    normalize = Normalize.from_processor(processor)
    crops = MaskedCrops(images["train"], config.crop, config.augmentation(), config.importance_images, config.seed)
    batches = [
        default_collate([crops[i] for i in range(start, min(start + IMPORTANCE_BATCH, len(crops)))])
        for start in range(0, len(crops), IMPORTANCE_BATCH)
    ]
    training_loss = SegmenterLoss(config, normalize)
    held_out = images.get("validation", images["train"])

    def measure(net: PreTrainedModel) -> float:
        return measure_masks(logits_of(net.eval()), held_out, normalize, names)[1]

    return PruningData(batches, lambda net, batch: training_loss(net, batch, 0)["loss"], measure, len(held_out))


def benchmark(parent: Any, data: str, split: str, count: int) -> BenchmarkData:
    """At most `count` images of a split with their masks.

    Raises:
        ValueError: if there is no such split, or the masks are not of the model's classes.
    """
    splits: Any = load_mask_dataset(data, validation=0 if split == "train" else 0.1)
    check_split(splits, split, data)
    images, names = some_images(splits[split], count, 0, channels_of(parent)), class_names(parent)
    name_classes({split: images}, names)

    def measure(
        run: Callable[[Tensor], Tensor], config: Any, processor: BaseImageProcessor
    ) -> tuple[list[Tensor], float]:
        return measure_masks(run, images, Normalize.from_processor(processor), names)

    return BenchmarkData(measure, len(images))


def agreement(outputs: Sequence[Tensor], parent_outputs: Sequence[Tensor]) -> float:
    """The share of pixels that get the same class."""
    equal = sum(int((one == other).sum()) for one, other in zip(outputs, parent_outputs, strict=True))
    return equal / sum(mask.numel() for mask in outputs)


COMPRESSION = TaskCompression(SegmenterTrainingConfig, train_segmenter, calibration, pruning, benchmark, agreement)

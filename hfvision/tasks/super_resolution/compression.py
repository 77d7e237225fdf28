"""Compression of upscalers: crops of photographs to calibrate and to rate with, and PSNR."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor
from torch.nn.functional import l1_loss
from torch.utils.data import default_collate
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ...data.datasets.photos import load_photos
from ...data.io.tree import find_images
from ...data.transforms.crops import RandomCrops
from ...data.transforms.degradation_presets import PRESETS, Degradation
from ...data.transforms.degradations import degrade
from ...data.transforms.keyed import image_keys
from ...data.transforms.resize import downscale, modcrop, quantize_8bit
from ...metrics.psnr import psnr
from ...models.image_processing_classification import flatten_pil
from ..compression import (
    BenchmarkData,
    CalibrationConfig,
    CalibrationData,
    PruningData,
    TaskCompression,
    check_calibration_images,
)
from .config import SuperResTrainingConfig
from .evaluate import read_original
from .train import split_photographs, train_superres
from .validation import ValidationPhotos

CROP = 96  # side in pixels of the crops to calibrate with
SHOWN = 192  # side in pixels, before upscaling, of what PSNR is measured on
IMPORTANCE_BATCH = 16
EQUAL = 100.0  # dB, of results that are equal


def calibration(model: PreTrainedModel, processor: BaseImageProcessor, config: CalibrationConfig) -> CalibrationData:
    """Crops of photographs to calibrate with, made smaller as in the model's training; and the centers of every fifth
    photograph to measure on, which is not calibrated with where there are five or more.

    Raises:
        ValueError: for an unknown degradation in the record, or too few crops.
    """
    degradation = recorded_degradation(config)
    scale, channels = model.config.scale, model.config.num_channels
    mode = "L" if channels == 1 else "RGB"
    photos: list[Image.Image] = load_photos(list(config.sources), min_side=32 * scale)
    originals = [pil_to_tensor(flatten_pil(photo, mode))[None] for photo in photos]
    rest = [original for number, original in enumerate(originals) if number % 5] if len(originals) >= 5 else originals
    generator = torch.Generator().manual_seed(config.seed)
    batches = []
    for number in range(config.images):
        original = rest[number % len(rest)]
        side = min(CROP * scale, *(length // scale * scale for length in original.shape[-2:]))
        top, left = (int(torch.randint(length - side + 1, (), generator=generator)) for length in original.shape[-2:])
        crop = original[..., top : top + side, left : left + side].float() / 255
        batches.append(degrade(crop, scale, image_keys(config.seed, 0, torch.tensor([number])), degradation))
    check_calibration_images(len(batches), ", ".join(config.sources))
    pairs = []
    for number, original in enumerate(originals[::5]):
        sides = [min(SHOWN * scale, length) // scale * scale for length in original.shape[-2:]]
        original = modcrop(center_crop(original, sides).float() / 255, scale)
        keys = image_keys(config.seed, 1, torch.tensor([number]))
        pairs.append((degrade(original, scale, keys, degradation), original))

    @torch.inference_mode()
    def measure(net: Any) -> tuple[list[Tensor], float]:
        restored = [quantize_8bit(net(pixel_values=small).reconstruction.float()) for small, _ in pairs]
        values = [psnr(image, pair[1], crop=scale).item() for image, pair in zip(restored, pairs, strict=True)]
        return restored, sum(values) / len(values)

    return CalibrationData(batches, measure, len(pairs))


def recorded_degradation(config: CalibrationConfig) -> Degradation:
    """How the model's training made photographs smaller."""
    name = config.training.degradation or "bicubic"
    if name not in PRESETS:
        raise ValueError(
            f"The record.json of the model names the degradation {name!r}, not one of {', '.join(PRESETS)}."
        )
    return PRESETS[name]


def pruning(config: Any, model: PreTrainedModel, processor: BaseImageProcessor) -> PruningData:
    """Random crops of training photographs to rate units with by the L1 loss, and the validation photographs."""
    scale, channels = model.config.scale, model.config.num_channels
    photos, held_out = split_photographs(config, config.crop * scale)
    crops = RandomCrops(photos, config.crop * scale, config.importance_images, config.seed, channels)
    batches = [
        default_collate([crops[i] for i in range(start, min(start + IMPORTANCE_BATCH, len(crops)))])
        for start in range(0, len(crops), IMPORTANCE_BATCH)
    ]
    validation = ValidationPhotos.of(held_out, scale, channels, config.degradation)

    def loss(net: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
        labels = batch["labels"].float() / 255
        keys = image_keys(config.seed, 0, batch["index"])
        small = degrade(labels, scale, keys, PRESETS[config.degradation])
        return l1_loss(net(pixel_values=small).reconstruction, labels)

    def measure(net: PreTrainedModel) -> float:
        return validation.psnr(lambda images: net(pixel_values=images).reconstruction, Accelerator(), "psnr")["psnr"]

    return PruningData(batches, loss, measure, len(held_out))


def benchmark(parent: Any, data: str, split: str, count: int) -> BenchmarkData:
    """At most `count` photographs of a folder, which has no splits, by the protocol of [`evaluate_superres`]: PSNR on
    luma, with `scale` pixels cropped at each side."""
    files = find_images(Path(data))[:count]
    scale, channels = parent.scale, parent.num_channels

    def measure(
        run: Callable[[Tensor], Tensor], config: Any, processor: BaseImageProcessor
    ) -> tuple[list[Tensor], float]:
        outputs, total = [], 0.0
        for path in files:
            original = read_original(path, scale)
            small = downscale(original, scale).expand(-1, channels, -1, -1)
            restored = quantize_8bit(run(small.contiguous()).float())
            total += psnr(restored, original.expand_as(restored), crop=scale).item() / len(files)
            outputs.append(restored[..., scale:-scale, scale:-scale])
        return outputs, total

    return BenchmarkData(measure, len(files))


def agreement(outputs: Sequence[Tensor], parent_outputs: Sequence[Tensor]) -> float:
    """The PSNR in dB between both results, mean over the images; 100 dB of an image where they are equal."""
    values = [psnr(one, other).item() for one, other in zip(outputs, parent_outputs, strict=True)]
    return sum(min(value, EQUAL) for value in values) / len(values)


COMPRESSION = TaskCompression(SuperResTrainingConfig, train_superres, calibration, pruning, benchmark, agreement)

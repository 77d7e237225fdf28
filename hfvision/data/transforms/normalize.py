"""Pixels to what a network takes: done on the device, once a batch, by training and evaluation alike."""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import normalize, to_dtype
from transformers.image_processing_utils import BaseImageProcessor


@dataclass(frozen=True)
class Normalize:
    """(x - `mean`) / `std` for each channel, with x in [0, 1].

    `normalize(images)` takes uint8 (N, C, H, W), or float (N, C, H, W) in [0, 1], and gives float32 (N, C, H, W).

    Raises:
        ValueError: when made, for a `std` of 0 or lengths that differ; when called, for another number of channels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self):
        if len(self.mean) != len(self.std) or not self.mean or 0 in self.std:
            raise ValueError(f"mean and std need one number a channel, std none of 0: got {self.mean} and {self.std}.")

    @classmethod
    def from_processor(cls, processor: BaseImageProcessor) -> "Normalize":
        """What `processor` does to the pixel values, seen on a black and a white image: for each channel any a·x + b,
        also without rescaling or normalisation, or with both done twice, as some processors have it.

        Raises:
            ValueError: if the processor makes black and white the same.
        """
        black, white = (
            processor(Image.new("RGB", (64, 64), colour), return_tensors="pt")["pixel_values"][0].double()
            for colour in ("black", "white")
        )
        middle = (slice(None), black.shape[-2] // 2, black.shape[-1] // 2)
        black, white = black[middle], white[middle]
        if (black == white).any():
            raise ValueError(f"The image processor {type(processor).__name__} makes black and white the same.")
        mean, std = -black / (white - black), 1 / (white - black)
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    def __call__(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != len(self.mean):
            raise ValueError(f"Expected images (N, {len(self.mean)}, H, W), got {tuple(images.shape)}.")
        return normalize(to_dtype(images, torch.float32, scale=True), list(self.mean), list(self.std))

"""Validation of a super-resolution network in training: PSNR on held-out photographs, and a sample picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, to_pil_image

from ...data.transforms.degradation_presets import PRESETS, Preset
from ...data.transforms.degradations import degrade
from ...data.transforms.keyed import image_keys
from ...data.transforms.resize import modcrop, quantize_8bit, resize_bicubic
from ...metrics.psnr import psnr
from ...models.srgan.modeling_srgan import SRGANForImageSuperResolution

SHOWN = 96  # pixels of the low-resolution crop in samples.png


def validation_image(photo: Image.Image, scale: int, channels: int) -> Tensor:
    """The middle of a photograph, of at most 1024×1024 pixels, as uint8 (1, C, H, W) with sides that fit the scale."""
    side = [min(length, 1024) for length in photo.size]
    image = center_crop(pil_to_tensor(photo.convert("L" if channels == 1 else "RGB")), side[::-1])
    return modcrop(image[None], scale)


@dataclass(frozen=True)
class ValidationPhotos:
    """Photographs for validation, and their small copies, degraded with fixed keys: the same in every run.

    Attributes:
        images: the originals, uint8 (1, C, h·scale, w·scale).
        small: uint8 (1, C, h, w) for each of them, by the name of the degradation.
        scale: how many times larger the originals are.
    """

    images: list[Tensor]
    small: dict[Preset, list[Tensor]]
    scale: int

    @classmethod
    def of(cls, photos: Sequence[Image.Image], scale: int, channels: int, degradation: str) -> "ValidationPhotos":
        """For a training with the preset `degradation`: bicubic alone, or bicubic, mild and strong."""
        images = [validation_image(photo, scale, channels) for photo in photos]
        names: list[Preset] = ["bicubic"] if degradation == "bicubic" else ["bicubic", "mild", "strong"]
        return cls(images, {name: degraded_copies(images, scale, name) for name in names}, scale)

    @torch.no_grad()
    def psnr(self, upscale: Callable[[Tensor], Tensor], accelerator: Accelerator, name: str) -> dict[str, float]:
        """The mean PSNR on Y, with `scale` pixels cropped; each process measures its share of the images.

        Args:
            upscale: from (1, C, h, w) in [0, 1] to (1, C, h·scale, w·scale).
            accelerator: of the training.
            name: of the result, as validation_psnr.

        Returns:
            `name`: the mean over degradations, and, where there are several, `name`_bicubic and so on: that of each.
        """
        values = {key: self.set_psnr(small, upscale, accelerator) for key, small in self.small.items()}
        parts = {f"{name}_{key}": value for key, value in values.items()} if len(values) > 1 else {}
        return {name: sum(values.values()) / len(values)} | parts

    def set_psnr(
        self, small: Sequence[Tensor], upscale: Callable[[Tensor], Tensor], accelerator: Accelerator
    ) -> float:
        """The mean PSNR of upscaled `small` images."""
        shares = -(-len(self.images) // accelerator.num_processes)
        total = torch.zeros((), dtype=torch.float64)
        for number in range(shares):
            index = number * accelerator.num_processes + accelerator.process_index
            degraded, original = (
                images[index % len(images)].to(accelerator.device).float() / 255 for images in (small, self.images)
            )
            restored = quantize_8bit(upscale(degraded).float())  # on all processes, as sharded models need
            if index < len(self.images):
                total += psnr(restored, original, crop=self.scale).cpu()[0]
        total = cast(Tensor, accelerator.reduce(total.to(accelerator.device), "sum"))
        return (total / len(self.images)).item()


def degraded_copies(images: Sequence[Tensor], scale: int, degradation: Preset) -> list[Tensor]:
    """Images, uint8 (1, C, H, W), degraded by a preset, each with a fixed key of its own."""
    keys = image_keys(0, 0, torch.arange(len(images)))
    pairs = zip(images, keys, strict=True)
    small = [degrade(image.float() / 255, scale, key[None], PRESETS[degradation]) for image, key in pairs]
    return [(image * 255).round().to(torch.uint8) for image in small]


@torch.no_grad()
def sample_picture(model: SRGANForImageSuperResolution, validation: ValidationPhotos) -> dict[str, Image.Image]:
    """The middle of the first photograph, degraded as the last preset does: by bicubic, by the network, the original.

    The crop is degraded itself: crops of the small copy and of the original could be off by a pixel.
    """
    scale, original = validation.scale, validation.images[0]
    side = [min(length, SHOWN * scale) // scale * scale for length in original.shape[-2:]]
    original = center_crop(original, side)
    small, original = (
        images.to(model.device).float() / 255
        for images in (*degraded_copies([original], scale, list(validation.small)[-1]), original)
    )
    images = {
        "bicubic": resize_bicubic(small, scale),
        "upscaled": model(pixel_values=small).reconstruction.float(),
        "original": original,
    }
    return {name: to_pil_image(image[0].clamp(0, 1).cpu()) for name, image in images.items()}

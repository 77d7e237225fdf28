"""How well a network in training upscales photographs that it is not trained on, in figures and as a picture."""

from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, to_pil_image

from ..data.degrade import downscale, modcrop, quantize_8bit, resize_bicubic
from ..metrics.psnr import psnr
from ..models.srgan.modeling_srgan import SRGANForImageSuperResolution

SHOWN = 96  # pixels of the low-resolution crop in samples.png


def validation_image(photo: Image.Image, scale: int, channels: int) -> Tensor:
    """The middle of a photograph, of at most 1024×1024 pixels, as uint8 (1, C, H, W) with sides that fit the scale."""
    side = [min(length, 1024) for length in photo.size]
    image = center_crop(pil_to_tensor(photo.convert("L" if channels == 1 else "RGB")), side[::-1])
    return modcrop(image[None], scale)


@torch.no_grad()
def validation_psnr(
    upscale: Callable[[Tensor], Tensor], images: Sequence[Tensor], scale: int, accelerator: Accelerator
) -> float:
    """The mean PSNR on Y, `scale` pixels cropped, of images that each process takes its share of."""
    shares = -(-len(images) // accelerator.num_processes)
    total = torch.zeros((), dtype=torch.float64)
    for number in range(shares):
        index = number * accelerator.num_processes + accelerator.process_index
        original = images[index % len(images)].to(accelerator.device).float() / 255
        restored = quantize_8bit(upscale(downscale(original, scale)).float())  # by all, as shards need
        if index < len(images):
            total += psnr(restored, original, crop=scale).cpu()[0]
    return (accelerator.reduce(total.to(accelerator.device), "sum") / len(images)).item()


@torch.no_grad()
def sample_picture(model: SRGANForImageSuperResolution, original: Tensor, scale: int) -> dict[str, Image.Image]:
    """The middle of a validation image: small, by bicubic, by the network, and as it was."""
    side = [min(length, SHOWN * scale) // scale * scale for length in original.shape[-2:]]
    original = center_crop(original, side).to(model.device).float() / 255
    small = downscale(original, scale)
    images = {
        "bicubic": resize_bicubic(small, scale),
        "upscaled": model(pixel_values=small).reconstruction.float(),
        "original": original,
    }
    return {name: to_pil_image(image[0].clamp(0, 1).cpu()) for name, image in images.items()}

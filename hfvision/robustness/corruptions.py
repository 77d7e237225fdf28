"""Natural noise: seven corruptions in five severities, after CIFAR-10-C.

Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and perturbations"
(arXiv:1903.12261), with their constants for images of 32 pixels. These are kept for images of any size, where blur
and pixelation so are weaker.
"""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

from ..data.transforms.augment import seeded
from ..data.transforms.keyed import uniform
from ..data.transforms.resize import through_jpeg

NOISE, CHOICE = 16, 17  # streams of the keyed random numbers, apart from those of augmentation


def gaussian_noise(images: Tensor, keys: Tensor, sigma: float, /) -> Tensor:
    pairs = zip(keys, v2.to_dtype(images, torch.float32, scale=True), strict=True)
    return to_uint8(torch.stack([seeded(v2.gaussian_noise, key, NOISE, image, 0.0, sigma) for key, image in pairs]))


def shot_noise(images: Tensor, keys: Tensor, photons: float, /) -> Tensor:
    rates = v2.to_dtype(images, torch.float32, scale=True) * photons
    pairs = zip(keys, rates, strict=True)
    return to_uint8(torch.stack([seeded(torch.poisson, key, NOISE, rate) for key, rate in pairs]) / photons)


def gaussian_blur(images: Tensor, keys: Tensor, sigma: float, /) -> Tensor:
    side = min(2 * round(4 * sigma) + 1, *(2 * size - 1 for size in images.shape[-2:]))
    return to_uint8(v2.gaussian_blur(v2.to_dtype(images, torch.float32, scale=True), [side, side], [sigma, sigma]))


def jpeg(images: Tensor, keys: Tensor, quality: float, /) -> Tensor:
    return torch.stack([through_jpeg(image, int(quality)) for image in images])


def brightness(images: Tensor, keys: Tensor, shift: float, /) -> Tensor:
    """Added to the value V of HSV; hue and saturation stay."""
    images = v2.to_dtype(images, torch.float32, scale=True)
    value = images.amax(1, keepdim=True)
    brighter = (value + shift).clamp_max(1)
    return to_uint8(torch.where(value > 0, images * (brighter / value), brighter))


def contrast(images: Tensor, keys: Tensor, factor: float, /) -> Tensor:
    """Towards the mean of each channel."""
    images = v2.to_dtype(images, torch.float32, scale=True)
    mean = images.mean((2, 3), keepdim=True)
    return to_uint8((images - mean) * factor + mean)


def pixelate(images: Tensor, keys: Tensor, share: float, /) -> Tensor:
    height, width = images.shape[-2:]
    small = [max(1, int(share * height)), max(1, int(share * width))]

    def coarse(image: Image.Image) -> Image.Image:
        smaller = image.resize((small[1], small[0]), Image.Resampling.BOX)
        return smaller.resize((width, height), Image.Resampling.BOX)

    return through_pil(images, coarse)


def through_pil(images: Tensor, function: Callable[[Image.Image], Image.Image]) -> Tensor:
    return torch.stack([v2.pil_to_tensor(function(v2.to_pil_image(image))) for image in images])


def to_uint8(images: Tensor) -> Tensor:
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


# The function of each corruption and what it takes at severities 1 to 5.
RECIPES: dict[str, tuple[Callable[[Tensor, Tensor, float], Tensor], tuple[float, ...]]] = {
    "gaussian_noise": (gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": (shot_noise, (500, 250, 100, 75, 50)),
    "gaussian_blur": (gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1)),
    "jpeg": (jpeg, (80, 65, 58, 50, 40)),
    "brightness": (brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "pixelate": (pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
}
CORRUPTIONS = tuple(RECIPES)
SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(images: Tensor, name: str, severity: int, keys: Tensor) -> Tensor:
    """Images as a bad camera, a bad connection or bad light would give them.

    Args:
        images: uint8 (N, C, H, W), C of 1 or 3, on any device, not changed.
        name: one of `CORRUPTIONS`.
        severity: 1 to 5.
        keys: int64 (N,), from [`data.transforms.keyed.image_keys`]; the noise of an image depends on its key alone.

    Returns:
        Uint8 (N, C, H, W) on the device of `images`, computed on the CPU. Torch's generators are left as they were.

    Raises:
        ValueError: for other images, an unknown name or severity, or another number of keys.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"Expected uint8 images (N, 1 or 3, H, W), got {images.dtype} of shape {tuple(images.shape)}."
        )
    if name not in RECIPES:
        raise ValueError(f"There is no corruption {name!r}: choose one of {', '.join(CORRUPTIONS)}.")
    if severity not in SEVERITIES:
        raise ValueError(f"severity must be from 1 to 5, got {severity}.")
    if keys.shape != images.shape[:1]:
        raise ValueError(f"Expected one key for each of {len(images)} images, got keys of shape {tuple(keys.shape)}.")
    if not len(images):
        return images.clone()
    function, constants = RECIPES[name]
    return function(images.cpu(), keys.cpu(), constants[severity - 1]).to(images.device)


def corrupt_some(images: Tensor, keys: Tensor, share: float) -> Tensor:
    """Some of the images, each by a random corruption of a random severity: for training.

    Args:
        images, keys: as for [`corrupt`]. Which images are chosen, and what happens to each, depends on its key alone.
        share: of the images that are corrupted, 0 to 1, on average.

    Returns:
        Uint8 (N, C, H, W) on the device of `images`.

    Raises:
        ValueError: as [`corrupt`], and for a share out of its range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"The share of corrupted images must be from 0 to 1, got {share}.")
    chance, which, severity = uniform(keys.cpu(), 3, CHOICE).T
    kinds = (which * len(CORRUPTIONS)).long() * len(SEVERITIES) + (severity * len(SEVERITIES)).long()
    kinds = torch.where(chance < share, kinds, -1)
    result = images.clone()
    for kind in kinds.unique().tolist():
        if kind >= 0:
            rows = kinds == kind
            name, level = CORRUPTIONS[kind // len(SEVERITIES)], SEVERITIES[kind % len(SEVERITIES)]
            result[rows] = corrupt(images[rows], name, level, keys[rows])
    return result

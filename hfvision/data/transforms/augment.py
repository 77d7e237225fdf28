"""Augmentation of whole batches, each image by its own key (`keyed`): the same key always gives the same image."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor

from ..io.images import to_rgb
from .augmentation import Augmentation
from .keyed import fresh_keys, scramble, uniform

# Streams of `uniform`: what is switched on or off leaves the numbers of the rest alone.
CROP, AFFINE, POLICY, ERASING, MIX, LIGHT = range(6)


def augment(images: Tensor, keys: Tensor, augmentation: Augmentation) -> Tensor:
    """Vary each image by its key; all but mixup and cutmix, which are [`mix`].

    Args:
        images: uint8 (N, C, H, W) on any device, not changed; C of 1 or 3 for RandAugment and TrivialAugment.
        keys: int64 (N,), from [`image_keys`] or [`fresh_keys`].
        augmentation: the settings.

    Returns:
        Uint8 (N, C, H, W). Each image depends on itself and its key alone. Torch's generators are left as they were.

    Raises:
        ValueError: for images that are not uint8 NCHW, or another number of keys.
    """
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(f"Expected uint8 images (N, C, H, W), got {images.dtype} of shape {tuple(images.shape)}.")
    if keys.shape != images.shape[:1]:
        raise ValueError(f"Expected one key for each of {len(images)} images, got keys of shape {tuple(keys.shape)}.")
    a, keys = augmentation, keys.cpu()  # what is drawn is so the same on every device
    if a.crop_padding or a.flip:
        down, right, mirror = uniform(keys, 3, CROP).T
        pads = [round(a.crop_padding * side) for side in images.shape[-2:]]
        down, right = ((u * (2 * pad + 1)).long() - pad for u, pad in zip((down, right), pads, strict=True))
        images = crop_and_flip(images, down, right, (mirror < 0.5) & a.flip)
    if a.rotation or a.shift or a.shear or a.zoom or a.resized_crop:
        images = warp(images, *affine_maps(keys, (images.shape[-2], images.shape[-1]), a))
    if a.light:
        images = relight(images, keys, a.light)
    if a.randaugment or a.trivial_augment:
        policy = v2.RandAugment(a.randaugment) if a.randaugment else v2.TrivialAugmentWide()
        images = torch.stack([seeded(policy, key, POLICY, image) for key, image in zip(keys, images, strict=True)])
    return erase(images, keys, a.erasing) if a.erasing else images


def crop_and_flip(images: Tensor, down: Tensor, right: Tensor, mirror: Tensor) -> Tensor:
    """Windows `down` and `right` pixels off (int64 (N,), CPU) of images that go on mirrored; flipped by `mirror`."""
    height, width = images.shape[-2:]
    rows = reflect(torch.arange(height) + down[:, None], height).to(images.device)
    columns = torch.arange(width) + right[:, None]
    columns = reflect(torch.where(mirror[:, None], columns.flip(1), columns), width).to(images.device)
    places = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
    return images.flatten(2).gather(2, places[:, None].expand(-1, images.shape[1], -1)).view(images.shape)


def reflect(positions: Tensor, length: int) -> Tensor:
    """Positions up to `length` - 1 outside of [0, length) mirrored into it, the edge pixel not repeated."""
    return (length - 1) - ((length - 1) - positions.abs()).abs()


def affine_maps(keys: Tensor, size: tuple[int, int], a: Augmentation) -> tuple[Tensor, Tensor]:
    """Where each pixel comes from: source = matrix · target + offset, in pixels (x, y) from the centre.

    Returns:
        Matrices float32 (N, 2, 2) and offsets float32 (N, 2). Computed in float64, so that they round to the same
        float32 for any size of batch.
    """
    u = uniform(keys, 10, AFFINE).double().T.contiguous()
    signed = 2 * u - 1
    angle, shear = math.radians(a.rotation) * signed[0], (a.shear * signed[1]).tan()
    zoom_x, zoom_y = 1 + a.zoom * signed[2], 1 + a.zoom * signed[3]
    area = 1 + (a.resized_crop - 1) * u[4] if a.resized_crop else torch.ones_like(u[4])
    root_ratio = (math.log(4 / 3) / 2 * signed[5] * (a.resized_crop > 0)).exp()
    part = torch.stack([area.sqrt() * root_ratio, area.sqrt() / root_ratio], 1).clamp(max=1)
    cos, sin = angle.cos(), angle.sin()
    # rotation · shear · zoom
    rows = [[cos * zoom_x, (cos * shear - sin) * zoom_y], [sin * zoom_x, (sin * shear + cos) * zoom_y]]
    matrix = torch.stack([torch.stack(row, 1) for row in rows], 1)
    sides = u.new_tensor([size[1], size[0]])
    offset = a.shift * signed[6:8].T * sides
    crop_offset = (1 - part) / 2 * signed[8:10].T * sides
    return (part[:, :, None] * matrix).float(), (part * offset + crop_offset).float()


def warp(images: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """Images (N, C, H, W) read where [`affine_maps`] says: bilinear, the border pixels repeated without end."""
    height, width = images.shape[-2:]
    y = torch.arange(height, device=images.device)[:, None] + (1 - height) / 2
    x = torch.arange(width, device=images.device) + (1 - width) / 2
    m, t = (part[..., None, None].to(images.device) for part in (matrix, offset))
    grid = torch.stack(
        [(m[:, i, 0] * x + m[:, i, 1] * y + t[:, i]) * (2 / side) for i, side in enumerate((width, height))], -1
    )
    warped = grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return warped.round().to(torch.uint8)


def relight(images: Tensor, keys: Tensor, light: float) -> Tensor:
    """Images (N, C, H, W) whose brightness and contrast change by factors from 1/(1 + light) to 1 + light."""
    factors = (math.log1p(light) * (2 * uniform(keys, 2, LIGHT).double() - 1)).exp().float().to(images.device)
    brightness, contrast = factors.T[:, :, None, None, None]
    mean = images.sum((1, 2, 3), keepdim=True) / images[0].numel()
    return (((images - mean) * contrast + mean) * brightness).round().clamp(0, 255).to(torch.uint8)


def seeded(transform: Callable, key: Tensor, stream: int, *inputs: Any) -> Any:
    """`transform(*inputs)`, with torch's CPU generator, which torchvision draws from, seeded by a key meanwhile."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(scramble(key + stream)))
        return transform(*inputs)


def erase(images: Tensor, keys: Tensor, probability: float) -> Tensor:
    """Rectangles like torchvision's RandomErasing's, the first of ten that fits, in each image's mean colour."""
    height, width = images.shape[-2:]
    u = uniform(keys, 23, ERASING).double()
    chance, top, left = u[:, :3].T
    area = (0.02 + 0.31 * u[:, 3:13]) * height * width
    root_ratio = (math.log(0.3) * (2 * u[:, 13:] - 1) / 2).exp()
    heights, widths = (area.sqrt() * root_ratio).round(), (area.sqrt() / root_ratio).round()
    fits = (heights < height) & (widths < width)
    first = fits.int().argmax(1, keepdim=True)
    h, w = heights.gather(1, first)[:, 0], widths.gather(1, first)[:, 0]
    top, left = (top * (height - h + 1)).floor(), (left * (width - w + 1)).floor()
    y, x = torch.arange(height), torch.arange(width)
    chosen = (chance < probability) & fits.any(1)
    rows = (y >= top[:, None]) & (y < (top + h)[:, None]) & chosen[:, None]
    columns = (x >= left[:, None]) & (x < (left + w)[:, None])
    inside = rows[:, None, :, None].to(images.device) & columns[:, None, None, :].to(images.device)
    mean = images.sum((2, 3), keepdim=True) / (height * width)
    return torch.where(inside, mean.round().to(torch.uint8), images)


def mix(
    images: Tensor, labels: Tensor, keys: Tensor, augmentation: Augmentation, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Mixup or cutmix of each image with the one before it in the batch, by one proportion a batch.

    Args:
        images: float (N, C, H, W) of any range, not changed.
        labels: int64 (N,).
        keys: int64 (N,); the first decides for the batch.
        augmentation: the settings `mixup` and `cutmix` count.
        num_classes: how many classes there are.

    Returns:
        Images of the same shape and soft labels float32 (N, num_classes) that sum to 1; both as they came, labels
        int64, where mixup and cutmix are off.
    """
    choices = {v2.MixUp: augmentation.mixup, v2.CutMix: augmentation.cutmix}
    transforms = [kind(alpha=alpha, num_classes=num_classes) for kind, alpha in choices.items() if alpha]
    if not transforms:
        return images, labels
    return seeded(v2.RandomChoice(transforms), keys[0], MIX, images, labels)


def test_time_views(images: Tensor, tta: Literal["none", "flip", "flip_shift"]) -> list[tuple[float, Tensor]]:
    """Views of the images whose weighted mean of predictions is better than that of the images alone.

    Args:
        images: (N, C, H, W) of any dtype, sides of at least 2 pixels.
        tta: `none`; `flip`, with the mirror images; `flip_shift`, with both of these moved by one pixel up and left,
            and down and right, too, which together count as much as the unmoved ones (Jordan 2024, "94% on CIFAR-10
            in 3.29 seconds on a single GPU").

    Returns:
        (weight, images) pairs; the weights sum to 1.

    Raises:
        ValueError: for another `tta`.
    """
    if tta not in ("none", "flip", "flip_shift"):
        raise ValueError(f"tta must be none, flip or flip_shift, got {tta!r}.")
    shifts = (0, 1, -1) if tta == "flip_shift" else (0,)
    weights = {0: 0.5, 1: 0.25, -1: 0.25} if tta == "flip_shift" else {0: 1.0}
    mirrors = (False,) if tta == "none" else (False, True)

    def view(shift: int, mirror: bool) -> Tensor:
        moved = torch.full((len(images),), shift)
        return crop_and_flip(images, moved, moved, torch.full_like(moved, mirror, dtype=torch.bool))

    return [(weights[s] / len(mirrors), view(s, mirror)) for s in shifts for mirror in mirrors]


def augment_pil(images: list[Image.Image], keys: Tensor, augmentation: Augmentation) -> list[Tensor]:
    """[`augment`] for PIL images of any sizes: grey ones become uint8 (1, H, W), all others (3, H, W)."""
    pixels = [pil_to_tensor(image if image.mode == "L" else to_rgb(image)) for image in images]
    groups: dict[torch.Size, list[int]] = {}
    for place, image in enumerate(pixels):
        groups.setdefault(image.shape, []).append(place)
    for places in groups.values():
        batch = augment(torch.stack([pixels[place] for place in places]), keys[places], augmentation)
        for place, image in zip(places, batch, strict=True):
            pixels[place] = image
    return pixels


@dataclass(frozen=True)
class FreshAugmentation:
    """For `dataset.with_transform(FreshAugmentation(...))`: images are augmented anew at each reading.

    Called with the columns of some rows, PIL images in `image`, it gives the same columns with uint8 tensors
    (C, H, W) there. The keys come from torch's global generator, so `torch.manual_seed` repeats a run, and each worker
    of a DataLoader has its own. (`map` would compute one variation of each image and keep it in its cache.)
    """

    augmentation: Augmentation

    def __call__(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        images = rows["image"]
        return rows | {"image": augment_pil(images, fresh_keys(len(images)), self.augmentation)}

"""Synthetic anomalies: images with an occlusion, with paint, or with transmission errors."""

from collections.abc import Callable

import torch
from PIL import ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from ...data.transforms.keyed import uniform

DAMAGE = 301  # stream of the keyed random numbers


def occlude(image: Tensor, draws: list[float]) -> Tensor:
    """Draw a rectangle of one color, each side 30 to 55 % of the image's, within its middle two thirds."""
    height, width = image.shape[-2:]
    tall, wide = (round((0.3 + 0.25 * u) * side) for u, side in zip(draws, (height, width), strict=False))
    top = round(height / 6 + draws[2] * max(0, 2 * height / 3 - tall))
    left = round(width / 6 + draws[3] * max(0, 2 * width / 3 - wide))
    image = image.clone()
    image[:, top : top + tall, left : left + wide] = color(draws[4:7], image)
    return image


def deface(image: Tensor, draws: list[float]) -> Tensor:
    """Draw one to three strokes of paint across the middle of the image and, on every second one, a round sticker."""
    height, width = image.shape[-2:]
    picture = to_pil_image(image)
    draw = ImageDraw.Draw(picture)
    for stroke in range(1 + int(3 * draws[0])):
        part = draws[8 + 12 * stroke : 20 + 12 * stroke]
        points = [
            ((0.2 + 0.6 * x) * width, (0.2 + 0.6 * y) * height) for x, y in zip(part[:8:2], part[1:8:2], strict=True)
        ]
        paint = tuple(color(part[8:11], image).flatten().tolist())
        thick = max(1, round((0.03 + 0.05 * part[11]) * min(height, width)))
        draw.line(points, fill=paint, width=thick, joint="curve")
    if draws[1] < 0.5:
        radius = (0.08 + 0.08 * draws[2]) * min(height, width)
        x, y = ((0.3 + 0.4 * u) * side for u, side in zip(draws[3:5], (width, height), strict=True))
        paint = tuple(color(draws[5:8], image).flatten().tolist())
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=paint)
    return pil_to_tensor(picture)


def break_frame(image: Tensor, draws: list[float]) -> Tensor:
    """Add the errors of a decoder that lost parts of a frame: dropped blocks, shifted rows, or stripes of noise."""
    height, width = image.shape[-2:]
    image = image.clone()
    kind = int(3 * draws[0])
    parts = [draws[8 + 4 * number : 12 + 4 * number] for number in range(8)]
    if kind == 0:
        side = max(1, min(height, width) // 6)
        for y, x, _, gray in parts:
            top, left = (int(u * (length // side)) * side for u, length in ((y, height), (x, width)))
            image[:, top : top + side, left : left + side] = round(255 * gray)
    elif kind == 1:
        band = max(1, height // 12)
        for y, shift, sign, _ in parts:
            top = int(y * (height - band + 1))
            by = round((0.15 + 0.25 * shift) * width) * (1 if sign < 0.5 else -1)
            image[:, top : top + band] = image[:, top : top + band].roll(by, -1)
    else:
        key = torch.tensor([int(draws[1] * 2**24)])
        thick = max(1, height // 24)
        for number, (y, _, _, _) in enumerate(parts[:4]):
            top = int(y * (height - thick + 1))
            noise = uniform(key, image.shape[0] * thick * width, DAMAGE + 1 + number)
            image[:, top : top + thick] = (noise * 256).to(torch.uint8).view(-1, thick, width)
    return image


def color(draws: list[float], image: Tensor) -> Tensor:
    """A color uint8 (C, 1, 1), no brighter than the image."""
    return torch.tensor(draws[: len(image)]).mul(int(image.max()) + 1).to(torch.uint8)[:, None, None]


DAMAGES: dict[str, Callable[[Tensor, list[float]], Tensor]] = {
    "occluded": occlude,
    "defaced": deface,
    "broken": break_frame,
}


def damage(images: Tensor, kind: str, keys: Tensor) -> Tensor:
    """Damage each image by its key.

    Args:
        images: uint8 (N, C, H, W), C of 1 or 3, not changed.
        kind: `occluded` (a rectangle of one color), `defaced` (strokes of paint, a sticker) or `broken` (dropped
            blocks, shifted rows or stripes of noise).
        keys: int64 (N,), from [`data.transforms.keyed.image_keys`]; the damage depends on the key alone.

    Returns:
        Uint8 (N, C, H, W) on the CPU.

    Raises:
        ValueError: for other images, an unknown kind, or another number of keys.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"Expected uint8 images (N, 1 or 3, H, W), got {images.dtype} of shape {tuple(images.shape)}."
        )
    if kind not in DAMAGES:
        raise ValueError(f"There is no damage {kind!r}: choose one of {', '.join(DAMAGES)}.")
    if keys.shape != images.shape[:1]:
        raise ValueError(f"Expected one key for each of {len(images)} images, got keys of shape {tuple(keys.shape)}.")
    draws = uniform(keys.cpu(), 44, DAMAGE).tolist()
    damaged = [DAMAGES[kind](image, numbers) for image, numbers in zip(images.cpu(), draws, strict=True)]
    return torch.stack(damaged) if damaged else images.cpu().clone()

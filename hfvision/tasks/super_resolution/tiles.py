"""Images of any size through a network in bounded memory: pixels in, strips of the upscaled pixels out.

The overlap of tiles, and why they give the bits of the whole image, are in `models.srgan.tiles_srgan`.
"""

from collections.abc import Iterator
from functools import partial
from math import ceil, floor
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from ...models.srgan.image_processing_srgan import to_grey, to_integers
from ...models.srgan.tiles_srgan import GuardedNetwork, automatic_tile, cell_side, receptive_radius, upscale_strips

Precision = Literal["auto", "fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_dtype(precision: Precision, device: torch.device, depth: int = 8) -> torch.dtype:
    """The dtype of convolutions.

    `auto` is bf16 on CPUs that compute in it and on GPUs, and fp32 elsewhere; fp32 too for images of 16 bits, whose
    last bits half precision would not reach.

    Raises:
        ValueError: for another name.
    """
    if precision != "auto":
        if precision not in DTYPES:
            raise ValueError(f"dtype must be auto, {', '.join(DTYPES)}; got {precision!r}.")
        return DTYPES[precision]
    if depth > 8:
        return torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() else torch.float32


def upscale_pixels(
    pixels: np.ndarray,
    model: Any,
    *,
    size: tuple[int, int] | None = None,
    tile: int | None = None,
    precision: Precision = "auto",
) -> Iterator[np.ndarray]:
    """The upscaled image from top to bottom, strip by strip, so that its whole never needs to be in memory.

    Args:
        pixels: uint8 or uint16 (H, W, C), C of 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGBA).
        model: has `config.scale` and gives an output with `reconstruction` when it is called with `pixel_values`.
        size: (width, height) of the result, to which the network's output is resampled (Lanczos); `scale` times the
            image's where not given.
        tile: side of the tiles in pixels of the input; automatic where not given.
        precision: see [`choose_dtype`]. In `fp32` on a CPU the result is that of the whole image, bit by bit (GELU
            and SiLU on many threads: within 1e-7, before rounding).

    Yields:
        uint8 or uint16 (rows, width, C), rows of the result.

    Raises:
        ValueError: for other pixels, or tiles that are all overlap.
    """
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4) or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"Pixels must be uint8 or uint16 (H, W, 1 to 4), got {pixels.dtype} {pixels.shape}.")
    if min(pixels.shape) < 1:
        raise ValueError(f"An image of {pixels.shape[1]}×{pixels.shape[0]} pixels has nothing to upscale.")
    (height, width, channels), scale = pixels.shape, model.config.scale
    network_channels = getattr(model.config, "num_channels", 3)
    device = torch.device(getattr(model, "device", "cpu"))
    run = GuardedNetwork(model, choose_dtype(precision, device, 8 * pixels.itemsize))
    radius = receptive_radius(model.config)
    side = tile or (max(height, width) if radius is None else automatic_tile(model, 1 + (channels in (2, 4))))

    def window(rows: slice, columns: slice) -> torch.Tensor:
        return as_planes(pixels[rows, columns], network_channels)

    # By map, as the variable of a loop would hold on to a strip while the next one is computed.
    strips = upscale_strips(run, window, (height, width), scale, radius, side, cell_side(model.config))
    strips = map(partial(from_planes, channels=channels), strips)
    whole = (width * scale, height * scale)
    if size is not None and size != whole:
        strips = resample_strips(strips, whole, size)
    yield from map(partial(to_integers, dtype=pixels.dtype.type), strips)


def as_planes(pixels: np.ndarray, channels: int) -> torch.Tensor:
    """uint8 or uint16 (H, W, 1 to 4) as float (1 or 2, channels, H, W) in [0, 1]; alpha, if any, is the second."""
    values = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1) / np.iinfo(pixels.dtype).max
    planes = [values[:-1], values[-1:]] if len(values) in (2, 4) else [values]
    planes = [to_grey(plane) if len(plane) > channels else plane.expand(channels, -1, -1) for plane in planes]
    return torch.stack(planes)


def from_planes(strip: torch.Tensor, channels: int) -> torch.Tensor:
    """The reverse of [`as_planes`]: float (1 or 2, C, H, W), clamped in place, to (channels, H, W) in [0, 1]."""
    strip.clamp_(0, 1)
    planes = [to_grey(plane) if len(plane) == 3 else plane for plane in strip]
    if channels > 2:
        planes[0] = strip[0].expand(3, -1, -1)
    return planes[0] if len(planes) == 1 else torch.cat(planes)


def resample_strips(
    strips: Iterator[torch.Tensor], whole: tuple[int, int], size: tuple[int, int]
) -> Iterator[torch.Tensor]:
    """Strips (C, rows, width) of an image of size `whole` (width, height), resampled by Lanczos to `size`, as strips.

    No more rows are kept than the filter reaches; the result is that of resampling the image whole, but for rounding.
    """
    ratio = whole[1] / size[1]
    reach = ceil(3 * max(ratio, 1)) + 1
    done, begin, kept = 0, 0, None
    for strip in strips:
        kept = strip if kept is None else torch.cat([kept, strip], 1)
        end = begin + kept.shape[1]
        ready = size[1] if end == whole[1] else max(floor((end - reach) / ratio), done)
        if ready > done:
            box = (0, done * ratio - begin, whole[0], min(ready * ratio - begin, kept.shape[1]))
            planes = [
                Image.fromarray(plane.contiguous().numpy()).resize(
                    (size[0], ready - done), Image.Resampling.LANCZOS, box=box
                )
                for plane in kept
            ]
            yield torch.stack([torch.from_numpy(np.array(plane)) for plane in planes])
            done = ready
            unneeded = min(max(floor(done * ratio) - reach - begin, 0), kept.shape[1])
            kept, begin = kept[:, unneeded:], begin + unneeded


__all__ = ["Precision", "choose_dtype", "upscale_pixels"]

"""Upscalers on a whole video: PSNR against the original, and how much of what stands still flickers."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_image

from ...data.transforms.resize import downscale, modcrop
from ...metrics.flicker import flicker, static_pixels
from ...metrics.psnr import psnr
from ..super_resolution.baselines import Upscaler


def to_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) as float32 (1, 3, H, W) in [0, 1]."""
    return to_image(pixels)[None].float() / 255


class TemporalEvaluation:
    """Compares upscalers on the frames of a video that is made small first; two frames are in memory at a time.

    The small frames are the originals through MATLAB's bicubic, rounded to 8 bits, as in the field's protocol for
    photographs. Flicker is measured where the small frames stand still, see [`metrics.flicker`].

    Args:
        upscalers: of one scale; each named once.

    Raises:
        ValueError: for none, or several scales.
    """

    def __init__(self, upscalers: Sequence[Upscaler]):
        scales = {upscaler.scale for upscaler in upscalers}
        if len(scales) != 1:
            raise ValueError(f"The upscalers must be of one scale, got {sorted(scales) or 'none'}.")
        self.upscalers = list(upscalers)
        self.scale = scales.pop()
        self.frames = 0
        self.static, self.pixels = 0, 0
        self.psnr = {upscaler.name: 0.0 for upscaler in upscalers}
        self.change = dict.fromkeys(["original", *self.psnr], 0.0)
        self.last: dict[str, Tensor] = {}

    def run(self, frames: Iterable[np.ndarray], count: int | None = None) -> Iterator[dict[str, Tensor]]:
        """Measure frame after frame.

        Args:
            frames: uint8 RGB (H, W, 3), the originals; sides are cut to multiples of the scale.
            count: how many at most.

        Yields:
            For each frame float32 (1, 3, H, W) of 8 bits by name: `small` (a `scale`-th as large), `original`, and
            the result of each upscaler.
        """
        for pixels in islice(frames, count):
            original = modcrop(to_tensor(pixels), self.scale)
            now = {"small": downscale(original, self.scale), "original": original}
            now |= {upscaler.name: upscaler(now["small"]) for upscaler in self.upscalers}
            self.frames += 1
            for name in self.psnr:
                self.psnr[name] += psnr(now[name], original, crop=self.scale).item()
            if self.last:
                static, count_static = static_pixels(self.last["small"], now["small"]), torch.tensor(0)
                for name in self.change:
                    change, count_static = flicker(self.last[name], now[name], static)
                    self.change[name] += change.item()
                self.static += count_static.item()
                self.pixels += original.shape[-2] * original.shape[-1]
            self.last = now
            yield now

    def record(self) -> dict[str, Any]:
        """`frames`, `scale`, `static` (share of all pixels), and by name `psnr` (dB, mean over frames) and `flicker`
        (mean change of luma, of 255, NaN where nothing stands still), that of the `original` beside them."""
        levels = 255 / self.static if self.static else torch.nan
        return {
            "frames": self.frames,
            "scale": self.scale,
            "static": self.static / max(1, self.pixels),
            "psnr": {name: total / max(1, self.frames) for name, total in self.psnr.items()},
            "flicker": {name: levels * total for name, total in self.change.items()},
        }

"""Moving pictures made of photographs: a camera that pans and zooms over them."""

from collections.abc import Iterator

import numpy as np
from PIL import Image


def camera_move(
    photo: Image.Image,
    count: int,
    size: tuple[int, int] = (320, 180),
    start: tuple[float, float, float] = (0.5, 0.5, 1.0),
    end: tuple[float, float, float] = (0.5, 0.5, 0.8),
) -> Iterator[np.ndarray]:
    """Frames of a steady camera move over a photograph.

    Args:
        photo: of any size, in RGB.
        count: frames.
        size: (width, height) of the frames in pixels.
        start, end: what the first and the last frame show: the centre, as shares of the photograph's width and
            height, and the size, as a share of the largest part of the photograph that has the frames' shape. Parts
            that would reach over the edge are moved inside.

    Yields:
        uint8 RGB (height, width, 3).
    """
    widest = min(photo.width, photo.height * size[0] / size[1])
    for number in range(count):
        done = number / max(1, count - 1)
        x, y, part = (a + (b - a) * done for a, b in zip(start, end, strict=True))
        width = widest * min(1.0, part)
        height = width * size[1] / size[0]
        left = max(min(x * photo.width - width / 2, photo.width - width), 0)
        top = max(min(y * photo.height - height / 2, photo.height - height), 0)
        box = (left, top, min(left + width, photo.width), min(top + height, photo.height))
        yield np.asarray(photo.resize(size, Image.Resampling.BICUBIC, box=box))

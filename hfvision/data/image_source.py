"""An image from wherever it is: a file, an address, bytes, PIL, or an array."""

import re
import urllib.error
import urllib.request
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from ..utils.errors import one_line
from .io.images import MAX_PIXELS, read_image, to_pil

ImageLike: TypeAlias = str | PathLike[str] | bytes | Image.Image | np.ndarray
MAX_BYTES = 200_000_000
TIMEOUT = 30  # seconds without an answer


def load_image(image: ImageLike, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An image, upright, in the mode L, LA, RGB, RGBA or I;16; see [`read_image`].

    >>> load_image(hfvision.sample_photos()["cat"]).size
    (451, 300)
    >>> load_image(np.zeros((20, 30, 3), dtype=np.uint8)).size
    (30, 20)

    Args:
        image: path; address (`https://…`); bytes of a file; PIL image; or array, uint8 (H, W) or (H, W, C) of grey,
            grey and alpha, RGB or RGBA, or uint16 (H, W).
        max_pixels: larger images are refused before they are decoded.

    Raises:
        FileNotFoundError: if there is no such file.
        ConnectionError: if an address cannot be reached.
        TypeError: for something else.
        ValueError: if it is no readable image, too large, or an array of another kind.
    """
    if isinstance(image, np.ndarray):
        return from_array(image)
    if not isinstance(image, str | PathLike | bytes | Image.Image):
        raise TypeError(
            f"An image must be a path, an address, bytes, a PIL image or an array, got {type(image).__name__}."
        )
    return read_image(image_file(image), max_pixels=max_pixels)


def image_file(image: str | PathLike[str] | bytes | Image.Image) -> Path | bytes | Image.Image:
    """A path, or the bytes of an address; what is neither, as it is."""
    if isinstance(image, str) and re.match(r"https?://", image, re.IGNORECASE):
        return fetch(image)
    return Path(image) if isinstance(image, str | PathLike) else image


def fetch(address: str) -> bytes:
    """The file at an http address.

    Raises:
        ConnectionError: if it cannot be reached.
        ValueError: if there is no such file, or it has more than 200 MB.
    """
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:
            data = answer.read(MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        raise ValueError(f"{address} cannot be read: {error.code} {error.reason}.") from error
    except (OSError, ValueError) as error:
        raise ConnectionError(f"{address} cannot be reached: {one_line(error)}") from error
    if len(data) > MAX_BYTES:
        raise ValueError(f"{address} has more than {MAX_BYTES:,} bytes.")
    return data


def from_array(pixels: np.ndarray) -> Image.Image:
    wide = pixels[..., None] if pixels.ndim == 2 else pixels
    deep = pixels.dtype == np.uint16 and wide.shape[-1] == 1
    if (
        wide.ndim != 3
        or wide.shape[2] not in (1, 2, 3, 4)
        or 0 in wide.shape
        or not (deep or pixels.dtype == np.uint8)
    ):
        raise ValueError(
            f"An array must be uint8 (H, W) or (H, W, 1 to 4), or uint16 (H, W), got {pixels.dtype} {pixels.shape}."
        )
    return to_pil(wide)


__all__ = ["ImageLike", "image_file", "load_image"]

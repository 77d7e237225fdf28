"""Reads one image from a path, a URL, bytes or an array, in its own mode."""

from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image, UnidentifiedImageError

# Of the formats that Pillow reads and that hold photographs.
SUFFIXES = {
    *(
        ".apng",
        ".avif",
        ".avifs",
        ".bmp",
        ".dib",
        ".gif",
        ".j2c",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpc",
        ".jpe",
        ".jpeg",
        ".jpf",
    ),
    *(".jpg", ".jpx", ".mpo", ".pbm", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
}
SHORTEST_BASE64 = 40  # characters: no image file is of fewer than 30 bytes


def open_image(source: str | Path | bytes | np.ndarray | Image.Image, timeout: float | None = None) -> Image.Image:
    """The image, loaded, in its own mode: `transformers.image_utils.load_image` would make it RGB of 8 bits.

    Args:
        source: see [`SuperResolutionPipeline`].
        timeout: seconds to wait for the server of a URL.

    Raises:
        ConnectionError: if a URL cannot be fetched.
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as an image, or holds colours of 16 bits.
    """
    if isinstance(source, np.ndarray):
        return from_array(source)
    if isinstance(source, Image.Image) and not is_deep(source):
        return source
    name = str(source) if isinstance(source, str | Path) and len(str(source)) < 300 else "The image"
    try:
        image = source if isinstance(source, Image.Image) else Image.open(fetch(source, timeout))
        deep = is_deep(image)
        image.load()
    except (ConnectionError, FileNotFoundError):
        raise
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise ValueError(f"{name} cannot be read as an image: {error}") from None
    if deep:
        raise ValueError(f"{name} has colours of 16 bits, which Pillow cuts to 8: `hfvision upscale` keeps them.")
    return image


def fetch(source: str | Path | bytes, timeout: float | None) -> str | Path | BytesIO:
    """The path of a file, or the content of what is no file."""
    if isinstance(source, bytes):
        return BytesIO(source)
    text = str(source)
    if text.startswith("data:"):
        text = text.partition(",")[2]
    elif text.startswith(("http://", "https://")):
        try:
            with urlopen(Request(text, headers={"User-Agent": "transformers"}), timeout=timeout) as answer:
                return BytesIO(answer.read())
        except OSError as error:
            raise ConnectionError(f"{text} cannot be fetched: {getattr(error, 'reason', error)}") from None
    elif len(text) < 1000 and Path(text).exists():
        return source
    try:
        if len(text) >= SHORTEST_BASE64:
            return BytesIO(b64decode(text, validate=True))
    except ValueError:
        pass
    raise FileNotFoundError(f"There is no file {text[:300]}, and it is neither a URL nor base64.")


def from_array(array: np.ndarray) -> Image.Image:
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    if not (array.dtype == np.uint8 and array.ndim in (2, 3)) and not (array.dtype == np.uint16 and grey):
        raise ValueError(
            "An array must be (height, width, channels) or (height, width), of uint8 or, where it is grey, of uint16; "
            f"got {array.shape} of {array.dtype}."
        )
    try:
        return Image.fromarray(array.reshape(array.shape[:2]) if grey else array)
    except TypeError:
        raise ValueError(f"An array of {array.shape[2]} channels is no image.") from None


def is_deep(image: Any) -> bool:
    """Whether a file just opened holds colour, or transparent grey, of more bits than the 8 that Pillow loads."""
    if image.mode.startswith(("I", "F")) or not getattr(image, "tile", None):
        return False
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (8,))) > 8
    arguments = image.tile[0].args
    raw = arguments if isinstance(arguments, str) else arguments and arguments[0]
    if image.format == "PPM":
        return not isinstance(arguments, str) and arguments[-1] > 255
    return image.format == "PNG" and ";16" in str(raw)

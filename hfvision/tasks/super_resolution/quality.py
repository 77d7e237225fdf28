"""How a photograph was stored: by a lossy format, of which quality, how noisy."""

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from ...data.io.images import MAX_PIXELS, open_image, read_photo
from ...metrics.artifacts import blockiness, estimate_noise

LOSSY_FORMATS = frozenset({"JPEG", "MPO", "AVIF", "HEIF"})
LOSSLESS_FORMATS = frozenset({"PNG", "BMP", "DIB", "PPM"})
# The luma table of the JPEG standard (ITU-T T.81, table K.1), which libjpeg scales by quality.
STANDARD_LUMA = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)


ImageSource = str | Path | bytes | BinaryIO | Image.Image | np.ndarray


@dataclass(frozen=True)
class SourceQuality:
    """What a file and its pixels tell of their quality.

    Attributes:
        format: Pillow's name of the format, `None` for pixels without a file.
        lossy: whether the format lost information; None where it does not tell.
        jpeg_quality: 1 to 100 on libjpeg's scale, from the quantization table; None for other formats.
        noise: see [`estimate_noise`].
        blockiness: see [`blockiness`].
    """

    format: str | None
    lossy: bool | None
    jpeg_quality: int | None
    noise: float
    blockiness: float


def source_quality(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> SourceQuality:
    """The quality of an image file or of pixels.

    Args:
        source: path, bytes, file object, PIL image, or uint8 or uint16 array (H, W, C).
        max_pixels: larger images are refused before they are decoded.

    Raises:
        FileNotFoundError, ValueError, ImportError: as [`read_photo`].
    """
    if isinstance(source, np.ndarray):
        return of_pixels(source, None, None, None)
    with open_image(source, max_pixels) as image:
        told = image.format, is_lossy(image, source), jpeg_quality(image)
    if isinstance(source, io.IOBase):
        source.seek(0)
    return of_pixels(read_photo(source, max_pixels=max_pixels).pixels, *told)


def of_pixels(pixels: np.ndarray, format: str | None, lossy: bool | None, quality: int | None) -> SourceQuality:
    return SourceQuality(format, lossy, quality, estimate_noise(pixels), blockiness(pixels))


def is_lossy(image: Image.Image, source: str | Path | bytes | BinaryIO | Image.Image) -> bool | None:
    """Whether an opened file's format loses information; None where it does not tell (GIF, JPEG 2000, no file)."""
    if image.format in LOSSY_FORMATS:
        return True
    if image.format in LOSSLESS_FORMATS:
        return False
    if image.format == "TIFF":
        return image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")
    if image.format == "WEBP" and not isinstance(source, Image.Image):
        return b"VP8 " in chunks_of(read_start(source))
    return None


def read_start(source: str | Path | bytes | BinaryIO) -> bytes:
    if isinstance(source, str | Path):
        return Path(source).read_bytes()
    if isinstance(source, bytes | bytearray):
        return bytes(source)
    source.seek(0)
    return source.read()


def chunks_of(data: bytes) -> set[bytes]:
    """The names of the chunks of a WebP file (RFC 9649), with those in its animation frames."""
    names: set[bytes] = set()
    places = [(12, len(data))]
    while places:
        start, end = places.pop()
        while start + 8 <= end:
            name, size = data[start : start + 4], int.from_bytes(data[start + 4 : start + 8], "little")
            names.add(name)
            if name == b"ANMF":
                places.append((start + 24, min(end, start + 8 + size)))
            start += 8 + size + size % 2
    return names


def jpeg_quality(image: Image.Image) -> int | None:
    """The quality on libjpeg's scale whose luma table is nearest to that of a JPEG; None for another format."""
    tables = getattr(image, "quantization", None)
    if not tables:
        return None
    steps = sorted(tables[min(tables)])
    return min(
        range(100, 0, -1), key=lambda quality: sum(abs(a - b) for a, b in zip(steps, scaled(quality), strict=False))
    )


@cache
def scaled(quality: int) -> list[int]:
    """The steps of libjpeg's luma table of a quality, in ascending order."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return sorted(max(1, min(255, (step * percent + 50) // 100)) for step in STANDARD_LUMA)

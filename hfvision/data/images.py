"""Reads image files of every kind into PIL images of a few well-defined modes."""

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ..models.image_processing_classification import flatten_pil
from ..models.srgan.pipeline_srgan import SUFFIXES

IMAGE_SUFFIXES = frozenset(SUFFIXES)
# None that runs a program, as EPS does.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
MAX_PIXELS = 178_000_000


def find_images(path: str | Path) -> list[Path]:
    """The image `path`, or the images in the folder `path` and below it, sorted.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if the folder holds no file with one of `IMAGE_SUFFIXES`.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    found = sorted(
        p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file() and p.name[0] != "."
    )
    if not found:
        raise ValueError(f"The folder {path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    return found


def read_image(source: str | Path | bytes | BinaryIO | Image.Image, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image upright, in the mode L, LA, RGB, RGBA or I;16.

    EXIF orientation is applied; of an animation the first frame is taken; an ICC profile is kept in
    `.info["icc_profile"]`. Palettes become RGB, or RGBA with transparency; black and white becomes L; 16-bit grey
    stays so; CMYK, YCbCr, LAB and HSV become RGB, CMYK through its ICC profile where it has one. Pillow reads 16-bit
    colour files as 8-bit ones, and so does this function.

    Args:
        source: path, bytes, file object or PIL image.
        max_pixels: larger images are refused before they are decoded.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no readable image, cut off, too large, or of floating-point pixels.
    """
    name = str(source) if isinstance(source, str | Path) else getattr(source, "name", "The image")
    if isinstance(source, Image.Image):
        opened = nullcontext(source)
    else:
        if isinstance(source, str | Path):
            if Path(source).is_dir():
                raise ValueError(f"{name} is a folder: give an image file.")
            if not Path(source).exists():
                raise FileNotFoundError(f"There is no file {name}.")
            if Path(source).stat().st_size == 0:
                raise ValueError(f"{name} is empty.")
        elif isinstance(source, bytes | bytearray):
            source = io.BytesIO(source)
        with pillow_errors(name, max_pixels):
            opened = Image.open(source, formats=FORMATS)
    with opened as image:
        return normalise_mode(image, name, max_pixels)


@contextmanager
def pillow_errors(name: str, max_pixels: int) -> Iterator[None]:
    """What Pillow raises for a file it cannot read, as one ValueError; nothing of ours may be raised inside."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Image.DecompressionBombError:
        raise ValueError(f"{name} claims more pixels than can be read: at most {max_pixels:,} are.") from None
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not an image, or of a kind that Pillow cannot read.") from None
    except PermissionError:
        raise ValueError(f"{name} may not be read: permission denied.") from None
    except (
        *(OSError, SyntaxError, EOFError, MemoryError, TypeError, ValueError, RuntimeError, LookupError),
        *(OverflowError, struct.error),
    ) as error:
        raise ValueError(f"{name} is damaged or cut off: {error}.") from None


def normalise_mode(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    width, height = image.size
    if width * height > max_pixels:
        raise ValueError(
            f"{name} has {width}×{height} pixels: at most {max_pixels:,} are read. Make it smaller first."
        )
    profile = image.info.get("icc_profile") if image.mode != "LAB" else None
    with pillow_errors(name, max_pixels):
        image.load()
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError(f"{name} has floating-point pixels: convert it to 8 or 16 bits first.")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"{name} has values from {values.min()} to {values.max()}: scale it to 0..65535 first.")
        image = Image.fromarray(values.astype(np.uint16))
    elif image.mode in ("1", "L", "LA", "La"):
        image = image.convert("LA" if image.has_transparency_data else "L")
    elif image.mode == "CMYK" and profile:
        image, profile = cmyk_to_srgb(image, profile), None
    else:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image.info = {"icc_profile": profile} if profile else {}
    return image


def cmyk_to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image.convert("RGB")


def to_rgb(image: Image.Image) -> Image.Image:
    """An image as a person sees it, as 8-bit RGB: upright, laid on white where transparent, 16 bits brought to 8."""
    return flatten_pil(image, "RGB")

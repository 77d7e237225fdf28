"""Reads image files of every kind into PIL images of a few well-defined modes."""

import ctypes
import io
import os
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, TiffImagePlugin, UnidentifiedImageError

from ...models.image_processing_classification import flatten_pil
from ...models.srgan.image_reading import SUFFIXES, is_deep

# Photographs of phones, which Pillow reads where the plugin is installed.
HEIF_SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
INSTALL_HEIF = "pip install 'hfvision[heif]'"
# None that runs a program, as EPS does.
FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF"]
IMAGE_SUFFIXES = frozenset(SUFFIXES)
try:
    from pillow_heif import register_heif_opener
except ImportError:
    pass
else:
    register_heif_opener()
    FORMATS.append("HEIF")
    IMAGE_SUFFIXES |= HEIF_SUFFIXES
RAW_SUFFIXES = frozenset({".3fr", ".arw", ".cr2", ".dng", ".erf", ".iiq", ".nef", ".nrw", ".pef", ".sr2", ".srw"})
DNG_VERSION, NEW_SUBFILE_TYPE = 50706, 254  # tags of TIFF
MAX_PIXELS = 178_000_000
# What a photograph's EXIF says of more than how its file is built.
EXIF_TAGS = (
    *(ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software),
    *(ExifTags.Base.DateTime, ExifTags.Base.Artist, ExifTags.Base.Copyright),
)
UPRIGHT = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}


@dataclass(frozen=True)
class Photo:
    """An image in full depth, upright.

    Attributes:
        pixels: uint8 or uint16 (H, W, C); C of 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGBA).
        metadata: what there is of `icc_profile`, `exif` (without orientation and sizes), `xmp` and `comment` (bytes),
            `dpi` (two numbers) and `text` (dict of str).
    """

    pixels: np.ndarray
    metadata: dict[str, Any]


def read_image(source: str | Path | bytes | BinaryIO | Image.Image, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image upright, in the mode L, LA, RGB, RGBA or I;16.

    EXIF orientation is applied; of several frames or pages the first is taken, with a warning; an ICC
    profile is kept in `.info["icc_profile"]`. Palettes become RGB, or RGBA with transparency; black and white becomes
    L; 16-bit grey stays so; CMYK, YCbCr, LAB and HSV become RGB, CMYK through its ICC profile where it has one. A PIL
    image holds colour of 8 bits: of 16 bits the upper ones are read; [`read_photo`] reads them all.

    Args:
        source: path, bytes, file object or PIL image.
        max_pixels: larger images are refused before they are decoded.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no readable image, cut off, too large, or of floating-point pixels.
    """
    with open_image(source, max_pixels) as image:
        warn_of_frames(image, name_of(source))
        return normalise_mode(image, name_of(source), max_pixels)


def read_photo(source: str | Path | bytes | BinaryIO | Image.Image, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read an image in the depth that it has, with its metadata.

    As [`read_image`], but colour of 16 bits in PNG, TIFF and PPM files keeps its 16 bits, through PyAV. CMYK files and
    what Pillow alone reads (JPEG 2000, AVIF) become 8 bits.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no readable image, cut off, too large, or of floating-point pixels.
        ImportError: if it takes PyAV and that is not installed.
    """
    name = name_of(source)
    with open_image(source, max_pixels) as image:
        warn_of_frames(image, name)
        deep = is_deep(image) and image.mode != "CMYK"
        if deep and isinstance(source, Image.Image):
            raise ValueError("Pillow would cut this image's 16 bits to 8: give the file itself.")
        deep_file = None if not deep or isinstance(source, Image.Image) else source
        check_size(image, name, max_pixels)
        with pillow_errors(name, max_pixels):
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            metadata = metadata_of(image)
        if deep_file is None:
            image = normalise_mode(image, name, max_pixels)
            if "icc_profile" not in image.info:
                metadata.pop("icc_profile", None)
            pixels = np.asarray(image)
            return Photo(pixels.reshape(*pixels.shape[:2], -1), metadata)
        pixels = read_deep(deep_file, image, name, max_pixels)
    return Photo(np.ascontiguousarray(UPRIGHT.get(orientation, np.asarray)(pixels)), metadata)


def read_deep(source: str | Path | bytes | BinaryIO, image: Image.Image, name: str, max_pixels: int) -> np.ndarray:
    """The pixels of a file of 16-bit colour, opened by Pillow as `image`: uint16 (H, W, C), as of [`Photo`].

    What Pillow reads are the upper 8 bits, and must agree: FFmpeg gives noise for some TIFF files.
    """
    try:
        import av
        import av.error
    except ImportError:
        raise ImportError(
            f"{name} has colours of 16 bits, which are read by PyAV: pip install 'hfvision[video]'"
        ) from None
    with pillow_errors(name, max_pixels):
        image.load()
    if isinstance(source, str | Path):
        data = Path(source).read_bytes()
    elif isinstance(source, bytes | bytearray):
        data = source
    else:
        source.seek(0)
        data = source.read()
    parts, pixels = 0, None
    try:
        with av.open(io.BytesIO(data), "r") as container:
            frame = next(container.decode(video=0))
            parts = len(frame.format.components)
            pixels = frame.to_ndarray(format="rgba64le").astype(np.uint16, copy=False)
    except (av.error.FFmpegError, StopIteration, ValueError):
        pass
    upper = np.asarray(image.convert("RGBA"))[..., :3]
    if pixels is None or pixels.shape[:2] != upper.shape[:2] or ((pixels[..., :3] >> 8) != upper).any():
        raise ValueError(f"{name} has colours of 16 bits in a form that is not read here: save it as a plain PNG.")
    kept = ([0] if parts < 3 else [0, 1, 2]) + ([3] if image.has_transparency_data else [])
    return pixels[..., kept]


def metadata_of(image: Image.Image) -> dict[str, Any]:
    """See [`Photo`]."""
    info = image.info
    metadata = {name: info[name] for name in ("icc_profile", "dpi", "comment") if info.get(name)}
    if not all(0 < float(dots) < float("inf") for dots in metadata.get("dpi", ())):
        del metadata["dpi"]  # damaged, or 0, which says that it is not known
    exif, kept = image.getexif(), Image.Exif()
    kept.update({tag: exif[tag] for tag in EXIF_TAGS if tag in exif})
    for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        sizes = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight, ExifTags.IFD.Interop)
        if found := {tag: value for tag, value in exif.get_ifd(part).items() if tag not in sizes}:
            kept[part] = found
    with suppress(ValueError, TypeError, struct.error):  # entries of wrong types, which some cameras write
        if kept:
            metadata["exif"] = kept.tobytes()
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    if xmp:
        xmp = xmp if isinstance(xmp, bytes) else xmp.encode()
        metadata["xmp"] = re.sub(rb"tiff:Orientation(=\"|>)[0-9]", rb"tiff:Orientation\g<1>1", xmp)
    if text := {k: v for k, v in getattr(image, "text", {}).items() if k != "XML:com.adobe.xmp"}:
        metadata["text"] = text
    return metadata


def name_of(source: Any) -> str:
    return str(source) if isinstance(source, str | Path) else getattr(source, "name", "The image")


def open_image(
    source: str | Path | bytes | BinaryIO | Image.Image, max_pixels: int
) -> AbstractContextManager[Image.Image]:
    """A file, opened but not decoded."""
    name = name_of(source)
    if isinstance(source, Image.Image):
        opened = nullcontext(source)
    else:
        if isinstance(source, str | Path):
            if Path(source).is_dir():
                readable = os.access(source, os.R_OK | os.X_OK)
                problem = "is a folder: give an image file" if readable else "may not be read: permission denied"
                raise ValueError(f"{name} {problem}.")
            if not Path(source).exists():
                raise FileNotFoundError(f"There is no file {name}.")
            if Path(source).stat().st_size == 0:
                raise ValueError(f"{name} is empty.")
        elif isinstance(source, bytes | bytearray):
            if not source:
                raise ValueError("The file is empty.")
            source = io.BytesIO(source)
        silence_libtiff()
        try:
            with pillow_errors(name, max_pixels):
                opened = Image.open(source, formats=FORMATS)
            if is_raw(opened, name):
                opened.close()
                raise ValueError(f"{name} is a camera's raw file, which is not read: develop it to TIFF or PNG first.")
        except ValueError:
            if kind := tiff_numbers(source):
                raise ValueError(f"{name} has {kind}: convert it to 8 or 16 bits first.") from None
            raise
    return opened


def is_raw(image: Image.Image, name: str) -> bool:
    """Whether a TIFF file called `name` is a camera's raw file, of which Pillow reads a small preview alone."""
    if image.format != "TIFF":
        return False
    if Path(name).suffix.lower() in RAW_SUFFIXES:
        return True
    tags: Any = getattr(image, "tag_v2", {})
    with suppress(Exception):
        return DNG_VERSION in tags or bool(tags.get(NEW_SUBFILE_TYPE, 0) & 1)  # reduced: the image itself is elsewhere
    return False


def warn_of_frames(image: Image.Image, name: str) -> None:
    """Warn of an animation or of several pages; not of MPO, whose other pictures belong to the first."""
    several = False
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        several = image.format != "MPO" and getattr(image, "is_animated", False)
    if several:
        what = "pages" if image.format == "TIFF" else "frames"
        warnings.warn(f"{name} has several {what}: only the first is read.", stacklevel=4)


@cache
def silence_libtiff() -> None:
    """Keep libtiff from printing to the standard error: what Pillow raises says enough."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(Image.core.__file__)  # symbols are looked up in the libraries that it is linked to
        library.TIFFSetErrorHandler(None)
        library.TIFFSetWarningHandler(None)


def tiff_numbers(source: str | Path | BinaryIO) -> str | None:
    """What kind of numbers a TIFF file holds that Pillow cannot open; None for another file or reason."""
    if isinstance(source, str | Path):
        with suppress(OSError), Path(source).open("rb") as file:
            return tiff_numbers(file)
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source.seek(0)
            header = source.read(8)
            if header[:4] not in (b"II*\0", b"MM\0*"):
                return None
            directory = TiffImagePlugin.ImageFileDirectory_v2(header)
            source.seek(directory.next)
            directory.load(source)
        kind, bits = directory.get(339, (1,))[0], max(directory.get(258, (1,)))
    except Exception:
        return None
    if kind == 3:
        return "floating-point pixels"
    if kind in (5, 6):
        return "complex numbers as pixels"
    if kind == 2:
        return "signed numbers as pixels"
    return f"pixels of {bits} bits" if bits > 16 else None


def to_pil(pixels: np.ndarray) -> Image.Image:
    """uint8 (H, W, 1 to 4), or uint16 (H, W, 1), as PIL image.

    Raises:
        ValueError: for colour or transparency of 16 bits, which PIL images cannot hold.
    """
    if pixels.dtype == np.uint16 and pixels.shape[2] > 1:
        raise ValueError("A PIL image holds colour of 8 bits.")
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


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
        if Path(name).suffix.lower() in HEIF_SUFFIXES - IMAGE_SUFFIXES:
            raise ValueError(f"{name} is an HEIF image, which takes another package: {INSTALL_HEIF}") from None
        raise ValueError(f"{name} is not an image, or of a kind that Pillow cannot read.") from None
    except PermissionError:
        raise ValueError(f"{name} may not be read: permission denied.") from None
    except (
        *(OSError, SyntaxError, EOFError, MemoryError, TypeError, ValueError, RuntimeError, LookupError),
        *(OverflowError, struct.error),
    ) as error:
        raise ValueError(f"{name} is damaged or cut off: {error}.") from None


def check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ValueError(
            f"{name} has {width}×{height} pixels: at most {max_pixels:,} are read. Make it smaller first."
        )


def normalise_mode(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    check_size(image, name, max_pixels)
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
        made = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        return made or image.convert("RGB")
    except (ImageCms.PyCMSError, OSError):
        return image.convert("RGB")


def to_rgb(image: Image.Image) -> Image.Image:
    """An image as a person sees it, as 8-bit RGB: upright, laid on white where transparent, 16 bits brought to 8."""
    return flatten_pil(image, "RGB")

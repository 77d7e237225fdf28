"""Writes image files strip by strip: PNG and TIFF of 8 or 16 bits without the whole image in memory."""

import io
import itertools
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

from .images import to_pil

LOSSY = {"quality": 95}
TIFF_ROWS = 64
WRITABLE = frozenset({"AVIF", "BMP", "DIB", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"})
NO_ALPHA = frozenset({"BMP", "DIB", "JPEG", "PPM"})
LARGEST_SIDE = {"JPEG": 65_535, "WEBP": 16_383}


def write_image(path: Path, strips: Iterator[np.ndarray], size: tuple[int, int], metadata: dict[str, Any]) -> None:
    """Write an image in the format of the path's suffix; PNG and TIFF as strips come, others once all are there.

    Args:
        path: the file, which is replaced.
        strips: uint8 or uint16 (rows, width, C) from top to bottom; C of 1 (grey), 2 (grey and alpha), 3 or 4.
        size: (width, height) of the image.
        metadata: as [`images.read_photo`] gives it, without what the format cannot hold: see [`split_metadata`].

    Raises:
        ValueError, OSError: if the format (see [`check_format`]) or the disk cannot hold it.
    """
    with path.open("wb") as file:
        write_to(file, path.suffix, strips, size, metadata)


def write_to(
    file: BinaryIO, suffix: str, strips: Iterator[np.ndarray], size: tuple[int, int], metadata: dict[str, Any]
) -> None:
    """As [`write_image`], to an open file."""
    write = STREAMED.get(suffix.lower())
    if write is not None:
        first = next(strips)
        write(file, itertools.chain([first], strips), size, first, metadata)
        return
    image = to_pil(np.concatenate(list(strips)))
    options = {name: metadata[name] for name in ("icc_profile", "exif", "xmp", "dpi", "comment") if name in metadata}
    image.save(file, Image.registered_extensions()[suffix.lower()], **options, **LOSSY)


def split_metadata(
    suffix: str, pixels: np.ndarray, metadata: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, str | None]]:
    """What a format can hold of an image's metadata, and the rest.

    Each entry is written to a small file of the format and read again, so that none, however odd, can spoil a file.

    Args:
        suffix: of the format.
        pixels: uint8 or uint16 (H, W, C) of the kind that is to be written.
        metadata: as [`images.read_photo`] gives it.

    Returns:
        The entries to write; and of the others, why they cannot be written, None where the format has no place for
        them.
    """
    sample = np.zeros_like(pixels, shape=(16, 16, pixels.shape[2]))
    kept, left_out = {}, {}
    for name, value in metadata.items():
        file = io.BytesIO()
        try:
            write_to(file, suffix, iter([sample]), (16, 16), {name: value})
            if holds(file, name):
                kept[name] = value
            else:
                left_out[name] = None
        except Exception as error:
            left_out[name] = str(error) or type(error).__name__
    return kept, left_out


def holds(file: io.BytesIO, name: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(file) as image:
            image.load()
            text = getattr(image, "text", {})
            found = {
                "exif": len(image.getexif()) > 0,
                "xmp": "xmp" in image.info or "XML:com.adobe.xmp" in text,
                "text": bool(text),
                "comment": "comment" in image.info or "Comment" in text,
            }
            return found.get(name, name in image.info)


def check_format(path: Path, size: tuple[int, int], pixels: np.ndarray) -> None:
    """Refuse what [`write_image`] could not write: an image of `size` (width, height) with pixels such as these.

    Raises:
        ValueError: says what the format of the path's suffix cannot hold, and what can.
    """
    suffix = path.suffix.lower()
    if suffix in STREAMED:
        return
    format = Image.registered_extensions().get(suffix)
    if format not in WRITABLE & Image.SAVE.keys():
        raise ValueError(f"{path} cannot be written: {suffix or 'no suffix'} is no format for it; choose .png.")
    if pixels.dtype == np.uint16:
        raise ValueError(f"{path} would cut colours of 16 bits to 8: choose .png or .tif.")
    if format in NO_ALPHA and pixels.shape[2] in (2, 4):
        raise ValueError(f"{path} cannot hold transparency: choose .png, .tif or .webp.")
    if max(size) > LARGEST_SIDE.get(format, max(size)):
        raise ValueError(f"{path} cannot hold {size[0]}×{size[1]} pixels: choose .png or .tif.")


def write_png(
    file: BinaryIO, strips: Iterator[np.ndarray], size: tuple[int, int], first: np.ndarray, metadata: dict[str, Any]
) -> None:
    channels, bits = first.shape[2], 8 * first.itemsize
    pixel = channels * first.itemsize
    file.write(b"\x89PNG\r\n\x1a\n")
    PngImagePlugin.putchunk(
        file, b"IHDR", struct.pack(">IIBBBBB", *size, bits, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    )
    if "icc_profile" in metadata:
        PngImagePlugin.putchunk(file, b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata["icc_profile"]))
    if "dpi" in metadata:
        per_metre = (int(float(dots) / 0.0254 + 0.5) for dots in metadata["dpi"])
        PngImagePlugin.putchunk(file, b"pHYs", struct.pack(">IIB", *per_metre, 1))
    if "exif" in metadata:
        PngImagePlugin.putchunk(file, b"eXIf", metadata["exif"].removeprefix(b"Exif\0\0"))
    text = PngImagePlugin.PngInfo()
    if "xmp" in metadata:
        text.add_itxt("XML:com.adobe.xmp", metadata["xmp"].decode("utf-8", "replace"))
    for key, value in metadata.get("text", {}).items():
        text.add_text(key, value)
    if "comment" in metadata:
        text.add_text("Comment", metadata["comment"].decode("latin-1"))
    for kind, data, *_ in text.chunks:
        PngImagePlugin.putchunk(file, kind, data)
    deflate = zlib.compressobj(5)
    above = np.zeros((1, size[0] * pixel), np.uint8)
    for strip in strips:
        rows = np.ascontiguousarray(strip.astype(strip.dtype.newbyteorder(">"))).view(np.uint8).reshape(len(strip), -1)
        PngImagePlugin.putchunk(file, b"IDAT", deflate.compress(filtered(rows, above, pixel).tobytes()))
        above = rows[-1:]
    PngImagePlugin.putchunk(file, b"IDAT", deflate.flush())
    PngImagePlugin.putchunk(file, b"IEND", b"")


def filtered(rows: np.ndarray, above: np.ndarray, pixel: int) -> np.ndarray:
    """Each row after that of PNG's filters Sub, Up and Average which leaves the least, its number before it."""
    upper = np.concatenate([above, rows[:-1]])
    left = np.zeros_like(rows)
    left[:, pixel:] = rows[:, :-pixel]
    average = (left & upper) + ((left ^ upper) >> 1)
    candidates = {1: rows - left, 2: rows - upper, 3: rows - average}
    costs = [np.abs(difference.view(np.int8)).sum(1, dtype=np.int64) for difference in candidates.values()]
    best = np.argmin(costs, 0)[:, None] + 1
    result = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    result[:, :1] = best
    result[:, 1:] = np.select([best == number for number in candidates], list(candidates.values()))
    return result


def write_tiff(
    file: BinaryIO, strips: Iterator[np.ndarray], size: tuple[int, int], first: np.ndarray, metadata: dict[str, Any]
) -> None:
    """Little-endian, differences along rows, deflated; the directory comes last."""
    channels, bits = first.shape[2], 8 * first.itemsize
    file.write(b"II*\0\0\0\0\0")
    offsets, lengths = [], []
    for rows in equal_strips(strips, TIFF_ROWS):
        rows = rows.astype(rows.dtype.newbyteorder("<"))
        rows[:, 1:] -= rows[:, :-1].copy()
        data = zlib.compress(rows.tobytes(), 6)
        offsets.append(file.tell())
        lengths.append(len(data))
        file.write(data + b"\0" * (len(data) % 2))
        if file.tell() > 4_000_000_000:
            raise ValueError("TIFF files hold no more than 4 GB: choose .png for this image.")
    directory = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    directory[256], directory[257] = size
    directory[258] = (bits,) * channels
    directory[259], directory[317] = 8, 2
    directory[262] = 1 if channels < 3 else 2
    directory[277], directory[278] = channels, TIFF_ROWS
    if channels in (2, 4):
        directory[338] = 2
    if "exif" in metadata:
        exif = Image.Exif()
        exif.load(metadata["exif"])
        for tag, value in exif.items():
            directory[tag] = exif.get_ifd(tag) or value
    if "dpi" in metadata:
        directory[282], directory[283] = metadata["dpi"]
        directory[296] = 2
    for tag, name, kind in ((34675, "icc_profile", 7), (700, "xmp", 1)):
        if name in metadata:
            directory.tagtype[tag] = kind
            directory[tag] = metadata[name]
    directory[273], directory[279] = offsets, lengths
    directory.tagtype[273] = directory.tagtype[279] = 4
    start = file.tell()
    written = bytearray(directory.tobytes(start))
    # Pillow has moved the offsets, as if the strips came after the directory.
    entry = 2 + 12 * sorted(directory).index(273) + 8
    where = entry if len(offsets) == 1 else struct.unpack_from("<L", written, entry)[0] - start
    struct.pack_into(f"<{len(offsets)}L", written, where, *offsets)
    file.write(written)
    file.seek(4)
    file.write(struct.pack("<L", start))


def equal_strips(strips: Iterator[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """The same rows in strips of `rows` rows; the last may have fewer."""
    kept: np.ndarray | None = None
    for strip in strips:
        kept = strip if kept is None else np.concatenate([kept, strip])
        while len(kept) >= rows:
            yield kept[:rows]
            kept = kept[rows:]
    if kept is not None and len(kept):
        yield kept


STREAMED = {".png": write_png, ".tif": write_tiff, ".tiff": write_tiff}

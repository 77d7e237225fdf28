"""Takes the metadata out of PNG and JPEG files without touching their pixels.

What goes: Exif (place, camera), XMP, IPTC, comments, text, time, thumbnails, maker's notes, what follows the picture.
What stays: the pixels as they are compressed, their density and orientation, and of an ICC profile what colors need.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO

from PIL import ExifTags, Image

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
# What a PNG needs to be shown as it is: colors, transparency, density, the frames of an animation.
PNG_CHUNKS = frozenset(
    b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB cICP mDCV cLLI sBIT bKGD hIST pHYs acTL fcTL fdAT".split()
)
# The segments of a JPEG without which it cannot be decoded: frames, tables, restart intervals.
JPEG_SEGMENTS = frozenset({*range(0xC0, 0xD0), 0xDA, 0xDB, 0xDC, 0xDD, 0xDE})
ICC_MARK, ICC_PART = b"ICC_PROFILE\0", 65519
# The tags of an ICC profile that are numbers of colors.
ICC_TAGS = frozenset(
    b"wtpt bkpt chad rXYZ gXYZ bXYZ rTRC gTRC bTRC kTRC A2B0 A2B1 A2B2 B2A0 B2A1 B2A2 gamt lumi cicp".split()
)
# What Pillow and the readers below raise for damaged files.
DAMAGED = (
    OSError,
    ValueError,
    TypeError,
    SyntaxError,
    LookupError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def without_metadata(data: bytes) -> bytes:
    """A PNG or JPEG file without metadata; the same bytes where it has none.

    Raises:
        ValueError: if it is no PNG or JPEG, or a damaged one.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(BytesIO(data), formats=["PNG", "JPEG"]) as image:
            image.load()
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        orientation = orientation if orientation in range(1, 9) else 1
        return bare_png(data, orientation) if data.startswith(PNG) else bare_jpeg(data, orientation)
    except DAMAGED as error:
        raise ValueError(f"it is no PNG or JPEG that can be read ({error})") from error


def minimal_exif(orientation: int) -> bytes:
    """Exif, in TIFF's form, that says which side is up and nothing else."""
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, ExifTags.Base.Orientation, 3, 1, orientation, 0, 0)


def bare_png(data: bytes, orientation: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    parts = [PNG]
    for kind, content in png_chunks(data):
        if kind in PNG_CHUNKS:
            parts.append(chunk(kind, content))
        elif kind == b"iCCP":
            name, packed = content.split(b"\0", 1)
            profile = zlib.decompress(packed[1:])
            bare = bare_profile(profile)
            is_bare = (name, bare) == (b"ICC", profile)
            parts.append(chunk(kind, content if is_bare else b"ICC\0\0" + zlib.compress(bare)))
        if kind == b"IHDR" and orientation != 1:
            parts.append(chunk(b"eXIf", minimal_exif(orientation)))
    return b"".join(parts)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk up to the end of the picture."""
    start, kind = len(PNG), b""
    while kind != b"IEND":
        size, kind = struct.unpack_from(">I4s", data, start)
        yield kind, data[start + 8 : start + 8 + size]
        start += 12 + size


def bare_jpeg(data: bytes, orientation: int) -> bytes:
    def segment(marker: int, content: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content

    head, body, profile = [b"\xff\xd8"], [], {}
    for marker, content, scan in jpeg_segments(data):
        if marker == 0xE0 and content.startswith(b"JFIF\0"):
            head.append(segment(marker, content[:12] + b"\0\0"))
        elif marker == 0xE2 and content.startswith(ICC_MARK):
            profile[content[12]] = content[14:]
        elif marker in JPEG_SEGMENTS or (marker == 0xEE and content.startswith(b"Adobe")):
            body.append(segment(marker, content[:12] if marker == 0xEE else content) + scan)
    if orientation != 1:
        head.append(segment(0xE1, b"Exif\0\0" + minimal_exif(orientation)))
    if profile:
        bare = bare_profile(b"".join(profile[number] for number in sorted(profile)))
        pieces = [bare[start : start + ICC_PART] for start in range(0, len(bare), ICC_PART)]
        head += [
            segment(0xE2, ICC_MARK + bytes([number, len(pieces)]) + piece) for number, piece in enumerate(pieces, 1)
        ]
    return b"".join([*head, *body, b"\xff\xd9"])


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Marker and content of each segment up to the end of the picture; after a start of scan, its coded data too."""
    start = 2
    while True:
        while data[start : start + 2] == b"\xff\xff":
            start += 1
        lead, marker = struct.unpack_from(">BB", data, start)
        if lead != 0xFF:
            raise ValueError("a segment of a JPEG starts with no marker")
        if marker == 0xD9:
            return
        (size,) = struct.unpack_from(">H", data, start + 2)
        end = start + 2 + size
        content, start = data[start + 4 : end], end
        while marker == 0xDA:  # coded data end at a marker that is no restart, nor a 0xFF of the data
            end = data.find(b"\xff", end)
            if end < 0:
                raise ValueError("a JPEG ends within its data")
            if data[end + 1] not in (0, 0xFF, *range(0xD0, 0xD8)):
                break
            end += 1 if data[end + 1] == 0xFF else 2
        yield marker, content, data[start:end]
        start = end


def bare_profile(profile: bytes) -> bytes:
    """An ICC profile of the same colors that names no device, maker or date."""
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = (struct.unpack_from(">4sII", profile, 132 + 12 * number) for number in range(min(count, 200)))
    tags = {kind: profile[start : start + size] for kind, start, size in entries if kind in ICC_TAGS}
    if profile[8] >= 4:
        text = b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, 6, 28) + "ICC".encode("utf-16-be")
        tags |= {b"desc": text, b"cprt": text}
    else:
        tags[b"desc"] = b"desc" + struct.pack(">II", 0, 4) + b"ICC\0" + bytes(78)
        tags[b"cprt"] = b"text" + bytes(4) + b"ICC\0"
    table, content, start = b"", b"", 132 + 12 * len(tags)
    for kind, value in sorted(tags.items()):
        padded = value + bytes(-len(value) % 4)
        table += struct.pack(">4sII", kind, start + len(content), len(value))
        content += padded
    blank = {4: 8, 24: 36, 48: 56, 80: 128}  # engine, date, maker and model, creator and hash
    header = bytearray(profile[:128])
    for first, end in blank.items():
        header[first:end] = bytes(end - first)
    header[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    header[:4] = struct.pack(">I", start + len(content))
    return bytes(header) + struct.pack(">I", len(tags)) + table + content

"""Whether an MP4 or QuickTime file is there whole, by the boxes that it is made of."""

from pathlib import Path


def is_cut_off(source: str | Path) -> bool:
    """Whether the last box of the file says that it is longer than the file."""
    path = Path(source)
    length, position = path.stat().st_size, 0
    with path.open("rb") as file:
        while position + 8 <= length:
            file.seek(position)
            header = file.read(16)
            size = int.from_bytes(header[:4], "big")
            if size == 1:  # a longer number follows
                size = int.from_bytes(header[8:16], "big")
            if size == 0:  # to the end of the file
                return False
            if size < 8 or not header[4:8].isascii():
                return False  # something else after the last box, which players skip
            position += size
    return position > length

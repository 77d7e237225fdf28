"""Photographs to learn super-resolution from: files, folders and data sets of the Hub, without labels."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
from PIL import Image
from tqdm import tqdm

from ..io.images import read_image, to_rgb
from ..io.tree import find_images
from .columns import find_column
from .prepare import bad_image, encoded
from .sources import open_hub, open_saved


def load_photos(sources: Sequence[str | Path], min_side: int = 1) -> list[Image.Image]:
    """All photographs of some sources, decoded, as 8-bit RGB; those of a source that is named twice are there twice.

    Args:
        sources: image files, folders of images, folders of `save_to_disk`, parquet files, or data sets of the Hub
            (`user/name`), of which the training split is taken.
        min_side: smaller photographs, in pixels, are left out.

    Returns:
        RGB images in the order of the sources, sorted by name within a folder.

    Raises:
        FileNotFoundError: if there is no such source.
        ValueError: for an image that cannot be read, with its name, or if no photograph is large enough.
    """
    read = {source: [to_rgb(photo) for photo in read_photos(source)] for source in dict.fromkeys(sources)}
    photos = [photo for source in sources for photo in read[source]]
    large = [photo for photo in photos if min(photo.size) >= min_side]
    if not large:
        names = ", ".join(map(str, sources))
        raise ValueError(f"None of the {len(photos)} images in {names} has {min_side}×{min_side} pixels or more.")
    if len(large) < len(photos):
        warnings.warn(
            f"Left out: {len(photos) - len(large)} of {len(photos)} images, smaller than {min_side}×{min_side}.",
            stacklevel=2,
        )
    return large


def read_photos(source: str | Path) -> Iterator[Image.Image]:
    """The images of one source, one by one."""
    path = Path(source)
    saved = (path / "dataset_dict.json").exists() or (path / "state.json").exists()
    if path.exists() and not saved and path.suffix != ".parquet":
        for file in tqdm(find_images(path), desc=f"reading {path.name}", unit="photo", leave=False):
            yield read_image(file)
        return
    if saved:
        splits = open_saved(path, streaming=False)
    elif path.exists():
        splits = {"train": datasets.Dataset.from_parquet(str(path))}
    else:
        splits = open_hub(str(source), streaming=False)
    rows = splits["train"] if "train" in splits else next(iter(splits.values()))
    column = find_column(rows.features, "image", None)
    rows = rows.cast_column(column, datasets.Image(decode=False))
    for number, row in enumerate(tqdm(rows, desc=f"reading {source}", unit="photo", leave=False)):
        try:
            yield read_image(encoded(row[column]))
        except (ValueError, OSError) as error:
            raise ValueError(bad_image(f"Row {number} of {source}", row[column], error)) from error

"""Photographs to learn super-resolution from: files, folders and data sets of the Hub, without labels."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
from PIL import Image

from ...utils.console import progress_bar
from ...utils.types import DataSource
from ..io.images import read_image, to_rgb
from ..io.tree import find_images
from .columns import features_of, find_column
from .prepare import bad_image, encoded
from .sources import LOADED, Splits, describe_source, open_files, open_hub, open_saved, open_source, source_list


def load_photos(sources: DataSource | Sequence[DataSource], min_side: int = 1) -> list[Image.Image]:
    """All photographs of some sources, decoded, as 8-bit RGB; those of a source that is named twice are there twice.

    Args:
        sources: image files, folders of images, folders of `save_to_disk`, parquet files, or data sets of the Hub
            (`user/name`) or loaded ones, of which the training split is taken; or one of these.
        min_side: smaller photographs, in pixels, are left out.

    Returns:
        RGB images in the order of the sources, sorted by name within a folder.

    Raises:
        FileNotFoundError: if there is no such source.
        ValueError: for an image that cannot be read, with its name, or if no photograph is large enough.
    """
    sources = source_list(sources)
    read: dict[int, list[Image.Image]] = {}
    places = [next(i for i, other in enumerate(sources) if other is source or other == source) for source in sources]
    for place in dict.fromkeys(places):
        read[place] = [to_rgb(photo) for photo in read_photos(sources[place])]
    photos = [photo for place in places for photo in read[place]]
    large = [photo for photo in photos if min(photo.size) >= min_side]
    if not large:
        names = ", ".join(map(describe_source, sources))
        raise ValueError(f"None of the {len(photos)} images in {names} has {min_side}×{min_side} pixels or more.")
    if len(large) < len(photos):
        warnings.warn(
            f"Left out: {len(photos) - len(large)} of {len(photos)} images, smaller than {min_side}×{min_side}.",
            stacklevel=2,
        )
    return large


def read_photos(source: DataSource) -> Iterator[Image.Image]:
    """The images of one source, one by one."""
    if isinstance(source, LOADED):
        yield from read_rows(open_source(source, streaming=False), describe_source(source))
        return
    path = Path(source)
    saved = (path / "dataset_dict.json").exists() or (path / "state.json").exists()
    if path.exists() and not saved and path.suffix != ".parquet":
        for file in progress_bar(find_images(path), desc=f"reading {path.name}", unit="photo", leave=False):
            yield read_image(file)
        return
    if saved:
        splits = open_saved(path, streaming=False)
    elif path.exists():
        splits = open_files("parquet", {"train": [path]}, False, path)
    else:
        splits = open_hub(str(source), streaming=False)
    yield from read_rows(splits, str(source))


def read_rows(splits: Splits, source: str) -> Iterator[Image.Image]:
    """The images of the training split, or of the first one."""
    rows = splits["train"] if "train" in splits else next(iter(splits.values()))
    column = find_column(features_of(rows), "image", None)
    rows = rows.cast_column(column, datasets.Image(decode=False))
    for number, row in enumerate(progress_bar(rows, desc=f"reading {source}", unit="photo", leave=False)):
        try:
            yield read_image(encoded(row[column]))
        except (ValueError, OSError) as error:
            raise ValueError(bad_image(f"Row {number} of {source}", row[column], error)) from error

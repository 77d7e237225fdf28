"""Says in a few lines what was understood of a data set: classes, splits, numbers and sizes of images."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import datasets
import numpy as np

from ...utils.types import DataSource
from ..io.images import MAX_PIXELS, open_image
from ..io.tree import printable
from .prepare import encoded
from .sources import describe_source

LISTED_CLASSES = 12
SIZES_READ = 64  # only the headers of so many files of a split are read


def describe_data(
    source: str, splits: Mapping[str, Mapping[str, int] | int | None], sizes: Sequence[tuple[int, int]] = ()
) -> str:
    """Lines such as `Data pets: images of 32×32 pixels` and `  train: 8 images of 2 classes: cat (4), dog (4)`.

    Args:
        source: what the user named.
        splits: the number of images of each split, or of each class in it; None where it is a stream.
        sizes: (width, height) of images, or of some of them.
    """
    lines = [f"Data {printable(source)}" + (f": {describe_sizes(sizes)}" if sizes else "")]
    for name, counts in splits.items():
        if isinstance(counts, Mapping):
            some = {label: count for label, count in counts.items() if count}
            text = f"{number_of(sum(some.values()), 'image')} of {number_of(len(some), 'class')}"
            if len(some) <= LISTED_CLASSES:
                text += ": " + ", ".join(f"{printable(label)} ({count:,})" for label, count in some.items())
            else:
                text += f", {min(some.values()):,} to {max(some.values()):,} of each"
        else:
            text = "a stream, not counted" if counts is None else number_of(counts, "image")
        lines.append(f"  {name}: {text}")
    return "\n".join(lines)


def describe_dataset(source: DataSource, splits: datasets.DatasetDict | datasets.IterableDatasetDict) -> str:
    """[`describe_data`] for what [`load.load_image_dataset`] gives."""
    source = describe_source(source)
    if isinstance(splits, datasets.IterableDatasetDict):
        return describe_data(source, {str(name): None for name in splits})
    counts = {name: class_counts(splits[name]) for name in ("train", "validation", "test") if name in splits}
    return describe_data(source, counts, some_sizes(splits["train"]))


def number_of(count: int, noun: str) -> str:
    plural = "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{'' if count == 1 else plural}"


def describe_sizes(sizes: Sequence[tuple[int, int]]) -> str:
    small, large = (pick(sizes, key=lambda size: size[0] * size[1]) for pick in (min, max))
    if small == large:
        return f"images of {small[0]}×{small[1]} pixels"
    return f"images from {small[0]}×{small[1]} to {large[0]}×{large[1]} pixels"


def class_counts(split: datasets.Dataset) -> dict[str, int]:
    names = split.features["label"].names
    labels = split.select_columns("label").with_format("numpy")[:]["label"]
    return dict(zip(names, np.bincount(labels, minlength=len(names)).tolist(), strict=True))


def some_sizes(split: datasets.Dataset) -> list[tuple[int, int]]:
    """(width, height) of images evenly spread over the split; files that cannot be opened are passed over."""
    rows: Any = split.select_columns("image").cast_column("image", datasets.Image(decode=False))
    sizes = []
    for number in np.linspace(0, len(rows) - 1, min(len(rows), SIZES_READ)).astype(int).tolist():
        with suppress(ValueError, OSError), open_image(encoded(rows[number]["image"]), MAX_PIXELS) as image:
            sizes.append(image.size)
    return sizes

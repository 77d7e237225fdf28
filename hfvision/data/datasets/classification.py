"""Labelled image data as splits of the same two columns, and the data that ships with the package."""

import warnings
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from ...utils.types import DataSource
from .columns import features_of, find_column, is_unlabelled, keep_columns

if TYPE_CHECKING:
    import datasets


def load_image_dataset(
    source: DataSource,
    *,
    validation: float = 0.1,
    seed: int = 0,
    streaming: bool = False,
    image_column: str | None = None,
    label_column: str | None = None,
    validation_group: str | None = None,
    num_proc: int | None = None,
) -> "datasets.DatasetDict | datasets.IterableDatasetDict":
    """Labelled images as splits with the columns `image` (`datasets.Image`) and `label` (`ClassLabel`), no others.

    With `validation_group` they keep that column too, as `group`.

    Splits are `train` and, where there are such images, `validation` and `test`; a source with one split, whatever
    its name, gives `train`. Where the source has no validation split (also named `val`, `valid`, `dev` or `eval`), a
    part of each class in `train` is set aside: always the same for the same seed. Text labels become classes in
    alphabetical order, whole numbers and booleans in their own, named "1", "2", … or "false" and "true". What a source
    holds and is not used is named in a warning: files of other formats, and a test split without labels.

    Args:
        source: a folder of class folders, or of `train`, `val`, `test` folders of class folders, where a
            `metadata.csv` or `.jsonl` may add columns or give the labels (`file_name`, `label`); a parquet file or a
            folder of them (`train*.parquet`, …); a folder of `save_to_disk`; a Hub id `user/name`, or
            `user/name:configuration`; a sample set, `fashion_mnist`; or a loaded `datasets.Dataset`, `DatasetDict` or
            stream, which is not changed.
        validation: part of each class, at least 0 and below 1; 0 makes no validation split. A class of two images or
            more has at least one on both sides. Of a stream, about that part of all images is chosen, by a digest of
            their files, and 10,000 of them at most are kept.
        seed: of that choice.
        streaming: read the source as a stream, as it always is where it is one; it needs `ClassLabel` labels or
            class folders.
        image_column: where it cannot be told by type (`datasets.Image`) or name (`image`, `img`, …).
        label_column: where it cannot be told by type (`ClassLabel`) or name (`label`, `class`, …).
        validation_group: column of what images belong together: patient, object, day. What is set aside for
            validation is whole groups then, about that part of each class; a class of two groups or more is on both
            sides. Of a stream, about that part of the groups. A split that comes with the source and shares groups
            with `train` is warned of.
        num_proc: processes that prepare the labels; results are cached by `datasets`.

    Raises:
        FileNotFoundError: if there is no such source.
        TypeError: if it is neither a name nor a data set.
        ValueError: for a source of another form, columns that cannot be told, missing labels or groups, splits whose
            classes differ, a class name with control characters, a single class, or a single group.
    """
    if not 0 <= validation < 1:
        raise ValueError(f"validation must be at least 0 and below 1, got {validation}.")
    import datasets

    from .class_names import check_class_names, warn_of_similar_names
    from .sources import open_source
    from .splits import check_groups, check_stream, encode_labels, split_stream, split_validation

    opened = open_source(source, streaming)
    streaming = isinstance(opened, datasets.IterableDatasetDict)
    splits = cast("dict[str, datasets.Dataset | datasets.IterableDataset]", opened)
    features = features_of(splits["train"])
    columns = {
        "image": find_column(features, "image", image_column),
        "label": find_column(features, "label", label_column),
    }
    if validation_group is not None:
        columns["group"] = find_column(features, "group", validation_group)
        if columns["group"] in (columns["image"], columns["label"]):
            raise ValueError(f"The column {validation_group!r} holds the images or labels: it cannot group them.")
    if "test" in splits and is_unlabelled(splits["test"], columns["label"]):
        warnings.warn("The split test has no labels and is left out.", stacklevel=2)
        del splits["test"]
    for name, split in splits.items():
        splits[name] = keep_columns(split, name, columns)
    if isinstance(opened, datasets.IterableDatasetDict):
        check_stream(opened)
        set_aside = validation and "validation" not in opened
        return split_stream(opened, validation, seed) if set_aside else opened
    opened = encode_labels(opened, num_proc)
    check_class_names(opened["train"].features["label"].names)
    warn_of_similar_names(opened["train"].features["label"].names)
    if validation_group is not None:
        check_groups(opened, validation_group)
    if "validation" in opened or not validation:
        return opened
    return split_validation(opened, validation, seed)


def class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """The inverse frequency of each class, scaled to a mean of 1 over the images.

    As scikit-learn's "balanced": images / (classes · images of the class), among the classes that have images.

    Args:
        labels: int64 (N,), from 0 to num_classes - 1.
        num_classes: how many weights there are.

    Returns:
        float32 (num_classes,); 0 for classes without an image.
    """
    counts = torch.bincount(labels, minlength=num_classes).double()
    weights = len(labels) / (counts * (counts > 0).sum())
    return torch.where(counts > 0, weights, 0.0).float()

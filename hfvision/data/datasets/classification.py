"""Labelled image data as splits of the same two columns, and the data that ships with the package."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import datasets

SAMPLES = Path(__file__).parents[1] / "samples"
IMAGE_NAMES = ("image", "images", "img", "pixel_values", "picture", "photo", "pixels")
LABEL_NAMES = ("label", "labels", "fine_label", "class", "class_name", "category", "target", "y")


def load_image_dataset(
    source: str | Path,
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
            `user/name:configuration`; a sample set, `fashion_mnist`.
        validation: part of each class, at least 0 and below 1; 0 makes no validation split. A class of two images or
            more has at least one on both sides. Of a stream, about that part of all images is chosen, by a digest of
            their files, and 10,000 of them at most are kept.
        seed: of that choice.
        streaming: read the source as a stream; it needs `ClassLabel` labels or class folders.
        image_column: where it cannot be told by type (`datasets.Image`) or name (`image`, `img`, …).
        label_column: where it cannot be told by type (`ClassLabel`) or name (`label`, `class`, …).
        validation_group: column of what images belong together: patient, object, day. What is set aside for
            validation is whole groups then, about that part of each class; a class of two groups or more is on both
            sides. Of a stream, about that part of the groups. A split that comes with the source and shares groups
            with `train` is warned of.
        num_proc: processes that prepare the labels; results are cached by `datasets`.

    Raises:
        FileNotFoundError: if there is no such source.
        ValueError: for a source of another form, columns that cannot be told, missing labels or groups, splits whose
            classes differ, a single class, or a single group.
    """
    if not 0 <= validation < 1:
        raise ValueError(f"validation must be at least 0 and below 1, got {validation}.")
    from .sources import open_source
    from .splits import check_groups, check_stream, encode_labels, split_stream, split_validation

    splits = open_source(source, streaming)
    features = splits["train"].features
    if features is None:
        raise ValueError(f"{source} does not say what columns it has: read it without streaming.")
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
    if streaming:
        check_stream(splits)
    else:
        splits = encode_labels(splits, num_proc)
        if validation_group is not None:
            check_groups(splits, validation_group)
    if "validation" in splits or not validation:
        return splits
    return split_stream(splits, validation, seed) if streaming else split_validation(splits, validation, seed)


def find_column(features: "datasets.Features", what: str, given: str | None) -> str:
    """The column of the images (`what` = "image"), of the labels ("label"), or the given one."""
    import datasets

    if given is not None:
        if given not in features:
            raise ValueError(f"There is no column {given!r}; there are: {', '.join(features)}.")
        return given
    wanted, names = (datasets.Image, IMAGE_NAMES) if what == "image" else (datasets.ClassLabel, LABEL_NAMES)
    found = [name for name, feature in features.items() if isinstance(feature, wanted)]
    found = found or [name for name in features if name.lower() in names]
    if len(found) == 1:
        return found[0]
    problem = f"Several columns may be the {what}" if found else f"No column is known as the {what}"
    raise ValueError(f"{problem}: choose with --{what}-column one of {', '.join(found or features)}.")


def is_unlabelled(split: "datasets.Dataset | datasets.IterableDataset", column: str) -> bool:
    """Whether the split has no column that may hold labels, or one of missing labels, or of -1, alone."""
    import datasets

    if column not in split.features:
        return not any(
            isinstance(feature, datasets.ClassLabel) or name.lower() in LABEL_NAMES
            for name, feature in split.features.items()
        )
    if isinstance(split, datasets.IterableDataset) or not len(split):
        return False
    return set(split.select_columns(column).with_format("arrow")[:][column].unique().to_pylist()) <= {None, -1}


def keep_columns(
    split: "datasets.Dataset | datasets.IterableDataset", name: str, columns: dict[str, str]
) -> "datasets.Dataset | datasets.IterableDataset":
    """The split with the columns of `columns` alone, by their names there."""
    import datasets

    if missing := [column for column in columns.values() if column not in split.features]:
        raise ValueError(f"The split {name} has no column {missing[0]!r}; it has: {', '.join(split.features)}.")
    split = split.select_columns(list(columns.values()))
    split = split.rename_columns({column: wanted for wanted, column in columns.items() if column != wanted})
    feature = split.features["image"]
    if isinstance(feature, datasets.Image):
        return split
    stored = (
        feature.dtype if isinstance(feature, datasets.Value) else set(feature) if isinstance(feature, dict) else None
    )
    if stored not in ("string", "large_string", "binary", "large_binary") and stored != {"bytes", "path"}:
        raise ValueError(f"The column {columns['image']!r} holds no images, but {feature}.")
    return split.cast_column("image", datasets.Image())


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


def sample_dataset(name: str = "fashion_mnist") -> "datasets.DatasetDict":
    """A small labelled data set with the splits `train` and `test`.

    Args:
        name: `fashion_mnist`, 6,000 + 1,000 grey images of 28×28 in 10 classes (Xiao et al. 2017, MIT licence).

    Returns:
        Splits with the columns `image` (PIL, mode L) and `label` (`ClassLabel`); no network is needed.

    Raises:
        ValueError: for an unknown name.
    """
    known = sorted(path.parent.name for path in SAMPLES.glob("*/train.parquet"))
    if name not in known:
        raise ValueError(f"There is no sample data set {name!r}; the package has: {', '.join(known)}.")
    import datasets

    files = {split: str(SAMPLES / name / f"{split}.parquet") for split in ("train", "test")}
    return datasets.load_dataset("parquet", data_files=files)


def sample_photos() -> dict[str, Path]:
    """The photos that ship, by name (`astronaut`, `cat`, …); `SOURCES.txt` beside them says where each is from."""
    photos = SAMPLES / "photos"
    return {
        "astronaut": photos / "astronaut.png",
        "cat": photos / "chelsea.png",
        "coffee": photos / "coffee.png",
        "elephant": photos / "elephant-660-480.jpg",
        "grapefruit": photos / "grapefruit-slice-332-332.jpg",
        "rocket": photos / "rocket.jpg",
    }

"""Which columns of a data set hold the images and their labels."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datasets


IMAGE_NAMES = ("image", "images", "img", "pixel_values", "picture", "photo", "pixels")


LABEL_NAMES = ("label", "labels", "fine_label", "class", "class_name", "category", "target", "y")


def features_of(split: "datasets.Dataset | datasets.IterableDataset") -> "datasets.Features":
    """The columns of a split with their types.

    Raises:
        ValueError: for a stream that does not say what columns it has.
    """
    if split.features is None:
        raise ValueError("The data does not say what columns it has: read it without streaming.")
    return split.features


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
    """Whether the split has no column that may hold labels, or one of missing labels, of -1 or of empty text alone."""
    import datasets

    features = features_of(split)
    if column not in features:
        return not any(
            isinstance(feature, datasets.ClassLabel) or name.lower() in LABEL_NAMES
            for name, feature in features.items()
        )
    if isinstance(split, datasets.IterableDataset) or not len(split):
        return False
    return set(split.select_columns(column).with_format("arrow")[:][column].unique().to_pylist()) <= {None, -1, ""}


def keep_columns(
    split: "datasets.Dataset | datasets.IterableDataset", name: str, columns: dict[str, str]
) -> "datasets.Dataset | datasets.IterableDataset":
    """The split with the columns of `columns` alone, by their names there."""
    import datasets

    features = features_of(split)
    if missing := [column for column in columns.values() if column not in features]:
        raise ValueError(f"The split {name} has no column {missing[0]!r}; it has: {', '.join(features)}.")
    split = split.select_columns(list(columns.values()))
    split = split.rename_columns({column: wanted for wanted, column in columns.items() if column != wanted})
    feature = features_of(split)["image"]
    if isinstance(feature, datasets.Image):
        return split
    stored = (
        feature.dtype if isinstance(feature, datasets.Value) else set(feature) if isinstance(feature, dict) else None
    )
    if stored not in ("string", "large_string", "binary", "large_binary") and stored != {"bytes", "path"}:
        raise ValueError(f"The column {columns['image']!r} holds no images, but {feature}.")
    return split.cast_column("image", datasets.Image())

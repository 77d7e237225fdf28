"""Labels as the same classes in all splits, and the choice of validation images."""

import warnings
from functools import partial
from hashlib import blake2b
from typing import Any

import datasets
import numpy as np

from .columns import features_of

STREAM_VALIDATION = 10_000  # images at most that are taken out of a stream for validation


def encode_labels(splits: datasets.DatasetDict, num_proc: int | None = None) -> datasets.DatasetDict:
    """The splits with labels of one `ClassLabel`: text and whole numbers sorted, booleans as "false" and "true".

    Raises:
        ValueError: for labels that are missing, out of range or of another kind, classes that are not in `train`, or
            differ between splits, and a single class.
    """
    splits = whole_numbers(splits)
    feature = splits["train"].features["label"]
    is_class = isinstance(feature, datasets.ClassLabel)
    dtype = getattr(feature, "dtype", "")
    if not is_class and dtype not in ("string", "large_string", "bool") and not dtype.startswith(("int", "uint")):
        raise ValueError(f"Labels must be text or whole numbers, got {feature}: choose another --label-column.")
    used = {}
    for name, split in splits.items():
        if split.features["label"] != feature:
            raise ValueError(f"The splits train and {name} differ in the type, names or order of their classes.")
        used[name] = used_labels(split, str(name))
    classes = feature.names if is_class else sorted(used["train"])
    if not dtype.endswith("string"):
        check_range(used, len(classes) if is_class else None)
    for name, labels in used.items():
        if unknown := sorted(labels - used["train"]):
            first = classes[unknown[0]] if is_class else unknown[0]
            raise ValueError(f"The split {name} has the class {first!r}, of which train has no image.")
    if len(used["train"]) == 1:
        (only,) = used["train"]
        name = classes[only] if is_class else only
        raise ValueError(f"All training images are of one class, {name!r}: at least two are needed.")
    if is_class:
        return splits
    names = [str(value).lower() if dtype == "bool" else str(value) for value in classes]
    steps = [] if dtype == "string" else [datasets.Value("string")]  # ClassLabel takes names of this type alone
    for label in [*steps, datasets.ClassLabel(names=names)]:
        features = datasets.Features(splits["train"].features | {"label": label})
        splits = datasets.DatasetDict({name: s.cast(features, num_proc=num_proc) for name, s in splits.items()})
    return splits


def used_labels(split: datasets.Dataset, name: str) -> set[Any]:
    column = split.select_columns("label").with_format("arrow")[:]["label"]
    labels = set(column.unique().to_pylist())
    if labels & {None, ""}:
        missing = [row for row, label in enumerate(column.to_pylist()) if label in (None, "")]
        raise ValueError(f"{len(missing)} images of the split {name} have no label, the first in row {missing[0]}.")
    return labels


def whole_numbers(splits: datasets.DatasetDict) -> datasets.DatasetDict:
    """The splits with floating-point labels as int64, where all of them are whole: tables with gaps hold such."""
    labels = [split.features["label"] for split in splits.values()]
    if not all(getattr(label, "dtype", "") in ("float32", "float64") for label in labels):
        return splits
    for name, split in splits.items():
        if not all(label.is_integer() for label in used_labels(split, str(name))):
            return splits
    return splits.cast_column("label", datasets.Value("int64"))


def check_range(used: dict[str, set[int]], count: int | None) -> None:
    wanted = "0 or more" if count is None else f"0 to {count - 1}"
    for name, labels in used.items():
        if wrong := sorted(label for label in labels if label < 0 or (count is not None and label >= count)):
            hint = ": leave out images without a label" if wrong[0] < 0 else ""
            raise ValueError(f"Labels must be {wanted}, but the split {name} has {wrong[0]}{hint}.")


def split_validation(splits: datasets.DatasetDict, part: float, seed: int) -> datasets.DatasetDict:
    """`part` of each class in `train` as the split `validation`, in whole groups where there is such a column."""
    train = splits["train"]
    labels = train.select_columns("label").with_format("numpy")[:]["label"]
    if "group" in train.column_names:
        chosen = choose_groups(labels, train["group"][:], part, seed)
    else:
        chosen = choose_validation(labels, part, seed)
    unit = "group" if "group" in train.column_names else "image"
    if not chosen.any():
        raise ValueError(
            f"The validation split would be empty: no class has a second {unit} to set aside. Add images, or train "
            "without validation: --validation 0."
        )
    if missing := [train.features["label"].names[label] for label in np.setdiff1d(labels, labels[chosen])]:
        warnings.warn(
            f"The validation split has no image of {', '.join(missing)}: there is only one {unit} to train on.",
            stacklevel=3,
        )
    sides = {"train": train.select(np.flatnonzero(~chosen)), "validation": train.select(np.flatnonzero(chosen))}
    return datasets.DatasetDict(splits | sides)


def choose_validation(labels: np.ndarray, part: float, seed: int) -> np.ndarray:
    """bool (N,): `part` of each class, rounded, yet at least one and not all; of a single image none."""
    chosen = np.zeros(len(labels), dtype=bool)
    order = np.random.default_rng(seed).permutation(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        chosen[members[: min(max(1, round(part * len(members))), len(members) - 1)]] = True
    return chosen


def choose_groups(labels: np.ndarray, groups: list[Any], part: float, seed: int) -> np.ndarray:
    """bool (N,): whole groups, about `part` of each class, yet one at least and not all; of a single group none.

    In random order, each group is taken that brings the shares of the classes closer to `part`, in the sum of their
    squares; then the smallest of each class that has none yet.

    Raises:
        ValueError: if there is one group alone.
    """
    _, members = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    _, classes = np.unique(labels, return_inverse=True)
    counts = np.zeros((members.max() + 1, classes.max() + 1))  # images of each group and class
    np.add.at(counts, (members, classes), 1)
    if len(counts) == 1:
        raise ValueError(f"All training images are of one group, {groups[0]!r}: none can be set aside for validation.")
    shares = counts / counts.sum(0)
    order = np.random.default_rng(seed).permutation(len(counts))
    taken, have = np.zeros(len(counts), dtype=bool), np.zeros(shares.shape[1])

    def take(group: int) -> None:
        nonlocal have
        if (have + shares[group] < 1 - 1e-9).all():  # some of each class stays to train on
            taken[group], have = True, have + shares[group]

    for group in order:
        if ((have + shares[group] - part) ** 2).sum() < ((have - part) ** 2).sum():
            take(group)
    for number in range(shares.shape[1]):
        of_class = order[counts[order, number] > 0]
        for group in of_class[counts[of_class].sum(1).argsort(kind="stable")]:
            if not have[number]:
                take(group)
    return taken[members]


def check_groups(splits: datasets.DatasetDict, column: str) -> None:
    """Raise ValueError for images without a group; warn of groups on both sides of a split."""
    found = {}
    for name, split in splits.items():
        groups = split.select_columns("group").with_format("arrow")[:]["group"]
        if groups.null_count:
            first = np.flatnonzero(groups.is_null().to_numpy())[0]
            raise ValueError(
                f"{groups.null_count} images of the split {name} have no {column}, the first in row {first}."
            )
        found[name] = set(groups.unique().to_pylist())
        if both := found[name] & found["train"] if name != "train" else set():
            warnings.warn(f"{len(both)} values of {column} are in both train and {name}.", stacklevel=3)


def check_stream(splits: datasets.IterableDatasetDict) -> None:
    feature = features_of(splits["train"])["label"]
    if not isinstance(feature, datasets.ClassLabel) or len(feature.names) < 2:
        raise ValueError(
            f"A stream needs a ClassLabel of two classes or more, got {feature}: read it without streaming."
        )
    for name, split in splits.items():
        if features_of(split)["label"] != feature:
            raise ValueError(f"The splits train and {name} differ in the type, names or order of their classes.")


def split_stream(splits: datasets.IterableDatasetDict, part: float, seed: int) -> datasets.IterableDatasetDict:
    """About `part` of the stream `train` as the split `validation`, by the images' files, or their groups, alone.

    Skipping the first images would skip others in each process and worker that reads a share of the stream.
    """
    train = splits["train"]
    features = features_of(train)
    raw = train.cast_column("image", datasets.Image(decode=False))

    def side(inside: bool) -> datasets.IterableDataset:
        by = "group" if "group" in features else "image"
        chosen = raw.filter(partial(in_part, part=part, seed=seed, inside=inside), input_columns=by)
        return chosen.map(dict).cast(features)  # a filtered stream would not decode

    sides = {"train": side(False), "validation": side(True).take(STREAM_VALIDATION)}
    return datasets.IterableDatasetDict(splits | sides)


def in_part(image: dict[str, Any] | str | int, part: float, seed: int, inside: bool) -> bool:
    """Whether an image, by its file or the name of its group, is on that side of the choice."""
    if isinstance(image, dict) and image["bytes"] is not None:
        content = image["bytes"]
    else:
        content = str(image["path"] if isinstance(image, dict) else image).encode()
    return (digest(content, seed) < part * 2**63) == inside


def digest(data: bytes, seed: int = 0) -> int:
    """63 bits that tell one file from another, different ones for each seed."""
    salt = seed.to_bytes(16, "little", signed=True)
    return int.from_bytes(blake2b(data, digest_size=8, salt=salt).digest(), "little") >> 1

"""Labelled image data, from the package's samples, files, folders or the Hub, as splits of the same two columns."""

import re
import warnings
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    import datasets

SAMPLES = Path(__file__).parent / "samples"
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
IMAGE_NAMES = ("image", "images", "img", "pixel_values", "picture", "photo", "pixels", "file", "file_name", "path")
LABEL_NAMES = ("label", "labels", "fine_label", "class", "class_name", "category", "target", "y")
STREAM_VALIDATION = 10_000  # images at most that are taken out of a stream for validation
LAYOUT = "Put each image into a folder with its class's name: {0}/cat/1.jpg, {0}/dog/2.jpg."


def load_image_dataset(
    source: str | Path,
    *,
    validation: float = 0.1,
    seed: int = 0,
    streaming: bool = False,
    image_column: str | None = None,
    label_column: str | None = None,
    num_proc: int | None = None,
) -> "datasets.DatasetDict | datasets.IterableDatasetDict":
    """Labelled images as splits with the columns `image` (`datasets.Image`) and `label` (`ClassLabel`), no others.

    Splits are `train` and, where there are such images, `validation` and `test`; a source with one split, whatever
    its name, gives `train`. Where the source has no validation split (also named `val`, `valid` or `dev`), a part of
    each class in `train` is set aside: always the same for the same seed. Text labels become classes in alphabetical
    order, numbers the classes "0", "1", ….

    Args:
        source: a folder of class folders, or of `train`, `val`, `test` folders of class folders; a parquet file or a
            folder of them (`train*.parquet`, …); a folder of `save_to_disk`; a Hub id `user/name`, or
            `user/name:configuration`; a sample set, `fashion_mnist`.
        validation: part of each class, at least 0 and below 1; 0 makes no validation split. A class of two images or
            more has at least one on both sides. Of a stream, images are chosen by a digest of their file, 10,000 at
            most.
        seed: of that choice.
        streaming: read the source as a stream; it needs `ClassLabel` labels or class folders.
        image_column: where it cannot be told by type (`datasets.Image`) or name (`image`, `img`, …).
        label_column: where it cannot be told by type (`ClassLabel`) or name (`label`, `class`, …).
        num_proc: processes that prepare the labels; results are cached by `datasets`.

    Raises:
        FileNotFoundError: if there is no such source.
        ValueError: for a source of another form, columns that cannot be told, missing labels, splits whose classes
            differ, or a single class.
    """
    if not 0 <= validation < 1:
        raise ValueError(f"validation must be at least 0 and below 1, got {validation}.")
    splits = name_splits(open_source(source, streaming), source)
    kind = type(splits)
    columns = {
        "image": find_column(splits["train"].features, "image", image_column),
        "label": find_column(splits["train"].features, "label", label_column),
    }
    splits = kind({name: keep_columns(split, name, columns) for name, split in splits.items()})
    if streaming:
        check_stream(splits)
        if "validation" not in splits and validation:
            splits = split_stream(splits, validation, seed)
        return splits
    splits = encode_labels(splits, num_proc)
    if "validation" not in splits and validation:
        chosen = choose_validation(labels_of(splits["train"]), validation, seed)
        warn_of_missing(splits["train"].features["label"].names, labels_of(splits["train"]), chosen)
        parts = {
            "train": splits["train"].select(np.flatnonzero(~chosen)),
            "validation": splits["train"].select(np.flatnonzero(chosen)),
        }
        splits = kind(parts | {name: split for name, split in splits.items() if name != "train"})
    return splits


def open_source(source: str | Path, streaming: bool) -> "datasets.DatasetDict | datasets.IterableDatasetDict":
    """All splits of the source, with the columns and names that it has."""
    import datasets

    path = Path(source)
    if not path.exists() and (SAMPLES / source / "train.parquet").exists():
        path = SAMPLES / source
    if not path.exists():
        return open_hub(str(source), streaming)
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        loaded = datasets.load_from_disk(path)
        if isinstance(loaded, datasets.Dataset):
            loaded = datasets.DatasetDict(train=loaded)
        if streaming:
            return datasets.IterableDatasetDict({name: s.to_iterable_dataset() for name, s in loaded.items()})
        return loaded
    if path.is_file():
        if path.suffix != ".parquet":
            raise ValueError(f"{path} is no parquet file: give one, or a folder of class folders, or a Hub id.")
        return read_files("parquet", {"train": [str(path)]}, streaming, path)
    parquet = sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))
    if parquet:
        return read_files("parquet", group_parquet(parquet, path), streaming, path)
    return read_files("imagefolder", find_class_folders(path), streaming, path, drop_labels=False)


def read_files(
    builder: str, files: dict[str, list[str]], streaming: bool, path: Path, **options: Any
) -> "datasets.DatasetDict | datasets.IterableDatasetDict":
    import datasets

    try:
        return datasets.load_dataset(builder, data_files=files, streaming=streaming, **options)
    except (datasets.exceptions.DatasetGenerationError, OSError, ValueError) as error:
        cause = error.__cause__ or error
        raise ValueError(f"{path} cannot be read as a data set: {first_line(cause)}") from error


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def open_hub(source: str, streaming: bool) -> "datasets.DatasetDict | datasets.IterableDatasetDict":
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    if not re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?", source):
        samples = ", ".join(sorted(p.parent.name for p in SAMPLES.glob("*/train.parquet")))
        raise FileNotFoundError(
            f"There is no file or folder {source}, and no sample set of that name ({samples}); "
            "a data set of the Hub is named user/name."
        )
    repo, _, configuration = source.partition(":")
    try:
        return datasets.load_dataset(repo, configuration or None, streaming=streaming)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise FileNotFoundError(
            f"There is no file or folder {source}, and the Hub has no data set {repo} that you may read: check the "
            "name, or log in with `hf auth login`."
        ) from error
    except (ConnectionError, HfHubHTTPError) as error:
        raise ConnectionError(f"The data set {source} cannot be fetched from the Hub: {first_line(error)}") from error
    except (datasets.exceptions.DatasetGenerationError, OSError, ValueError) as error:
        cause = error.__cause__ or error
        raise ValueError(f"The data set {source} of the Hub cannot be read: {first_line(cause)}") from error


def split_of(name: str) -> str | None:
    """`train`, `validation` or `test` for the name of a file or a folder that begins so; None for others."""
    word = re.match(r"[a-z]*", name.lower())[0]
    return next((split for split, names in SPLIT_NAMES.items() if word in names), None)


def group_parquet(files: list[Path], folder: Path) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for file in files:
        groups.setdefault(split_of(file.name) or "", []).append(str(file))
    if "" in groups and len(groups) > 1:
        odd = ", ".join(Path(file).name for file in groups[""])
        raise ValueError(
            f"It cannot be told which split these files of {folder} are of: {odd}. Name them train*.parquet, "
            "validation*.parquet or test*.parquet."
        )
    return {split or "train": names for split, names in groups.items()}


def find_class_folders(folder: Path) -> dict[str, list[str]]:
    """Patterns of the images of each split; ValueError if `folder` has another form."""
    inside = [p for p in sorted(folder.iterdir()) if p.is_dir() and p.name[0] != "."]
    roots = {
        p: split for p in inside if (split := next((s for s, n in SPLIT_NAMES.items() if p.name.lower() in n), None))
    }
    if "train" not in roots.values():
        roots = {folder: "train"}
    elif len(set(roots.values())) < len(roots):
        raise ValueError(f"{folder} has two folders of one split: {', '.join(p.name for p in roots)}.")
    elif odd := [p.name for p in inside if p not in roots]:
        raise ValueError(f"{folder} has folders of splits and others ({', '.join(odd)}): move the others away.")
    for root in roots:
        loose, deep, found = [], [], False
        for path in root.rglob("*"):
            if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != ".":
                depth = len(path.relative_to(root).parts)
                found = found or depth == 2
                if depth != 2:
                    (loose if depth == 1 else deep).append(path)
        if loose or deep:
            what = "in no class folder" if loose else "deeper than in a class folder"
            raise ValueError(f"The image {(loose + deep)[0]} lies {what}. {LAYOUT.format(root)}")
        if not found:
            raise ValueError(f"The folder {root} holds no images and no parquet files. {LAYOUT.format(root)}")
    return {split: [f"{root}/*/*"] for root, split in roots.items()}


def name_splits(splits: Any, source: str | Path) -> Any:
    """`train`, `validation`, `test`, those that there are; others are left out."""
    if len(splits) == 1:
        return type(splits)(train=next(iter(splits.values())))
    named = {}
    for wanted, names in SPLIT_NAMES.items():
        found = [name for name in splits if name.lower() in names]
        if len(found) > 1:
            raise ValueError(f"{source} has two splits of one kind: {', '.join(found)}.")
        if found:
            named[wanted] = splits[found[0]]
    if "train" not in named:
        raise ValueError(f"{source} has no split train; it has {', '.join(splits)}.")
    return type(splits)(named)


def find_column(features: "datasets.Features | None", what: str, given: str | None) -> str:
    """The column of the images (`what` = "image") or of the labels ("label")."""
    import datasets

    if features is None:
        raise ValueError("This stream does not say what columns it has: read it without streaming.")
    if given is not None:
        if given not in features:
            raise ValueError(f"There is no column {given!r}; there are: {', '.join(features)}.")
        return given
    wanted, names = (datasets.Image, IMAGE_NAMES) if what == "image" else (datasets.ClassLabel, LABEL_NAMES)
    found = [name for name, feature in features.items() if isinstance(feature, wanted)]
    found = found or [name for name in features if name.lower() in names]
    if len(found) == 1:
        return found[0]
    problem = f"Several columns may be the {what}: {', '.join(found)}." if found else f"No column is the {what}."
    raise ValueError(
        f"{problem} Choose with --{what}-column ({what}_column=…) one of: {', '.join(found or features)}."
    )


def keep_columns(split: Any, name: str, columns: dict[str, str]) -> Any:
    """The split with the columns `image` and `label` alone."""
    import datasets

    missing = [column for column in columns.values() if column not in split.features]
    if missing:
        raise ValueError(f"The split {name} has no column {missing[0]!r}; it has: {', '.join(split.features)}.")
    split = split.select_columns(list(columns.values()))
    for wanted, column in columns.items():
        if column != wanted:
            split = split.rename_column(column, wanted)
    if not isinstance(split.features["image"], datasets.Image):
        try:
            split = split.cast_column("image", datasets.Image())
        except (TypeError, ValueError) as error:
            raise ValueError(f"The column {columns['image']!r} holds no images: {split.features['image']}.") from error
    return split


def labels_of(split: "datasets.Dataset") -> np.ndarray:
    return split.select_columns("label").with_format("numpy")[:]["label"]


def encode_labels(splits: "datasets.DatasetDict", num_proc: int | None) -> "datasets.DatasetDict":
    """The splits with labels that are `ClassLabel` of the same names, all of which are known to be in range."""
    import datasets

    values = {name: split.select_columns("label").with_format("arrow")[:]["label"] for name, split in splits.items()}
    for name, column in values.items():
        if len(column) == 0:
            raise ValueError(f"The split {name} has no images.")
        if column.null_count:
            rows = np.flatnonzero(column.is_null().to_numpy())
            raise ValueError(f"{len(rows)} images of the split {name} have no label, the first in row {rows[0]}.")
    feature = splits["train"].features["label"]
    used = {name: set(column.unique().to_pylist()) for name, column in values.items()}
    if isinstance(feature, datasets.ClassLabel):
        for name, split in splits.items():
            if getattr(split.features["label"], "names", None) != feature.names:
                raise ValueError(f"The splits train and {name} have different classes or orders of classes.")
        classes = feature.names
    elif all(isinstance(value, str) for value in used["train"]):
        classes = sorted(used["train"])
    elif all(isinstance(value, int) and not isinstance(value, bool) for value in used["train"]):
        classes = [str(number) for number in range(max(used["train"]) + 1)]
        gaps = sorted(set(range(len(classes))) - used["train"])
        if gaps and min(used["train"]) >= 0:
            raise ValueError(f"Labels must be the numbers 0, 1, … without gaps, but no training image has {gaps[0]}.")
    else:
        raise ValueError(f"Labels must be text or whole numbers, got {feature}.")
    for name, labels in used.items():
        if not isinstance(next(iter(labels)), str):
            wrong = sorted(label for label in labels if not 0 <= label < len(classes))
            if (wrong and name == "train") or (wrong and wrong[0] < 0):
                raise ValueError(
                    f"Labels must be 0 to {len(classes) - 1}, but the split {name} has {wrong[0]}: "
                    "leave out the images without a label."
                )
        unknown = sorted(labels - used["train"])
        if unknown:
            first = classes[unknown[0]] if isinstance(feature, datasets.ClassLabel) else unknown[0]
            raise ValueError(f"The split {name} has the class {first!r}, of which train has no image.")
    if len(used["train"]) < 2:
        raise ValueError(f"All training images are of one class, {classes[0]!r}: at least two are needed.")
    if isinstance(feature, datasets.ClassLabel):
        return splits
    for storage in ([datasets.Value("string")] if feature.dtype == "large_string" else []) + [
        datasets.ClassLabel(names=classes)
    ]:
        features = datasets.Features(image=datasets.Image(), label=storage)
        splits = splits.cast(features, num_proc=num_proc)
    return splits


def choose_validation(labels: np.ndarray, part: float, seed: int) -> np.ndarray:
    """bool (N,): `part` of each class, rounded, yet at least one and not all; of a single image none."""
    chosen = np.zeros(len(labels), dtype=bool)
    order = np.random.default_rng(seed).permutation(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        chosen[members[: min(max(1, round(part * len(members))), len(members) - 1)]] = True
    return chosen


def warn_of_missing(names: list[str], labels: np.ndarray, chosen: np.ndarray) -> None:
    missing = [names[label] for label in np.setdiff1d(labels, labels[chosen])]
    if missing:
        warnings.warn(
            f"The validation split has no image of {', '.join(missing)}: there is only one to train on.", stacklevel=3
        )


def check_stream(splits: "datasets.IterableDatasetDict") -> None:
    import datasets

    names = [getattr(split.features["label"], "names", None) for split in splits.values()]
    if not isinstance(splits["train"].features["label"], datasets.ClassLabel) or len(names[0]) < 2:
        raise ValueError(
            "A stream needs class names (a ClassLabel of two classes or more): read it without streaming."
        )
    if any(other != names[0] for other in names):
        raise ValueError(f"The splits {', '.join(splits)} have different classes or orders of classes.")


def split_stream(splits: Any, part: float, seed: int) -> Any:
    import datasets

    raw = splits["train"].cast_column("image", datasets.Image(decode=False))
    sides = {
        "train": raw.filter(partial(in_part, part=part, seed=seed, inside=False), input_columns="image"),
        "validation": raw.filter(partial(in_part, part=part, seed=seed, inside=True), input_columns="image").take(
            STREAM_VALIDATION
        ),
    }
    sides = {name: side.cast_column("image", datasets.Image()) for name, side in sides.items()}
    return type(splits)(sides | {name: split for name, split in splits.items() if name != "train"})


def in_part(image: dict[str, Any], part: float, seed: int, inside: bool) -> bool:
    """Whether the image is in (or out of) the part, by its file alone, so that all readers of a stream agree."""
    content = image["bytes"] if image["bytes"] is not None else str(image["path"]).encode()
    return (digest(content, seed) < part * 2**63) == inside


def digest(data: bytes, seed: int = 0) -> int:
    """63 bits that tell one file from another, other ones for each seed."""
    return (
        int.from_bytes(blake2b(data, digest_size=8, salt=seed.to_bytes(16, "little", signed=True)).digest(), "little")
        >> 1
    )


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

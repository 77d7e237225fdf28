"""Opens what a user names as data: a sample set, a folder, parquet files, or a data set of the Hub."""

import re
from glob import escape
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub.errors import HfHubHTTPError

from .images import IMAGE_SUFFIXES
from .load import SAMPLES

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
LAYOUT = "Put each image into a folder with its class's name: {0}/cat/1.jpg, {0}/dog/2.jpg."

Splits = datasets.DatasetDict | datasets.IterableDatasetDict


def open_source(source: str | Path, streaming: bool) -> Splits:
    """The splits of `source`, named `train`, `validation` and `test`, with the columns that it has.

    A single split becomes `train`; splits of other names are left out.

    Raises:
        FileNotFoundError: if there is no such source.
        ValueError: if it cannot be read as a data set.
    """
    path = Path(source)
    if not path.exists() and (SAMPLES / source / "train.parquet").exists():
        path = SAMPLES / source
    if not path.exists():
        splits = open_hub(str(source), streaming)
    elif path.is_file():
        if path.suffix != ".parquet":
            raise ValueError(f"{path} is no parquet file: give one, or a folder of class folders, or a Hub id.")
        splits = open_files("parquet", {"train": [path]}, streaming, path)
    elif (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        splits = open_saved(path, streaming)
    elif parquet := sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet")):
        groups = group_parquet(parquet, path).items()
        # one by one: read together, all would silently be given the class names of the first
        parts = [open_files("parquet", {split: files}, streaming, path) for split, files in groups]
        splits = type(parts[0])({split: part[split] for part in parts for split in part})
    else:
        splits = open_files("imagefolder", find_class_folders(path), streaming, path, drop_labels=False)
    return name_splits(splits, source)


def open_hub(source: str, streaming: bool) -> Splits:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?", source):
        samples = ", ".join(sorted(path.parent.name for path in SAMPLES.glob("*/train.parquet")))
        raise FileNotFoundError(
            f"There is no file or folder {source}, and no sample set of that name (there is {samples}); "
            "a data set of the Hub is named user/name."
        )
    repo, _, configuration = source.partition(":")
    try:
        return datasets.load_dataset(repo, configuration or None, streaming=streaming)
    except (DatasetNotFoundError, ConnectionError, HfHubHTTPError) as error:
        raise FileNotFoundError(
            f"There is no file or folder {source}, and a data set {repo} cannot be read from the Hub: check its name "
            "and the connection, or log in with `hf auth login` if it is private."
        ) from error
    except (DatasetGenerationError, OSError, ValueError) as error:
        raise ValueError(f"The data set {source} of the Hub cannot be read: {reason(error)}") from error


def open_saved(path: Path, streaming: bool) -> Splits:
    try:
        saved = datasets.load_from_disk(path)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} cannot be read as a saved data set: {reason(error)}") from error
    splits = datasets.DatasetDict(train=saved) if isinstance(saved, datasets.Dataset) else saved
    if not streaming:
        return splits
    return datasets.IterableDatasetDict({name: split.to_iterable_dataset() for name, split in splits.items()})


def open_files(
    builder: str, files: dict[str, list[Path | str]], streaming: bool, path: Path, **options: Any
) -> Splits:
    patterns = {split: [escape(str(f)) if isinstance(f, Path) else f for f in files[split]] for split in files}
    try:
        return datasets.load_dataset(builder, data_files=patterns, streaming=streaming, **options)
    except (DatasetGenerationError, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a data set: {reason(error)}") from error


def reason(error: Exception) -> str:
    """The first two lines of what a library says, as one."""
    cause = error.__cause__ or error
    return " ".join(str(cause).split("\n")[:2]) or type(cause).__name__


def group_parquet(files: list[Path], folder: Path) -> dict[str, list[Path]]:
    """The files of each split, told by the word that their names begin with."""
    words = {file: re.match(r"[a-z]*", file.name.lower())[0] for file in files}
    groups = {split: [f for f in files if words[f] in names] for split, names in SPLIT_NAMES.items()}
    groups = {split: group for split, group in groups.items() if group}
    odd = [file.name for file in files if not any(file in group for group in groups.values())]
    if odd and groups:
        raise ValueError(
            f"Which split are these files of {folder} of: {', '.join(odd)}? Name them train*.parquet, "
            "validation*.parquet or test*.parquet."
        )
    return groups or {"train": files}


def find_class_folders(folder: Path) -> dict[str, list[str]]:
    """Patterns of the images of each split, all in class folders.

    Raises:
        ValueError: if `folder` has another form.
    """
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and not hidden(path)]
    roots = {path: split for split, names in SPLIT_NAMES.items() for path in inside if path.name.lower() in names}
    if "train" not in roots.values():
        roots = {folder: "train"}
    elif len(set(roots.values())) < len(roots):
        raise ValueError(f"{folder} has two folders of one split: {', '.join(path.name for path in roots)}.")
    elif odd := [path.name for path in inside if path not in roots]:
        raise ValueError(f"{folder} has folders of splits and others, {', '.join(odd)}: move the others away.")
    for root in roots:
        found = False
        for path in root.rglob("*"):
            parts = path.relative_to(root)
            if path.suffix.lower() not in IMAGE_SUFFIXES or hidden(parts):
                continue
            if len(parts.parts) != 2:
                place = "in no class folder" if len(parts.parts) == 1 else "deeper than in a class folder"
                raise ValueError(f"The image {path} lies {place}. {LAYOUT.format(root)}")
            found = True
        if not found:
            raise ValueError(f"The folder {root} holds no images and no parquet files. {LAYOUT.format(root)}")
    return {split: [f"{escape(str(root))}/*/*"] for root, split in roots.items()}


def hidden(path: Path) -> bool:
    """Whether `datasets` passes over the path, as over .git and __MACOSX."""
    return any(part.startswith((".", "__")) for part in path.parts[-2:])


def name_splits(splits: Splits, source: str | Path) -> Splits:
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

"""Opens what a user names as data: a sample set, a folder, parquet files, or a data set of the Hub."""

import re
import warnings
from glob import escape
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub.errors import HfHubHTTPError

from ...utils.connection import no_connection
from ..io.tree import METADATA_NAMES, read_tree
from .folders import SPLIT_NAMES, SPLIT_OF, read_image_folder
from .samples import SAMPLES

Splits = datasets.DatasetDict | datasets.IterableDatasetDict


def open_source(source: str | Path, streaming: bool) -> Splits:
    """The splits of `source`, named `train`, `validation` and `test`, with the columns that it has.

    A single split becomes `train`; splits of other names are left out, with a warning, as is what a folder holds
    beside its data.

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
    elif parquet := find_parquet(path):
        groups = group_parquet(parquet, path).items()
        # one by one: read together, all would silently be given the class names of the first
        parts = [open_files("parquet", {split: files}, streaming, path) for split, files in groups]
        splits = type(parts[0])({split: part[split] for part in parts for split in part})
    else:
        return open_folder(path, streaming)
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
    except (DatasetNotFoundError, DatasetGenerationError, HfHubHTTPError, OSError, RuntimeError, ValueError) as error:
        if offline := no_connection(f"The data set {source}", error):
            raise offline from error
        if isinstance(error, DatasetNotFoundError | HfHubHTTPError):
            raise FileNotFoundError(
                f"There is no file or folder {source}, and a data set {repo} cannot be read from the Hub: check its "
                "name, or log in with `hf auth login` if it is private."
            ) from error
        raise ValueError(f"The data set {source} of the Hub cannot be read: {reason(error)}") from error


def open_folder(path: Path, streaming: bool) -> Splits:
    splits, left_out = read_image_folder(path)
    if text := left_out.describe(path):
        warnings.warn(text, stacklevel=4)
    return as_streams(splits) if streaming else splits


def as_streams(splits: datasets.DatasetDict) -> datasets.IterableDatasetDict:
    """Of shards, which worker processes share."""
    return datasets.IterableDatasetDict(
        {name: split.to_iterable_dataset(num_shards=min(64, max(1, len(split)))) for name, split in splits.items()}
    )


def find_parquet(path: Path) -> list[Path]:
    """The parquet files of a folder, which is then read from them alone."""
    found = [p for p in sorted(path.glob("*.parquet")) if p.name.lower() not in METADATA_NAMES]
    found = found or sorted(path.glob("data/*.parquet"))
    if found and (images := read_tree(path).images):
        warnings.warn(
            f"{path} is read from its parquet files; {len(images)} image files beside them are left out, the first "
            f"{images[0].relative_to(path)}.",
            stacklevel=4,
        )
    return found


def open_saved(path: Path, streaming: bool) -> Splits:
    try:
        saved = datasets.load_from_disk(path)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} cannot be read as a saved data set: {reason(error)}") from error
    splits = datasets.DatasetDict(train=saved) if isinstance(saved, datasets.Dataset) else saved
    return as_streams(splits) if streaming else splits


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
    if others := [name for name in splits if name.lower() not in SPLIT_OF]:
        warnings.warn(f"Left out of {source}: the splits {', '.join(others)}.", stacklevel=4)
    return type(splits)(named)

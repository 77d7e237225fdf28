"""Opens what a user gives as data: a sample set, a folder, parquet files, a data set of the Hub, or a loaded one."""

import re
import warnings
from collections.abc import Mapping, Sequence
from glob import escape
from os import PathLike
from pathlib import Path
from typing import Any, cast

import datasets
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub.errors import HfHubHTTPError

from ...utils.connection import no_connection
from ...utils.types import DataSource, as_name, unwrap
from ..io.tree import METADATA_NAMES, read_tree
from .folders import SPLIT_NAMES, SPLIT_OF, read_image_folder
from .samples import SAMPLES

Splits = datasets.DatasetDict | datasets.IterableDatasetDict
LOADED = (datasets.Dataset, datasets.DatasetDict, datasets.IterableDataset, datasets.IterableDatasetDict)


def open_source(source: DataSource, streaming: bool) -> Splits:
    """The splits of `source`, named `train`, `validation` and `test`, with the columns that it has.

    A single split becomes `train`; splits of other names are left out, with a warning, as is what a folder holds
    beside its data. A loaded data set is not changed.

    Raises:
        FileNotFoundError: if there is no such source.
        ValueError: if it cannot be read as a data set.
        TypeError: if it is neither a name nor a data set.
    """
    source = unwrap(source)
    if isinstance(source, LOADED):
        return name_splits(open_loaded(source, streaming), describe_source(source))
    if not isinstance(source, str | PathLike):
        raise TypeError(
            f"Data must be a name, a folder, a datasets.Dataset or a DatasetDict, got {type(source).__name__}."
        )
    path = Path(source)
    if not path.exists() and (SAMPLES / source / "train.parquet").exists():
        path = SAMPLES / source
    if not path.exists():
        splits = open_hub(str(source), streaming)
    elif path.is_file():
        if path.suffix != ".parquet":
            raise ValueError(
                f"{path} is no parquet file: give one, or a folder of class folders (archives unpacked), or a Hub id."
            )
        splits = open_files("parquet", {"train": [path]}, streaming, path)
    elif (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        splits = open_saved(path, streaming)
    elif parquet := find_parquet(path):
        groups = group_parquet(parquet, path).items()
        # one by one: read together, all would silently be given the class names of the first
        parts = [open_files("parquet", {split: files}, streaming, path) for split, files in groups]
        splits = as_splits({str(split): part[split] for part in parts for split in part})
    else:
        return open_folder(path, streaming)
    return name_splits(splits, source)


def open_loaded(source: datasets.Dataset | datasets.IterableDataset | Splits, streaming: bool) -> Splits:
    splits = as_splits(
        {str(name): split for name, split in source.items()} if isinstance(source, dict) else {"train": source}
    )
    if not splits:
        raise ValueError("The data has no splits.")
    return as_streams(splits) if streaming and isinstance(splits, datasets.DatasetDict) else splits


def as_splits(parts: Mapping[str, datasets.Dataset | datasets.IterableDataset]) -> Splits:
    """Data sets, or streams, as the mapping that datasets has for them."""
    streams = any(isinstance(part, datasets.IterableDataset) for part in parts.values())
    kind = datasets.IterableDatasetDict if streams else datasets.DatasetDict
    return kind(cast(Any, parts))


def source_list(sources: DataSource | Sequence[DataSource]) -> list[DataSource]:
    """One source, or several, as a list."""
    several = sources if isinstance(sources, list | tuple) else [sources]
    return [unwrap(source) for source in several]


def describe_source(source: DataSource) -> str:
    """What messages and records call some data: its name, or for a loaded data set its fingerprint.

    >>> describe_source("photos/")
    'photos/'
    """
    return str(as_name(source))


def without_streams(splits: Splits, source: DataSource) -> datasets.DatasetDict:
    """Splits whose rows can be counted and read in any order.

    Raises:
        ValueError: for a stream.
    """
    if isinstance(splits, datasets.IterableDatasetDict):
        raise ValueError(f"{describe_source(source)} is a stream, which cannot be used here: give a datasets.Dataset.")
    return splits


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
    shards = {name: min(64, max(1, len(split))) for name, split in splits.items()}
    streams: Any = {name: split.to_iterable_dataset(num_shards=shards[name]) for name, split in splits.items()}
    return datasets.IterableDatasetDict(streams)


def find_parquet(path: Path) -> list[Path]:
    """The parquet files of a folder, which is then read from them alone."""
    everywhere = [p for pattern in ("*.parquet", "*/*.parquet") for p in sorted(path.glob(pattern))]
    files = [p for p in everywhere if p.name.lower() not in METADATA_NAMES]
    found = [p for p in files if p.parent == path] or [p for p in files if p.parent.name == "data"]
    found = found or [p for p in files if p.parent.name.lower() in SPLIT_OF]
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
    return open_loaded(saved, streaming)


def open_files(
    builder: str, files: Mapping[str, Sequence[Path | str]], streaming: bool, path: Path, **options: Any
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
    """The files of each split, told by the word that their names begin with, or by the name of their folder."""
    names = {file: file.name if file.parent.name.lower() not in SPLIT_OF else file.parent.name for file in files}
    words = {file: re.sub(r"[^a-z].*", "", name.lower()) for file, name in names.items()}
    groups = {split: [f for f in files if words[f] in names] for split, names in SPLIT_NAMES.items()}
    groups = {split: group for split, group in groups.items() if group}
    odd = [file.name for file in files if not any(file in group for group in groups.values())]
    if odd and groups:
        raise ValueError(
            f"Which split are these files of {folder} of: {', '.join(odd)}? Name them train*.parquet, "
            "validation*.parquet or test*.parquet."
        )
    return groups or {"train": files}


def name_splits(splits: Splits, source: str | PathLike[str]) -> Splits:
    if len(splits) == 1:
        return as_splits({"train": next(iter(splits.values()))})
    found_names = [str(name) for name in splits]
    named = {}
    for wanted, names in SPLIT_NAMES.items():
        found = [name for name in found_names if name.lower() in names]
        if len(found) > 1:
            raise ValueError(f"{source} has two splits of one kind: {', '.join(found)}.")
        if found:
            named[wanted] = splits[found[0]]
    if "train" not in named:
        raise ValueError(f"{source} has no split train; it has {', '.join(found_names)}.")
    if others := [name for name in found_names if name.lower() not in SPLIT_OF]:
        warnings.warn(f"Left out of {source}: the splits {', '.join(others)}.", stacklevel=4)
    return as_splits(named)

"""What callers may give for a path, a model or data, and how the settings of a training hold it, without any library.

Settings are text, numbers and paths, which a command line and a YAML file can give. A model or data set in memory is
held as [`InMemory`], text that says what it is, with the object beside it.
"""

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

if TYPE_CHECKING:
    import datasets
    from torch import nn
    from transformers import Pipeline
    from transformers.image_processing_utils import BaseImageProcessor

    StrPath = str | PathLike[str]
    ModelSource = StrPath | nn.Module | tuple[nn.Module, BaseImageProcessor] | Pipeline
    LoadedData = datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | datasets.IterableDatasetDict
    DataSource = StrPath | LoadedData
else:
    StrPath = ModelSource = DataSource = Any


class InMemory(str):
    """What a model or a data set in memory is called, and the object itself as `value`.

    >>> InMemory([1, 2])
    'list in memory'
    """

    value: Any

    def __new__(cls, value: Any) -> Self:
        first = next(iter(value.values()), None) if isinstance(value, dict) else value
        fingerprint = getattr(first, "_fingerprint", None)
        named = super().__new__(cls, f"{type(value).__name__} in memory{f' ({fingerprint})' if fingerprint else ''}")
        named.value = value
        return named

    def __getnewargs__(self) -> tuple[Any]:
        return (self.value,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def unwrap(source: Any) -> Any:
    """The object that [`InMemory`] holds; anything else as it is."""
    return source.value if isinstance(source, InMemory) else source


def as_name(source: "ModelSource | DataSource") -> str:
    """Text for a setting: the name or path itself, or [`InMemory`]."""
    if isinstance(source, str):
        return source
    return fspath(source) if isinstance(source, PathLike) else InMemory(source)


def as_optional_name(source: "ModelSource | None") -> str | None:
    """As [`as_name`]; None stays None."""
    return None if source is None else as_name(source)


def as_names(sources: "DataSource | Sequence[DataSource]") -> list[str]:
    """As [`as_name`] for one source or several."""
    return [as_name(source) for source in (sources if isinstance(sources, list | tuple) else [cast(Any, sources)])]


def as_path(path: "StrPath") -> Path:
    return Path(path)


def as_optional_path(path: "StrPath | None") -> Path | None:
    return None if path is None else Path(path)

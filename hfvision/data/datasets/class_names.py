"""Names of classes: those of a model, and which of them are which of a data set."""

import unicodedata
import warnings
from collections.abc import Sequence

from transformers import PreTrainedConfig

from ...utils.errors import has_control_characters


def class_names(config: PreTrainedConfig) -> list[str]:
    """The names of a model's classes, in the order of its outputs."""
    labels: dict[int, str] = config.id2label or {}  # pyright: ignore[reportAssignmentType]: its keys become numbers
    return [labels[number] for number in range(config.num_labels)]


def match_classes(model_names: Sequence[str], data_names: Sequence[str]) -> list[int]:
    """For each class of the data its number in the model: the class of the same name.

    Where one side has no names (`LABEL_3`, `3`), the class of the same number.

    Raises:
        ValueError: if the classes are not the same.
    """
    if len(model_names) != len(data_names):
        raise ValueError(
            f"The model knows {len(model_names)} classes ({few(model_names)}), the data has {len(data_names)} "
            f"({few(data_names)}): they must be the same."
        )
    numbers = range(len(data_names))
    nameless = [[f"LABEL_{number}" for number in numbers], [str(number) for number in numbers]]
    if list(model_names) == list(data_names) or list(model_names) in nameless or list(data_names) in nameless:
        return list(numbers)
    mine, theirs = set(model_names), set(data_names)
    if mine != theirs or len(mine) != len(model_names):
        raise ValueError(
            f"The model's classes are not those of the data: {few(sorted(mine - theirs))} only in the model, "
            f"{few(sorted(theirs - mine))} only in the data."
        )
    return [list(model_names).index(name) for name in data_names]


def few(names: Sequence[str]) -> str:
    return ", ".join([*map(repr, names[:3]), *(["…"] if len(names) > 3 else [])]) or "none"


def check_class_names(names: Sequence[str]) -> None:
    """Raise ValueError for a name that a terminal would obey, with which no model can be loaded."""
    if bad := next(filter(has_control_characters, names), None):
        raise ValueError(f"The class {bad!r} has control characters in its name: rename it.")


def warn_of_similar_names(names: Sequence[str]) -> None:
    """Warn of names that differ only in case, in spaces around them, or in how their characters are composed."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(unicodedata.normalize("NFKC", name).casefold().strip(), name)
        if other != name:
            warnings.warn(f"{other!r} and {name!r} are two classes: rename one if they are the same.", stacklevel=3)

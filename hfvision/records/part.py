"""Dataclasses that are read from JSON objects, checked, and written back to equal ones."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints

from ..utils.json_files import is_number, refuse

NAMES = {str: "text", int: "a whole number", bool: "true or false", float: "a number", dict: "an object"}


def renamed(key: str) -> Any:
    """An optional field that is called `key` in JSON."""
    return field(default=None, metadata={"key": key})


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a record.

    A field that is None, or an empty collection by default, is left out of the JSON object. Values can also be read by
    their JSON keys: `part["key"]`, `"key" in part`.

    Attributes:
        extra: what the JSON object has beside the fields of the class; it is written back as it was read.
        marker: the key that tells this class from the other classes that the same field may hold.
    """

    marker: ClassVar[str] = ""
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, value: Any, name: str, path: str = "") -> Self:
        """Read a part from the value of a JSON object.

        Args:
            value: a dict of plain data.
            name: what messages call the file.
            path: of the part in the file, as `training.config`.

        Raises:
            ValueError: if a required field is missing, or a value is of a wrong type.
        """
        if not isinstance(value, Mapping):
            refuse(name, path or "it", "an object", value)
        prefix = f"{path}." if path else ""
        found: dict[str, Any] = {}
        for key, (attribute, kind, required) in schema(cls).items():
            if key in value and not (value[key] is None and is_optional(kind)):
                found[attribute] = convert(kind, value[key], name, prefix + key)
            elif required:
                if key not in value:
                    raise ValueError(f"{name}: {path or 'it'} must have a {key!r}.")
                found[attribute] = None
        extra = {key: each for key, each in value.items() if key not in schema(cls) or each is None}
        return cls(extra=extra, **found)

    def to_json(self) -> dict[str, Any]:
        """The part as plain data, equal to what it was read from."""
        written: dict[str, Any] = {}
        for key, (attribute, _, required) in schema(type(self)).items():
            value = getattr(self, attribute)
            if required or not (value is None or value in ({}, [])):
                written[key] = plain_data(value)
        return self.extra | written

    def __getitem__(self, key: str) -> Any:
        keys = schema(type(self))
        if key in keys and getattr(self, keys[key][0]) is not None:
            return getattr(self, keys[key][0])
        return self.extra[key]

    def __contains__(self, key: object) -> bool:
        keys = schema(type(self))
        return key in self.extra or (key in keys and getattr(self, keys[str(key)][0]) not in (None, {}, []))


@cache
def schema(cls: type[Part]) -> dict[str, tuple[str, Any, bool]]:
    """By JSON key: the attribute, its type, and whether it is required."""
    kinds = get_type_hints(cls)
    return {
        each.metadata.get("key", each.name): (
            each.name,
            kinds[each.name],
            each.default is MISSING and each.default_factory is MISSING,
        )
        for each in fields(cls)
        if each.name != "extra"
    }


def is_optional(kind: Any) -> bool:
    return kind is Any or type(None) in get_args(kind)


def convert(kind: Any, value: Any, name: str, path: str) -> Any:
    """A JSON value as a value of the type `kind`; ValueError, with the `path` of the field, if it is of another."""
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        return convert_union(arguments, value, name, path)
    if isinstance(origin, type) and issubclass(origin, Part):
        return origin.from_json(value, name, path)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            refuse(name, path, "an object", value)
        return {key: convert(arguments[1], item, name, f"{path}.{key}") for key, item in value.items()}
    if origin is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(arguments):
            refuse(name, path, f"a list of {len(arguments)} values", value)
        items = zip(arguments, value, strict=True)
        return tuple(convert(each, item, name, f"{path}[{number}]") for number, (each, item) in enumerate(items))
    if origin in (list, Sequence):
        if not isinstance(value, list | tuple):
            refuse(name, path, "a list", value)
        return [convert(arguments[0], item, name, f"{path}[{number}]") for number, item in enumerate(value)]
    fits = is_number(value) if origin is float else isinstance(value, origin)
    if not fits or (origin is int and isinstance(value, bool)):
        refuse(name, path, NAMES[origin], value)
    return value


def convert_union(kinds: tuple[Any, ...], value: Any, name: str, path: str) -> Any:
    parts = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Part)]
    if parts and isinstance(value, Mapping):
        marked = [part for part in parts if part.marker in value]
        return (marked or parts[-1:])[0].from_json(value, name, path)
    others = [kind for kind in kinds if kind is not type(None) and kind not in parts]
    for kind in others:
        try:
            return convert(kind, value, name, path)
        except ValueError:
            if kind is others[-1]:
                raise
    refuse(name, path, "an object", value)


def plain_data(value: Any) -> Any:
    """Parts as dicts and tuples as lists, at any depth."""
    if isinstance(value, Part):
        return value.to_json()
    if isinstance(value, dict):
        return {key: plain_data(item) for key, item in value.items()}
    return [plain_data(item) for item in value] if isinstance(value, list | tuple) else value

"""Reads JSON from outside: bounded in size and depth, with finite numbers, or refused in one sentence."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from .errors import one_line, printable

MAX_JSON_BYTES = 10_000_000
MAX_JSON_DEPTH = 32


def refuse(name: str, field: str, wanted: str, value: Any) -> NoReturn:
    raise ValueError(f"{name}: {printable(field, 80)} must be {wanted}, got {printable(repr(value), 80)}.")


def read_json(path: Path, name: str | None = None) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: if it is no JSON object, larger than 10 MB, nested deeper than 32 levels, or has numbers that are
            not finite.
    """
    name = name or str(path)
    try:
        if (size := path.stat().st_size) > MAX_JSON_BYTES:
            raise ValueError(f"{name} has {size:,} bytes: at most {MAX_JSON_BYTES:,} are read.")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{name} cannot be read: {one_line(error)}") from error
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"{name} is nested too deeply: at most {MAX_JSON_DEPTH} levels are read.") from None
    except ValueError as error:
        raise ValueError(f"{name} is not valid JSON: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{name} must hold a JSON object, not {type(value).__name__}.")
    for _ in entries(value, name):
        pass
    return value


def entries(value: dict[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    """Every value of a JSON object, those inside lists and objects too, with the nearest field that it belongs to.

    Raises:
        ValueError: for an object nested too deeply, or numbers that are not finite.
    """
    stack: list[tuple[str | None, Any, int]] = [(None, value, 1)]
    while stack:
        field, item, depth = stack.pop()
        if depth > MAX_JSON_DEPTH:
            raise ValueError(f"{name} is nested too deeply: at most {MAX_JSON_DEPTH} levels are read.")
        if isinstance(item, float) and not math.isfinite(item):
            refuse(name, str(field), "finite", item)
        if field is not None:
            yield field, item
        if isinstance(item, dict):
            stack += [(key, child, depth + 1) for key, child in item.items()]
        elif isinstance(item, list):
            stack += [(field, child, depth + 1) for child in item]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

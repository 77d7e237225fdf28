"""What commands print: results as they come, and the files of a batch that could not be used."""

import errno
import json
import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")
NAMED = 20  # broken files that the last message of a batch names
EXPECTED = (ValueError, OSError, ImportError, FloatingPointError)  # whose messages are sentences
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class IncompleteBatchError(ValueError):
    """Some files of a batch could not be used; all others were."""

    exit_code = 1


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a line to `stream` (standard output) in its encoding; one that cannot be written to stops nothing."""
    stream = stream or sys.stdout
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)
        stream.flush()
    except OSError:  # a closed pipe, or a log file on a full disk
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def each(
    items: Sequence[Item], work: Callable[[Item], Result], name: Callable[[Item], Path], done: str
) -> Iterator[tuple[Item, Result]]:
    """Do `work` for each item; one of several that fails is named on the standard error and passed over.

    Args:
        items: of any kind.
        work: does one.
        name: the file of an item.
        done: what could not be done, as `upscaled`, for the message.

    Yields:
        Each item with its result, as soon as it is done.

    Raises:
        IncompleteBatchError: at the end, if items failed; the message names them with the reasons.
        ValueError, OSError, ImportError, FloatingPointError: at once, if there is one item, or the disk is full.
    """
    failures = []
    for item in tqdm(items, unit="file", disable=None if len(items) > 1 else True):
        try:
            result = work(item)
        except Exception as error:
            if len(items) == 1 or is_full_disk(error):
                if isinstance(error, EXPECTED):
                    raise
                raise ValueError(f"{name(item)}: {sentence(error)}") from error
            failures.append(reason(name(item), error))
            say(f"hfvision: {failures[-1]}", sys.stderr)
            continue
        yield item, result
    if failures:
        more = f"; and {len(failures) - NAMED} more" if len(failures) > NAMED else ""
        named = "; ".join(text.rstrip(".") for text in failures[:NAMED])
        raise IncompleteBatchError(f"{len(failures)} of {len(items)} files could not be {done}: {named}{more}")


def reason(path: Path, error: Exception) -> str:
    text = sentence(error)
    return text if str(path) in text else f"{path}: {text}"


def sentence(error: Exception) -> str:
    return str(error) if isinstance(error, EXPECTED) and str(error) else f"{type(error).__name__}: {error}"


def is_full_disk(error: BaseException | None) -> bool:
    return error is not None and (getattr(error, "errno", None) in DISK or is_full_disk(error.__cause__))


def to_json(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """JSON, indented; numbers that are not finite, which JSON does not have, are null."""
    return json.dumps(finite(value), indent=2, allow_nan=False, default=default)


def finite(value: Any) -> Any:
    """Plain data with null for numbers that are not finite; an object with `to_json()` is what that returns."""
    if hasattr(value, "to_json"):
        return finite(value.to_json())
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def json_array() -> Iterator[Callable[[Any], None]]:
    """A function that prints the next element of a JSON array at once; the array is closed whatever happens."""
    count = 0

    def add(element: Any) -> None:
        nonlocal count
        text = textwrap.indent(to_json(element), "  ")
        print("[" if count == 0 else ",", text, sep="\n", end="", flush=True)
        count += 1

    try:
        yield add
    finally:
        print("\n]" if count else "[]", flush=True)


def escape_characters() -> None:
    """Let the standard streams escape characters that their encoding lacks, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

"""What commands print: results on the standard output, messages of the logger `hfvision` on the standard error."""

import errno
import json
import logging
import math
import os
import sys
import textwrap
import warnings
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


logger = logging.getLogger("hfvision")


class IncompleteBatchError(ValueError):
    """Some files of a batch could not be used; all others were."""

    exit_code = 1


class MessageHandler(logging.Handler):
    """Writes log records to the standard error, above progress bars: warnings and errors with their level."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            text = f"hfvision: {record.levelname.lower()}: {text}"
        output(text, sys.stderr)


@contextmanager
def log_to_stderr(level: int) -> Iterator[None]:
    """Write what the package logs at `level` or above to the standard error; libraries show no progress bars."""
    handlers, before = [*logger.handlers], logger.level
    logger.handlers = [*(each for each in handlers if not isinstance(each, MessageHandler)), MessageHandler()]
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.handlers = handlers
        logger.setLevel(before)


@contextmanager
def one_line_warnings(shown: bool = True) -> Iterator[None]:
    """Show warnings of this package in one line, without the code they come from, or not at all."""
    given, package = warnings.formatwarning, str(Path(__file__).parents[1])

    def formatted(message: Warning | str, category: type[Warning], filename: str, *where: Any) -> str:
        if filename.startswith(package) and category in (UserWarning, FutureWarning):
            return f"hfvision: warning: {' '.join(str(message).split())}\n"
        return given(message, category, filename, *where)

    with warnings.catch_warnings():
        if not shown:
            warnings.simplefilter("ignore")
        warnings.formatwarning = formatted
        try:
            yield
        finally:
            warnings.formatwarning = given


def output(text: str, stream: TextIO | None = None) -> None:
    """Print to `stream` (standard output) in its encoding; a stream that cannot be written to stops nothing."""
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
    for item in progress_bar(items, unit="file", disable=len(items) <= 1):
        try:
            result = work(item)
        except Exception as error:
            if len(items) == 1 or is_full_disk(error):
                if isinstance(error, EXPECTED):
                    raise
                raise ValueError(f"{name(item)}: {sentence(error)}") from error
            failures.append(reason(name(item), error))
            logger.error(failures[-1])
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


class progress_bar(tqdm):  # noqa: N801
    """tqdm's progress bar; hidden where the standard error is not a terminal, or messages are off."""

    def __init__(self, *args: Any, disable: bool | None = None, **options: Any):
        super().__init__(*args, disable=disable or logger.level > logging.INFO or None, **options)


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

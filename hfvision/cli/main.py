"""The `hfvision` command."""

import argparse
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..utils.console import escape_characters
from . import compress, detect, evaluate, publish, train, use
from .arguments import add_command


def quickstart(args: argparse.Namespace) -> None:
    from ..quickstart import run_quickstart

    run_quickstart(args.out, seed=args.seed, force=args.force)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hfvision", description="Image models the Hugging Face way: train, use and look inside them."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    command = add_command(
        commands,
        quickstart,
        "Train, save, reload and upscale on the data in the package, in about two minutes.",
        "example:\n  hfvision quickstart --out runs/quickstart",
    )
    command.add_argument("--out", type=Path, default=Path("runs/quickstart"), help="folder for what it makes")
    command.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    command.add_argument("--force", action="store_true", help="replace an earlier quickstart in that folder")
    for part in (use, train, evaluate, compress, detect, publish):
        part.add_commands(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 when all went well; 1 where `--strict` says so, or where some files of a batch could not be used; 2 for a
        mistake in the input. The reason is printed in one line.
    """
    args = build_parser().parse_args(argv)
    escape_characters()
    with one_line_warnings():
        return run(args)


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show warnings of this package without the line of code that they come from."""
    given, package = warnings.formatwarning, str(Path(__file__).parents[1])

    def formatted(message: Warning | str, category: type[Warning], filename: str, *where: Any) -> str:
        if filename.startswith(package) and category is UserWarning:
            return f"hfvision: warning: {' '.join(str(message).split())}\n"
        return given(message, category, filename, *where)

    warnings.formatwarning = formatted
    try:
        yield
    finally:
        warnings.formatwarning = given


def run(args: argparse.Namespace) -> int:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        return args.function(args) or 0
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print(f"hfvision: error: {' '.join(str(error).split())}", file=sys.stderr)
        return getattr(error, "exit_code", 2)
    except KeyboardInterrupt as error:
        if text := str(error) if hasattr(error, "number") else "interrupted":
            print(f"hfvision: {text}", file=sys.stderr)
        return 128 + getattr(error, "number", 2)

"""The `hfvision` command."""

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..utils.console import escape_characters, log_to_stderr, logger, one_line_warnings, output
from ..utils.parser import Parser
from . import benchmark, compress, detect, evaluate, info, predict, publish, train, upscale
from .commands import Command

DESCRIPTION = "Train, evaluate, harden, compress, run and publish image models in the Hugging Face ecosystem."
EPILOG = """examples:
  hfvision classify photo.jpg
  hfvision upscale photo.jpg --scale 4
  hfvision train classifier --data photos/ --model cnn:resnet18 --output-dir runs/photos
  hfvision COMMAND --help

-q, -v and --debug go with every command. Exit codes: 0 success, 1 part of a batch failed, 2 invalid input."""
SHELLS = ("bash", "zsh", "tcsh")
LEVELS = {"-q": logging.ERROR, "--quiet": logging.ERROR, "-v": logging.DEBUG, "--verbose": logging.DEBUG}
EXPECTED = (ValueError, OSError, ImportError, FloatingPointError)  # whose messages are sentences


def quickstart(args: Any) -> None:
    import datasets
    from transformers.utils import logging as transformers_logging

    from ..quickstart import run_quickstart

    # It prints a line or two for each stage; those of the trainings and of the libraries would hide them.
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        run_quickstart(args.out, seed=args.seed, force=args.force)
    finally:
        logger.setLevel(level)


def build_commands() -> Command:
    """All commands, with their parsers."""
    parser = Parser(prog="hfvision", description=DESCRIPTION, epilog=EPILOG, usage="hfvision [options] COMMAND ...")
    parser.add_argument("--version", action="version", version=f"hfvision {version('hfvision')}")
    parser.add_argument(
        "--print-completion", choices=SHELLS, help="print the completion script of a shell, to be sourced in it"
    )
    root = Command(parser)
    command = root.add(
        quickstart,
        "Train, evaluate, compress and run small models on the sample data, in a few minutes.",
        "example:\n  hfvision quickstart --output-dir runs/quickstart",
    )
    command.add_argument(
        "--output-dir",
        "--out",
        dest="out",
        metavar="DIR",
        type=Path,
        default=Path("runs/quickstart"),
        help="output folder (default: runs/quickstart)",
    )
    command.add_argument("--seed", metavar="N", type=int, default=0, help="random seed (default: 0)")
    command.add_argument("--force", action="store_true", help="overwrite an earlier quickstart")
    for part in (predict, upscale, info, train, evaluate, compress, benchmark, detect, publish):
        part.add_commands(root)
    root.add_message_options()
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 if everything that was asked for was done; 1 where `--strict` says so, or where some files of a batch
        failed; 2 for invalid input. The reason is printed to the standard error in one line.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    end = words.index("--") if "--" in words else len(words)
    levels = [LEVELS[word] for word in words[:end] if word in LEVELS]
    debug = "--debug" in words[:end]
    words = [word for word in words[:end] if word not in {*LEVELS, "--debug"}] + words[end:]
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    escape_characters()
    with log_to_stderr(levels[-1] if levels else logging.INFO), one_line_warnings(not levels or levels[-1] < 40):
        return run(words, debug=debug)


def message_of(error: BaseException) -> str:
    """What to print of an error; of one of the operating system, the file and the reason without its number."""
    if isinstance(error, OSError) and error.filename and error.strerror and str(error).startswith("[Errno"):
        return f"{error.filename}: {error.strerror.lower()}"
    return str(error)


def run(words: list[str], *, debug: bool) -> int:
    """Run a command and turn its errors into an exit code and one line, or with `debug` a traceback."""
    try:
        commands = build_commands()
        if words[:1] == ["--print-completion"] and words[1:2] and words[1] in SHELLS:
            import shtab

            output(shtab.complete(commands.parser, words[1]))
            return 0
        return commands.run(words) or 0
    except EXPECTED as error:
        if debug:
            traceback.print_exc()
        logger.error(" ".join(message_of(error).split()))
        return getattr(error, "exit_code", 2)
    except KeyboardInterrupt as error:
        if text := str(error) if hasattr(error, "number") else "interrupted":
            output(f"hfvision: {text}", sys.stderr)
        return 128 + getattr(error, "number", 2)

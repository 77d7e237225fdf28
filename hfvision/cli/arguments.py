"""What commands have in common: options, and what they read of them."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..utils.files import check_file

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

MODEL_HELP = "Hub id, folder, or name of a shipped checkpoint (see: hfvision info --list)"
TRUST_HELP = "run the model code of a Hub repository whose family is not installed here"


def add_command(
    commands: argparse._SubParsersAction,
    function: Callable[[argparse.Namespace], int | None],
    description: str,
    examples: str,
    name: str | None = None,
) -> argparse.ArgumentParser:
    """A new command that runs `function`, called like it where it has no `name`."""
    command = commands.add_parser(
        name or function.__name__.replace("_", "-"),
        help=description,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(function=function)
    return command


def add_group(commands: argparse._SubParsersAction, name: str, description: str) -> argparse._SubParsersAction:
    """A new command of several tasks; the tasks are added to what is returned."""
    group = commands.add_parser(name, help=description, description=description)
    return group.add_subparsers(title="tasks", required=True, metavar="TASK")


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def box(text: str) -> tuple[int, int]:
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) != 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a width and a height as 3840x2160")
    return positive(sides[0]), positive(sides[1])


def user_and_password(text: str) -> tuple[str, str]:
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise argparse.ArgumentTypeError("it must be USER:PASSWORD")
    return user, password


def add_data_options(command: argparse.ArgumentParser, split: bool = True) -> None:
    command.add_argument("--data", required=True, help="labelled images: see hfvision train classifier --help")
    if split:
        command.add_argument(
            "--split",
            choices=["test", "validation", "train"],
            default="test",
            help="part of the data (default test); data of one split is train",
        )
    command.add_argument("--image-column", help="column of the images, where it is not found by itself")
    command.add_argument("--label-column", help="column of the labels, where it is not found by itself")
    command.add_argument(
        "--validation",
        type=float,
        metavar="PART",
        help="set aside for validation where the data has no such split (default: as the model's training, or 0.1)",
    )
    command.add_argument(
        "--validation-group",
        metavar="COLUMN",
        help="of patients, objects …, all images of one on the same side (default: as the model's training)",
    )


def add_report_options(command: argparse.ArgumentParser, out: str, what: str = "an evaluation") -> None:
    """`--out` with its help, and what goes with it, for a command that calls [`files.check_report`]."""
    command.add_argument("--out", type=Path, help=out)
    command.add_argument("--force", action="store_true", help=f"replace {what} that is there already")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--trust-remote-code", action="store_true", help=TRUST_HELP)


def refuse_picture(args: argparse.Namespace) -> None:
    """Raise ValueError where `--out` is no name of a PNG file, or as [`files.check_file`]."""
    if args.out.suffix.lower() != ".png":
        raise ValueError(f"--out {args.out} must end in .png.")
    check_file(args.out, force=args.force)


def labelled_split(args: argparse.Namespace) -> "Dataset":
    """The part of the data that the options of [`add_data_options`] name, with columns `image` and `label`."""
    from ..data.datasets.classification import load_image_dataset

    splits = load_image_dataset(args.data, **validation_options(args), **columns_of(args))
    return chosen_split(args, splits)


def chosen_split(args: argparse.Namespace, splits: "DatasetDict") -> "Dataset":
    if args.split not in splits:
        raise ValueError(f"{args.data} has no split {args.split!r}: choose --split {' or '.join(splits)}.")
    return splits[args.split]


def columns_of(args: argparse.Namespace) -> dict[str, str | None]:
    return {"image_column": args.image_column, "label_column": args.label_column}


def validation_options(args: argparse.Namespace) -> dict[str, object]:
    """How the validation part is chosen, where it is asked for: as the training of the model did."""
    from ..hub.records import validation_settings

    if args.split != "validation":
        return {"validation": 0 if args.split == "train" else 0.1}
    return validation_settings(args.model, args.validation, args.validation_group)

"""What commands have in common: options, and checks of what they name before anything heavy is imported."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..hub.files import resolve_model
from ..models import presets
from ..utils.files import check_file
from ..utils.parser import Parser, did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

MODEL_HELP = "Hub id, folder, or shipped checkpoint"
SAMPLES = Path(__file__).parents[1] / "data" / "samples"
SPLITS = ["test", "validation", "train"]


def box(value: str | tuple[int, int]) -> tuple[int, int]:
    """A width and a height as `3840x2160`, for `type`; parsed ones stay."""
    if isinstance(value, tuple):
        return value
    sides = value.lower().replace("×", "x").split("x")
    if len(sides) != 2 or not all(side.isdigit() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(f"{value!r} is not a size such as 3840x2160")
    return int(sides[0]), int(sides[1])


def user_and_password(value: str | tuple[str, str]) -> tuple[str, str]:
    """Both parts of `USER:PASSWORD`, for `type`; parsed ones stay."""
    if isinstance(value, tuple):
        return value
    user, colon, password = value.partition(":")
    if not (user and colon and password):
        raise argparse.ArgumentTypeError("it must be USER:PASSWORD")
    return user, password


def add_output_dir(command: Parser, help: str, *, required: bool = False) -> None:
    """`--output-dir`, `--out` for short; its value is `args.out`."""
    command.add_argument(
        "--output-dir", "--out", dest="out", metavar="DIR", type=as_path, required=required, help=help
    )


def add_force(command: Parser, what: str) -> None:
    command.add_argument("--force", action="store_true", help=f"overwrite existing {what}")


def add_json(command: Parser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")


def add_trust(command: Parser) -> None:
    command.add_argument(
        "--trust-remote-code", action="store_true", help="run custom model code from the model's Hub repository"
    )


def add_data_options(command: Parser, data: str = "labeled images", column: str = "label", split: bool = True) -> None:
    """`--data` and how it is read; `column` names the column of the targets."""
    group = command.add_argument_group("data")
    group.add_argument(
        "--data", metavar="DATA", required=True, help=f"{data}: Hub id, folder, parquet file or sample dataset"
    )
    if split:
        group.add_argument("--split", choices=SPLITS, default="test", help="(default: test)")
    group.add_argument("--image-column", metavar="NAME", help="image column (default: detected)")
    group.add_argument(f"--{column}-column", metavar="NAME", help=f"{column} column (default: detected)")
    group.add_argument(
        "--validation",
        type=float,
        metavar="X",
        help="fraction held out for validation if the data has no validation split (default: as in training, or 0.1)",
    )
    group.add_argument(
        "--validation-group",
        metavar="COLUMN",
        help="column of groups, such as patients, that are not split between training and validation "
        "(default: as in training)",
    )


def add_report_options(command: Parser, out: str) -> None:
    """`--output-dir` with its help, and what goes with it, for a command that calls [`files.check_report`]."""
    add_output_dir(command, out)
    add_force(command, "results")
    add_json(command)
    add_trust(command)


def as_path(text: str) -> Path:
    """A path of the command line as it is; the parser would read it as YAML, which knows no bytes beyond UTF-8."""
    return Path(text)


def check_images(paths: Iterable[Path]) -> None:
    """Raise FileNotFoundError for the first path that does not exist."""
    for path in paths:
        if not path.exists():
            folder = path.parent
            names = [each.name for each in folder.iterdir()] if folder.is_dir() else []
            raise FileNotFoundError(f"There is no file or folder {path}{did_you_mean(path.name, names)}")


def check_model(name: str) -> None:
    """Raise FileNotFoundError where `name` can be no trained model; what is on the Hub is not looked up."""
    resolve_model(name)


def check_start_model(name: str, families: Mapping[str, tuple[str, ...]]) -> None:
    """Raise ValueError where a training cannot start from `name`.

    Args:
        name: a preset, Hub id, folder, shipped checkpoint, or `timm/NAME`.
        families: names of presets by family; of the family "" without a prefix.
    """
    family, colon, preset = name.rpartition(":")
    known = [f"{prefix}:{each}" if prefix else each for prefix, names in families.items() for each in names]
    if name in known or "/" in name or Path(name).expanduser().is_dir():
        return
    if colon and not Path(name).exists():
        raise ValueError(
            f"There is no preset {name!r}{did_you_mean(preset if family not in families else name, known)} "
            f"(presets: {', '.join(known)})"
        )
    try:
        resolve_model(name)
    except FileNotFoundError as error:
        if hint := did_you_mean(name, known):
            raise ValueError(f"There is no model {name!r}{hint} (presets: {', '.join(known)})") from error
        raise FileNotFoundError(f"{error} Presets: {', '.join(known)}.") from error


def check_data(sources: Iterable[Any]) -> None:
    """Raise FileNotFoundError for a source that can be neither a file, a sample dataset nor a Hub id."""
    for source in sources:
        name = str(source)
        is_path = name.startswith((".", "/", "~")) or name.count("/") != 1 or name.endswith("/")
        if not is_path or Path(name).expanduser().exists() or (SAMPLES / name).is_dir() or "*" in name:
            continue
        samples = [path.name for path in SAMPLES.iterdir() if path.is_dir()]
        raise FileNotFoundError(
            f"There is no file or folder {name}{did_you_mean(name, samples)}; give a Hub id (user/name), a folder, a "
            f"file, or a sample dataset ({', '.join(sorted(samples))})."
        )


CLASSIFIERS = {"cnn": presets.CNN, "vit": presets.VIT}
UPSCALERS = {"": presets.SRGAN}


def refuse_picture(args: argparse.Namespace) -> None:
    """Raise ValueError where `--out` is not the name of a PNG file, or as [`files.check_file`]."""
    if args.out.suffix.lower() != ".png":
        raise ValueError(f"--out {args.out} must end in .png.")
    check_file(args.out, force=args.force)


def labelled_split(args: argparse.Namespace) -> "Dataset":
    """The part of the data that the options of [`add_data_options`] name, with columns `image` and `label`."""
    from ..data.datasets.classification import load_image_dataset

    splits = load_image_dataset(args.data, **validation_options(args), **columns_of(args))
    return chosen_split(args, cast("DatasetDict", splits))


def chosen_split(args: argparse.Namespace, splits: "DatasetDict") -> "Dataset":
    """The split that `--split` names. Raises ValueError if the data lacks it."""
    if args.split not in splits:
        raise ValueError(f"{args.data} has no split {args.split!r}: choose --split {' or '.join(map(str, splits))}.")
    return splits[args.split]


def columns_of(args: argparse.Namespace) -> dict[str, Any]:
    """The columns of a classification dataset, as options of [`load_image_dataset`]."""
    return {"image_column": args.image_column, "label_column": args.label_column}


def validation_options(args: argparse.Namespace) -> dict[str, Any]:
    """How the validation split is made, where it is asked for: as in the training of the model."""
    from ..hub.records import validation_settings

    if args.split != "validation":
        return {"validation": 0 if args.split == "train" else 0.1}
    return validation_settings(args.model, args.validation, args.validation_group)

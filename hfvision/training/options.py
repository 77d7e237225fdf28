"""Options of trainings: dataclass fields that carry their own help, from the command line, YAML or Python."""

import dataclasses
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser


def option(default: Any, help: str, **more: Any) -> Any:  # noqa: A002
    """A dataclass field with its help; a list as default is copied for each instance."""
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata={"help": help}, **more)
    return dataclasses.field(default=default, metadata={"help": help}, **more)


def parse_options(config_class: type, arguments: list[str], prog: str, description: str) -> Any:
    """An instance of the dataclass `config_class` from command-line arguments.

    `--config FILE` reads a YAML file first; what the command line gives goes before it.

    Raises:
        ValueError: for a file that is no YAML mapping, or one with a key that is no option.
        SystemExit: with code 2, after a message, for arguments that argparse refuses.
    """
    parser = HfArgumentParser(config_class, prog=prog, description=description)
    parser.add_argument("--config", type=Path, help="YAML file of options; those on the command line go before it")
    known = {field.name for field in dataclasses.fields(config_class)}
    file = next((after for word, after in pairs(arguments) if word == "--config"), None)
    if file is not None:
        values = read_yaml(Path(file))
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"{file} has unknown options: {', '.join(unknown)}. There are: {', '.join(sorted(known))}.")
        parser.set_defaults(**values)
        for action in parser._actions:
            action.required = action.required and action.dest not in values
    given = vars(parser.parse_args(arguments))
    return config_class(**{name: value for name, value in given.items() if name in known})


def pairs(arguments: list[str]) -> list[tuple[str, str | None]]:
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    return list(zip(words, [*words[1:], None], strict=True))


def read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration file {path}.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold options as `name: value`, a line each.")
    return values


def as_plain(config: Any) -> dict[str, Any]:
    """The options of a dataclass as YAML and JSON can hold them."""
    return {
        name: str(value) if isinstance(value, Path) else value for name, value in dataclasses.asdict(config).items()
    }

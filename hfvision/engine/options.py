"""Options of trainings: dataclass fields that carry their own help, from the command line, YAML or Python."""

import dataclasses
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, dataclass_transform

import yaml

from ..utils.types import InMemory

Settings = TypeVar("Settings")
MAX_YAML = 100_000  # bytes
MAX_DEPTH = 20


def option(default: Any, help: str) -> Any:
    """A field of [`settings`] with its help; a list as default is copied for each instance."""
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata={"help": help})
    return dataclasses.field(default=default, metadata={"help": help})


class Converted(NamedTuple):
    default: Any
    help: str
    converter: Callable[[Any], Any]


def converted(*, default: Any, help: str, converter: Callable[[Any], Any]) -> Any:
    """An [`option`] whose value `converter` makes of what a caller gives; type checkers take its argument's type."""
    return Converted(default, help, converter)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(converted,))
def settings(cls: type[Settings]) -> type[Settings]:
    """A frozen dataclass of [`option`] and [`converted`] fields, which are given by name."""
    converters: dict[str, Callable[[Any], Any]] = {}
    for base in reversed(cls.__mro__):
        converters |= vars(base).get("converters", {})
    for name, field in [*vars(cls).items()]:
        if isinstance(field, Converted):
            converters[name] = field.converter
            setattr(cls, name, option(field.default, field.help))
    cls.converters = converters  # pyright: ignore[reportAttributeAccessIssue]
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


def convert_fields(config: Any) -> None:
    """Have the converters of the fields of [`settings`] make their values, in place."""
    for name, converter in config.converters.items():
        object.__setattr__(config, name, converter(getattr(config, name)))


def parse_options(
    config_class: type, arguments: list[str], prog: str, description: str, defaults: dict[str, Any] | None = None
) -> Any:
    """An instance of the dataclass `config_class` from command-line arguments.

    `--config FILE` reads a YAML file of options first; what the command line gives overrides it, and `defaults`
    replace those of the class. With `--resume`, the `config.yaml` in the folder `out` is read before both.

    Raises:
        ValueError: for a file that is no YAML mapping, and for unknown options or values, there or in `arguments`.
        SystemExit: after `--help`.
    """

    from transformers import HfArgumentParser

    def refuse(message: str) -> None:
        raise ValueError(f"{message} (see {prog} --help)")

    usage = f"{prog} [--config FILE] [--option value …]"
    parser = HfArgumentParser(config_class, prog=prog, usage=usage, description=description, allow_abbrev=False)
    parser.error = refuse
    parser.add_argument("--config", type=Path, help="YAML file of options; those on the command line override it")
    for action in parser._actions:  # of --batch_size and --batch-size, both taken, the help shows one
        action.option_strings = [text for text in action.option_strings if "_" not in text]
    parser.set_defaults(**defaults or {})
    known = {field.name for field in dataclasses.fields(config_class)}
    lists = {text for text, action in parser._option_string_actions.items() if action.nargs == "+"}
    file = parser.parse_known_args(arguments)[0].config
    words = [*(read_yaml(file, known) if file else []), *together(arguments, lists)]
    given = parser.parse_known_args(words)[0]
    if getattr(given, "resume", False) and given.out is not None and (given.out / "config.yaml").is_file():
        words = [*read_yaml(given.out / "config.yaml", known), *words]
    values = vars(parser.parse_args(words))
    values.pop("config")
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            refuse(f"argument --{name.replace('_', '-')}: {value} is no finite number")
    return config_class(**values)


def together(arguments: list[str], lists: set[str]) -> list[str]:
    """Command-line arguments with the values of each option of `lists` after its first mention.

    So `--data a --data b` is `--data a b`, where argparse would forget the first.
    """
    words: list[str] = []
    values: dict[str, list[str]] = {}
    current = words
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in lists:
            if name not in values:
                values[name] = []
                words.append(name)
            current = values[name]
            current += [value] if equals else []
        else:
            current = words if argument.startswith("--") else current
            current.append(argument)
    return [each for word in words for each in (word, *values.get(word, []))]


def read_yaml(path: Path, known: set[str]) -> list[str]:
    """The options in a YAML file as words of a command line."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration file {path}.")
    if path.stat().st_size > MAX_YAML:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes: at most {MAX_YAML:,} are read as options.")
    values = load_yaml(str(path), path.read_bytes())
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold options as `name: value`, a line each.")
    unknown = sorted(str(name) for name in set(values) - known)
    if unknown:
        raise ValueError(f"{path} has unknown options: {', '.join(unknown)}; known are {', '.join(sorted(known))}.")
    words: list[str] = []
    for name, value in values.items():
        items = value if isinstance(value, list) else [value]
        if items and value is not None:
            words += [f"--{name}", *map(str, items)]
    return words


def load_yaml(name: str, text: str | bytes) -> Any:
    """The value of a YAML document from outside.

    Raises:
        ValueError: for text that is not YAML, nested deeper than `MAX_DEPTH`, or with aliases (`*name`), which let a
            short file stand for an enormous one; it begins with `name`.
    """
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ValueError(f"{name} is nested deeper than {MAX_DEPTH} levels.")
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"{name} has the alias *{event.anchor}: write the value itself.")
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{name} is not YAML: {error}") from error
    except (ValueError, RecursionError) as error:  # a date that does not exist, a number of 5,000 digits
        text = str(error)
        raise ValueError(text if text.startswith(name) else f"{name} cannot be read: {text}") from error


def as_plain(config: Any) -> dict[str, Any]:
    """The options of a dataclass as YAML and JSON can hold them."""
    return {name: plain(value) for name, value in dataclasses.asdict(config).items()}


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path | InMemory) else value


def yaml_mapping(name: str, text: str | None) -> dict[str, Any]:
    """The option `name` whose value is a mapping in YAML; ValueError for something else."""
    fields = load_yaml(name, text or "{}")
    if not isinstance(fields, dict):
        raise ValueError(f"{name} must be a mapping, as '{{distillation_token: true}}', got {fields!r}.")
    return fields


def training_command(task: str, config: Any) -> str:
    """The command line that trains the same: every option that differs from its default."""
    return command_line(["hfvision", "train", task], config, {"resume"})


def command_line(start: list[str], config: Any, without: set[str]) -> str:
    """The words of `start` and every option that differs from its default, but for those `without`."""
    words = [*start]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        default = field.default_factory() if field.default is dataclasses.MISSING else field.default
        if value == default or field.name in without:
            continue
        words.append("--" + field.name.replace("_", "-"))
        words += [str(item) for item in value] if isinstance(value, list) else [str(value)]
    return shlex.join(words)

"""Options of trainings: dataclass fields that carry their own help, from the command line, YAML or Python."""

import dataclasses
import math
import shlex
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, TypeVar, dataclass_transform, get_args, get_origin, get_type_hints

import yaml

from ..utils.parser import Parser, UsageError, did_you_mean, option_name, replace_former
from ..utils.types import InMemory

Config = TypeVar("Config")
Settings = TypeVar("Settings")

MAX_YAML = 100_000  # bytes
MAX_DEPTH = 20


# What options are called, on the command line and in YAML files, where it is not the name of the field: as in
# transformers' TrainingArguments, Accelerate and timm. The names of fields are understood, too.
NAMES = {
    "out": "output_dir",
    "accumulate": "gradient_accumulation_steps",
    "schedule": "lr_scheduler_type",
    "warmup": "warmup_ratio",
    "ema": "ema_decay",
    "compile": "torch_compile",
    "patience": "early_stopping_patience",
    "keep_checkpoints": "save_total_limit",
    "workers": "num_workers",
    "trackers": "report_to",
}
SHORT = {"out": "--out"}  # further names that the help shows
# Fields by the part of a training that they belong to; in the order of the help.
GROUPS = {
    "data": "data validation_data image_column label_column mask_column classes by validation validation_group "
    "streaming memory_limit bad_images workers",
    "model": "model model_fields scale image_size num_channels trust_remote_code freeze lora_rank dora whiten",
    "pruning": "target_params target_macs target_latency importance importance_images rounds finetune",
    "optimization": "epochs steps_per_epoch batch_size accumulate optimizer learning_rate momentum weight_decay "
    "layer_decay schedule warmup max_grad_norm ema label_smoothing balance dice_weight pixel_loss pixel_weight luma "
    "mixed_precision compile gradient_checkpointing patience seed",
    "augmentation": "augment flip erasing mixup cutmix corruptions crop shrink candidates turn rotation zoom light "
    "colour degradation tta",
    "adversarial": "adversarial epsilon norm attack_steps attack_step_size adversarial_weight awp robust_images gan "
    "gan_weight grid_weight discriminator_learning_rate r1 perceptual perceptual_weight",
    "distillation": "teacher distillation distillation_weight distillation_temperature self_ensemble",
    "output": "out resume keep checkpoint_minutes keep_checkpoints trackers",
}


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


def add_options(parser: Parser, config_class: type, *, without: Collection[str] = ()) -> None:
    """Add the fields of a dataclass to a parser as options, in [`GROUPS`], and `--config`."""
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    types = get_type_hints(config_class)
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names.split():
            if name in fields and name not in without:
                strings = [option_name(NAMES.get(name, name)), *([SHORT[name]] if name in SHORT else [])]
                group.add_argument(*strings, dest=name, **argument(fields[name], types[name]))
        if title == "output":
            group.add_argument(
                "--config", type=Path, metavar="FILE", help="YAML file of options; the command line overrides it"
            )


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default of a field."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def argument(field: dataclasses.Field[Any], kind: Any) -> dict[str, Any]:
    """The arguments of `add_argument` for a field of the type `kind`."""
    default = default_of(field)
    help = field.metadata["help"]
    if default not in (None, "", []) and not isinstance(default, bool) and "(default" not in help:
        help += f" (default: {default})"
    elif isinstance(default, bool):
        help += f" (default: {str(default).lower()})"
    options: dict[str, Any] = {"type": kind, "default": default, "help": help.replace("%", "%%")}
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        return options | {"type": item, "nargs": "+", "action": "extend", "metavar": field.name.upper()}
    if kind is bool or bool in get_args(kind):
        return options | {"nargs": "?", "const": True, "metavar": "{true,false}"}
    choices = [value for part in (kind, *get_args(kind)) if get_origin(part) is Literal for value in values(part)]
    return options | {"metavar": f"{{{','.join(choices)}}}" if choices else metavar(kind)}


def values(literal: Any) -> list[str]:
    """The values of a Literal, of nested ones too."""
    return [each for part in get_args(literal) for each in (values(part) if get_origin(part) is Literal else [part])]


def metavar(kind: Any) -> str:
    """A word for the values of a type: the first of a union."""
    first = next((part for part in get_args(kind) if part is not NoneType), kind)
    return {int: "N", float: "X", Path: "DIR"}.get(first, "NAME")


def parse_options(
    config_class: type[Config],
    arguments: Sequence[str],
    prog: str,
    description: str = "",
    defaults: dict[str, Any] | None = None,
) -> Config:
    """An instance of the dataclass `config_class` from command-line arguments.

    `--config FILE` reads a YAML file of options first; what the command line gives overrides it, and `defaults`
    replace those of the class. With `--resume`, the `config.yaml` in the output folder is read before both.

    Raises:
        ValueError: for a file that is no YAML mapping, and for unknown options or values, there or in `arguments`.
        SystemExit: after `--help`.
    """
    parser = Parser(prog=prog, usage=f"{prog} --data DATA [options]", description=description)
    add_options(parser, config_class)
    return read_config(parser, config_class, arguments, defaults)


def read_config(
    parser: Parser, config_class: type[Config], arguments: Sequence[str], defaults: dict[str, Any] | None = None
) -> Config:
    """[`parse_options`] with a parser that has the options of the class already."""
    given = vars(parser.parse_args(current_names(arguments), defaults=False))
    file = given.pop("config", None)
    options = (defaults or {}) | (read_yaml(parser, file, config_class) if file else {}) | given
    out = options.get("out")
    if options.get("resume") and out is not None and (out / "config.yaml").is_file():
        options = read_yaml(parser, out / "config.yaml", config_class) | options
    for name, value in options.items():
        if isinstance(value, float) and not math.isfinite(value):
            parser.error(f"{option_name(NAMES.get(name, name))}: {value} is not a finite number")
    known = set(get_type_hints(config_class))
    return config_class(**{name: value for name, value in options.items() if name in known})


def current_names(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments with former names of options replaced, underscores in names, and `--no-x` for `--x`."""
    former = {option_name(name): option_name(new) for name, new in NAMES.items() if name not in SHORT}
    words = []
    for word in arguments:
        name, equals, value = word.partition("=")
        name = name.replace("_", "-") if name.startswith("--") else name
        if name.startswith("--no-") and not equals:
            name, equals, value = name.replace("--no-", "--", 1), "=", "false"
        words.append(f"{name}{equals}{value}")
    return replace_former(words, former)


def read_yaml(parser: Parser, path: Path, config_class: type) -> dict[str, Any]:
    """The options in a YAML file by the names of their fields, checked as those on the command line."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration file {path}.")
    if path.stat().st_size > MAX_YAML:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes: at most {MAX_YAML:,} are read as options.")
    content = load_yaml(str(path), path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold options as `name: value`, a line each.")
    fields = {field.name for field in dataclasses.fields(config_class)}
    known = {NAMES.get(name, name): name for name in fields} | {name: name for name in fields}
    if unknown := sorted(str(name) for name in set(content) - set(known)):
        hint = did_you_mean(unknown[0], known)
        named = ", ".join(sorted({NAMES.get(name, name) for name in fields}))
        raise ValueError(f"{path} has unknown options: {', '.join(unknown)}{hint}; known are {named}.")
    words: list[str] = []
    for name, value in content.items():
        items = value if isinstance(value, list) else [value]
        if items and value is not None:
            words += [option_name(NAMES.get(known[name], known[name])), *map(as_word, items)]
    try:
        return vars(parser.parse_args(words, defaults=False))
    except UsageError as error:
        raise ValueError(f"{path}: {error}") from error


def as_word(value: Any) -> str:
    """A value of a YAML file as on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


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
        default = default_of(field)
        if value == default or field.name in without:
            continue
        words.append(option_name(NAMES.get(field.name, field.name)))
        words += map(as_word, value if isinstance(value, list) else [value])
    return shlex.join(words)

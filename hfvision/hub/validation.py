"""Checks the files of a model that may come from anyone before a library reads them.

Labels (`name`) are what messages call a file: `user/model/config.json` or `runs/x/config.json`.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open

from ..utils.connection import no_connection
from ..utils.errors import has_control_characters, one_line
from ..utils.json_files import entries, is_number, refuse

MAX_LABELS = 100_000
MAX_LABEL_LENGTH = 1_000
MAX_SIDE = 4_096
MAX_CHANNELS = 1_024
MAX_LAYERS = 1_000
MAX_INTEGER = 100_000_000
MAX_FILES = 1_000
MAX_TENSORS = 100_000

DTYPES = ("auto", "float16", "bfloat16", "float32", "float64")
QUANTIZATIONS = ("openvino", "quanto", "onnx")
# Fields by which transformers, timm or PEFT would read files other than those that are checked here.
OTHER_FILES = (
    *("transformers_weights", "configuration_files", "checkpoint_path", "pretrained_cfg_overlay"),
    *("use_pretrained_backbone", "pretrained"),
)
IMPLEMENTATIONS = ("attn_implementation", "experts_implementation", "implementation_internal")  # kernels of the Hub
PLAIN_NAME = re.compile(r"(timm/)?[\w.-]+")
WEIGHT_FILE = re.compile(r"[\w-][\w.-]*\.safetensors")
LAYER_FIELD = re.compile(r"(num_\w*(layers|blocks|stages)|\w*depths?|n_layers?)")
SIDE_FIELD = re.compile(r"(\w*_)?(size|edge|height|width)")


@contextmanager
def library_errors(what: str) -> Iterator[None]:
    """Whatever a library raises for a file from outside, as one sentence that begins with `what`.

    Raises:
        ImportError: if a library is missing.
        ConnectionError: if it is not on this machine and there is no connection to the Hub.
        ValueError: for every other error, RecursionError and MemoryError among them.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{what} cannot be loaded: {one_line(error)}") from error
    except Exception as error:
        if offline := no_connection(what, error):
            raise offline from error
        raise ValueError(f"{what} cannot be loaded: {one_line(error)}") from error


def is_integer(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def check_type(settings: dict[str, Any], field: str, kind: type, wanted: str, name: str) -> Any:
    """The value of a field, None where it is not given."""
    value = settings.get(field)
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        refuse(name, field, wanted, value)
    return value


def check_config(settings: dict[str, Any], name: str) -> None:
    """Raise ValueError where what config.json holds is of wrong types or out of bounds, or names other files."""
    check_type(settings, "model_type", str, "a name", name)
    check_type(settings, "auto_map", dict, "an object", name)
    architectures = check_type(settings, "architectures", list, "a list of names", name) or []
    if not all(isinstance(architecture, str) for architecture in architectures):
        refuse(name, "architectures", "a list of names", architectures)
    check_labels(settings, name)
    quantization = check_type(settings, "quantization_config", dict, "an object", name)
    if quantization is not None and quantization.get("quant_method") not in QUANTIZATIONS:
        refuse(name, "quant_method of quantization_config", f"one of {', '.join(QUANTIZATIONS)}", quantization)
    for field in ("return_dict", "use_return_dict"):
        if settings.get(field) not in (None, True):
            refuse(name, field, "true", settings[field])
    for field, value in entries(settings, name):
        check_field(field, value, name)
    if isinstance(settings.get("pretrained_cfg"), dict):  # where timm's models keep what their processor does
        check_normalization(settings["pretrained_cfg"], name)


def check_labels(settings: dict[str, Any], name: str) -> None:
    count = settings.get("num_labels")
    if count is not None and not is_integer(count, 0, MAX_LABELS):
        refuse(name, "num_labels", f"a whole number up to {MAX_LABELS:,}", count)
    labels = check_type(settings, "id2label", dict, "an object of numbers and names", name)
    numbers = check_type(settings, "label2id", dict, "an object of names and numbers", name) or {}
    if not all(is_integer(number, 0, MAX_LABELS) for number in numbers.values()):
        refuse(name, "label2id", "an object of names and numbers", numbers)
    if labels is None:
        return
    if len(labels) > MAX_LABELS or not all(str(number) in labels for number in range(len(labels))):
        refuse(name, "id2label", f"one name for each number from 0 on, at most {MAX_LABELS:,}", labels)
    for label in labels.values():
        if not isinstance(label, str) or len(label) > MAX_LABEL_LENGTH:
            refuse(name, "a name in id2label", f"text of at most {MAX_LABEL_LENGTH:,} characters", label)
        if has_control_characters(label):
            refuse(name, "a name in id2label", "text without control characters", label)


def check_field(field: str, value: Any, name: str) -> None:
    """Raise ValueError for a value of config.json, at any depth, that names other files or that no network has."""
    if field in OTHER_FILES and value:
        raise ValueError(f"{name}: {field} names other files, which are not read; take the field out.")
    if field in ("backbone", "architecture") and isinstance(value, str) and not PLAIN_NAME.fullmatch(value):
        refuse(name, field, "the plain name of a timm model", value)
    if field.endswith(IMPLEMENTATIONS):
        names = value.values() if isinstance(value, dict) else [value]
        if not all(name is None or (isinstance(name, str) and re.fullmatch(r"\w+", name)) for name in names):
            refuse(name, field, "a plain name", value)
    if field in ("dtype", "torch_dtype") and not (value is None or isinstance(value, dict) or value in DTYPES):
        refuse(name, field, f"one of {', '.join(DTYPES)}", value)
    if isinstance(value, int):
        check_integer(field, value, name)


def check_integer(field: str, value: int, name: str) -> None:
    if field in ("image_size", "img_size", "input_size") and not is_integer(value, 1, MAX_SIDE):
        refuse(name, field, f"from 1 to {MAX_SIDE:,}", value)
    if field == "num_channels" and not is_integer(value, 1, MAX_CHANNELS):
        refuse(name, field, f"from 1 to {MAX_CHANNELS:,}", value)
    if LAYER_FIELD.fullmatch(field) and value > MAX_LAYERS:
        refuse(name, field, f"at most {MAX_LAYERS:,}", value)
    if abs(value) > MAX_INTEGER:
        refuse(name, field, f"at most {MAX_INTEGER:,}", value)


def check_processor(settings: dict[str, Any], name: str) -> None:
    """Raise ValueError where the settings of an image processor are of wrong types or out of bounds."""
    check_type(settings, "auto_map", dict, "an object", name)
    for field, value in settings.items():
        if field.startswith("do_") and value not in (None, True, False):
            refuse(name, field, "true or false", value)
        if field.endswith("_type") and not isinstance(value, str | None):
            refuse(name, field, "a name", value)
    resample = settings.get("resample")
    if not (resample is None or isinstance(resample, str) or is_integer(resample, 0, 5)):
        refuse(name, "resample", "from 0 to 5", resample)
    for field, low, high in (("rescale_factor", 1e-9, 1e3), ("crop_pct", 0.1, 2)):
        value = settings.get(field)
        if value is not None and not (is_number(value) and low <= value <= high):
            refuse(name, field, f"a number from {low:g} to {high:g}", value)
    if settings.get("num_channels") is not None and not is_integer(settings["num_channels"], 1, MAX_CHANNELS):
        refuse(name, "num_channels", f"from 1 to {MAX_CHANNELS:,}", settings["num_channels"])
    check_normalization(settings, name)
    for field, value in settings.items():
        if SIDE_FIELD.fullmatch(field):
            check_sides(value, field, name)
    for field, value in entries(settings, name):
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            refuse(name, field, f"at most {MAX_INTEGER:,}", value)


def check_sides(value: Any, field: str, name: str) -> None:
    sides = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    if not all(side is None or is_integer(side, 1, MAX_SIDE) for side in sides):
        refuse(name, field, f"of whole numbers from 1 to {MAX_SIDE:,}", value)


def check_normalization(settings: dict[str, Any], name: str) -> None:
    """Raise ValueError for a mean that is not finite, or a standard deviation that is not above 0."""
    for field, low in (("image_mean", -1e6), ("mean", -1e6), ("image_std", 1e-6), ("std", 1e-6)):
        value = settings.get(field)
        values: list[Any] = value if isinstance(value, list) else [value]
        if value is not None and not (values and all(is_number(v) and low <= v <= 1e6 for v in values)):
            refuse(name, field, "finite numbers" + (" above 0" if low > 0 else ""), value)


def check_index(index: dict[str, Any], name: str) -> list[str]:
    """The weight files that an index of safetensors names.

    Raises:
        ValueError: if one is no plain name of a safetensors file, which would be read from elsewhere or by pickle.
    """
    weights = index.get("weight_map")
    if not isinstance(weights, dict) or not weights:
        refuse(name, "weight_map", "an object of the file of each weight", weights)
    for file in weights.values():
        if not isinstance(file, str) or not WEIGHT_FILE.fullmatch(file):
            refuse(name, "every file of weight_map", "the plain name of a .safetensors file beside it", file)
    if not isinstance(index.get("metadata"), dict):
        refuse(name, "metadata", "an object", index.get("metadata"))
    files = sorted(set(weights.values()))
    if len(files) > MAX_FILES:
        raise ValueError(f"{name} names {len(files):,} files: at most {MAX_FILES:,} are read.")
    return files


def check_inside(path: Path, folder: Path, name: str) -> None:
    """Raise ValueError for a file that is a link out of the folder; the Hub's cache links to `blobs` of its own."""
    inside = [folder.resolve()]
    if inside[0].parent.name == "snapshots":
        inside += [parent / "blobs" for parent in inside[0].parents[1:3]]  # of the repository, and of all of them
    if not any(path.resolve().is_relative_to(part) for part in inside):
        raise ValueError(
            f"{name} is a symbolic link out of its folder, which is not followed: put the file itself there."
        )


def read_sizes(path: Path, name: str) -> int:
    """How many numbers the tensors of a safetensors file hold, from its header alone."""
    with library_errors(name), safe_open(path, framework="pt") as file:
        keys = file.keys()
        if len(keys) > MAX_TENSORS:
            raise ValueError(f"it holds {len(keys):,} tensors, at most {MAX_TENSORS:,} are read")
        return sum(math.prod(file.get_slice(key).get_shape()) for key in keys)

"""Loads a model with its image processor by a Hub id, a folder, or the name of a shipped checkpoint."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HfHubHTTPError, HFValidationError, StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForImageToImage,
    AutoModelForSemanticSegmentation,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.image_processing_utils import BaseImageProcessor

from .checkpoints import checkpoint, list_checkpoints

AUTO_MODELS = {
    "image-classification": AutoModelForImageClassification,
    "image-super-resolution": AutoModelForImageToImage,
    "image-segmentation": AutoModelForSemanticSegmentation,
}


def resolve_model(name: str) -> str:
    """What `from_pretrained` takes for `name`: the folder of a shipped checkpoint, a folder, or a Hub id.

    A folder of that name comes before a checkpoint.

    Raises:
        FileNotFoundError: if `name` looks like a path and is no folder with a model.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise FileNotFoundError(f"The folder {name} holds no model: it has no config.json.")
        return str(path)
    if name in list_checkpoints():
        return checkpoint(name)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        there = ", ".join(list_checkpoints()) or "none in this version"
        raise FileNotFoundError(
            f"There is no model {name!r}: give a Hub id (user/name), a folder that holds a config.json, or the name "
            f"of a shipped checkpoint ({there})."
        )
    return name


def load_config(name: str, *, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The configuration of a model; arguments and errors as for [`load_model`]."""
    source = resolve_model(name)
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, StrictDataclassError, HfHubHTTPError, HFValidationError, KeyError) as error:
        if "trust_remote_code" in str(error):
            raise ValueError(
                f"{name} is of a family that is not installed here. To run the model code in its repository, look at "
                "that code and then say trust_remote_code=True (--trust-remote-code)."
            ) from error
        raise ValueError(f"The configuration of {name} cannot be loaded: {one_line(error)}") from error


def load_model(name: str, task: str, *, trust_remote_code: bool = False) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """The model called `name`, in evaluation mode, and its image processor.

    Args:
        name: a Hub id, a folder, or a shipped checkpoint.
        task: `image-classification`, `image-super-resolution` or `image-segmentation`.
        trust_remote_code: run the model code of a Hub repository whose family is not installed here.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it is a model for another task, or its configuration or weights cannot be loaded whole.
    """
    source = resolve_model(name)
    config = load_config(name, trust_remote_code=trust_remote_code)
    check_task(name, task, config, trust_remote_code)
    model = load_compressed(source, config, AUTO_MODELS[task])
    report: dict[str, Any] = {"missing_keys": []}
    if model is None:
        model, report = load_weights(name, task, config=config, trust_remote_code=trust_remote_code)
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ValueError(
            f"{name} lacks weights for {task}: {', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}"
        )
    try:
        processor = AutoImageProcessor.from_pretrained(source, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, HfHubHTTPError) as error:
        raise ValueError(f"The image processor of {name} cannot be loaded: {one_line(error)}") from error
    return model.eval(), processor


def load_weights(
    name: str, task: str, *, config: PreTrainedConfig, trust_remote_code: bool = False, **options: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model called `name` built by `config`, and transformers' report of missing and mismatched weights.

    `options` go to `from_pretrained`; other arguments and errors are as for [`load_model`].
    """
    check_task(name, task, config, trust_remote_code)
    try:
        return AUTO_MODELS[task].from_pretrained(
            resolve_model(name),
            config=config,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, HfHubHTTPError) as error:
        raise ValueError(f"The weights of {name} cannot be loaded: {one_line(error)}") from error


def check_task(name: str, task: str, config: PreTrainedConfig, trust_remote_code: bool) -> None:
    """Raise ValueError for a configuration of a model that does not do `task`."""
    auto = AUTO_MODELS[task]
    remote = trust_remote_code and auto.__name__ in (getattr(config, "auto_map", None) or {})
    if type(config) not in auto._model_mapping and not remote:
        raise ValueError(f"{name} is a model of type {config.model_type!r}, which does not do {task}.")


def load_compressed(source: str, config: PreTrainedConfig, auto: Any) -> Any | None:
    """The model of `hfvision quantize` whose form transformers does not load; None for any other.

    Raises:
        ImportError: if the library that computes it is not installed.
        ValueError: if its files cannot be read, or it is ONNX, which is for other programs.
    """
    method = quantization(config)
    if method == "openvino":
        from .compression.openvino import load_openvino

        return load_openvino(source, config)
    if method == "quanto":
        from .compression.quanto import load_quanto

        return load_quanto(source, config, auto)
    if method == "onnx":
        raise ValueError(f"{source} holds an ONNX model, for other programs: use its parent here.")
    return None


def quantization(config: PreTrainedConfig) -> str | None:
    """How the weights of a model are quantized: `openvino`, `quanto`, `onnx`, or not."""
    settings = getattr(config, "quantization_config", None) or {}
    return (settings if isinstance(settings, dict) else settings.to_dict()).get("quant_method")


def read_record_of(name: str) -> dict[str, Any]:
    """What record.json beside the weights of a model says; empty where there is none on this machine.

    Raises:
        FileNotFoundError: as [`resolve_model`].
        ValueError: if it is no JSON object.
    """
    path = Path(resolve_model(name)) / "record.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path} is no record: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path} is no record: it must hold a JSON object.")
    return record


def earlier_record(name: str) -> dict[str, Any]:
    """The part of [`read_record_of`] that stays true of what is made from a model: `about`, `parent`, `training` and
    the steps of `compression` so far, where they are there."""
    record = read_record_of(name)
    return {key: record[key] for key in ("about", "parent", "training", "compression") if key in record}


def validation_settings(name: str, validation: float | None = None, group: str | None = None) -> dict[str, Any]:
    """How the training of a model chose its validation images, as options of `load_image_dataset`.

    Args:
        name: of the model.
        validation, group: what goes before the recorded `validation` and `validation_group`, where given.

    Returns:
        `validation`, `validation_group` and `seed`; the defaults of a training where nothing is recorded.
    """
    recorded = read_record_of(name).get("training", {}).get("config", {})
    return {
        "validation": (recorded.get("validation") or 0.1) if validation is None else validation,
        "validation_group": recorded.get("validation_group") if group is None else group,
        "seed": recorded.get("seed", 0),
    }


def one_line(error: Exception) -> str:
    """The message of an error in one line of readable length."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + " …"

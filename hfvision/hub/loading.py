"""Loads a model with its image processor by a Hub id, a folder, or the name of a shipped checkpoint."""

from pathlib import Path
from typing import Any

from huggingface_hub import is_offline_mode
from huggingface_hub.errors import OfflineModeIsEnabled
from transformers import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    MODEL_FOR_IMAGE_TO_IMAGE_MAPPING,
    MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForImageToImage,
    AutoModelForSemanticSegmentation,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils.hub import extract_commit_hash

from ..utils.connection import no_connection
from ..utils.json_files import read_json
from .files import commit_of, find_file, resolve_model
from .network_checks import check_finite, check_outputs, check_size
from .validation import check_config, check_index, check_processor, check_type, library_errors, read_sizes

AUTO_MODELS = {
    "image-classification": AutoModelForImageClassification,
    "image-super-resolution": AutoModelForImageToImage,
    "image-segmentation": AutoModelForSemanticSegmentation,
}
MODEL_MAPPINGS = {
    "image-classification": MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    "image-super-resolution": MODEL_FOR_IMAGE_TO_IMAGE_MAPPING,
    "image-segmentation": MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING,
}


def load_config(name: str, *, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The configuration of a model; arguments and errors as for [`load_model`]."""
    source, label = resolve_model(name), f"{name}/config.json"
    path = find_file(name, "config.json")
    if path is None and is_offline_mode() and not Path(source).is_dir():
        raise no_connection(label, OfflineModeIsEnabled())
    if path is None:
        raise ValueError(f"{label} cannot be loaded: there is no such file.")
    settings = read_json(path, label)
    check_config(settings, label)
    commit = extract_commit_hash(str(path), None)
    try:
        with library_errors(label):
            config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code, revision=commit)
            config._commit_hash = commit  # which transformers from 5.24 on does not keep
    except ValueError as error:
        if "trust_remote_code" in str(error.__cause__):
            raise ValueError(
                f"{label} is of a family that is not installed here. To run the model code in its repository, look at "
                "that code and then say trust_remote_code=True (--trust-remote-code)."
            ) from error
        raise
    refuse_methods(config, settings, label)
    return config


def load_model(name: str, task: str, *, trust_remote_code: bool = False) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """The model called `name`, in evaluation mode, and its image processor.

    A small image goes through both, so that what is returned works.

    Args:
        name: a Hub id, a folder, or a shipped checkpoint.
        task: `image-classification`, `image-super-resolution` or `image-segmentation`.
        trust_remote_code: run the model code of a Hub repository whose family is not installed here.

    Raises:
        FileNotFoundError: if there is no such folder.
        ImportError: if a library that it takes is not installed.
        ConnectionError: if it is not on this machine and there is no connection to the Hub.
        ValueError: if it is a model for another task, its files are malformed, name files elsewhere or cannot be
            loaded whole, or configuration, image processor and weights do not fit each other.
    """
    config = load_config(name, trust_remote_code=trust_remote_code)
    check_task(name, task, config, trust_remote_code)
    model = load_compressed(name, config, AUTO_MODELS[task])
    if model is None:
        options = {"trust_remote_code": trust_remote_code, "ignore_mismatched_sizes": True}
        model, report = load_weights(name, task, config=config, **options)
        check_complete(report, name, task)
    processor = load_processor(name, config, trust_remote_code=trust_remote_code)
    check_outputs(model.eval(), processor, task, name)
    return model, processor


def load_processor(name: str, config: PreTrainedConfig, *, trust_remote_code: bool = False) -> BaseImageProcessor:
    """The image processor of the model called `name`; arguments and errors as for [`load_model`]."""
    source, settings, label = resolve_model(name), {}, f"{name}/preprocessor_config.json"
    for file in ("preprocessor_config.json", "processor_config.json"):
        path = find_file(name, file, commit_of(config))
        if path is None:
            continue
        found = read_json(path, f"{name}/{file}")
        if file == "processor_config.json":
            found = check_type(found, "image_processor", dict, "an object", f"{name}/{file}") or {}
        check_processor(found, f"{name}/{file}")
        settings |= found
    with library_errors(label):
        options = {"trust_remote_code": trust_remote_code, "revision": commit_of(config)}
        processor = AutoImageProcessor.from_pretrained(source, **options)
    if not isinstance(processor, BaseImageProcessor):
        raise ValueError(f"{label} names {type(processor).__name__}, which is no image processor.")
    refuse_methods(processor, settings, label)
    return processor


def load_weights(
    name: str, task: str, *, config: PreTrainedConfig, trust_remote_code: bool = False, **options: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model called `name` built by `config`, and transformers' report of missing and mismatched weights.

    `options` go to `from_pretrained`; other arguments and errors are as for [`load_model`].
    """
    check_task(name, task, config, trust_remote_code)
    return load_by(AUTO_MODELS[task], name, config=config, trust_remote_code=trust_remote_code, **options)


def load_by(
    auto: Any, name: str, *, config: PreTrainedConfig, trust_remote_code: bool = False, **options: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """As [`load_weights`], by an Auto class, or the class itself."""
    numbers = sum(read_sizes(path, f"The weights {name}/{path.name}") for path in weight_files(name, config))
    if not (trust_remote_code and auto.__name__ in (getattr(config, "auto_map", None) or {})):
        check_size(config, auto, numbers, f"{name}/config.json")
    with library_errors(f"The weights {name}/model.safetensors"):
        model, report = auto.from_pretrained(
            resolve_model(name),
            config=config,
            trust_remote_code=trust_remote_code,
            revision=commit_of(config),
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    check_finite(model.state_dict().items(), f"{name}/model.safetensors")
    return model, report


def weight_files(name: str, config: PreTrainedConfig) -> list[Path]:
    """The safetensors files of a model, fetched where `name` is a Hub id.

    Raises:
        ValueError: if there are none, the index names files elsewhere, or adapters are among them.
    """
    commit = commit_of(config)
    if find_file(name, "adapter_config.json", commit):
        raise ValueError(f"{name} holds adapters (adapter_config.json): give a model that they are merged into.")
    if path := find_file(name, "model.safetensors", commit):
        return [path]
    label = f"{name}/model.safetensors.index.json"
    index = find_file(name, "model.safetensors.index.json", commit)
    if index is None:
        raise ValueError(f"{name} has no weights in safetensors: there is no model.safetensors.")
    files = {file: find_file(name, file, commit) for file in check_index(read_json(index, label), label)}
    if lost := next((file for file, path in files.items() if path is None), None):
        raise ValueError(f"{label} names {lost}, which is not there.")
    return list(files.values())


def check_complete(report: dict[str, Any], name: str, task: str) -> None:
    """Raise ValueError where transformers' report says that weights are missing or have other shapes."""
    missing = sorted(report["missing_keys"])
    named = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
    if missing:
        raise ValueError(f"{name}/model.safetensors lacks weights for {task} that config.json describes: {named}")
    for key, held, described in sorted(report["mismatched_keys"]):
        raise ValueError(
            f"The weights {name}/model.safetensors hold {key} in the shape {tuple(held)}, but config.json describes "
            f"{tuple(described)}."
        )


def refuse_methods(made: Any, settings: dict[str, Any], label: str) -> None:
    """Raise ValueError where a field of a JSON file took the place of a method of what was made from it."""
    if taken := next((field for field in settings if callable(getattr(type(made), field, None))), None):
        raise ValueError(f"{label}: {taken} is no field of {type(made).__name__}.")


def supports(config: PreTrainedConfig, task: str, *, trust_remote_code: bool = False) -> bool:
    """Whether the Auto class of `task` makes a model from this configuration, or the code in its repository does."""
    in_repository = trust_remote_code and AUTO_MODELS[task].__name__ in (getattr(config, "auto_map", None) or {})
    return type(config) in MODEL_MAPPINGS[task] or in_repository


def check_task(name: str, task: str, config: PreTrainedConfig, trust_remote_code: bool) -> None:
    """Raise ValueError for a configuration of a model that does not do `task`."""
    if not supports(config, task, trust_remote_code=trust_remote_code):
        raise ValueError(f"{name}/config.json is of a model of type {config.model_type!r}, which does not do {task}.")


def load_compressed(name: str, config: PreTrainedConfig, auto: Any) -> Any | None:
    """The model of `hfvision quantize` whose form transformers does not load; None for any other.

    Raises:
        ImportError: if the library that computes it is not installed.
        ValueError: if its files cannot be read, or it is ONNX, which is for other programs.
    """
    method = quantization(config)
    if method == "openvino":
        from .openvino_model import load_openvino

        return load_openvino(name, config)
    if method == "quanto":
        from .quanto_model import load_quanto

        return load_quanto(name, config, auto)
    if method == "onnx":
        raise ValueError(f"{name} (see config.json) holds an ONNX model, for other programs: use its parent here.")
    return None


def quantization(config: PreTrainedConfig) -> str | None:
    """How the weights of a model are quantized: `openvino`, `quanto`, `onnx`, or not."""
    settings = getattr(config, "quantization_config", None) or {}
    return (settings if isinstance(settings, dict) else settings.to_dict()).get("quant_method")

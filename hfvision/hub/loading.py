"""Loads a model with its image processor: by a Hub id, a folder, the name of a shipped checkpoint, or from memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from huggingface_hub import is_offline_mode
from huggingface_hub.errors import OfflineModeIsEnabled
from torch import nn
from transformers import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    MODEL_FOR_IMAGE_TO_IMAGE_MAPPING,
    MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForImageToImage,
    AutoModelForSemanticSegmentation,
    Pipeline,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import logging
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


class LoadedModel(NamedTuple):
    """A model in evaluation mode and its image processor, as [`load_model`] gives them.

    >>> model, processor = load_model("sr-tiny-x2")
    >>> load_model("sr-tiny-x2")
    LoadedModel(SRGANForImageSuperResolution of 41,361 parameters, SRGANImageProcessor)
    """

    model: PreTrainedModel
    processor: BaseImageProcessor

    def __repr__(self) -> str:
        parameters = f"{self.model.num_parameters():,} parameters"
        return f"LoadedModel({type(self.model).__name__} of {parameters}, {type(self.processor).__name__})"


# What takes a model takes a name, a folder, the model, the model with its processor, or a pipeline that has both.
ModelLike: TypeAlias = str | PathLike[str] | nn.Module | tuple[nn.Module, BaseImageProcessor] | Pipeline


def load_config(name: str | Path, *, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The configuration of a model; arguments and errors as for [`load_model`]."""
    source, label = resolve_model(name), f"{name}/config.json"
    path = find_file(name, "config.json")
    if path is None and is_offline_mode() and not Path(source).is_dir():
        offline = OfflineModeIsEnabled()
        raise no_connection(label, offline) or offline
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


def load_model(name: ModelLike, task: str | None = None, *, trust_remote_code: bool = False) -> LoadedModel:
    """A model in evaluation mode and its image processor.

    A model of the Hub or a folder is loaded anew at each call, and a small image goes through both, so that what is
    returned works. A loaded one is returned as it is, with the processor of the folder that it was loaded from.

    >>> model, processor = load_model("cnn-cifar10-small", "image-classification")
    >>> model.config.id2label[3]
    'cat'
    >>> load_model((model, processor)).model is model
    True

    Args:
        name: a Hub id, a folder, or a shipped checkpoint; a model, a model with its image processor, or a pipeline.
        task: `image-classification`, `image-super-resolution` or `image-segmentation`; where not given, the one that
            the model is for.
        trust_remote_code: run the model code of a Hub repository whose family is not installed here.

    Raises:
        FileNotFoundError: if there is no such folder.
        TypeError: if it is neither a name nor a model.
        ImportError: if a library that it takes is not installed.
        ConnectionError: if it is not on this machine and there is no connection to the Hub.
        ValueError: if it is a model for another task, its files are malformed, name files elsewhere or cannot be
            loaded whole, or configuration, image processor and weights do not fit each other.
    """
    if not isinstance(name, str | PathLike):
        return take_loaded(name, task)
    name = fspath(name)
    config = load_config(name, trust_remote_code=trust_remote_code)
    task = task or only_task(name, config, trust_remote_code)
    check_task(name, task, config, trust_remote_code)
    model = load_compressed(name, config, AUTO_MODELS[task])
    if model is None:
        options = {"trust_remote_code": trust_remote_code, "ignore_mismatched_sizes": True}
        model, report = load_weights(name, task, config=config, **options)
        check_complete(report, name, task)
    processor = load_processor(name, config, trust_remote_code=trust_remote_code)
    check_outputs(model.eval(), processor, task, name)
    return LoadedModel(model, processor)


def take_loaded(given: Any, task: str | None) -> LoadedModel:
    """[`load_model`] for a model, a model with its image processor, or a pipeline."""
    if isinstance(given, Pipeline):
        given = given.model, given.image_processor
    model, processor = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
    config = getattr(model, "config", None)
    if not isinstance(model, nn.Module) or not isinstance(config, PreTrainedConfig):
        raise TypeError(
            f"A model must be a name, a folder, a model of transformers, or a model and its image processor, got "
            f"{type(model).__name__}."
        )
    name = type(model).__name__
    task = task or only_task(name, config, True)
    check_task(name, task, config, True)
    if processor is None:
        origin = origin_of(model)
        if not origin:
            raise ValueError(f"{name} comes without its image processor: give both, as (model, processor).")
        processor = load_processor(origin, load_config(origin))
    return LoadedModel(model.eval(), processor)  # pyright: ignore[reportArgumentType]: OpenVINO's are called alike


def origin_of(model: nn.Module) -> str:
    """The folder or Hub id that a model was loaded from; empty for one that was made."""
    folder = getattr(model, "folder", None)  # of a model of OpenVINO
    return str(folder or getattr(model, "name_or_path", "") or "")


def only_task(name: str, config: PreTrainedConfig, trust_remote_code: bool) -> str:
    """The task that a model of this configuration is for.

    Raises:
        ValueError: if there is none of `AUTO_MODELS`.
    """
    if task := next(
        (task for task in AUTO_MODELS if supports(config, task, trust_remote_code=trust_remote_code)), None
    ):
        return task
    raise ValueError(f"{name} is a {config.model_type!r} model, which does none of {', '.join(AUTO_MODELS)}.")


def load_processor(
    name: str | Path, config: PreTrainedConfig, *, trust_remote_code: bool = False
) -> BaseImageProcessor:
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
    with library_errors(f"The weights {name}/model.safetensors"), without_progress_bars():
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


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing how it loads weights."""
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


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
    files: list[Path] = []
    for file in check_index(read_json(index, label), label):
        if (path := find_file(name, file, commit)) is None:
            raise ValueError(f"{label} names {file}, which is not there.")
        files.append(path)
    return files


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

"""Start models of trainings: presets and timm backbones with random or published weights, and trained models."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import timm
from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError
from timm.models import PretrainedCfg
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from ..hub.loading import load_config, load_weights
from ..models.image_processing_classification import ImageClassificationProcessor
from ..utils.connection import no_connection
from ..utils.errors import one_line

Start = tuple[PreTrainedModel, BaseImageProcessor]
RANDOM = ":random"  # after the name of a timm architecture


@dataclass(frozen=True)
class StartOptions:
    """What a start model is made for.

    Attributes:
        names: of the classes, in the order of the labels.
        num_channels: 3 or 1, for presets and timm backbones (default 3); trained models have theirs.
        image_size: side of the images in pixels; that of the preset or the model where not given.
        overrides: further fields of a preset's configuration.
        trust_remote_code: run the model code of a Hub repository whose family is not installed here.
    """

    names: Sequence[str]
    num_channels: int | None = None
    image_size: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False

    @property
    def labels(self) -> dict[str, Any]:
        """The fields of a configuration that name the classes."""
        id2label = dict(enumerate(self.names))
        return {"id2label": id2label, "label2id": {label: number for number, label in id2label.items()}}

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a new model's configuration."""
        given = {"num_channels": self.num_channels, "image_size": self.image_size}
        return self.labels | {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class StartModels:
    """How the start models of a task are made.

    Attributes:
        families: configuration and model class, by the word before the colon of a preset.
        processor: from a preset's configuration.
        from_timm: from the name of a timm architecture and the fields of the configuration.
        from_trained: from the name of a trained model and its configuration.
    """

    families: Mapping[str, tuple[Any, Any]]
    processor: Callable[[PreTrainedConfig], BaseImageProcessor]
    from_timm: Callable[[str, dict[str, Any]], Start]
    from_trained: Callable[[str, PreTrainedConfig, StartOptions], Start]


def start_model(name: str, models: StartModels, options: StartOptions) -> Start:
    """A model to train, and its image processor.

    Args:
        name: a preset with random weights (`cnn:cifar`); a timm architecture as backbone, with pretrained weights
            from the Hub (`timm/resnet18`, whose default tag is taken, or `timm/resnet18.a1_in1k`) or random ones
            (`timm/resnet18:random`); or a trained model by Hub id, folder or name of a shipped checkpoint.
        models: of the task.
        options: what the model is made for.

    Raises:
        FileNotFoundError: if there is no such folder.
        ConnectionError: if the model is not on this machine and there is no connection to the Hub.
        ValueError: for an unknown preset or architecture, options that do not fit it, or a model that is of another
            task or cannot be loaded.
    """
    family, colon, preset = name.partition(":")
    if options.overrides and (not colon or name.startswith("timm/")):
        fields = ", ".join(options.overrides)
        raise ValueError(f"Only the fields of a preset can be replaced ({fields}), not those of {name}.")
    try:
        if name.startswith("timm/"):
            return models.from_timm(name, options.fields)
        if colon:
            if family not in models.families:
                raise ValueError(f"There is no family {family!r}: give cnn:PRESET or vit:PRESET, got {name!r}.")
            config_class, model_class = models.families[family]
            model = model_class(config_class.from_preset(preset, **(options.fields | dict(options.overrides))))
            return model, models.processor(model.config)
    except (StrictDataclassError, RuntimeError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise ValueError(f"The model {name} cannot be made: {one_line(cause)}") from error
    config = load_config(name, trust_remote_code=options.trust_remote_code)
    channels = getattr(config, "num_channels", options.num_channels)
    if options.num_channels not in (None, channels):
        raise ValueError(f"{name} takes images of {channels} channels, not {options.num_channels}.")
    return models.from_trained(name, config, options)


def is_random(name: str) -> bool:
    """Whether the start model called `name` has random weights: a preset, or a timm architecture with `:random`."""
    return name.endswith(RANDOM) if name.startswith("timm/") else ":" in name


def published_config(name: str) -> PretrainedCfg | None:
    """What timm knows of the weights of `timm/NAME`, `timm/NAME.TAG` or `timm/NAME:random`."""
    return timm.get_pretrained_cfg(name.removeprefix("timm/").removesuffix(RANDOM))


def timm_model(name: str, config_class: Any, model_class: Any, fields: Mapping[str, Any]) -> Any:
    """A model around a timm backbone, with pretrained weights from the Hub, or random ones where the name ends in
    `:random`. A name without a tag means its default tag, as in timm's own `pretrained=True`.

    Raises:
        ConnectionError, ValueError: if the weights cannot be fetched, or there are none.
    """
    architecture, colon, word = name.partition(":")
    if colon and not is_random(name):
        raise ValueError(
            f"{name} ends in {word!r}: give {architecture}, or {architecture}{RANDOM} for random weights."
        )
    published = published_config(name)
    if is_random(name) or (published is None and "." not in name):  # an unknown one, which fails by its name
        return model_class(config_class(backbone=architecture, **fields))
    advice = f"{architecture.partition('.')[0]}{RANDOM} starts with random weights."
    if published is not None and not published.has_weights:
        raise ValueError(f"timm has no pretrained weights for {name}: {advice}")
    if published is not None and "." not in name:
        name = f"{name}.{published.tag}" if published.tag else name
    try:
        return model_class.from_timm(name, **fields)
    except (OSError, RuntimeError, HfHubHTTPError) as error:
        if offline := no_connection(f"The model {name}", error):
            raise ConnectionError(f"{offline} {advice}") from error
        raise ValueError(f"The weights of {name} cannot be fetched: {one_line(error)} {advice}") from error


def timm_processor(name: str, config: Any) -> ImageClassificationProcessor:
    """[`default_processor`], with the mean and deviation that published weights were trained with."""
    processor = default_processor(config)
    published = published_config(name)
    if published is not None and not is_random(name) and config.num_channels == len(published.mean):
        normalizing: Any = processor
        normalizing.image_mean, normalizing.image_std = published.mean, published.std
    return processor


def default_processor(config: Any) -> ImageClassificationProcessor:
    """Resizing to the side in `config`; ImageNet's mean and deviation for color images, 0.5 for gray ones."""
    channels = getattr(config, "num_channels", 3)
    side = getattr(config, "image_size", None) or 224
    height, width = (side, side) if isinstance(side, int) else side
    options: dict[str, Any] = {
        "size": {"height": height, "width": width},
        "num_channels": channels,
        "image_mean": list(IMAGENET_DEFAULT_MEAN) if channels == 3 else [0.5] * channels,
        "image_std": list(IMAGENET_DEFAULT_STD) if channels == 3 else [0.5] * channels,
    }
    return ImageClassificationProcessor(**options)


def load_for_classes(
    name: str, task: str, config: PreTrainedConfig, options: StartOptions
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A trained model whose `config` is given the classes of `options`, and the report of weights that do not fit."""
    for key, value in options.labels.items():
        setattr(config, key, value)
    trust = options.trust_remote_code
    return load_weights(name, task, config=config, trust_remote_code=trust, ignore_mismatched_sizes=True)


def warn_of_fresh_head(name: str, old: Sequence[str], new: Sequence[str]) -> None:
    """Warn that the head of the model called `name` has random weights."""
    warnings.warn(
        f"{name} gets a fresh head for {len(new)} classes ({shortened(new)}); it had {len(old)} ({shortened(old)}).",
        stacklevel=5,
    )


def shortened(names: Sequence[str]) -> str:
    """The first three names."""
    return ", ".join([*names[:3], *(["…"] if len(names) > 3 else [])])

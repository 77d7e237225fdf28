"""Start models of classifier trainings."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import AutoModelForImageClassification, PreTrainedConfig
from transformers.image_processing_utils import BaseImageProcessor

from ...data.datasets.class_names import class_names, match_classes
from ...hub.loading import load_processor
from ...models.cnn.configuration_cnn import CNNConfig
from ...models.cnn.modeling_cnn import CNNForImageClassification
from ...models.vit.configuration_vit import VisionTransformerConfig
from ...models.vit.modeling_vit import VisionTransformerForImageClassification
from ..start import (
    Start,
    StartModels,
    StartOptions,
    default_processor,
    load_for_classes,
    published_config,
    start_model,
    timm_model,
    timm_processor,
    warn_of_fresh_head,
)
from .transfer import head_names, is_in

FAMILIES = {
    "cnn": (CNNConfig, CNNForImageClassification),
    "vit": (VisionTransformerConfig, VisionTransformerForImageClassification),
}


def load_start(
    name: str,
    *,
    names: Sequence[str],
    num_channels: int | None = None,
    image_size: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
) -> Start:
    """A classifier to train for the classes `names`, and its image processor.

    A trained model keeps its head if it has these classes in this order, or as many where one side has no names;
    otherwise it gets a fresh one, with a warning.

    Args:
        name: as for [`tasks.start.start_model`], of any classifier.
        names, num_channels, overrides, trust_remote_code: see [`tasks.start.StartOptions`].
        image_size: side that the processor resizes images to; the model's own where not given.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: as [`tasks.start.start_model`].
    """
    options = StartOptions(names, num_channels, image_size, overrides or {}, trust_remote_code)
    return start_model(name, StartModels(FAMILIES, default_processor, from_timm, from_trained), options)


def from_timm(name: str, fields: dict[str, Any]) -> Start:
    """A classifier with a timm backbone.

    Raises:
        ValueError: for a backbone that takes images of another size only.
    """
    published = published_config(name)
    side = published.input_size[-1] if published is not None else None
    model = timm_model(name, CNNConfig, CNNForImageClassification, ({"image_size": side} if side else {}) | fields)
    patches = getattr(model.cnn.encoder, "patch_embed", None)
    fixed = published is not None and published.fixed_input_size and getattr(patches, "strict_img_size", True)
    if fixed and model.config.image_size != side:
        raise ValueError(f"{name} takes images of {side} pixels only, not {model.config.image_size}.")
    return model, timm_processor(name, model.config)


def from_trained(name: str, config: PreTrainedConfig, options: StartOptions) -> Start:
    """A trained classifier, with a fresh head where it has other classes.

    Raises:
        ValueError: if weights other than the head's are missing or do not fit.
    """
    old, new = class_names(config), list(options.names)
    try:
        same = match_classes(old, new) == list(range(len(new)))
    except ValueError:
        same = False
    model, report = load_for_classes(name, "image-classification", config, options)
    head = head_names(model)
    fresh = [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]
    lost = [key for key in fresh if not is_in(key, head)]
    if lost:
        raise ValueError(f"{name} lacks weights or has some of another shape: {', '.join(sorted(lost)[:3])}.")
    if not same:
        source = AutoModelForImageClassification.from_config(config, trust_remote_code=options.trust_remote_code)
        for part in head:
            model.get_submodule(part).load_state_dict(source.get_submodule(part).state_dict())
    if fresh or not same:
        warn_of_fresh_head(name, old, new)
    return model, saved_processor(name, config, options)


def saved_processor(name: str, config: PreTrainedConfig, options: StartOptions) -> BaseImageProcessor:
    """The model's image processor, resizing to `options.image_size` where given; a default one where it has none."""
    try:
        processor = load_processor(name, config, trust_remote_code=options.trust_remote_code)
    except ValueError:
        warnings.warn(
            f"{name} comes without an image processor that can be loaded: images are resized to its size and "
            "normalized by ImageNet's mean and deviation, or 0.5 if they are gray.",
            stacklevel=5,
        )
        processor = default_processor(config)
    if options.image_size is not None:
        resizing: Any = processor
        side = {"height": options.image_size, "width": options.image_size}
        short = "shortest_edge" in (getattr(resizing, "size", None) or {})
        resizing.size = type(resizing.size)(**({"shortest_edge": options.image_size} if short else side))
        if getattr(resizing, "crop_size", None):
            resizing.crop_size = type(resizing.crop_size)(**side)
    return processor

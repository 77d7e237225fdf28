"""Start models of segmenter trainings."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedConfig

from ...data.datasets.class_names import class_names
from ...hub.loading import check_task, load_model
from ...models.cnn.configuration_cnn import CNNConfig, CNNSegmentationConfig
from ...models.cnn.modeling_cnn_segmentation import CNNForSemanticSegmentation
from ...models.image_processing_segmentation import ImageSegmentationProcessor
from ...models.vit.configuration_vit import VisionTransformerConfig, VisionTransformerSegmentationConfig
from ...models.vit.modeling_vit_segmentation import VisionTransformerForSemanticSegmentation
from ..start import (
    Start,
    StartModels,
    StartOptions,
    default_processor,
    load_for_classes,
    start_model,
    timm_model,
    timm_processor,
    warn_of_fresh_head,
)

FAMILIES = {
    "cnn": (CNNSegmentationConfig, CNNForSemanticSegmentation),
    "vit": (VisionTransformerSegmentationConfig, VisionTransformerForSemanticSegmentation),
}
OF_CLASSIFIER: dict[type, tuple[Any, Any]] = {CNNConfig: FAMILIES["cnn"], VisionTransformerConfig: FAMILIES["vit"]}


def load_segmenter(
    name: str,
    *,
    names: Sequence[str],
    num_channels: int | None = None,
    image_size: int = 128,
    overrides: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
) -> Start:
    """A segmenter to train for the classes `names`, and its image processor.

    A trained segmenter keeps its head if it has as many classes; otherwise it gets a fresh one, with a warning. A
    classifier of hfvision's families gives its encoder and its processor's mean and deviation; the decoder is fresh.

    Args:
        name: as for [`tasks.start.start_model`], of a segmenter or a classifier of hfvision's families.
        names, num_channels, overrides, trust_remote_code: see [`tasks.start.StartOptions`].
        image_size: side of training crops: a ViT's position embeddings are stored for it.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: as [`tasks.start.start_model`].
    """
    options = StartOptions(names, num_channels, image_size, overrides or {}, trust_remote_code)
    models = StartModels(FAMILIES, preset_processor, from_timm, from_trained)
    return start_model(name, models, options)


def preset_processor(config: PreTrainedConfig) -> ImageSegmentationProcessor:
    """The processor of a segmenter with random weights."""
    return processor_like(default_processor(config))


def from_timm(name: str, fields: dict[str, Any]) -> Start:
    """A segmenter with a timm backbone."""
    model = timm_model(name, CNNSegmentationConfig, CNNForSemanticSegmentation, fields)
    return model, processor_like(timm_processor(name, model.config))


def from_trained(name: str, config: PreTrainedConfig, options: StartOptions) -> Start:
    """A trained segmenter, or one with the encoder of a classifier."""
    if type(config) in OF_CLASSIFIER:
        return from_classifier(name, options)
    check_task(name, "image-segmentation", config, options.trust_remote_code)
    old = class_names(config)
    _, processor = load_model(name, "image-segmentation", trust_remote_code=options.trust_remote_code)
    model, report = load_for_classes(name, "image-segmentation", config, options)
    if report["mismatched_keys"]:
        warn_of_fresh_head(name, old, options.names)
    return model, processor


def from_classifier(name: str, options: StartOptions) -> Start:
    """A segmenter with the encoder of the classifier `name`."""
    classifier, processor = load_model(name, "image-classification")
    config_class, model_class = OF_CLASSIFIER[type(classifier.config)]
    known = classifier.config.to_diff_dict()
    kept = {key: value for key, value in known.items() if key in config_class.__dataclass_fields__ and key != "dtype"}
    model = model_class(config_class(**kept | options.labels))
    encoder = getattr(model, model.base_model_prefix)
    weights = getattr(classifier, model.base_model_prefix).state_dict()
    encoder.load_state_dict({key: weights[key] for key in encoder.state_dict()})
    return model, processor_like(processor)


def processor_like(processor: Any) -> ImageSegmentationProcessor:
    """The segmenters' processor with the mean, deviation and channels of a classifier's."""
    options: dict[str, Any] = {
        "num_channels": getattr(processor, "num_channels", 3),
        "image_mean": list(processor.image_mean),
        "image_std": list(processor.image_std),
    }
    return ImageSegmentationProcessor(**options)

"""Where a training starts: fresh or trained models, frozen parts, low-rank adapters, layers numbered for timm."""

import types
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import timm
from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners import lora
from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import AutoModelForImageClassification, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from transformers.modeling_layers import GradientCheckpointingLayer

from ...data.datasets.class_names import class_names, match_classes
from ...hub.loading import load_config, load_processor, load_weights
from ...models.cnn.configuration_cnn import CNNConfig
from ...models.cnn.modeling_cnn import CNNForImageClassification
from ...models.image_processing_classification import ImageClassificationProcessor
from ...models.vit.configuration_vit import VisionTransformerConfig
from ...models.vit.modeling_vit import VisionTransformerForImageClassification
from ...utils.connection import no_connection
from ...utils.errors import one_line

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
    overrides: dict[str, Any] | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """A classifier to train for the classes `names`, and its image processor.

    A trained model keeps its head if it has these classes in this order, or as many where one side has no names;
    otherwise it gets a fresh one, with a warning that says so.

    Args:
        name: a preset with random weights (`cnn:cifar`, `vit:tiny`); a timm architecture as backbone, with random
            weights (`timm/convnext_atto`) or, by its tag, those from the Hub (`timm/resnet18.a1_in1k`); or any
            classifier by Hub id, folder or name of a shipped checkpoint.
        names: of the classes, in the order of the labels.
        num_channels: 3 or 1, for presets and timm architectures (default 3); trained models have theirs.
        image_size: side in pixels that the processor brings images to; the model's own where not given.
        overrides: further fields of a preset's configuration.
        trust_remote_code: run the model code of a Hub repository whose family is not installed here.

    Raises:
        FileNotFoundError: if there is no such folder.
        ConnectionError: if it is not on this machine and there is no connection to the Hub.
        ValueError: for an unknown preset or architecture, settings that do not fit it, or a model that is no
            classifier or cannot be loaded.
    """
    labels = {"id2label": dict(enumerate(names)), "label2id": {label: number for number, label in enumerate(names)}}
    given = {"num_channels": num_channels, "image_size": image_size}
    fields = labels | {key: value for key, value in given.items() if value is not None}
    family, colon, preset = name.partition(":")
    if overrides and not colon:
        raise ValueError(f"Only the fields of a preset can be replaced ({', '.join(overrides)}), not those of {name}.")
    try:
        if colon:
            if family not in FAMILIES:
                raise ValueError(f"There is no family {family!r}: give cnn:PRESET or vit:PRESET, got {name!r}.")
            config_class, model_class = FAMILIES[family]
            model = model_class(config_class.from_preset(preset, **(fields | (overrides or {}))))
            return model, default_processor(model.config)
        if name.startswith("timm/"):
            return timm_start(name, fields)
    except (StrictDataclassError, RuntimeError) as error:
        raise ValueError(f"The model {name} cannot be made: {one_line(error.__cause__ or error)}") from error
    if num_channels is not None:
        have = getattr(load_config(name, trust_remote_code=trust_remote_code), "num_channels", num_channels)
        if have != num_channels:
            raise ValueError(f"{name} takes images of {have} channels, not {num_channels}.")
    return trained_start(name, labels, image_size, trust_remote_code)


def timm_start(name: str, fields: dict[str, Any]) -> tuple[PreTrainedModel, BaseImageProcessor]:
    published = timm.get_pretrained_cfg(name.removeprefix("timm/"))
    if published is not None:
        fields = {"image_size": published.input_size[-1]} | fields
    if "." not in name:
        model = CNNForImageClassification(CNNConfig(backbone=name, **fields))
    else:
        try:
            model = CNNForImageClassification.from_timm(name, **fields)
        except (OSError, RuntimeError, HfHubHTTPError) as error:
            if offline := no_connection(f"The model {name}", error):
                raise offline from error
            raise ValueError(f"The weights of {name} cannot be fetched: {one_line(error)}") from error
    processor = default_processor(model.config)
    if published is not None:
        side = published.input_size[-1]
        patches = getattr(model.cnn.encoder, "patch_embed", None)
        one_size = published.fixed_input_size and getattr(patches, "strict_img_size", True)
        if one_size and model.config.image_size != side:
            raise ValueError(f"{name} takes images of {side} pixels only, not {model.config.image_size}.")
        if "." in name and model.config.num_channels == len(published.mean):
            processor.image_mean, processor.image_std = published.mean, published.std
    return model, processor


def trained_start(
    name: str, labels: dict[str, Any], image_size: int | None, trust_remote_code: bool
) -> tuple[PreTrainedModel, BaseImageProcessor]:
    config = load_config(name, trust_remote_code=trust_remote_code)
    old = class_names(config)
    new = list(labels["label2id"])
    try:
        same = match_classes(old, new) == list(range(len(new)))
    except ValueError:
        same = False
    for key, value in labels.items():
        setattr(config, key, value)
    model, report = load_weights(
        name,
        "image-classification",
        config=config,
        trust_remote_code=trust_remote_code,
        ignore_mismatched_sizes=True,
    )
    head = head_names(model)
    fresh = [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]
    lost = [key for key in fresh if not is_in(key, head)]
    if lost:
        raise ValueError(f"{name} lacks weights or has some of another shape: {', '.join(sorted(lost)[:3])}.")
    if not same:
        source = AutoModelForImageClassification.from_config(config, trust_remote_code=trust_remote_code)
        for part in head:
            model.get_submodule(part).load_state_dict(source.get_submodule(part).state_dict())
    if fresh or not same:
        warnings.warn(
            f"{name} gets a fresh head for {len(new)} classes ({', '.join(new[:3])}{', …' if len(new) > 3 else ''}); "
            f"it had {len(old)} ({', '.join(old[:3])}{', …' if len(old) > 3 else ''}).",
            stacklevel=3,
        )
    return model, saved_processor(name, config, image_size, trust_remote_code)


def default_processor(config: Any) -> ImageClassificationProcessor:
    """Resizing to the side in `config`; ImageNet's mean and deviation for colours, 0.5 for grey."""
    channels = getattr(config, "num_channels", 3)
    side = getattr(config, "image_size", None) or 224
    height, width = (side, side) if isinstance(side, int) else side
    return ImageClassificationProcessor(
        size={"height": height, "width": width},
        num_channels=channels,
        image_mean=list(IMAGENET_DEFAULT_MEAN) if channels == 3 else [0.5] * channels,
        image_std=list(IMAGENET_DEFAULT_STD) if channels == 3 else [0.5] * channels,
    )


def saved_processor(name: str, config: Any, image_size: int | None, trust_remote_code: bool) -> BaseImageProcessor:
    try:
        processor = load_processor(name, config, trust_remote_code=trust_remote_code)
    except ValueError:
        warnings.warn(
            f"{name} comes without an image processor that can be loaded: images are resized to its size and get "
            "ImageNet's mean and deviation, or 0.5 where they are grey.",
            stacklevel=4,
        )
        processor = default_processor(config)
    if image_size is not None:
        side = {"height": image_size, "width": image_size}
        short = "shortest_edge" in (getattr(processor, "size", None) or {})
        processor.size = type(processor.size)(**({"shortest_edge": image_size} if short else side))
        if getattr(processor, "crop_size", None):
            processor.crop_size = type(processor.crop_size)(**side)
    return processor


def head_names(model: nn.Module) -> list[str]:
    """The modules of a classifier that come after its backbone and have weights, by name."""
    base = getattr(model, "base_model_prefix", "")
    names = [name for name, child in model.named_children() if name != base and list(child.parameters())]
    if names:
        return names
    if hasattr(getattr(model, base, None), "get_classifier"):  # transformers' wrapper of timm models
        head = getattr(model, base).get_classifier()
        names = [name for name, module in model.named_modules() if module is head]
    if not names:
        raise ValueError(f"The head of a {type(model).__name__} is not known.")
    return names


def is_in(name: str, modules: Sequence[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def freeze(model: nn.Module, what: Literal["none", "backbone"]) -> None:
    """Choose what trains: with `backbone` frozen only the head does (a linear probe), with `none` everything.

    Batch normalisation of a frozen part keeps its running statistics (see [`keep_frozen_statistics`]).

    Raises:
        ValueError: for another `what`, or a model whose head is not known.
    """
    if what not in ("none", "backbone"):
        raise ValueError(f"freeze must be 'none' or 'backbone', got {what!r}.")
    model.requires_grad_(True)
    if what == "backbone":
        head = head_names(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(is_in(name, head))
    keep_frozen_statistics(model)


def keep_frozen_statistics(model: nn.Module) -> nn.Module:
    """Keep every batch normalisation whose weights are frozen in evaluation mode, also after `model.train()`.

    In training mode it would normalise by the batch and change its running statistics although it is frozen; adapters
    that are saved without them would then not give what was trained. Those that train are set free again.

    Returns:
        `model`.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.affine:
            vars(module).pop("train", None)
            if not any(parameter.requires_grad for parameter in module.parameters()):
                module.eval()
                module.train = types.MethodType(stay_in_evaluation, module)
    return model


def stay_in_evaluation(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


def add_lora(model: PreTrainedModel, rank: int, *, alpha: float | None = None, dora: bool = False) -> PeftModel:
    """Freeze `model` and add trainable low-rank matrices to the layers of its backbone; the head trains in full.

    All linear layers and convolutions get them (LoRA: Hu et al. 2022, arXiv:2106.09685; DoRA: Liu et al. 2024,
    arXiv:2402.09353), but for grouped convolutions, which cannot be merged again, and with DoRA layers with outputs
    whose weights are all 0; these are frozen as they are. Running
    statistics of batch normalisation stay as they are, since adapters are saved without them.

    Args:
        model: any classifier.
        rank: of the matrices, at least 1.
        alpha: the matrices' product counts `alpha / rank` times; `rank` where not given.
        dora: also train the length of each output's weights.

    Returns:
        The model with adapters: `save_pretrained` writes these and the head alone, `PeftModel.from_pretrained(base,
        folder)` loads them, and `merge_and_unload()` gives a plain model with equal outputs.

    Raises:
        ValueError: for a rank below 1, or a backbone without such layers.
    """
    if rank < 1:
        raise ValueError(f"The rank of low-rank adapters must be at least 1, got {rank}.")
    head = head_names(model)
    targets = [
        name
        for name, module in model.named_modules()
        if not is_in(name, head)
        and (isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1))
    ]
    if dora:
        # DoRA divides by the length of each output's weights.
        weights = {name: model.get_submodule(name).weight.detach().flatten(1) for name in targets}
        zero = [name for name, weight in weights.items() if (weight.norm(dim=1) == 0).any()]
        targets = [name for name in targets if name not in zero]
        if zero:
            warnings.warn(
                f"No DoRA for layers with outputs whose weights are all 0: {', '.join(zero)}. They are frozen.",
                stacklevel=2,
            )
    if not targets:
        raise ValueError(f"The backbone of this {type(model).__name__} has no layers for low-rank adapters.")
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha or rank,
        use_dora=dora,
        target_modules=targets,
        modules_to_save=head,
    )
    adapted = get_peft_model(model, config)
    if dora:
        for module in adapted.modules():
            if isinstance(module, lora.Conv2d):
                module.register_forward_pre_hook(keep_contiguous)
    return keep_frozen_statistics(adapted)


def keep_contiguous(module: lora.Conv2d, inputs: Any) -> None:
    """PEFT takes a view of this matrix for DoRA, which fails where the model was moved to channels_last."""
    for matrix in module.lora_A.values():
        matrix.weight.data = matrix.weight.data.contiguous()


def number_layers(model: nn.Module) -> None:
    """Tell timm's `layer_decay` which layer each weight is of, by the method `group_matcher` it asks for.

    A layer is one of timm's groups in a timm backbone, else a block that transformers can checkpoint
    (`GradientCheckpointingLayer`); what comes before the blocks is layer 0 and what comes after them the last.

    Raises:
        ValueError: for a model that has neither.
    """
    numbers = layer_numbers(model)
    model.group_matcher = lambda coarse=False: numbers.__getitem__


def layer_numbers(model: nn.Module) -> dict[str, int]:
    """The number of its layer, from 0 at the input, for each parameter by name."""
    names = [name for name, _ in model.named_parameters()]
    for prefix, module in model.named_modules():
        if hasattr(module, "group_matcher") and module is not model:
            inside = group_parameters(module, module.group_matcher(coarse=False), reverse=True)
            last = max(inside.values()) + 1
            return {name: inside.get(name.removeprefix(f"{prefix}."), last) for name in names}
    blocks: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, GradientCheckpointingLayer) and not is_in(name, blocks):
            blocks.append(name)
    if not blocks:
        raise ValueError(f"layer_decay does not know the layers of a {type(model).__name__}: leave it out.")
    numbers, begun = {}, False
    for name in names:
        inside = next((number for number, block in enumerate(blocks, 1) if is_in(name, [block])), None)
        begun = begun or inside is not None
        numbers[name] = inside or (len(blocks) + 1 if begun else 0)
    return numbers

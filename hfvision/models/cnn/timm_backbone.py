"""A timm model in place of the stem and stages of a CNN."""

from importlib import import_module
from itertools import chain
from typing import Any

import torch
from torch import nn
from transformers import initialization

from .configuration_cnn import CNNConfig

# Arguments that make a timm model for images of any size: the first that its class takes.
ANY_SIZE = ({"dynamic_img_size": True, "dynamic_img_pad": True}, {"strict_img_size": False}, {})


def make_timm_encoder(config: CNNConfig) -> nn.Module:
    """The timm model, with random weights of timm, that `_init_weights` leaves as they are."""
    encoder: Any = create_timm_model(config)
    has_weights = not any(parameter.is_meta for parameter in encoder.parameters())
    for module in encoder.modules():
        module.from_timm = True
        module._is_hf_initialized = has_weights
    return encoder


def initialize_as_timm(encoder: Any, config: CNNConfig) -> None:
    """Give parameters and buffers that were not loaded the values that a new model of timm has."""
    with torch.device("cpu"):
        fresh = create_timm_model(config)
    values = dict(chain(fresh.named_parameters(), fresh.named_buffers()))
    for name, tensor in chain(encoder.named_parameters(), encoder.named_buffers()):
        initialization.copy_(tensor, values[name])  # which leaves a loaded one as it is
    for module in encoder.modules():
        module._is_hf_initialized = True


def create_timm_model(config: CNNConfig, pretrained: bool = False) -> nn.Module:
    """The timm model of `config`, without its classifier, for images of any size where timm can."""
    try:
        timm = import_module("timm")
    except ImportError as error:
        raise ImportError(f"The backbone {config.backbone!r} needs timm: pip install timm") from error
    name, given = str(config.backbone).removeprefix("timm/"), config.backbone_kwargs or {}
    for options in ANY_SIZE:
        options = {key: value for key, value in options.items() if key not in given}
        try:
            return timm.create_model(
                name, pretrained=pretrained, num_classes=0, in_chans=config.num_channels, **given, **options
            )
        except (AssertionError, TypeError) as error:
            if any(key in str(error) for key in options):
                continue
            raise ValueError(f"{config.backbone} does not take backbone_kwargs={given}: {error}") from error
        except RuntimeError as error:
            if "Unknown model" not in str(error):
                raise
            close = timm.list_models(f"*{name.split('_')[0]}*")[:5]
            raise ValueError(
                f"timm {timm.__version__} has no model called {name!r}. Similar: {', '.join(close) or 'none'}."
            ) from error
    raise AssertionError


def check_size(encoder: nn.Module, pixel_values: torch.Tensor) -> None:
    """Raise ValueError for images that a timm model of one size alone does not take."""
    patches: Any = getattr(encoder, "patch_embed", None)
    size = tuple(pixel_values.shape[-2:])
    if getattr(patches, "strict_img_size", False) and patches.img_size not in (None, size):
        raise ValueError(
            f"pixel_values of {size[0]}×{size[1]} pixels do not fit: this timm backbone takes images of "
            f"{patches.img_size[0]}×{patches.img_size[1]} pixels only."
        )
    if hasattr(patches, "patch_size") and not getattr(patches, "dynamic_img_pad", True):
        rest = [side % patch for side, patch in zip(size, patches.patch_size, strict=True)]
        if any(rest):
            raise ValueError(
                f"pixel_values of {size[0]}×{size[1]} pixels cannot be cut into patches of {patches.patch_size[0]}: "
                "resize the images with the image processor."
            )


def keep_feature_maps(encoder: Any, config: CNNConfig) -> list[int]:
    """Take from a timm model what comes after its last feature map; how many channels each of its maps has."""
    if not hasattr(encoder, "prune_intermediate_layers"):
        raise ValueError(f"{config.backbone} gives no feature maps: choose another backbone.")
    encoder.prune_intermediate_layers(len(encoder.feature_info), prune_norm=True)
    return [info["num_chs"] for info in encoder.feature_info]

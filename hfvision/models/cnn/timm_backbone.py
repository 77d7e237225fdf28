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
    encoder = create_full_timm_model(config, pretrained)
    if config.backbone_widths is not None:
        narrow(encoder, config.backbone_widths)
    if config.norm == "none":
        for layer, name in layers_with_normalization(encoder):
            fold_away(encoder, layer, name)
    return encoder


def create_full_timm_model(config: CNNConfig, pretrained: bool = False) -> nn.Module:
    """The timm model of `config` with all its channels and batch normalization."""
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


def read_widths(encoder: Any) -> dict[str, list[int]]:
    """Output and input channels of every convolution and linear layer, by name, channels of every batch
    normalization, and how many features (`num_features`) the network gives."""
    widths = {"num_features": [getattr(encoder, "head_hidden_size", None) or encoder.num_features]}
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Conv2d):
            widths[name] = [module.out_channels, module.in_channels]
        elif isinstance(module, nn.Linear):
            widths[name] = [module.out_features, module.in_features]
        elif isinstance(module, nn.BatchNorm2d):
            widths[name] = [module.num_features]
    return widths


def narrow(encoder: Any, widths: dict[str, list[int]]) -> None:
    """Give layers fewer channels: those that [`read_widths`] names, in place.

    Raises:
        ValueError: for widths of other layers, or above those of the network.
    """
    full, modules = read_widths(encoder), dict(encoder.named_modules())
    fits = widths.keys() == full.keys() and all(
        len(widths[name]) == len(wide) and all(1 <= few <= many for few, many in zip(widths[name], wide, strict=True))
        for name, wide in full.items()
    )
    if not fits:
        raise ValueError("backbone_widths are not those of this timm backbone: each of its layers needs its widths.")
    for name, width in widths.items():
        if width == full[name]:
            continue
        if name == "num_features":
            encoder.num_features = width[0]
            if hasattr(encoder, "head_hidden_size"):
                encoder.head_hidden_size = width[0]
            continue
        module = modules[name]
        if isinstance(module, nn.Conv2d):
            depthwise = module.groups == module.in_channels > 1
            if module.groups > 1 and not (depthwise and width[0] == width[1]):
                raise ValueError(f"backbone_widths: the grouped convolution {name} cannot have the widths {width}.")
            module.out_channels, module.in_channels = width
            module.groups = width[1] if depthwise else 1
            columns = 1 if depthwise else width[1]
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = width
            columns = width[1]
        else:
            module.num_features = width[0]
            columns = None
        for part in ("weight", "bias"):
            if (tensor := getattr(module, part, None)) is not None:
                sliced = tensor[: width[0], :columns] if tensor.ndim > 1 else tensor[: width[0]]
                setattr(module, part, nn.Parameter(sliced.detach().clone()))
        for part in ("running_mean", "running_var"):
            if (tensor := getattr(module, part, None)) is not None:
                setattr(module, part, tensor[: width[0]].clone())


def layers_with_normalization(encoder: nn.Module) -> list[tuple[nn.Conv2d, str]]:
    """The convolutions that a batch normalization of as many channels comes after, with its name."""
    pairs, previous = [], None
    for name, module in encoder.named_modules():
        if isinstance(module, nn.BatchNorm2d) and previous is not None:
            if previous.out_channels == module.num_features:
                pairs.append((previous, name))
            previous = None
        elif next(module.children(), None) is None and list(module.parameters(recurse=False)):
            previous = module if isinstance(module, nn.Conv2d) else None
    return pairs


def fold_away(encoder: nn.Module, layer: nn.Conv2d, normalization: str) -> None:
    """Give a convolution a bias, and put the activation in place of the batch normalization after it."""
    if layer.bias is None:
        layer.bias = nn.Parameter(layer.weight.new_zeros(layer.out_channels))
    parent, _, name = normalization.rpartition(".")
    act = getattr(encoder.get_submodule(normalization), "act", None)
    setattr(encoder.get_submodule(parent), name, nn.Identity() if act is None else act)


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
    if config.backbone_widths is None:
        return [info["num_chs"] for info in encoder.feature_info]
    side = config.image_size
    with torch.no_grad():
        example = torch.zeros(1, config.num_channels, side, side)
        return [feature_map.shape[1] for feature_map in encoder.eval().forward_intermediates(example)[1]]

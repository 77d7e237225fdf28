"""Folds what is linear into one convolution: batch normalisation, and the training branches of super-resolution."""

import copy
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from ..models.cnn.configuration_cnn import CNNConfig
from ..models.cnn.timm_backbone import layers_with_normalization as timm_layers_with_normalization
from ..models.srgan.configuration_srgan import SRGANConfig
from ..models.vit.configuration_vit import VisionTransformerConfig

TOLERANCE = 1e-3  # of the largest difference between a folded timm backbone and the original, over the largest output


def fold(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of a model that computes the same in evaluation mode with fewer operations.

    y = γ (W x + b - μ) / √(σ² + ε) + β is one convolution of the weight γ W / √(σ² + ε) (Jacob et al. 2018,
    arXiv:1712.05877, section 3.2). The branches that super-resolution networks train with are folded too
    (`SRGANForImageSuperResolution.fuse`). The configuration of the copy says so: `from_pretrained` rebuilds it.

    Args:
        model: of one of hfvision's families; it is not changed. What has nothing to fold is copied.

    Raises:
        ValueError: for a model of another library, a timm backbone that does not normalize right after its
            convolutions, or a normalisation that is not linear: batch
            normalisation of negative scale after a max pooling.
    """
    folded: Any = copy.deepcopy(model).eval()
    if hasattr(folded, "fuse"):
        folded.fuse()
    fields = folded_fields(folded.config)
    if not fields:
        return folded
    rebuilt: Any = type(folded)(type(folded.config).from_dict(folded.config.to_dict() | fields)).to(folded.dtype)
    if getattr(folded.config, "backbone", None) is not None:
        fold_timm(folded, rebuilt)
        return rebuilt.to(folded.device).eval()
    layers = layers_with_normalization(folded)
    targets = [module for module in rebuilt.modules() if owns_tensors(module)]
    with torch.no_grad():
        for (layer, norm), target in zip(layers, targets, strict=True):
            state = layer.state_dict() if norm is None else folded_weights(cast(nn.Conv2d, layer), norm)
            own = {name: value for name, value in state.items() if "." not in name}
            target.load_state_dict(own, strict=False)
    return rebuilt.to(folded.device).eval()


def folded_fields(config: Any) -> dict[str, Any]:
    """What the configuration of the folded model says in other words; empty where nothing is to be folded."""
    if isinstance(config, CNNConfig):
        return {"norm": "none"} if config.norm == "batch" else {}
    if isinstance(config, VisionTransformerConfig):
        return {"stem_norm": False} if config.stem_widths and config.stem_norm else {}
    if isinstance(config, SRGANConfig):
        return {"norm": False} if config.norm else {}
    raise ValueError(f"A model of type {config.model_type!r} is not folded: hfvision folds its own families.")


@torch.no_grad()
def fold_timm(model: PreTrainedModel, rebuilt: PreTrainedModel) -> None:
    """Give `rebuilt`, over a timm backbone without batch normalization, the weights that make it equal `model`."""
    encoder: Any = getattr(model, model.base_model_prefix, model).encoder
    names = {module: name for name, module in model.named_modules()}
    state = model.state_dict()
    for layer, norm in timm_layers_with_normalization(encoder):
        for part, tensor in folded_weights(layer, encoder.get_submodule(norm)).items():
            state[f"{names[layer]}.{part}"] = tensor
    wanted = rebuilt.state_dict().keys()
    rebuilt.load_state_dict({name: tensor for name, tensor in state.items() if name in wanted})
    image = torch.rand(2, model.config.num_channels, model.config.image_size, model.config.image_size)
    expected, found = (next(iter(net.eval().cpu().float()(pixel_values=image).values())) for net in (model, rebuilt))
    difference = (expected - found).abs().max() / expected.abs().max()
    if not difference < TOLERANCE:
        raise ValueError(
            f"The batch normalization of the timm backbone {model.config.backbone!r} cannot be folded: outputs would "
            f"differ by {difference:.1%}."
        )


def owns_tensors(module: nn.Module) -> bool:
    """Whether a module has parameters, or a buffer that is saved, of its own."""
    return bool(module._parameters) or any(name not in module._non_persistent_buffers_set for name in module._buffers)


def layers_with_normalization(model: nn.Module) -> list[tuple[nn.Module, nn.BatchNorm2d | None]]:
    """The modules with weights, in order, each convolution with the batch normalisation that follows it."""
    layers: list[tuple[nn.Module, nn.BatchNorm2d | None]] = []
    pooled = False
    for module in model.modules():
        if isinstance(module, nn.MaxPool2d):
            pooled = True
        elif isinstance(module, nn.BatchNorm2d):
            if pooled and (module.weight < 0).any():
                raise ValueError(
                    "Batch normalisation after a max pooling cannot be folded where its scale is negative, as it is "
                    f"for {(module.weight < 0).sum()} of {len(module.weight)} channels."
                )
            layers[-1] = (layers[-1][0], module)
        elif owns_tensors(module):
            layers.append((module, None))
            pooled = False
    return layers


def folded_weights(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> dict[str, torch.Tensor]:
    """Weight and bias of the convolution that equals both; computed in float64."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("Batch normalization without running statistics cannot be folded.")
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = 0 if convolution.bias is None else convolution.bias.double()
    weight = convolution.weight.double() * scale.view(-1, 1, 1, 1)
    return {"weight": weight, "bias": (bias - norm.running_mean.double()) * scale + norm.bias.double()}

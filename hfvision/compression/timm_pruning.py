"""What can be cut out of a timm backbone, found by the dependency graph of torch-pruning."""

import json
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import nn

from ..models.cnn.configuration_cnn import CNNConfig
from ..models.cnn.modeling_cnn import CNNForImageClassification
from ..models.cnn.timm_backbone import create_timm_model, read_widths
from ..utils.optional import optional

TRACED = 64  # side in pixels of the image that goes through the network, or that of the configuration if it is less
OUTPUT = ("conv.out", "depthwise.out", "batchnorm.out")
INPUT = ("conv.in", "linear.in")
ENCODER = "cnn.encoder."
CLASSIFIER = ("classifier", "hidden.0")


class Channels(NamedTuple):
    """Channels that layers share: how many there are, the layers that make them, those that take them, by name, and
    where `backbone_widths` counts them."""

    size: int
    makers: list[str]
    takers: list[str]
    widths: list[tuple[str, int]]


def find_channels(model: CNNForImageClassification) -> list[Channels]:
    """What can be cut out of a classifier over a timm backbone.

    Channels stay whole where they meet a layer that mixes them otherwise than by convolution: grouped convolutions,
    group and layer normalization, attention, concatenation.

    Raises:
        ImportError: if torch-pruning is not installed.
        ValueError: if nothing can be cut.
    """
    config = {key: value for key, value in model.config.to_dict().items() if key not in ("id2label", "label2id")}
    config["num_labels"] = model.config.num_labels
    found = traced_channels(json.dumps(config, sort_keys=True))
    if not found:
        raise ValueError(f"The timm backbone {model.config.backbone!r} has no channels that can be cut.")
    return found


def timm_widths(config: CNNConfig) -> dict[str, list[int]]:
    """The widths of all layers of the timm backbone of `config`."""
    with torch.device("meta"):
        return read_widths(create_timm_model(config))


@lru_cache(maxsize=8)
def traced_channels(config_json: str) -> list[Channels]:
    config = CNNConfig.from_dict(json.loads(config_json))
    tracing = optional("torch_pruning", "prune")
    model = CNNForImageClassification(config).eval().requires_grad_()
    side = min(TRACED, config.image_size)
    with torch.enable_grad():
        graph = tracing.DependencyGraph().build_dependency(
            model,
            example_inputs={"pixel_values": torch.zeros(1, config.num_channels, side, side)},
            output_transform=lambda output: output.logits,
            verbose=False,
        )
    names: dict[nn.Module, str] = {module: name for name, module in model.named_modules()}
    groups = graph.get_all_groups(root_module_types=[nn.Conv2d])
    found = [read_group(group, names, kinds_of(tracing)) for group in groups]
    return [channels for channels in found if channels is not None]


def kinds_of(tracing: object) -> dict[str, str]:
    """What the functions of torch-pruning cut, by their name."""
    pairs = {
        "conv.out": "prune_conv_out_channels",
        "conv.in": "prune_conv_in_channels",
        "depthwise.out": "prune_depthwise_conv_out_channels",
        "batchnorm.out": "prune_batchnorm_out_channels",
        "linear.in": "prune_linear_in_channels",
    }
    return {getattr(tracing, function): kind for kind, function in pairs.items()}


def read_group(group: Any, names: dict[nn.Module, str], kinds: dict) -> Channels | None:
    """A group of torch-pruning as [`Channels`]; None where it cannot be cut."""
    size, makers, takers, widths = len(group[0].idxs), [], [], []
    for dependency, indices in group:
        module, kind = dependency.target.module, kinds.get(dependency.handler)
        name = names.get(module)
        if name is None and not list(module.parameters()):  # an operation such as an addition
            continue
        whole = list(indices) == list(range(size))
        grouped = isinstance(module, nn.Conv2d) and module.groups > 1 and kind != "depthwise.out"
        if name is None or not whole or grouped or kind not in (*OUTPUT, *INPUT):
            return None
        (makers if kind in OUTPUT else takers).append(name)
        inside = name.removeprefix(ENCODER)
        if name in CLASSIFIER:
            widths.append(("num_features", 0))
        elif inside == name:
            return None
        elif kind == "depthwise.out":
            widths += [(inside, 0), (inside, 1)]
        else:
            widths.append((inside, 0 if kind in OUTPUT else 1))
    return Channels(size, makers, takers, widths) if takers and size > 1 else None

"""Weights of 8 or 4 bits by optimum-quanto: the model stays one of PyTorch, on any device."""

import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from ...hub.loading import find_file
from ...hub.network_checks import check_finite, check_size
from ...hub.validation import library_errors, read_json, read_sizes
from .openvino import optional

MAP, WEIGHTS = "quanto_qmap.json", "model.safetensors"


def save_quanto(model: PreTrainedModel, bits: Literal[8, 4], folder: Path) -> None:
    """Write `model.safetensors` and the map of its layers; the model itself is changed.

    Args:
        model: of any family.
        bits: of linear layers; convolutions have 8.
        folder: that is there.

    Raises:
        ImportError: if optimum-quanto is not installed.
        ValueError: for other `bits`.
    """
    quanto = optional("optimum.quanto", "quanto")
    if bits not in (8, 4):
        raise ValueError(f"bits must be 8 or 4, got {bits}.")
    if bits == 4:
        linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        quanto.quantize(model, weights=quanto.qint4, include=linear)
    quanto.quantize(model, weights=quanto.qint8)
    quanto.freeze(model)
    (folder / MAP).write_text(json.dumps(quanto.quantization_map(model), indent=2) + "\n", encoding="utf-8")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / WEIGHTS)


def load_quanto(name: str, config: PreTrainedConfig, auto: Any) -> PreTrainedModel:
    """The model of a folder or Hub id that [`save_quanto`] wrote, by an Auto class, to the bit.

    Raises:
        ImportError: if optimum-quanto is not installed.
        ValueError: if the files cannot be read, or do not fit each other.
    """
    weights, layers = (find_file(name, file, config._commit_hash) for file in (WEIGHTS, MAP))
    if weights is None or layers is None:
        raise ValueError(f"{name} cannot be loaded: config.json says quanto, but {WEIGHTS} or {MAP} is not there.")
    numbers, found = read_sizes(weights, f"{name}/{WEIGHTS}"), read_json(layers, f"{name}/{MAP}")
    quanto = optional("optimum.quanto", "quanto")
    check_size(config, auto, 2 * numbers, f"{name}/config.json")  # in 4 bits two make one number of the file
    with library_errors(f"The quantized weights of {name} ({WEIGHTS}, {MAP})"):
        state = load_file(weights)
        check_finite(state.items(), f"{name}/{WEIGHTS}")
        model = auto.from_config(config)
        quanto.requantize(model, state, found, device=torch.device("cpu"))
    return model.eval()

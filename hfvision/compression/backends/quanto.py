"""Weights of 8 or 4 bits by optimum-quanto: the model stays one of PyTorch, on any device."""

import json
from pathlib import Path
from typing import Literal

from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from ...hub.quanto_model import MAP, WEIGHTS
from ...utils.optional import optional


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

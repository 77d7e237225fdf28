"""Loads models whose weights optimum-quanto quantized: they stay models of PyTorch, on any device."""

from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PreTrainedConfig, PreTrainedModel

from ..utils.json_files import read_json
from ..utils.optional import optional
from .files import commit_of, find_file
from .network_checks import check_finite, check_size
from .validation import library_errors, read_sizes

MAP, WEIGHTS = "quanto_qmap.json", "model.safetensors"


def load_quanto(name: str, config: PreTrainedConfig, auto: Any) -> PreTrainedModel:
    """The model of a folder or Hub id that [`save_quanto`] wrote, by an Auto class, to the bit.

    Raises:
        ImportError: if optimum-quanto is not installed.
        ValueError: if the files cannot be read, or do not fit each other.
    """
    weights, layers = (find_file(name, file, commit_of(config)) for file in (WEIGHTS, MAP))
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

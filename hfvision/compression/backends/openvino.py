"""Models in OpenVINO's form: made from PyTorch, quantized to 8 bits, saved."""

import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from ...hub.openvino_model import XML, OpenVINOModel, signal_stack_kept
from ...tasks.base import EXAMPLE_SIDE, SIDES_TO_PAD, task_of
from ...utils.optional import optional

TOLERANCE = 1e-3  # of the largest difference between OpenVINO and PyTorch, over the largest output


class PlainOutput(nn.Module):
    """A model as a function of one tensor to one tensor, as exporters want it."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        outputs = self.model(pixel_values=pixel_values)
        return outputs.reconstruction if "reconstruction" in outputs else outputs.logits


def input_side(config: PreTrainedConfig) -> int | None:
    """The side of the images that a model takes; None for any size."""
    task = task_of(config, "The model")
    return None if task.any_size else task.example_side(config)


def to_openvino(model: PreTrainedModel) -> Any:
    """An `openvino.Model` that computes what `model` does.

    The batch is free; so are the sides of the images of networks for any size; those of classifiers are
    `config.image_size`.

    Batch normalisation is left to OpenVINO to fold: with the operations in this order its programs are right, while it
    computes a max pooling between a convolution and GELU wrong in f32 (seen in 2026.4).

    Raises:
        ImportError: if OpenVINO is not installed.
        ValueError: if OpenVINO gives other outputs than PyTorch.
    """
    openvino = optional("openvino", "openvino")
    task = task_of(model.config, "The model")
    side, channels = input_side(model.config), getattr(model.config, "num_channels", 3)
    shape = openvino.PartialShape([-1, channels, *([-1, -1] if side is None else [side, side])])
    sides: list[tuple[int, int]] = (
        [SIDES_TO_PAD] if task.pads else []
    )  # padding that is traced adds nothing where there is nothing to pad
    sides.append((side or EXAMPLE_SIDE, side or EXAMPLE_SIDE))
    examples = [torch.rand(2, channels, *size) for size in sides]
    plain = PlainOutput(model.float().cpu().eval())
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # tracing reads every attribute, those too that transformers warns of
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted = openvino.convert_model(plain, example_input=examples[0], input=[shape])
    finally:
        logging.set_verbosity(verbosity)
    converted.input(0).tensor.set_names({"pixel_values"})
    converted.output(0).tensor.set_names({task.output})
    converted.validate_nodes_and_infer_types()
    compiled = OpenVINOModel(converted, model.config)
    for example in examples:
        with torch.inference_mode():
            expected = plain(example)
        found = compiled(example)[task.output]
        difference = largest_difference(found, expected)
        if not difference < TOLERANCE:
            raise ValueError(
                f"OpenVINO gives other outputs for this network than PyTorch, by {difference:.1%}: use quanto or onnx."
            )
    return converted


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest absolute value expected; infinite for other shapes."""
    if found.shape != expected.shape:
        return float("inf")
    return ((found - expected).abs().max() / expected.abs().max()).item()


def float_layers(model: Any) -> list[str]:
    """What stays in float: in super-resolution the first convolution, which sees the pixels, and the sum with the
    enlarged input, which is most of the picture. Nothing in a classifier."""
    if model.output(0).get_any_name() != "reconstruction":
        return []
    nodes = model.get_ordered_ops()
    first = next(node for node in nodes if node.get_type_name() == "Convolution")
    skip = [node for node in nodes if node.get_type_name() == "GroupConvolution"]
    last = [node for node in nodes if node.get_type_name() == "Add"][-1:] if skip else []
    return [node.get_friendly_name() for node in (first, *skip, *last)]


def to_int8(
    model: Any,
    batches: Sequence[np.ndarray],
    *,
    attention: bool = False,
    validate: Callable[[Any], float] | None = None,
    max_drop: float | None = None,
) -> Any:
    """A copy of an `openvino.Model` with weights and activations of 8 bits, by NNCF's post-training quantization.

    Args:
        model: from [`to_openvino`].
        batches: float32 (N, C, H, W) that go through the network to find the range of each activation.
        attention: the model is a transformer: queries, keys and softmax are treated with care.
        validate: with `max_drop`, gives the quality of a compiled model, larger is better.
        max_drop: of that quality at most; layers go back to float, the most harmful first, until it holds.

    Raises:
        ImportError: if NNCF is not installed.
    """
    nncf = optional("nncf", "openvino")
    nncf.set_log_level(40)
    ignored = float_layers(model)
    # Smoothing, which moves scales from activations to weights, lost 17 points of top-1 of a small ViT.
    unsmoothed = nncf.AdvancedSmoothQuantParameters(matmul=-1, convolution=-1)
    options: dict[str, Any] = {
        "subset_size": len(batches),
        "fast_bias_correction": not ignored,
        "preset": nncf.QuantizationPreset.MIXED,
        "model_type": nncf.ModelType.TRANSFORMER if attention else None,
        "ignored_scope": nncf.IgnoredScope(names=ignored) if ignored else None,
    }
    advanced = nncf.AdvancedQuantizationParameters(smooth_quant_alphas=unsmoothed)
    calibration = nncf.Dataset(batches)
    with redirect_stdout(sys.stderr), signal_stack_kept():  # stderr is where progress belongs
        if max_drop is None or validate is None:
            return nncf.quantize(model, calibration, advanced_parameters=advanced, **options)
        return nncf.quantize_with_accuracy_control(
            model,
            calibration,
            nncf.Dataset([batches[0]]),
            lambda compiled, _: (validate(compiled), None),
            max_drop=max_drop,
            drop_type=nncf.DropType.ABSOLUTE,
            advanced_quantization_parameters=advanced,
            **options,
        )


def save_openvino(model: Any, folder: Path) -> None:
    """Write `openvino_model.xml`, without notes for debugging and the shapes that its reader infers, and `.bin`."""
    model = model.clone()
    for number, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(str(number))
    optional("openvino", "openvino").save_model(model, folder / XML, compress_to_fp16=False)
    tree = ElementTree.parse(folder / XML)
    for element in tree.iter():
        for note in element.findall("rt_info"):
            element.remove(note)
        for shape in element.findall("dim") if element.tag == "port" else ():
            element.remove(shape)
        element.text, element.tail = (element.text or "").strip() or None, None
    tree.write(folder / XML)

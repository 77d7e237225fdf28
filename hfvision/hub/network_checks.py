"""Checks a network that may come from anyone: its size before it takes memory, its weights, and what it computes."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedConfig, PreTrainedModel, initialization

from ..utils.errors import one_line
from .validation import library_errors

SPARE_NUMBERS = 50_000_000  # of a network beyond those in its weight files: a fresh head, buffers
LARGEST_TENSOR = 2**28  # values that a network of hfvision may compute of one image in one layer


def without_memory(build: Callable[[PreTrainedConfig], nn.Module], config: PreTrainedConfig) -> nn.Module:
    with torch.device("meta"), initialization.meta_device_safe_creation_ops():
        return build(copy.deepcopy(config))


def check_size(config: PreTrainedConfig, auto: Any, numbers: int, name: str) -> None:
    """Raise ValueError where a configuration describes a network much larger than the weights that it comes with.

    The network is built without memory for its weights.

    Args:
        config: of the network.
        auto: the Auto class, or the class, that builds it.
        numbers: that the weight files hold.
        name: of config.json.
    """
    with library_errors(name):
        network = without_memory(getattr(auto, "from_config", auto), config)
    described = sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))
    if described > numbers + SPARE_NUMBERS:
        raise ValueError(
            f"{name} describes a network of {described:,} numbers, but its weight files hold {numbers:,}: at most "
            f"{SPARE_NUMBERS:,} more are made."
        )


def check_finite(weights: Iterable[tuple[str, Tensor]], name: str) -> None:
    """Raise ValueError where weights, pairs of name and tensor, hold values that are not finite."""
    for key, tensor in weights:
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{name} is damaged: {key} holds values that are not finite.")


class LargeTensors(TorchDispatchMode):
    """Refuses to go on where an operation gives a tensor of more than `LARGEST_TENSOR` values."""

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        outputs = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(outputs):
            if isinstance(tensor, Tensor) and tensor.numel() > LARGEST_TENSOR:
                raise ValueError(f"a layer gives the shape {tuple(tensor.shape)}, of too many values")
        return outputs


def check_cost(model: PreTrainedModel, pixel_values: Tensor) -> None:
    """Raise ValueError for an image that takes too much memory or time, without computing it."""
    config = copy.deepcopy(model.config)
    config._attn_implementation = "eager"
    network = without_memory(type(model), config)
    with LargeTensors():
        network.to(pixel_values.dtype).eval()(torch.empty_like(pixel_values, device="meta"))


@torch.inference_mode()
def check_outputs(model: Any, processor: Any, task: str, name: str) -> None:
    """Compute a small grey image, to see that configuration, image processor and weights fit each other.

    Args:
        model: in evaluation mode.
        processor: its image processor.
        task: see [`loading.load_model`].
        name: of the model.

    Raises:
        ValueError: if they do not, or the output is of another shape than the task's, or not finite.
    """
    weights = "openvino_model.xml" if hasattr(model, "programs") else "model.safetensors"
    what = (
        f"{name} cannot compute an image (config.json, preprocessor_config.json and {weights} do not fit each other)"
    )
    side = getattr(model.config, "image_size", None) or (32 if task == "image-super-resolution" else 64)
    side = side if isinstance(side, int) else max(side)
    mode = "L" if getattr(model.config, "num_channels", 3) == 1 else "RGB"
    image = Image.linear_gradient("L").resize((side, side)).convert(mode)
    try:
        inputs = processor(image, return_tensors="pt").to(model.device, model.dtype)
        if type(model).__module__.startswith("hfvision.models.") and task != "image-super-resolution":
            check_cost(model, inputs["pixel_values"])
        outputs = model(**inputs)
        output = outputs.reconstruction if task == "image-super-resolution" else outputs.logits
        shape = tuple(output.shape)
        finite = bool(output.isfinite().all())
    except Exception as error:
        raise ValueError(f"{what}: {one_line(error)}") from error
    labels = len(model.config.id2label or ())
    wanted = {"image-classification": (1, labels), "image-segmentation": (1, labels, *shape[2:4])}
    scale = getattr(model.config, "scale", None)
    if scale and task == "image-super-resolution":
        wanted[task] = (1, *inputs["pixel_values"].shape[1:2], *(scale * s for s in inputs["pixel_values"].shape[2:]))
    if shape != wanted.get(task, shape) or (task != "image-classification" and len(shape) != 4):
        raise ValueError(f"{what}: the output has the shape {shape}, not {wanted.get(task, 'of images')}.")
    if not finite:
        raise ValueError(f"{what}: the output is not finite.")
    methods = {"image-segmentation": "post_process_semantic_segmentation"}
    if scale:
        methods["image-super-resolution"] = "post_process_super_resolution"
    if task in methods and not hasattr(processor, methods[task]):
        raise ValueError(f"{what}: {type(processor).__name__} is no image processor for {task}.")

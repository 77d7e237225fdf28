"""The operations of a traced model: their names, kinds, arguments, and what a drawing says of them."""

import re
from collections.abc import Sequence
from math import prod
from typing import Any, cast

import torch
from torch import fx

KINDS: dict[str, tuple[str, ...]] = {
    "attention": ("scaled_dot_product_attention", "matmul", "bmm", "softmax", "baddbmm"),
    "resampling": (
        "pixel_shuffle",
        "pixel_unshuffle",
        "upsample_nearest2d",
        "upsample_bilinear2d",
        "upsample_bicubic2d",
    ),
    "convolution": ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    "linear": ("linear", "addmm", "mm", "einsum", "bilinear"),
    "pooling": (
        *("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "max_pool2d_with_indices"),
        *("mean", "amax"),
    ),
    "normalisation": ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm"),
    "activation": (
        *("relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "gelu", "silu", "mish", "sigmoid", "tanh"),
        *("hardswish", "hardsigmoid", "hardtanh", "softplus", "log_softmax", "clamp"),
    ),
    "arithmetic": ("add", "sub", "mul", "div", "cat", "stack", "pow", "neg", "exp", "sqrt", "sum"),
    "shape": ("flatten", "select", "slice", "split", "chunk", "unbind", "split_with_sizes"),
}
KIND_OF = {operation: kind for kind, operations in KINDS.items() for operation in operations}
# Operations that only move, copy or check numbers.
PLUMBING = {
    *("view", "reshape", "_unsafe_view", "transpose", "permute", "t", "movedim", "numpy_T", "unflatten", "squeeze"),
    *("unsqueeze", "expand", "expand_as", "view_as", "contiguous", "clone", "alias", "detach", "lift_fresh", "to"),
    *("_to_copy", "type_as", "getitem", "dropout", "feature_dropout", "alpha_dropout", "native_dropout", "pad"),
    *("roll", "flip", "identity", "repeat", "copy", "swapaxes", "unfold"),
}
TITLES = {
    "scaled_dot_product_attention": "Scaled dot-product attention",
    "batch_norm": "BatchNorm",
    "layer_norm": "LayerNorm",
    "group_norm": "GroupNorm",
    "pixel_shuffle": "PixelShuffle",
    "pixel_unshuffle": "PixelUnshuffle",
    "matmul": "MatMul",
    "bmm": "MatMul",
    "cat": "Concatenate",
    "mul": "Multiply",
    "sub": "Subtract",
    "div": "Divide",
    "gelu": "GELU",
    "relu": "ReLU",
    "silu": "SiLU",
    "leaky_relu": "LeakyReLU",
    "upsample_nearest2d": "Upsample nearest",
    "upsample_bilinear2d": "Upsample bilinear",
    "upsample_bicubic2d": "Upsample bicubic",
    "split_with_sizes": "Split",
}


def operation_name(node: fx.Node) -> str:
    """`relu` for `aten.relu_.default`."""
    schema = getattr(node.target, "_schema", None)
    name = schema.name.split("::")[-1] if schema else getattr(node.target, "__name__", str(node.target))
    return name.strip("_") if name.strip("_") in KIND_OF else name.rstrip("_")


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Shape of an operation's output, of the first one if it has several."""
    value = node.meta.get("val")
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return tuple(int(size) for size in value.shape) if isinstance(value, torch.Tensor) else ()


def arguments_of(node: fx.Node) -> dict[str, Any]:
    """An operation's arguments by name, defaults filled in."""
    arguments = {}
    schema: Any = getattr(node.target, "_schema")  # noqa: B009 - of an operator that torch.export has traced
    for index, argument in enumerate(schema.arguments):
        default = argument.default_value if argument.has_default_value() else None
        value = node.args[index] if index < len(node.args) else node.kwargs.get(argument.name, default)
        arguments[argument.name] = value
    return arguments


def argument_node(node: fx.Node, index: int) -> fx.Node:
    """The operation whose output is an argument of another, as a convolution's weight."""
    return cast(fx.Node, node.args[index])


def says_something(node: fx.Node) -> bool:
    """Whether an operation deserves a place in a drawing."""
    name = operation_name(node)
    before = shape_of(node.all_input_nodes[0]) if node.all_input_nodes else ()
    after = shape_of(node)
    if name in PLUMBING or not after:
        return False
    if name == "flatten":
        return sum(size > 1 for size in after) < sum(size > 1 for size in before)
    if name in ("slice", "select"):
        return prod(after) < prod(before)
    if name in ("mul", "div") and len(node.all_input_nodes) == 1:
        return arguments_of(node)["other"] != 1
    return True


def times(sizes: Sequence[int]) -> str:
    return "×".join(str(size) for size in sizes)


def pair(value: int | Sequence[int], length: int = 2) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * length if len(values) == 1 else values


def operation_detail(node: fx.Node) -> str:
    """What an operation's kind alone does not say: `3×3, 64→128, /2`."""
    name = operation_name(node)
    if name in KINDS["convolution"]:
        arguments = arguments_of(node)
        weight, groups = shape_of(arguments["weight"]), arguments["groups"]
        transposed = "transpose" in name
        channels = (weight[0], weight[1] * groups) if transposed else (weight[1] * groups, weight[0])
        parts = [times(weight[2:]), f"{channels[0]}→{channels[1]}"]
        stride, dilation = (pair(arguments[key], len(weight) - 2) for key in ("stride", "dilation"))
        if max(stride) > 1:
            parts.append(("×" if transposed else "/") + times(sorted(set(stride))))
        if max(dilation) > 1:
            parts.append(f"dilation {times(sorted(set(dilation)))}")
        if groups > 1:
            parts.append("depthwise" if groups == channels[0] else f"{groups} groups")
        return ", ".join(parts)
    if name == "linear":
        return "{1}→{0}".format(*shape_of(argument_node(node, 1)))
    if name in ("max_pool2d", "avg_pool2d", "max_pool2d_with_indices"):
        arguments = arguments_of(node)
        kernel = pair(arguments["kernel_size"])
        return f"{times(kernel)}, /{times(sorted(set(pair(arguments['stride'] or kernel))))}"
    if name in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
        return f"to {times(shape_of(node)[-2:])}"
    if name == "group_norm":
        return f"{arguments_of(node)['num_groups']} groups"
    if name in KINDS["resampling"]:
        before, after = shape_of(node.all_input_nodes[0]), shape_of(node)
        return f"×{after[-1] / before[-1]:g}" if after[-1] >= before[-1] else f"/{before[-1] / after[-1]:g}"
    if name in ("mean", "amax", "sum") and arguments_of(node).get("dim"):
        axes = pair(arguments_of(node)["dim"], 1)
        return f"over {times([shape_of(node.all_input_nodes[0])[axis] for axis in axes])}"
    if name in ("mul", "div", "add", "sub") and not isinstance(arguments_of(node)["other"], fx.Node):
        return (
            f"by {arguments_of(node)['other']:.4g}" if name in ("mul", "div") else f"{arguments_of(node)['other']:.4g}"
        )
    if name == "select":
        arguments = arguments_of(node)
        return f"[{':, ' * arguments['dim']}{arguments['index']}]"
    if name == "slice":
        arguments = arguments_of(node)
        bounds = f"{arguments['start'] or ''}:{'' if (arguments['end'] or 2**63) >= 2**31 else arguments['end']}"
        step = f":{arguments['step']}" if arguments["step"] != 1 else ""
        return f"[{':, ' * arguments['dim']}{bounds}{step}]"
    return ""


def operation_label(node: fx.Node) -> str:
    name = operation_name(node)
    title = TITLES.get(name) or re.sub(r"(?<=[a-z])(\d)d$", r"\1d", name.strip("_").replace("_", " ")).capitalize()
    if name in KINDS["convolution"] or name in KINDS["pooling"]:
        title = "".join(part.capitalize() for part in name.split("_"))
    return f"{title} {operation_detail(node)}".strip()

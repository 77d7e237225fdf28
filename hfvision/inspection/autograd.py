"""The backward pass of a model as a graph: the functions that autograd calls."""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch import nn

from .folding import Edge, Graph, Node, fold_repeats
from .tracing import call_arguments, evaluation_mode

BACKWARD_PLUMBING = re.compile(
    r"(T|View|UnsafeView|ReshapeAlias|Transpose|Permute|Expand|Squeeze|Unsqueeze|Clone|Alias|ToCopy|Unfold|Repeat)"
    r"Backward\d+"
)
BACKWARD_KINDS = {
    "convolution": r"Conv|Mkldnn",
    "linear": r"Addmm|^Mm|Linear",
    "normalisation": r"Norm",
    "attention": r"Attention|Bmm|Softmax",
    "pooling": r"Pool|Mean",
    "resampling": r"Pixel|Upsample|Interpol",
    "activation": r"elu|ReLU|Relu|Silu|Sigmoid|Tanh|Hard",
    "arithmetic": r"Add|Mul|Div|Sub|Cat|Pow|Exp",
    "shape": r"Select|Slice|Split|Unbind",
}


def autograd_graph(model: nn.Module, pixel_values: torch.Tensor) -> Graph:
    """The functions that `loss.backward()` would call, in an order in which it may call them.

    The loss is the mean of the model's first output; a node's `detail` names the parameters whose gradients leave
    the function, through transposes and views that are not drawn.
    """
    arguments, named = call_arguments(model, pixel_values)
    with evaluation_mode(model), torch.enable_grad():
        output = model(*arguments, **named)
        while not isinstance(output, torch.Tensor):
            output = next(iter(output.values())) if isinstance(output, dict) else output[0]
        loss = output.mean()
    if loss.grad_fn is None:
        raise ValueError(f"{type(model).__name__} has no trainable parameter, so there is no autograd graph.")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    order = backward_order(loss.grad_fn)
    reached: dict[Any, set[str]] = {function: set() for function in order}  # drawn functions that lead to this one
    details: dict[str, list[str]] = {}
    nodes: list[Node] = [Node("loss", "Loss: mean of the output", "data", ())]
    edges: set[Edge] = set()
    reached[loss.grad_fn] = {"loss"}
    for function in order:
        name = function.name()
        callers = reached[function]
        if hasattr(function, "variable"):
            for caller in callers:
                details.setdefault(caller, []).append(names.get(id(function.variable), "another tensor"))
            continue
        if len(callers) > 1:
            node = Node(f"grad_{len(nodes)}", "Sum of gradients", "arithmetic")
            nodes.append(node)
            edges |= {(caller, node.id) for caller in callers}
            callers = {node.id}
        if not BACKWARD_PLUMBING.fullmatch(name):
            kind = next((kind for kind, pattern in BACKWARD_KINDS.items() if re.search(pattern, name)), "other")
            node = Node(f"grad_{len(nodes)}", name, kind)
            nodes.append(node)
            edges |= {(caller, node.id) for caller in callers}
            callers = {node.id}
        for following, _ in function.next_functions:
            if following is not None:
                reached[following] |= callers
    nodes = [replace(node, detail=parameter_list(details.get(node.id, []))) for node in nodes]
    items, edges = fold_repeats(nodes, edges)
    return Graph("Backward (autograd)", tuple(items), tuple(sorted(edges)), pixel_values.shape[0])


def backward_order(root: Any) -> list[Any]:
    """All functions reachable from `root`, each after all that lead to it."""
    waiting, stack = {root: 0}, [root]
    while stack:
        for following, _ in stack.pop().next_functions:
            if following is not None:
                if following not in waiting:
                    waiting[following] = 0
                    stack.append(following)
                waiting[following] += 1
    order, stack = [], [root]
    while stack:
        order.append(stack.pop())
        for following, _ in reversed(order[-1].next_functions):
            if following is not None:
                waiting[following] -= 1
                if not waiting[following]:
                    stack.append(following)
    return order


def parameter_list(names: Sequence[str]) -> str:
    """`a.weight` and `a.bias` as `a.weight, bias`."""
    parts = []
    for owner, group in groupby(sorted(names, reverse=True), lambda name: name.rpartition(".")[0]):
        parts.append(f"{owner}{'.' * bool(owner)}{', '.join(name.rpartition('.')[2] for name in group)}")
    return "; ".join(parts)

"""The computational graph of a model: layers and functional operations, repeated blocks folded.

An operation inside a leaf module belongs to that layer's node; other operations are nodes of their own. What happens
to weights alone (spectral normalization, folding of branches) and what only moves numbers (views, transposes) is
left out, except where it changes the meaning of the axes.
"""

from itertools import groupby
from typing import Any

import torch
from torch import fx, nn

from .autograd import autograd_graph
from .folding import Edge, Graph, Node, ScopedNode, fold_scope, repeated_classes
from .operations import (
    KIND_OF,
    KINDS,
    PLUMBING,
    operation_detail,
    operation_label,
    operation_name,
    says_something,
    shape_of,
)
from .tracing import Scope, Trace, is_leaf


def computational_graph(model: nn.Module, pixel_values: torch.Tensor, backward: bool = False) -> Graph:
    """The graph of one forward pass in evaluation mode, with consecutive identical blocks folded.

    Args:
        model: any module; a `PreTrainedModel` is called as `model(pixel_values=...)`, others as `model(...)`.
        pixel_values: float (N, C, H, W), on the model's device.
        backward: also walk the autograd graph of the mean of the model's first output.

    Raises:
        ValueError: if `torch.export` cannot trace the model, or `backward` finds no trainable parameter.
    """
    trace = Trace(model, pixel_values)
    items, edges = layer_nodes(trace)
    items, edges = fold_scope(items, edges, depth=0, repeated_classes=repeated_classes(items))
    return Graph(
        title=type(model).__name__,
        items=tuple(items),
        edges=tuple(sorted(edges)),
        batch_size=pixel_values.shape[0],
        backward=autograd_graph(model, pixel_values) if backward else None,
    )


def layer_node(trace: Trace, operations: list[fx.Node], leaf: Scope | None, seen: set[str]) -> Node:
    """The node of one leaf module's operations, or of one functional operation."""
    shown = [operation for operation in operations if says_something(operation)]
    main = min(
        shown, key=lambda n: list(KINDS).index(KIND_OF[operation_name(n)]) if operation_name(n) in KIND_OF else 99
    )
    last = operations[-1]
    used = set().union(*(trace.parameters[operation] for operation in operations))
    kind, detail = KIND_OF.get(operation_name(main), "other"), ""
    if leaf is None:
        label = operation_label(main)
        if kind == "arithmetic" and used:
            label = f"{label} {', '.join(sorted(name.split('.')[-1] for name in used))}"
        while kind == "shape" and len(last.users) == 1 and operation_name(next(iter(last.users))) in PLUMBING:
            last = next(iter(last.users))
    else:
        label = type(leaf.module).__name__.removeprefix("Parametrized").removesuffix("Activation")
        if len(shown) == 1:
            label = f"{label} {operation_detail(main)}".strip()
        else:
            detail = "; ".join(map(operation_label, shown)) if len(shown) < 4 else f"{len(shown)} operations"
        name = leaf.path.rpartition(".")[2]
        if kind == "linear" and not name.isdigit():
            label = f"{name}: {label}"
    parameters = sum(trace.sizes[name] for name in used - seen)
    seen |= used
    return Node(operations[0].name, label, kind, shape_of(last), parameters, detail)


def layer_nodes(trace: Trace) -> tuple[list[ScopedNode], set[Edge]]:
    """The nodes of a drawing with the modules around them, and the edges between their ids."""
    seen: set[str] = set()
    owner: dict[fx.Node, list[str]] = {}  # the drawn nodes that a value comes from
    scoped, edges = [], set()

    def group_key(node: fx.Node) -> Any:
        scopes = trace.scopes(node)
        return scopes[-1].key if len(scopes) > 1 and is_leaf(scopes[-1].module) else node

    for key, group in groupby(trace.nodes, group_key):
        operations = list(group)
        if operations[0].op == "placeholder":
            node = Node(operations[0].name, f"Input {operations[0].name}", "data", shape_of(operations[0]))
            scoped.append(ScopedNode(node, ()))
            owner[operations[0]] = [node.id]
            continue
        sources = {
            s for n in operations for source in trace.sources[n] if source not in operations for s in owner[source]
        }
        if not any(map(says_something, operations)):
            for operation in operations:
                owner[operation] = sorted(sources)
            continue
        scopes = trace.scopes(operations[0])
        leaf = None if isinstance(key, fx.Node) else scopes.pop()
        node = layer_node(trace, operations, leaf, seen)
        scoped.append(ScopedNode(node, tuple((scope.key, type(scope.module).__name__) for scope in scopes[1:])))
        edges |= {(source, node.id) for source in sources}
        owner |= {operation: [node.id] for operation in operations}
    for index, output in enumerate(trace.outputs):
        node = Node(f"output_{index}", "Output", "data", shape_of(output))
        scoped.append(ScopedNode(node, ()))
        edges |= {(source, node.id) for source in owner[output]}
    return scoped, edges

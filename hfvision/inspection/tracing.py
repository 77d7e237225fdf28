"""The computational graph of a model, traced by `torch.export`: layers and functional operations, blocks folded.

An operation inside a leaf module belongs to that layer's node; other operations are nodes of their own. What happens
to weights alone (spectral normalisation, folding of branches) and what only moves numbers (views, transposes) is
left out, except where it changes the meaning of the axes.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from math import prod
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from transformers import PreTrainedModel

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


@dataclass(frozen=True)
class Node:
    """A layer or an operation. `output_shape` includes the batch; `parameters` counts those first used here."""

    id: str
    label: str
    kind: str
    output_shape: tuple[int, ...] = ()
    parameters: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Block:
    """A module of several nodes with one input and one output, `repeats` times in a row."""

    id: str
    title: str
    repeats: int
    items: tuple["Node | Block", ...]


Item = Node | Block
Edge = tuple[str, str]


@dataclass(frozen=True)
class Graph:
    """Items in the order of computation and the edges between the ids of nodes.

    Of a block that repeats, the first instance stands for all; an edge that leaves it leaves the last one.
    `backward` is the autograd graph, from the loss to the input, if it was asked for.
    """

    title: str
    items: tuple[Item, ...]
    edges: tuple[Edge, ...]
    batch_size: int
    backward: "Graph | None" = None


def nodes_of(items: Sequence[Item]) -> list[Node]:
    """All nodes, those in blocks too, in order."""
    return [node for item in items for node in (nodes_of(item.items) if isinstance(item, Block) else [item])]


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


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts every module into evaluation mode and back as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def call_arguments(model: nn.Module, pixel_values: torch.Tensor) -> tuple[tuple, dict[str, torch.Tensor]]:
    """How `model` takes the images: by name if it is a transformers model, else as its first argument."""
    return ((), {"pixel_values": pixel_values}) if isinstance(model, PreTrainedModel) else ((pixel_values,), {})


class Trace:
    """The exported operations of a model's forward pass that its output depends on.

    Attributes:
        nodes: operations computed from the images, in order; the first is the input itself.
        sources: the operations of `nodes` that each of them reads.
        outputs: those of them that the model returns.
        parameters: the names of the parameters each operation uses, directly or through operations on weights.
        sizes: numbers of elements of all parameters by name.
    """

    def __init__(self, model: nn.Module, pixel_values: torch.Tensor):
        arguments, named = call_arguments(model, pixel_values)
        try:
            with evaluation_mode(model), torch.no_grad():
                program = torch.export.export(model, arguments, named, strict=False)
        except Exception as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ValueError(f"{type(model).__name__} cannot be traced by torch.export: {reason.strip()}") from error
        self.model = model
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters(remove_duplicate=False)}
        signature = program.graph_signature
        weights = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.sizes = sizes
        self.outputs = [node for node in program.graph.output_node().all_input_nodes if node.op != "get_attr"]
        live = set(self.outputs)
        for node in reversed(program.graph.nodes):
            if node in live:
                live.update(node.all_input_nodes)
        self.sources: dict[fx.Node, list[fx.Node]] = {}
        self.parameters: dict[fx.Node, set[str]] = {}
        for node in program.graph.nodes:
            sources = [source for source in node.all_input_nodes if source in self.sources]
            if node.op == "placeholder" and node.name in signature.user_inputs:
                if isinstance(node.meta.get("val"), torch.Tensor):
                    self.sources[node] = []
            elif node in live and node.op == "call_function" and sources:
                self.sources[node] = sources
            own = {weights[node.name]} & sizes.keys() if node.name in weights else set()
            others = (self.parameters[n] for n in node.all_input_nodes if n not in self.sources)
            self.parameters[node] = own.union(*others)
        self.nodes = list(self.sources)
        self.outputs = [node for node in self.outputs if node in self.sources]

    def scopes(self, node: fx.Node) -> list["Scope"]:
        """The modules around an operation, from the outside in."""
        stack = []
        for key, (path, _) in (node.meta.get("nn_module_stack") or {}).items():
            if "parametrizations" in path.split("."):
                break
            stack.append(Scope(key, path, self.model.get_submodule(path)))
        return stack


class Scope(NamedTuple):
    """A call of a module; `key` differs from call to call."""

    key: str
    path: str
    module: nn.Module


def is_leaf(module: nn.Module) -> bool:
    """Whether a module holds no other modules (parametrizations do not count)."""
    return all(name == "parametrizations" for name, _ in module.named_children())


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
    for index, argument in enumerate(node.target._schema.arguments):
        default = argument.default_value if argument.has_default_value() else None
        value = node.args[index] if index < len(node.args) else node.kwargs.get(argument.name, default)
        arguments[argument.name] = value
    return arguments


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
        return "{1}→{0}".format(*shape_of(node.args[1]))
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


@dataclass(frozen=True)
class ScopedNode:
    node: Node
    scopes: tuple[tuple[str, str], ...]  # (key of the call, class) of each module around it, from the outside in


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


def repeated_classes(items: Sequence[ScopedNode]) -> set[str]:
    """Names of the classes that are called more than once."""
    calls = {scope for item in items for scope in item.scopes}
    classes = [name for _, name in calls]
    return {name for name in classes if classes.count(name) > 1}


def fold_scope(
    scoped: Sequence[ScopedNode], edges: set[Edge], depth: int, repeated_classes: set[str]
) -> tuple[list[Item], set[Edge]]:
    """Items of one module's call: its nodes, its submodules' items, frames around branching blocks, repeats folded."""
    items: list[Item] = []
    for scope, members in groupby(scoped, lambda s: s.scopes[depth] if len(s.scopes) > depth else None):
        members = list(members)
        if scope is None:
            items += [member.node for member in members]
            continue
        own = {member.node.id for member in members if len(member.scopes) == depth + 1}
        inside = {member.node.id for member in members}
        joins = any(sum(target == node for _, target in edges) > 1 for node in own)
        framed = scope[1] in repeated_classes and joins and is_single_path(inside, edges)
        inner, edges = fold_scope(members, edges, depth + 1, repeated_classes)
        items += [Block(f"block_{nodes_of(inner)[0].id}", scope[1], 1, tuple(inner))] if framed else inner
    return fold_repeats(items, edges)


def boundary(ids: set[str], edges: set[Edge]) -> tuple[set[str], set[str]]:
    """The nodes outside that `ids` read from, and those of `ids` that others read from."""
    sources = {source for source, target in edges if target in ids and source not in ids}
    exits = {source for source, target in edges if source in ids and target not in ids}
    return sources, exits


def is_single_path(ids: set[str], edges: set[Edge]) -> bool:
    return [len(side) for side in boundary(ids, edges)] == [1, 1]


def signature(item: Item) -> tuple:
    """What two items must share to be drawn as one; numbers in the names of parameters may differ."""
    if isinstance(item, Block):
        return (item.title, item.repeats, *map(signature, item.items))
    return (item.label, item.kind, item.output_shape, item.parameters, re.sub(r"\d+", "*", item.detail))


def fold_repeats(items: list[Item], edges: set[Edge]) -> tuple[list[Item], set[Edge]]:
    """Replace runs of the same consecutive items, each fed by the one before alone, by one block."""
    while True:
        signatures = [signature(item) for item in items]
        best = None
        for period in range(1, len(items) // 2 + 1):
            matching = 0
            for start in range(len(items) - period - 1, -1, -1):
                matching = matching + 1 if signatures[start] == signatures[start + period] else 0
                repeats = matching // period + 1
                unit = items[start : start + period]
                if repeats < (2 if any(isinstance(item, Block) for item in unit) or period > 3 else 3):
                    continue
                if len(nodes_of(unit)) < 2:
                    continue
                starts_well = isinstance(unit[0], Block) or unit[0].parameters > 0
                score = (repeats * period, starts_well, -period, -start)
                if (best is None or score > best[0]) and is_chain(items, start, period, repeats, edges):
                    best = (score, start, period, repeats)
        if best is None:
            return items, edges
        _, start, period, repeats = best
        unit = items[start : start + period]
        end = start + period * repeats
        first, last = nodes_of(unit), nodes_of(items[end - period : end])
        dropped = {node.id for node in nodes_of(items[start + period : end])}
        renamed = {old.id: new.id for old, new in zip(last, first, strict=True)}
        leaving = {(renamed[s], t) for s, t in edges if s in renamed and t not in renamed and t not in dropped}
        outside = {(s, t) for s, t in edges if s not in dropped and t not in dropped}
        edges = outside | leaving
        if period == 1 and isinstance(unit[0], Block) and unit[0].repeats == 1:
            block = replace(unit[0], repeats=repeats)
        else:
            block = Block(f"block_{first[0].id}", "", repeats, tuple(unit))
        items = [*items[:start], generalised(block), *items[end:]]


def generalised(item: Item) -> Item:
    """The item with `*` for the numbers in its details, which name one of several parameters."""
    if isinstance(item, Block):
        return replace(item, items=tuple(map(generalised, item.items)))
    return replace(item, detail=re.sub(r"(?<=\.)\d+(?=\.)", "*", item.detail))


def is_chain(items: Sequence[Item], start: int, period: int, repeats: int, edges: set[Edge]) -> bool:
    """Whether the units have the same inner edges, one input and one output each, and each feeds the next alone."""
    source: set[str] | None = None
    pattern: set | None = None
    before: dict[str, int] = {}
    for unit in range(repeats):
        ids = [node.id for node in nodes_of(items[start + unit * period : start + (unit + 1) * period])]
        place = {node: index for index, node in enumerate(ids)}
        sources, exits = boundary(set(ids), edges)
        inner = {(place.get(s), place[t]) for s, t in edges if t in place}
        if len(sources) != 1 or len(exits) != 1 or pattern not in (None, inner) or source not in (None, sources):
            return False
        if source and any(s in source and t not in place and t not in before for s, t in edges):
            return False
        source, pattern, before = exits, inner, place
    return True


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

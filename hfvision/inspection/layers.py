"""What a model costs, layer by layer: parameters, multiply-adds, activations, receptive field, memory.

Multiply-adds are half the floating-point operations that torch's `FlopCounterMode` counts: matrix products,
convolutions and attention, whichever module runs them; element-wise operations and normalisation are left out.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from .graph import in_words
from .operations import times
from .receptive_field import final_field, receptive_fields
from .tracing import Trace, call_arguments, evaluation_mode, is_leaf

# They say nothing at evaluation.
SILENT = (nn.Identity, nn.Sequential, nn.Dropout, nn.Dropout2d)


@dataclass(frozen=True)
class LayerInfo:
    """One layer, or what a module of several layers computes and holds by itself.

    Attributes:
        name: the module's path in the model.
        type: class name.
        output_shape: of its last call, with the batch; `()` for a module that the forward pass never calls.
        parameters: numbers in its own weights; shared weights count where they come first.
        multiply_adds: of all its calls, submodules that have a row of their own excepted.
        activations: output elements of all its calls; 0 for outputs that share their input's memory, and for modules
            with submodules, whose outputs are counted there.
        receptive_field: pixels of the input that one output element depends on, along the longer side; None if it is
            the whole image.
    """

    name: str
    type: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    activations: int
    receptive_field: int | None


@dataclass(frozen=True)
class ModelSummary:
    """A model's layers and totals for one input.

    Attributes:
        model: class name.
        input_shape: of the pixel values.
        layers: as `layer_table` gives them.
        parameters, trainable_parameters: numbers in all weights.
        multiply_adds, activations: sums over the layers.
        weight_bytes: parameters and buffers in their present dtypes.
        receptive_field: of the last feature map before pooling, in pixels; None if it is the whole image.
        peak_memory_bytes: weights, input, and the most that one forward pass without gradients holds at a time. On
            CUDA from `torch.cuda.max_memory_allocated`; elsewhere the sizes of all tensors alive at a time, followed
            by a `TorchDispatchMode`, without the scratch space inside of single operations.
    """

    model: str
    input_shape: tuple[int, ...]
    layers: list[LayerInfo]
    parameters: int
    trainable_parameters: int
    multiply_adds: int
    activations: int
    weight_bytes: int
    receptive_field: int | None
    peak_memory_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python values, for JSON."""
        return asdict(self)


def layer_table(model: nn.Module, pixel_values: torch.Tensor) -> list[LayerInfo]:
    """The layers of `model` in their order of registration, measured in one forward pass in evaluation mode.

    Args:
        model: any module; a `PreTrainedModel` is called as `model(pixel_values=...)`, others as `model(...)`.
        pixel_values: float (N, C, H, W), on the model's device.

    Raises:
        ValueError: if `torch.export` cannot trace the model, whose graph gives the receptive fields.
    """
    return summarize(model, pixel_values).layers


def summarize(model: nn.Module, pixel_values: torch.Tensor) -> ModelSummary:
    """The layers of `model` and their totals; arguments and errors as in `layer_table`."""
    trace = Trace(model, pixel_values)
    fields = receptive_fields(trace)
    field_of = {scope.path: fields[node].size for node in trace.nodes for scope in trace.scopes(node)}
    calls, peak = measure(model, pixel_values)
    layers, seen = [], set()
    for name, module in model.named_modules():
        if "parametrizations" in name.split("."):
            continue
        own = [p for n, p in module.named_parameters() if is_leaf(module) or "." not in n]
        parameters = sum(p.numel() for p in own if id(p) not in seen)
        seen |= {id(p) for p in own}
        call = calls.get(module, Call())
        leaf = is_leaf(module) and module in calls and not isinstance(module, SILENT)
        if leaf or parameters or call.flops:
            activations = call.activations if is_leaf(module) else 0
            layers.append(
                LayerInfo(
                    name,
                    type(module).__name__,
                    call.output_shape,
                    parameters,
                    call.flops // 2,
                    activations,
                    field_of.get(name),
                )
            )
    weights = [*model.parameters(), *model.buffers()]
    weight_bytes = sum(tensor.nbytes for tensor in weights)
    return ModelSummary(
        model=type(model).__name__,
        input_shape=tuple(pixel_values.shape),
        layers=layers,
        parameters=sum(p.numel() for p in model.parameters()),
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        activations=sum(layer.activations for layer in layers),
        weight_bytes=weight_bytes,
        receptive_field=final_field(trace, fields),
        peak_memory_bytes=weight_bytes + pixel_values.nbytes + peak,
    )


@dataclass
class Call:
    """What all calls of one module add up to, its submodules' calls excepted."""

    flops: int = 0
    activations: int = 0
    output_shape: tuple[int, ...] = ()


def measure(model: nn.Module, pixel_values: torch.Tensor) -> tuple[dict[nn.Module, Call], int]:
    """The calls of each module in one forward pass, and the peak memory of that pass above weights and input."""
    calls: dict[nn.Module, Call] = {}
    running: list[int] = []  # FLOPs counted up to now in the submodules of each running module
    # Attention on the CPU runs as an operation that torch's counter does not know.
    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops}
    counter = FlopCounterMode(display=False, custom_mapping=on_cpu)

    def before(module: nn.Module, inputs: Any) -> None:
        running.extend([counter.get_total_flops(), 0])

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        inner, start = running.pop(), running.pop()
        spent = counter.get_total_flops() - start
        if running:
            running[-1] += spent
        call = calls.setdefault(module, Call())
        call.flops += spent - inner
        tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(inputs) if isinstance(leaf, torch.Tensor)}
        if tensors:
            call.output_shape = tuple(tensors[0].shape)
            call.activations += tensors[0].numel() * (tensors[0].untyped_storage().data_ptr() not in given)

    modules = [module for name, module in model.named_modules() if "parametrizations" not in name.split(".")]
    handles = [module.register_forward_pre_hook(before) for module in modules]
    handles += [module.register_forward_hook(after) for module in modules]
    arguments, named = call_arguments(model, pixel_values)
    try:
        with evaluation_mode(model), torch.no_grad(), peak_memory(model, pixel_values) as peak, counter:
            model(*arguments, **named)
    finally:
        for handle in handles:
            handle.remove()
    return calls, peak[0]


def attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


@contextmanager
def peak_memory(model: nn.Module, pixel_values: torch.Tensor) -> Iterator[list[int]]:
    """A list whose only element is, in the end, the most bytes of new tensors alive at a time."""
    peak = [0]
    if pixel_values.is_cuda:
        torch.cuda.reset_peak_memory_stats(pixel_values.device)
        start = torch.cuda.memory_allocated(pixel_values.device)
        yield peak
        peak[0] = torch.cuda.max_memory_allocated(pixel_values.device) - start
    else:
        known = [tensor.untyped_storage() for tensor in (*model.parameters(), *model.buffers(), pixel_values)]
        tracker = LiveBytes(known)
        with tracker:
            yield peak
        peak[0] = tracker.peak


class LiveBytes(TorchDispatchMode):
    """Adds up the storages that operations make, as long as they live."""

    def __init__(self, known: list[torch.UntypedStorage]):
        super().__init__()
        self.live = {storage._cdata for storage in known}
        self.bytes = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **kwargs or {})
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor.untyped_storage())
        self.peak = max(self.peak, self.bytes)
        return output

    def add(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self.live:
            self.live.add(storage._cdata)
            self.bytes += storage.nbytes()
            weakref.finalize(storage, self.remove, storage._cdata, storage.nbytes())

    def remove(self, key: int, size: int) -> None:
        self.live.discard(key)
        self.bytes -= size


HEADER = ("layer", "type", "output", "parameters", "mult-adds", "activations", "field")
NAME_WIDTH, TYPE_WIDTH = 31, 15


def format_table(summary: ModelSummary) -> str:
    """Layers and totals as text of at most 100 columns; long paths have their first parts cut to letters."""
    rows = [
        (
            layer.name or "(model)",
            layer.type,
            times(layer.output_shape[1:]) or ("1" if layer.output_shape else "not called"),
            *(in_words(n) if n else "–" for n in (layer.parameters, layer.multiply_adds, layer.activations)),
            "–"
            if not layer.output_shape
            else "global"
            if layer.receptive_field is None
            else str(layer.receptive_field),
        )
        for layer in summary.layers
    ]
    lines = [table_line(HEADER), "─" * len(table_line(HEADER))]
    lines += [table_line(row) for row in rows]
    field = f"{summary.receptive_field} pixels" if summary.receptive_field else "the whole image"
    memory, weights = summary.peak_memory_bytes / 2**20, summary.weight_bytes / 2**20
    return "\n".join(
        [
            *lines,
            lines[1],
            f"parameters        {in_words(summary.parameters)} ({summary.parameters:,}), "
            f"of them trainable {in_words(summary.trainable_parameters)}",
            f"multiply-adds     {in_words(summary.multiply_adds)} ({summary.multiply_adds:,})",
            f"activations       {in_words(summary.activations)} elements",
            f"receptive field   {field} (final feature map)",
            f"weights           {weights:.2f} MiB",
            f"peak memory       {memory:.2f} MiB in one forward pass, weights included",
        ]
    )


def table_line(row: tuple[str, ...]) -> str:
    name, kind, output, *numbers = row
    parts = name.split(".")
    for index in range(len(parts) - 1):
        if len(".".join(parts)) > NAME_WIDTH and not parts[index].isdigit():
            parts[index] = parts[index][0]
    name = ".".join(parts)
    name = name if len(name) <= NAME_WIDTH else "…" + name[1 - NAME_WIDTH :]
    kind = kind if len(kind) <= TYPE_WIDTH else kind[: TYPE_WIDTH - 1] + "…"
    widths = (10, 9, 11, 6)
    right = " ".join(number.rjust(width) for number, width in zip(numbers, widths, strict=True))
    return f"{name:{NAME_WIDTH}} {kind:{TYPE_WIDTH}} {output:>12} {right}".rstrip()

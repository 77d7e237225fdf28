"""Structured pruning: which channels and heads matter, how many may stay, and the network without the others."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from ..inspection.layers import attention_flops
from ..tasks.base import task_of
from .config import Metric
from .groups import Consumer, Group, find_groups, linear_layer, narrowed, unit_places

LEAST = 0.1  # of each group's units stay, so that no layer is cut through


@dataclass(frozen=True)
class Pruned:
    """A network without its least important units.

    Attributes:
        model: the smaller network; its configuration has the width of every layer.
        kept: for each group, by name, the units of the parent that stayed, ascending.
        before, after: `params`, `macs`, and, where asked for, `latency` in ms.
    """

    model: PreTrainedModel
    kept: dict[str, Tensor]
    before: dict[str, float]
    after: dict[str, float]


def taylor_importance(
    model: PreTrainedModel, batches: Sequence[dict[str, Tensor]], loss: Callable[[Any, dict[str, Tensor]], Tensor]
) -> dict[str, Tensor]:
    """How much the loss would change without each unit: (∂L/∂z)² for a factor z = 1 on its output, mean over batches.

    Molchanov et al. 2019, arXiv:1906.10771, equation 8, of the gate on the unit as all layers see that take it.

    Args:
        model: whose [`find_groups`] are rated; its gradients are lost.
        batches: inputs of the loss.
        loss: of the model and a batch.

    Returns:
        For each group, by name, float (size,), at least 0.
    """
    groups = find_groups(model)
    model.eval()
    total = {group.name: torch.zeros(group.size) for group in groups}
    for batch in batches:
        model.zero_grad()
        loss(model, batch).backward()
        for group in groups:
            gate = torch.zeros(group.size)
            for consumer in group.consumers:
                weight = linear_layer(model, consumer.module).weight
                if weight.grad is None:
                    raise ValueError(f"The loss does not depend on {consumer.module}: its units cannot be rated.")
                product = (weight.detach() * weight.grad).transpose(0, 1).flatten(1).sum(1)
                gate += of_units(product, group, consumer).sum(1).cpu()
            total[group.name] += gate.square() / len(batches)
    model.zero_grad()
    return total


@torch.no_grad()
def magnitude_importance(model: PreTrainedModel) -> dict[str, Tensor]:
    """The norm of all weights of each unit, in all layers of its group, over the group's mean (Fang et al. 2023,
    arXiv:2301.12900, section 3.3)."""
    norms = {}
    for group in find_groups(model):
        squares = torch.zeros(group.size)
        for producer in group.producers:
            weight = model.get_parameter(f"{producer.module}.weight")
            squares += weight.square().reshape(group.size, producer.rows, -1).sum((1, 2)).cpu()
        for consumer in group.consumers:
            weight = linear_layer(model, consumer.module).weight.transpose(0, 1)
            squares += of_units(weight.square().flatten(1), group, consumer).sum((1, 2)).cpu()
        norms[group.name] = squares.sqrt() / squares.sqrt().mean()
    return norms


def of_units(values: Tensor, group: Group, consumer: Consumer) -> Tensor:
    """Of values for each column of a consumer's weight, (columns, ...), those of each unit: (size, each, ...)."""
    own = values[consumer.offset : consumer.offset + group.size * consumer.columns]
    return own.view(group.size, consumer.columns, *values.shape[1:])


def prune(model: PreTrainedModel, importance: dict[str, Tensor], target: float, metric: Metric = "params") -> Pruned:
    """The network without the units that matter least for what they cost.

    Units are cut in the order of importance over cost, all layers together; a tenth of each layer stays. Outputs are
    those of the parent with the same units at zero.

    Args:
        model: of one of hfvision's families; it is not changed.
        importance: of the units of each group.
        target: what may be left of `metric`: a part of the model's own for at most 1, else the number itself.
        metric: `params`; `macs`, multiply-adds of one image of the configuration's size (64×64 for an upscaler); or
            `latency`, milliseconds of one such image, of PyTorch in fp32, on as many threads as it uses now.

    Raises:
        ValueError: for a target that is not above 0 or not below what the model has, or cannot be reached.
    """
    groups = find_groups(model)
    full = {group.name: group.size for group in groups}
    before = count(type(model), model.config)
    if metric == "latency":
        before["latency"] = latency(model)
    limit = target * before[metric] if target <= 1 else target
    if not 0 < limit < before[metric]:
        raise ValueError(
            f"The target {target:g} must be above 0 and below the {metric} of the model, {before[metric]:g}."
        )
    by = "macs" if metric == "latency" else metric
    ratings = {}
    for group in groups:
        some = max(1, min(group.step, group.size - 1))
        fewer = count(type(model), narrowed(model.config, full | {group.name: max(1, group.size - some)}, groups))
        cost = max((before[by] - fewer[by]) / some, 1e-9)
        ratings[group.name] = importance[group.name] / cost

    def sizes_above(threshold: float) -> dict[str, int]:
        return {group.name: remaining(group, int((ratings[group.name] > threshold).sum())) for group in groups}

    def cost_of(sizes: dict[str, int]) -> float:
        config = narrowed(model.config, sizes, groups)
        return latency(type(model)(config)) if metric == "latency" else count(type(model), config)[metric]

    thresholds = torch.cat([torch.tensor([-1.0]), *ratings.values()]).unique().tolist()
    best = cost_of(sizes_above(thresholds[-1]))
    if best > limit:
        raise ValueError(
            f"The target of {limit:,.4g} {metric} cannot be reached: {best:,.4g} are left with {LEAST:.0%} of each "
            "layer."
        )
    low, high = 0, len(thresholds) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if cost_of(sizes_above(thresholds[middle])) <= limit else (middle + 1, high)
    sizes = sizes_above(thresholds[high])
    kept = {name: ratings[name].topk(size).indices.sort().values for name, size in sizes.items()}
    smaller = cut(model, kept)
    after = count(type(model), smaller.config)
    return Pruned(smaller, kept, before, after | ({"latency": latency(smaller)} if metric == "latency" else {}))


def remaining(group: Group, wanted: int) -> int:
    """How many units stay of those that are wanted: a whole number of steps, and never too few."""
    least = max(1, ceil(LEAST * group.size))
    return min(group.size, ceil(max(wanted, least) / group.step) * group.step)


def cut(model: PreTrainedModel, kept: dict[str, Tensor]) -> PreTrainedModel:
    """The network with the units `kept` of each group alone, in evaluation mode; the model is not changed.

    Args:
        model: of one of hfvision's families.
        kept: for each of its [`find_groups`], by name, the units that stay, ascending.
    """
    groups = find_groups(model)
    state = model.state_dict()
    keep: dict[tuple[str, int], Tensor] = {}  # bool, of the slices along a dimension of a tensor

    def mark(name: str, dim: int, group: Group, each: int, offset: int = 0) -> None:
        mask = keep.setdefault((name, dim), torch.ones(state[name].shape[dim], dtype=torch.bool))
        mask[offset : offset + group.size * each] = False
        mask[offset + unit_places(kept[group.name].cpu(), each)] = True

    for group in groups:
        for producer in group.producers:
            for part in ("weight", "bias", "running_mean", "running_var"):
                if state.get(f"{producer.module}.{part}") is not None:
                    mark(f"{producer.module}.{part}", 0, group, producer.rows)
        for consumer in group.consumers:
            mark(f"{consumer.module}.weight", 1, group, consumer.columns, consumer.offset)
    for (name, dim), mask in keep.items():
        state[name] = state[name].index_select(dim, mask.nonzero().flatten().to(model.device))
    smaller: Any = type(model)(narrowed(model.config, {name: len(units) for name, units in kept.items()}, groups))
    smaller.load_state_dict(state)
    return smaller.to(model.device, model.dtype).eval()


def count(model_class: type[PreTrainedModel], config: Any) -> dict[str, float]:
    """`params` and `macs` of a configuration, computed without weights."""
    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops}
    with FakeTensorMode(), torch.no_grad(), FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        with no_init_weights():
            model = model_class(config).eval()
        model(pixel_values=example(config))
    return {"params": model.num_parameters(), "macs": counter.get_total_flops() // 2}


def example(config: Any) -> Tensor:
    side = task_of(config, "The model").example_side(config)
    return torch.zeros(1, config.num_channels, side, side)


@torch.inference_mode()
def latency(model: PreTrainedModel) -> float:
    """Milliseconds for one image, the median of at least 15 runs and a quarter of a second."""
    model, image, times = model.eval(), example(model.config).to(model.device, model.dtype), []
    while len(times) < 20 or sum(times) < 250:
        start = time.perf_counter()
        model(pixel_values=image)
        times.append(1000 * (time.perf_counter() - start))
    return median(times[5:])

"""Receptive fields along the exported graph: how many input pixels a value depends on, in each direction.

For every axis, output index `period·m + phase` depends on the input interval `[first[phase], last[phase]] + jump·m`.
Convolution, pooling, resampling and padding map such families onto each other without rounding, so the result is
exact for every mixture of strides, dilations and pixel shuffles; branches are merged to the hull of their intervals.
The grid is endless: borders of the image do not shorten a field. Statistics of normalisation layers are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd, lcm, prod

from torch import fx

from .operations import KIND_OF, KINDS, argument_node, arguments_of, operation_name, pair, shape_of
from .tracing import Trace


@dataclass(frozen=True)
class Support:
    """The input pixels behind each index along one axis (see the module's description)."""

    jump: int
    first: tuple[int, ...]
    last: tuple[int, ...]

    @property
    def size(self) -> int:
        return max(last - first + 1 for first, last in zip(self.first, self.last, strict=True))

    def window(self, step: int, per: int, taps: Callable[[int], tuple[int, int]]) -> "Support":
        """The support of an operation whose output j reads inputs taps(j), with taps(j + per) = taps(j) + step."""
        period = len(self.first)
        repeats = period // gcd(step, period)
        ends = [taps(j) for j in range(per * repeats)]
        return Support(
            self.jump * step * repeats // period,
            tuple(self.first[a % period] + self.jump * (a // period) for a, _ in ends),
            tuple(self.last[b % period] + self.jump * (b // period) for _, b in ends),
        )

    def merge(self, other: "Support") -> "Support | None":
        """The hull of two branches; None if they do not advance at the same pace."""
        a, b = len(self.first), len(other.first)
        period = lcm(a, b)
        left, right = (s.window(period, period, lambda j: (j, j)) for s in (self, other))
        if left.jump != right.jump:
            return None
        return Support(left.jump, tuple(map(min, left.first, right.first)), tuple(map(max, left.last, right.last)))


@dataclass(frozen=True)
class Field:
    """What is known of one value: which of its axes run over rows (0) and columns (1), and their supports.

    `supports` is None once every element depends on the whole image; `pooled` once rows and columns are gone.
    """

    axes: dict[int, frozenset[int]]
    supports: tuple[Support, Support] | None
    pooled: bool = False

    @property
    def known(self) -> tuple[Support, Support]:
        """The supports of a field that has them."""
        if self.supports is None:
            raise ValueError("Every element of this value depends on the whole image.")
        return self.supports

    @property
    def size(self) -> int | None:
        return None if self.supports is None else max(support.size for support in self.supports)


PIXEL = Support(1, (0,), (0,))
GLOBAL = Field({}, None)
POOLED = Field({}, None, pooled=True)
IMAGE = Field({2: frozenset({0}), 3: frozenset({1})}, (PIXEL, PIXEL))
# First and last input around the scaled coordinate that each kind of interpolation reads.
NEIGHBOURS = {"upsample_nearest2d": (0, 0), "upsample_bilinear2d": (0, 1), "upsample_bicubic2d": (-1, 2)}


def receptive_fields(trace: Trace) -> dict[fx.Node, Field]:
    """The field of every operation of a trace."""
    fields: dict[fx.Node, Field] = {}
    for node in trace.nodes:
        sources = [fields[source] for source in trace.sources[node]]
        fields[node] = IMAGE if not sources else apply(node, sources, trace.sources[node])
    return fields


def final_field(trace: Trace, fields: dict[fx.Node, Field]) -> int | None:
    """Receptive field of the last feature map before pooling, in pixels; None if it is the whole image."""
    return next((fields[node].size for node in reversed(trace.nodes) if not fields[node].pooled), None)


def apply(node: fx.Node, sources: list[Field], inputs: list[fx.Node]) -> Field:
    name, source = operation_name(node), sources[0]
    before, after = shape_of(inputs[0]), shape_of(node)
    if any(field.supports is None for field in sources) or (name in KINDS["attention"] and len(sources) > 1):
        return POOLED if all(field.pooled for field in sources) else GLOBAL
    if name in KINDS["attention"] and name != "softmax":
        return GLOBAL
    if name == "cat" or (len(sources) > 1 and len(after) == len(before)):
        return merged(sources)
    if taps := window_of(node, name, before, after):
        if after[-2:] == (1, 1) and name.startswith("adaptive") and prod(before[-2:]) > 1:
            return POOLED
        first, second = (support.window(*taps[axis]) for axis, support in enumerate(source.known))
        return Field(source.axes, (first, second))
    if name in ("mean", "sum", "amax", "softmax", "log_softmax", "linear", "mm", "addmm", "select", "unbind"):
        return reduced(node, name, source, before)
    if name == "einsum" or KIND_OF.get(name) in ("convolution", "pooling", "resampling"):
        return GLOBAL
    if name == "slice":
        return sliced(node, source)
    if name in ("permute", "transpose", "t", "swapaxes", "movedim"):
        return Field(permuted_axes(node, name, source.axes, len(before)), source.supports)
    if before == after or name in ("getitem", "split", "chunk", "split_with_sizes", "expand"):
        return source
    if prod(before) == prod(after):
        return reshaped(source, before, after)
    return GLOBAL


def merged(sources: list[Field]) -> Field:
    rows, columns = sources[0].known
    for field in sources[1:]:
        other = field.known
        merged_rows, merged_columns = rows.merge(other[0]), columns.merge(other[1])
        if merged_rows is None or merged_columns is None:
            return GLOBAL
        rows, columns = merged_rows, merged_columns
    return Field(sources[0].axes, (rows, columns))


def window_of(node: fx.Node, name: str, before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple] | None:
    """Arguments of `Support.window` for rows and columns, None for operations that are no windows on (N, C, H, W)."""
    if len(before) != 4 or len(after) != 4:
        return None
    if name == "conv_transpose2d":
        arguments = arguments_of(node)
        strides, paddings, dilations = (pair(arguments[key]) for key in ("stride", "padding", "dilation"))
        reach = [
            dilation * (size - 1)
            for dilation, size in zip(dilations, shape_of(argument_node(node, 1))[2:], strict=True)
        ]
        return [
            (1, s, lambda j, s=s, p=p, r=r: (-((r - j - p) // s), (j + p) // s))
            for s, p, r in zip(strides, paddings, reach, strict=True)
        ]
    if name == "conv2d" or name.startswith(("max_pool2d", "avg_pool2d")):
        arguments = arguments_of(node)
        kernel = shape_of(argument_node(node, 1))[2:] if name == "conv2d" else pair(arguments["kernel_size"])
        strides = pair(arguments["stride"] or kernel)
        dilations = pair(arguments.get("dilation", 1))
        paddings = arguments["padding"]
        reach = [dilation * (size - 1) for dilation, size in zip(dilations, kernel, strict=True)]
        paddings = [r // 2 for r in reach] if paddings == "same" else pair(0 if paddings == "valid" else paddings)
        return [
            (s, 1, lambda j, s=s, p=p, r=r: (s * j - p, s * j - p + r))
            for s, p, r in zip(strides, paddings, reach, strict=True)
        ]
    if name == "pad":
        left = arguments_of(node)["pad"]
        starts = (left[2] if len(left) > 2 else 0, left[0])
        return [(1, 1, lambda j, start=start: (j - start, j - start)) for start in starts]
    if name == "pixel_unshuffle":
        factor = arguments_of(node)["downscale_factor"]
        return [(factor, 1, lambda j: (factor * j, factor * j + factor - 1))] * 2
    sizes = [(a // gcd(a, b), b // gcd(a, b)) for a, b in zip(before[2:], after[2:], strict=True)]
    if name == "pixel_shuffle":
        return [(a, b, lambda j, a=a, b=b: (j * a // b, j * a // b)) for a, b in sizes]
    if name.startswith("adaptive"):
        return [(a, b, lambda j, a=a, b=b: (j * a // b, -(-(j + 1) * a // b) - 1)) for a, b in sizes]
    if name in NEIGHBOURS:
        low, high = NEIGHBOURS[name]
        if name == "upsample_nearest2d":
            return [(a, b, lambda j, a=a, b=b: (j * a // b, j * a // b)) for a, b in sizes]
        # The pixel at or before the centre: floor((j + 1/2)·a/b − 1/2).
        return [
            (
                a,
                b,
                lambda j, a=a, b=b: (((2 * j + 1) * a - b) // (2 * b) + low, ((2 * j + 1) * a - b) // (2 * b) + high),
            )
            for a, b in sizes
        ]
    return None


def reduced(node: fx.Node, name: str, source: Field, before: tuple[int, ...]) -> Field:
    """Operations that run along some axes: over rows or columns they see the whole image."""
    mixes_last = name in ("linear", "mm", "addmm")
    dims = -1 if mixes_last else arguments_of(node).get("dim")
    dims = range(len(before)) if dims is None or dims == [] else pair(dims, 1)
    dims = {dim % len(before) for dim in dims}
    crossed = any(source.axes.get(dim) and before[dim] > 1 for dim in dims)
    if name in ("select", "unbind"):
        crossed = False
    if crossed:
        return POOLED if (not mixes_last and "softmax" not in name) or len(before) < 3 else GLOBAL
    if len(shape_of(node)) == len(before):
        return source
    kept = [dim for dim in range(len(before)) if dim not in dims]
    return Field({new: source.axes[old] for new, old in enumerate(kept) if old in source.axes}, source.supports)


def sliced(node: fx.Node, source: Field) -> Field:
    arguments = arguments_of(node)
    dim, start, step = arguments["dim"], arguments["start"] or 0, arguments["step"]
    axes = source.axes.get(dim % len(shape_of(node)), frozenset())
    if not axes or (step == 1 and len(axes) == 2):
        return source
    if start < 0 or len(axes) == 2:
        return GLOBAL
    shifted = [
        support.window(step, 1, lambda j: (start + step * j,) * 2) if axis in axes else support
        for axis, support in enumerate(source.known)
    ]
    return Field(source.axes, (shifted[0], shifted[1]))


def permuted_axes(node: fx.Node, name: str, axes: dict[int, frozenset[int]], ndim: int) -> dict[int, frozenset[int]]:
    if name == "permute":
        order = [dim % ndim for dim in arguments_of(node)["dims"]]
    else:
        arguments = arguments_of(node)
        order = list(range(ndim))
        a, b = (arguments.get(key, default) % ndim for key, default in (("dim0", 0), ("dim1", 1)))
        order[a], order[b] = b, a
    return {new: axes[old] for new, old in enumerate(order) if old in axes}


def reshaped(source: Field, before: tuple[int, ...], after: tuple[int, ...]) -> Field:
    """Follows rows and columns through a view; a vector of all of them sees the whole image."""
    axes: dict[int, frozenset[int]] = {}
    i = j = 0
    while i < len(before) and j < len(after):
        start_i, start_j = i, j
        left, right = before[i], after[j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left, i = left * before[i], i + 1
            else:
                right, j = right * after[j], j + 1
        held = [source.axes[dim] for dim in range(start_i, i) if source.axes.get(dim) and before[dim] > 1]
        if not held:
            continue
        new = list(range(start_j, j))
        if len(after) <= 2 and len(after) - 1 in new:
            return POOLED
        everything = frozenset().union(*held)
        if len(new) == len(everything) == 2:
            axes |= {new[0]: frozenset({0}), new[1]: frozenset({1})}
        else:
            axes |= dict.fromkeys(new, everything)
    return Field(axes, source.supports)

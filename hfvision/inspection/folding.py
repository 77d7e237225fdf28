"""Nodes and blocks of a drawn graph, and the folding of blocks that repeat."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby


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


@dataclass(frozen=True)
class ScopedNode:
    node: Node
    scopes: tuple[tuple[str, str], ...]  # (key of the call, class) of each module around it, from the outside in


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


def fold_repeats(items: Sequence[Item], edges: set[Edge]) -> tuple[list[Item], set[Edge]]:
    """Replace runs of the same consecutive items, each fed by the one before alone, by one block."""
    items = list(items)
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

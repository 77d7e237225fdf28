"""Drawings of a model's computational graph: Mermaid for Markdown, and a stand-alone SVG picture.

The picture is laid out box by box. A block is a box with one way in, at the top, and one way out, at the bottom. In a
box an item's row is the length of the longest way to it; the longest path runs down the middle, parallel branches run
beside it in the order of computation, and connections that skip rows pass on the left.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .computation import computational_graph
from .folding import Block, Edge, Graph, Item, Node, nodes_of
from .operations import times

__all__ = ["Block", "Graph", "Node", "computational_graph", "in_words", "to_mermaid", "to_svg"]

# Fill and border of each kind of node.
COLORS = {
    "data": ("#f6f8fa", "#57606a"),
    "convolution": ("#dbeafe", "#2563eb"),
    "linear": ("#e0e7ff", "#4f46e5"),
    "attention": ("#fce7f3", "#be185d"),
    "normalisation": ("#dcfce7", "#15803d"),
    "activation": ("#fef3c7", "#b45309"),
    "pooling": ("#fee2e2", "#b91c1c"),
    "resampling": ("#ede9fe", "#7c3aed"),
    "arithmetic": ("#ccfbf1", "#0f766e"),
    "shape": ("#f1f5f9", "#64748b"),
    "other": ("#ffffff", "#64748b"),
}


def in_words(number: float) -> str:
    """A number of at least 0 in three digits and K, M, G or T: `1.61 M` for 1,605,888."""
    for unit in ("", " K", " M", " G"):
        if number < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g} T"


def captions(node: Node, batch_size: int) -> list[str]:
    """Shape without the batch, and parameters, where there are any."""
    shape = node.output_shape[1:] if node.output_shape[:1] == (batch_size,) else node.output_shape
    parameters = f"{in_words(node.parameters)} parameter{'s' * (node.parameters > 1)}" if node.parameters else ""
    return [line for line in (times(shape), parameters) if line]


def port(block_id: str) -> str:
    """The point at which a block is entered."""
    return f"{block_id}_in"


def edges_by_box(graph: Graph) -> dict[str, set[Edge]]:
    """The edges between the items of each box (`""` is the whole graph); what enters a block starts at its port."""
    path: dict[str, tuple[str, ...]] = {}

    def walk(items: Sequence[Item], around: tuple[str, ...]) -> None:
        for item in items:
            if isinstance(item, Block):
                walk(item.items, (*around, item.id))
            else:
                path[item.id] = (*around, item.id)

    walk(graph.items, ("",))
    edges = defaultdict(set)
    for source, target in graph.edges:
        common = sum(1 for a, b in zip(path[source], path[target], strict=False) if a == b)
        edges[path[target][common - 1]].add((path[source][common], path[target][common]))
        for box, inner in zip(path[target][common:], path[target][common + 1 :], strict=False):
            edges[box].add((port(box), inner))
    return edges


def to_mermaid(graph: Graph) -> str:
    """A fenced Mermaid flowchart, as GitHub draws it in Markdown."""
    lines = ["```mermaid", "flowchart TD"]
    if graph.backward is None:
        lines += mermaid_part(graph, "    ")
    else:
        for name, part in (("Forward", graph), ("Backward", graph.backward)):
            lines += [f"    subgraph {name.lower()}[{mermaid_text(name)}]", "        direction TB"]
            lines += [*mermaid_part(part, "        "), "    end", f"    class {name.lower()} block"]
        lines.append(f"    {graph.items[-1].id} -.-> {graph.backward.items[0].id}")
    drawn = nodes_of(graph.items) + (nodes_of(graph.backward.items) if graph.backward else [])
    lines += [
        f"    classDef {kind} fill:{COLORS[kind][0]},stroke:{COLORS[kind][1]},color:#1f2328"
        for kind in dict.fromkeys(node.kind for node in drawn)
    ]
    lines.append("    classDef block fill:#f6f8fa,stroke:#8c959f,stroke-dasharray:5 4,color:#57606a")
    lines.append("    classDef port fill:#57606a,stroke:#57606a")
    return "\n".join([*lines, "```"]) + "\n"


def mermaid_text(*rows: str) -> str:
    escapes = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "`": "#96;", "*": "#42;", "_": "#95;"}
    return '"' + "<br/>".join("".join(escapes.get(c, c) for c in row) for row in rows if row) + '"'


def mermaid_part(graph: Graph, indent: str) -> list[str]:
    edges = edges_by_box(graph)
    entered = {port(box): sorted(t for s, t in inside if s == port(box)) for box, inside in edges.items()}
    exits = {}
    lines = []

    def draw(items: Sequence[Item], indent: str) -> None:
        for item in items:
            if isinstance(item, Node):
                text = mermaid_text(item.label, item.detail, *captions(item, graph.batch_size))
                lines.append(f"{indent}{item.id}[{text}]:::{item.kind}")
                continue
            title = f"{item.title} ×{item.repeats}" if item.repeats > 1 else item.title
            lines.append(f"{indent}subgraph {item.id}[{mermaid_text(title.strip())}]")
            if len(entered[port(item.id)]) > 1:
                lines.append(f'{indent}    {port(item.id)}((" ")):::port')
            draw(item.items, indent + "    ")
            lines.extend([f"{indent}end", f"{indent}class {item.id} block"])
            sources = {source for source, _ in edges[item.id]}
            last = next(i for i in reversed(item.items) if i.id not in sources)
            exits[item.id] = exits.get(last.id, last.id)

    draw(graph.items, indent)
    blocks = set(exits)

    def entry(target: str) -> str:
        while target in blocks:
            inside = entered[port(target)]
            if len(inside) > 1:
                return port(target)
            target = inside[0]
        return target

    shown = {(exits.get(s, s), entry(t)) for inside in edges.values() for s, t in inside}
    single = {name for name, targets in entered.items() if len(targets) == 1}
    return lines + [f"{indent}{source} --> {target}" for source, target in sorted(shown) if source not in single]


# Sizes in pixels.
ROW_GAP = 26
LANE_GAP = 22
PADDING = 16
FRAME_TITLE = 26
FONT = "-apple-system, 'Segoe UI', 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif"


@dataclass(frozen=True)
class Drawing:
    """SVG with its origin at the middle of its upper edge, where the arrow into it ends."""

    left: float
    right: float
    height: float
    svg: str


def to_svg(graph: Graph) -> str:
    """The graph as an SVG picture, the backward graph to the right of the forward one."""
    parts = [(graph.title, graph)] if graph.backward is None else [("Forward", graph), ("Backward", graph.backward)]
    x, body, height = 2.0 * PADDING, [], 0.0
    for title, part in parts:
        drawing = draw_box(part.items, "", edges_by_box(part), part.batch_size)
        left = max(drawing.left, text_width(title, 17) / 2)
        body.append(text(x + left, 36, title, 17, weight=600))
        body.append(f'<g transform="translate({x + left:g},56)">{drawing.svg}</g>')
        x += left + max(drawing.right, text_width(title, 17) / 2) + 3 * PADDING
        height = max(height, drawing.height + 56)
    width = x - PADDING
    drawn = [node for _, part in parts for node in nodes_of(part.items)]
    kinds = [kind for kind in COLORS if kind != "data" and any(node.kind == kind for node in drawn)]
    keys, height = draw_legend(kinds, width, height + 2 * PADDING)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" font-family="{FONT}" role="img">'
        f"<title>{escape(graph.title)}: computational graph</title>"
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0,0.6 L7.4,4 L0,7.4 z" fill="#57606a"/></marker></defs>'
        f'<rect width="{width:g}" height="{height:g}" rx="10" fill="#ffffff"/>{"".join(body)}{keys}</svg>\n'
    )


def draw_legend(kinds: Sequence[str], width: float, top: float) -> tuple[str, float]:
    """Rows of colour keys, and where they end."""
    svg, x, y = [], 2.0 * PADDING, top
    for kind in kinds:
        step = text_width(kind, 11) + 34
        if x > 2 * PADDING and x + step > width - PADDING:
            x, y = 2.0 * PADDING, y + 20
        svg.append(rectangle(x, y, 12, 12, *COLORS[kind], radius=3))
        svg.append(text(x + 18, y + 10, kind, 11, anchor="start", fill="#57606a"))
        x += step
    return "".join(svg), y + 2 * PADDING


def text_width(content: str, size: float) -> float:
    """About how wide a line of text is in a proportional font."""
    return (
        sum(0.3 if c in "il.,:;|!'()[] " else 0.9 if c in "mwMW" else 0.68 if c.isupper() else 0.58 for c in content)
        * size
    )


def text(x: float, y: float, content: str, size: int, anchor="middle", weight=400, fill="#1f2328") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{fill}">{escape(content)}</text>'
    )


def rectangle(x: float, y: float, width: float, height: float, fill: str, stroke: str, radius: float = 7) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}" '
        f'fill="{fill}" stroke="{stroke}" stroke-width="1.2"/>'
    )


def draw_node(node: Node, batch_size: int) -> Drawing:
    below = [line for line in (node.detail, " · ".join(captions(node, batch_size))) if line]
    width = max([150, text_width(node.label, 13) * 1.06 + 28, *(text_width(line, 11) + 28 for line in below)])
    height = 28 + 15 * len(below)
    svg = [rectangle(-width / 2, 0, width, height, *COLORS[node.kind]), text(0, 19, node.label, 13, weight=600)]
    svg += [text(0, 35 + 15 * index, line, 11, fill="#57606a") for index, line in enumerate(below)]
    return Drawing(width / 2, width / 2, height, "".join(svg))


def draw_block(block: Block, edges: dict[str, set[Edge]], batch_size: int) -> Drawing:
    inner = draw_box(block.items, block.id, edges, batch_size)
    badge = f"×{block.repeats}" if block.repeats > 1 else ""
    left = max(inner.left + PADDING, text_width(block.title, 12) + PADDING + 12)
    right = max(inner.right + PADDING, text_width(badge, 13) + 40)
    height = FRAME_TITLE + inner.height + PADDING
    svg = [
        f'<rect x="{-left:g}" y="0" width="{left + right:g}" height="{height:g}" rx="10" fill="#0969da" '
        'fill-opacity="0.045" stroke="#8c959f" stroke-width="1.2" stroke-dasharray="5 4"/>',
        text(-left + 12, 19, block.title, 12, anchor="start", weight=600, fill="#57606a"),
        path([(0, 0), (0, FRAME_TITLE)]),
        f'<g transform="translate(0,{FRAME_TITLE})">{inner.svg}</g>',
        path([(0, FRAME_TITLE + inner.height), (0, height)]),
    ]
    if badge:
        width = text_width(badge, 13) + 18
        svg.append(rectangle(right - width - 8, 7, width, 22, "#1f2328", "#1f2328", radius=11))
        svg.append(text(right - width / 2 - 8, 22.5, badge, 13, weight=700, fill="#ffffff"))
    return Drawing(left, right, height, "".join(svg))


def path(points: Sequence[tuple[float, float]], arrow: bool = False) -> str:
    """A line through the points with rounded corners."""
    steps = [f"M{points[0][0]:g},{points[0][1]:g}"]
    for (x0, y0), (x1, y1), (x2, y2) in zip(points, points[1:], points[2:], strict=False):
        before, after = abs(x1 - x0) + abs(y1 - y0), abs(x2 - x1) + abs(y2 - y1)
        radius = min(12, before / 2, after / 2)
        if not radius:
            continue
        start = (x1 + (x0 - x1) * radius / before, y1 + (y0 - y1) * radius / before)
        end = (x1 + (x2 - x1) * radius / after, y1 + (y2 - y1) * radius / after)
        steps.append(f"L{start[0]:g},{start[1]:g} Q{x1:g},{y1:g} {end[0]:g},{end[1]:g}")
    steps.append(f"L{points[-1][0]:g},{points[-1][1]:g}")
    marker = ' marker-end="url(#arrow)"' if arrow else ""
    return f'<path d="{" ".join(steps)}" fill="none" stroke="#57606a" stroke-width="1.5"{marker}/>'


def draw_box(items: Sequence[Item], box: str, edges: dict[str, set[Edge]], batch_size: int) -> Drawing:
    """The items of one box with the edges between them; the last item on the longest path ends at the lower edge."""
    drawings = {box and port(box): Drawing(0, 0, 0, "")} if box else {}
    for item in items:
        block = isinstance(item, Block)
        drawings[item.id] = draw_block(item, edges, batch_size) if block else draw_node(item, batch_size)
    order = {name: index for index, name in enumerate(drawings)}
    sources, targets = defaultdict(list), defaultdict(list)
    for source, target in sorted(edges[box], key=lambda edge: (order[edge[0]], order[edge[1]])):
        sources[target].append(source)
        targets[source].append(target)
    row: dict[str, int] = {}
    length: dict[str, float] = {}
    for name, drawing in drawings.items():
        row[name] = max((row[source] + 1 for source in sources[name]), default=0)
        length[name] = drawing.height + ROW_GAP + max((length[source] for source in sources[name]), default=0)
    middle = longest_path(
        max((n for n in drawings if not targets[n]), key=lambda n: (length[n], order[n])), sources, length
    )
    columns = place(drawings, middle, row, order, sources, targets)

    y, tops = 0.0, []
    for index in range(max(row.values()) + 1):
        tops.append(y)
        y += max(drawing.height for name, drawing in drawings.items() if row[name] == index) + ROW_GAP
    height = y - ROW_GAP
    at = {name: (columns.x[name], tops[row[name]]) for name in drawings}
    svg = []
    for (source, target), lane in columns.lanes.items():
        (x0, y0), (x1, y1) = at[source], at[target]
        y0 += drawings[source].height
        beside = y1 + drawings[target].height / 2
        points = [(x0, y0)]
        if lane != x0:
            bend = tops[row[source] + 1] - ROW_GAP / 2
            points += [(x0, bend), (lane, bend)]
        if lane == x1:
            points.append((x1, y1))
        elif len(sources[target]) > 1:
            points += [
                (lane, beside),
                (x1 + (drawings[target].right if lane > x1 else -drawings[target].left), beside),
            ]
        else:
            points += [(lane, y1 - ROW_GAP / 2), (x1, y1 - ROW_GAP / 2), (x1, y1)]
        svg.append(path(points, arrow=True))
    if box and len(targets[port(box)]) > 1:
        svg.append('<circle r="3.5" fill="#57606a"/>')
    svg += [f'<g transform="translate({at[n][0]:g},{at[n][1]:g})">{d.svg}</g>' for n, d in drawings.items() if d.svg]
    return Drawing(max(columns.left), max(columns.right), height, "".join(svg))


def longest_path(last: str, sources: dict[str, list[str]], length: dict[str, float]) -> list[str]:
    """The tallest path that ends at `last`; of equal branches the middle one."""
    way = [last]
    while sources[way[0]]:
        tallest = max(length[source] for source in sources[way[0]])
        ties = [source for source in sources[way[0]] if length[source] == tallest]
        way.insert(0, ties[len(ties) // 2])
    return way


@dataclass(frozen=True)
class Columns:
    x: dict[str, float]  # the middle of each item
    lanes: dict[Edge, float]  # where each edge runs down
    left: list[float]  # how far each row reaches to either side of the middle
    right: list[float]


def place(
    drawings: dict[str, Drawing],
    middle: Sequence[str],
    row: dict[str, int],
    order: dict[str, int],
    sources: dict[str, list[str]],
    targets: dict[str, list[str]],
) -> Columns:
    rows = max(row.values()) + 1
    columns = Columns(dict.fromkeys(middle, 0.0), {}, [0.0] * rows, [0.0] * rows)
    at_row = {row[name]: name for name in middle}
    for name in middle:
        columns.left[row[name]], columns.right[row[name]] = drawings[name].left, drawings[name].right

    branches: list[list[str]] = []
    waiting = [name for name in drawings if name not in columns.x]
    while waiting:
        branch = [waiting[0]]
        while following := [n for n in targets[branch[-1]] if n in waiting and n not in branch]:
            branch.append(following[0])
        branches.append(branch)
        waiting = [name for name in waiting if name not in branch]
    end = {id(b): max([row[b[-1]] + 1, *(row[t] for t in targets[b[-1]])]) for b in branches}
    for branch in sorted(branches, key=lambda b: end[id(b)] - row[b[0]]):
        span = slice(row[branch[0]], end[id(branch)])
        reach = max(columns.left[span]), max(columns.right[span])
        before = reach[0] < reach[1] or (reach[0] == reach[1] and order[branch[0]] < order[at_row[row[branch[0]]]])
        side, sign = (columns.left, -1) if before else (columns.right, 1)
        inner, outer = ("right", "left") if before else ("left", "right")
        x = max(side[span]) + LANE_GAP + max(getattr(drawings[name], inner) for name in branch)
        side[span] = [x + max(getattr(drawings[name], outer) for name in branch)] * len(side[span])
        middle_of_branch: float = sign * x
        columns.x.update(dict.fromkeys(branch, middle_of_branch))

    edges = [(source, name) for name in drawings for source in sources[name]]
    for edge in sorted(edges, key=lambda edge: row[edge[1]] - row[edge[0]]):
        source, target = edge
        straight = next((b for b in branches if b[-1] == source), None)
        if row[target] == row[source] + 1:
            joins = len(sources[target]) > 1 and columns.x[target] == 0
            columns.lanes[edge] = columns.x[source] if joins else columns.x[target]
        elif straight is not None:
            columns.lanes[edge] = columns.x[source]
        else:
            span = slice(row[source] + 1, row[target])
            side, sign = (columns.right, 1) if columns.x[source] > 0 else (columns.left, -1)
            x = max(side[span]) + LANE_GAP
            side[span] = [x] * len(side[span])
            columns.lanes[edge] = sign * x
    return columns

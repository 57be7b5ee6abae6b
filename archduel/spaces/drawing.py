"""Architectures as SVG: text only, no fonts or scripts, colours that work on light and dark pages (``currentColor``)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from archduel import registry
from archduel.core import Arch, Space, decisions
from archduel.core.family import target as loaded
from archduel.spaces.darts.genotype import Genotype, Node
from archduel.spaces.darts.space import DARTS
from archduel.spaces.darts.supercell import SuperCell
from archduel.spaces.family import family, free_text
from archduel.spaces.mobilenetv3.space import MAX_DEPTH, spec_of
from archduel.spaces.nasbench101.space import NASBench101
from archduel.spaces.nasbench201.function import EDGES, OPS
from archduel.spaces.natsbench_sss.space import NATSBenchSSS
from archduel.spaces.pretrained.space import plan_of
from archduel.spaces.resnet.space import form_of
from archduel.spaces.stages.space import form_of as outline_of
from archduel.spaces.tiny.space import form_of as tiny_form

__all__ = ["Diagram", "Layout", "darts", "darts_supercell", "diagrams", "draw", "draw_text", "genotype", "layered", "mobilenetv3", "nasbench101", "nasbench201", "natsbench_sss", "pretrained", "resnet", "stages", "tiny"]

# -- Layered layout of small directed graphs: layers from top to bottom, few crossings, edges of one source bundled -----


LAYER = 46.0
GAP = 14.0
SWEEPS = 12
Key = tuple[int, int]
"""(vertex, layer): the vertex itself, or a bend of its outgoing edges in a later layer."""


class Layout(NamedTuple):
    """Positions in pixels, top left corner at 0, 0.

    Attributes:
        centres: (x, y) of each vertex.
        paths: for each edge the points from source to target, bends in between.
        width: of the whole.
        height: from the first layer's centre to the last's.
    """

    centres: list[tuple[float, float]]
    paths: list[list[tuple[float, float]]]
    width: float
    height: float


def layered(widths: Sequence[float], edges: Sequence[tuple[int, int]]) -> Layout:
    """Returns the layout of a graph without cycles.

    Args:
        widths: of each vertex in pixels; vertices come in topological order (every edge leads to a larger index).
        edges: (source, target), without repetition.
    """
    level = _levels(len(widths), edges)
    chains = [[(s, at) for at in range(level[s], level[t])] + [(t, level[t])] for s, t in edges]
    links = {link for chain in chains for link in pairwise(chain)}
    rows = _ordered(level, links)
    size = {key: widths[key[0]] if level[key[0]] == key[1] else 6.0 for row in rows for key in row}
    x = _places(rows, links, size)
    left = min(x[key] - size[key] / 2 for key in x)
    right = max(x[key] + size[key] / 2 for key in x)
    point = {key: (x[key] - left, key[1] * LAYER) for key in x}
    centres = [point[vertex, level[vertex]] for vertex in range(len(widths))]
    paths = [[point[key] for key in chain] for chain in chains]
    return Layout(centres, paths, right - left, (len(rows) - 1) * LAYER)


def _levels(n: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Returns the layer of each vertex: sources on top, everything else as low as what it feeds allows."""
    level = [0] * n
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        level[target] = max(level[target], level[source] + 1)
    fed = {target for _, target in edges}
    for vertex in reversed(range(n)):
        below = [level[target] for source, target in edges if source == vertex]
        if below and vertex in fed:
            level[vertex] = min(below) - 1
    return level


def _ordered(level: Sequence[int], links: set[tuple[Key, Key]]) -> list[list[Key]]:
    """Returns the keys of each layer from left to right; neighbours in other layers pull them into order."""
    keys = {key for link in links for key in link} | set(enumerate(level))
    rows: list[list[Key]] = [sorted(key for key in keys if key[1] == at) for at in range(max(level) + 1)]
    best, fewest = [list(row) for row in rows], _crossings(rows, links)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for at in range(1, len(rows)) if down else range(len(rows) - 2, -1, -1):
            near = {key: i for i, key in enumerate(rows[at - 1 if down else at + 1])}
            pull = _pull(links, near, down)
            here = {key: i for i, key in enumerate(rows[at])}
            rows[at].sort(key=lambda key: (pull(key, here[key]), here[key]))
        if (crossings := _crossings(rows, links)) < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return best


def _pull(links: set[tuple[Key, Key]], near: dict[Key, int], down: bool) -> Callable[[Key, float], float]:
    """Returns a function: mean position of a key's neighbours in the layer ``near``, or where it is now."""

    def mean(key: Key, now: float) -> float:
        """Returns the mean position of the neighbours of ``key``, ``now`` without any."""
        found = [
            near[a if down else b]
            for a, b in links
            if (b if down else a) == key and (a if down else b) in near
        ]
        return sum(found) / len(found) if found else now

    return mean


def _crossings(rows: Sequence[Sequence[Key]], links: Iterable[tuple[Key, Key]]) -> int:
    place = {key: i for row in rows for i, key in enumerate(row)}
    ends = sorted((a[1], place[a], place[b]) for a, b in links)
    return sum(
        first[0] == second[0] and (first[1] - second[1]) * (first[2] - second[2]) < 0
        for i, first in enumerate(ends)
        for second in ends[i + 1 :]
    )


def _places(
    rows: Sequence[Sequence[Key]], links: set[tuple[Key, Key]], size: dict[Key, float]
) -> dict[Key, float]:
    """Returns the x of each key: near the mean of its neighbours, in order, without overlap."""
    x: dict[Key, float] = {}
    for row in rows:
        at = 0.0
        for key in row:
            x[key] = at + size[key] / 2
            at += size[key] + GAP
        for key in row:
            x[key] -= (at - GAP) / 2  # all layers start centred
    for _ in range(SWEEPS):
        for row in [*rows, *reversed(rows)]:
            wish = {}
            for key in row:
                near = [x[b] for a, b in links if a == key] + [x[a] for a, b in links if b == key]
                wish[key] = sum(near) / len(near) if near else x[key]
            _spread(row, wish, size, x)
    return x


def _spread(row: Sequence[Key], wish: dict[Key, float], size: dict[Key, float], x: dict[Key, float]) -> None:
    """Moves a layer to its wishes in the least-squares sense, keeping order and gaps (pool adjacent violators)."""
    offset, blocks = 0.0, []  # (mean of wish - offset, members)
    offsets: dict[Key, float] = {}
    for i, key in enumerate(row):
        if i:
            offset += (size[row[i - 1]] + size[key]) / 2 + GAP
        offsets[key] = offset
        blocks.append((wish[key] - offset, [key]))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (second, more), (first, members) = blocks.pop(), blocks.pop()
            total = first * len(members) + second * len(more)
            blocks.append((total / (len(members) + len(more)), members + more))
    for start, members in blocks:
        for key in members:
            x[key] = start + offsets[key]


HEIGHT, MARGIN, TITLE = 24.0, 10.0, 24.0
HUES = {
    "input": 210,
    "node": 210,
    "output": 210,
    "sep": 265,
    "dil": 320,
    "conv": 265,
    "max": 150,
    "avg": 175,
    "skip": 40,
}
"""First word of a label -> hue; the label says the same, so colour is never the only sign."""
COLOURS = "<style>svg{color:#222}@media(prefers-color-scheme:dark){svg{color:#ddd}}</style>"
WORDS = {"max_pool": "max", "avg_pool": "avg", "sep_conv": "sep", "dil_conv": "dil", "nor_conv": "conv"}


@dataclass(frozen=True)
class Diagram:
    """One graph to draw.

    Attributes:
        title: stands above it.
        labels: of the vertices, in topological order.
        edges: (source, target).
        round: vertices drawn as circles (sums).
    """

    title: str
    labels: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    round: frozenset[int] = field(default=frozenset())


def _short(op: str) -> str:
    """Returns ``sep 3×3`` for ``sep_conv_3x3`` and the like."""
    if op == "skip_connect":
        return "skip"
    kind, _, size = op.removesuffix("-bn-relu").rpartition("_")
    if kind in WORDS:
        return f"{WORDS[kind]} {size.replace('x', '×')}"
    words = size.replace("maxpool", "max ").replace("conv", "conv ")  # nasbench101 writes conv3x3
    text = f"{kind} {words}".replace("_", " ") if kind else words
    return re.sub(r"(\d)x(\d)", r"\1×\2", text)


def _sums(title: str, inputs: Sequence[str], nodes: Sequence[Node], concat: Sequence[int]) -> Diagram:
    """Returns the diagram of a cell whose nodes sum operations; ``none`` is left out."""
    labels, edges, where, circles = list(inputs), [], list(range(len(inputs))), set()
    for state, node in enumerate(nodes, len(inputs)):
        made = []
        for op, source in node:
            if op != "none":
                edges.append((where[source], len(labels)))
                made.append(len(labels))
                labels.append(_short(op))
        edges += [(box, len(labels)) for box in made]
        where.append(len(labels))
        circles.add(len(labels))
        labels.append(str(state))
    edges += [(where[state], len(labels)) for state in concat]
    return Diagram(title, (*labels, "output"), tuple(edges), frozenset(circles))


def genotype(cells: Genotype) -> list[Diagram]:
    """Returns the two cells of a genotype."""
    titles = {"normal": "normal cell", "reduce": "reduction cell"}
    return [
        _sums(titles[kind], ("input 0", "input 1"), nodes, concat) for kind, nodes, concat in cells.cells()
    ]


def nasbench201(arch: Arch) -> list[Diagram]:
    """Returns the cell."""
    nodes = [
        tuple((OPS[op], source) for op, (source, target) in zip(arch.choices, EDGES) if target == node)
        for node in (1, 2, 3)
    ]
    return [_sums("cell", ("input",), nodes, (3,))]


def nasbench101(arch: Arch) -> list[Diagram]:
    """Returns the cell."""
    matrix, ops = NASBench101().matrix(arch)
    edges = [(i, j) for i, row in enumerate(matrix) for j, there in enumerate(row) if there]
    return [Diagram("cell", tuple(_short(op) for op in ops), tuple(edges))]


def _chain(title: str, labels: Sequence[str]) -> Diagram:
    return Diagram(title, tuple(labels), tuple(zip(range(len(labels)), range(1, len(labels)))))


def mobilenetv3(arch: Arch) -> list[Diagram]:
    """Returns the units, one diagram each."""
    spec = spec_of(arch)
    units = []
    for unit, depth in enumerate(spec.depths):
        slots = range(unit * MAX_DEPTH, unit * MAX_DEPTH + depth)
        blocks = [f"conv {spec.kernels[slot]}×{spec.kernels[slot]} ×{spec.ratios[slot]}" for slot in slots]
        units.append(_chain(f"unit {unit + 1}", blocks))
    return units


def natsbench_sss(arch: Arch) -> list[Diagram]:
    """Returns the chain of cells with their widths."""
    kinds = ("cell", "reduction", "cell", "reduction", "cell")
    labels = [f"{kind}, {width} channels" for kind, width in zip(kinds, NATSBenchSSS().widths(arch))]
    return [_chain("widths", ["input", *labels, "output"])]


def resnet(arch: Arch) -> list[Diagram]:
    """Returns the chain of stages."""
    stages, blocks, width = form_of(arch)
    labels = [f"{blocks} residual blocks, {width << stage} channels" for stage in range(stages)]
    return [_chain(f"resnet{2 * blocks * stages + 2}-{width}", ["input", *labels, "output"])]


def stages(arch: Arch) -> list[Diagram]:
    """Returns the chain of stages of a network, in words; widths are multiples of the first stage's."""
    form = outline_of(arch)
    labels = [{"conv3": "conv 3×3", "conv2": "conv 2×2", "stride2": "conv 3×3, stride 2"}[form.stem]]
    for extra, growth in zip(form.extra, form.growth):
        halved = "conv 3×3, max pool" if form.pool else "conv 3×3, stride 2"
        more = f" + {extra} conv 3×3{' with shortcut' if form.residual else ''}" if extra else ""
        labels.append(f"{halved}{more}{', squeeze' if form.squeeze else ''}; width {growth:g}")
    return [_chain("network", ["input", *labels, f"{'maximum' if form.maximum else 'mean'} of each channel, linear"])]


def tiny(arch: Arch) -> list[Diagram]:
    """Returns the chain of stages of a small inverted-residual network; widths are multiples of the stage before."""
    form = tiny_form(arch)
    labels = [f"seen at {form.resolution} px", f"conv 3×3{', stride 2' if form.halved else ''}"]
    for stage in form.stages:
        labels.append(f"{stage.depth} × inverted residual {stage.kernel}×{stage.kernel}, expansion {stage.expansion}; width × {stage.growth:g}")
    return [_chain("network", ["input", *labels, "mean of each channel, linear"])]


def pretrained(arch: Arch) -> list[Diagram]:
    """Returns what is kept of a published network, stage by stage, and what is trained on."""
    plan = plan_of(arch)
    labels = [f"{plan.backbone} at {plan.resolution} px", "stem"]
    for number, (stage, depth, width) in enumerate(zip(plan.source.stages, plan.depths, plan.widths)):
        inside = "" if width == 1 else f", {width:.0%} of the inner channels"
        labels.append(f"stage {number + 1}: {depth} of {len(stage)} blocks{inside}")
    if left_out := len(plan.source.stages) - len(plan.depths):
        labels.append(f"({left_out} stages left out)")
    trained = {"head": "the head alone", "last": "the last stage and the head", "half": "the later half", "all": "everything"}[plan.tuned]
    return [_chain("network", ["input", *labels, f"{plan.head} head; trained on: {trained}"])]


def darts(arch: Arch) -> list[Diagram]:
    """Returns the two cells of a DARTS architecture."""
    return genotype(DARTS("any").genotype(arch))


def darts_supercell(arch: Arch) -> list[Diagram]:
    """Returns the two cells of a super-cell."""
    return genotype(SuperCell(none=True).genotype(arch))


def diagrams(space: Space, arch: Arch) -> list[Diagram]:
    """Returns what there is to draw of ``arch``: its cells, its units, or, for a space without diagrams of its own, its answers in turn.

    Raises:
        InvalidArchError: if the space does not hold ``arch``.
    """
    space.validate(arch)
    how = family(arch.space).diagrams if arch.space in registry.names("space") else None
    if how is not None:
        parts: list[Diagram] = loaded(how)(arch)
        return parts
    answers = zip(decisions(space, arch.choices), arch.choices)
    return [_chain(arch.space, [f"{decision.name} = {choice}" for decision, choice in answers])]


def draw(space: Space, arch: Arch, *, columns: int = 2, standalone: bool = False) -> str:
    """Returns an SVG, to be put into a page (it takes the page's text colour) or to be a file of its own.

    Args:
        space: the architecture's space.
        arch: what to draw.
        columns: diagrams side by side before a new line starts.
        standalone: adds text colours of its own, by the viewer's preference for light or dark.

    Raises:
        InvalidArchError: if the space does not hold ``arch``.
    """
    return _svg(diagrams(space, arch), str(arch), columns, standalone)


def draw_text(text: str, title: str, *, columns: int = 2, standalone: bool = False) -> str:
    """Returns an SVG of a text's network that belongs to no space (the cells of NASNet, AmoebaNet)."""
    return _svg(free_text(text).diagrams(text), title, columns, standalone)


def _svg(parts: Sequence[Diagram], title: str, columns: int, standalone: bool) -> str:
    mark = f"a{hashlib.sha256(title.encode()).hexdigest()[:8]}"  # several drawings may share one page
    layouts = [
        layered([_width(part, i) for i in range(len(part.labels))], sorted(set(part.edges))) for part in parts
    ]
    body, top, right = [], MARGIN, 0.0
    for start in range(0, len(parts), columns):
        left = MARGIN
        row = list(zip(parts, layouts))[start : start + columns]
        for part, layout in row:
            body.append(_panel(part, layout, left, top, mark))
            left += max(layout.width, 8.0 * len(part.title)) + 3 * MARGIN
        right = max(right, left - 2 * MARGIN)
        top += max(layout.height for _, layout in row) + HEIGHT + TITLE + 2 * MARGIN
    size = f'viewBox="0 0 {right:.0f} {top - MARGIN:.0f}" width="{right:.0f}" height="{top - MARGIN:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label={quoteattr(title)} {size} '
        'style="max-width:100%;height:auto" font-family="system-ui, sans-serif" font-size="12">'
        f"<title>{escape(title)}</title>{COLOURS if standalone else ''}"
        f'<defs><marker id="{mark}" viewBox="0 0 6 6" refX="5.5" refY="3" markerWidth="6" markerHeight="6" orient="auto">'
        f'<path d="M0 0L6 3L0 6z" fill="currentColor"/></marker></defs>{"".join(body)}</svg>\n'
    )


def _width(part: Diagram, vertex: int) -> float:
    return HEIGHT if vertex in part.round else 7.0 * len(part.labels[vertex]) + 16.0


def _panel(part: Diagram, layout: Layout, left: float, top: float, mark: str) -> str:
    """Returns title, edges and vertices of one diagram, moved to its place."""
    lines = [f'<text y="12" font-weight="600" fill="currentColor">{escape(part.title)}</text>']
    lines += _lines(layout.paths, mark)
    for vertex, (x, y) in enumerate(layout.centres):
        lines.append(
            _box(part.labels[vertex], x, y + TITLE + HEIGHT / 2, _width(part, vertex), vertex in part.round)
        )
    return f'<g transform="translate({left:.0f} {top:.0f})">{"".join(lines)}</g>'


def _lines(paths: Sequence[Sequence[tuple[float, float]]], mark: str) -> list[str]:
    """Returns smooth lines, each stretch once though several edges may share it; arrows at vertices."""
    drawn: dict[tuple[tuple[float, float], tuple[float, float]], str] = {}
    for path in paths:
        for i, ((x0, y0), (x1, y1)) in enumerate(pairwise(path), 2):
            top, end = y0 + TITLE + HEIGHT, y1 + TITLE
            middle = (top + end) / 2
            curve = f"M{x0:.1f} {top:.1f}C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {end:.1f}"
            # a bend stands between boxes: straight on past them
            last = f'" marker-end="url(#{mark})"/>' if i == len(path) else f'V{end + HEIGHT:.1f}"/>'
            drawn[(x0, y0), (x1, y1)] = f'<path d="{curve}{last}'
    return [
        f'<g fill="none" stroke="currentColor" stroke-opacity=".6" stroke-width="1.2">{"".join(drawn.values())}</g>'
    ]


def _box(label: str, x: float, y: float, width: float, circle: bool) -> str:
    hue = HUES.get(label.split()[0], HUES["node"])
    radius = HEIGHT / 2 if circle or label.split()[0] in ("input", "output") else 5
    colour = f"hsl({hue} 60% 50%)"
    return (
        f'<rect x="{x - width / 2:.1f}" y="{y - HEIGHT / 2:.1f}" width="{width:.1f}" height="{HEIGHT:.0f}" rx="{radius:.0f}" '
        f'fill="{colour}" fill-opacity=".16" stroke="{colour}"/>'
        f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" fill="currentColor">{escape(label)}</text>'
    )

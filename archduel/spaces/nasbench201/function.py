"""What a NAS-Bench-201 cell computes: the benchmark's isomorphism string, and a normal form that goes further and is sound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import permutations, product
from typing import NamedTuple

__all__ = ["EDGES", "OPS", "Function", "function", "unique_str"]

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(source, target) of each choice."""
OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""The benchmark's order."""
NONE, SKIP, CONV1, _, POOL = range(5)

INPUT = -1
Atom = tuple[int, int]
"""(how many times pooled, edge of the convolution that made it or INPUT)."""
Value = Mapping[Atom, int]
"""What a node holds: atom -> how often it is added. Empty is zero."""


def unique_str(choices: Sequence[int]) -> str:
    """Returns the benchmark's string: equal for cells it calls isomorphic (6,466 classes).

    Skips take over the value of their source. Only ``#`` alone is zero: a node of several zero inputs is ``#+#`` and a
    convolution of it stays; nested sums are neither flattened nor sorted again.
    """
    values = ["0"]
    for node in (1, 2, 3):
        terms = []
        for op, (source, target) in zip(choices, EDGES):
            if target != node:
                continue
            if op == NONE or values[source] == "#":
                terms.append("#")
            else:
                terms.append(values[source] if op == SKIP else f"({values[source]})@{OPS[op]}")
        values.append("+".join(sorted(terms)))
    return values[-1]


class Function(NamedTuple):
    """A cell's function in a normal form.

    Attributes:
        text: equal for cells that compute the same, such as ``c0=3(x) c1=1(c0+x) out=c1+p(x)``: a 3x3 convolution of the
            input, a 1x1 convolution of its sum with the input, and a pool.
        edges: the choice (0..5) whose weights are those of c0, c1, ...; dead ones are missing.
    """

    text: str
    edges: tuple[int, ...]


@lru_cache(1 << 15)
def function(choices: tuple[int, ...]) -> Function:
    """Returns the normal form of a cell: 5,234 classes.

    Reductions: ``none`` edges vanish; so do edges that do not lead to node 3; skips are replaced by what they carry, sums
    flattened and equal terms counted (so vertex order does not matter); pools, which are linear, are taken into the sum,
    so equal pools are one; a convolution of nothing is a constant (the bias of its norm) whatever its kernel, and pooling
    a constant changes nothing. Two convolutions are never one: their weights differ.
    """
    out, made = _evaluate(choices)
    live = _live(out, made)
    shapes: dict[int, str] = {}
    for edge in sorted(live):  # an edge's source is computed by smaller edges
        shapes[edge] = f"{_kernel(choices, made, edge)}({_sum(made[edge], shapes)})"
    ties: dict[str, list[int]] = {}
    for edge in live:
        ties.setdefault(shapes[edge], []).append(edge)
    # equal shapes may be wired differently further on: the smallest text over their orders is the normal form
    groups = product(*(permutations(ties[shape]) for shape in sorted(ties)))
    return min(
        _written(choices, out, made, [edge for group in orders for edge in group]) for orders in groups
    )


def _evaluate(choices: Sequence[int]) -> tuple[Value, dict[int, Value]]:
    """Returns the value of node 3 and the input value of every convolution."""
    values: list[Counter[Atom]] = [Counter({(0, INPUT): 1})]
    made: dict[int, Value] = {}
    for node in (1, 2, 3):
        value: Counter[Atom] = Counter()
        for edge, (source, target) in enumerate(EDGES):
            if target != node or choices[edge] == NONE:
                continue
            if choices[edge] == SKIP:
                value.update(values[source])
            elif choices[edge] == POOL:
                for (pools, base), times in values[source].items():
                    constant = base != INPUT and not made[base]
                    value[pools + (not constant), base] += times
            else:
                made[edge] = dict(values[source])
                value[0, edge] += 1
        values.append(value)
    return values[3], made


def _live(out: Value, made: Mapping[int, Value]) -> set[int]:
    """Returns the convolutions that the output depends on."""
    found: set[int] = set()
    waiting = [base for _, base in out]
    while waiting:
        base = waiting.pop()
        if base != INPUT and base not in found:
            found.add(base)
            waiting += [earlier for _, earlier in made[base]]
    return found


def _kernel(choices: Sequence[int], made: Mapping[int, Value], edge: int) -> str:
    return "bias" if not made[edge] else "1" if choices[edge] == CONV1 else "3"


def _sum(value: Value, names: Mapping[int, str]) -> str:
    """Returns ``value`` as a sum in which ``names`` stand for convolutions."""
    terms = []
    for (pools, base), times in value.items():
        text = "p(" * pools + ("x" if base == INPUT else names[base]) + ")" * pools
        terms.append(text if times == 1 else f"{times}*{text}")
    return "+".join(sorted(terms)) or "0"


def _written(choices: Sequence[int], out: Value, made: Mapping[int, Value], order: Sequence[int]) -> Function:
    """Returns the text with the convolutions numbered in ``order``."""
    names = {edge: f"c{number}" for number, edge in enumerate(order)}
    lines = [f"{names[e]}={_kernel(choices, made, e)}({_sum(made[e], names)})" for e in order]
    return Function(" ".join([*lines, f"out={_sum(out, names)}"]), tuple(order))

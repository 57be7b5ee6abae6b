"""NAS-Bench-201 cells (Dong and Yang, ICLR 2020; the topology space of NATS-Bench): six edges, five operations.

Nodes 0 (input) to 3 (output); the six choices are the operations of the edges 0->1, 0->2, 1->2, 0->3, 1->3, 2->3, in the
order of the published strings ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``. Decisions are regular: uniform answers are uniform
architectures.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Counts, Decision, GraphBatch, Scale, check_decisions
from archduel.errors import InvalidArchError
from archduel.spaces.counting import _reduction, conv_bn, halved, stem, tail, times, total
from archduel.spaces.nasbench201.function import EDGES, OPS, function, unique_str
from archduel.spaces.renas_tensors import nasbench201_tensors

__all__ = ["NASBench201", "count_nasbench201", "effect", "effect_names", "features", "graphs"]

# -- NAS-Bench-201 cells as numbers: 254 structural features in the manner of GRAF (Kadlecova et al., ICML 2024), and graphs 
#
# Everything is computed for all cells of a batch at once, 15,625 of them in a fraction of a second.


# -- What a NAS-Bench-201 cell does, as numbers: equal for cells of one fingerprint, for all cells of a batch at once ---
#
# A node holds a sum of atoms: the cell's input or the result of a convolution, pooled zero or more times (skips and sums
# disappear; see :mod:`archduel.spaces.nasbench201.function`). Dead operations do not count anywhere.


NONE, SKIP, CONV1, CONV3, POOL = range(5)
PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))
"""The four ways from node 0 to node 3, as edges."""
LETTERS = {CONV1: "1", CONV3: "3", POOL: "p"}
SEQUENCES = tuple(
    "".join(letters) for n in range(4) for letters in product(LETTERS.values(), repeat=n)
)  # operations on a way, skips left out: "", "1", ..., "ppp"
LOADS: Mapping[str, str] = {"c3": "3", "c1": "1", "pool": "p", "conv": "13", "spatial": "3p", "op": "13p"}
"""What is counted on a way -> the letters that count."""
GAINS = ((0.5, 0.5, 0.5), (2, 0.5, 0.5), (0.5, 2, 0.5), (0.5, 0.5, 2), (2, 2, 0.5), (2, 1, 0.25))
"""Factors of a 3x3 convolution, a 1x1 convolution and a pool in a sum over all ways of the product of their factors."""

Columns = dict[str, NDArray[np.float64]]


def effect(choices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Returns (B, F) numbers of (B, 6) choices, the columns as named by :func:`effect_names`."""
    columns = {**_atoms(choices), **_ways(choices)}
    return np.stack(list(columns.values()), 1).astype(np.float32)


@lru_cache(maxsize=1)
def effect_names() -> tuple[str, ...]:
    """Returns the names of the columns; 3, 1 and p spell the operations along a way."""
    one = np.zeros((1, 6), np.int64)
    return (*_atoms(one), *_ways(one))


class _Sums(NamedTuple):
    """What nodes hold: number of atoms by base (input, then the convolution of each edge) and times pooled."""

    into: NDArray[np.int64]  # (6, B, 7, 4): what each convolution reads, zero elsewhere
    out: NDArray[np.int64]  # (B, 7, 4): node 3
    alive: NDArray[np.bool_]  # (B, 6): convolutions that the output depends on
    constant: NDArray[np.bool_]  # (B, 6): convolutions of nothing


def _sums(choices: NDArray[np.int64]) -> _Sums:
    n = len(choices)
    nodes = np.zeros((4, n, 7, 4), np.int64)
    nodes[0, :, 0, 0] = 1
    into = np.zeros((6, n, 7, 4), np.int64)
    constant = np.zeros((n, 6), np.bool_)
    for edge, (source, target) in enumerate(EDGES):
        op, value = choices[:, edge], nodes[source]
        convolution = (op == CONV1) | (op == CONV3)
        into[edge] = value * convolution[:, None, None]
        constant[:, edge] = convolution & ~value.any((1, 2))
        nodes[target] += value * (op == SKIP)[:, None, None]
        nodes[target] += _pooled(value, constant) * (op == POOL)[:, None, None]
        nodes[target, :, edge + 1, 0] += convolution
    alive = np.zeros((n, 6), np.bool_)
    for edge in reversed(range(6)):  # only later edges read an edge's result
        read = nodes[3, :, edge + 1].any(1)
        for later in range(edge + 1, 6):
            read |= alive[:, later] & into[later, :, edge + 1].any(1)
        alive[:, edge] = read
    return _Sums(into, nodes[3], alive, constant)


def _pooled(value: NDArray[np.int64], constant: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Returns (B, 7, 4) after a pool, which changes nothing about a constant."""
    moved = np.zeros_like(value)
    moved[:, :, 1:] = value[:, :, :-1]
    still = np.concatenate([np.zeros((len(value), 1), np.bool_), constant], 1)  # (B, 7)
    return np.where(still[:, :, None], value, moved)


def _atoms(choices: NDArray[np.int64]) -> Columns:
    """Convolutions and what they and the output read."""
    sums = _sums(choices)
    real = sums.alive & ~sums.constant  # (B, 6)
    found: Columns = {"c constant": (sums.alive & sums.constant).sum(1)}
    is_conv = np.zeros((len(choices), 7), np.bool_)
    for name, op in (("c3", CONV3), ("c1", CONV1)):
        kind = real & (choices == op)
        reads_input = np.stack([sums.into[e, :, 0].any(1) for e in range(6)], 1)
        found[f"n[{name}]"] = kind.sum(1)
        found[f"input>{name}"] = (kind & reads_input).sum(1)
        found[f"{name}>output"] = (kind & sums.out[:, 1:].any(2)).sum(1)
        is_conv[:, 1:] |= kind
    reading = np.moveaxis(sums.into, 0, 1) > 0  # (B, 6, 7, 4)
    mixed = reading[:, :, 0].any(2) & reading[:, :, 1:].any((2, 3))
    found["n[conv]"] = real.sum(1)
    found["sums read"] = (real & (reading.sum((2, 3)) > 1)).sum(1)
    found["plain input read"] = (real & reading[:, :, 0, 0]).sum(1)
    found["pools read"] = (real & reading[:, :, :, 1:].any((2, 3))).sum(1)
    found["residuals read"] = (real & mixed).sum(1)
    found["terms out"] = (sums.out > 0).sum((1, 2))
    found["summands out"] = sums.out.sum((1, 2))
    found["pooled summands out"] = sums.out[:, :, 1:].sum((1, 2))
    found["most pools out"] = ((sums.out > 0).any(1) * np.arange(4)).max(1)
    return found


def _ways(choices: NDArray[np.int64]) -> Columns:
    """Ways from the input to the output that no ``none`` blocks: how many carry what."""
    codes = np.stack([_spell(choices[:, path]) for path in PATHS], 1)  # (B, 4), -1 = blocked
    alive = codes >= 0
    n = alive.sum(1)
    found: Columns = {"ways": n, "blocked": n == 0}
    distinct = np.stack([(codes == code).any(1) for code in range(len(SEQUENCES))], 1)
    found["different ways"] = distinct.sum(1)
    loads = {name: np.array([sum(s.count(x) for x in text) for s in SEQUENCES]) for name, text in LOADS.items()}
    for name, load in loads.items():
        values = load[codes]  # (B, 4)
        found[f"most {name}"] = np.where(alive, values, -1).max(1)
        found[f"least {name}"] = np.where(alive, values, 5).min(1)
        found[f"sum {name}"] = (values * alive).sum(1)
        found[f"mean {name}"] = np.where(n > 0, found[f"sum {name}"] / np.maximum(n, 1), -1)
        found |= {f"ways of {k} {name}": ((values == k) & alive).sum(1) for k in range(4)}
    found["linear ways"] = ((loads["conv"][codes] == 0) & alive).sum(1)
    found |= {f"way {text or 'skip'}": (codes == code).sum(1) for code, text in enumerate(SEQUENCES)}
    for gains in GAINS:
        factors = [g ** loads[name] for g, name in zip(gains, ("c3", "c1", "pool"))]
        flow = np.prod(factors, 0)[codes]
        found[f"flow {gains}"] = np.log(1e-3 + (flow * alive).sum(1))
    return found


def _spell(ops: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns (B,) places among ``SEQUENCES`` of (B, n) operations along a way, -1 where one is ``none``."""
    table = np.full((5,) * ops.shape[1], -1, np.int64)
    for way in product(range(1, 5), repeat=ops.shape[1]):
        table[way] = SEQUENCES.index("".join(LETTERS.get(op, "") for op in way))
    spelled: NDArray[np.int64] = table[tuple(ops.T)]
    return spelled


N_OPS = len(OPS)


DEGREES = ((0, 1, 3), (2, 4), (1, 2), (3, 4, 5))
"""Edges out of node 0, out of node 1, into node 2, into node 3."""
SUBSETS = np.array(
    list(product((False, True), repeat=N_OPS))[1:]
)  # (31, 5): which operations count as an edge
INPUT, FIRST_OP, OUTPUT = 1, 2, 2 + N_OPS


def features(choices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Returns (B, 254) features of (B, 6) choices.

    In order: one-hot operation of each edge (30); count of each operation (5); for each of the 31 sets of operations, with
    only edges of that set, length of the shortest (4 = none) and longest (0 = none) path and the degrees out of 0, out of
    1, into 2, into 3 (186); count of each operation on each of the four paths (20); which paths are free of ``none`` (4) and
    how many (1); count of each other operation on such paths (4); smallest and largest number of convolutions and of 3x3
    convolutions on such paths (4).
    """
    one_hot = choices[:, :, None] == np.arange(N_OPS)  # (B, 6, 5)
    on_paths = np.stack([one_hot[:, path].sum(1) for path in PATHS], 1)  # (B, 4, 5)
    alive = on_paths[:, :, 0] == 0  # (B, 4)
    on_alive = np.stack([[edge in path for path in PATHS] for edge in range(6)])  # (6, 4)
    used = (alive[:, None] & on_alive).any(2)  # (B, 6)
    parts = [
        one_hot.reshape(len(choices), 30),
        one_hot.sum(1),
        _subset_features(choices),
        on_paths.reshape(len(choices), 20),
        alive,
        alive.sum(1, keepdims=True),
        (one_hot & used[:, :, None]).sum(1)[:, 1:],
    ]
    for convolutions in (on_paths[:, :, 2] + on_paths[:, :, 3], on_paths[:, :, 3]):
        parts.append(np.where(alive, convolutions, 4).min(1, keepdims=True))
        parts.append(np.where(alive, convolutions, 0).max(1, keepdims=True))
    return np.concatenate([part.astype(np.float32) for part in parts], 1)


def _subset_features(choices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Returns (B, 186): shortest and longest path and four degrees in the subgraph of each set of operations."""
    there = SUBSETS[:, choices]  # (31, B, 6)
    lengths = np.array([len(path) for path in PATHS])
    whole = np.stack([there[:, :, path].all(2) for path in PATHS], 2)  # (31, B, 4)
    columns = [np.where(whole, lengths, 4).min(2), np.where(whole, lengths, 0).max(2)]
    columns += [there[:, :, edges].sum(2) for edges in DEGREES]
    return (
        np.stack(columns, 2).transpose(1, 0, 2).reshape(len(choices), 186).astype(np.float32)
    )  # (B, 31 * 6)


def graphs(choices: NDArray[np.int64]) -> GraphBatch:
    """Returns graphs of 8 vertices: input, the six edges as vertices that carry their operation, output.

    A vertex leads to another where its edge ends in the node that the other starts from. The six vertices have different
    neighbourhoods, so a network that ignores vertex numbers still knows which edge carries which operation.
    """
    n = len(choices)
    ops = np.full((n, 1, 8), INPUT, np.int64)
    ops[:, 0, 1:7] = choices + FIRST_OP
    ops[:, 0, 7] = OUTPUT
    adj = np.zeros((8, 8), np.float32)
    for i, (source, target) in enumerate(EDGES, 1):
        adj[0, i] = source == 0
        adj[i, 7] = target == 3
        for j, (later, _) in enumerate(EDGES, 1):
            adj[i, j] = target == later
    return GraphBatch(ops, np.tile(adj, (n, 1, 1, 1)), np.ones((n, 1, 8), np.bool_), OUTPUT + 1)


NAME = "nasbench201"
ALLOWED = frozenset(range(len(OPS)))
DECISIONS = tuple(Decision(f"edge {s}->{t}", "op", tuple(sorted(ALLOWED))) for s, t in EDGES)


class NASBench201:
    """All 15,625 cells."""

    name = NAME
    kinds: Mapping[str, int] = {"op": len(OPS)}
    size = len(OPS) ** len(EDGES)

    def words(self, kind: str) -> tuple[str, ...]:
        """Returns the names of the operations."""
        return OPS[: self.kinds[kind]]

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        """Returns the operation of the next edge, or None after six."""
        return DECISIONS[len(prefix)] if len(prefix) < len(EDGES) else None

    def validate(self, arch: Arch) -> None:
        """Raises InvalidArchError unless ``arch`` has six operations 0..4."""
        # decisions are only asked to explain what is wrong
        if arch.space != NAME or len(arch.choices) != len(EDGES) or not ALLOWED.issuperset(arch.choices):
            check_decisions(self, arch)

    def graphs(self, archs: Sequence[Arch]) -> GraphBatch:
        """Returns graphs of one cell and 8 vertices (input, six operations, output); see ``nasbench201_features``."""
        return graphs(self._choices(archs))

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, 114) numbers about what the cells compute, equal for equal fingerprints; ``feature_names`` names them."""
        return effect(self._choices(archs))

    def feature_names(self) -> tuple[str, ...]:
        """Returns the names of the columns of ``features``."""
        return effect_names()

    def graph_features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, 254) features of the labelled graph in the manner of GRAF; see ``nasbench201_features``."""
        return features(self._choices(archs))

    def tensors(self, archs: Sequence[Arch], *, costs: bool = True) -> NDArray[np.float32]:
        """Returns ReNAS's (B, 31, 4, 4), or (B, 1, 4, 4) without costs; see ``renas_cells``."""
        return nasbench201_tensors(self._choices(archs), costs=costs)

    def fingerprint(self, arch: Arch) -> str:
        """Returns the normal form of what the cell computes (5,234 classes); equal ones are equal functions.

        The reductions stand in :func:`archduel.spaces.nasbench201.function.function`.
        """
        self.validate(arch)
        return function(arch.choices).text

    def ignores_input(self, arch: Arch) -> bool:
        """Returns whether ``none`` cuts the cell's output off from its input: all cells of the network are then constants."""
        self.validate(arch)
        reached = {0}
        for (source, target), op in zip(EDGES, arch.choices):  # in the order of their targets
            if source in reached and OPS[op] != "none":
                reached.add(target)
        return 3 not in reached

    def unique_str(self, arch: Arch) -> str:
        """Returns the benchmark's own isomorphism string (6,466 classes)."""
        self.validate(arch)
        return unique_str(arch.choices)

    def _choices(self, archs: Sequence[Arch]) -> NDArray[np.int64]:
        """Returns (B, 6) choices of valid architectures."""
        for arch in archs:
            self.validate(arch)
        return np.array([arch.choices for arch in archs], np.int64).reshape(len(archs), len(EDGES))

    def read(self, text: str) -> Arch:
        """Returns the cell of ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``.

        Raises:
            InvalidArchError: with the offending part.
        """
        groups = text.strip().split("+")
        if len(groups) != 3:
            raise InvalidArchError(
                f"{text!r} has {len(groups)} groups between '+', expected 3: |op~0|+|op~0|op~1|+..."
            )
        return Arch(
            NAME, tuple(op for node, group in enumerate(groups, 1) for op in _read_group(group, node))
        )

    def write(self, arch: Arch) -> str:
        """Returns the benchmark's string of ``arch``."""
        self.validate(arch)
        texts = [f"{OPS[op]}~{source}" for op, (source, _) in zip(arch.choices, EDGES)]
        return "+".join(f"|{'|'.join(part)}|" for part in (texts[:1], texts[1:3], texts[3:]))

    def index(self, arch: Arch) -> int:
        """Returns the benchmark's index of ``arch``, 0..15624."""
        self.validate(arch)
        return _order()[1][arch.choices]

    def at(self, index: int) -> Arch:
        """Returns the architecture with the benchmark's ``index``.

        Raises:
            InvalidArchError: unless 0 <= index <= 15624.
        """
        if not 0 <= index < self.size:
            raise InvalidArchError(f"{NAME} has the indices 0..{self.size - 1}, got {index}")
        return Arch(NAME, _order()[0][index])


def _read_group(group: str, node: int) -> list[int]:
    """Returns the operations of ``|op~0|...|op~(node-1)|``."""
    parts = group.strip().strip("|").split("|")
    if len(parts) != node:
        raise InvalidArchError(f"{group!r} has {len(parts)} edges, node {node} needs {node}")
    ops = []
    for source, part in enumerate(parts):
        op, _, index = part.partition("~")
        if op not in OPS:
            raise InvalidArchError(
                f"operation {op!r} in {group!r} is unknown; expected one of {', '.join(OPS)}"
            )
        if index != str(source):
            raise InvalidArchError(f"{part!r} in {group!r} should read from node {source}: {op}~{source}")
        ops.append(OPS.index(op))
    return ops


@lru_cache(1)
def _order() -> tuple[list[tuple[int, ...]], dict[tuple[int, ...], int]]:
    """Returns the benchmark's order (lexicographic, then shuffled by seed 88) and its inverse."""
    order = list(product(range(len(OPS)), repeat=len(EDGES)))
    random.Random(88).shuffle(order)
    return order, {choices: index for index, choices in enumerate(order)}


# -- Parameters and multiply-adds of NAS-Bench-201 networks, in closed form ---------------------------------------------


def count_nasbench201(arch: Arch, scale: Scale) -> Counts:
    """Returns the cost of a NAS-Bench-201 network; at the benchmark's scale equal to its tables.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images under 4 px.
    """
    NASBench201().validate(arch)
    n1 = arch.choices.count(OPS.index("nor_conv_1x1"))
    n3 = arch.choices.count(OPS.index("nor_conv_3x3"))
    first, size = stem(scale, scale.channels)
    parts = [first]
    for stage in range(3):
        c = scale.channels << stage
        if stage:
            size = halved(size)
            parts.append(_reduction(c // 2, c, size))
        parts.append(times(conv_bn(1, c, c, size), n1 * scale.depth))
        parts.append(times(conv_bn(3, c, c, size), n3 * scale.depth))
    norm = Counts(2 * c, 0)
    return total(*parts, norm, tail(c, scale.n_classes))

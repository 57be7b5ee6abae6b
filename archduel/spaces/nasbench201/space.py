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

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Decision, GraphBatch, check_decisions
from archduel.errors import InvalidArchError
from archduel.spaces.nasbench201 import features as numbers
from archduel.spaces.nasbench201.features import effect, effect_names
from archduel.spaces.nasbench201.function import EDGES, OPS, function, unique_str
from archduel.spaces.renas_tensors import nasbench201_tensors

__all__ = ["EDGES", "OPS", "NASBench201"]

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
        return numbers.graphs(self._choices(archs))

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, 114) numbers about what the cells compute, equal for equal fingerprints; ``feature_names`` names them."""
        return effect(self._choices(archs))

    def feature_names(self) -> tuple[str, ...]:
        """Returns the names of the columns of ``features``."""
        return effect_names()

    def graph_features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, 254) features of the labelled graph in the manner of GRAF; see ``nasbench201_features``."""
        return numbers.features(self._choices(archs))

    def tensors(self, archs: Sequence[Arch], *, costs: bool = True) -> NDArray[np.float32]:
        """Returns ReNAS's (B, 31, 4, 4), or (B, 1, 4, 4) without costs; see ``renas_cells``."""
        return nasbench201_tensors(self._choices(archs), costs=costs)

    def fingerprint(self, arch: Arch) -> str:
        """Returns the normal form of what the cell computes (5,234 classes); equal ones are equal functions.

        The reductions stand in :func:`archduel.spaces.nasbench201.function.function`.
        """
        self.validate(arch)
        return function(arch.choices).text

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

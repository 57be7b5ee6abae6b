"""What a strategy has asked and been told: the memory that every strategy keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence

from archduel.core import Arch, Estimate, Query, State, parse
from archduel.errors import StateError

__all__ = ["Ledger"]


class Ledger:
    """Architectures and their scores in the order of telling; failed evaluations count as the worst score."""

    def __init__(self) -> None:
        self._scores: dict[Arch, float] = {}

    def __len__(self) -> int:
        return len(self._scores)

    def __contains__(self, arch: Arch) -> bool:
        return arch in self._scores

    def record(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> list[tuple[Arch, float]]:
        """Takes answers and returns them as (architecture, score); a failed one scores minus infinity.

        Raises:
            StateError: if there is not one estimate a query.
        """
        if len(queries) != len(estimates):
            raise StateError(f"{len(queries)} queries were told with {len(estimates)} estimates; give one estimate a query")
        told = [(q.arch, -math.inf if e.failed else e.score) for q, e in zip(queries, estimates)]
        self._scores.update(told)
        return told

    def score(self, arch: Arch) -> float:
        """Returns what was last told about ``arch``; raises KeyError if nothing was."""
        return self._scores[arch]

    def labelled(self) -> tuple[list[Arch], list[float]]:
        """Returns the architectures that have a score, and the scores, oldest first."""
        known = [(arch, score) for arch, score in self._scores.items() if score > -math.inf]
        return [arch for arch, _ in known], [score for _, score in known]

    def best(self) -> Arch:
        """Returns the architecture with the highest score, the earliest among equals.

        Raises:
            StateError: if nothing was told yet.
        """
        if not self._scores:
            raise StateError("nothing was told yet, so there is no best architecture; ask, evaluate and tell first")
        return max(self._scores, key=self._scores.__getitem__)

    def ranked(self) -> list[Arch]:
        """Returns all architectures that have a score, best first, the earliest first among equals."""
        archs, _ = self.labelled()
        return sorted(archs, key=lambda arch: -self._scores[arch])

    def state_dict(self) -> State:
        """Returns everything told, as text and numbers."""
        return {"archs": [str(arch) for arch in self._scores], "scores": list(self._scores.values())}

    def load_state_dict(self, state: State) -> None:
        """Takes what another was told."""
        self._scores = {parse(text): float(score) for text, score in zip(state["archs"], state["scores"])}

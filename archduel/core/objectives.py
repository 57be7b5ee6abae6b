"""What a search weighs against each other: accuracy and costs, as losses of which less is better.

Some are known before anything is trained (parameters, multiply-adds), others are told with each answer (accuracy, a latency).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archduel.core.arch import Arch, parse
from archduel.core.fronts import front, knee, spread
from archduel.core.roles import Estimate, Query, State
from archduel.errors import SettingError, StateError

__all__ = ["SCORE", "Known", "Objectives", "Outcomes"]

Matrix = NDArray[np.float64]
Known = Callable[[Sequence[Arch]], Matrix]
"""Returns (N,) losses of architectures, nan where there is none."""

SCORE = "score"
"""The objective that an estimate's score is: its loss is 1 - score, the error where the score is an accuracy."""


@dataclass(frozen=True)
class Objectives:
    """What is to be small, all at once.

    Attributes:
        names: M of them: ``score``, or a measure that is known beforehand or among an estimate's values.
        known: name -> what gives it before any evaluation.
    """

    names: tuple[str, ...] = (SCORE,)
    known: Mapping[str, Known] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.names:
            if self.names.count(name) > 1:
                raise SettingError(f"objective {name!r} is there twice; name each objective once")
        if not self.names:
            raise SettingError("there is no objective; name at least one")

    def __len__(self) -> int:
        return len(self.names)

    def beforehand(self, archs: Sequence[Arch]) -> Matrix:
        """Returns (N, M) losses as far as they are known before any evaluation, nan in the columns of the others."""
        losses = np.full((len(archs), len(self)), np.nan)
        for column, name in enumerate(self.names):
            if name in self.known:
                losses[:, column] = self.known[name](archs)
        return losses

    def losses(self, arch: Arch, estimate: Estimate) -> tuple[float, ...]:
        """Returns the M losses of an evaluation, all infinite if it failed or lacks one.

        Raises:
            SettingError: for an estimate that has no such measure at all.
        """
        if estimate.failed:
            return (math.inf,) * len(self)
        found = tuple(self._loss(name, arch, estimate) for name in self.names)
        return found if all(math.isfinite(loss) for loss in found) else (math.inf,) * len(self)

    def _loss(self, name: str, arch: Arch, estimate: Estimate) -> float:
        if name in self.known:
            return float(self.known[name]([arch])[0])
        if name == SCORE:
            return 1.0 - estimate.score
        if name not in estimate.values:
            known = ", ".join([SCORE, *self.known, *estimate.values])
            raise SettingError(f"objective {name!r} has no measure here; there are {known}")
        return float(estimate.values[name])


class Outcomes:
    """Architectures and their losses in the order of telling.

    Args:
        objectives: what the losses are.
    """

    def __init__(self, objectives: Objectives) -> None:
        self.objectives = objectives
        self._losses: dict[Arch, tuple[float, ...]] = {}

    def __len__(self) -> int:
        return len(self._losses)

    def __contains__(self, arch: Arch) -> bool:
        return arch in self._losses

    def record(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> list[tuple[Arch, tuple[float, ...]]]:
        """Takes answers and returns them as (architecture, losses); those of failed ones are infinite.

        Raises:
            StateError: if there is not one estimate a query.
            SettingError: for an estimate without one of the objectives.
        """
        if len(queries) != len(estimates):
            raise StateError(f"{len(queries)} queries were told with {len(estimates)} estimates; give one estimate a query")
        told = [(query.arch, self.objectives.losses(query.arch, estimate)) for query, estimate in zip(queries, estimates)]
        self._losses.update(told)
        return told

    def losses(self, arch: Arch) -> tuple[float, ...]:
        """Returns what was last told about ``arch``; raises KeyError if nothing was."""
        return self._losses[arch]

    def labelled(self) -> tuple[list[Arch], Matrix]:
        """Returns the architectures whose evaluation did not fail, oldest first, and their (N, M) losses."""
        archs = [arch for arch, losses in self._losses.items() if math.isfinite(losses[0])]
        return archs, np.array([self._losses[arch] for arch in archs]).reshape(-1, len(self.objectives))

    def members(self, n: int | None = None) -> list[Arch]:
        """Returns ``n`` members of the front that stand for it, its knee first; None = all, by the first loss ascending."""
        archs, losses = self.labelled()
        rows = front(losses)
        if n is None or not len(rows):
            return [archs[row] for row in rows]
        middle, chosen = knee(losses[rows]), spread(losses[rows], max(n, 1))
        return [archs[rows[place]] for place in dict.fromkeys([middle, *chosen])][:n]

    def best(self) -> Arch:
        """Returns the knee of the front, the first told where all failed.

        Raises:
            StateError: if nothing was told yet.
        """
        if not self._losses:
            raise StateError("nothing was told yet, so there is no front; ask, evaluate and tell first")
        return next(iter([*self.members(1), *self._losses]))

    def state_dict(self) -> State:
        """Returns everything told, as text and numbers."""
        return {"archs": [str(arch) for arch in self._losses], "losses": [list(losses) for losses in self._losses.values()]}

    def load_state_dict(self, state: State) -> None:
        """Takes what another was told."""
        self._losses = {parse(text): tuple(map(float, losses)) for text, losses in zip(state["archs"], state["losses"])}

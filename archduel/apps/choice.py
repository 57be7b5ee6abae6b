"""Choosing among trained architectures by scores of trainings that are shorter than the final ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Space
from archduel.rankers.size_belief import lifted

__all__ = ["best_first", "whole_epochs"]

ENOUGH = 0.25
"""A re-evaluation of a smaller share of the planned epochs says less than the cheap labels it would overrule."""


def best_first(
    space: Space,
    scored: Sequence[tuple[Arch, float]],
    costs: Callable[[Sequence[Arch]], NDArray[Any]],
    *,
    belief: float = 0.0,
) -> list[Arch]:
    """Returns the architectures with a score, best first, one of each functional class; of equal ones the earlier leads.

    Args:
        space: tells which architectures are the same.
        scored: (architecture, score), nan for a failed training.
        costs: returns (N, 2) parameters and multiply-adds.
        belief: how much larger networks are believed to gain from longer training (see :func:`lifted`).
    """
    alive = [(arch, score) for arch, score in scored if not math.isnan(score)]
    if not alive:
        return []
    archs, scores = [arch for arch, _ in alive], [score for _, score in alive]
    mixed = lifted(scores, costs(archs)[:, 1], belief) if belief else np.array(scores)
    order = np.argsort(-mixed, kind="stable").tolist()
    return list({space.fingerprint(archs[i]): archs[i] for i in reversed(order)}.values())[::-1]


def whole_epochs(planned: float, possible: float) -> float | None:
    """Returns for how many of the ``planned`` epochs there is time, None if for too few to choose by.

    Networks of the final size that were trained for an epoch or two are ranked by how fast they begin; one that computes nearly
    nothing may lead.
    """
    epochs = min(planned, float(math.floor(possible)))
    return epochs if epochs >= min(planned, max(2.0, ENOUGH * planned)) else None

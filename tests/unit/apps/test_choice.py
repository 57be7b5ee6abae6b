"""Choosing by scores of short trainings."""

from __future__ import annotations

import math

import numpy as np
import pytest

from archduel.commands.search.pace import whole_epochs
from archduel.commands.search.stages import best_first
from archduel.core import parse
from archduel.spaces.nasbench201.space import NASBench201

SPACE = NASBench201()
SMALL, MIDDLE, LARGE = (parse(f"nasbench201:{op}.{op}.{op}.{op}.{op}.{op}") for op in (1, 2, 3))
SAME = [parse("nasbench201:3.0.0.3.0.0"), parse("nasbench201:0.0.0.3.0.0")]  # nothing reads the first edge


def costs(archs):
    return np.array([[0, sum(arch.choices)] for arch in archs], float)


def test_scores_decide_without_a_belief_and_failures_are_left_out() -> None:
    scored = [(LARGE, 0.2), (SMALL, 0.9), (MIDDLE, math.nan)]
    assert best_first(SPACE, scored, costs) == [SMALL, LARGE]
    assert best_first(SPACE, [(MIDDLE, math.nan)], costs) == []


def test_a_strong_belief_decides_by_size() -> None:
    scored = [(SMALL, 0.9), (MIDDLE, 0.5), (LARGE, 0.2)]
    assert best_first(SPACE, scored, costs, belief=10.0) == [LARGE, MIDDLE, SMALL]


def test_one_of_each_class_the_better_and_of_equal_ones_the_earlier() -> None:
    assert SPACE.fingerprint(SAME[0]) == SPACE.fingerprint(SAME[1])
    assert best_first(SPACE, [(SAME[0], 0.1), (LARGE, 0.5), (SAME[1], 0.3)], costs) == [LARGE, SAME[1]]
    assert best_first(SPACE, [(SMALL, 0.5), (LARGE, 0.5)], costs) == [SMALL, LARGE]


@pytest.mark.parametrize(
    ("planned", "possible", "epochs"),
    [(12, 40.0, 12), (12, 7.9, 7), (12, 3.0, 3), (12, 2.9, None), (12, -5.0, None), (4, 2.0, 2), (4, 1.9, None), (1, 1.2, 1), (1, 0.9, None)],
)
def test_too_few_epochs_are_none(planned: float, possible: float, epochs: float | None) -> None:
    assert whole_epochs(planned, possible) == epochs

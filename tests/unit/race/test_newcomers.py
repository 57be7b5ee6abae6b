"""Strategies as sources of newcomers: what they ask, what they are told, and the same again after an interruption."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from archduel.core import Arch, Cost, Estimate, Query, StepReport
from archduel.errors import RunError
from archduel.race.newcomers import Asker
from archduel.spaces.stages.space import Stages

SPACE = Stages()
FIRST, SECOND, THIRD = (SPACE.read(f"conv3-pool-{n}-0-0-2-2-plain-all-average") for n in range(3))


class Scripted:
    """A strategy that asks and steps as it is told to: an architecture, None for "let me step", or an error."""

    def __init__(self, script: Sequence[Arch | Exception | None], best: Sequence[Arch] = ()) -> None:
        self.script, self.order, self.log = list(script), list(best), list[Any]()

    def ask(self, n: int) -> list[Query]:
        self.log.append("ask")
        return [Query(self.script.pop(0))] if self.script and isinstance(self.script[0], Arch) else []

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        self.log.append((queries[0].arch, estimates[0].score))

    def step(self) -> StepReport | None:
        self.log.append("step")
        what = self.script.pop(0) if self.script else StopIteration
        if isinstance(what, Exception):
            raise what
        return StepReport({}) if what is None else None

    def finalists(self, n: int) -> list[Arch]:
        return self.order[:n]


def asker(*script: Arch | Exception | None, best: Sequence[Arch] = ()) -> Asker:
    """Returns one over a scripted strategy."""
    return Asker(Scripted(script, best), SPACE)  # type: ignore[arg-type]


def test_what_has_entered_already_is_answered_at_once() -> None:
    one = asker(FIRST, None, SECOND)
    one.known[FIRST] = 0.7
    arch, exchange = one.next(lambda: True)
    assert arch == SECOND
    assert exchange == [["ask", str(FIRST)], ["again", 0.7], ["step", 1], ["ask", str(SECOND)]]
    assert one.strategy.log == ["ask", (FIRST, 0.7), "ask", "step", "ask"]  # type: ignore[attr-defined]


def test_an_interrupted_race_repeats_the_exchange_and_refuses_another() -> None:
    exchange = [["ask", str(FIRST)], ["again", 0.7], ["step", 1], ["ask", str(SECOND)]]
    again = asker(FIRST, None, SECOND)
    again.repeat(exchange)
    assert again.strategy.log == ["ask", (FIRST, 0.7), "ask", "step", "ask"]  # type: ignore[attr-defined]
    with pytest.raises(RunError, match="now it asks for"):
        asker(THIRD).repeat(exchange)
    with pytest.raises(RunError, match="nothing"):
        asker().repeat(exchange)


@pytest.mark.parametrize("last", [ValueError("two labels are equal"), SECOND])
def test_where_nothing_is_asked_or_learned_the_best_finalist_that_is_new_enters(last: Any) -> None:
    script = (last,) if isinstance(last, Exception) else ()
    one = asker(*script, best=[FIRST, THIRD])
    one.known[FIRST] = 0.5
    assert one.next(lambda: True)[0] == THIRD


def test_without_patience_no_step_is_made() -> None:
    one = asker(None, SECOND)
    assert one.next(lambda: False) == (None, [["idle", None]])
    assert one.strategy.log == ["ask"]  # type: ignore[attr-defined]


def test_only_what_was_asked_is_told() -> None:
    one = asker(FIRST)
    one.tell(THIRD, 0.4, Cost(1.0, 10), asked=False)
    assert one.strategy.log == []  # type: ignore[attr-defined]
    one.tell(FIRST, math.nan, Cost(1.0, 10), asked=True)
    assert len(one.strategy.log) == 1  # type: ignore[attr-defined]


def test_random_newcomers_are_functionally_new() -> None:
    one = asker()
    rng = np.random.default_rng(0)
    for _ in range(30):
        arch = one.random(rng)
        assert arch is not None
        assert SPACE.fingerprint(arch) not in {SPACE.fingerprint(known) for known in one.known}
        one.known[arch] = 0.1


def test_a_neighbour_differs_in_one_answer_and_is_new() -> None:
    one = asker()
    rng = np.random.default_rng(0)
    for _ in range(10):
        child = one.neighbour(SPACE.start(), rng)
        assert child is not None
        assert child not in one.known
        assert sum(a != b for a, b in zip(child.choices, SPACE.start().choices)) == 1
        one.known[child] = 0.1

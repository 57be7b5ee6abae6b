"""Finding a cheap recipe within a budget: measure, prune, measure again; then the front and what to recommend."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from archduel.errors import SettingError, unknown
from archduel.proxies.agreement import MEASURES, Agreement, Bounded
from archduel.proxies.factors import Setting
from archduel.proxies.pruning import MinimumImportancePruning, Pruning

__all__ = ["Found", "Trial", "find", "front", "recommend"]


@dataclass(frozen=True)
class Trial:
    """A measured recipe.

    Attributes:
        name: what it is called.
        cost: of one architecture (seconds, GPU hours); what a front is about.
        agreement: with the reference.
        setting: where it is in the grid, empty for others.
        paid: what measuring it cost.
    """

    name: str
    cost: float
    agreement: Agreement
    setting: Setting = ()
    paid: float = 0.0

    def value(self, measure: str) -> Bounded:
        """Returns the agreement by ``spearman`` or ``kendall``."""
        found: Bounded = getattr(self.agreement, measure)
        return found


@dataclass
class Found:
    """What a search for recipes came to.

    Attributes:
        trials: in the order of measuring.
        prunings: in order.
        rounds: how many trials each round had.
        ended: why it ended.
    """

    trials: list[Trial] = field(default_factory=list)
    prunings: list[Pruning] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    ended: str = ""

    @property
    def paid(self) -> float:
        """What all measurements cost together."""
        return math.fsum(trial.paid for trial in self.trials)


def find(
    pruning: MinimumImportancePruning,
    measure: Callable[[Setting], Trial],
    *,
    budget: float,
    predict: Callable[[Setting], float],
    by: str = "spearman",
    on_trial: Callable[[Trial], None] | None = None,
    on_pruning: Callable[[Pruning], None] | None = None,
) -> Found:
    """Measures recipes round by round and prunes between rounds until the budget is spent or one hyper-parameter is left.

    A round may spend an equal share of what is left; a recipe predicted to exceed it is left out (the cheapest of a round never
    is while it fits into what is left at all).

    Args:
        pruning: asks for recipes.
        measure: trains the architectures under a recipe.
        budget: for all measurements, in the unit of ``Trial.paid``.
        predict: what measuring a recipe will cost.
        by: ``spearman`` or ``kendall``.
        on_trial: called after each measurement.
        on_pruning: called after each pruning.

    Raises:
        SettingError: for a budget that is not above 0.
        UnknownNameError: for another measure.
    """
    if by not in MEASURES:
        raise unknown("measure", by, MEASURES)
    if not budget > 0:
        raise SettingError(f"the budget must be above 0, got {budget}")
    found = Found()
    while True:
        share = (budget - found.paid) / max(1, len(pruning.open))
        spent, done = 0.0, 0
        for setting in pruning.ask():
            expected = predict(setting)
            if (done and spent + expected > share) or found.paid + expected > budget:
                continue
            trial = measure(setting)
            pruning.tell(setting, trial.value(by).value, trial.cost)
            found.trials.append(trial)
            spent, done = spent + trial.paid, done + 1
            if on_trial:
                on_trial(trial)
        found.rounds.append(done)
        if not _go_on(pruning, found, budget):
            return found
        pruned = pruning.prune()
        if pruned is None:
            continue
        found.prunings.append(pruned)
        if on_pruning:
            on_pruning(pruned)


def _go_on(pruning: MinimumImportancePruning, found: Found, budget: float) -> bool:
    """Returns whether another round makes sense, and says why not."""
    if found.paid >= budget:
        found.ended = "the budget is spent"
    elif len(found.trials) < 2:
        found.ended = "the budget is too small for two recipes"
    elif not pruning.prunable and not pruning.ask():
        found.ended = "all recipes that are left are measured"
    elif not pruning.prunable and not found.rounds[-1]:
        found.ended = "the budget is too small for the recipes that are left"
    return not found.ended


def front(trials: Sequence[Trial], by: str = "spearman") -> list[Trial]:
    """Returns the trials that no other beats (cheaper or as cheap, and agreeing better), by rising cost."""
    best: list[Trial] = []
    known = [trial for trial in trials if math.isfinite(trial.value(by).value)]
    for trial in sorted(known, key=lambda t: (t.cost, -t.value(by).value)):
        if not best or trial.value(by).value > best[-1].value(by).value:
            best.append(trial)
    return best


def recommend(trials: Sequence[Trial], by: str = "spearman", *, slack: float = 0.05) -> dict[str, Trial]:
    """Returns ``quick`` and ``trusted`` recipes; empty where no trial has a positive agreement.

    ``trusted`` is the cheapest one on the front whose agreement is at most ``slack`` below the best; ``quick`` is the one on the
    front, not dearer than that, that stands highest above the line between the front's ends, cost on a logarithmic axis. They may
    be one.
    """
    best = [trial for trial in front(trials, by) if trial.value(by).value > 0]
    if not best:
        return {}
    trusted = next(i for i, trial in enumerate(best) if trial.value(by).value >= best[-1].value(by).value - slack)
    low, high = best[0], best[-1]
    width = math.log(high.cost / low.cost) or 1.0
    rise = high.value(by).value - low.value(by).value

    def above(trial: Trial) -> tuple[float, float]:
        value = trial.value(by).value
        return value - low.value(by).value - rise * math.log(trial.cost / low.cost) / width, value

    return {"quick": max(best[: trusted + 1], key=above), "trusted": best[trusted]}

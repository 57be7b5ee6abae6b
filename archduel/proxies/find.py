"""Finding a cheap recipe within a budget: measure, prune, measure again; then the front and what to recommend.

:class:`MinimumImportancePruning` names the recipes of a round and, told their agreements, fixes the hyper-parameter that matters least;
:func:`find` measures them within a budget; :func:`front` and :func:`recommend` read the outcome.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archduel.errors import SettingError, StateError, check_at_least, unknown
from archduel.proxies.agreement import MEASURES, Agreement, Bounded
from archduel.proxies.factors import Grid, Setting
from archduel.proxies.importance import Importance, Levels, forest_importance

__all__ = ["SAMPLING", "SCOPES", "MinimumImportancePruning", "Pruning", "RecipeSearch", "Trial", "find", "front", "recommend"]

# -- Minimum Importance Pruning: find a cheap recipe without measuring them all -----------------------------------------
#
# Zheng, Ji, Tang, Wang, et al.: "Rethinking Performance Estimation in Neural Architecture Search", CVPR 2020. The released code has
# nothing of it. What is known: start with the cheapest recipes, fit a random forest to (hyper-parameters -> rank correlation), take
# each hyper-parameter's importance by functional ANOVA, fix the least important one at its cheapest value, repeat.
#
# Chosen here, because the paper's details are not confirmed (the alternatives are settings):
# 1. Recipes of a round: a Latin hypercube over the levels of the open hyper-parameters (``spread``), so that each level is seen; the
# cheapest recipe of all comes first, and a round measures its recipes from the cheapest on. ``cheapest`` takes the cheapest
# recipes that are left (for a finite list of recipes), ``random`` draws them evenly.
# 2. The forest learns from all recipes so far; importance counts levels evenly, a fixed hyper-parameter at its fixed level only
# (``scope="open"``), or all levels of all (``scope="all"``).
# 3. The cheapest value is the first level. In a finite list of recipes it is the level that matched pairs of measured recipes (which
# differ in that hyper-parameter alone) say is cheapest, among those that at least ``keep`` of the recipes left have: fixing
# at a level that a single recipe has would end the search.
# 4. Only a hyper-parameter that was measured at two levels may be fixed: of others nothing is known, and a forest would call them
# unimportant.
# 5. A recipe under which no order can be told has agreement 0.
# 6. It ends when one hyper-parameter is open and its levels have been measured.


# Where nearly all settings are measured, draws repeat what is known; after so many tables a round is as large as it got.
HYPERCUBES = 200
SAMPLING = ("spread", "cheapest", "random")
SCOPES = ("open", "all")
Cost = Callable[[Setting], float]


@dataclass(frozen=True)
class Pruning:
    """A hyper-parameter that was fixed.

    Attributes:
        factor: its number.
        level: where it was fixed.
        importance: of all hyper-parameters at that time.
        measured: recipes the forest had learned from.
    """

    factor: int
    level: int
    importance: Importance
    measured: int


class MinimumImportancePruning:
    """Asks for recipes to be measured, is told how well they keep the order, fixes what matters least.

    Args:
        cost: predicts what a recipe costs; only the order and ratios matter.
        pool: the recipes there are; None = all of the grid.
        samples: recipes a round.
        sampling: ``spread``, ``cheapest`` or ``random``.
        scope: ``open`` or ``all``.
        keep: share of the recipes of a finite list that a level must have to be fixed.
        trees: how many the forest has.
        seed: of the forest; ``rng`` draws recipes only.

    Raises:
        SettingError: for settings out of range.
    """

    def __init__(
        self,
        grid: Grid,
        cost: Cost,
        *,
        rng: np.random.Generator,
        pool: Sequence[Setting] | None = None,
        samples: int = 6,
        sampling: str = "spread",
        scope: str = "open",
        keep: float = 0.25,
        trees: int = 64,
        seed: int = 0,
    ) -> None:
        for name, value, known in (("sampling", sampling, SAMPLING), ("scope", scope, SCOPES)):
            if value not in known:
                raise unknown(name, value, known)
        check_at_least(2, samples=samples)
        check_at_least(1, trees=trees)
        if not 0 <= keep <= 1:
            raise SettingError(f"keep is {keep}, expected a share from 0 to 1")
        if not grid.factors:
            raise SettingError("the grid has no hyper-parameters, expected at least 1 with several levels to choose from")
        self.grid, self.cost, self.rng, self.pool = grid, cost, rng, None if pool is None else list(pool)
        self.samples, self.sampling, self.scope, self.keep = samples, sampling, scope, keep
        self.trees, self.seed = trees, seed
        self.fixed: dict[int, int] = {}
        self.measured: dict[Setting, tuple[float, float]] = {}

    @property
    def open(self) -> list[int]:
        """The numbers of the hyper-parameters that are not fixed yet."""
        return [f for f in range(len(self.grid.factors)) if f not in self.fixed]

    @property
    def prunable(self) -> list[int]:
        """The open hyper-parameters that were measured at two levels; none when only one is open."""
        varied = [f for f in self.open if len({setting[f] for setting in self.measured}) > 1]
        return varied if len(self.open) > 1 else []

    def left(self, pool: Sequence[Setting]) -> list[Setting]:
        """Returns the recipes of ``pool`` that agree with what is fixed."""
        return [s for s in pool if all(s[f] == level for f, level in self.fixed.items())]

    def ask(self) -> list[Setting]:
        """Returns the recipes of the next round that were not measured yet, the cheapest first."""
        if self.pool is not None:
            candidates = [s for s in self.left(self.pool) if s not in self.measured]
            if self.sampling != "cheapest":
                candidates = [candidates[i] for i in self.rng.permutation(len(candidates))[: self.samples]]
        elif self.sampling == "cheapest":
            candidates = self._cheapest()
        else:
            candidates = self._drawn()
        # the cheapest first, because a budget may end a round early; equal costs in the order of their levels, to be repeatable
        return sorted(candidates, key=lambda s: (self.cost(s), s))[: self.samples]

    def _cheapest(self) -> list[Setting]:
        return [s for s in self.left(list(self.grid.settings())) if s not in self.measured]

    def _drawn(self) -> list[Setting]:
        """Returns new settings: the cheapest of all if it is new, then rows of Latin hypercubes or even draws."""
        sizes = self.grid.sizes
        room = math.prod(sizes[f] for f in self.open) - len(self.left(list(self.measured)))
        lowest = tuple(self.fixed.get(f, 0) for f in range(len(sizes)))
        drawn = [] if lowest in self.measured else [lowest]
        for _ in range(HYPERCUBES):
            for row in self._table():
                setting = tuple(self.fixed.get(f, int(row[f])) for f in range(len(sizes)))
                if len(drawn) >= min(self.samples, room):
                    return drawn
                if setting not in self.measured and setting not in drawn:
                    drawn.append(setting)
        return drawn

    def _table(self) -> NDArray[np.int64]:
        """Returns (samples, F) levels."""
        sizes = self.grid.sizes
        if self.sampling == "random":
            return np.stack([self.rng.integers(0, n, self.samples) for n in sizes], axis=1)
        columns = []
        for n in sizes:
            # which levels come once more where the division leaves a rest
            order = self.rng.permutation(n)
            columns.append(self.rng.permutation(order[np.arange(self.samples) % n]))
        return np.stack(columns, axis=1)

    def tell(self, setting: Setting, agreement: float, cost: float) -> None:
        """Takes a measured recipe: its agreement (nan counts as 0) and what it cost."""
        self.measured[setting] = (agreement if math.isfinite(agreement) else 0.0, cost)

    def importance(self) -> Importance:
        """Returns what the forest says now.

        Raises:
            StateError: before two recipes were measured.
        """
        if len(self.measured) < 2:
            raise StateError(f"importance needs at least 2 measured recipes, got {len(self.measured)}")
        measures = [
            Levels.only(self.fixed[f], n) if f in self.fixed and self.scope == "open" else Levels.equal(n)
            for f, n in enumerate(self.grid.sizes)
        ]
        scores = [agreement for agreement, _ in self.measured.values()]
        return forest_importance(list(self.measured), scores, measures, trees=self.trees, seed=self.seed)

    def prune(self) -> Pruning | None:
        """Fixes the least important prunable hyper-parameter at its cheapest level; None if there is none.

        Of equally unimportant ones the first is fixed.

        Raises:
            StateError: before two recipes were measured.
        """
        if not self.prunable:
            return None
        importance = self.importance()
        least = min(self.prunable, key=lambda f: (importance.main[f], f))
        self.fixed[least] = self.cheapest_level(least)
        return Pruning(least, self.fixed[least], importance, len(self.measured))

    def cheapest_level(self, factor: int) -> int:
        """Returns the level at which ``factor`` is fixed."""
        if self.pool is None:
            return 0
        left = self.left(self.pool)
        counts = np.bincount([s[factor] for s in left], minlength=self.grid.sizes[factor])
        enough = [level for level in range(len(counts)) if counts[level] >= max(1, self.keep * len(left))]
        enough = enough or [int(counts.argmax())]
        ratios = self._cost_ratios(factor)
        return min(enough, key=lambda level: (ratios.get(level, 0.0), level))

    def _cost_ratios(self, factor: int) -> dict[int, float]:
        """Returns the mean log cost of each level against the other levels of matched pairs; unmatched levels are missing."""
        groups: dict[Setting, list[tuple[int, float]]] = {}
        for setting, (_, cost) in self.measured.items():
            rest = setting[:factor] + setting[factor + 1 :]
            groups.setdefault(rest, []).append((setting[factor], math.log(cost)))
        # logarithms, because a hyper-parameter multiplies the cost (twice the epochs), whatever the others make of it
        differences: dict[int, list[float]] = {}
        for group in (group for group in groups.values() if len(group) > 1):
            for level, cost in group:
                others = [other for its, other in group if its != level]
                differences.setdefault(level, []).append(cost - float(np.mean(others)))
        return {level: float(np.mean(ratios)) for level, ratios in differences.items()}


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
        agreement: Bounded = getattr(self.agreement, measure)
        return agreement


@dataclass
class RecipeSearch:
    """What a search for recipes measured, fixed and spent.

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
) -> RecipeSearch:
    """Measures recipes round by round and prunes between rounds until the budget is spent or one hyper-parameter is left.

    A round may spend an equal share of what is left; a recipe predicted to exceed it is left out (the cheapest of a round never
    is while it fits into what is left at all).

    Args:
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
    result = RecipeSearch()
    while True:
        share = (budget - result.paid) / max(1, len(pruning.open))
        spent, done = 0.0, 0
        for setting in pruning.ask():
            expected = predict(setting)
            # at least one a round: a round without any would prune by what is known already
            if (done and spent + expected > share) or result.paid + expected > budget:
                continue
            trial = measure(setting)
            pruning.tell(setting, trial.value(by).value, trial.cost)
            result.trials.append(trial)
            spent, done = spent + trial.paid, done + 1
            if on_trial:
                on_trial(trial)
        result.rounds.append(done)
        if not _go_on(pruning, result, budget):
            return result
        pruned = pruning.prune()
        if pruned is None:
            continue
        result.prunings.append(pruned)
        if on_pruning:
            on_pruning(pruned)


def _go_on(pruning: MinimumImportancePruning, result: RecipeSearch, budget: float) -> bool:
    """Returns whether another round makes sense, and says why not."""
    if result.paid >= budget:
        result.ended = "the budget is spent"
    elif len(result.trials) < 2:
        result.ended = "the budget is too small for two recipes"
    elif not pruning.prunable and not pruning.ask():
        result.ended = "all recipes that are left are measured"
    elif not pruning.prunable and not result.rounds[-1]:
        result.ended = "the budget is too small for the recipes that are left"
    return not result.ended


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
    # costs span orders of magnitude: on a linear axis every cheap recipe would stand at the same place. 1 where the ends are one.
    width = math.log(high.cost / low.cost) or 1.0
    rise = high.value(by).value - low.value(by).value

    def above(trial: Trial) -> tuple[float, float]:
        value = trial.value(by).value
        return value - low.value(by).value - rise * math.log(trial.cost / low.cost) / width, value

    return {"quick": max(best[: trusted + 1], key=above), "trusted": best[trusted]}

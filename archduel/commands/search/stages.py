"""The main job, stage by stage: plan, label, compare, confirm, the random arm, re-evaluate, final training, test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.assemble import declaration
from archduel.commands.progress import Progress, duration
from archduel.commands.search.plan import LABEL, Plan
from archduel.commands.search.settings import Settings
from archduel.commands.search.strategy import closed_form_costs, make_strategy
from archduel.core import (
    Arch,
    Budget,
    Constraint,
    Estimate,
    Executor,
    Finalists,
    Query,
    RandomFirst,
    Space,
    StepReport,
    Strategy,
    Told,
    sample_distinct,
    search,
)
from archduel.core.job import Job
from archduel.core.storage import record_estimate, record_query
from archduel.data import Dataset
from archduel.errors import InfeasibleError, RunError, StateError
from archduel.estimators.timing import Stopwatch
from archduel.rankers.size_belief import lifted

__all__ = ["LABEL", "ORDINALS", "Arms", "Pace", "Pipeline", "best_first", "whole_epochs"]

# -- Choosing among trained architectures by scores of trainings that are shorter than the final ones -------------------


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


# -- What the clock decides while a run goes on: each decision is made once and written down, so that a continued run keeps it 


class Pace:
    """Holds the stages of a run to the shares of the time that the plan gives them.

    Args:
        folder: has the clock and the journal.
        settings: of the run; without ``seconds`` the clock decides nothing.
        plan: has the shares.
        compares: whether the strategy compares after its labels, and so keeps pace itself.
    """

    def __init__(self, folder: Job, settings: Settings, plan: Plan, *, compares: bool) -> None:
        self.folder, self.settings, self.plan, self.compares = folder, settings, plan, compares
        self._compare_began: float | None = None

    def label_budget(self) -> Budget:
        """Returns the budget of the strategy: one that compares keeps pace itself, others end in time."""
        share = self.plan.seconds.get(LABEL)
        seconds = None if share is None or self.compares else 1.2 * share * self.settings.workers
        return Budget(evaluations=self.plan.labels + self.plan.confirm, seconds=seconds)

    def labels(self, done: int, wanted: int) -> int:
        """Returns how many of the ``wanted`` labels there is time for; fewer, once, if they take much longer than planned."""
        noted = self.folder.noted("fewer labels")
        if noted is not None:
            return min(wanted, int(noted["labels"]))
        share = self.plan.seconds.get(LABEL)
        due = max(8, 4 * self.settings.workers)
        if share is None or done != due:
            return wanted
        started = next(r["clock"] for r in self.folder.journal.records if r["event"] == "plan")
        rate = (self.folder.clock - started) / done
        if rate * self.plan.labels <= 1.3 * share:
            return wanted
        labels = max(due, int(share / rate))
        self.folder.note("fewer labels", labels=labels, seconds_per_label=round(rate, 3))
        return labels

    def enough_steps(self, done: int) -> bool:
        """Ends the comparison when its share of the time is used; a continued run makes as many steps again."""
        noted = self.folder.noted("compared")
        if noted is not None:
            return done >= int(noted["steps"])
        now, share = self.folder.clock, self.plan.seconds.get("compare")
        if done == 0 or self._compare_began is None:
            self._compare_began = now
        if share is None or now - self._compare_began < share:
            return False
        self.folder.note("compared", steps=done)
        return True

    def reevaluation(self, n: int, seconds_per_label: Callable[[], float]) -> str | None:
        """Returns ``reevaluate@epochs`` for ``n`` networks: fewer than planned if this machine turned out slower, None if too few."""
        noted = self.folder.noted("reevaluation plan")
        if noted is not None:
            return None if noted["fidelity"] is None else str(noted["fidelity"])
        epochs: float | None = self.plan.reevaluate.epochs
        if self.settings.seconds is not None and "epochs" not in self.settings.section("reevaluate"):
            slower = max(1.0, seconds_per_label() / max(self.plan.seconds_per_label, 1e-9))
            left = self.settings.seconds - self.folder.clock - self.plan.seconds["final"]
            rounds = math.ceil(n / self.settings.workers)
            epochs = whole_epochs(self.plan.reevaluate.epochs, left / (rounds * slower * self.plan.seconds_per_epoch))
        fidelity = None if epochs is None else f"reevaluate@{epochs:g}"
        self.folder.note("reevaluation plan", fidelity=fidelity)
        return fidelity


@dataclass
class Arms:
    """What the stages before the final training found.

    Attributes:
        search: (arch, cheap score) the search paid for, in order.
        random: (arch, cheap score) of the random arm, labels that both share included.
        reevaluated: arch -> score with more epochs, both arms.
        winner: the search's choice.
        random_winner: the random arm's choice, None without baselines.
        seconds: stage -> core seconds paid.
        notes: facts for the report.
    """

    search: list[tuple[Arch, float]] = field(default_factory=list)
    random: list[tuple[Arch, float]] = field(default_factory=list)
    reevaluated: dict[Arch, float] = field(default_factory=dict)
    winner: Arch | None = None
    random_winner: Arch | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


READING = {"likelihood": "likelihood ", "metric": ""}
ORDINALS = {"random": 100_000, "confirm": 200_000, "reevaluate": 300_000, "check": 400_000, "final": 900_000}
"""First ordinal of each stage's evaluations: an evaluation's seed depends on the run's seed and its ordinal only."""


class Pipeline:
    """Runs the stages of one search over a folder, an executor and a plan; every answer is journalled before it is used."""

    def __init__(
        self,
        folder: Job,
        settings: Settings,
        plan: Plan,
        space: Space,
        dataset: Dataset,
        executor: Executor,
        stopwatch: Stopwatch,
        *,
        constraint: Constraint | None,
        progress: Progress,
    ) -> None:
        self.folder, self.settings, self.plan, self.space, self.dataset = folder, settings, plan, space, dataset
        self.executor, self.stopwatch, self.constraint, self.progress = executor, stopwatch, constraint, progress
        self.arms = Arms()
        says = declaration(settings.strategy)
        self._compares, self._labels_first = says.compares, says.kind == "labels-first"
        self.pace = Pace(folder, settings, plan, compares=self._compares)
        self._evaluations = plan.labels + plan.confirm
        self._costs = closed_form_costs(plan, dataset)
        self.strategy = self._make_strategy()
        self.paid: dict[tuple[Arch, str | None], Estimate] = {
            (record_query(r).arch, r["fidelity"]): record_estimate(r)
            for r in folder.journal.records
            if r["event"] == "estimate"
        }

    def _make_strategy(self) -> Strategy:
        return make_strategy(self.settings, self.plan, self.space, self.constraint, costs=self._costs)

    def time_left(self) -> str:
        """Returns the time left as text, empty without a time budget."""
        if self.settings.seconds is None:
            return ""
        return f", {duration(self.settings.seconds - self.folder.clock)} left"

    # -- stage 2 and 3: label and compare ------------------------------------------------------------------------------

    def label_and_compare(self) -> None:
        """Trains the sampled architectures with the cheap recipe, then lets the strategy compare and propose."""
        total = self.plan.labels if self._compares else self._evaluations
        self.progress.stage("label", total)

        def on_told(told: Told) -> None:
            """Keeps what a training gave and shows how far the stage is."""
            self.paid[told.query.arch, LABEL] = told.estimate
            self.arms.search.append((told.query.arch, told.estimate.score))
            self.progress.advance(told.ordinal + 1, f"{self._best_so_far()}{self.time_left()}")
            self._keep_pace(told.ordinal + 1)

        steps: list[Mapping[str, float]] = []

        def on_step(report: StepReport) -> None:
            """Keeps what the strategy says of a step; the first one begins the stage in which it compares."""
            if self._compares and not steps:
                self.progress.stage("compare", self.plan.iterations)
            steps.append(dict(report.metrics))
            if self._compares:
                self.progress.advance(int(report.metrics.get("iteration", 0)), self.time_left().removeprefix(", "))

        try:
            result = search(
                self.strategy,
                self.executor,
                budget=self.pace.label_budget(),
                window=self._window(),
                journal=self.folder.part(LABEL),
                on_told=on_told,
                on_step=on_step,
                enough=self.pace.enough_steps if self._compares else None,
            )
        except StateError as error:
            self._check_alive()
            raise RunError(f"the search cannot go on: {error}") from error
        self._check_alive()
        self.arms.seconds["label"] = sum(told.estimate.cost.seconds for told in result.told)
        self.arms.seconds["compare"] = sum(report.cost.seconds for report in result.steps)
        self.arms.notes["steps"] = steps

    def _window(self) -> int:
        """Returns how many labels are asked for at a time: twice as many as are trained side by side.

        Strategies that begin with labels ask for the same ones whatever the window; others would learn from fewer answers at each
        question if the window grew with the groups.
        """
        at_once = int((self.folder.noted("fused") or {"at_once": 1})["at_once"])
        return 2 * self.settings.workers * (at_once if self._labels_first else 1)

    def _best_so_far(self) -> str:
        scores = [score for _, score in self.arms.search if not math.isnan(score)]
        return f"best {READING[self.settings.rank_by]}{max(scores):.4f}" if scores else "all failed so far"

    def _keep_pace(self, done: int) -> None:
        if self._labels_first:
            strategy: Any = self.strategy  # whose kind has an attribute `labels`
            strategy.labels = self.pace.labels(done, strategy.labels)

    def _check_alive(self) -> None:
        """Raises RunError where no training, or only one, gave a score."""
        estimates = [self.paid[arch, LABEL] for arch, _ in self.arms.search]
        failed = [estimate for estimate in estimates if estimate.failed]
        if failed and len(estimates) - len(failed) < 2:
            raise RunError(f"{len(failed)} of {len(estimates)} trainings failed; the first said: {failed[0].reason}")

    # -- evaluations outside the strategy ------------------------------------------------------------------------------

    def evaluate(self, stage: str, archs: Sequence[Arch], fidelity: str) -> list[Estimate]:
        """Returns the estimates of ``archs``; those already paid for are not trained again."""
        section = self.folder.part(stage)
        done = sum(record["event"] == "estimate" for record in section.records)
        new = [arch for arch in dict.fromkeys(archs) if (arch, fidelity) not in self.paid]
        ordinals = [ORDINALS[stage] + done + i for i in range(len(new))]
        queries = [Query(arch, fidelity) for arch in new]
        self.progress.stage(stage, len(archs))
        for i, (arch, estimate) in enumerate(zip(new, self.folder.paid(self.executor.run, queries, ordinals, stage=stage)), 1):
            self.paid[arch, fidelity] = estimate
            last = "last failed" if estimate.failed else f"last {estimate.score:.4f}"
            self.progress.advance(len(archs) - len(new) + i, f"{last}{self.time_left()}")
        self.arms.seconds[stage] = sum(r["seconds"] for r in section.records if r["event"] == "estimate")
        return [self.paid[arch, fidelity] for arch in archs]

    def confirm(self) -> None:
        """Trains what the comparator proposes with the cheap recipe too; other strategies have asked for it already."""
        left = min(self.plan.confirm, self._evaluations - len(self.arms.search)) if self._compares else 0
        proposals = self._proposals(left + len(self.arms.search))
        known = {arch for arch, _ in self.arms.search}
        new = [arch for arch in proposals if arch not in known][:left]
        for arch, estimate in zip(new, self.evaluate("confirm", new, LABEL)):
            self.arms.search.append((arch, estimate.score))
        self.arms.notes["proposals"] = [str(arch) for arch in proposals[:20]]

    def _proposals(self, n: int) -> list[Arch]:
        if isinstance(self.strategy, Finalists):
            return self.strategy.finalists(n)
        return [self.strategy.best()]

    # -- the random arm --------------------------------------------------------------------------------------------------

    def random_arm(self) -> None:
        """Random search at equal cost: shared labels count for both, comparator and policy time buys extra labels."""
        if not self.settings.baselines:
            return
        self.arms.random = self._random_evaluations()
        owed = sum(self.arms.seconds.get(stage, 0.0) for stage in ("label", "compare", "confirm", "one-shot"))
        owed -= sum(self.paid[arch, LABEL].cost.seconds for arch, _ in self.arms.random)
        rng = np.random.default_rng([self.settings.seed, 77])
        extra = self._draws(rng, {arch for arch, _ in self.arms.random}, self._n_extra(owed))
        for arch, estimate in zip(extra, self.evaluate("random", extra, LABEL)):
            self.arms.random.append((arch, estimate.score))
        self.arms.seconds.setdefault("random", 0.0)

    def _random_evaluations(self) -> list[tuple[Arch, float]]:
        """Returns the search's first evaluations, those of random architectures, which count for both arms."""
        if self._labels_first:
            strategy: Any = self.strategy
            return self.arms.search[: int(strategy.labels)]
        return self.arms.search[: self.strategy.random_first if isinstance(self.strategy, RandomFirst) else 0]

    def _n_extra(self, owed_seconds: float) -> int:
        """Returns how many extra labels the random arm gets; with a budget in evaluations the number is fixed."""
        noted = self.folder.noted("random arm")
        if noted is not None:
            return int(noted["labels"])
        shared = len(self.arms.random)
        if self.settings.seconds is None:
            number = len(self.arms.search) - shared + max(1, self.plan.labels // 10)
        else:
            number = max(1, math.ceil(owed_seconds / max(self._seconds_per_label(), 1e-6)))
        self.folder.note("random arm", labels=number, owed_seconds=round(owed_seconds, 2))
        return number

    def _seconds_per_label(self) -> float:
        """Returns what a training with the cheap recipe took on average."""
        return float(np.mean([e.cost.seconds for (_, fidelity), e in self.paid.items() if fidelity == LABEL and not e.failed]))

    def _draws(self, rng: np.random.Generator, known: set[Arch], n: int) -> list[Arch]:
        """Returns ``n`` random architectures that are functionally new, as long as the space has them."""
        seen = {self.space.fingerprint(arch) for arch in known}
        try:
            return sample_distinct(self.space, n, rng, constraint=self.constraint, exclude=seen)
        except InfeasibleError as error:
            return list(error.archs)

    # -- stage 4: re-evaluate ------------------------------------------------------------------------------------------------

    def reevaluate(self) -> None:
        """Trains the few best of each arm with more epochs and fixes each arm's choice by validation."""
        belief = self.settings.size_belief  # the search's; random search takes scores as they are
        shortlists = [self._shortlist(self.arms.search, belief)]
        if self.settings.baselines:
            shortlists.append(self._shortlist(self.arms.random, 0.0))
        archs = list(dict.fromkeys(arch for shortlist in shortlists for arch in shortlist))
        fidelity = self.pace.reevaluation(len(archs), self._seconds_per_label)
        if fidelity is None:
            self.progress.say("no time to re-evaluate: each arm's choice is its best by the cheap recipe")
            chosen = [shortlist[0] for shortlist in shortlists]
        else:
            for arch, estimate in zip(archs, self.evaluate("reevaluate", archs, fidelity)):
                self.arms.reevaluated[arch] = estimate.score
            chosen = [self._best(shortlist, weight) for shortlist, weight in zip(shortlists, (belief, 0.0))]
        self.arms.winner = chosen[0]
        self.arms.random_winner = chosen[1] if self.settings.baselines else None
        self.arms.notes["shortlists"] = [[str(arch) for arch in shortlist] for shortlist in shortlists]

    def _shortlist(self, scored: Sequence[tuple[Arch, float]], belief: float) -> list[Arch]:
        """Returns the arm's best by cheap score, one of each functional class."""
        return best_first(self.space, scored, self._costs, belief=belief)[: self.plan.shortlist]

    def _best(self, archs: Sequence[Arch], belief: float) -> Arch:
        """Returns the best by re-evaluation, whose trainings are short of the final ones too: size counts as in labels."""
        ranked = best_first(self.space, [(arch, self.arms.reevaluated[arch]) for arch in archs], self._costs, belief=belief)
        if not ranked:
            raise RunError("every re-evaluation failed; see the reasons in journal.jsonl")
        return ranked[0]

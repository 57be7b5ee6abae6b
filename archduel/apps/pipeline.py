"""The main job, stage by stage: plan, label, compare, confirm, the random arm, re-evaluate, final training, test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from archduel.apps.arms import Arms, closed_form_costs, make_strategy
from archduel.apps.assemble import begins_with_labels, compares
from archduel.apps.choice import best_first
from archduel.apps.folder import RunFolder, Stage
from archduel.apps.pace import LABEL, Pace
from archduel.apps.plan import Plan
from archduel.apps.progress import Progress, duration
from archduel.apps.settings import Settings
from archduel.apps.stopwatch import Stopwatch
from archduel.core import (
    Arch,
    Constraint,
    Estimate,
    Executor,
    Finalists,
    Query,
    Space,
    StepReport,
    Strategy,
    Told,
    sample,
    search,
)
from archduel.core.journal import estimate_record, record_estimate, record_query
from archduel.data import Dataset
from archduel.errors import RunError, StateError

__all__ = ["ORDINALS", "Pipeline"]

READING = {"likelihood": "likelihood ", "metric": ""}
ORDINALS = {"random": 100_000, "confirm": 200_000, "reevaluate": 300_000, "check": 400_000, "final": 900_000}
"""First ordinal of each stage's evaluations: an evaluation's seed depends on the run's seed and its ordinal only."""


class Pipeline:
    """Runs the stages of one search over a folder, an executor and a plan; every answer is journalled before it is used."""

    def __init__(
        self,
        folder: RunFolder,
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
        self._compares = compares(settings.strategy)
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
                window=2 * self.settings.workers,
                journal=Stage(self.folder, LABEL),
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

    def _best_so_far(self) -> str:
        scores = [score for _, score in self.arms.search if not math.isnan(score)]
        return f"best {READING[self.settings.rank_by]}{max(scores):.4f}" if scores else "all failed so far"

    def _keep_pace(self, done: int) -> None:
        if hasattr(self.strategy, "labels"):
            self.strategy.labels = self.pace.labels(done, self.strategy.labels)

    def _check_alive(self) -> None:
        """Raises RunError where no training, or only one, gave a score."""
        estimates = [self.paid[arch, LABEL] for arch, _ in self.arms.search]
        failed = [estimate for estimate in estimates if estimate.failed]
        if failed and len(estimates) - len(failed) < 2:
            raise RunError(f"{len(failed)} of {len(estimates)} trainings failed; the first said: {failed[0].reason}")

    # -- evaluations outside the strategy ------------------------------------------------------------------------------

    def evaluate(self, stage: str, archs: Sequence[Arch], fidelity: str) -> list[Estimate]:
        """Returns the estimates of ``archs``; those already paid for are not trained again."""
        section = Stage(self.folder, stage)
        done = sum(record["event"] == "estimate" for record in section.records)
        new = [arch for arch in dict.fromkeys(archs) if (arch, fidelity) not in self.paid]
        ordinals = [ORDINALS[stage] + done + i for i in range(len(new))]
        queries = [Query(arch, fidelity) for arch in new]
        self.progress.stage(stage, len(archs))
        for i, (query, ordinal, estimate) in enumerate(zip(queries, ordinals, self.executor.run(queries, ordinals)), 1):
            section.append(estimate_record(ordinal, query, estimate))
            self.paid[query.arch, fidelity] = estimate
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
        if begins_with_labels(self.settings.strategy):
            return self.arms.search[: int(getattr(self.strategy, "labels", self.plan.labels))]
        return self.arms.search[: int(getattr(self.strategy, "population", 0))]

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
        drawn: list[Arch] = []
        for _ in range(100 * n):
            if len(drawn) == n:
                break
            arch = sample(self.space, rng, self.constraint)
            if (mark := self.space.fingerprint(arch)) not in seen:
                seen.add(mark)
                drawn.append(arch)
        return drawn

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

"""The stages of a search that trains what it compares: label, compare, confirm, random search at equal cost, re-evaluate.

A stage is a function over a :class:`Context` that returns what it came to; :func:`select_by_training` puts them in order. Every
answer is in the journal before it is used, so that a stage that is run again takes what it had from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.assemble import declaration
from archduel.commands.progress import Progress, duration
from archduel.commands.search.pace import Pace
from archduel.commands.search.plan import LABEL, Plan
from archduel.commands.search.settings import Settings
from archduel.core import (
    Arch,
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
from archduel.core.ranks import lifted
from archduel.core.storage import record_estimate, record_query
from archduel.data import Dataset
from archduel.errors import InfeasibleError, RunError, StateError
from archduel.rankers.warm import Source

__all__ = [
    "ORDINALS", "Context", "Costs", "Reevaluation", "Scored", "Selection", "Stage", "best_first", "choose", "confirm", "core_seconds",
    "evaluate", "finalists", "label_and_compare", "new_random", "random_search", "reevaluate", "select_by_training", "shortlist", "trainings",
]  # fmt: skip

ORDINALS = {"random": 100_000, "confirm": 200_000, "reevaluate": 300_000, "check": 400_000, "final": 900_000}
"""First ordinal of each stage's evaluations; labels begin at 0."""
# An evaluation's seed depends on the run's seed and its ordinal only. The numbers are so far apart that no stage reaches the next one's,
# however long it gets, and a stage that grows leaves the seeds of the others as they are.

SCORE_NAMES = {"likelihood": "likelihood ", "metric": ""}
"""Setting ``rank_by`` -> what stands before a score that is printed; of a metric the number is enough."""

Scored = Sequence[tuple[Arch, float]]
"""Architectures with their scores, nan for a failed training, in the order in which they were paid for."""
Costs = Callable[[Sequence[Arch]], NDArray[Any]]
"""Returns (N, 2) parameters and multiply-adds."""


@dataclass(frozen=True)
class Context:
    """What every stage of a search works with.

    Attributes:
        job: the run's folder and journal.
        settings: what was asked for.
        plan: what fits into the budget.
        space: where is searched.
        dataset: the images.
        executor: trains.
        constraint: which architectures are allowed, None without limits.
        costs: of architectures at the size of the final networks.
        pace: what the clock decides.
        progress: tells people.
        sources: labels from elsewhere with which the ranker begins.
    """

    job: Job
    settings: Settings
    plan: Plan
    space: Space
    dataset: Dataset
    executor: Executor
    constraint: Constraint | None
    costs: Costs
    pace: Pace
    progress: Progress
    sources: Sequence[Source] = ()

    def time_left(self) -> str:
        """Returns the time left as text, empty without a time budget."""
        if self.settings.seconds is None:
            return ""
        return f", {duration(self.settings.seconds - self.job.clock)} left"


@dataclass(frozen=True)
class Stage:
    """What one stage evaluated, and at what cost.

    Attributes:
        scored: architectures with their cheap scores.
        seconds: stage -> core seconds; labelling and comparing are two stages of one loop.
        steps: metrics of the strategy's steps.
    """

    scored: Scored
    seconds: Mapping[str, float]
    steps: Sequence[Mapping[str, float]] = ()


@dataclass(frozen=True)
class Reevaluation:
    """Scores with more epochs, and the architecture that each shortlist leads to.

    Attributes:
        scores: of all shortlists together, empty if there was no time.
        winners: one a shortlist.
        seconds: stage -> core seconds.
    """

    scores: Mapping[Arch, float]
    winners: Sequence[Arch]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Selection:
    """What the search and random search at equal cost came to before the final training.

    Attributes:
        search: what the search paid for, with cheap scores.
        random: what random search paid for, evaluations that count for both included.
        shortlists: of the search and, with baselines, of random search, best first.
        reevaluated: scores of the shortlists with more epochs.
        winner: the search's choice.
        random_winner: random search's choice, None without baselines.
        seconds: stage -> core seconds, in the order of the stages.
        steps: metrics of the strategy's steps.
        shared_scores: scores with shared weights, of a one-shot search.
    """

    search: Scored
    random: Scored
    shortlists: Sequence[Sequence[Arch]]
    reevaluated: Mapping[Arch, float]
    winner: Arch
    random_winner: Arch | None
    seconds: Mapping[str, float]
    steps: Sequence[Mapping[str, float]]
    shared_scores: Mapping[Arch, float] = field(default_factory=dict)


def select_by_training(context: Context, strategy: Strategy) -> Selection:
    """Runs the stages in which architectures are chosen, each by trainings of its own."""
    settings = context.settings
    labels = label_and_compare(context, strategy)
    proposals = confirm(context, strategy, labels.scored)
    scored, stages = [*labels.scored, *proposals.scored], [labels, proposals]
    shortlists = [shortlist(context, scored, settings.size_belief)]
    random: Scored = []
    if settings.baselines:
        first = _random_evaluations(settings, strategy, scored)
        # a tenth more than it is owed by number: the comparator and the policy of the search cost something too
        extra = len(scored) - len(first) + max(1, context.plan.labels // 10)
        stages.append(random_search(context, first, paid=_total(stages), extra=extra))
        random = stages[-1].scored
        shortlists.append(shortlist(context, random, 0.0))
    return choose(context, scored, random, shortlists, stages)


def choose(
    context: Context,
    searched: Scored,
    random: Scored,
    shortlists: Sequence[Sequence[Arch]],
    stages: Sequence[Stage],
    shared_scores: Mapping[Arch, float] | None = None,
) -> Selection:
    """Re-evaluates the shortlists and returns all that is known before the final training.

    Args:
        searched: what the search paid for.
        random: what random search paid for.
        shortlists: the search's and, with baselines, random search's.
        stages: those before, in order.
        shared_scores: see :class:`Selection`.
    """
    reevaluation = reevaluate(context, shortlists)
    seconds = {name: value for stage in stages for name, value in stage.seconds.items()}
    return Selection(
        search=searched, random=random, shortlists=shortlists, reevaluated=reevaluation.scores, winner=reevaluation.winners[0],
        random_winner=reevaluation.winners[1] if context.settings.baselines else None, seconds={**seconds, **reevaluation.seconds},
        steps=[step for stage in stages for step in stage.steps], shared_scores=shared_scores or {},
    )  # fmt: skip


def _total(stages: Sequence[Stage]) -> float:
    return sum(seconds for stage in stages for seconds in stage.seconds.values())


# -- label and compare ---------------------------------------------------------------------------------------------------


def label_and_compare(context: Context, strategy: Strategy) -> Stage:
    """Trains what the strategy asks for with the cheap recipe and lets it compare.

    Raises:
        RunError: if trainings fail so that the strategy has nothing to compare.
    """
    says, plan, pace, progress = declaration(context.settings.strategy), context.plan, context.pace, context.progress
    evaluations: list[Told] = []
    steps: list[Mapping[str, float]] = []
    progress.stage("label", plan.labels if says.compares else plan.labels + plan.confirm)

    def on_told(evaluation: Told) -> None:
        """Shows how far the stage is; a strategy that begins with labels asks for fewer if they take too long."""
        evaluations.append(evaluation)
        done = evaluation.ordinal + 1
        progress.advance(done, f"{_best_so_far(context.settings, evaluations)}{context.time_left()}")
        if says.kind == "labels-first":
            labelling: Any = strategy  # whose kind has an attribute `labels`
            labelling.labels = pace.labels(done, labelling.labels)

    def on_step(report: StepReport) -> None:
        """Keeps what the strategy says of a step; the first one begins the stage in which it compares."""
        if says.compares and not steps:
            progress.stage("compare", plan.iterations)
        steps.append(dict(report.metrics))
        if says.compares:
            progress.advance(int(report.metrics.get("iteration", 0)), context.time_left().removeprefix(", "))

    try:
        result = search(
            strategy, context.executor, budget=pace.label_budget(), window=_window(context), journal=context.job.part(LABEL),
            on_told=on_told, on_step=on_step, enough=pace.enough_steps if says.compares else None,
        )  # fmt: skip
    except StateError as error:
        _check_alive(evaluations)
        raise RunError(f"the search cannot go on: {error}") from error
    _check_alive(evaluations)
    label, compare = (sum(part.cost.seconds for part in parts) for parts in ([e.estimate for e in evaluations], result.steps))
    scored = [(evaluation.query.arch, evaluation.estimate.score) for evaluation in evaluations]
    return Stage(scored, {"label": label, "compare": compare}, steps)


def _window(context: Context) -> int:
    """Returns how many labels are asked for at a time: twice as many as are trained side by side.

    Strategies that begin with labels ask for the same ones whatever the window; others would learn from fewer answers at each
    question if the window grew with the groups.
    """
    if context.settings.window is not None:
        return context.settings.window
    record = context.job.noted("fused") or {"at_once": 1}
    at_once = int(record["at_once"]) if declaration(context.settings.strategy).kind == "labels-first" else 1
    return 2 * context.settings.workers * at_once


def _best_so_far(settings: Settings, evaluations: Sequence[Told]) -> str:
    scores = [e.estimate.score for e in evaluations if not math.isnan(e.estimate.score)]
    return f"best {SCORE_NAMES[settings.rank_by]}{max(scores):.4f}" if scores else "all failed so far"


def _check_alive(evaluations: Sequence[Told]) -> None:
    """Raises RunError where no training, or only one, gave a score: one alone cannot be compared with anything."""
    failed = [e.estimate for e in evaluations if e.estimate.failed]
    if failed and len(evaluations) - len(failed) < 2:
        raise RunError(f"{len(failed)} of {len(evaluations)} trainings failed; the first said: {failed[0].reason}")


# -- evaluations outside the strategy --------------------------------------------------------------------------------------


def trainings(job: Job) -> dict[tuple[Arch, str | None], Estimate]:
    """Returns (architecture, fidelity) -> how its training went, of all trainings in the journal."""
    # strategies may ask for a label without a word about fidelity; it is the same training
    return {
        (record_query(r).arch, LABEL if r.get("stage") == LABEL else r["fidelity"]): record_estimate(r)
        for r in job.journal.records
        if r["event"] == "estimate"
    }


def core_seconds(job: Job, stage: str) -> float:
    """Returns what the trainings of a stage took on all workers together."""
    return sum(record["seconds"] for record in job.part(stage).records if record["event"] == "estimate")


def evaluate(context: Context, stage: str, archs: Sequence[Arch], fidelity: str) -> list[Estimate]:
    """Returns the estimates of ``archs``; those already paid for, in whatever stage, are not trained again."""
    job, progress = context.job, context.progress
    estimates = trainings(job)
    done = sum(record["event"] == "estimate" for record in job.part(stage).records)
    new = [arch for arch in dict.fromkeys(archs) if (arch, fidelity) not in estimates]
    ordinals = [ORDINALS[stage] + done + i for i in range(len(new))]
    queries = [Query(arch, fidelity) for arch in new]
    progress.stage(stage, len(archs))
    for i, (arch, estimate) in enumerate(zip(new, job.paid(context.executor.run, queries, ordinals, stage=stage)), 1):
        estimates[arch, fidelity] = estimate
        last = "last failed" if estimate.failed else f"last {estimate.score:.4f}"
        progress.advance(len(archs) - len(new) + i, f"{last}{context.time_left()}")
    return [estimates[arch, fidelity] for arch in archs]


def confirm(context: Context, strategy: Strategy, labelled: Scored) -> Stage:
    """Trains what the comparator proposes with the cheap recipe too; other strategies have asked for it already."""
    plan = context.plan
    compares = declaration(context.settings.strategy).compares
    left = min(plan.confirm, plan.labels + plan.confirm - len(labelled)) if compares else 0
    known = {arch for arch, _ in labelled}
    new = [arch for arch in finalists(strategy, left + len(labelled)) if arch not in known][:left]
    scored = [(arch, estimate.score) for arch, estimate in zip(new, evaluate(context, "confirm", new, LABEL))]
    return Stage(scored, {"confirm": core_seconds(context.job, "confirm")})


def finalists(strategy: Strategy, n: int) -> list[Arch]:
    """Returns the ``n`` architectures that a strategy thinks best, or its best alone if it names no others."""
    return strategy.finalists(n) if isinstance(strategy, Finalists) else [strategy.best()]


# -- random search at equal cost -------------------------------------------------------------------------------------------


def random_search(context: Context, first: Scored, *, paid: float, extra: int) -> Stage:
    """Trains random architectures until random search has cost as much as the search.

    Args:
        first: random architectures that are trained already and count for both.
        paid: core seconds of the search.
        extra: trainings beyond ``first`` where the budget is a number of evaluations.
    """
    archs = [arch for arch, _ in first]
    estimates = trainings(context.job)
    owed = paid - sum(estimates[arch, LABEL].cost.seconds for arch in archs)
    number = context.pace.random_labels(owed, lambda: _seconds_per_label(context.job), extra)
    new = new_random(context.space, context.constraint, np.random.default_rng([context.settings.seed, 77]), archs, number)
    scored = [(arch, estimate.score) for arch, estimate in zip(new, evaluate(context, "random", new, LABEL))]
    return Stage([*first, *scored], {"random": core_seconds(context.job, "random")})


def _seconds_per_label(job: Job) -> float:
    """Returns what a training with the cheap recipe took on average, whichever stage paid for it."""
    return float(np.mean([e.cost.seconds for (_, fidelity), e in trainings(job).items() if fidelity == LABEL and not e.failed]))


def _random_evaluations(settings: Settings, strategy: Strategy, scored: Scored) -> Scored:
    """Returns the search's first evaluations, those of random architectures, which count for random search too."""
    if declaration(settings.strategy).kind == "labels-first":
        labelling: Any = strategy  # whose kind has an attribute `labels`
        return scored[: int(labelling.labels)]
    return scored[: strategy.random_first if isinstance(strategy, RandomFirst) else 0]


def new_random(
    space: Space, constraint: Constraint | None, rng: np.random.Generator, known: Sequence[Arch], n: int
) -> list[Arch]:
    """Returns ``n`` random architectures that are functionally different from ``known``, fewer if the space has no more."""
    try:
        return sample_distinct(space, n, rng, constraint=constraint, exclude={space.fingerprint(arch) for arch in known})
    except InfeasibleError as error:
        return list(error.archs)


# -- re-evaluate -------------------------------------------------------------------------------------------------------------


def reevaluate(context: Context, shortlists: Sequence[Sequence[Arch]]) -> Reevaluation:
    """Trains the few best of search and random search with more epochs and fixes the choice of each by validation.

    Raises:
        RunError: if every training of a shortlist failed.
    """
    candidates = list(dict.fromkeys(arch for archs in shortlists for arch in archs))
    fidelity = context.pace.reevaluation(len(candidates), lambda: _seconds_per_label(context.job))
    if fidelity is None:
        context.progress.say("no time to re-evaluate: each arm's choice is its best by the cheap recipe")
        return Reevaluation({}, [archs[0] for archs in shortlists], {})
    scores = {arch: e.score for arch, e in zip(candidates, evaluate(context, "reevaluate", candidates, fidelity))}
    # The belief is the search's own; random search takes scores as they are. These trainings are short of the final ones too, so size
    # counts as it does in labels.
    beliefs = (context.settings.size_belief, 0.0)
    winners = []
    for archs, belief in zip(shortlists, beliefs):
        ranked = best_first(context.space, [(arch, scores[arch]) for arch in archs], context.costs, belief=belief)
        if not ranked:
            raise RunError("every re-evaluation failed; see the reasons in journal.jsonl")
        winners.append(ranked[0])
    return Reevaluation(scores, winners, {"reevaluate": core_seconds(context.job, "reevaluate")})


def shortlist(context: Context, scored: Scored, belief: float) -> list[Arch]:
    """Returns the best by cheap score, one of each functional class, as many as the plan re-evaluates."""
    return best_first(context.space, scored, context.costs, belief=belief)[: context.plan.shortlist]


def best_first(space: Space, scored: Scored, costs: Costs, *, belief: float = 0.0) -> list[Arch]:
    """Returns the architectures with a score, best first, one of each functional class; of equal ones the earlier leads.

    Args:
        space: tells which architectures are the same.
        scored: nan for a failed training.
        costs: of the multiply-adds.
        belief: how much larger networks are believed to gain from longer training (see :func:`lifted`).
    """
    alive = [(arch, score) for arch, score in scored if not math.isnan(score)]
    if not alive:
        return []
    archs, scores = [arch for arch, _ in alive], [score for _, score in alive]
    mixed = lifted(scores, costs(archs)[:, 1], belief) if belief else np.array(scores)
    order = np.argsort(-mixed, kind="stable").tolist()
    # reversed twice: a later key replaces an earlier value, and of one class the best is to stand
    return list({space.fingerprint(archs[i]): archs[i] for i in reversed(order)}.values())[::-1]

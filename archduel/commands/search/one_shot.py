"""A search with shared weights: a one-shot stage, a check of what its scores are worth, then the stages of every search."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from archduel.assemble import declaration, settings_of
from archduel.commands.progress import duration
from archduel.commands.search.plan import LABEL
from archduel.commands.search.stages import (
    Context,
    Scored,
    Selection,
    Stage,
    choose,
    core_seconds,
    evaluate,
    finalists,
    new_random,
    random_search,
    shortlist,
)
from archduel.commands.search.strategy import make_strategy
from archduel.core import Allowance, Arch, Budget, Prices, Query, Space, StepReport, Strategy, sample, search
from archduel.core.job import Job
from archduel.core.storage import if_whole, load_state, save_state
from archduel.errors import RunError, SettingError
from archduel.estimators.judges import scale_of
from archduel.estimators.shared import SharedWeights
from archduel.recipes import read
from archduel.spaces.family import options_of, supernet
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe
from archduel.training.runtime import keep_freed_memory, mix_seed

__all__ = [
    "CHECKED", "OneShot", "OneShotPlan", "check_space", "counted_prices", "fitted", "prepare", "select_by_shared_weights", "supernet_options",
    "supernet_recipe",
]  # fmt: skip

# -- How a one-shot strategy spends its share of a run: epochs, batches and population that fit -------------------------


def counted_prices(strategy: str, given: Mapping[str, Any], *, n_validation: int, n_options: int) -> Prices:
    """Returns prices in training batches that depend on numbers alone, for runs that repeat exactly.

    Args:
        strategy: whose work.
        given: settings of the user (``order`` of ``darts``: its second-order gradient takes three more passes).
        n_validation: batches of the validation images.
        n_options: operations of an edge.
    """
    return Prices(1.0, 0.6, 0.35 * (8 + n_validation), declaration(strategy).mixing(given, n_options))


@dataclass(frozen=True)
class OneShotPlan:
    """The numbers of a one-shot stage.

    Attributes:
        settings: of the strategy, chosen to fit.
        recipe: how the shared weights are trained; ``epochs`` is the length of the schedule in passes.
        batches: training batches that are learned from in all, roughly.
    """

    settings: dict[str, Any]
    recipe: Recipe
    batches: int

    def to_json(self) -> dict[str, Any]:
        """Returns the plan as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> OneShotPlan:
        """Returns the plan that :meth:`to_json` wrote."""
        return cls(**{**{f.name: value[f.name] for f in fields(cls)}, "recipe": Recipe(**value["recipe"])})


def supernet_recipe(cheap: Recipe, strategy: str, changes: Mapping[str, Any], space: str = "darts") -> Recipe:
    """Returns how shared weights are trained: as the cheap recipe, with the settings that suit one-shot training.

    Args:
        cheap: the recipe of the run's cheap trainings.
        strategy: whose schedule is followed (CNAS's learning rate is constant).
        changes: settings of the user; ``recipe`` is one to start from, by name or file, such as ``bpe1``.
        space: of the networks.

    Raises:
        UnknownNameError: for a recipe that there is not.
        SettingError: for a setting that recipes do not have.
    """
    changes = dict(changes)
    start = cheap.with_(lr=cheap.lr / 2)
    if name := changes.pop("recipe", None):
        start = read(name, space)
        start = start.with_(image_size=min(cheap.image_size, start.image_size))
    start = start.with_(
        data_fraction=1.0, label_smoothing=0.0, warmup_epochs=0.0, drop_path=0.0, auxiliary_weight=0.0, mixup=0.0, ema=0.0,
        schedule=declaration(strategy).schedule, flip=cheap.flip,
    )  # fmt: skip
    known = {f.name for f in fields(Recipe)}
    if wrong := sorted(set(changes) - known):
        raise SettingError(f"--set supernet.{wrong[0]}: a recipe has no such setting; it has recipe, {', '.join(sorted(known))}")
    return start.with_(**changes)


OF_THE_WEIGHTS = ("running_races",)
"""Settings below ``supernet`` that are neither the recipe's nor the supernet's but of how shared weights are judged."""


def _of_the_weights(given: Mapping[str, Any]) -> dict[str, bool]:
    """Returns those settings.

    Raises:
        SettingError: for a value that is neither true nor false.
    """
    chosen = {name: given[name] for name in OF_THE_WEIGHTS if name in given}
    for name, value in chosen.items():
        if not isinstance(value, bool):
            raise SettingError(f"--set supernet.{name}={value}: expected true or false")
    return chosen


def supernet_options(space: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of the user's settings that are options of the supernet itself, such as ``residual`` of ``nasbench201``.

    Raises:
        SettingError: for a value of another type than the default's.
    """
    defaults = options_of(space)
    chosen = {name: value for name, value in given.items() if name in defaults}
    for name, value in chosen.items():
        wanted = (int, float) if isinstance(defaults[name], float) else type(defaults[name])
        if not isinstance(value, wanted) or isinstance(value, bool) != isinstance(defaults[name], bool):
            raise SettingError(f"--set supernet.{name}={value}: expected a value like {str(defaults[name]).lower()}")
    return chosen


def fitted(
    strategy: str, space: Space, allowed: float, prices: Prices, n: int, recipe: Recipe, given: Mapping[str, Any]
) -> OneShotPlan:
    """Returns the numbers with which ``strategy`` costs about ``allowed``; settings in ``given`` stay as they are.

    Args:
        strategy: a one-shot strategy.
        space: where it searches.
        allowed: what it may cost, in the unit of ``prices``.
        prices: of its work.
        n: batches of a pass over the training images.
        recipe: of the shared weights.
        given: settings of the user.
    """
    says, known = declaration(strategy), settings_of("strategy", strategy)
    allowance = Allowance(work=allowed, batches=n, space=space, given=given)
    settings = {**says.settings(allowance, prices), **given}
    batches = allowed / prices.learn if says.learns is None else says.learns({**known, **settings}, allowance)
    return OneShotPlan(settings, recipe.with_(epochs=max(1, int(batches)) / n), max(1, int(batches)))


SHARE = 0.40
"""Of the time: the one-shot stage and random search at equal cost together."""
CHECKED = 8
"""Random architectures that are always trained alone, to see how shared weights rank them."""
FINALISTS = 8
"""Of the strategy, scored with the final shared weights; there may be more if more are re-evaluated."""
CHECKPOINT_SECONDS = 20.0
"""Between two states on disk: as much work a kill loses at most, and writing one takes a small part of it."""
MARGIN = 1.15
"""Times what was measured: a stage that ends a little early is better than one that takes the time of those after it."""


def check_space(space: str) -> None:
    """Raises UnknownNameError for a space that has no supernet."""
    options_of(space)


@dataclass(frozen=True)
class OneShot:
    """What a search with shared weights works with beside its context.

    Attributes:
        plan: the numbers of the one-shot stage.
        shared: the weights, untrained when the stage begins.
        strategy: learns and asks with them.
    """

    plan: OneShotPlan
    shared: SharedWeights
    strategy: Strategy


def prepare(context: Context) -> OneShot:
    """Returns untrained weights and a strategy with the numbers of the plan, which is made if there is none yet."""
    plan = _planned(context)
    shared = _weights(context, plan.recipe)
    return OneShot(plan, shared, _strategy(context, shared, plan.settings))


def select_by_shared_weights(context: Context, one_shot: OneShot) -> Selection:
    """Runs the stages in which architectures are chosen, the search's by scores with shared weights."""
    settings, shared = context.settings, one_shot.shared
    search_stage, check = search_with_shared_weights(context, one_shot), train_check(context)
    stages = [search_stage, check]
    # the strategy's own order: a belief about size chose no better among scores with shared weights
    shortlists = [[arch for arch, score in search_stage.scored if not math.isnan(score)][: context.plan.shortlist]]
    random = check.scored
    if settings.baselines:
        # the shared weights learned from as many images as so many trainings
        extra = max(0, (settings.evaluations or 0) - len(random))
        stages.append(random_search(context, random, paid=sum(search_stage.seconds.values()), extra=extra))
        random = stages[-1].scored
        shortlists.append(shortlist(context, random, 0.0))
    scores = [*search_stage.scored, *shared_scores(context, shared, "random", [arch for arch, _ in random])]
    known = {arch: score for arch, score in scores if not math.isnan(score)}
    return choose(context, search_stage.scored, random, shortlists, stages, known)


def _strategy(context: Context, shared: SharedWeights, numbers: Mapping[str, Any]) -> Strategy:
    return make_strategy(
        context.settings, context.plan, context.space, context.constraint, costs=context.costs, shared=shared, numbers=numbers
    )


def _weights(context: Context, recipe: Recipe) -> SharedWeights:
    """Returns untrained shared weights."""
    keep_freed_memory()
    data, settings, space = context.dataset, context.settings, context.space.name
    mean, std = data.preprocessing.mean, data.preprocessing.std
    splits = data.train, data.validation
    train, validation = (Pixels(part.images, part.labels, mean, std, device=settings.device) for part in splits)
    generator = torch.Generator().manual_seed(mix_seed(settings.seed, "supernet"))
    options = supernet_options(space, settings.section("supernet"))
    network = supernet(space, scale_of(recipe, data), generator=generator, shallow=context.plan.shallow(space), **options)
    return SharedWeights(
        network, train, validation, recipe, n_classes=data.n_classes, seed=mix_seed(settings.seed, "shared"),
        metric=settings.metric, device=settings.device, **_of_the_weights(settings.section("supernet")),
    )  # fmt: skip


# -- the plan --------------------------------------------------------------------------------------------------------------


def _planned(context: Context) -> OneShotPlan:
    """Returns the numbers of the one-shot stage, decided once and written down."""
    decided = context.job.noted("one-shot plan")
    if decided is not None:
        return OneShotPlan.from_json(decided["plan"])
    settings, label, space = context.settings, context.plan.label, context.space
    given, changes = settings.section("strategy"), settings.section("supernet")
    options = supernet_options(space.name, changes)
    recipe = supernet_recipe(label, settings.strategy, {k: v for k, v in changes.items() if k not in options and k not in OF_THE_WEIGHTS}, settings.space)
    shared = _weights(context, recipe)
    n = shared.n_batches("train")
    if settings.seconds is None:
        assert settings.evaluations is not None
        sizes = {"n_validation": shared.n_batches("validation"), "n_options": max(space.kinds.values())}
        prices = counted_prices(settings.strategy, given, **sizes)
        allowed = settings.evaluations * label.epochs * label.data_fraction * n
    else:
        prices = _measured(context, shared)
        allowed = settings.seconds * SHARE / (1 + settings.baselines / settings.workers)
    plan = fitted(settings.strategy, space, allowed, prices, n, recipe, given)
    context.job.note("one-shot plan", plan=plan.to_json())
    listed = ", ".join(f"{key}={value}" for key, value in plan.settings.items())
    context.progress.say(f"  one-shot   {settings.strategy} with {listed}: about {plan.batches / n:.1f} passes over the training images")
    return plan


def _measured(context: Context, shared: SharedWeights) -> Prices:
    """Returns prices in seconds, each measured a little and taken :data:`MARGIN` times."""
    rng = np.random.default_rng(4)
    archs = [sample(context.space, rng) for _ in range(6)]
    # the first batches are slower than all others and are not measured
    shared.learn(archs[:2], 2)
    learn = _seconds(lambda: shared.learn(archs, 6)) / 6
    score = _seconds(lambda: shared.estimate([Query(arch) for arch in archs[:2]])) / 2
    reward = mix = learn
    if (probe := declaration(context.settings.strategy).probe) is not None:
        strategy = _strategy(context, shared, probe.settings)
        strategy.step()
        each = _seconds(strategy.step) / probe.batches
        reward, mix = (max(0.1 * learn, each - learn), mix) if probe.price == "reward" else (reward, each)
    return Prices(*(MARGIN * price for price in (learn, reward, score, mix)))


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# -- the one-shot stage ------------------------------------------------------------------------------------------------------


class Steps:
    """The steps of a one-shot stage: each is noted, and the state they lead to is saved every now and then.

    A stage that was stopped goes on from the last saved state; steps behind it are made again and noted once.

    Args:
        job: the run's folder and journal.
        strategy: makes the steps.
        say: is told of a damaged state.
    """

    def __init__(self, job: Job, strategy: Strategy, say: Callable[[str], None] = lambda text: None) -> None:
        self.job, self.strategy = job, strategy
        self.metrics: list[Mapping[str, float]] = [r["metrics"] for r in job.journal.records if r["event"] == "one-shot step"]
        self.number, self.seconds = 0, 0.0
        path = self._path("one-shot")
        state = if_whole(path, load_state, say)  # a damaged one is made again from the beginning
        if state is not None:
            strategy.load_state_dict(state["strategy"])
            self.number, self.seconds = state["steps"], state["seconds"]
        self._saved = time.monotonic()

    def add(self, report: StepReport) -> None:
        """Counts a step, and saves the state if it is time to."""
        self.number += 1
        self.seconds += report.cost.seconds
        if self.number > len(self.metrics):
            self.metrics.append(dict(report.metrics))
            self.note(report)
        if time.monotonic() - self._saved > CHECKPOINT_SECONDS:
            self.save()
            self._saved = time.monotonic()
        # a curriculum's stages are kept, to look at or to go on from
        if report.metrics.get("stage_done"):
            self.save(f"one-shot-stage{report.metrics['stage']:.0f}")

    def note(self, report: StepReport) -> None:
        """Writes a step to the journal."""
        self.job.note(
            "one-shot step", number=self.number, metrics=dict(report.metrics), leader=str(self.strategy.best()),
            seconds=round(report.cost.seconds, 4), images=report.cost.images,
        )  # fmt: skip

    def save(self, name: str = "one-shot") -> None:
        """Writes the state of strategy and shared weights to the run's checkpoints."""
        path = self._path(name)
        path.parent.mkdir(exist_ok=True)
        save_state(path, {"strategy": self.strategy.state_dict(), "steps": self.number, "seconds": self.seconds})

    def _path(self, name: str) -> Path:
        return self.job.path / "checkpoints" / f"{name}.safetensors"

    def to_go(self, report: StepReport) -> str:
        """Returns how long the stage goes on as text, empty while that is not known."""
        done = report.metrics.get("done", 0.0)
        return f", {duration(self.seconds * (1 - done) / done)} to go" if 0 < done < 1 else ""


def search_with_shared_weights(context: Context, one_shot: OneShot) -> Stage:
    """Runs the strategy on the shared weights; its finalists, scored by them, are what the stage evaluated.

    Raises:
        RunError: if the weights give no finite score.
    """
    progress, strategy = context.progress, one_shot.strategy
    steps = Steps(context.job, strategy, context.progress.say)
    progress.stage("one-shot", 100)

    def on_step(report: StepReport) -> None:
        """Keeps a step and shows how far the stage is."""
        steps.add(report)
        progress.advance(int(100 * report.metrics.get("done", 0.0)), f"{_in_short(report.metrics)}{steps.to_go(report)}")

    began = steps.number
    search(
        strategy, context.executor, budget=Budget(), window=2 * context.settings.workers, journal=context.job.part("verify"),
        on_step=on_step,
    )  # fmt: skip
    if steps.number > began:
        steps.save()
    if steps.metrics and steps.metrics[-1].get("constant"):
        progress.say("  the cell that was derived answers the same whatever it sees; the first of noisier mixtures that does not takes its place")
    if steps.metrics and steps.metrics[-1].get("guesses"):
        progress.say("  the cell that was derived scores no better than a guess with the shared weights; candidates that do better come before it")
    best = finalists(strategy, max(context.plan.shortlist, FINALISTS))
    scored = shared_scores(context, one_shot.shared, "finalists", best)
    if all(math.isnan(score) for _, score in scored):
        raise RunError("the shared weights give no finite scores any more; give a lower learning rate: --set supernet.lr=0.01")
    return Stage(scored, {"one-shot": steps.seconds}, steps.metrics)


def shared_scores(context: Context, shared: SharedWeights, what: str, archs: Sequence[Arch]) -> Scored:
    """Returns ``archs`` with what the shared weights say about them; nan for a failure. Asked once and written down."""

    def ask() -> dict[str, Any]:
        """Returns the record; JSON has no nan."""
        estimates = shared.estimate([Query(arch) for arch in archs])
        return {"scores": {str(arch): None if e.failed else e.score for arch, e in zip(archs, estimates)}}

    scores = context.job.once("inherited scores", ask, what=what)["scores"]
    return [(arch, math.nan if scores[str(arch)] is None else scores[str(arch)]) for arch in archs]


def train_check(context: Context) -> Stage:
    """Trains a handful of random architectures alone: random search begins with them, and they check the shared weights.

    Raises:
        RunError: if every training failed.
    """
    settings = context.settings
    n = CHECKED if settings.seconds else min(CHECKED, settings.evaluations or CHECKED)
    archs = new_random(context.space, context.constraint, np.random.default_rng([settings.seed, 78]), [], n)
    estimates = evaluate(context, "check", archs, LABEL)
    if all(estimate.failed for estimate in estimates):
        raise RunError(f"every training of the check failed; the first said: {estimates[0].reason}")
    scored = [(arch, estimate.score) for arch, estimate in zip(archs, estimates)]
    return Stage(scored, {"check": core_seconds(context.job, "check")})


def _in_short(metrics: Mapping[str, float]) -> str:
    """Returns the numbers of a step that say something while one waits."""
    shown = [name for name in ("stage", "epoch", "generation", "iteration", "reward", "loss", "score") if name in metrics]
    return ", ".join(f"{name} {metrics[name]:.4g}" for name in shown)

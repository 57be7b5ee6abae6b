"""The main job with shared weights: a one-shot stage, a check of what its scores are worth, then the stages of every run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch

from archduel.assemble import declaration, settings_of
from archduel.commands.progress import duration
from archduel.commands.search.stages import LABEL, Pipeline
from archduel.commands.search.strategy import make_strategy
from archduel.core import Allowance, Arch, Budget, Prices, Query, Space, StepReport, Strategy, sample, search
from archduel.core.storage import load_state, save_state
from archduel.errors import RunError, SettingError
from archduel.estimators.judges import scale_of
from archduel.estimators.shared import SharedWeights
from archduel.recipes import read
from archduel.spaces.family import options_of, supernet
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe
from archduel.training.runtime import keep_freed_memory, mix_seed

__all__ = ["CHECKED", "OneShotPipeline", "OneShotPlan", "check_space", "counted_prices", "fitted", "supernet_options", "supernet_recipe"]

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
CHECKPOINT_SECONDS = 20.0


def check_space(space: str) -> None:
    """Raises UnknownNameError for a space that has no supernet."""
    options_of(space)


class OneShotPipeline(Pipeline):
    """The stages of a run whose strategy scores architectures with shared weights."""

    def _make_strategy(self) -> Strategy:
        self.one_shot = self._planned()
        self.shared = self._weights(self.one_shot.recipe)
        self.steps_made, self.step_seconds = 0, 0.0
        return self._strategy(self.shared, self.one_shot.settings)

    def _strategy(self, shared: SharedWeights, numbers: Mapping[str, Any]) -> Strategy:
        return make_strategy(
            self.settings, self.plan, self.space, self.constraint, costs=self._costs, shared=shared, numbers=numbers
        )

    def _weights(self, recipe: Recipe) -> SharedWeights:
        """Returns untrained shared weights."""
        keep_freed_memory()
        data, seed = self.dataset, self.settings.seed
        mean, std = data.preprocessing.mean, data.preprocessing.std
        splits = data.train, data.validation
        train, validation = (Pixels(part.images, part.labels, mean, std, device=self.settings.device) for part in splits)
        generator = torch.Generator().manual_seed(mix_seed(seed, "supernet"))
        options = supernet_options(self.space.name, self.settings.section("supernet"))
        network = supernet(self.space.name, scale_of(recipe, data), generator=generator, **options)
        return SharedWeights(
            network, train, validation, recipe, n_classes=data.n_classes, seed=mix_seed(seed, "shared"),
            metric=self.settings.metric, device=self.settings.device,
        )  # fmt: skip

    # -- the plan ------------------------------------------------------------------------------------------------------

    def _planned(self) -> OneShotPlan:
        """Returns the numbers of the one-shot stage, decided once and written down."""
        noted = self.folder.noted("one-shot plan")
        if noted is not None:
            return OneShotPlan.from_json(noted["plan"])
        settings, given = self.settings, self.settings.section("strategy")
        changes = settings.section("supernet")
        options = supernet_options(self.space.name, changes)
        recipe = supernet_recipe(self.plan.label, settings.strategy, {k: v for k, v in changes.items() if k not in options}, settings.space)
        shared = self._weights(recipe)
        n = shared.n_batches("train")
        if settings.seconds is None:
            assert settings.evaluations is not None
            sizes = {"n_validation": shared.n_batches("validation"), "n_options": max(self.space.kinds.values())}
            prices = counted_prices(settings.strategy, given, **sizes)
            allowed = settings.evaluations * self.plan.label.epochs * self.plan.label.data_fraction * n
        else:
            prices = self._measured(shared)
            allowed = settings.seconds * SHARE / (1 + settings.baselines / settings.workers)
        plan = fitted(settings.strategy, self.space, allowed, prices, n, recipe, given)
        self.folder.note("one-shot plan", plan=plan.to_json())
        passes = plan.batches / n
        self.progress.say(f"  one-shot   {settings.strategy} with {_listed(plan.settings)}: about {passes:.1f} passes over the training images")
        return plan

    def _measured(self, shared: SharedWeights) -> Prices:
        """Returns prices in seconds, each measured a little and taken 1.15 times."""
        rng = np.random.default_rng(4)
        archs = [sample(self.space, rng) for _ in range(6)]
        shared.learn(archs[:2], 2)
        learn = _seconds(lambda: shared.learn(archs, 6)) / 6
        score = _seconds(lambda: shared.estimate([Query(arch) for arch in archs[:2]])) / 2
        reward = mix = learn
        if (probe := declaration(self.settings.strategy).probe) is not None:
            strategy = self._strategy(shared, probe.settings)
            strategy.step()
            each = _seconds(strategy.step) / probe.batches
            reward, mix = (max(0.1 * learn, each - learn), mix) if probe.price == "reward" else (reward, each)
        return Prices(*(1.15 * price for price in (learn, reward, score, mix)))

    # -- the one-shot stage --------------------------------------------------------------------------------------------

    def label_and_compare(self) -> None:
        """Runs the strategy on the shared weights, with checkpoints; its finalists go on to the re-evaluation."""
        steps: list[Mapping[str, float]] = [r["metrics"] for r in self._step_records()]
        self._resume()
        self.progress.stage("one-shot", 100)
        saved = time.monotonic()

        def on_step(report: StepReport) -> None:
            """Notes a step and saves the shared weights every now and then."""
            nonlocal saved
            self.steps_made += 1
            self.step_seconds += report.cost.seconds
            if self.steps_made > len(steps):  # after a kill, steps since the last checkpoint are made again
                steps.append(dict(report.metrics))
                self._note_step(report)
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._save()
                saved = time.monotonic()
            if report.metrics.get("stage_done"):  # a curriculum's stages are kept, to look at or to go on from
                self._save(f"one-shot-stage{report.metrics['stage']:.0f}")
            self.progress.advance(int(100 * report.metrics.get("done", 0.0)), f"{_told(report.metrics)}{self._left(report)}")

        began = self.steps_made
        search(
            self.strategy, self.executor, budget=Budget(), window=2 * self.settings.workers,
            journal=self.folder.part("verify"), on_step=on_step,
        )  # fmt: skip
        if self.steps_made > began:
            self._save()
        self.arms.seconds["one-shot"] = self.step_seconds
        self.arms.notes["steps"] = steps
        finalists = self._proposals(max(self.plan.shortlist, FINALISTS))
        self.arms.search = list(zip(finalists, self._inherited("finalists", finalists)))
        if all(math.isnan(score) for _, score in self.arms.search):
            raise RunError("the shared weights give no finite scores any more; give a lower learning rate: --set supernet.lr=0.01")

    def _step_records(self) -> list[dict[str, Any]]:
        return [record for record in self.folder.journal.records if record["event"] == "one-shot step"]

    def _note_step(self, report: StepReport) -> None:
        self.folder.note(
            "one-shot step", number=self.steps_made, metrics=dict(report.metrics), leader=str(self.strategy.best()),
            seconds=round(report.cost.seconds, 4), images=report.cost.images,
        )  # fmt: skip

    def _left(self, report: StepReport) -> str:
        """Returns how long the stage goes on."""
        done = report.metrics.get("done", 0.0)
        return f", {duration(self.step_seconds * (1 - done) / done)} to go" if 0 < done < 1 else ""

    def _save(self, name: str = "one-shot") -> None:
        state = {"strategy": self.strategy.state_dict(), "steps": self.steps_made, "seconds": self.step_seconds}
        path = self.folder.path / "checkpoints" / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_state(path, state)

    def _resume(self) -> None:
        path = self.folder.path / "checkpoints" / "one-shot.safetensors"
        if path.is_file():
            state = load_state(path)
            self.strategy.load_state_dict(state["strategy"])
            self.steps_made, self.step_seconds = state["steps"], state["seconds"]

    def _inherited(self, what: str, archs: Sequence[Arch]) -> list[float]:
        """Returns what the shared weights say about ``archs``; nan for a failure. Asked once and written down."""
        noted = self.folder.noted("inherited scores", what=what)
        if noted is None:
            estimates = self.shared.estimate([Query(arch) for arch in archs])
            scores = {str(a): None if e.failed else e.score for a, e in zip(archs, estimates)}
            noted = self.folder.note("inherited scores", what=what, scores=scores)
        found = [noted["scores"][str(arch)] for arch in archs]
        self.arms.notes.setdefault("inherited", {}).update(
            {arch: score for arch, score in zip(archs, found) if score is not None}
        )
        return [math.nan if score is None else score for score in found]

    # -- what the scores are worth -------------------------------------------------------------------------------------

    def confirm(self) -> None:
        """Trains a handful of random architectures alone: random search begins with them, and they check the shared weights."""
        n = CHECKED if self.settings.seconds else min(CHECKED, self.settings.evaluations or CHECKED)
        archs = self._draws(np.random.default_rng([self.settings.seed, 78]), set(), n)
        estimates = self.evaluate("check", archs, LABEL)
        if all(estimate.failed for estimate in estimates):
            raise RunError(f"every training of the check failed; the first said: {estimates[0].reason}")
        self.checked = [(arch, estimate.score) for arch, estimate in zip(archs, estimates)]
        if not self.settings.baselines:
            self._inherited("random", archs)
            self.arms.random = self.checked

    def random_arm(self) -> None:
        """Random search at equal cost; the shared weights then score its architectures too."""
        super().random_arm()
        if self.settings.baselines:
            self._inherited("random", [arch for arch, _ in self.arms.random])

    def _random_evaluations(self) -> list[tuple[Arch, float]]:
        return list(self.checked)

    def _n_extra(self, owed_seconds: float) -> int:
        if self.settings.seconds is not None or self.folder.noted("random arm") is not None:
            return super()._n_extra(max(owed_seconds, 1e-9))
        assert self.settings.evaluations is not None  # the shared weights learned from as many images as so many trainings
        number = max(0, self.settings.evaluations - len(self.checked))
        self.folder.note("random arm", labels=number, owed_seconds=round(owed_seconds, 2))
        return number

    def _shortlist(self, scored: Sequence[tuple[Arch, float]], belief: float) -> list[Arch]:
        """Returns the strategy's own order for its finalists (a belief about size chose no better), otherwise the best by score."""
        if scored is self.arms.search:
            return [arch for arch, score in scored if not math.isnan(score)][: self.plan.shortlist]
        return super()._shortlist(scored, belief)


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items())


def _told(metrics: Mapping[str, float]) -> str:
    """Returns the numbers of a step that say something while one waits."""
    shown = [name for name in ("stage", "epoch", "generation", "iteration", "reward", "loss", "score") if name in metrics]
    return ", ".join(f"{name} {metrics[name]:.4g}" for name in shown)

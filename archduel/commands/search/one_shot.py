"""The main job with shared weights: a one-shot stage, a check of what its scores are worth, then the stages of every run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from archduel.assemble import settings_of
from archduel.commands.progress import duration
from archduel.commands.search.stages import LABEL, Pipeline
from archduel.commands.search.strategy import make_strategy
from archduel.core import Arch, Budget, Query, Space, StepReport, Strategy, sample, search
from archduel.core.storage import load_state, save_state
from archduel.errors import RunError, SettingError
from archduel.estimators.judges import scale_of
from archduel.estimators.shared import SharedWeights
from archduel.recipes import read
from archduel.spaces.family import options_of, supernet
from archduel.strategies.cnas import growing_options, node_stages
from archduel.strategies.one_shot import group_size
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe
from archduel.training.runtime import keep_freed_memory, mix_seed

__all__ = ["CHECKED", "OneShotPipeline", "OneShotPlan", "Prices", "check_space", "fitted", "supernet_options", "supernet_recipe"]

# -- How a one-shot strategy spends its share of a run: epochs, batches and population that fit -------------------------


PAPER_UPDATES = {"cnas": 100_000, "darts": 19_500, "gdas": 97_500}
"""Updates of the policy or of alpha in the papers' CIFAR-10 searches; with fewer of them here each may go further."""
FARTHEST = {"cnas": 3e-3, "darts": 0.1, "gdas": 0.1}
"""Largest learning rate that this may lead to."""


@dataclass(frozen=True)
class Prices:
    """What one-shot work costs, all in one unit (seconds, or training batches).

    Attributes:
        learn: a batch that one architecture learns from.
        reward: a score on one validation batch, and a share of a policy update.
        score: a score on all validation images with recalibrated batch norm.
        mix: a batch of a differentiable strategy, both gradients.
    """

    learn: float
    reward: float
    score: float
    mix: float

    @classmethod
    def counted(cls, strategy: str, given: Mapping[str, Any], *, n_validation: int, n_options: int) -> Prices:
        """Returns prices in training batches that depend on numbers alone, for runs that repeat exactly.

        Args:
            strategy: whose work; ``gdas`` runs one operation an edge, ``darts`` all of them.
            given: settings of the user (``order`` of ``darts``: its second-order gradient takes three more passes).
            n_validation: batches of the validation images.
            n_options: operations of an edge.
        """
        passes = 5 if strategy == "darts" and given.get("order", 2) == 2 else 2
        running = 1 if strategy == "gdas" else n_options
        return cls(1.0, 0.6, 0.35 * (8 + n_validation), max(1.0, 0.5 * running) * passes)


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
        strategy: whose paper is followed (CNAS's learning rate is constant).
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
    schedule = "constant" if strategy == "cnas" else "cosine"
    start = start.with_(
        data_fraction=1.0, label_smoothing=0.0, warmup_epochs=0.0, drop_path=0.0, auxiliary_weight=0.0, mixup=0.0, ema=0.0,
        schedule=schedule, flip=cheap.flip,
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


def _within(low: float, value: float, high: float) -> int:
    return int(max(low, min(value, high)))


def _epochs(batches: float, n: int, usual: int, most: int) -> tuple[int, int]:
    """Returns (epochs, batches an epoch): ``usual`` shorter epochs where a whole pass each would be too much, at most ``most``."""
    usual = _within(1, batches, usual)
    if batches / usual <= n:
        return usual, max(1, int(batches / usual))
    return _within(usual, batches / n, most), n


def _cnas(allowed: float, prices: Prices, n: int, stages: int) -> dict[str, Any]:
    candidates = _within(3, 0.1 * allowed / (stages * prices.score), 10)
    left = max(0.5 * allowed, allowed - stages * candidates * prices.score)
    each = left / (stages * (3 * prices.learn + 2 * prices.reward))  # one epoch of warm-up, two of both
    warmup = _within(1, each / n, 20)
    batches = _within(2, each / warmup, n)
    updates = 2 * warmup * stages * batches
    return {"warmup_epochs": warmup, "stage_epochs": 2 * warmup, "batches": batches, "lr": _farther("cnas", updates), "candidates": candidates}


def _relativenas(allowed: float, prices: Prices, n: int) -> dict[str, Any]:
    population = 20 if allowed / 200 > prices.score + 4 * prices.learn else 10
    allowed = max(0.5 * allowed, allowed - population * prices.score)  # all are judged in the end
    batches = _within(2, (allowed / (10 * population) - prices.score) / prices.learn, n)
    generations = _within(2, allowed / (population * (batches * prices.learn + prices.score)), 50)
    return {"population": population, "generations": generations, "batches": batches}


def _gradient(name: str, allowed: float, prices: Prices, n: int) -> dict[str, Any]:
    epochs, batches = _epochs(max(0.5 * allowed, allowed - 5 * prices.score) / prices.mix, n, 25, 50 if name == "darts" else 250)
    return {"epochs": epochs, "batches": batches, "lr": _farther(name, epochs * batches)}


def _farther(name: str, updates: int) -> float:
    """Returns the learning rate with which ``updates`` may go as far as the paper's many at 3e-4, within reason."""
    return float(f"{min(FARTHEST[name], 3e-4 * max(1.0, PAPER_UPDATES[name] / max(1, updates))):.2g}")


def _spos(allowed: float, prices: Prices, n: int) -> dict[str, Any]:
    epochs, batches = _epochs(0.7 * allowed / prices.learn, n, 20, 1000)
    scores = 0.3 * allowed / prices.score
    population = _within(6, scores / 4, 50)
    generations = _within(1, scores / population - 1, 20)
    half = population // 2
    bred = {"population": population, "generations": generations, "crossovers": half, "mutants": half, "parents": max(2, population // 5)}
    return {"epochs": epochs, "batches": batches, **bred}


def _ctnas(allowed: float, prices: Prices, n: int) -> dict[str, Any]:
    epochs, batches = _epochs(0.6 * allowed / prices.learn, n, 20, 1000)
    labels = _within(12, 0.3 * allowed / prices.score, 1000)
    small = {"batch": 16, "lr": 3e-3, "centre": True, "baseline_every": 50, "explore_every": 50, "samples": 256, "chunk": 10}
    return {"epochs": epochs, "batches": batches, "average": 1, "labels": labels, "iterations": 200, **small}


def _stages(space: Space, given: Mapping[str, Any]) -> int:
    """Returns how many stages CNAS has."""
    if given.get("grow") == "nodes":
        return len(node_stages(space, given.get("kind", "op"), "none"))
    return len(given.get("order") or ()) or len(growing_options(space, given.get("kind", "op"))[0])


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
    stages = _stages(space, given) if strategy == "cnas" else 0
    if given.get("sampling") == "fair":  # a batch teaches a whole group
        prices = replace(prices, learn=prices.learn * group_size(space))
    rules: dict[str, Callable[[], dict[str, Any]]] = {
        "cnas": lambda: _cnas(allowed, prices, n, stages),
        "relativenas": lambda: _relativenas(allowed, prices, n),
        "darts": lambda: _gradient("darts", allowed, prices, n),
        "gdas": lambda: _gradient("gdas", allowed, prices, n),
        "spos": lambda: _spos(allowed, prices, n),
        "ctnas_oneshot": lambda: _ctnas(allowed, prices, n),
    }
    usual = dict(zip(("epochs", "batches"), _epochs(allowed / prices.learn, n, 20, 1000)))  # a strategy from elsewhere
    planned = rules[strategy]() if strategy in rules else usual
    accepted = settings_of("strategy", strategy)
    settings = {**{key: value for key, value in planned.items() if key in accepted}, **given}
    batches = max(1, _learned({**accepted, **settings}, n, stages))
    return OneShotPlan(settings, recipe.with_(epochs=batches / n), batches)


def _learned(settings: Mapping[str, Any], n: int, stages: int) -> int:
    """Returns how many batches a strategy with these settings learns from: the length of the schedule."""
    each = settings.get("batches") or n
    if stages:
        return int(stages * (settings["warmup_epochs"] + settings["stage_epochs"]) * each)
    return int(settings.get("population", 1) * settings["generations"] * each if "epochs" not in settings else settings["epochs"] * each)


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
            prices = Prices.counted(settings.strategy, given, **sizes)
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
        rng, name = np.random.default_rng(4), self.settings.strategy
        archs = [sample(self.space, rng) for _ in range(6)]
        shared.learn(archs[:2], 2)
        learn = _seconds(lambda: shared.learn(archs, 6)) / 6
        score = _seconds(lambda: shared.estimate([Query(arch) for arch in archs[:2]])) / 2
        reward = mix = learn
        if name == "cnas":
            probe = self._strategy(shared, {"warmup_epochs": 0, "stage_epochs": 3, "batches": 4})
            probe.step()
            reward = max(0.1 * learn, _seconds(probe.step) / 4 - learn)
        elif name in ("darts", "gdas"):
            probe = self._strategy(shared, {"epochs": 3, "batches": 2})
            probe.step()
            mix = _seconds(probe.step) / 2
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

"""How a one-shot strategy spends its share of a run: epochs, batches and population that fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from archduel.apps.assemble import settings_of
from archduel.core import Space
from archduel.errors import SettingError
from archduel.strategies.curriculum import growing_options, node_stages
from archduel.strategies.oneshot import group_size
from archduel.supernets import options_of
from archduel.training.recipe import RECIPES, Recipe

__all__ = ["OneShotPlan", "Prices", "fitted", "supernet_options", "supernet_recipe"]

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


def supernet_recipe(cheap: Recipe, strategy: str, changes: Mapping[str, Any]) -> Recipe:
    """Returns how shared weights are trained: as the cheap recipe, with the settings that suit one-shot training.

    Args:
        cheap: the recipe of the run's cheap trainings.
        strategy: whose paper is followed (CNAS's learning rate is constant).
        changes: settings of the user; ``recipe`` names a published one to start from, such as ``bpe1``.

    Raises:
        SettingError: for a setting that recipes do not have.
    """
    changes = dict(changes)
    name = changes.pop("recipe", None)
    if name is not None and name not in RECIPES:
        raise SettingError(f"--set supernet.recipe={name}: expected one of {', '.join(RECIPES)}")
    start = RECIPES[name].with_(image_size=min(cheap.image_size, RECIPES[name].image_size)) if name else cheap.with_(lr=cheap.lr / 2)
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

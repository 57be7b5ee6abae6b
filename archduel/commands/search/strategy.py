"""The strategy of a search with the numbers of its plan, and what its architectures cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from archduel.assemble import (
    USUAL,
    accepted_partners,
    assemble,
    check_keys,
    collaborator,
    declaration,
    settings_of,
)
from archduel.commands.priors import warmed_ranker
from archduel.commands.search.plan import Plan
from archduel.commands.search.settings import Settings
from archduel.core import Allowance, Arch, Constraint, Objectives, Ranker, SharedEstimator, Space, Strategy
from archduel.data import Dataset
from archduel.errors import SettingError
from archduel.estimators.judges import scale_of
from archduel.rankers.size_belief import SizeBelief
from archduel.rankers.warm import Source

__all__ = ["check_settings", "check_types", "closed_form_costs", "make_strategy"]


def check_types(role: str, name: str, given: Mapping[str, Any]) -> None:
    """Raises SettingError for a value of another type than the setting's default (whole numbers may stand for any)."""
    for key, default in settings_of(role, name).items():
        kinds = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}.get(type(default))
        value = given.get(key, default)
        if kinds and (not isinstance(value, kinds) or isinstance(value, bool) is not isinstance(default, bool)):
            raise SettingError(f"--set {role}.{key}: expected {type(default).__name__}, such as {default!r}, got {value!r}")


def check_settings(settings: Settings) -> None:
    """Raises for names and settings of strategy, ranker and policy that there are not, before any image is read.

    Raises:
        UnknownNameError: for a name that is not on its menu.
        SettingError: for a setting its class does not have, or a value of another type than the default's.
    """
    names = {"strategy": settings.strategy, "ranker": settings.ranker, "policy": USUAL["policy"]}
    accepted = accepted_partners(settings.strategy)
    for role, name in names.items():
        given = settings.section(role)
        if role == "strategy" or role in accepted:
            check_keys(role, name, given)
            check_types(role, name, given)
        elif given:
            raise SettingError(f"--set {role}.{next(iter(given))}: strategy {settings.strategy!r} has no {role}")


def closed_form_costs(plan: Plan, dataset: Dataset) -> Callable[[Sequence[Arch]], np.ndarray[Any, Any]]:
    """Returns a function that gives (N, 2) parameters and multiply-adds of architectures at the size of the final networks."""
    from archduel.spaces.family import costs_for

    scale = scale_of(plan.final, dataset)
    known: dict[Arch, Any] = {}

    def costs(archs: Sequence[Arch]) -> np.ndarray[Any, Any]:
        new = [arch for arch in dict.fromkeys(archs) if arch not in known]
        known.update(zip(new, costs_for(new, scale)))
        return np.array([known[arch] for arch in archs], dtype=np.float64)

    return costs


def make_strategy(
    settings: Settings,
    plan: Plan,
    space: Space,
    constraint: Constraint | None,
    *,
    costs: Callable[[Sequence[Arch]], np.ndarray[Any, Any]],
    shared: SharedEstimator | None = None,
    numbers: Mapping[str, Any] | None = None,
    sources: Sequence[Source] = (),
    objectives: Objectives | None = None,
) -> Strategy:
    """Returns the run's strategy with the plan's numbers for those of its settings that it has.

    Args:
        settings: of the run.
        plan: numbers of labels and iterations, the final scale.
        space: where to search.
        constraint: which architectures are allowed.
        costs: returns (N, 2) parameters and multiply-adds, see :func:`closed_form_costs`.
        shared: shared weights, for a strategy that takes them.
        numbers: settings that replace those that follow from ``plan``.
        sources: labels from elsewhere with which the ranker begins.
        objectives: what is to be small where a front is searched for.

    Raises:
        SettingError, UnknownNameError: see :func:`check_settings`.
    """
    check_settings(settings)
    given = settings.section("strategy")
    says = declaration(settings.strategy)
    if numbers is None:
        allowance = Allowance(evaluations=plan.labels, iterations=plan.iterations, space=space, given=given)
        numbers = says.settings(allowance)
    partners: dict[str, Any] = {} if shared is None else {"shared": shared}
    for role in ("policy", "ranker"):
        wanted = settings.section(role)
        if role not in accepted_partners(settings.strategy):
            continue
        if role == "ranker" or wanted:
            name = USUAL[role] if role == "policy" else settings.ranker
            declared = says.partners.get(role, name)
            own = dict(declared) if isinstance(declared, Mapping) and declared["name"] == name else {}
            given.setdefault(role, {**own, "name": name, **wanted})
    lifts = says.compares and settings.size_belief
    if "ranker" in given and (lifts or sources):
        made = given.pop("ranker")
        if sources:
            ranker: Ranker = warmed_ranker(made, sources, space, seed=settings.seed, costs=costs)
        else:
            ranker = collaborator("ranker", made, space, seed=settings.seed, costs=costs)
        partners["ranker"] = SizeBelief(ranker, lambda archs: costs(archs)[:, 1], settings.size_belief) if lifts else ranker
    return assemble(
        settings.strategy,
        space,
        seed=settings.seed,
        constraint=constraint,
        costs=costs,
        objectives=objectives,
        settings={**numbers, **given},
        given=partners,
    )

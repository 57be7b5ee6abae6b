"""Puts a strategy together with the collaborators its constructor names."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from archduel import registry
from archduel.core import Constraint, Objectives, Space, Strategy
from archduel.core.scalarised import Scalarised
from archduel.core.spending import Declaration, declared
from archduel.errors import SettingError, unknown

__all__ = ["USUAL", "accepted_partners", "assemble", "check_keys", "collaborator", "declaration", "derived_seed", "responsible", "settings_of"]

USUAL = {"policy": "lstm", "ranker": "gp"}
"""What a strategy gets that takes such a collaborator and declares none."""
RANDOMNESS = ("rng", "generator", "seed")
OFFERED = ("constraint", "costs", "device", "objectives")
"""Keywords that are filled in where a constructor has them; all others are settings, whatever they are called."""


def derived_seed(seed: int, purpose: str) -> int:
    """Returns a seed (31 bits) that depends on ``seed`` and ``purpose`` alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:4], "big") >> 1


def declaration(strategy: str) -> Declaration:
    """Returns what the class of ``strategy`` says of itself: what it needs, how it goes about it, how it spends.

    Raises:
        UnknownNameError: for a name that is not on the menu.
        SettingError: for a declaration of another form.
    """
    return declared(registry.entry("strategy", strategy))


def accepted_partners(strategy: str) -> set[str]:
    """Returns which of policy and ranker the constructor of ``strategy`` takes: those among its collaborators, before ``*``."""
    parameters = inspect.signature(registry.entry("strategy", strategy)).parameters.values()
    return USUAL.keys() & {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}


def settings_of(role: str, name: str) -> dict[str, Any]:
    """Returns the settings of a class on the menu of ``role`` with their defaults."""
    parameters = inspect.signature(registry.entry(role, name)).parameters.values()
    handled = (*RANDOMNESS, *OFFERED)
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in handled}


def check_keys(role: str, name: str, keys: Iterable[str]) -> None:
    """Raises SettingError for a setting that the class ``name`` on the menu of ``role`` does not have."""
    parameters = inspect.signature(registry.entry(role, name)).parameters
    for key in keys:
        if key not in parameters:
            raise SettingError(str(unknown(f"setting of {role} {name!r}:", key, settings_of(role, name))))


def assemble(
    strategy: str,
    space: Space,
    *,
    seed: int,
    constraint: Constraint | None = None,
    costs: Any = None,
    objectives: Objectives | None = None,
    settings: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> Strategy:
    """Returns a strategy whose collaborators are made from the menus, every seed derived from ``seed``.

    Args:
        strategy: a name on the menu, or ``package.module:Class``.
        space: where to search.
        seed: of the search.
        constraint: which architectures are allowed.
        costs: closed-form costs for rankers that take them.
        objectives: what is to be small where a front is searched for; a strategy that does not weigh them itself is told one number.
        settings: of the strategy; ``policy`` and ``ranker`` may be names, or mappings with a ``name`` and that class's
            settings.
        given: collaborators that are already made, by the constructor's parameter name.
        device: where policies and rankers compute.

    Raises:
        UnknownNameError: for a name that is not on a menu.
        SettingError: for settings the constructor does not have, or a collaborator nobody made.
    """
    settings = dict(settings or {})
    strategy = responsible(strategy, objectives)
    partners: dict[str, Any] = {**USUAL, **declaration(strategy).partners}
    ready = {"space": space, "constraint": constraint, "costs": costs, "device": device, "objectives": objectives, **(given or {})}
    for role in accepted_partners(strategy) - ready.keys():
        wanted = settings.pop(role, partners[role])
        ready[role] = collaborator(role, wanted, space, seed=seed, costs=costs, device=device)
    made: Strategy = _made("strategy", strategy, ready, settings, seed)
    alone = objectives is None or "objectives" in inspect.signature(registry.entry("strategy", strategy)).parameters
    return made if alone else Scalarised(made, objectives)  # type: ignore[arg-type]


def responsible(strategy: str, objectives: Objectives | None) -> str:
    """Returns the strategy that searches where there are ``objectives``: the one that ``strategy`` declares for them, else itself."""
    return strategy if objectives is None else declaration(strategy).several or strategy


def collaborator(
    role: str, wanted: str | Mapping[str, Any], space: Space, *, seed: int, costs: Any = None, device: str = "cpu"
) -> Any:
    """Returns the policy or ranker that ``wanted`` describes, its randomness derived from ``seed``.

    Args:
        role: ``policy`` or ``ranker``.
        wanted: a name on the menu, or a mapping with a ``name`` and settings.
        space: what it works on.
        seed: of whatever is random in it.
        costs: closed-form costs, handed on if it takes them.
        device: where it computes.

    Raises:
        UnknownNameError: for a name that is not on the menu.
        SettingError: for settings the constructor does not have.
    """
    wanted = {"name": wanted} if isinstance(wanted, str) else dict(wanted)
    if "name" not in wanted:
        raise SettingError(f"{role} is {wanted}, expected a name, or a mapping with a name and settings")
    name = wanted.pop("name")
    return _made(role, name, {"space": space, "costs": costs, "device": device}, wanted, seed)


def _made(role: str, name: str, ready: Mapping[str, Any], settings: Mapping[str, Any], seed: int) -> Any:
    """Returns an object of the menu with collaborators, randomness and settings handed to the constructor."""
    parameters = inspect.signature(registry.entry(role, name)).parameters
    collaborators = []
    keywords = dict(settings)
    for parameter in parameters.values():
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            if parameter.name == "shared" and "shared" not in ready:
                raise SettingError(f"strategy {name!r} works on shared weights; use `archduel search DATA --strategy {name}`")
            if parameter.name not in ready:
                raise SettingError(f"{role} {name!r} needs {parameter.name!r}, and there is none to give")
            collaborators.append(ready[parameter.name])
        elif parameter.name in RANDOMNESS:
            keywords[parameter.name] = _randomness(parameter.name, derived_seed(seed, f"{role}/{parameter.name}"), ready)
        elif parameter.name in OFFERED and parameter.name in ready and parameter.name not in keywords:
            keywords[parameter.name] = ready[parameter.name]
    check_keys(role, name, keywords)
    return registry.make(role, name, *collaborators, **keywords)


def _randomness(kind: str, seed: int, ready: Mapping[str, Any]) -> Any:
    """Returns a seeded NumPy generator, torch generator or plain seed."""
    if kind == "rng":
        return np.random.default_rng(seed)
    if kind == "seed":
        return seed
    import torch

    return torch.Generator(ready.get("device", "cpu")).manual_seed(seed)

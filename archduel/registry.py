"""The menus: role -> {name: "module:Class"}. The only file that knows all; nothing is imported before it is made."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from archduel.errors import UnknownNameError, brief, unknown

__all__ = ["MENUS", "TRUSTED", "entry", "entry_of_folder", "make", "names", "plug_ins"]

SPACES = {
    "nasbench101": "archduel.spaces.nasbench101:FAMILY",
    "nasbench201": "archduel.spaces.nasbench201:FAMILY",
    "natsbench_sss": "archduel.spaces.natsbench_sss:FAMILY",
    "darts": "archduel.spaces.darts:FAMILY",
    "darts_supercell": "archduel.spaces.darts:SUPER_CELLS",
    "mobilenetv3": "archduel.spaces.mobilenetv3:FAMILY",
    "resnet": "archduel.spaces.resnet:FAMILY",
    "resnet4": "archduel.spaces.resnet:FOUR_STAGES",
    "stages": "archduel.spaces.stages:FAMILY",
}
"""Name -> family (:class:`archduel.core.Family`), which makes the space when it is called."""
POLICIES = {
    "lstm": "archduel.policies.lstm:LSTMPolicy",
    "logits": "archduel.policies.logits:LogitsPolicy",
}
RANKERS = {
    "best": "archduel.rankers.best:Jury",
    "nac": "archduel.rankers.nac:NAC",
    "renas": "archduel.rankers.renas:ReNAS",
    "gcn": "archduel.rankers.neural_regression:GCN",
    "onehot_mlp": "archduel.rankers.neural_regression:OneHotMLP",
    "boosting": "archduel.rankers.regressors:Boosting",
    "extratrees": "archduel.rankers.regressors:ExtraTrees",
    "sklearn": "archduel.rankers.regressors:ScikitLearn",
    "gp": "archduel.rankers.gp:GaussianProcess",
}
STRATEGIES = {
    "best": "archduel.strategies.best:Contenders",
    "ctnas": "archduel.strategies.ctnas:CTNAS",
    "renas": "archduel.strategies.renas:ReNAS",
    "random": "archduel.strategies.random:RandomSearch",
    "local": "archduel.strategies.local:LocalSearch",
    "evolution": "archduel.strategies.evolution:RegularizedEvolution",
    "reinforce": "archduel.strategies.reinforce:Reinforce",
    "bananas": "archduel.strategies.bananas:Bananas",
    "npenas": "archduel.strategies.npenas:NPENAS",
    "tpe": "archduel.strategies.tpe:TPE",
    "bpe_rl": "archduel.strategies.bpe:BPEReinforce",
    "bpe_evolution": "archduel.strategies.bpe:BPEEvolution",
    "spos": "archduel.strategies.spos:SPOS",
    "cnas": "archduel.strategies.cnas:CNAS",
    "relativenas": "archduel.strategies.relativenas:RelativeNAS",
    "darts": "archduel.strategies.darts:DARTS",
    "gdas": "archduel.strategies.gdas:GDAS",
    "ctnas_oneshot": "archduel.strategies.ctnas_one_shot:CTNASOneShot",
}
TRACKERS = {
    "tensorboard": "archduel.training.tracking:TensorBoard",
}
TRUSTED = "ARCHDUEL_PLUG_INS"
"""Environment variable with the ``module:Name`` of plug-ins, commas between them, that may be imported because a folder names them."""
MENUS = {"space": SPACES, "policy": POLICIES, "ranker": RANKERS, "strategy": STRATEGIES, "tracker": TRACKERS}


def names(role: str) -> list[str]:
    """Returns the names on the menu of ``role``."""
    if role not in MENUS:
        raise unknown("role", role, MENUS)
    return sorted(MENUS[role])


def entry(role: str, name: str) -> Any:
    """Returns the class behind ``name``; ``package.module:Class`` is taken as it is.

    What comes from outside and says its own ``name``, as spaces do, is on the menu by that name from then on.

    Raises:
        UnknownNameError: for a name that is not on the menu, a class that cannot be imported, or a name of its own that
            means something else already.
    """
    if role not in MENUS:
        raise unknown("role", role, MENUS)
    if not isinstance(name, str):
        raise unknown(role, brief(name), MENUS[role])
    target = MENUS[role].get(name, name if ":" in name else "")
    if not target:
        plural = {"strategy": "strategies", "policy": "policies"}.get(role, f"{role}s")
        raise unknown(role, name, MENUS[role], command=f"archduel list {plural}")
    module, _, attribute = target.partition(":")
    try:
        thing = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:  # the latter two for what is no module's name
        raise UnknownNameError(f"{role} {name!r} cannot be loaded from {target!r}: {error}") from error
    own = getattr(thing, "name", None)
    if ":" in name and isinstance(own, str):
        _add(role, own, name, thing)
    return thing


def entry_of_folder(role: str, name: str) -> Any:
    """Returns the class that a folder names. Code from outside is imported only if this process uses it already, or the user trusts it.

    A folder may be somebody else's: what it names must not run because somebody looked at it.

    Raises:
        UnknownNameError: for code from outside that nobody here has named, or what :func:`entry` raises.
    """
    trusted = (*plug_ins(role), *os.environ.get(TRUSTED, "").split(","))
    if ":" in name and name not in trusted:
        raise UnknownNameError(
            f"the folder names {role} {name!r}, which is code from outside; reading a folder runs no code. If you trust it, "
            f"say so: {TRUSTED}={name} before the command"
        )
    return entry(role, name)


def _add(role: str, own: str, name: str, added: Any) -> None:
    """Puts what came from outside on the menu under its own name.

    Raises:
        UnknownNameError: if that name means something else already.
    """
    present = MENUS[role].setdefault(own, name)
    if present != name and entry(role, own) is not added:
        raise UnknownNameError(f"{role} {name!r} calls itself {own!r}, which is {present!r} already; give it another name")


def plug_ins(role: str) -> tuple[str, ...]:
    """Returns ``package.module:Class`` of everything from outside that is on the menu of ``role``."""
    return tuple(target for target in MENUS[role].values() if not target.startswith("archduel."))


def make(role: str, name: str, *collaborators: Any, **settings: Any) -> Any:
    """Returns ``entry(role, name)(*collaborators, **settings)``."""
    return entry(role, name)(*collaborators, **settings)

"""The menus: role -> {name: "module:Class"}. The only file that knows all; nothing is imported before it is made."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from archduel.errors import UnknownNameError, unknown

__all__ = ["MENUS", "entry", "make", "names"]

SPACES = {
    "nasbench101": "archduel.spaces.nasbench101.space:NASBench101",
    "nasbench201": "archduel.spaces.nasbench201.space:NASBench201",
    "natsbench_sss": "archduel.spaces.natsbench_sss.space:NATSBenchSSS",
    "darts": "archduel.spaces.darts.space:DARTS",
    "darts_supercell": "archduel.spaces.darts.supercell:SuperCell",
    "mobilenetv3": "archduel.spaces.mobilenetv3.space:MobileNetV3",
    "resnet": "archduel.spaces.resnet.space:ResNet",
    "resnet4": "archduel.spaces.resnet.space:ResNet4",
}
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
    "ctnas_oneshot": "archduel.strategies.ctnas_oneshot:CTNASOneShot",
}
TRACKERS = {
    "tensorboard": "archduel.training.tracking:TensorBoard",
}
MENUS = {"space": SPACES, "policy": POLICIES, "ranker": RANKERS, "strategy": STRATEGIES, "tracker": TRACKERS}


def names(role: str) -> list[str]:
    """Returns the names on the menu of ``role``."""
    if role not in MENUS:
        raise unknown("role", role, MENUS)
    return sorted(MENUS[role])


def entry(role: str, name: str) -> Any:
    """Returns the class behind ``name``; ``package.module:Class`` is taken as it is.

    Raises:
        UnknownNameError: for a name that is not on the menu or a class that cannot be imported.
    """
    if role not in MENUS:
        raise unknown("role", role, MENUS)
    target = MENUS[role].get(name, name if ":" in name else "")
    if not target:
        plural = {"strategy": "strategies", "policy": "policies"}.get(role, f"{role}s")
        raise unknown(role, name, MENUS[role], command=f"archduel list {plural}")
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownNameError(f"{role} {name!r} cannot be loaded from {target!r}: {error}") from error


def make(role: str, name: str, *collaborators: Any, **settings: Any) -> Any:
    """Returns ``entry(role, name)(*collaborators, **settings)``."""
    return entry(role, name)(*collaborators, **settings)

"""The menus: role -> {name: "module:Class"}. The only file that knows all; nothing is imported before it is made."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from archduel.errors import ArchduelError, UnknownNameError, brief, unknown

__all__ = ["FILE", "MENUS", "TRUSTED", "adopt", "entry", "entry_of_folder", "loading", "make", "names", "plug_ins", "present"]

SPACES = {
    "nasbench101": "archduel.spaces.nasbench101:FAMILY",
    "nasbench201": "archduel.spaces.nasbench201:FAMILY",
    "natsbench_sss": "archduel.spaces.natsbench_sss:FAMILY",
    "darts": "archduel.spaces.darts:FAMILY",
    "darts_supercell": "archduel.spaces.darts:SUPER_CELLS",
    "mobilenetv3": "archduel.spaces.mobilenetv3:FAMILY",
    "resnet": "archduel.spaces.resnet:FAMILY",
    "resnet4": "archduel.spaces.resnet:FOUR_STAGES",
    "tiny": "archduel.spaces.tiny:FAMILY",
    "stages": "archduel.spaces.stages:FAMILY",
    "pretrained": "archduel.spaces.pretrained:FAMILY",
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
    "best_front": "archduel.strategies.best_front:FrontContenders",
    "nsga2": "archduel.strategies.nsga2:NSGA2",
    "ctnas": "archduel.strategies.ctnas:CTNAS",
    "renas": "archduel.strategies.renas:ReNAS",
    "random": "archduel.strategies.random:RandomSearch",
    "local": "archduel.strategies.local:LocalSearch",
    "evolution": "archduel.strategies.evolution:RegularizedEvolution",
    "reinforce": "archduel.strategies.reinforce:Reinforce",
    "bananas": "archduel.strategies.bananas:Bananas",
    "npenas": "archduel.strategies.npenas:NPENAS",
    "tpe": "archduel.strategies.tpe:TPE",
    "optuna": "archduel.strategies.optuna:OptunaSampler",
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
    "mlflow": "archduel.training.tracking:MLflow",
    "wandb": "archduel.training.tracking:WeightsAndBiases",
    "optuna": "archduel.training.optuna_tracker:Optuna",
}
TRUSTED = "ARCHDUEL_PLUG_INS"
"""Environment variable with the ``module:Name`` of plug-ins, commas between them, that may be imported because a folder names them."""
ADAPTERS = {"space": "archduel.spaces.own.making:adapted"}
"""Role -> what makes a menu's entry of something from outside that is none yet, such as a person's own network."""
FILE = "__archduel_file__"
"""Attribute of a module that was loaded from a file: its path, as it was named."""
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
    thing = _present[role, target] if (role, target) in _present else _loaded(role, name, target)
    own = getattr(thing, "name", None)
    if ":" in name and isinstance(own, str):
        _add(role, own, name, thing)
    return thing


_present: dict[tuple[str, str], Any] = {}
"""(role, name) -> what this process made itself under the name by which others find it."""
_loading: list[str] = []
"""Files that are being run because they were named, innermost last."""


def present(role: str, name: str, thing: Any) -> None:
    """Puts something of this process on the menu: ``thing.name``, found by other processes as ``name``; replaces what had that name.

    Raises:
        UnknownNameError: if its own name means something else already.
    """
    there = MENUS[role].get(thing.name, "")
    if "<locals>" in there:  # nobody else can mean what stands inside a function
        MENUS[role].pop(thing.name)
    before = _present.get((role, name))
    _present[role, name] = thing
    try:
        _add(role, thing.name, name, thing)
    except UnknownNameError:
        del _present[role, name]
        if before is not None:
            _present[role, name] = before
        raise


def adopt(role: str, name: str, thing: Any) -> None:
    """Puts something of this process on the menu that has to be adapted first, see :func:`present`."""
    home, _, function = ADAPTERS[role].partition(":")
    present(role, name, getattr(import_module(home), function)(thing, name, {}))


def loading() -> str:
    """Returns the file that is being run because it was named, empty if there is none: what it starts would start again and again."""
    return _loading[-1] if _loading else ""


def _loaded(role: str, name: str, target: str) -> Any:
    """Returns what ``module:Name`` or ``file.py:Name`` names, ``{"setting": value}`` behind it taken along."""
    where, brace, told = target.partition("{")
    module, _, attribute = where.rpartition(":")
    try:
        home = _from_file(module) if module.endswith(".py") else import_module(module)
        thing = home
        for part in attribute.split("."):
            thing = getattr(thing, part)
        settings = json.loads(brace + told) if brace else {}
    except ArchduelError:
        raise
    except (ImportError, AttributeError, OSError, TypeError, ValueError) as error:
        raise UnknownNameError(f"{role} {name!r} cannot be loaded: {error}{_beside(module, attribute)}") from error
    adapter = ADAPTERS.get(role)
    if adapter is None or (target in MENUS[role].values() and target.startswith("archduel.")):
        return thing
    home_of_adapter, _, function = adapter.partition(":")
    _present[role, target] = adapted = getattr(import_module(home_of_adapter), function)(thing, target, settings)
    return adapted


def _beside(module: str, attribute: str) -> str:
    """Returns how a file of the folder that one is in is named, where a module of its name is not found: the command does not look there."""
    file = f"{module.replace('.', '/')}.py"
    return f"; {file} is in this folder: write {file}:{attribute}" if not module.endswith(".py") and Path(file).is_file() else ""


def _from_file(path: str) -> Any:
    """Returns the module of a file beside the command; its folder can be imported from afterwards, as if the file had been run."""
    full = Path(path).resolve()
    known = next((m for m in list(sys.modules.values()) if getattr(m, FILE, None) and Path(m.__file__ or "").resolve() == full), None)
    if known is not None:
        return known
    name = full.stem if full.stem not in sys.modules else f"{full.stem}_{hashlib.sha256(str(full).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None or spec.loader is None or not full.is_file():
        raise ImportError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    setattr(module, FILE, path)
    sys.modules[name] = module
    if str(full.parent) not in sys.path:
        sys.path.append(str(full.parent))
    _loading.append(path)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, (ImportError, AttributeError, OSError, ValueError, ArchduelError)) or not isinstance(error, Exception):
            raise
        raise ImportError(f"{type(error).__name__}: {error}") from error
    finally:
        _loading.pop()
    return module


def entry_of_folder(role: str, name: str) -> Any:
    """Returns the class that a folder names. Code from outside is imported only if this process uses it already, or the user trusts it.

    A folder may be somebody else's: what it names must not run because somebody looked at it.

    Raises:
        UnknownNameError: for code from outside that nobody here has named, or what :func:`entry` raises.
    """
    trusted = (*plug_ins(role), *os.environ.get(TRUSTED, "").split(","))
    if ":" in name and name not in trusted and name.partition("{")[0] not in trusted:
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
    there = MENUS[role].setdefault(own, name)
    if there != name and entry(role, own) is not added:
        raise UnknownNameError(f"{role} {name!r} calls itself {own!r}, which is {there!r} already; give it another name")


def plug_ins(role: str) -> tuple[str, ...]:
    """Returns ``package.module:Class`` of everything from outside that is on the menu of ``role``."""
    return tuple(target for target in MENUS[role].values() if not target.startswith("archduel."))


def make(role: str, name: str, *collaborators: Any, **settings: Any) -> Any:
    """Returns ``entry(role, name)(*collaborators, **settings)``."""
    return entry(role, name)(*collaborators, **settings)

"""Search strategies, one paper a file: each asks for architectures, is told their scores, and names the best."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "CNAS",
    "CTNAS",
    "DARTS",
    "GDAS",
    "NPENAS",
    "NSGA2",
    "SPOS",
    "TPE",
    "BPEEvolution",
    "BPEReinforce",
    "Bananas",
    "CTNASOneShot",
    "Contenders",
    "FrontContenders",
    "LocalSearch",
    "OptunaSampler",
    "RandomSearch",
    "ReNAS",
    "RegularizedEvolution",
    "Reinforce",
    "RelativeNAS",
]

if TYPE_CHECKING:
    from archduel.strategies.bananas import Bananas
    from archduel.strategies.best import Contenders
    from archduel.strategies.best_front import FrontContenders
    from archduel.strategies.bpe import BPEEvolution, BPEReinforce
    from archduel.strategies.cnas import CNAS
    from archduel.strategies.ctnas import CTNAS
    from archduel.strategies.ctnas_one_shot import CTNASOneShot
    from archduel.strategies.darts import DARTS
    from archduel.strategies.evolution import RegularizedEvolution
    from archduel.strategies.gdas import GDAS
    from archduel.strategies.local import LocalSearch
    from archduel.strategies.npenas import NPENAS
    from archduel.strategies.nsga2 import NSGA2
    from archduel.strategies.optuna import OptunaSampler
    from archduel.strategies.random import RandomSearch
    from archduel.strategies.reinforce import Reinforce
    from archduel.strategies.relativenas import RelativeNAS
    from archduel.strategies.renas import ReNAS
    from archduel.strategies.spos import SPOS
    from archduel.strategies.tpe import TPE
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "CNAS": "archduel.strategies.cnas",
            "CTNAS": "archduel.strategies.ctnas",
            "DARTS": "archduel.strategies.darts",
            "GDAS": "archduel.strategies.gdas",
            "NPENAS": "archduel.strategies.npenas",
            "NSGA2": "archduel.strategies.nsga2",
            "SPOS": "archduel.strategies.spos",
            "TPE": "archduel.strategies.tpe",
            "BPEEvolution": "archduel.strategies.bpe",
            "BPEReinforce": "archduel.strategies.bpe",
            "Bananas": "archduel.strategies.bananas",
            "CTNASOneShot": "archduel.strategies.ctnas_one_shot",
            "Contenders": "archduel.strategies.best",
            "FrontContenders": "archduel.strategies.best_front",
            "LocalSearch": "archduel.strategies.local",
            "OptunaSampler": "archduel.strategies.optuna",
            "RandomSearch": "archduel.strategies.random",
            "ReNAS": "archduel.strategies.renas",
            "RegularizedEvolution": "archduel.strategies.evolution",
            "Reinforce": "archduel.strategies.reinforce",
            "RelativeNAS": "archduel.strategies.relativenas",
        },
    )

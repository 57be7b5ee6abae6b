"""archduel: neural architecture search by comparison.

Three lines: ``run = archduel.search("my_images/", time="2h", max_params="1M")``, ``run.model()``, ``run.export("shipped/")``.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from archduel._lazy import lazy

# Threads of PyTorch that wait for each other spin for a millisecond and more before they sleep. Where other programs run, what they wait for is not running, and
# a small race of two threads took 83 s of processor time in place of 19. A short spin is enough for the next layer to begin. Read when PyTorch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

__all__ = [
    "Arch",
    "Budget",
    "Estimate",
    "Estimator",
    "Local",
    "Query",
    "Ranker",
    "Run",
    "Scale",
    "Space",
    "Strategy",
    "Study",
    "__version__",
    "bench_fused",
    "bench_one_shot",
    "bench_rank",
    "bench_search",
    "build",
    "check_proxy",
    "choose",
    "compare",
    "count",
    "environment",
    "evaluate",
    "find_proxy",
    "load_network",
    "make_strategy",
    "parse",
    "recipe_space",
    "repeat",
    "search",
    "search_space",
    "space",
    "space_of",
    "supernet",
    "switch",
    "table",
    "train",
]

if TYPE_CHECKING:
    from archduel.assemble import assemble as make_strategy
    from archduel.commands.bench.fused import bench_fused
    from archduel.commands.bench.one_shot import bench_one_shot
    from archduel.commands.bench.rank import bench_rank
    from archduel.commands.bench.search import bench_search
    from archduel.commands.network.evaluate import evaluate_network as evaluate
    from archduel.commands.proxy.check import check_proxy
    from archduel.commands.proxy.find import find_proxy
    from archduel.commands.research import compare
    from archduel.commands.search.run import Run, search
    from archduel.commands.study.search import search_space
    from archduel.commands.study.study import Study
    from archduel.commands.train.train import train_network as train
    from archduel.core import (
        Arch,
        Budget,
        Estimate,
        Estimator,
        Local,
        Query,
        Ranker,
        Scale,
        Space,
        Strategy,
        parse,
    )
    from archduel.core.storage import environment
    from archduel.networks.trained import open_network as load_network
    from archduel.recipes.decisions import recipe_space
    from archduel.spaces.family import build, count, supernet
    from archduel.spaces.own.choices import choose, repeat, switch
    from archduel.spaces.own.making import space, space_of
    from archduel.tables.store import open_table as table
    from archduel.version import __version__
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Arch": "archduel.core",
            "Budget": "archduel.core",
            "Estimate": "archduel.core",
            "Estimator": "archduel.core",
            "Local": "archduel.core",
            "Query": "archduel.core",
            "Ranker": "archduel.core",
            "Run": "archduel.commands.search.run",
            "Scale": "archduel.core",
            "Space": "archduel.core",
            "Strategy": "archduel.core",
            "Study": "archduel.commands.study.study",
            "__version__": "archduel.version",
            "bench_fused": "archduel.commands.bench.fused",
            "bench_one_shot": "archduel.commands.bench.one_shot",
            "bench_rank": "archduel.commands.bench.rank",
            "bench_search": "archduel.commands.bench.search",
            "build": "archduel.spaces.family",
            "check_proxy": "archduel.commands.proxy.check",
            "choose": "archduel.spaces.own.choices",
            "compare": "archduel.commands.research",
            "count": "archduel.spaces.family",
            "environment": "archduel.core.storage",
            "evaluate": "archduel.commands.network.evaluate:evaluate_network",
            "find_proxy": "archduel.commands.proxy.find",
            "load_network": "archduel.networks.trained:open_network",
            "make_strategy": "archduel.assemble:assemble",
            "parse": "archduel.core",
            "recipe_space": "archduel.recipes.decisions",
            "repeat": "archduel.spaces.own.choices",
            "search": "archduel.commands.search.run",
            "search_space": "archduel.commands.study.search",
            "space": "archduel.spaces.own.making",
            "space_of": "archduel.spaces.own.making",
            "supernet": "archduel.spaces.family",
            "switch": "archduel.spaces.own.choices",
            "table": "archduel.tables.store:open_table",
            "train": "archduel.commands.train.train:train_network",
        },
    )


def load_ipython_extension(ipython: Any) -> None:
    """Lets a notebook draw architectures; `import archduel` in a notebook does it, ``%load_ext archduel`` too."""
    from archduel.commands.notebook import register

    register(ipython)


def _in_shell() -> None:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        load_ipython_extension(shell)


_in_shell()

"""archduel: neural architecture search by comparison.

Three lines: ``run = archduel.search("my_images/", time="2h", max_params="1M")``, ``run.model()``, ``run.export("shipped/")``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "Arch",
    "Budget",
    "Estimate",
    "Local",
    "Query",
    "Run",
    "Scale",
    "Space",
    "__version__",
    "bench_fused",
    "bench_one_shot",
    "bench_rank",
    "bench_search",
    "build",
    "check_proxy",
    "compare",
    "count",
    "environment",
    "evaluate",
    "find_proxy",
    "load_network",
    "make_strategy",
    "parse",
    "search",
    "supernet",
    "train",
]

if TYPE_CHECKING:
    from archduel.assemble import assemble as make_strategy
    from archduel.commands.bench.fused import bench_fused
    from archduel.commands.bench.one_shot import bench_one_shot
    from archduel.commands.bench.rank import bench_rank
    from archduel.commands.bench.search import bench_search
    from archduel.commands.network.compare import compare
    from archduel.commands.network.evaluate import evaluate_network as evaluate
    from archduel.commands.proxy.check import check_proxy
    from archduel.commands.proxy.find import find_proxy
    from archduel.commands.search.run import Run, search
    from archduel.commands.train.train import train_network as train
    from archduel.core import Arch, Budget, Estimate, Local, Query, Scale, Space, parse
    from archduel.core.storage import environment
    from archduel.networks.trained import open_network as load_network
    from archduel.spaces.family import build, count, supernet
    from archduel.version import __version__
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Arch": "archduel.core",
            "Budget": "archduel.core",
            "Estimate": "archduel.core",
            "Local": "archduel.core",
            "Query": "archduel.core",
            "Run": "archduel.commands.search.run",
            "Scale": "archduel.core",
            "Space": "archduel.core",
            "__version__": "archduel.version",
            "bench_fused": "archduel.commands.bench.fused",
            "bench_one_shot": "archduel.commands.bench.one_shot",
            "bench_rank": "archduel.commands.bench.rank",
            "bench_search": "archduel.commands.bench.search",
            "build": "archduel.spaces.family",
            "check_proxy": "archduel.commands.proxy.check",
            "compare": "archduel.commands.network.compare",
            "count": "archduel.spaces.family",
            "environment": "archduel.core.storage",
            "evaluate": "archduel.commands.network.evaluate:evaluate_network",
            "find_proxy": "archduel.commands.proxy.find",
            "load_network": "archduel.networks.trained:open_network",
            "make_strategy": "archduel.assemble:assemble",
            "parse": "archduel.core",
            "search": "archduel.commands.search.run",
            "supernet": "archduel.spaces.family",
            "train": "archduel.commands.train.train:train_network",
        },
    )

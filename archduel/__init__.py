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
    from archduel.apps.assemble import assemble as make_strategy
    from archduel.apps.bench_fused import bench_fused
    from archduel.apps.bench_oneshot import bench_oneshot as bench_one_shot
    from archduel.apps.bench_rank import bench_rank
    from archduel.apps.bench_search import bench_search
    from archduel.apps.compare import compare
    from archduel.apps.evaluation import evaluate_network as evaluate
    from archduel.apps.folder import environment
    from archduel.apps.handed import open_network as load_network
    from archduel.apps.main import Run, search
    from archduel.apps.proxy_check import check_proxy
    from archduel.apps.proxy_find import find_proxy
    from archduel.apps.train import train_network as train
    from archduel.core import Arch, Budget, Estimate, Local, Query, Scale, Space, parse
    from archduel.nets import build, count
    from archduel.supernets import supernet
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
            "Run": "archduel.apps.main",
            "Scale": "archduel.core",
            "Space": "archduel.core",
            "__version__": "archduel.version",
            "bench_fused": "archduel.apps.bench_fused",
            "bench_one_shot": "archduel.apps.bench_oneshot:bench_oneshot",
            "bench_rank": "archduel.apps.bench_rank",
            "bench_search": "archduel.apps.bench_search",
            "build": "archduel.nets",
            "check_proxy": "archduel.apps.proxy_check",
            "compare": "archduel.apps.compare",
            "count": "archduel.nets",
            "environment": "archduel.apps.folder",
            "evaluate": "archduel.apps.evaluation:evaluate_network",
            "find_proxy": "archduel.apps.proxy_find",
            "load_network": "archduel.apps.handed:open_network",
            "make_strategy": "archduel.apps.assemble:assemble",
            "parse": "archduel.core",
            "search": "archduel.apps.main",
            "supernet": "archduel.supernets",
            "train": "archduel.apps.train:train_network",
        },
    )

"""NAS-Bench-101."""

from archduel.core.arch import Scale
from archduel.core.family import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    "nasbench101",
    "archduel.spaces.nasbench101.space:NASBench101",
    build="archduel.spaces.nasbench101.network:build",
    count="archduel.spaces.nasbench101.space:count",
    scale=Scale(128, 3),
    ladder=((16, 1), (32, 1), (32, 2), (64, 2), (64, 3), (128, 3)),
    columns={"adjacency": "adjacency", "ops": "ops"},
    formats=("tfrecord", "ctnas", "renas"),
    one_by_fingerprint=True,  # isomorphic cells were trained as one
    diagrams="archduel.spaces.drawing:nasbench101",
    protocols={"labels": (100, 172, 424, 4236), "splits": 20},
)

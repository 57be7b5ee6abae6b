"""NAS-Bench-201."""

from archduel.core.arch import Scale
from archduel.core.family import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    "nasbench201",
    "archduel.spaces.nasbench201.space:NASBench201",
    build="archduel.spaces.nasbench201.network:build",
    count="archduel.spaces.nasbench201.space:count_nasbench201",
    supernet="archduel.spaces.nasbench201.supernet:NASBench201Supernet",
    scale=Scale(16, 5),
    ladder=((4, 1), (8, 1), (16, 1), (16, 2), (16, 3), (16, 5), (32, 3), (32, 5), (64, 5)),
    columns={"arch": "arch_str"},
    formats=("nats",),
    text_pattern=r"\|\w+~0\|",
    diagrams="archduel.spaces.drawing:nasbench201",
    protocols={"labels": (78, 156, 469, 781, 1563), "splits": 20},
)

"""The size space of NATS-Bench."""

from archduel.core.arch import Scale
from archduel.core.family import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    "natsbench_sss",
    "archduel.spaces.natsbench_sss.space:NATSBenchSSS",
    build="archduel.spaces.natsbench_sss.network:build",
    count="archduel.spaces.natsbench_sss.space:count_natsbench_sss",
    scale=Scale(16, 1),
    ladder=((8, 1),),
    columns={"arch": "channels"},
    formats=("nats",),
    text_pattern=r"\d+(:\d+){4}$",
    diagrams="archduel.spaces.drawing:natsbench_sss",
)

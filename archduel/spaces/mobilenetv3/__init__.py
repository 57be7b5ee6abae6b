"""The MobileNetV3 space of once-for-all."""

from archduel.core.arch import Scale
from archduel.core.family import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    "mobilenetv3",
    "archduel.spaces.mobilenetv3.space:MobileNetV3",
    build="archduel.spaces.mobilenetv3.network:build",
    count="archduel.spaces.mobilenetv3.space:count",
    supernet="archduel.spaces.mobilenetv3.network:MobileNetV3Supernet",
    scale=Scale(16, 5, 224, 3, 1000),
    ladder=((16, 1),),
    costs_for_rankers=True,
    columns={"kernels": "kernel_sizes", "expansions": "expand_ratios", "depths": "depths", "resolution": "resolution"},
    optional_columns=("resolution",),
    diagrams="archduel.spaces.drawing:mobilenetv3",
)

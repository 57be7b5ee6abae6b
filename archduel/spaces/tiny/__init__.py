"""Small inverted-residual networks for devices with little memory, decided part by part."""

from archduel.core.arch import Scale
from archduel.core.family import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    "tiny",
    "archduel.spaces.tiny.space:Tiny",
    build="archduel.spaces.tiny.network:build",
    count="archduel.spaces.tiny.space:count",
    side="archduel.spaces.tiny.space:side_of",
    scale=Scale(16, 1, 96),
    diagrams="archduel.spaces.drawing:tiny",
    ladder=((4, 1), (8, 1), (12, 1), (16, 1), (24, 1), (32, 1)),
)

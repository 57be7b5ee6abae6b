"""Whole networks of three stages, decided part by part."""

from archduel.core.arch import Scale
from archduel.core.family import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    "stages",
    "archduel.spaces.stages.space:Stages",
    build="archduel.spaces.stages.network:build",
    count="archduel.spaces.stages.space:count",
    scale=Scale(32, 1),
    diagrams="archduel.spaces.drawing:stages",
    ladder=((8, 1), (12, 1), (16, 1), (24, 1), (32, 1), (48, 1), (64, 1)),
)

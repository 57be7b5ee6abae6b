"""Residual networks of the usual shapes: with three stages, as on CIFAR, and with four, as on ImageNet."""

from archduel.core.family import Family

__all__ = ["FAMILY", "FOUR_STAGES"]

FAMILY = Family(
    "resnet",
    "archduel.spaces.resnet.space:ResNet",
    build="archduel.spaces.resnet.network:build",
    count="archduel.spaces.resnet.space:count_resnet",
    own_size=True,
    diagrams="archduel.spaces.drawing:resnet",
)
FOUR_STAGES = Family(
    "resnet4",
    "archduel.spaces.resnet.space:ResNet4",
    build="archduel.spaces.resnet.network:build",
    count="archduel.spaces.resnet.space:count_resnet",
    own_size=True,
    diagrams="archduel.spaces.drawing:resnet",
)

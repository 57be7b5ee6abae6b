"""Published networks that already know images: what they are made of, and the networks that keep a part of them."""

from archduel.core.arch import Scale
from archduel.core.family import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    "pretrained",
    "archduel.spaces.pretrained.space:Pretrained",
    build="archduel.spaces.pretrained.member:build",
    count="archduel.spaces.pretrained.space:count",
    scale=Scale(1, 1, 224, 3, 1000),
    own_size=True,
    pretrained=True,
    text_pattern=r"[a-z0-9_]+@\d+:",
    diagrams="archduel.spaces.drawing:pretrained",
)
"""What is kept of networks that already know images (space ``pretrained``)."""

"""Networks that already know images: published backbones as values, their weights, the networks built from parts of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "BACKBONES",
    "Backbone",
    "Block",
    "Classifier",
    "Layout",
    "Stem",
    "Trunk",
    "add",
    "backbone",
    "count",
    "load",
    "member",
    "space",
    "weights_of",
    "whole",
]

if TYPE_CHECKING:
    from archduel.pretrained.members import member, space
    from archduel.pretrained.weights import add, load, weights_of
    from archduel.spaces.pretrained.backbones import BACKBONES, Backbone, backbone
    from archduel.spaces.pretrained.layout import Block, Layout, Stem, count
    from archduel.spaces.pretrained.network import Classifier, Trunk, whole
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "BACKBONES": "archduel.spaces.pretrained.backbones",
            "Backbone": "archduel.spaces.pretrained.backbones",
            "Block": "archduel.spaces.pretrained.layout",
            "Classifier": "archduel.spaces.pretrained.network",
            "Layout": "archduel.spaces.pretrained.layout",
            "Stem": "archduel.spaces.pretrained.layout",
            "Trunk": "archduel.spaces.pretrained.network",
            "add": "archduel.pretrained.weights",
            "backbone": "archduel.spaces.pretrained.backbones",
            "count": "archduel.spaces.pretrained.layout",
            "load": "archduel.pretrained.weights",
            "member": "archduel.pretrained.members",
            "space": "archduel.pretrained.members:space",
            "weights_of": "archduel.pretrained.weights",
            "whole": "archduel.spaces.pretrained.network",
        },
    )

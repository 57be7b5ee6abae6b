"""torch.hub: ``torch.hub.load(".", "relativenas", source="local", pretrained=True)``; every name of `archduel zoo list`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from archduel.networks import load as _load
from archduel.spaces import NAMED as _NAMED

dependencies = ["torch", "numpy", "scipy", "safetensors"]


def _entry(name: str) -> Callable[..., Any]:
    def build(pretrained: bool | str = False, **settings: Any) -> Any:
        return _load(name, pretrained=pretrained, **settings)

    build.__name__ = name
    build.__doc__ = (
        f"{name}: {_NAMED[name].source}.\n\npretrained: our weights where there are some (their size is theirs); else "
        "channels, depth, image_size, in_channels, n_classes change the published size."
    )
    return build


globals().update({_name: _entry(_name) for _name in _NAMED})

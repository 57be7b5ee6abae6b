"""Weight sharing: one network that holds the weights of every architecture of a space."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from archduel.core import Scale
from archduel.errors import unknown

if TYPE_CHECKING:
    import torch

__all__ = ["SUPERNETS", "options_of", "supernet"]

SUPERNETS = {
    "nasbench201": "archduel.supernets.nasbench201:NASBench201Supernet",
    "darts": "archduel.supernets.darts:DARTSSupernet",
    "mobilenetv3": "archduel.supernets.mobilenetv3:MobileNetV3Supernet",
}
"""Space -> ``module:class`` of its supernet; a plug-in adds its own line."""


def supernet(space: str, scale: Scale, *, generator: torch.Generator, **options: Any) -> Any:
    """Returns an untrained supernet (:class:`archduel.core.Supernet`).

    Args:
        space: whose architectures it holds.
        scale: width, depth, input and classes.
        generator: draws the initial weights, on the CPU.
        options: of one supernet, such as ``affine=True`` (RelativeNAS) for ``darts``.

    Raises:
        UnknownNameError: for a space without a supernet.
        SettingError: for images too small for the network.
    """
    import torch

    from archduel.nets.ops import initialise

    with torch.device("meta"):  # no weights are drawn twice
        network = _class_of(space)(scale, **options)
    return initialise(network.to_empty(device="cpu"), generator)


def options_of(space: str) -> dict[str, Any]:
    """Returns the options of a space's supernet with their defaults.

    Raises:
        UnknownNameError: for a space without a supernet.
    """
    parameters = inspect.signature(_class_of(space)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _class_of(space: str) -> Any:
    if space not in SUPERNETS:
        raise unknown("supernet of space", space, SUPERNETS)
    module, _, name = SUPERNETS[space].partition(":")
    return getattr(import_module(module), name)

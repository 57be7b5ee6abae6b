"""What there is for a space: its network (`build`), its exact cost (`count`, which needs no torch), its supernet."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from archduel.core import Arch, Counts, Scale
from archduel.errors import unknown

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["BUILDERS", "COUNTERS", "SUPERNETS", "build", "count", "options_of", "supernet"]

# -- Weight sharing: one network that holds the weights of every architecture of a space --------------------------------


SUPERNETS = {
    "nasbench201": "archduel.spaces.nasbench201.supernet:NASBench201Supernet",
    "darts": "archduel.spaces.darts.supernet:DARTSSupernet",
    "mobilenetv3": "archduel.spaces.mobilenetv3.supernet:MobileNetV3Supernet",
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

    from archduel.spaces.layers import initialise

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


BUILDERS = {
    "nasbench101": "archduel.spaces.nasbench101.network:build",
    "nasbench201": "archduel.spaces.nasbench201.network:build",
    "natsbench_sss": "archduel.spaces.natsbench_sss.network:build",
    "darts": "archduel.spaces.darts.network:build",
    "darts_supercell": "archduel.spaces.darts.network:build",
    "mobilenetv3": "archduel.spaces.mobilenetv3.network:build",
    "resnet": "archduel.spaces.resnet.network:build",
    "resnet4": "archduel.spaces.resnet.network:build",
}
"""Space -> ``module:function`` that returns the network; a plug-in adds its own line."""

COUNTERS = {
    "nasbench101": "archduel.spaces.nasbench101.cost:count",
    "nasbench201": "archduel.spaces.nasbench201.cost:count_nasbench201",
    "natsbench_sss": "archduel.spaces.natsbench_sss.cost:count_natsbench_sss",
    "darts": "archduel.spaces.darts.cost:count",
    "darts_supercell": "archduel.spaces.darts.cost:count",
    "mobilenetv3": "archduel.spaces.mobilenetv3.cost:count",
    "resnet": "archduel.spaces.resnet.cost:count_resnet",
    "resnet4": "archduel.spaces.resnet.cost:count_resnet",
}
"""Space -> ``module:function`` that returns the counts in closed form, without torch."""


def _function(menu: dict[str, str], space: str) -> Any:
    """Returns the function that ``menu`` names for ``space``."""
    if space not in menu:
        raise unknown("network of space", space, menu)
    module, _, name = menu[space].partition(":")
    return getattr(import_module(module), name)


def build(
    arch: Arch,
    scale: Scale,
    *,
    auxiliary: bool = False,
    generator: torch.Generator | None = None,
    **options: Any,
) -> nn.Module:
    """Returns an untrained network; ``forward`` takes (N, in_channels, image_size, image_size) and returns (N, classes).

    Args:
        arch: the architecture; its space says which network it becomes.
        scale: width, depth, input and classes.
        auxiliary: adds the auxiliary head; in training mode ``forward`` then returns ``(logits, auxiliary logits)``.
        generator: draws the initial weights (on the CPU, before anything is moved); None = torch's global one.
        options: of one family of networks, such as ``pool_norm=True`` (BPE) for ``darts``.

    Raises:
        UnknownNameError: for a space without a network.
        InvalidArchError: for an architecture that its space does not hold.
        SettingError: for images too small for the network.
    """
    make = _function(BUILDERS, arch.space)
    if generator is None:
        return make(arch, scale, auxiliary=auxiliary, **options)
    import torch

    from archduel.spaces.layers import initialise

    with torch.device("meta"):  # no weights are drawn twice
        network = make(arch, scale, auxiliary=auxiliary, **options)
    return initialise(network.to_empty(device="cpu"), generator)


def count(arch: Arch, scale: Scale, **options: Any) -> Counts:
    """Returns parameters and multiply-adds of the network that ``build`` returns, auxiliary head left out.

    Args:
        arch: the architecture.
        scale: as for ``build``.
        options: as for ``build``.

    Raises:
        UnknownNameError: for a space without a network.
        InvalidArchError: for an architecture that its space does not hold.
        SettingError: for images too small for the network.
    """
    return _function(COUNTERS, arch.space)(arch, scale, **options)

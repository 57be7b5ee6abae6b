"""From an architecture to a network (`build`) or to its exact cost (`count`, which needs no torch)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from archduel.core import Arch, Counts, Scale
from archduel.errors import unknown

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["BUILDERS", "COUNTERS", "build", "count"]

BUILDERS = {
    "nasbench101": "archduel.nets.nasbench101:build",
    "nasbench201": "archduel.nets.nasbench201:build",
    "natsbench_sss": "archduel.nets.natsbench_sss:build",
    "darts": "archduel.nets.darts:build",
    "darts_supercell": "archduel.nets.darts:build",
    "mobilenetv3": "archduel.nets.mobilenetv3:build",
    "resnet": "archduel.nets.resnet:build",
    "resnet4": "archduel.nets.resnet:build",
    "stages": "archduel.nets.stages:build",
}
"""Space -> ``module:function`` that returns the network; a plug-in adds its own line."""

COUNTERS = {
    "nasbench101": "archduel.nets.counts_nasbench101:count",
    "nasbench201": "archduel.nets.counts:count_nasbench201",
    "natsbench_sss": "archduel.nets.counts:count_natsbench_sss",
    "darts": "archduel.nets.counts_darts:count",
    "darts_supercell": "archduel.nets.counts_darts:count",
    "mobilenetv3": "archduel.nets.counts_mobilenetv3:count",
    "resnet": "archduel.nets.counts:count_resnet",
    "resnet4": "archduel.nets.counts:count_resnet",
    "stages": "archduel.nets.counts_stages:count",
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

    from archduel.nets.ops import initialise

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

"""What a built network costs, measured while it runs: the judge of costs in closed form."""

from __future__ import annotations

import torch

from archduel.core import Counts

__all__ = ["measured"]


def measured(network: torch.nn.Module, size: int, in_channels: int = 3) -> Counts:
    """Returns parameters and the multiply-adds of the convolutions and linear layers of one forward pass."""
    macs = 0

    def add(module: torch.nn.Module, inputs: object, out: torch.Tensor) -> None:
        nonlocal macs
        macs += module.weight.numel() * (out.shape[2] * out.shape[3] if out.ndim == 4 else 1)  # type: ignore[operator, union-attr]

    for module in network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(add)  # type: ignore[arg-type]
    device = next(network.parameters()).device
    network.eval()(torch.zeros(1, in_channels, size, size, device=device))
    return Counts(sum(p.numel() for p in network.parameters()), macs)

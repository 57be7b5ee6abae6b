"""Networks of three stages (space ``stages``)."""

from __future__ import annotations

import torch
from torch import nn

from archduel.core import Arch, Scale
from archduel.spaces.counting import halved
from archduel.spaces.layers import AuxiliaryHead, GlobalMax, SqueezeExcitation
from archduel.spaces.nasbench201.network import Network
from archduel.spaces.stages.space import Form, Stage, form_of, layout, squeezed

__all__ = ["StageLayers", "build"]


class StageLayers(nn.Module):
    """One stage: a convolution, the map halved, further convolutions with or without a shortcut, squeeze.

    Args:
        stage: widths and depth.
        form: how it is halved, whether there are shortcuts and squeeze.
    """

    def __init__(self, stage: Stage, form: Form) -> None:
        super().__init__()
        c = stage.c_out
        first = nn.Conv2d(stage.c_in, c, 3, 1 if form.pool else 2, 1, bias=False)
        pools = [nn.MaxPool2d(2, ceil_mode=True)] if form.pool else []
        self.first = nn.Sequential(first, *pools, nn.BatchNorm2d(c), nn.ReLU())
        layers: list[nn.Module] = []
        for _ in range(stage.extra):
            layers += [nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU()]
        self.more = nn.Sequential(*layers)
        self.squeeze = SqueezeExcitation(c, squeezed(c)) if form.squeeze else None
        self.residual = form.residual and stage.extra > 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, c_out, ceil(H / 2), ceil(W / 2))."""
        x = self.first(x)
        x = x + self.more(x) if self.residual else self.more(x)
        return x if self.squeeze is None else self.squeeze(x)


def build(arch: Arch, scale: Scale, *, auxiliary: bool = False) -> Network:
    """Returns the network; ``scale.channels`` is the width of the first stage, ``scale.depth`` is not used.

    The auxiliary head sits on the output of the second stage.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images under 4 px.
    """
    form = form_of(arch)
    stems, stages = layout(arch, scale)
    first: list[nn.Module] = []
    for stem in stems:
        padding = 0 if stem.kernel == 2 else 1
        first += [nn.Conv2d(stem.c_in, stem.c_out, stem.kernel, stem.stride, padding, bias=False), nn.BatchNorm2d(stem.c_out), nn.ReLU()]
    pool: nn.Module = GlobalMax() if form.maximum else nn.AdaptiveAvgPool2d(1)
    tail = nn.Sequential(pool, nn.Flatten(), nn.Linear(stages[-1].c_out, scale.n_classes))
    network = Network(nn.Sequential(*first), [StageLayers(stage, form) for stage in stages], tail)
    if auxiliary:
        network.attach(AuxiliaryHead(stages[1].c_out, halved(stages[1].side), scale.n_classes), 1)
    return network

"""The network of an architecture of space ``pretrained``: images made what the backbone was shown, the part of it that is kept, a head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from archduel.core import Arch, Scale
from archduel.spaces.layers import AuxiliaryHead, pyramid
from archduel.spaces.pretrained.backbones import Backbone
from archduel.spaces.pretrained.layout import sides
from archduel.spaces.pretrained.network import Classifier
from archduel.spaces.pretrained.space import Plan, check_channels, kept_layout, plan_of

__all__ = ["Member", "Shown", "build"]


class Shown(nn.Module):
    """Normalised images as a backbone was shown its own: three channels, its normalisation, its resolution.

    Args:
        in_channels: 1 (repeated three times) or 3.
        image_size: side of the input in pixels.
        resolution: side of the output in pixels; between, pixels are interpolated bilinearly.
    """

    gain: torch.Tensor
    shift: torch.Tensor

    def __init__(self, in_channels: int, image_size: int, resolution: int) -> None:
        super().__init__()
        self.in_channels, self.resolution, self.resize = in_channels, resolution, image_size != resolution
        self.register_buffer("gain", torch.ones(1, 3, 1, 1))
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))

    @torch.no_grad()
    def reset(self) -> None:
        """Lets values pass as they are."""
        self.gain.fill_(1.0)
        self.shift.zero_()

    @torch.no_grad()
    def between(self, mean: Sequence[float], std: Sequence[float], backbone: Backbone) -> None:
        """Takes images normalised with ``mean`` and ``std`` (one a channel) to the normalisation of a backbone."""
        mine = [torch.tensor(values).expand(3).view(1, 3, 1, 1) for values in (mean, std)]
        theirs = [torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std)]
        self.gain.copy_(mine[1] / theirs[1])
        self.shift.copy_((mine[0] - theirs[0]) / theirs[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, 3, resolution, resolution) of (N, in_channels, H, W)."""
        x = x * self.gain + self.shift  # (N, 1, H, W) becomes (N, 3, H, W) here
        if self.resize:
            x = functional.interpolate(x, size=(self.resolution, self.resolution), mode="bilinear", align_corners=False)
        return x


class Member(Classifier):
    """A part of a published network behind :class:`Shown`, untrained.

    Args:
        plan: what it keeps.
        scale: input and classes.

    Attributes:
        works_at: side in pixels at which its layers see the images.
    """

    def __init__(self, plan: Plan, scale: Scale) -> None:
        check_channels(scale.in_channels)
        super().__init__(kept_layout(plan), scale.n_classes, dropout=0.0)
        self.shown = Shown(scale.in_channels, scale.image_size, plan.resolution)
        self.tuned = plan.tuned
        self.last_stage = plan.depths[-1]
        self.works_at = plan.resolution
        self.auxiliary: nn.Module | None = None
        self.auxiliary_at = -1

    def attach(self, head: nn.Module, block: int) -> None:
        """Puts an auxiliary head on the output of ``blocks[block]``."""
        self.auxiliary, self.auxiliary_at = head, block

    def initialise(self, generator: torch.Generator) -> None:
        """Draws all weights anew: normal with the variance that keeps a ReLU network's maps alive at 16 and more layers; norms as usual.

        Source: He et al., "Delving Deep into Rectifiers", ICCV 2015.
        """
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    module.weight.normal_(0.0, (2.0 / module.weight[0].numel()) ** 0.5, generator=generator)
                    if module.bias is not None:
                        module.bias.zero_()
                elif isinstance(module, nn.BatchNorm2d):
                    module.reset_parameters()
        self.shown.reset()

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """Returns (N, classes) logits, in training mode with an auxiliary head ``(logits, auxiliary logits)``."""
        x, extra = self.first(self.shown(x)), None
        for position, block in enumerate(self.blocks):
            x = block(x)
            if self.training and self.auxiliary is not None and position == self.auxiliary_at:
                extra = self.auxiliary(x)
        logits = self.head(x if self.neck is None else self.neck(x))
        return logits if extra is None else (logits, extra)

    def features(self, x: torch.Tensor) -> dict[int, torch.Tensor]:
        """Returns stride -> the last map (N, c, resolution / stride, ...) of that size before the neck, finest first."""
        x = self.shown(x)
        return pyramid(x, list(self.maps(x))[: 1 + len(self.blocks)])

    def in_order(self) -> list[nn.Module]:
        """Returns the parts with weights from the input to the output: stem, blocks, neck, head."""
        return [self.stem, *self.blocks, *([] if self.neck is None else [self.neck]), self.head]

    def tune(self) -> None:
        """Lets gradients go to what is trained on and nowhere else."""
        self.requires_grad_(False)
        for part in self.tuned_modules():
            part.requires_grad_(True)

    def tuned_modules(self) -> list[nn.Module]:
        """Returns the parts that are trained on, from the input to the head."""
        stem: list[nn.Module] = [self.stem]
        blocks = list(self.blocks)
        end: list[nn.Module] = [*([] if self.neck is None else [self.neck]), self.head]
        first = {"head": len(blocks), "last": len(blocks) - self.last_stage, "half": len(blocks) // 2, "all": 0}[self.tuned]
        if self.tuned == "head":
            return [self.head]
        return [*(stem if self.tuned == "all" else []), *blocks[first:], *end]


def build(arch: Arch, scale: Scale, *, auxiliary: bool = False) -> Member:
    """Returns the network, untrained; the width and depth of ``scale`` are not used.

    An auxiliary head, where one is asked for, sits two thirds of the way up.

    Raises:
        InvalidArchError: for an architecture of another space.
        SettingError: for images of other than 1 or 3 channels.
    """
    plan = plan_of(arch)
    network = Member(plan, scale)
    if auxiliary:
        place = 2 * len(network.blocks) // 3
        side = sides(network.layout, plan.resolution)[place + 1]
        network.attach(AuxiliaryHead(network.layout.blocks[place].out_channels, max(side, 2), scale.n_classes), place)
    return network

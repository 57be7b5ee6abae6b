"""The once-for-all MobileNetV3 network of one architecture, alone and untrained.

Deviations from the published networks: images under 112 px are halved fewer times (see ``layout``), there may be an
auxiliary head, and a network whose architecture names a resolution resizes its input itself.

Source: Cai et al., ICLR 2020; Howard et al., "Searching for MobileNetV3", ICCV 2019.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archduel.core import Arch, Scale
from archduel.spaces import family as nets
from archduel.spaces.counting import halved
from archduel.spaces.layers import AuxiliaryHead, SqueezeExcitation, conv
from archduel.spaces.mobilenetv3.space import (
    DEPTHS,
    KERNELS,
    MAX_DEPTH,
    RATIOS,
    UNITS,
    Block,
    Layout,
    MobileNetV3,
    Spec,
    layout,
    spec_of,
    squeezed,
)
from archduel.spaces.nasbench201.network import Network

__all__ = ["Bottleneck", "MobileNetV3Network", "MobileNetV3Supernet", "build"]


def _conv_bn(c_in: int, c_out: int, kernel: int, stride: int = 1, *, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(conv(c_in, c_out, kernel, stride, groups=groups), nn.BatchNorm2d(c_out))


def _activation(swish: bool) -> nn.Module:
    return nn.Hardswish() if swish else nn.ReLU()


class Bottleneck(nn.Module):
    """1x1 expansion, depthwise convolution, squeeze-and-excitation, 1x1 projection; a shortcut where shapes allow."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if block.c_mid != block.c_in:
            layers += [*_conv_bn(block.c_in, block.c_mid, 1), _activation(block.swish)]
        depthwise = _conv_bn(block.c_mid, block.c_mid, block.kernel, block.stride, groups=block.c_mid)
        layers += [*depthwise, _activation(block.swish)]
        layers += [SqueezeExcitation(block.c_mid, squeezed(block.c_mid), F.hardsigmoid)] if block.squeeze else []
        self.layers = nn.Sequential(*layers, *_conv_bn(block.c_mid, block.c_out, 1))
        self.shortcut = block.stride == 1 and block.c_in == block.c_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, c_out, H / stride, W / stride), rounded up."""
        return x + self.layers(x) if self.shortcut else self.layers(x)


class MobileNetV3Network(Network):
    """The network; with a ``resolution`` it first resizes what it is given."""

    resolution: int | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Returns (N, classes) logits, in training mode with an auxiliary head ``(logits, auxiliary logits)``."""
        if self.resolution is not None:
            side = (self.resolution, self.resolution)
            x = F.interpolate(x, side, mode="bilinear", align_corners=False, antialias=True)
        return super().forward(x)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draws all weights anew: convolutions from a normal of variance 2 / (kernel area x output channels)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                area = module.kernel_size[0] * module.kernel_size[1]
                nn.init.normal_(
                    module.weight, 0, math.sqrt(2 / (area * module.out_channels)), generator=generator
                )
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                bound = module.in_features**-0.5
                nn.init.uniform_(module.weight, -bound, bound, generator=generator)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()


def _tail(plan: Layout, n_classes: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        *_conv_bn(plan.blocks[-1].c_out, plan.expand, 1),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(plan.expand, plan.mix, 1, bias=False),
        nn.Hardswish(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(plan.mix, n_classes),
    )


def build(arch: Arch, scale: Scale, *, auxiliary: bool = False, dropout: float = 0.1) -> MobileNetV3Network:
    """Returns the network of an architecture.

    Args:
        arch: the architecture; its own resolution replaces ``scale.image_size``, inputs are resized to it.
        scale: width (16 = published), input and classes; ``depth`` is ignored.
        auxiliary: adds DARTS's auxiliary head, after unit 4 (the published networks have none).
        dropout: probability before the classifier, 0..1.

    Raises:
        InvalidArchError: for an architecture of another space.
    """
    plan = layout(arch, scale)
    stem = nn.Sequential(*_conv_bn(scale.in_channels, plan.stem, 3, plan.stem_stride), nn.Hardswish())
    first = Block(plan.stem, plan.stem, plan.stem, 3, 1, False, False)
    blocks: list[nn.Module] = [Bottleneck(block) for block in (first, *plan.blocks)]
    network = MobileNetV3Network(stem, blocks, _tail(plan, scale.n_classes, dropout))
    if plan.image_size != scale.image_size:
        network.resolution = plan.image_size
    if auxiliary:
        before = plan.blocks[: plan.aux_after]
        size = halved(plan.image_size, (plan.stem_stride == 2) + sum(block.stride == 2 for block in before))
        network.attach(AuxiliaryHead(before[-1].c_out, size, scale.n_classes), plan.aux_after)
    network.initialise()
    return network


# -- The once-for-all MobileNetV3 supernet: every block is a part of the largest one ------------------------------------
#
# A narrower expansion uses the first channels, a smaller kernel the centre of the larger one times a learned matrix, a shallower
# unit its first blocks. What belongs to one choice (``operations``) is therefore a whole block slot.
#
# Source: Cai et al., "Once-for-All", ICLR 2020. Deviations: training is the strategy's (no distillation, no shrinking by phases),
# channels are not sorted by importance, and images under 112 px are halved fewer times (as in ``nets.mobilenetv3``).


SLOTS = UNITS * MAX_DEPTH
LARGEST = MobileNetV3().from_spec(Spec((max(DEPTHS),) * UNITS, (max(KERNELS),) * SLOTS, (max(RATIOS),) * SLOTS))


@lru_cache(maxsize=1024)
def plan(arch: Arch, scale: Scale) -> tuple[Layout, tuple[int, ...]]:
    """Returns the layers of an architecture, and the slot of each of its blocks."""
    return layout(arch, scale), tuple(slot for slot, there in enumerate(spec_of(arch).present()) if there)


def norm(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Returns (N, c, H, W) normalised by the first ``c`` channels of a batch norm, whose statistics it moves as usual."""
    c, factor, keep = x.shape[1], layer.momentum, layer.training and layer.track_running_stats
    mean, var = (None if t is None else t[:c] for t in (layer.running_mean, layer.running_var))
    if keep and layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        factor = 1 / float(layer.num_batches_tracked) if factor is None else factor
    if layer.training and not keep:
        mean = var = None
    return F.batch_norm(x, mean, var, layer.weight[:c], layer.bias[:c], layer.training, factor or 0.0, layer.eps)


class ElasticBlock(nn.Module):
    """The largest bottleneck of a slot, of which a smaller one is a part.

    Args:
        block: the largest; its layers are taken over.
    """

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        self.layers = block.layers
        sides = sorted(KERNELS)
        self.matrices = nn.ParameterList(torch.eye(side * side) for side in sides[:-1])

    def parts(self) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.Conv2d, nn.BatchNorm2d, SqueezeExcitation | None, nn.Conv2d, nn.BatchNorm2d]:
        """Returns expansion and norm, depthwise convolution and norm, squeeze-and-excitation, projection and norm."""
        expand, first, _, depthwise, second, _, *rest = self.layers
        squeeze = rest[0] if isinstance(rest[0], SqueezeExcitation) else None
        return expand, first, depthwise, second, squeeze, rest[-2], rest[-1]  # type: ignore[return-value]

    def kernel(self, channels: int, side: int) -> Tensor:
        """Returns the depthwise weights (channels, 1, side, side): centre of the next larger kernel times a matrix."""
        weight = self.parts()[2].weight[:channels]
        for smaller, matrix in zip(sorted(KERNELS)[-2::-1], reversed(list(self.matrices))):
            if side <= smaller:
                edge = (weight.shape[-1] - smaller) // 2
                centre = weight[:, :, edge : edge + smaller, edge : edge + smaller].reshape(channels, -1)  # (C, side^2)
                weight = (centre @ matrix.T).view(channels, 1, smaller, smaller)
        return weight

    def forward(self, x: Tensor, block: Block) -> Tensor:
        """Returns (N, c_out, H / stride, W / stride), rounded up, of the part that ``block`` describes."""
        expand, first, _, second, squeeze, project, last = self.parts()
        activate = F.hardswish if block.swish else F.relu
        c = block.c_mid
        out = activate(norm(first, F.conv2d(x, expand.weight[:c])))
        weight = self.kernel(c, block.kernel)
        out = activate(norm(second, F.conv2d(out, weight, None, block.stride, block.kernel // 2, 1, c)))
        if squeeze is not None:
            hidden, reduce, widen = squeezed(c), squeeze.reduce, squeeze.expand
            assert reduce.bias is not None
            assert widen.bias is not None
            means = out.mean((2, 3), keepdim=True)
            inner = F.relu(F.conv2d(means, reduce.weight[:hidden, :c], reduce.bias[:hidden]))
            out = out * F.hardsigmoid(F.conv2d(inner, widen.weight[:c, :hidden], widen.bias[:c]))
        out = norm(last, F.conv2d(out, project.weight[:, :c]))
        return x + out if block.stride == 1 and block.c_in == block.c_out else out


class MobileNetV3Supernet(nn.Module):
    """All once-for-all MobileNetV3 networks at once.

    Args:
        scale: width (16 = published), input and classes; ``depth`` is ignored.
        dropout: probability before the classifier, 0..1.
    """

    def __init__(self, scale: Scale, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.scale = scale
        network = build(LARGEST, scale, dropout=dropout)
        first, *blocks = network.blocks
        self.stem, self.first, self.tail = network.stem, first, network.tail
        self.blocks = nn.ModuleList(ElasticBlock(block) for block in blocks if isinstance(block, Bottleneck))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draws all weights anew as the published networks do; kernel matrices become identities."""
        MobileNetV3Network.initialise(self, generator)  # type: ignore[arg-type]
        for block in self.blocks:
            for matrix in block.matrices:  # type: ignore[union-attr]
                nn.init.eye_(matrix)

    def forward(self, x: Tensor, arch: Arch) -> Tensor:
        """Returns (N, classes) logits of ``arch``; inputs are resized to its resolution if it names one.

        Raises:
            InvalidArchError: for an architecture of another space.
        """
        wanted, slots = plan(arch, self.scale)
        if wanted.image_size != x.shape[-1] and wanted.image_size != self.scale.image_size:
            side = (wanted.image_size, wanted.image_size)
            x = F.interpolate(x, side, mode="bilinear", align_corners=False, antialias=True)
        convolution, *others = self.stem.children()
        x = F.conv2d(x, convolution.weight, None, wanted.stem_stride, 1)  # type: ignore[arg-type]
        for layer in (*others, self.first):
            x = layer(x)
        for slot, block in zip(slots, wanted.blocks):
            x = self.blocks[slot](x, block)
        return self.tail(x)  # type: ignore[no-any-return]

    @property
    def operations(self) -> frozenset[str]:
        """The names of the 20 blocks."""
        return frozenset(f"blocks.{slot}" for slot in range(SLOTS))

    def modules_of(self, arch: Arch) -> frozenset[str]:
        """Returns the names of the blocks that ``arch`` has."""
        return frozenset(f"blocks.{slot}" for slot in plan(arch, self.scale)[1])

    @torch.no_grad()
    def extract(self, arch: Arch) -> nn.Module:
        """Returns ``nets.build(arch)`` with these weights."""
        wanted, slots = plan(arch, self.scale)
        device = next(self.parameters()).device
        network = nets.build(arch, self.scale, generator=torch.Generator()).to(device)
        pairs = [(network.stem, self.stem), (network.blocks[0], self.first), (network.tail, self.tail)]  # type: ignore[index]
        for target, source in pairs:
            target.load_state_dict(source.state_dict())  # type: ignore[operator, union-attr]
        for slot, block, target in zip(slots, wanted.blocks, list(network.blocks)[1:]):  # type: ignore[arg-type]
            mine = self.blocks[slot]
            weights = mine.layers.state_dict()  # type: ignore[union-attr, operator]
            for name, value in target.layers.state_dict().items():
                if value.ndim == 4 and value.shape[-1] == block.kernel:  # (C, 1, side, side)
                    value.copy_(mine.kernel(block.c_mid, block.kernel))  # type: ignore[operator]
                else:
                    value.copy_(weights[name][tuple(slice(0, n) for n in value.shape)])
        return network

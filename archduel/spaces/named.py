"""Architectures with a name: what papers published, where it stands, and the numbers they reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from archduel.core import Scale
from archduel.errors import unknown
from archduel.spaces.darts.genotype import Genotype, Node
from archduel.spaces.darts.genotype_text import write_genotype

__all__ = ["ALIASES", "BPE_CELLS", "CIFAR", "IMAGENET", "NAMED", "Named", "find", "named", "nodes", "shorthand"]

# -- What a named architecture is, and the shorthand in which published cells are written -------------------------------
#
# Cells in short: ``sep3<0`` is sep_conv_3x3 applied to state 0, nodes are separated by ``|``.


CIFAR = ("CIFAR-10, C36 L20", Scale(36, 20, 32, 3, 10))
IMAGENET = ("ImageNet, C48 L14", Scale(48, 14, 224, 3, 1000))
SHORT = {
    "none": "none",
    "max3": "max_pool_3x3",
    "avg3": "avg_pool_3x3",
    "skip": "skip_connect",
    "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5",
    "sep7": "sep_conv_7x7",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
    "conv7": "conv_7x1_1x7",
}


@dataclass(frozen=True)
class Named:
    """A published architecture.

    Attributes:
        name: how it is called here.
        space: the space it belongs to; empty for cells of another shape, which can be built and counted but not searched.
        text: the architecture in the space's own text (a genotype where ``space`` is empty).
        source: where it was published.
        reported: what was reported there -> value, as printed (accuracies in %, params in millions).
        scales: settings in which it was used -> scale.
        options: of the network (``pool_norm`` for BPE's).
        note: what a reader should know.
    """

    name: str
    space: str
    text: str
    source: str
    reported: Mapping[str, str]
    scales: tuple[tuple[str, Scale], ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def nodes(cell: str) -> tuple[Node, ...]:
    """Returns the nodes of a cell in short, such as ``sep3<0 skip<1 | dil5<2 max3<0``."""
    edges = [[edge.split("<") for edge in node.split()] for node in cell.split("|")]
    return tuple(tuple((SHORT[op], int(source)) for op, source in node) for node in edges)


def shorthand(normal: str, reduce: str) -> str:
    """Returns the genotype text of two cells in short."""
    return write_genotype(Genotype(nodes(normal), nodes(reduce)))


# -- The eight cells that BPE published, with the numbers of its released spreadsheets ----------------------------------


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


NB101 = ("CIFAR-10, 3 x 3 cells of 128 channels", Scale(128, 3, 32, 3, 10))
DARTS_PAPER = "Liu et al., DARTS, ICLR 2019; genotypes of the released code"
CNAS_PAPER = "Guo et al., CNAS, ICML 2020"
CTNAS_PAPER = "Chen et al., CTNAS, CVPR 2021"
FIGURE = "Read off a figure, not off code."
OTHER_STEM = (
    "Built with DARTS's stem and concatenation; the reported figures are those of the original network, which differs. Five "
    "nodes, so it belongs to no search space here."
)


_ALL = (
    Named(
        "darts_v1",
        "darts",
        shorthand(
            "sep3<1 sep3<0 | skip<0 sep3<1 | skip<0 sep3<1 | sep3<0 skip<2",
            "max3<0 max3<1 | skip<2 max3<0 | max3<0 skip<2 | skip<2 avg3<0",
        ),
        f"{DARTS_PAPER} (first order)",
        {"CIFAR-10 params": "3.3 M"},
        (CIFAR, IMAGENET),
    ),
    Named(
        "darts_v2",
        "darts",
        shorthand(
            "sep3<0 sep3<1 | sep3<0 sep3<1 | sep3<1 skip<0 | skip<0 dil3<2",
            "max3<0 max3<1 | skip<2 max3<1 | max3<0 skip<2 | skip<2 max3<1",
        ),
        f"{DARTS_PAPER} (second order)",
        {
            "CIFAR-10 test accuracy": "97.24 +- 0.09",
            "CIFAR-10 params": "3.3 M",
            "ImageNet params": "4.7 M",
            "ImageNet multiply-adds": "574 M",
        },
        (CIFAR, IMAGENET),
        note="The 574 M are not reached by any stated rule at 48 channels: convolutions 529.1 M, with the classifier 529.9 M, "
        "with 2 a batch-norm output and 1 a ReLU output 544.0 M. At 50 channels, the first release's default, the rule gives "
        "573.5 M; whether that is where the figure comes from is not known. Compare DARTS_V2 as 529.9 M.",
    ),
    Named(
        "nasnet_a",
        "",
        write_genotype(
            Genotype(
                nodes("sep5<1 sep3<0 | sep5<0 sep3<0 | avg3<1 skip<0 | avg3<0 avg3<0 | sep3<1 skip<1"),
                nodes("sep5<1 sep7<0 | max3<1 sep7<0 | avg3<1 sep5<0 | skip<3 avg3<2 | sep3<2 max3<1"),
                (2, 3, 4, 5, 6),
                (4, 5, 6),
            )
        ),
        "Zoph et al., NASNet, CVPR 2018; genotype of DARTS's released code",
        {
            "CIFAR-10 test accuracy": "97.35",
            "CIFAR-10 params": "3.3 M",
            "ImageNet top-1": "74.0",
            "ImageNet params": "5.3 M",
            "ImageNet multiply-adds": "564 M",
        },
        (CIFAR, IMAGENET),
        note=OTHER_STEM,
    ),
    Named(
        "amoebanet_a",
        "",
        write_genotype(
            Genotype(
                nodes("avg3<0 max3<1 | sep3<0 sep5<2 | sep3<0 avg3<3 | sep3<1 skip<1 | skip<0 avg3<1"),
                nodes("avg3<0 sep3<1 | max3<0 sep7<2 | sep7<0 avg3<1 | max3<0 max3<1 | conv7<0 sep3<5"),
                (4, 5, 6),
                (3, 4, 6),
            )
        ),
        "Real et al., AmoebaNet, AAAI 2019; genotype of DARTS's released code",
        {
            "CIFAR-10 test accuracy": "96.66 +- 0.06",
            "CIFAR-10 params": "3.2 M",
            "ImageNet top-1": "74.5",
            "ImageNet params": "5.1 M",
            "ImageNet multiply-adds": "555 M",
        },
        (CIFAR, IMAGENET),
        note=OTHER_STEM,
    ),
    Named(
        "cnas",
        "darts",
        shorthand(
            "dil3<1 sep3<0 | sep3<0 skip<1 | sep3<1 max3<3 | sep3<2 sep3<4",
            "sep3<0 skip<1 | dil5<2 skip<1 | dil3<2 sep3<1 | sep5<0 sep3<3",
        ),
        f"{CNAS_PAPER}; README of the released code",
        {
            "CIFAR-10 test accuracy": "97.40 +- 0.06",
            "CIFAR-10 params": "3.7 M",
            "ImageNet top-1": "75.4",
            "ImageNet params": "5.3 M",
            "ImageNet multiply-adds": "576 M",
        },
        (CIFAR, IMAGENET),
        note="The reported 576 M are convolutions alone (576.4 M here); the classifier adds 0.8 M. The paper's Figure 5 shows "
        "another cell: cnas_figure.",
    ),
    Named(
        "cnas_figure",
        "darts",
        shorthand(
            "sep3<0 skip<1 | dil3<0 sep3<1 | sep3<2 max3<3 | sep3<1 sep3<4",
            "dil3<0 skip<1 | dil5<2 skip<1 | dil3<2 sep3<1 | sep3<0 sep3<3",
        ),
        f"{CNAS_PAPER}, Figure 5",
        {"CIFAR-10 test accuracy": "97.40", "CIFAR-10 params": "3.66 M"},
        (CIFAR, IMAGENET),
        note="Differs from the README's genotype (cnas), to which the published ImageNet weights belong.",
    ),
    Named(
        "ctnas_darts",
        "darts",
        shorthand(
            "avg3<1 skip<0 | skip<1 dil5<2 | dil5<3 sep3<0 | sep3<2 none<2",
            "dil3<1 sep5<0 | none<1 sep5<1 | sep5<1 max3<2 | dil3<1 sep3<0",
        ),
        f"{CTNAS_PAPER}, supplement, Figure C",
        {"CIFAR-10 test accuracy": "97.41 +- 0.04", "CIFAR-10 params": "3.6 M"},
        (("CIFAR-10, C44 L18", Scale(44, 18, 32, 3, 10)), CIFAR, IMAGENET),
        note=FIGURE,
    ),
    Named(
        "ctnas_nasbench101",
        "nasbench101",
        "01111|00110|00010|00001|00000 input,conv1x1-bn-relu,conv3x3-bn-relu,conv3x3-bn-relu,output",
        f"{CTNAS_PAPER}, supplement, Figure A",
        {"CIFAR-10 test accuracy": "94.22", "rank in the space": "3"},
        (NB101,),
        note=FIGURE,
    ),
    Named(
        "ctnas_mobile",
        "mobilenetv3",
        "3,4,4,4,4:5,7,7,3,5,7,7,5,5,7,5,7,5,5,7,5,3,7,7,7:4,6,6,3,6,6,6,6,6,6,6,6,6,6,6,6,6,6,6,6",
        f"{CTNAS_PAPER}, supplement, Figure B",
        {"ImageNet top-1": "77.3", "ImageNet top-5": "93.4", "ImageNet multiply-adds": "482 M"},
        (("ImageNet, 224 px", Scale(16, 5, 224, 3, 1000)),),
        note=f"{FIGURE} The reported 482 M leave the classifier's 1.28 M out.",
    ),
    Named(
        "relativenas",
        "darts",
        shorthand(
            "sep3<0 dil5<1 | sep3<1 sep3<1 | sep3<1 sep5<1 | skip<0 sep3<0",
            "avg3<1 max3<1 | dil5<1 max3<1 | avg3<3 skip<1 | dil5<3 sep3<1",
        ),
        "Tan et al., RelativeNAS, TNNLS 2021 (earlier PairNAS); genotype of the released code",
        {
            "CIFAR-10 test accuracy": "97.66 (first README), 97.74 (later README)",
            "CIFAR-10 params": "3.93 M",
            "CIFAR-100 test accuracy": "84.14",
            "CIFAR-100 params": "3.98 M",
            "ImageNet top-1": "75.12",
            "ImageNet params": "5.05 M",
        },
        (
            CIFAR,
            ("CIFAR-100, C36 L20", Scale(36, 20, 32, 3, 100)),
            ("ImageNet, C46 L14", Scale(46, 14, 224, 3, 1000)),
        ),
        note="The normal cell reads the two cell inputs only; sources are doubled.",
    ),
    *BPE_CELLS,
    Named(
        "resnet20",
        "resnet",
        "resnet20-16",
        "He et al., Deep residual learning, CVPR 2016, section 4.2",
        {"CIFAR-10 test accuracy": "91.25", "CIFAR-10 params": "0.27 M"},
        (("CIFAR-10", Scale()),),
        note="Made by hand, the usual yardstick. Shortcuts without weights (the paper's option A).",
    ),
    Named(
        "resnet18",
        "resnet4",
        "resnet18-64",
        "He et al., CVPR 2016, section 4.1, with a 3x3 stem and no pool, as it is trained on CIFAR",
        {"CIFAR-10 test accuracy": "93.02 (README of the code pytorch-cifar)", "CIFAR-10 params": "11.17 M"},
        (("CIFAR-10", Scale()), ("CIFAR-100", Scale(n_classes=100))),
        note="Made by hand. Two blocks a stage, 64-128-256-512 channels, shortcuts with weights (the paper's option B).",
    ),
    Named(
        "renas_nasbench101",
        "nasbench101",
        "011110|001000|000100|000001|000001|000000 "
        "input,maxpool3x3,conv3x3-bn-relu,conv3x3-bn-relu,conv3x3-bn-relu,output",
        "Xu et al., ReNAS, CVPR 2021; cell file in a public model zoo",
        {"CIFAR-10 test accuracy": "94.11", "params": "4.44 M"},
        (NB101,),
        note="The zoo's network keeps 128 channels and concatenates two projections of 64, so its parameters are not those of "
        "the benchmark's network.",
    ),
)
NAMED: Mapping[str, Named] = {item.name: item for item in _ALL}
ALIASES: Mapping[str, str] = {
    "pairnas": "relativenas",
    "darts": "darts_v2",
    "ctnas": "ctnas_darts",
    "renas": "renas_nasbench101",
    "resnet_18": "resnet18",
    "resnet_20": "resnet20",
}


def find(text: str) -> Named | None:
    """Returns the architecture called ``text`` (case does not matter, ``-`` stands for ``_``), or None."""
    key = text.strip().lower().replace("-", "_")
    return NAMED.get(ALIASES.get(key, key))


def named(name: str) -> Named:
    """Returns the architecture called ``name``, as :func:`find`.

    Raises:
        UnknownNameError: if there is none.
    """
    item = find(name)
    if item is None:
        raise unknown("architecture", name, NAMED, command="archduel list architectures")
    return item

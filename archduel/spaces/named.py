"""Architectures with a name: what papers published, where it stands, and the numbers they reported."""

from __future__ import annotations

from collections.abc import Mapping

from archduel.core import Scale
from archduel.errors import unknown
from archduel.spaces.genotype_text import write_genotype
from archduel.spaces.genotypes import Genotype
from archduel.spaces.named_bpe import BPE_CELLS
from archduel.spaces.named_entry import CIFAR, IMAGENET, Named, nodes, shorthand

__all__ = ["ALIASES", "NAMED", "Named", "find", "named"]

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

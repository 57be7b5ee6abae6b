"""Where architectures come from: the published spaces, a text's architecture, named architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "DARTS",
    "NAMED",
    "Genotype",
    "MobileNetV3",
    "NASBench101",
    "NASBench201",
    "NATSBenchSSS",
    "ResNet",
    "ResNet4",
    "SuperCell",
    "feed_drop_path",
    "open_space",
    "parse",
    "read_genotype",
    "set_drop_path",
    "write_genotype",
]

if TYPE_CHECKING:
    from archduel.apps.spaces import open_space, parse
    from archduel.nets.ops import feed_drop_path, set_drop_path
    from archduel.spaces.darts import DARTS
    from archduel.spaces.genotype_text import read_genotype, write_genotype
    from archduel.spaces.genotypes import Genotype
    from archduel.spaces.mobilenetv3 import MobileNetV3
    from archduel.spaces.named import NAMED
    from archduel.spaces.nasbench101 import NASBench101
    from archduel.spaces.nasbench201 import NASBench201
    from archduel.spaces.natsbench_sss import NATSBenchSSS
    from archduel.spaces.resnet import ResNet, ResNet4
    from archduel.spaces.supercell import SuperCell
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "DARTS": "archduel.spaces.darts",
            "NAMED": "archduel.spaces.named",
            "Genotype": "archduel.spaces.genotypes",
            "MobileNetV3": "archduel.spaces.mobilenetv3",
            "NASBench101": "archduel.spaces.nasbench101",
            "NASBench201": "archduel.spaces.nasbench201",
            "NATSBenchSSS": "archduel.spaces.natsbench_sss",
            "ResNet": "archduel.spaces.resnet",
            "ResNet4": "archduel.spaces.resnet",
            "SuperCell": "archduel.spaces.supercell",
            "feed_drop_path": "archduel.nets.ops",
            "open_space": "archduel.apps.spaces",
            "parse": "archduel.apps.spaces",
            "read_genotype": "archduel.spaces.genotype_text",
            "set_drop_path": "archduel.nets.ops",
            "write_genotype": "archduel.spaces.genotype_text",
        },
    )

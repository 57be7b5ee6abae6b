"""Where architectures come from: the published spaces, a text's architecture, named architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archduel._lazy import lazy

__all__ = [
    "DARTS",
    "NAMED",
    "Footprint",
    "Genotype",
    "MobileNetV3",
    "NASBench101",
    "NASBench201",
    "NATSBenchSSS",
    "ResNet",
    "ResNet4",
    "Stages",
    "SuperCell",
    "Tiny",
    "feed_drop_path",
    "footprint",
    "network_footprint",
    "open_space",
    "parse",
    "read_genotype",
    "set_drop_path",
    "write_genotype",
]

if TYPE_CHECKING:
    from archduel.spaces.darts.genotype import Genotype
    from archduel.spaces.darts.genotype_text import read_genotype, write_genotype
    from archduel.spaces.darts.space import DARTS
    from archduel.spaces.darts.supercell import SuperCell
    from archduel.spaces.layers import feed_drop_path, set_drop_path
    from archduel.spaces.lookup import open_space, parse
    from archduel.spaces.memory import Footprint, footprint, network_footprint
    from archduel.spaces.mobilenetv3.space import MobileNetV3
    from archduel.spaces.named import NAMED
    from archduel.spaces.nasbench101.space import NASBench101
    from archduel.spaces.nasbench201.space import NASBench201
    from archduel.spaces.natsbench_sss.space import NATSBenchSSS
    from archduel.spaces.resnet.space import ResNet, ResNet4
    from archduel.spaces.stages.space import Stages
    from archduel.spaces.tiny.space import Tiny
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "DARTS": "archduel.spaces.darts.space",
            "NAMED": "archduel.spaces.named",
            "Footprint": "archduel.spaces.memory",
            "Genotype": "archduel.spaces.darts.genotype",
            "MobileNetV3": "archduel.spaces.mobilenetv3.space",
            "NASBench101": "archduel.spaces.nasbench101.space",
            "NASBench201": "archduel.spaces.nasbench201.space",
            "NATSBenchSSS": "archduel.spaces.natsbench_sss.space",
            "ResNet": "archduel.spaces.resnet.space",
            "ResNet4": "archduel.spaces.resnet.space",
            "Stages": "archduel.spaces.stages.space",
            "SuperCell": "archduel.spaces.darts.supercell",
            "Tiny": "archduel.spaces.tiny.space",
            "feed_drop_path": "archduel.spaces.layers",
            "footprint": "archduel.spaces.memory",
            "network_footprint": "archduel.spaces.memory",
            "open_space": "archduel.spaces.lookup",
            "parse": "archduel.spaces.lookup",
            "read_genotype": "archduel.spaces.darts.genotype_text",
            "set_drop_path": "archduel.spaces.layers",
            "write_genotype": "archduel.spaces.darts.genotype_text",
        },
    )

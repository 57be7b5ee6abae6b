"""The DARTS space: cells, genotypes, networks, supernet; and BPE's super-cells, which become the same networks."""

from archduel.core.arch import Scale
from archduel.core.family import Family

__all__ = ["FAMILY", "SUPER_CELLS"]

GENOTYPE = r"\{|(.{0,70}\W)?Genotype"
"""Genotypes as Python or as JSON, with or without a name before them."""

LEAST_DEPTH = 3
"""Cells from which on a network holds both kinds: reductions stand at one and two thirds, and of one or two cells each is one."""

FAMILY = Family(
    "darts",
    "archduel.spaces.darts.space:DARTS",
    build="archduel.spaces.darts.network:build",
    count="archduel.spaces.darts.cost:count",
    supernet="archduel.spaces.darts.supernet:DARTSSupernet",
    scale=Scale(36, 20),
    ladder=((4, 3), (8, 3), (8, 5), (16, 5), (16, 8), (24, 11), (36, 14), (36, 20)),
    least_depth=LEAST_DEPTH,
    costs_for_rankers=True,
    widest={"preset": "any"},
    usual={"preset": "darts"},
    columns={"arch": "genotype"},
    formats=("bpe",),
    one_by_fingerprint=True,  # a node's two edges have no order
    text_pattern=GENOTYPE,
    free_text="archduel.spaces.darts.genotype_networks",
    diagrams="archduel.spaces.drawing:darts",
    generators={"bpe": "archduel.spaces.darts.supercell:random_darts"},
)
SUPER_CELLS = Family(
    "darts_supercell",
    "archduel.spaces.darts.supercell:SuperCell",
    build="archduel.spaces.darts.network:build",
    count="archduel.spaces.darts.cost:count",
    scale=Scale(36, 20),
    least_depth=LEAST_DEPTH,
    costs_for_rankers=True,
    widest={"none": True},
    usual={"none": False},
    text_pattern=GENOTYPE,
    free_text="archduel.spaces.darts.genotype_networks",
    diagrams="archduel.spaces.drawing:darts_supercell",
)

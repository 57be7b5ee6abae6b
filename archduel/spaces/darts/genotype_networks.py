"""Networks of genotypes that no space holds (NASNet, AmoebaNet): built, counted and drawn from their text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archduel.core import Counts, Scale
from archduel.spaces.darts.cost import count_genotype
from archduel.spaces.darts.genotype_text import read_genotype, write_genotype

if TYPE_CHECKING:
    from torch import nn

    from archduel.spaces.drawing import Diagram

__all__ = ["build", "canonical", "count", "diagrams"]


def build(text: str, scale: Scale, *, auxiliary: bool = False, **options: Any) -> nn.Module:
    """Returns the untrained network, see :func:`archduel.spaces.darts.network.build_genotype`."""
    from archduel.spaces.darts.network import build_genotype

    return build_genotype(read_genotype(text), scale, auxiliary=auxiliary, **options)


def count(text: str, scale: Scale, **options: Any) -> Counts:
    """Returns its parameters and multiply-adds, auxiliary head left out."""
    return count_genotype(read_genotype(text), scale, **options)


def canonical(text: str) -> str:
    """Returns the same genotype in the form of DARTS's code."""
    return write_genotype(read_genotype(text))


def diagrams(text: str) -> list[Diagram]:
    """Returns its cells as diagrams."""
    from archduel.spaces.drawing import genotype

    return genotype(read_genotype(text))

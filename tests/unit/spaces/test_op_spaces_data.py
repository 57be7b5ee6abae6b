"""Every row of the public tables: strings, order, equivalence, parameters, multiply-adds, genotypes."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archduel.core import Scale
from archduel.spaces.darts.genotype_text import read_genotype, write_genotype
from archduel.spaces.darts.space import DARTS
from archduel.spaces.darts.supercell import SuperCell
from archduel.spaces.family import build, count
from archduel.spaces.nasbench201.space import NASBench201
from archduel.spaces.natsbench_sss.space import NATSBenchSSS

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def root() -> Path:
    if "ARCHDUEL_DATA" not in os.environ:
        pytest.skip("needs public data: set ARCHDUEL_DATA to its folder")
    return Path(os.environ["ARCHDUEL_DATA"])


def rows(path: Path, *columns: str) -> list[dict[str, Any]]:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    return parquet.read_table(path, columns=list(columns)).to_pylist()


def test_all_nasbench201_rows_agree(root: Path) -> None:
    table = rows(
        root / "nasbench201" / "nasbench201.parquet",
        "arch_index",
        "arch_str",
        "unique_str",
        "params",
        "mmacs",
    )
    assert len(table) == 15_625
    space, scale = NASBench201(), Scale()
    for row in table:
        arch = space.read(row["arch_str"])
        assert space.write(arch) == row["arch_str"]
        assert (space.index(arch), space.at(row["arch_index"])) == (row["arch_index"], arch)
        assert space.unique_str(arch) == row["unique_str"]
        counts = count(arch, scale)
        assert counts.params == row["params"]
        assert counts.macs == round(row["mmacs"] * 1e6)


def test_25_nasbench201_networks_are_built_with_the_published_parameters(root: Path) -> None:
    import torch

    table = rows(root / "nasbench201" / "nasbench201.parquet", "arch_str", "params")
    for i in np.random.default_rng(0).choice(len(table), 25, replace=False):
        with torch.device("meta"):
            network = build(NASBench201().read(table[i]["arch_str"]), Scale())
        assert sum(p.numel() for p in network.parameters()) == table[i]["params"]


def test_size_space_order(root: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    table = parquet.read_table(root / "natsbench_sss" / "natsbench_sss.parquet")
    name = next(column for column in table.column_names if ":" in str(table.column(column)[0].as_py()))
    space = NATSBenchSSS()
    assert [space.write(space.at(i)) for i in range(space.size)] == table.column(name).to_pylist()


def test_every_published_genotype_is_read_and_written(root: Path) -> None:
    paths = [*sorted((root / "bpe").glob("*.csv")), root / "darts_random214" / "architectures.csv"]
    supercell, space, read = SuperCell(none=True), DARTS("bpe"), 0
    for path in paths:
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                if "genotype" not in row:
                    continue
                read += 1
                genotype = read_genotype(row["genotype"])
                assert read_genotype(write_genotype(genotype, "bpe")) == genotype
                if "edge_ops" in row:
                    assert supercell.read(row["edge_ops"]) == supercell.read(row["genotype"])
                elif path.name != "ea_rl_results.csv":  # which holds unpruned super-cells too
                    arch = space.read(row["genotype"])
                    assert space.read(space.write(arch)) == arch
    assert read == 794


def test_bpe_parameters_are_those_of_the_spreadsheet(root: Path) -> None:
    """The sheet leaves the auxiliary head out twice and counts in 2^20; its figures are rounded to 0.1."""
    with open(root / "bpe" / "ea_rl_results.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 25
    for row in table:
        arch = SuperCell(none=True).arch(read_genotype(row["genotype"]))
        printed = (count(arch, Scale(36, 20)).params - 476_426) / 2**20
        assert printed == pytest.approx(float(row["params"].removesuffix("M")), abs=0.061)

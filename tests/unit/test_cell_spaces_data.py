"""Every published NAS-Bench-101 label and once-for-all row at hand: hashes, representatives, parameters, multiply-adds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archduel.core import Scale
from archduel.spaces.family import build, count
from archduel.spaces.mobilenetv3.space import MobileNetV3
from archduel.spaces.nasbench101.arrays import canonical, pack
from archduel.spaces.nasbench101.enumeration import hash_cells, hash_texts
from archduel.spaces.nasbench101.space import NASBench101

pytestmark = pytest.mark.data
PUBLISHED = Scale(channels=128, depth=3, image_size=32, in_channels=3, n_classes=10)


def rows_of(*names: str) -> list[dict[str, Any]]:
    if "ARCHDUEL_DATA" not in os.environ:
        pytest.skip("needs public data: set ARCHDUEL_DATA to its folder")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    root = Path(os.environ["ARCHDUEL_DATA"])
    return [row for name in names for row in parquet.read_table(root / f"{name}.parquet").to_pylist()]


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    return rows_of("nasbench101/cells_val_4budgets", "nasbench101/cells_val_test_3runs")


def test_every_labelled_cell_has_its_hash_and_its_parameters(cells: list[dict[str, Any]]) -> None:
    assert len(cells) == 20_001 + 3_258
    space = NASBench101()
    archs = [space.read(f"{row['adjacency']} {row['ops']}") for row in cells]
    assert [space.fingerprint(arch) for arch in archs[::10]] == [row["hash"] for row in cells[::10]]
    assert hash_texts(hash_cells(pack(archs))) == [row["hash"] for row in cells]
    assert [count(arch, PUBLISHED).params for arch in archs] == [row["trainable_parameters"] for row in cells]
    first = canonical(pack(archs[:20_001])).archs()
    assert first == archs[:20_001]  # these rows stand in the published order


def test_networks_of_30_labelled_cells_have_the_published_parameters(cells: list[dict[str, Any]]) -> None:
    import torch

    space = NASBench101()
    for row in (cells[i] for i in np.random.default_rng(0).choice(len(cells), 30, replace=False)):
        with torch.device("meta"):  # shapes only
            network = build(space.read(f"{row['adjacency']} {row['ops']}"), PUBLISHED)
        assert sum(p.numel() for p in network.parameters()) == row["trainable_parameters"]


def test_every_once_for_all_row_has_its_parameters_and_multiply_adds() -> None:
    rows = rows_of("ofa_mbv3_dynast/ofa_mbv3_subnets")
    space, scale = MobileNetV3(), Scale(channels=16, image_size=224, n_classes=1000)
    archs = [space.read(f"{row['depths']}:{row['kernel_sizes']}:{row['expand_ratios']}") for row in rows]
    assert [count(arch, scale) for arch in archs] == [(row["params"], row["macs"]) for row in rows]
    # 2,223 differ as written, 2,162 once entries of absent blocks are left out
    assert len({space.fingerprint(arch) for arch in archs}) == 2_162

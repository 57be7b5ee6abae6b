"""The table that comes with the package: NAS-Bench-201 cells on the digits."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau
from typer.testing import CliRunner

from archduel.commands import app
from archduel.spaces.nasbench201.space import NASBench201
from archduel.tables.store import open_table
from archduel.tables.table import Table


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """The table by its name, where the user has none."""
    monkeypatch.setenv("ARCHDUEL_TABLES", str(tmp_path))
    return open_table("digits201")


def test_cells_are_functionally_different_and_have_three_whole_runs(table: Table) -> None:
    space = NASBench201()
    assert len(table) >= 1000
    assert len({space.fingerprint(arch) for arch in table.archs}) == len(table)
    for split in ("validation", "test", "seconds"):
        values = table.values(split)
        assert values.shape == (1, 3, len(table))
        assert np.isfinite(values).all()
    assert 0.7 < table.best_validation < 0.9


def test_two_seeds_order_the_cells_alike(table: Table) -> None:
    runs = table.values("validation")[0]
    taus = [kendalltau(runs[a], runs[b])[0] for a, b in combinations(range(3), 2)]
    assert np.mean(taus) >= 0.7


def test_the_table_says_how_it_was_made(table: Table) -> None:
    made = table.header.provenance
    assert made["command"].startswith("archduel table train digits ")
    assert made["mean_of"] == 2
    assert made["recipe"]["channels"] == 4
    assert {"hardware", "versions"} <= set(made)
    assert "/" not in made["command"].replace("benchmarks/records/digits201.table", "")


def test_strategies_can_be_compared_without_any_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHDUEL_TABLES", str(tmp_path))
    out = tmp_path / "out.json"
    call = ["bench", "search", "--table", "digits201", "--strategies", "random,evolution", "--queries", "60", "--runs", "4"]
    answer = CliRunner().invoke(app, [*call, "--json", str(out), "--quiet"])
    assert answer.exit_code == 0, answer.output
    records = {record["strategy"]: record for record in json.loads(out.read_text())}
    assert set(records) == {"random", "evolution"}
    assert all(0.3 < record["mean_test"] < 0.9 and record["runs"] == 4 for record in records.values())

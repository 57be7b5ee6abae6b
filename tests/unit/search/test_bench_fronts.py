"""`bench search --objectives`: the share of the true front, what is known beforehand, output, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from archduel.commands import app
from archduel.commands.bench.fronts import FrontBench, TrueFront, bench_fronts, fronts_summary
from archduel.commands.bench.search_trials import Protocol, objectives_in
from archduel.core import SCORE, Arch, sample
from archduel.errors import SettingError, TableError, UnknownNameError
from archduel.spaces.nasbench201.space import NASBench201
from archduel.tables.build import make_table
from archduel.tables.store import open_table


def quality(arch: Arch) -> float:
    """A made-up accuracy: convolutions are good."""
    worth = (0.0, 0.05, 0.07, 0.1, 0.02)
    return 0.3 + sum(worth[op] * weight for op, weight in zip(arch.choices, (1.2, 1.1, 1, 1, 1, 1)))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 300 cells without test values: nothing of a front may need them."""
    space, rng = NASBench201(), np.random.default_rng(0)
    archs = list(dict.fromkeys(sample(space, rng) for _ in range(310)))[:300]
    scores = np.array([quality(arch) for arch in archs])
    macs = np.array([1.0 + sum((0, 0, 1, 9, 0)[op] for op in arch.choices) for arch in archs])
    latency = macs**0.5 + rng.random(300)
    latency[7] = np.nan
    columns = {"macs": macs, "latency_ms": latency, "nothing": np.full(300, np.nan)}
    file = tmp_path_factory.mktemp("tables") / "fronts.table"
    make_table(archs, {"validation": scores}, columns=columns, name="fronts", space=space).write(file)
    return file


@pytest.fixture(scope="module")
def bench(path: Path) -> FrontBench:
    """A finished comparison."""
    return bench_fronts(path, "best,random,evolution", ["val_error", "macs"], queries=[15, 30], runs=3, workers=0)


def test_all_rows_have_all_of_the_front_and_nothing_has_none(path: Path) -> None:
    table = open_table(path)
    truth = TrueFront(table, Protocol(str(path), objectives=(SCORE, "latency_ms")))
    shares = truth.shares(range(len(table)), len(table) + 5)
    assert shares[-1] == pytest.approx(1.0)
    assert (np.diff(shares) >= -1e-12).all()
    assert truth.shares([], 3).tolist() == [0, 0, 0]
    assert 7 not in truth.rows  # a row that lacks an objective is of no front
    assert truth.losses[truth.rows].min() == 0.0
    assert truth.losses[truth.rows].max() == 1.0


def test_records_hold_what_is_promised(bench: FrontBench) -> None:
    assert [(r["strategy"], r["queries"]) for r in bench.records] == [(n, q) for n in ("best", "random", "evolution") for q in (15, 30)]
    for record in bench.records:
        assert 0 < record["mean_share"] <= 1
        assert record["mean_log10_missing"] < 0
        assert record["share_low"] <= record["mean_share"] <= record["share_high"]
    assert bench.shares["best"].shape == (3, 30)
    assert {c.first for tests in bench.comparisons.values() for c in tests} == {"best"}
    assert bench.records[2]["against"] == "best"
    assert bench.facts["known_beforehand"] == ["macs"]
    for surface in bench.surfaces.values():
        assert len(surface) >= 1
    text = fronts_summary(bench)
    assert "true front of val_error and macs" in text
    assert "no test value is read" in text


def test_best_is_ahead_of_chance_where_a_cost_is_known(bench: FrontBench) -> None:
    assert bench.shares["best"][:, -1].mean() > bench.shares["random"][:, -1].mean()


def test_what_is_known_beforehand_is_said(path: Path) -> None:
    table = open_table(path)
    known = objectives_in(table, Protocol(str(path), objectives=(SCORE, "macs"), known=("macs",)))
    assert known is not None
    assert known.beforehand(table.archs[:3])[:, 1] == pytest.approx(table.column("macs")[:3])
    assert objectives_in(table, Protocol(str(path))) is None


def test_a_comparison_goes_on_where_it_stopped(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "some.trials.jsonl"
    first = bench_fronts(path, "random,nsga2", ["val_error", "macs"], queries=10, runs=2, workers=0, trials=file)
    seen: list[int] = []
    again = bench_fronts(path, "random,nsga2", ["val_error", "macs"], queries=10, runs=2, workers=0, trials=file, on_trial=lambda *n: seen.append(1))
    assert not seen
    assert np.array_equal(first.shares["nsga2"], again.shares["nsga2"])


@pytest.mark.parametrize(
    ("objectives", "known", "error", "text"),
    [
        (["val_error", "energy"], None, UnknownNameError, "objective .* 'energy'"),
        (["val_error", "macs", "macs"], None, SettingError, "there twice"),
        (["val_error", "accuracy"], None, SettingError, "there twice"),
        (["val_error"], None, SettingError, "at least two"),
        ([], None, SettingError, "no objective"),
        (["val_error", "macs"], ["latency_ms"], SettingError, "known beforehand"),
        (["val_error", "nothing"], None, TableError, "no row"),
    ],
)
def test_bad_objectives_are_explained(path: Path, objectives: list[str], known: list[str] | None, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        bench_fronts(path, "random", objectives, known=known, queries=5, runs=1, workers=0)


def test_the_command(path: Path, tmp_path: Path) -> None:
    line = ["bench", "search", "--table", str(path), "--strategies", "random,nsga2", "--objectives", "val_error,latency_ms"]
    line += ["--queries", "10", "--runs", "2", "--workers", "0", "--quiet", "--json", str(tmp_path / "out.json"), "--csv", str(tmp_path / "out.csv")]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    assert "log10(1 - share)" in result.output
    records = json.loads((tmp_path / "out.json").read_text())
    assert records[0]["facts"]["objectives"] == ["val_error", "latency_ms"]
    assert (tmp_path / "out.csv").read_text().startswith("strategy,queries")
    refused = CliRunner().invoke(app, [*line, "--reduce", "sample"])
    assert refused.exit_code != 0

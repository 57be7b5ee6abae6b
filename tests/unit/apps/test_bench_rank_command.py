"""`archduel bench rank` from the outside: records with the promised fields, the same again, clear errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from archduel import registry
from archduel.commands import app
from archduel.core import enumerate_space
from archduel.tables.build import make_table

FIELDS = {
    "ranker", "labels", "splits", "kendall_tau", "kendall_tau_low", "kendall_tau_high", "spearman", "precision_at_1pct",
    "fit_seconds", "query_seconds",
}  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table whose accuracy is the share of convolutions, with noise on validation."""
    space = registry.make("space", "nasbench201")
    archs = list(enumerate_space(space))[::40]
    test = np.array([sum(c in (2, 3) for c in arch.choices) for arch in archs]) / 10 + 0.2
    noise = np.random.default_rng(0).normal(0, 0.01, len(archs))
    path = tmp_path_factory.mktemp("tables") / "toy.table"
    make_table(archs, {"validation": np.clip(test + noise, 0, 1), "test": test}, name="toy", space=space).write(path)
    return path


def run(*words: str) -> object:
    return CliRunner().invoke(app, ["bench", "rank", *words])


def test_records_have_the_promised_fields_and_repeat(table: Path, tmp_path: Path) -> None:
    records = []
    for name in ("a.json", "b.json"):
        out = tmp_path / name
        result = run("--table", str(table), "--rankers", "extratrees[trees=20]", "--labels", "40", "--splits", "3", "--json", str(out))
        assert result.exit_code == 0, result.output
        records.append(json.loads(out.read_text()))
    (first,), (second,) = records
    assert set(first) >= FIELDS
    assert first["kendall_tau"] == second["kendall_tau"]
    assert first["kendall_tau"] > 0.6
    assert first["kendall_tau_low"] <= first["kendall_tau"] <= first["kendall_tau_high"]


def test_more_labels_than_architectures_is_an_error(table: Path) -> None:
    result = run("--table", str(table), "--rankers", "extratrees", "--labels", "4000", "--splits", "2")
    assert result.exit_code != 0
    assert "4000" in str(result.exception)


def test_a_figure_in_an_unknown_format_is_refused_before_the_work(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    words = ("--rankers", "extratrees", "--labels", "40", "--splits", "2", "--json", str(out), "--figure", str(tmp_path / "x.xyz"))
    assert "must end in .svg, .png, .pdf" in str(run("--table", str(table), *words).exception)
    assert not out.exists()


def test_a_setting_that_a_ranker_does_not_have_is_named(table: Path) -> None:
    result = run("--table", str(table), "--rankers", "nac[epoch=3]", "--labels", "40", "--splits", "2")
    assert "setting of ranker 'nac': 'epoch' is unknown; did you mean 'epochs'?" in str(result.exception)

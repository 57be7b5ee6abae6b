"""`archduel bench rank`: splits, records, figures, going on, other tables, the command."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from archduel.commands import app
from archduel.commands.bench.output import rank_summary as summary
from archduel.commands.bench.output import write_figure
from archduel.commands.bench.rank import PRESETS, Protocol, Sides, bench_rank, open_field, parse_entrants
from archduel.errors import SettingError, TableError, UnknownNameError
from archduel.rankers.best import Jury
from archduel.rankers.published import VARIANTS
from archduel.spaces.darts.space import DARTS
from archduel.spaces.lookup import closed_form_costs
from archduel.spaces.nasbench201.space import NASBench201
from archduel.tables import store as tables
from archduel.tables.importing import ImportPlan, import_columns
from archduel.tables.store import open_table

NAMED = {"labels", "splits", "kendall_tau", "kendall_tau_low", "kendall_tau_high", "spearman", "precision_at_1pct",
         "fit_seconds", "query_seconds", "ranker"}  # fmt: skip


def write_table(folder: Path, name: str, *, seed: int, noise: float = 0.01) -> str:
    """Writes 120 NAS-Bench-201 cells whose accuracy grows with their 3x3 convolutions; returns the table's name."""
    space, rng = NASBench201(), np.random.default_rng(0)
    rows = rng.choice(space.size, 120, replace=False)
    noisy = np.random.default_rng(seed)
    path = folder / f"{name}.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arch", "val", "test"])
        for row in rows.tolist():
            arch = space.at(row)
            accuracy = 0.5 + 0.05 * arch.choices.count(3) + 0.02 * arch.choices.count(2)
            writer.writerow([space.write(arch), *(accuracy + noise * noisy.normal(size=2))])
    plan = ImportPlan(out=folder / f"{name}.table")
    import_columns(path, "nasbench201", plan, columns={"arch": "arch"}, values={"validation": ["val"], "test": ["test"]})
    return str(folder / f"{name}.table")


def test_labelled_and_judged_do_not_overlap_and_splits_are_the_same_for_everyone() -> None:
    protocol = Protocol("t", (10, 20), splits=3, seed=5)
    small, large, other = protocol.sides(100, 10, 1), protocol.sides(100, 20, 1), protocol.sides(100, 10, 2)
    assert set(small.labelled) <= set(large.labelled)
    assert sorted([*small.labelled, *small.judged]) == list(range(100))
    assert not np.array_equal(small.labelled, other.labelled)
    assert len(Protocol("t", (10,), judge="30").sides(100, 10, 0).judged) == 30
    whole = Protocol("t", (10,), judge="all", draw="first").sides(100, 10, 4)
    assert np.array_equal(whole.labelled, np.arange(10))
    assert np.array_equal(whole.judged, np.arange(100))
    with pytest.raises(SettingError, match="99 labels"):
        protocol.sides(100, 99, 0)


def test_distinct_leaves_one_of_each_class_that_no_label_knows() -> None:
    classes = np.array([0, 0, 1, 1, 2, 2, 3])
    sides = Sides(np.array([0]), np.array([1, 3, 2, 4, 5, 6]))
    assert sides.distinct(classes).tolist() == [False, True, False, True, False, True]


def test_records_hold_what_is_promised_and_finished_trials_are_kept(tmp_path: Path) -> None:
    table, trials = write_table(tmp_path, "one", seed=1), tmp_path / "trials.jsonl"
    calls: list[tuple[int, int]] = []
    settings = {"labels": (20, 40), "splits": 2, "trials": trials, "on_trial": lambda *done: calls.append(done)}
    bench = bench_rank(table, "gp,sklearn[regressor=sklearn.linear_model.Ridge]", **settings)
    assert calls[-1] == (8, 8)
    assert [(r["labels"], r["ranker"].partition("[")[0]) for r in bench.records] == [
        (20, "gp"), (20, "sklearn"), (40, "gp"), (40, "sklearn"),
    ]  # fmt: skip
    first = bench.records[0]
    assert set(first) >= NAMED | {f"{name}_distinct" for name in ("kendall_tau", "spearman")}
    assert first["judged"] == 100
    assert first["kendall_tau_low"] <= first["kendall_tau"] <= first["kendall_tau_high"]
    assert first["kendall_tau"] == pytest.approx(np.mean(first["kendall_taus"]))
    assert first["against"].startswith("sklearn")
    assert first["difference"] == pytest.approx(first["kendall_tau"] - bench.records[1]["kendall_tau"])
    assert bench.records[2]["kendall_tau"] > 0.5
    calls.clear()
    again = bench_rank(table, "gp,sklearn[regressor=sklearn.linear_model.Ridge]", **settings)
    assert not calls
    assert again.records == bench.records
    assert all(word in summary(bench) for word in ("gp", "tau, distinct", "120 architectures"))
    write_figure(bench, tmp_path / "tau.svg")
    assert (tmp_path / "tau.svg").read_text().startswith("<?xml")


def test_the_number_of_processes_changes_nothing(tmp_path: Path) -> None:
    table = write_table(tmp_path, "one", seed=1)
    here, there = (bench_rank(table, "gp", labels=(20,), splits=2, workers=workers) for workers in (0, 1))
    assert here.records[0]["kendall_taus"] == there.records[0]["kendall_taus"]


def test_our_ranker_sees_nothing_but_the_labels_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHDUEL_TABLES", str(tmp_path))
    monkeypatch.setattr(tables, "_bundled", lambda: tmp_path / "bundled")
    (tmp_path / "bundled").mkdir()
    predictions = []
    for seed in (1, 2):  # other labels of the same architectures, in all tables there are
        field = open_field(write_table(tmp_path, "own", seed=1), "validation", None)
        for folder, name in ((tmp_path, "other"), (tmp_path / "bundled", "digits201")):
            write_table(folder, name, seed=seed, noise=0.1)
            assert len(open_table(name)) == 120
        jury = Jury(field.space, trees=20, folds=2, reference=50)
        jury.fit(field.archs[:30], field.labels[:30])
        predictions.append(jury.predict(field.archs))
        open_field.cache_clear()
    assert np.array_equal(*predictions)


def test_what_is_learned_and_judged_can_be_chosen(tmp_path: Path) -> None:
    table = write_table(tmp_path, "one", seed=1)
    bench = bench_rank(table, "gp", preset="ctnas", labels=(15,), splits=1, learn="test")
    assert bench.records[0]["judged"] == 100
    assert bench.facts["learn"] == "test"
    assert bench.records[0]["kendall_tau_low"] is None


def test_every_preset_and_variant_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHDUEL_CACHE", str(tmp_path))
    for preset in PRESETS.values():
        Protocol("t", **preset)
    for entrant in parse_entrants(",".join(VARIANTS).replace("best+zc", "best+zc[data=digits]")):
        assert entrant.make(NASBench201(), 0) is not None
    assert closed_form_costs(NASBench201()) is None
    space = DARTS()
    from archduel.core import sample

    costs = closed_form_costs(space)
    assert costs is not None
    assert costs([sample(space, np.random.default_rng(0))]).shape == (1, 2)


def test_measured_networks_are_a_row_of_their_own_that_names_its_data_and_counts_its_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHDUEL_CACHE", str(tmp_path))
    table, title = write_table(tmp_path, "one", seed=1), "best+zc[data=digits;channels=4;image_size=8;folds=0;trees=20]"
    settings = {"labels": (12,), "splits": 1, "judge": "10"}
    paid, cached = (bench_rank(table, title, **settings).records[0] for _ in range(2))
    assert paid["settings"]["data"] == "digits"
    assert paid["kendall_taus"] == cached["kendall_taus"]
    (kept,) = (tmp_path / "zero_cost").glob("*.jsonl")
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert len(rows) == 22
    assert cached["fit_seconds"] + cached["query_seconds"] > sum(row["seconds"] for row in rows) > 0
    with pytest.raises(SettingError, match="images"):
        bench_rank(table, "best+zc", **settings)


def test_bad_input_says_what_is_wrong(tmp_path: Path) -> None:
    table = write_table(tmp_path, "one", seed=1)
    with pytest.raises(UnknownNameError, match="did you mean 'nac'"):
        parse_entrants("naac")
    with pytest.raises(SettingError, match="NAME=VALUE"):
        parse_entrants("nac[fast]")
    with pytest.raises(SettingError, match="twice"):
        parse_entrants("gp,gp")
    with pytest.raises(SettingError, match="how many labels"):
        bench_rank(table, "gp")
    with pytest.raises(SettingError, match="119 labels"):
        bench_rank(table, "gp", labels=(119,))
    with pytest.raises(TableError, match="train"):
        open_field(table, "train", None)
    with pytest.raises(UnknownNameError, match="preset"):
        bench_rank(table, "gp", preset="mine")
    with pytest.raises(UnknownNameError, match="compare"):
        bench_rank(table, "gp", labels=(20,), against="nac")


def test_the_command_prints_a_table_and_writes_records(tmp_path: Path) -> None:
    table, out = write_table(tmp_path, "one", seed=1), tmp_path / "out.json"
    arguments = ["bench", "rank", "--table", table, "--rankers", "gp", "--labels", "20", "--splits", "2", "--json", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "gp" in result.output
    (record,) = json.loads(out.read_text())
    assert set(record) >= NAMED
    assert record["facts"]["space"] == "nasbench201"
    assert isinstance(CliRunner().invoke(app, [*arguments[:7], "many"]).exception, SettingError)

"""`bench search`: counting, pairing, resuming, workers, output, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from archduel.commands import app
from archduel.commands.bench.output import search_summary as summary
from archduel.commands.bench.output import write_csv, write_figures, write_records, write_trajectories
from archduel.commands.bench.search import Bench, area, bench_search, configured, curve, proposals
from archduel.commands.bench.search_trials import Protocol, Trial, parse_contestants, run_trial
from archduel.core import Arch, check_decisions, mutate, neighbours, sample
from archduel.errors import BudgetError, InvalidArchError, SettingError, TableError, UnknownNameError
from archduel.spaces.nasbench201.space import NASBench201
from archduel.tables.build import make_table
from archduel.tables.estimator import Restricted, searchable
from archduel.tables.file import Fidelity
from archduel.tables.store import open_table


def quality(arch: Arch) -> float:
    """A made-up accuracy: convolutions are good, early ones better."""
    worth = (0.0, 0.05, 0.07, 0.1, 0.02)
    return 0.3 + sum(worth[op] * weight for op, weight in zip(arch.choices, (1.2, 1.1, 1, 1, 1, 1)))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 300 cells with validation and test values and training times."""
    space, rng = NASBench201(), np.random.default_rng(0)
    archs = list(dict.fromkeys(sample(space, rng) for _ in range(310)))[:300]
    scores = np.array([quality(arch) for arch in archs])
    values = {"validation": scores, "test": scores - 0.01, "seconds": 10 + 100 * scores}
    file = tmp_path_factory.mktemp("tables") / "small.table"
    make_table(archs, values, name="small", space=space).write(file)
    return file


@pytest.fixture(scope="module")
def bench(path: Path) -> Bench:
    """A finished comparison."""
    return bench_search(path, "random,evolution,local", queries=[20, 40], runs=4, workers=0)


def test_records_hold_what_is_promised(bench: Bench) -> None:
    assert [(r["strategy"], r["queries"]) for r in bench.records] == [
        (name, q) for name in ("random", "evolution", "local") for q in (20, 40)
    ]
    for record in bench.records:
        assert record["runs"] == 4
        assert 0 <= record["share_best"] <= 1
        assert record["test_low"] <= record["mean_test"] <= record["test_high"]
        # the test value is read for the incumbent that validation chose
        assert record["mean_test"] == pytest.approx(record["mean_validation"] - 0.01, abs=1e-6)
        assert record["seconds"] == pytest.approx(record["paid_queries"] * 50, rel=0.5)


def test_queries_to_the_best_are_those_of_the_runs(bench: Bench) -> None:
    for record in bench.records:
        regret = bench.curves[record["strategy"], 40].regret[:, : record["queries"]]
        first = sorted(next((q + 1 for q, left in enumerate(run) if left < 1e-9), float("inf")) for run in regret.tolist())
        met = sum(number < float("inf") for number in first)
        assert record["median_to_best"] == (first[1] if met >= 2 else None)
        assert record["upper_to_best"] == (first[2] if met >= 3 else None)
        assert record["mean_to_best"] == (pytest.approx(sum(first) / 4) if met == 4 else None)


def test_what_was_learned_is_the_first_architecture_asked_after_the_labels(path: Path) -> None:
    table, protocol = open_table(path), Protocol(str(path))
    every = table.test()
    best, worst = int(np.nanargmax(every)), int(np.nanargmin(every))
    trials = [Trial("made up", 4, run, [5, 6, first, best], [0.0] * 4, [0.0] * 4, best, 0.0) for run, first in enumerate((best, worst))]
    found = proposals(table, protocol, trials, 2)
    assert found["mean_proposed_test"] == pytest.approx((every[best] + every[worst]) / 2)
    percents = (100 / len(table), 100 * (1 + np.count_nonzero(every > every[worst])) / len(table))
    assert found["mean_proposed_test_rank_percent"] == pytest.approx(sum(percents) / 2)
    assert proposals(table, protocol, trials, 4) == {}  # nothing was asked after four labels


def test_only_strategies_with_labels_have_a_first_proposal(path: Path) -> None:
    first, second = bench_search(path, "random,renas[ranker=gp;labels=8;top=2]", queries=10, runs=2, workers=0).records
    assert "mean_proposed_test" not in first
    assert second["mean_proposed_test"] <= 1


def test_more_queries_are_never_worse(bench: Bench) -> None:
    for early, late in zip(bench.records[::2], bench.records[1::2]):
        assert late["mean_validation"] >= early["mean_validation"]
        assert late["mean_regret"] <= early["mean_regret"]


def test_runs_are_paired(bench: Bench) -> None:
    """Random search and evolution begin with the same architectures in the same run."""
    first, second = bench.curves["random", 40], bench.curves["evolution", 40]
    assert (first.validation[:, :20] == second.validation[:, :20]).all()


def test_results_do_not_depend_on_workers_or_interruption(path: Path, tmp_path: Path) -> None:
    kept = tmp_path / "trials.jsonl"
    settings = {"queries": 12, "runs": 3, "seed": 7}
    here = bench_search(path, "random,best", workers=0, trials=kept, **settings)
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join(lines[:2]) + '\n{"torn": ')
    again = bench_search(path, "random,best", workers=2, trials=kept, **settings)
    for one, two in zip(here.records, again.records):
        assert {k: v for k, v in one.items() if k != "cpu_seconds"} == {k: v for k, v in two.items() if k != "cpu_seconds"}


def test_longer_searches_answer_for_shorter_ones(path: Path, tmp_path: Path) -> None:
    settings = {"runs": 3, "seed": 7, "workers": 0}
    bench_search(path, "evolution,local", queries=30, trials=tmp_path / "kept.jsonl", **settings)
    ran: list[int] = []
    short = bench_search(
        path, "evolution,local", queries=12, trials=tmp_path / "kept.jsonl", on_trial=lambda done, _: ran.append(done), **settings
    )
    again = bench_search(path, "evolution,local", queries=12, **settings)
    assert not ran
    for one, two in zip(short.records, again.records):
        assert {k: v for k, v in one.items() if k != "cpu_seconds"} == {k: v for k, v in two.items() if k != "cpu_seconds"}


def test_a_strategy_with_labels_is_run_for_every_budget(path: Path) -> None:
    bench = bench_search(path, "renas[ranker=gp]", queries=[8, 16], runs=2, workers=0)
    assert set(bench.curves) == {("renas[ranker=gp]", 8), ("renas[ranker=gp]", 16)}
    assert all(curve.paid.tolist() == [budget, budget] for (_, budget), curve in bench.curves.items())


def test_incumbents_by_hand() -> None:
    trial = Trial("x", 6, 0, [5, 3, 9, 1], [0.2, float("nan"), 0.5, 0.5], [1.0, 2.0, 3.0, 4.0], 9, 0.0)
    seen = curve([trial], [0.6])
    assert seen.rows.tolist() == [[5, 5, 9, 9, 9, 9]]
    assert seen.validation.tolist() == [[0.2, 0.2, 0.5, 0.5, 0.5, 0.5]]
    assert seen.seconds.tolist() == [[1, 2, 3, 4, 4, 4]]
    assert area(seen, 4)[0] == pytest.approx((0.4 + 0.4 + 0.1 + 0.1) / 4)


def test_before_the_first_success_a_search_has_its_worst() -> None:
    nan = float("nan")
    trial = Trial("x", 4, 0, [5, 3, 9, 1], [nan, 0.3, 0.2, 0.5], [1.0, 2.0, 3.0, 4.0], 9, 0.0)
    assert curve([trial], [0.6]).validation.tolist() == [[0.2, 0.3, 0.3, 0.5]]


def test_looks_at_a_cheap_fidelity_are_queries_but_no_incumbents(tmp_path: Path) -> None:
    space, rng = NASBench201(), np.random.default_rng(0)
    archs = list(dict.fromkeys(sample(space, rng) for _ in range(210)))[:200]
    scores = np.array([quality(arch) for arch in archs])
    values = {"validation": np.stack([0.9 * scores, 0.5 * scores])[:, None], "test": np.stack([scores, scores])[:, None]}
    two = make_table(archs, values, name="two", space=space, fidelities=(Fidelity("12"), Fidelity("200")))
    two.write(tmp_path / "two.table")
    (contestant,) = parse_contestants("best[cheap=12;looks=2]")
    trial = run_trial(Protocol(str(tmp_path / "two.table")), contestant, 30, 0)
    looks = np.isnan(trial.scores)
    assert len(trial.rows) == 30
    assert looks.sum() == 16  # six in full, then four looks for two in full
    assert set(np.array(trial.rows)[6:][~looks[6:]]) < set(np.array(trial.rows)[looks])
    assert curve([trial], [0.5 * scores.max()]).regret.min() >= -1e-6


def test_repeats_are_charged_once(path: Path) -> None:
    (contestant,) = parse_contestants("evolution[population=3;tournament=3]")
    trial = run_trial(Protocol(str(path)), contestant, 60, 0)
    assert len(set(trial.rows)) == len(trial.rows) == 60


def test_the_narrowed_space_holds_the_table_and_nothing_else(path: Path) -> None:
    table = open_table(path)
    space = searchable(table)
    assert isinstance(space, Restricted)
    assert space.size == 300
    rng = np.random.default_rng(1)
    for _ in range(50):
        arch = sample(space, rng)
        check_decisions(space, arch)
        assert arch in table
        assert mutate(space, arch, rng) in table
    assert all(neighbour in table for neighbour in neighbours(space, table.archs[0]))
    missing = next(a for a in (sample(NASBench201(), rng) for _ in range(99)) if a not in table)
    with pytest.raises(InvalidArchError):
        space.validate(missing)


def test_output_is_written(bench: Bench, tmp_path: Path) -> None:
    write_records(bench, tmp_path / "out.json")
    records = json.loads((tmp_path / "out.json").read_text())
    needed = {"strategy", "queries", "runs", "mean_test", "test_low", "test_high", "mean_validation", "share_best", "seconds"}
    assert all(needed <= record.keys() for record in records)
    assert records[0]["facts"]["table"] == "small"
    write_csv(bench, tmp_path / "out.csv")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 7
    write_trajectories(bench, tmp_path / "t.csv")
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 1 + 3 * 40
    figures = write_figures(bench, tmp_path / "figures")
    assert [figure.stem for figure in figures] == [
        "regret_by_queries", "regret_by_seconds", "critical_difference_20", "critical_difference_40"
    ]  # fmt: skip
    assert all(figure.read_text().lstrip().startswith("<?xml") for figure in figures)


def test_the_summary_names_tests_and_checklist(bench: Bench) -> None:
    text = summary(bench)
    assert "Holm" in text
    assert "checklist: " in text
    assert "no    several runs" in text


def test_every_number_of_queries_is_tested(bench: Bench) -> None:
    tested = [record for record in bench.records if "p_holm" in record]
    assert [record["queries"] for record in tested] == [20, 40] * 2
    assert len({record["against"] for record in tested}) == 1
    assert all(record["p_holm"] >= record["p_wilcoxon"] for record in tested)
    (first, *_) = bench.comparisons[20]
    areas = {title: area(bench.curves[title, 40], 20).mean() for title in (first.first, first.second)}
    assert first.difference.value == pytest.approx(areas[first.first] - areas[first.second])


@pytest.mark.parametrize(
    ("strategies", "kwargs", "error", "words"),
    [
        ("random", {"runs": 0}, SettingError, "at least 1 run"),
        ("random", {"queries": 301}, BudgetError, "has 300 architectures"),
        ("random", {"queries": 0}, BudgetError, "at least 1"),
        ("randm", {}, UnknownNameError, "did you mean 'random'"),
        ("random,random", {}, SettingError, "named twice"),
        ("evolution[population=3", {}, SettingError, "end with"),
        ("evolution[popul=3]", {}, SettingError, "did you mean 'population'"),
        ("random", {"settings": {"local": {}}}, SettingError, "does not take part"),
        ("random", {"against": "local"}, UnknownNameError, "to compare with"),
        ("random", {"reduce": "median"}, SettingError, "expected mean"),
        ("random", {"workers": -1}, SettingError, "negative"),
    ],
)  # fmt: skip
def test_bad_input_is_explained(path: Path, strategies: str, kwargs: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        bench_search(path, strategies, **{"queries": 5, "runs": 1, "workers": 0, **kwargs})


def test_an_equal_start_is_the_start_of_best_and_said_in_the_table(path: Path) -> None:
    names = ["best", "bananas", "npenas", "local", "tpe", "evolution", "random", "best[batch=4]", "bananas[initial=8]"]
    titles = [contestant.title for contestant in configured(names, {}, equal_start=True)]
    assert titles == [
        "best", "bananas[initial=6;batch=2]", "npenas[initial=6;batch=2]", "local[initial=6]", "tpe[startup=6]", "evolution", "random",
        "best[batch=4]", "bananas[initial=8;batch=2]",
    ]  # fmt: skip
    bench = bench_search(path, ["best", "bananas"], queries=[9], runs=3, equal_start=True, workers=0)
    first = [bench.curves[title, 9].rows[:, 5] for title in ("best", "bananas[initial=6;batch=2]")]
    assert np.array_equal(*first)  # the best of the same six architectures
    assert [record["strategy"] for record in bench.records] == ["best", "bananas[initial=6;batch=2]"]


def test_a_table_without_test_values_is_refused(tmp_path: Path) -> None:
    space = NASBench201()
    make_table([space.at(i) for i in range(9)], {"validation": np.linspace(0, 1, 9)}, name="v", space=space).write(
        tmp_path / "v.table"
    )
    with pytest.raises(TableError, match="no test values"):
        bench_search(tmp_path / "v.table", "random", queries=5, runs=1, workers=0)


def test_the_command(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = ["bench", "search", "--table", str(path), "--strategies", "random,evolution", "--queries", "5,10"]
    arguments += ["--runs", "2", "--workers", "0", "--set", "evolution.population=4", "--json", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "evolution[population=4]" in result.output
    assert (tmp_path / "out.trials.jsonl").exists()
    assert len(json.loads(out.read_text())) == 4

"""`archduel bench oneshot`: paths, curriculum, resumption, effects, output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from archduel.commands import app
from archduel.commands.bench.one_shot import bench_one_shot, effects_of, tau_difference
from archduel.commands.bench.one_shot_labels import with_labels
from archduel.commands.bench.one_shot_trials import OneShotProtocol, Paths, Variant, operations_in_order
from archduel.commands.bench.output import one_shot_summary as summary
from archduel.core import Scale, sample
from archduel.errors import RunError, SettingError, UnknownNameError
from archduel.estimators.shared import SharedWeights
from archduel.spaces.mobilenetv3.space import MobileNetV3
from archduel.spaces.nasbench101.space import NASBench101
from archduel.spaces.nasbench201.function import OPS
from archduel.spaces.nasbench201.space import NASBench201
from archduel.tables.build import make_table

SPACE = NASBench201()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    archs = list({SPACE.fingerprint(arch): arch for arch in (sample(SPACE, rng) for _ in range(14))}.values())
    truth = rng.uniform(0.2, 0.9, (1, 1, len(archs)))
    path = tmp_path_factory.mktemp("table") / "truth.table"
    make_table(archs, {"validation": truth, "test": truth, "seconds": truth}, name="truth", space=SPACE).write(path)
    return path


def images(n: int = 80) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    labels = np.arange(n) % 4
    images = rng.integers(0, 100, (n, 8, 8, 3), dtype=np.uint8)
    for i, label in enumerate(labels):
        images[i, 4 * (label // 2) :][:4, 4 * (label % 2) :][:, :4] += 120
    return images, labels


TINY: dict[str, Any] = {
    "cells": 8,
    "passes": (1.0, 3.0),
    "recipe": {"channels": 4, "depth": 1, "batch_size": 8},
    "load": {"image_size": 8},
}


def test_true_labels_are_learned_beside_the_scores_and_judged_on_the_other_cells() -> None:
    rng = np.random.default_rng(0)
    archs = list({SPACE.fingerprint(arch): arch for arch in (sample(SPACE, rng) for _ in range(60))}.values())[:40]
    hidden, sizes = rng.normal(size=(2, len(archs)))  # nothing that a description tells
    column = hidden + rng.normal(0, 0.3, len(archs))
    taus = with_labels(SPACE, archs, column, sizes, hidden, 20, splits=3)
    assert list(taus) == ["scores", "scores and size", "best", "best, scores and size"]
    assert all(len(tau["each"]) == 3 for tau in taus.values())
    assert taus["scores"]["value"] > 0.6
    assert taus["best"]["value"] < 0.4 < taus["best, scores and size"]["value"]
    assert taus["scores and size"]["value"] < 0.6  # a size that says nothing counts as much as the scores
    both = with_labels(SPACE, archs, column, sizes, hidden + sizes, 20, splits=3)
    assert both["scores"]["value"] < 0.6 < both["scores and size"]["value"]
    assert both["best"]["value"] < 0.4 < both["best, scores and size"]["value"]
    with pytest.raises(SettingError, match="--labels 35 of 40 cells leave fewer than 10"):
        with_labels(SPACE, archs, hidden, sizes, hidden, 35)


def test_paths_are_a_function_of_the_batch_and_fair() -> None:
    for sampling in ("uniform", "fair", "strict"):
        one, two = (Paths(SPACE, Variant(sampling, 0.0, 3), 100, ()) for _ in range(2))
        assert [one[b] for b in (0, 7, 8, 23)] == [two[b] for b in (23, 8, 7, 0)][::-1]
    fair, strict = (Paths(SPACE, Variant(way, 0.0, 3), 100, ()) for way in ("fair", "strict"))
    for rounds in ([fair[b][0] for b in range(5, 10)], strict[4]):
        assert all(sorted(arch.choices[edge] for arch in rounds) == [0, 1, 2, 3, 4] for edge in range(6))


def test_a_curriculum_adds_operations_one_at_a_time() -> None:
    order = operations_in_order(SPACE, Scale(4, 1, 8, 3, 4), seed=2)
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert OPS[order[0]] == "nor_conv_3x3"
    assert len({operations_in_order(SPACE, Scale(4, 1, 8, 3, 4), seed=s) for s in range(5)}) > 1
    for sampling in ("uniform", "fair", "strict"):
        paths = Paths(SPACE, Variant(sampling, 0.5, 0), 400, order)
        for batch, known in ((0, 1), (60, 2), (110, 3), (160, 4), (205, 5), (399, 5)):
            there = {op for b in range(batch - batch % 5, batch - batch % 5 + 5) for arch in paths[b] for op in arch.choices}
            assert there == set(order[:known]), (sampling, batch)
    with pytest.raises(SettingError, match="a curriculum adds operations"):
        operations_in_order(MobileNetV3(), Scale(), 0)


def test_scores_that_are_all_alike_order_nothing() -> None:
    truth = np.arange(6.0)
    assert tau_difference(truth.tolist(), [0.5] * 6, truth, 0)["value"] == pytest.approx(1)
    alike = tau_difference([0.5] * 6, [0.2] * 6, truth, 0)
    assert (alike["value"], alike["low"], alike["high"]) == (0, 0, 0)


def test_a_stopped_comparison_goes_on_to_the_same_result(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**TINY, "sampling": ("fair",), "curriculum": (0.5,), "recalibration": (0, 2)}
    whole = bench_one_shot(images(), str(table), **settings)
    path, learn, calls = tmp_path / "out.trials.jsonl", SharedWeights.learn, [0]
    monkeypatch.setattr("archduel.commands.bench.one_shot_trials.PORTION", 2)
    monkeypatch.setattr("archduel.commands.bench.one_shot_trials.SAVE_SECONDS", 0.0)

    def interrupted(self: SharedWeights, *arguments: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] == 6:
            raise KeyboardInterrupt
        return learn(self, *arguments, **more)

    monkeypatch.setattr(SharedWeights, "learn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench_one_shot(images(), str(table), trials=path, **settings)
    assert len(path.read_text().splitlines()) == 3  # the settings and two trials
    resumed = bench_one_shot(images(), str(table), trials=path, **settings)
    assert [r["scores"] for r in resumed.records] == [r["scores"] for r in whole.records]
    assert [(r["passes"], r["recalibration"]) for r in whole.records] == [(1, 0), (1, 2), (3, 0), (3, 2)]
    assert not list(tmp_path.glob("*.state"))
    with pytest.raises(RunError, match="holds another comparison:\n  cells: the comparison has 8, the command says 7"):
        bench_one_shot(images(), str(table), trials=path, **{**settings, "cells": 7})


def test_cells_that_learn_on_their_own_leave_the_shared_weights_alone(table: Path) -> None:
    settings = {**TINY, "cells": 7, "recalibration": (2,)}
    plain = bench_one_shot(images(), str(table), **settings).records
    both = bench_one_shot(images(), str(table), **settings, tune=(0, 6)).records
    assert [(r["passes"], r["tune"]) for r in both] == [(1, 0), (1, 6), (3, 0), (3, 6)]
    assert [r["losses"] for r in both if not r["tune"]] == [r["losses"] for r in plain]
    assert len(both[1]["losses"]) == 7
    assert np.mean(both[1]["losses"]) < np.mean(both[0]["losses"])


def test_records_name_what_was_found_and_what_a_count_would_find(table: Path) -> None:
    bench = bench_one_shot(images(), str(table), **{**TINY, "passes": (1.0,), "recalibration": (2,), "sampling": ("strict",)})
    (record,) = bench.records
    assert record["images"] == pytest.approx(bench.facts["n_train"], rel=0.2)
    truth = np.array(bench.facts["truth"])
    assert record["truth_of_best"] == truth[int(np.argmax(record["scores"]))]
    assert record["rank_of_best"] == 1 + (truth > record["truth_of_best"]).sum()
    assert record["kendall_tau_of_loss"]["value"] == pytest.approx(_tau(-np.array(record["losses"]), truth))
    assert -1 <= bench.facts["tau_params"]["value"] <= 1
    assert "the number of weights ranks these cells" in summary(bench)


def test_options_of_the_supernet_reach_it_from_the_command_line(table: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", images=images()[0], labels=images()[1])
    out = tmp_path / "out.json"
    command = ["bench", "oneshot", str(tmp_path / "images.npz"), "--table", str(table), "--cells", "7", "--passes", "1", "--channels", "4"]
    command += ["--depth", "1", "--batch-size", "8", "--image-size", "8", "--json", str(out), "--quiet"]
    done = CliRunner().invoke(app, [*command, "--supernet", "residual=true"])
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text())["facts"]["supernet"] == {"residual": True}
    for wrong, said in (("residual", "expected NAME=VALUE"), ("lean=true", "is unknown")):
        done = CliRunner().invoke(app, [*command[:-3], "--supernet", wrong])
        assert done.exit_code
        assert said in str(done.exception)


def test_the_effect_of_an_option_is_a_difference_of_taus() -> None:
    truth = np.arange(40.0)
    noisy = truth + np.random.default_rng(0).normal(0, 30, 40)
    difference = tau_difference(truth.tolist(), noisy.tolist(), truth, seed=0)
    assert difference["value"] == pytest.approx(1 - _tau(noisy, truth))
    assert 0 < difference["low"] < difference["value"] < difference["high"]
    rows = [
        {"sampling": "fair", "curriculum": c, "recalibration": 0, "tune": 0, "seed": 0, "passes": 1.0, "scores": s.tolist()}
        for c, s in ((0.0, noisy), (0.5, truth))
    ]
    (effect,) = effects_of(rows, truth, seed=0)
    assert (effect["option"], effect["value"], effect["against"]) == ("curriculum", 0.5, 0.0)
    assert effect["difference"]["value"] == difference["value"]


def _tau(first: Any, second: Any) -> float:
    pairs = [(i, j) for i in range(len(first)) for j in range(i)]
    return float(np.mean([np.sign((first[i] - first[j]) * (second[i] - second[j])) for i, j in pairs]))


def test_bad_settings_are_named(table: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="sampling 'lucky' is unknown"):
        OneShotProtocol("t", "d", sampling=("lucky",))
    for wrong in ({"cells": 3}, {"passes": (4.0, 2.0)}, {"curriculum": (1.0,)}, {"recalibration": (-1,)}, {"tune": (-1,)}, {"tune": ()}, {"seeds": 0}):
        with pytest.raises(SettingError):
            OneShotProtocol("t", "d", **wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="different cells"):
        bench_one_shot(images(), str(table), **{**TINY, "cells": 500})
    with pytest.raises(SettingError, match="at least 4 px"):
        bench_one_shot(images(), str(table), **{**TINY, "recipe": {"image_size": 3}})
    home = NASBench101()
    archs = [sample(home, np.random.default_rng(i)) for i in range(6)]
    values = np.linspace(0.1, 0.6, 6)[None, None]
    make_table(archs, {"validation": values, "test": values, "seconds": values}, name="other", space=home).write(
        tmp_path / "other.table"
    )
    with pytest.raises(UnknownNameError, match="supernet of space 'nasbench101'"):
        bench_one_shot(images(), str(tmp_path / "other.table"), **TINY)


def test_the_command_writes_what_it_prints(table: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", images=images()[0], labels=images()[1])
    out = tmp_path / "out.json"
    command = ["bench", "oneshot", str(tmp_path / "images.npz"), "--table", str(table), "--cells", "8", "--passes", "1",
               "--sampling", "uniform,fair", "--recalibration", "2", "--channels", "4", "--depth", "1", "--batch-size", "16",
               "--json", str(out), "--quiet"]  # fmt: skip
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    written = json.loads(out.read_text())
    assert [r["sampling"] for r in written["records"]] == ["uniform", "fair"]
    assert written["command"].startswith("archduel")
    assert "sampling fair instead of uniform: tau" in result.output

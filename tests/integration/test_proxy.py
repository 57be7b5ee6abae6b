"""Finding, checking and using cheap recipes on digits: continued as if never stopped, refused where it cannot work."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from archduel.commands import trainings as proxy_bench
from archduel.commands.progress import Progress
from archduel.commands.proxy.check import check_proxy, check_text
from archduel.commands.proxy.find import find_proxy
from archduel.commands.proxy.search import _strategy_settings, search_cell
from archduel.commands.train_file import read_archs, train_file
from archduel.core import Arch, Cost, Estimate, Query
from archduel.core.storage import read_journal
from archduel.data import load
from archduel.errors import BudgetError, InvalidArchError, RunError, SettingError, UnknownNameError
from archduel.estimators.training import TrainingEstimator
from archduel.proxies.agreement import READINGS
from archduel.recipes import fitted, read
from archduel.tables.store import open_table
from archduel.training.recipe import Recipe, recipe_text, text_recipe

FEW: dict[str, Any] = {"load_settings": {"max_images": 60}, "quiet": True}
TINY = {"epochs": 1, "channels": 4, "depth": 1}
GENOTYPE = (
    "Genotype(normal=[[('avg_pool_3x3', 0), ('dil_conv_5x5', 1)], [('max_pool_3x3', 0), ('avg_pool_3x3', 1)], "
    "[('max_pool_3x3', 0), ('avg_pool_3x3', 3)], [('sep_conv_5x5', 0), ('dil_conv_3x3', 1)]], normal_concat=range(2, 6), "
    "reduce=[[('dil_conv_5x5', 1), ('dil_conv_3x3', 0)], [('dil_conv_3x3', 2), ('max_pool_3x3', 0)], [('dil_conv_3x3', 3), "
    "('sep_conv_3x3', 2)], [('dil_conv_3x3', 3), ('dil_conv_5x5', 4)]], reduce_concat=range(2, 6))"
)


class Pretended:
    """Answers at once: a fixed score an architecture and recipe; stops after some answers as a killed process would."""

    def __init__(self, stop_after: float = float("inf")) -> None:
        self.answered, self.stop_after = 0, stop_after

    def run(self, queries: list[Query], ordinals: list[int]) -> Iterator[Estimate]:
        for query in queries:
            if self.answered == self.stop_after:
                raise KeyboardInterrupt
            self.answered += 1
            recipe = text_recipe(query.fidelity or "{}")
            ops = query.arch.choices
            noise = (hash((ops, recipe.epochs, recipe.channels)) % 1000) / 1000 / recipe.epochs
            yield Estimate((sum(ops) + noise) / 100, Cost(0.01 * recipe.epochs * recipe.channels, 10), self.values(sum(ops) + noise))

    def values(self, good: float) -> dict[str, Any]:
        return {"params": 1, "macs": 1, "val_loss": 3 - good / 100, "history": [{"train_loss": 3 - good / 200}]}

    def close(self) -> None:
        """Nothing to end."""


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Any:
    executors: list[Pretended] = []

    def use(stop_after: float = float("inf")) -> None:
        executors.append(Pretended(stop_after))

    def make(*_: Any, **__: Any) -> Pretended:
        return executors[-1]

    monkeypatch.setattr("archduel.commands.trainings.executor_for", make)
    use.executors = executors  # type: ignore[attr-defined]
    return use


def _find(out: Path, **settings: Any) -> dict[str, Any]:
    given = {"truth": 6, "time": "60s", "samples": 4, "changes": {"epochs": 8, "channels": 16, "depth": 2}, **FEW, **settings}
    return find_proxy("digits", out, **given)


def test_a_search_for_recipes_continues_with_the_result_of_the_uninterrupted_one(tmp_path: Path, pretended: Any) -> None:
    pretended()
    whole = _find(tmp_path / "whole")
    paid = pretended.executors[-1].answered
    for stop in (3, 20, 45):
        pretended(stop)
        with pytest.raises(KeyboardInterrupt):
            _find(tmp_path / f"cut{stop}")
        pretended()
        assert _find(tmp_path / f"cut{stop}") == whole
        assert pretended.executors[-1].answered == paid - stop
    assert json.loads((tmp_path / "whole" / "proxies.json").read_text()) == json.loads(json.dumps(whole))


def test_what_a_search_for_recipes_leaves_behind(tmp_path: Path, pretended: Any) -> None:
    pretended()
    result = _find(tmp_path)
    page = (tmp_path / "report.html").read_text()
    for part in ("recommended", "front", "readings", "pruning", "trials", "about"):
        assert f'id="{part}"' in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert set(result["recommended"]) == {"quick", "trusted"}
    assert "Without any training" in page
    assert set(result["sizes"]) == {"params", "macs"}
    for kind, name in result["recommended"].items():
        trial = next(t for t in result["trials"] if t["name"] == name)
        assert recipe_text(read(tmp_path / f"{kind}.json", "nasbench201")) == recipe_text(Recipe(**trial["recipe"]))
    assert result["seconds"] <= 60
    assert len({t["name"] for t in result["trials"]}) == len(result["trials"])
    assert all(len(t["scores"]) == 6 for t in result["trials"])


def test_recipes_whose_trainings_mostly_fail_do_not_end_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fragile(Pretended):
        """Fails for all but four architectures, except under the reference."""

        def run(self, queries: list[Query], ordinals: list[int]) -> Iterator[Estimate]:
            for estimate, ordinal in zip(super().run(queries, ordinals), ordinals):
                broken = ordinal >= proxy_bench.PER_RECIPE and ordinal % proxy_bench.PER_RECIPE > 3
                yield Estimate(float("nan"), Cost(0.1), {}, "not finite") if broken else estimate

    monkeypatch.setattr("archduel.commands.trainings.executor_for", lambda *_, **__: Fragile())
    result = _find(tmp_path, quiet=False)
    assert all(trial["spearman"]["low"] is None and trial["n"] == 4 for trial in result["trials"])
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_another_command_on_the_folder_is_refused_with_the_difference(tmp_path: Path, pretended: Any) -> None:
    pretended()
    _find(tmp_path / "one")
    with pytest.raises(RunError, match="truth: the job has 6, the command says 7"):
        _find(tmp_path / "one", truth=7)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        _find(tmp_path / "other")


def test_too_little_time_and_nothing_to_vary_are_said(tmp_path: Path, pretended: Any) -> None:
    pretended()
    with pytest.raises(BudgetError, match="more than there is"):
        _find(tmp_path / "a", time="1s")
    levels = {"epochs": [8], "depth": [2], "channels": [16], "image_size": [8], "data_fraction": [1.0], "batch_size": [64]}
    with pytest.raises(SettingError, match="nothing is varied"):
        _find(tmp_path / "b", levels=levels)
    with pytest.raises(SettingError, match="at least 5"):
        _find(tmp_path / "c", truth=2)


def test_a_recipe_is_checked_against_a_reference(tmp_path: Path) -> None:
    settings = {"truth": 5, "changes": TINY, "reference_changes": TINY, "again": True, **FEW}
    result = check_proxy("digits", tmp_path, **settings)
    again = check_proxy("digits", tmp_path, **settings)
    assert again == result
    assert result["agreement"]["n"] == 5
    assert result["ceiling"]["n"] == 5
    assert result["scores"]["again"] != [] and result["seconds"]["recipe"] > 0  # noqa: PT018
    text = check_text(result)
    assert "5 random architectures of nasbench201" in text
    assert "reference again" in text
    assert "untrained, macs" in text
    assert set(result["readings"]) == set(READINGS)
    assert result["readings"]["score"] == result["agreement"]


def test_a_file_of_architectures_becomes_a_table(tmp_path: Path) -> None:
    file = tmp_path / "cells.txt"
    file.write_text("# two cells, one twice\nnasbench201:3.2.2.1.1.4\n\nnasbench201:3.0.3.1.0.3\nnasbench201:3.2.2.1.1.4\n")
    settings = {"recipe": "bpe1", "changes": TINY, "seeds": 2, **FEW}
    trained = train_file(file, "digits", tmp_path / "job", **settings)
    assert [row["line"] for row in trained.rows] == [2, 4, 5]
    assert trained.rows[0] | {"line": 5} == trained.rows[2]
    assert all(row["runs"] == 2 for row in trained.rows)
    with open(trained.csv, newline="") as lines:
        assert [row["arch"] for row in csv.DictReader(lines)] == [row["arch"] for row in trained.rows]
    assert trained.table is not None
    table = open_table(trained.table)
    assert len(table) == 2
    assert table.validation() == pytest.approx([row["score"] for row in trained.rows[:2]], abs=1e-6)
    journal = (tmp_path / "job" / "journal.jsonl").read_text()
    assert train_file(file, "digits", tmp_path / "job", **settings).rows == trained.rows
    assert (tmp_path / "job" / "journal.jsonl").read_text() == journal
    assert "architecture" in trained.best()


def test_several_architectures_are_trained_at_once(tmp_path: Path) -> None:
    file = tmp_path / "cells.txt"
    file.write_text("nasbench201:3.2.2.1.1.4\nnasbench201:3.0.3.1.0.3\nnasbench201:1.0.3.1.0.3\n")
    alone, together = (
        train_file(file, "digits", tmp_path / str(fused), changes=TINY, fused=fused, **FEW) for fused in ("off", 2)
    )
    for one, other in zip(alone.rows, together.rows):
        assert other["arch"] == one["arch"]
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)  # the same images and weights
    journal = read_journal(tmp_path / "2" / "journal.jsonl")
    assert [r["values"].get("fused") for r in journal if r["event"] == "estimate"] == [2, 2, None]
    side_by_side = train_file(file, "digits", tmp_path / "x", changes=TINY, fused=2, workers=2, **FEW)
    assert [row["train_loss"] for row in side_by_side.rows] == pytest.approx([row["train_loss"] for row in together.rows], rel=1e-3)


def test_lines_of_all_forms_are_read_and_wrong_ones_named(tmp_path: Path) -> None:
    file = tmp_path / "cells.txt"
    file.write_text(f"{GENOTYPE}\n|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|\nea_bpe1\n")
    assert [arch.space for _, arch in read_archs(file)] == ["darts", "nasbench201", "darts"]
    file.write_text("nasbench201:3.2.2.1.1.4\nnasbench201:9.9\n")
    with pytest.raises(InvalidArchError, match="line 2"):
        read_archs(file)
    file.write_text("# nothing\n")
    with pytest.raises(RunError, match="holds no architecture"):
        read_archs(file)
    with pytest.raises(RunError, match="cannot be read"):
        read_archs(tmp_path / "none.txt")


@pytest.mark.parametrize(("method", "reading"), [("random", "score"), ("rl", "train_loss"), ("ea", "score")])
def test_searches_end_in_a_cell_with_two_inputs_and_continue(
    tmp_path: Path, pretended: Any, method: str, reading: str
) -> None:
    settings = {"method": method, "steps": 8, "masks": 3, "reading": reading, **FEW}
    pretended()
    whole = search_cell("digits", tmp_path / "whole", **settings)
    for stop in (1, 5):
        pretended(stop)
        with pytest.raises(KeyboardInterrupt):
            search_cell("digits", tmp_path / f"cut{stop}", **settings)
        pretended()
        assert search_cell("digits", tmp_path / f"cut{stop}", **settings) == whole
    text = (tmp_path / "whole" / "genotype.txt").read_text().strip()
    assert text == whole["genotype"]
    ((_, arch),) = read_archs(tmp_path / "whole" / "genotype.txt")
    assert str(arch) == whole["arch"]
    assert whole["trainings"] == 8 + (3 if method == "ea" else 0)
    kept = [s for s in whole["trajectory"][1 if method == "rl" else 0 :] if s is not None]
    assert whole["searched_score"] == max(kept)


def test_a_super_cell_search_trains_real_networks(tmp_path: Path) -> None:
    result = search_cell("digits", tmp_path, method="ea", steps=2, masks=1, changes=TINY | {"depth": 3}, **FEW)
    assert result["trainings"] == 3
    assert all(score is not None for score in [*result["trajectory"], *result["prunings"]])


def test_every_network_of_a_search_has_norms_after_pools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[tuple[str, int, int]] = []

    def noted(self: TrainingEstimator, arch: Arch, recipe: Recipe, seed: int) -> nn.Module:
        network = network_of(self, arch, recipe, seed)
        pools = [m for m in network.modules() if isinstance(m, (nn.AvgPool2d, nn.MaxPool2d))]
        normed = [m for m in network.modules() if isinstance(m, nn.Sequential) and len(m) == 2 and isinstance(m[0], (nn.AvgPool2d, nn.MaxPool2d))]
        built.append((arch.space, len(pools), sum(isinstance(m[1], nn.BatchNorm2d) for m in normed)))
        return network

    network_of = TrainingEstimator.network
    monkeypatch.setattr(TrainingEstimator, "network", noted)
    result = search_cell("digits", tmp_path / "ea", method="ea", steps=2, masks=2, changes=TINY | {"depth": 3}, **FEW)
    assert result["settings"]["built_with"]["darts"] == {"pool_norm": True}
    file = tmp_path / "cells.txt"
    file.write_text(f"{result['genotype']}\nrs_bpe1\n")
    train_file(file, "digits", tmp_path / "file", recipe="bpe1", changes=TINY | {"depth": 3, "auxiliary_weight": 0.0}, **FEW)
    assert {space for space, _, _ in built} == {"darts", "darts_supercell"}
    assert all(pools == normed for _, pools, normed in built)
    assert max(pools for _, pools, _ in built) > 0


def test_a_job_of_an_older_version_goes_on_with_the_networks_it_began_with(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"method": "ea", "steps": 2, "masks": 1, "changes": TINY | {"depth": 3}, **FEW}
    search_cell("digits", tmp_path / "new", **settings)
    old = tmp_path / "old"
    shutil.copytree(tmp_path / "new", old)
    written = json.loads((old / "settings.json").read_text())
    del written["settings"]["built_with"]  # as it was before
    (old / "settings.json").write_text(json.dumps(written))
    assert "built_with" not in search_cell("digits", old, **settings)["settings"]


def test_numbers_of_a_search_s_strategy_are_set_like_those_of_its_recipe(tmp_path: Path, pretended: Any) -> None:
    pretended()
    changes = {"strategy.population": 3, "strategy.tournament": 2, "epochs": 2}
    result = search_cell("digits", tmp_path / "ea", method="ea", steps=6, masks=2, changes=changes, **FEW)
    assert result["settings"]["strategy"] == {"population": 3, "tournament": 2}
    assert result["settings"]["recipe"]["epochs"] == 2
    assert _strategy_settings("ea", 100, {}) == {"steps": 100, "population": 50, "tournament": 10}
    assert _strategy_settings("rl", 100, {"lr": 0.2, "momentum": 0.5}) == {"steps": 100, "lr": 0.2, "momentum": 0.5}
    with pytest.raises(SettingError, match="rate"):
        search_cell("digits", tmp_path / "rl", method="rl", changes={"strategy.rate": 1}, **FEW)


def test_darts_under_a_recipe_continues_from_the_last_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"method": "darts", "changes": {"epochs": 2, "channels": 2, "depth": 3, "batch_size": 40}, **FEW}
    whole = search_cell("digits", tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:

        def stop(self: Progress, done: int, note: str = "") -> None:
            raise KeyboardInterrupt

        patch.setattr(Progress, "advance", stop)
        with pytest.raises(KeyboardInterrupt):
            search_cell("digits", tmp_path / "cut", **settings)
    continued = search_cell("digits", tmp_path / "cut", **settings)
    for key in ("arch", "genotype", "trajectory", "entropy", "images"):
        assert continued[key] == whole[key]
    assert len(whole["trajectory"]) == 2
    ((_, arch),) = read_archs(tmp_path / "cut" / "genotype.txt")
    assert str(arch) == whole["arch"]


def test_failures_are_said_with_their_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Pretended):
        def run(self, queries: list[Query], ordinals: list[int]) -> Iterator[Estimate]:
            for _ in queries:
                yield Estimate(float("nan"), Cost(1.0), {}, "out of memory: the card is full")

    monkeypatch.setattr("archduel.commands.trainings.executor_for", lambda *_, **__: Failing())
    with pytest.raises(RunError, match="out of memory"):
        _find(tmp_path / "find")
    with pytest.raises(RunError, match="training"):
        search_cell("digits", tmp_path / "search", steps=3, **FEW)


def test_recipes_are_fitted_and_found_by_name() -> None:
    digits = load("digits", max_images=60)
    recipe, notes = fitted(read("full"), digits.image_size, digits.flip)
    assert (recipe.image_size, recipe.crop_pad, recipe.cutout, recipe.flip) == (8, 1, 4, False)
    assert len(notes) == 4
    assert fitted(recipe, digits.image_size, digits.flip) == (recipe, [])
    assert [read("bpe1", space).depth for space in ("darts", "nasbench201")] == [6, 1]
    assert read("bpe2", "nasbench201").depth == 5
    assert text_recipe(recipe_text(recipe)) == recipe
    with pytest.raises(UnknownNameError, match="did you mean 'bpe[12]'.*archduel list recipes"):
        read("bpe3")
    with pytest.raises(UnknownNameError, match="method"):
        search_cell("digits", Path("never"), method="annealing", **FEW)
    assert proxy_bench.PER_RECIPE > 1000

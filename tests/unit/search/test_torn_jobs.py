"""Every job whose journal a kill cut in its last record goes on to the result of the uninterrupted one; old files too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archduel.commands.bench.measured_jury import Measured
from archduel.commands.bench.one_shot import bench_one_shot
from archduel.commands.bench.one_shot_trials import Training
from archduel.commands.bench.rank import bench_rank
from archduel.commands.bench.search import bench_search
from archduel.commands.proxy import search as cheap_search
from archduel.commands.proxy.search import search_cell
from archduel.commands.table.train import train_table
from archduel.commands.train.train import CHECKPOINT, train_network
from archduel.commands.train_file import train_file
from archduel.core import Arch, Cost, Estimate, Query, StepReport, parse, sample
from archduel.core.job import TABLE, Job
from archduel.core.storage import read_journal
from archduel.errors import RunError
from archduel.estimators.zero_cost import MEASURES
from archduel.spaces.darts.space import DARTS
from archduel.spaces.nasbench201.space import NASBench201
from archduel.tables.build import make_table
from archduel.tables.store import open_table
from archduel.training import loop

SPACE = NASBench201()
RECORDS = Path(__file__).parents[3] / "benchmarks" / "records"
FEW: dict[str, Any] = {"load_settings": {"max_images": 60}, "quiet": True}
TINY = {"epochs": 1, "channels": 4, "depth": 1}
TIMES = ("seconds", "cpu_seconds", "fit", "query", "images_per_second", "clock")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixty cells of different function with random accuracies."""
    rng = np.random.default_rng(0)
    archs = list({SPACE.fingerprint(arch): arch for arch in (sample(SPACE, rng) for _ in range(80))}.values())[:60]
    accuracy = rng.uniform(0.2, 0.9, (1, 1, len(archs)))
    path = tmp_path_factory.mktemp("table") / "random.table"
    make_table(archs, dict.fromkeys(("validation", "test", "seconds"), accuracy), name="random", space=SPACE).write(path)
    return str(path)


def images() -> tuple[Any, Any]:
    labels = np.arange(80) % 4
    return np.random.default_rng(1).integers(0, 60, (80, 8, 8, 3), dtype=np.uint8) + 40 * labels[:, None, None, None].astype(np.uint8), labels


def timeless(value: Any) -> Any:
    """Returns ``value`` without what differs from call to call."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if not any(word in key for word in TIMES)}
    return [timeless(item) for item in value] if isinstance(value, (list, tuple)) else value


def offsets(data: bytes, n: int) -> list[int]:
    """Returns ``n`` lengths that cut the last line of ``data``: nothing left of it, one letter, ..., all but its line end."""
    start = data.rfind(b"\n", 0, len(data) - 1) + 1
    return sorted({int(offset) for offset in np.linspace(start, len(data) - 1, n)} | {start + 1})


def torn(job: Callable[[Path], Any], file: Path, n: int) -> None:
    """Cuts the last record of a finished job at several places: each time the result is the same, nothing lost or glued."""
    whole, data = timeless(job(file)), file.read_bytes()
    records = timeless(read_journal(file))
    assert len(records) > 2
    for offset in offsets(data, n):
        file.write_bytes(data[:offset])
        assert timeless(job(file)) == whole, offset
        assert timeless(read_journal(file)) == records, offset


def test_comparisons_of_searches(table: str, tmp_path: Path) -> None:
    def job(file: Path) -> Any:
        return bench_search(table, "random,evolution", queries=6, runs=2, workers=0, trials=file).records

    torn(job, tmp_path / "s.trials.jsonl", 60)


def test_comparisons_of_rankers(table: str, tmp_path: Path) -> None:
    def job(file: Path) -> Any:
        return bench_rank(table, "gp", labels=(10, 20), splits=2, trials=file).records

    torn(job, tmp_path / "r.trials.jsonl", 8)


def test_comparisons_of_shared_weights(table: str, tmp_path: Path) -> None:
    def job(file: Path) -> Any:
        settings = {"cells": 6, "passes": (1.0, 2.0), "recalibration": (2,), "recipe": TINY | {"batch_size": 8}, "load": {"image_size": 8}}
        return bench_one_shot(images(), table, trials=file, **settings).records

    torn(job, tmp_path / "o.trials.jsonl", 2)


def test_shared_weights_that_are_ahead_of_the_file_are_trained_again(table: str, tmp_path: Path) -> None:
    file = tmp_path / "o.trials.jsonl"
    settings: dict[str, Any] = {"cells": 6, "recalibration": (2,), "recipe": TINY | {"batch_size": 8}, "load": {"image_size": 8}}
    whole = timeless(bench_one_shot(images(), table, trials=file, passes=(1.0, 2.0), **settings).records)

    trial = Training.trial

    def stop(self: Training, passes: float, *rest: int) -> Any:
        if passes == 2:
            raise KeyboardInterrupt  # the second pass is trained, and not scored
        return trial(self, passes, *rest)

    file.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "trial", stop)
        with pytest.raises(KeyboardInterrupt):
            bench_one_shot(images(), table, trials=file, passes=(1.0, 2.0), **settings)
    (state,) = tmp_path.glob("*.state")
    file.unlink()
    assert state.exists()
    assert timeless(bench_one_shot(images(), table, trials=file, passes=(1.0, 2.0), **settings).records) == whole


def test_tables_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Invented(nullcontext[Any]):
        """Workers that answer without training."""

        def __init__(self, *_: Any, **__: Any) -> None:
            super().__init__(self)

        def run(self, queries: list[Query], runs: list[int]) -> Iterator[Estimate]:
            for query, run in zip(queries, runs):
                good = sum(query.arch.choices) / 100 + run / 1000
                yield Estimate(good, Cost(1.0, 10), {"test": good - 0.01})

    monkeypatch.setattr("archduel.commands.table.train.Processes", Invented)

    def job(file: Path) -> Any:
        path = train_table("digits", file.with_suffix(".table"), cells=3, seeds=2, changes=TINY, **FEW)
        return [str(arch) for arch in open_table(path).archs], open_table(path).validation().tolist()

    torn(job, tmp_path / "mine.jsonl", 12)
    with pytest.raises(RunError, match="holds another table:\n  recipe.channels: the table has 4, the command says 8"):
        train_table("digits", tmp_path / "mine.table", cells=3, seeds=2, changes={**TINY, "channels": 8}, **FEW)


class Pretended:
    """Answers at once: a score an architecture."""

    def run(self, queries: list[Query], ordinals: list[int]) -> Iterator[Estimate]:
        """Yields one estimate a query."""
        for query, ordinal in zip(queries, ordinals):
            good = sum(query.arch.choices) / 100 + ordinal / 1e6
            yield Estimate(good, Cost(1.0, 10), {"params": 1, "macs": 1, "val_loss": 3 - good, "history": [{"train_loss": 1.0}]})

    def close(self) -> None:
        """Nothing to end."""


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archduel.commands.trainings.executor_for", lambda *_, **__: Pretended())


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize("method", ["random", "ea"])
def test_searches_under_a_cheap_recipe(method: str, tmp_path: Path) -> None:
    def job(file: Path) -> Any:
        return search_cell("digits", file.parent, method=method, steps=4, masks=2, **FEW)

    torn(job, tmp_path / "journal.jsonl", 12)


@pytest.mark.usefixtures("pretended")
def test_files_of_architectures_under_a_cheap_recipe(tmp_path: Path) -> None:
    (tmp_path / "archs.txt").write_text("\n".join(SPACE.write(sample(SPACE, np.random.default_rng(i))) for i in range(3)))

    def job(file: Path) -> Any:
        return train_file(tmp_path / "archs.txt", "digits", file.parent, seeds=2, **FEW)

    torn(job, tmp_path / "out" / "journal.jsonl", 12)


class Supernet:
    """Three epochs of a strategy that shares weights, and nothing else of it."""

    def __init__(self) -> None:
        self.epochs = 0

    def step(self) -> StepReport | None:
        """Returns the report of the next epoch."""
        self.epochs += 1
        return StepReport({"loss": 1 / self.epochs, "entropy": float(self.epochs)}, Cost(1.0, 10)) if self.epochs <= 3 else None

    def best(self) -> Arch:
        """Returns a cell that the epochs decide."""
        return sample(DARTS(), np.random.default_rng(self.epochs))

    def state_dict(self) -> dict[str, Any]:
        """Returns how far it is."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self.epochs = state["epochs"]


def test_darts_under_a_cheap_recipe_neither_doubles_nor_loses_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cheap_search, "assemble", lambda *_, **__: Supernet())
    save = cheap_search.save_state
    for stop in (0, 2, 3):

        def stopping(path: Path, state: Any, stop: int = stop) -> None:
            if state["epochs"] == stop:
                raise KeyboardInterrupt  # the epoch is in the journal, its state is not
            save(path, state)

        monkeypatch.setattr(cheap_search, "save_state", stopping)
        if stop:
            with pytest.raises(KeyboardInterrupt):
                search_cell("digits", tmp_path / "cut", method="darts", **FEW)
        else:
            whole = search_cell("digits", tmp_path / "whole", method="darts", **FEW)
    monkeypatch.setattr(cheap_search, "save_state", save)
    assert timeless(search_cell("digits", tmp_path / "cut", method="darts", **FEW)) == timeless(whole)
    epochs = [record["entropy"] for record in read_journal(tmp_path / "cut" / "journal.jsonl") if record["event"] == "epoch"]
    assert epochs == [1, 2, 3]


def test_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.train, "__kwdefaults__", {**loop.train.__kwdefaults__, "checkpoint_seconds": 0.0})
    settings: dict[str, Any] = {"recipe": "digits", "changes": {"epochs": 3, "batch_size": 16, "channels": 4, "depth": 1}, "quiet": True}
    arch = "nasbench201:1.3.0.1.0.1"
    whole = timeless(train_network(arch, images(), tmp_path / "whole", **settings))
    records = timeless(read_journal(tmp_path / "whole" / "journal.jsonl"))

    def stop(numbers: Any) -> None:
        if numbers["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_network(arch, images(), tmp_path / "killed", on_epoch=stop, **settings)
    data = (tmp_path / "killed" / "journal.jsonl").read_bytes()
    assert data.count(b"\n") == 2
    for offset in offsets(data, 5):
        out = tmp_path / f"{offset}"
        shutil.copytree(tmp_path / "killed", out)
        (out / "journal.jsonl").write_bytes(data[:offset])
        assert timeless(train_network(arch, images(), out, **settings)) == whole, offset
        assert timeless(read_journal(out / "journal.jsonl")) == records, offset
        assert not (out / CHECKPOINT).exists()


class Meter:
    """Measures architectures, and knows how often."""

    def __init__(self) -> None:
        self.asked = 0

    def judge(self, query: Query) -> Estimate:
        """Returns numbers that an architecture alone decides."""
        self.asked += 1
        return Estimate(0.0, Cost(1.0, 1), {measure: sum(query.arch.choices) + i for i, measure in enumerate(MEASURES)})


def test_measurements_of_untrained_networks(tmp_path: Path) -> None:
    archs, file = [sample(SPACE, np.random.default_rng(i)) for i in range(4)], tmp_path / "zc" / "m.jsonl"
    assert len(set(archs)) == 4
    whole = Measured(SPACE, Meter(), file).features(archs)  # type: ignore[arg-type]
    data = file.read_bytes()
    for offset in range(data.rfind(b"\n", 0, -1) + 1, len(data)):
        file.write_bytes(data[:offset])
        meter = Meter()
        assert np.array_equal(Measured(SPACE, meter, file).features(archs), whole)  # type: ignore[arg-type]
        assert meter.asked == 1
        assert file.read_bytes() == data


# -- Files that the version before wrote: a protocol on every line of trials, none in the journal of a table ------------


def older(file: Path, protocol: Any) -> None:
    """Rewrites a file of trials as the version before wrote it."""
    records = [record for record in read_journal(file, skip_damaged=True) if record.get("event") == "trial"]
    lines = [{"protocol": protocol, **{k: v for k, v in record.items() if k not in ("event", "clock")}} for record in records]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_older_trials_are_not_run_again_and_others_refused(table: str, tmp_path: Path) -> None:
    file, ran = tmp_path / "t.jsonl", list[int]()
    settings: dict[str, Any] = {"queries": 6, "runs": 2, "workers": 0, "trials": file, "on_trial": lambda done, _: ran.append(done)}
    bench_search(table, "random", **settings)
    version = read_journal(file)[0]["settings"]["archduel"]
    protocol = {"table": table, "seed": 0, "fidelity": None, "reduce": "mean", "archduel": version}
    older(file, protocol)
    lines = file.read_bytes()
    other = json.dumps({**json.loads(lines.splitlines()[-1]), "protocol": {**protocol, "seed": 5}}).encode()
    file.write_bytes(lines[:20] + lines + other + b"\n")  # a glued line, and a trial of another seed, which was allowed
    ran.clear()
    bench_search(table, "random", **settings)
    assert ran == [2]  # the trial in the glued line
    ran.clear()
    bench_search(table, "random", **settings)
    assert ran == []
    older(file, protocol)
    with pytest.raises(RunError, match="holds another comparison:\n  seed: the comparison has 0, the command says 1\ngive another --out"):
        bench_search(table, "random", seed=1, **settings)


def test_older_trials_of_rankers_are_not_run_again(table: str, tmp_path: Path) -> None:
    file, ran = tmp_path / "t.jsonl", list[int]()
    settings: dict[str, Any] = {"labels": (10,), "trials": file, "on_trial": lambda done, _: ran.append(done)}
    bench_rank(table, "gp", splits=2, **settings)
    protocol = {"table": table, "labels": 0, "splits": 0, "learn": "validation", "run": None, "draw": "random", "judge": "remaining", "seed": 0}
    older(file, json.dumps(protocol, sort_keys=True))
    ran.clear()
    bench_rank(table, "gp", splits=3, **settings)
    assert ran == [3]


def test_the_journal_of_the_table_that_comes_with_the_package_can_be_continued(tmp_path: Path) -> None:
    file = tmp_path / "digits201.jsonl"
    shutil.copy(RECORDS / "digits201.jsonl", file)
    before = file.read_bytes()
    settings = {"data": "x", "space": "nasbench201", "seed": 0, "recipe": {"lr": 0.1}}
    with Job(file, TABLE, settings, fsync=False) as job:
        queries = [Query(parse(r["arch"])) for r in job.journal.records[:50]]
        ordinals = [r["ordinal"] for r in job.journal.records[:50]]
        scores = [estimate.score for estimate in job.paid(lambda *_: pytest.fail("trained again"), queries, ordinals)]
        assert scores == [r["score"] for r in job.journal.records[:50]]
        assert len([r for r in job.journal.records if r["event"] == "estimate"]) == 8096
    assert file.read_bytes().startswith(before)
    with pytest.raises(RunError, match="recipe.lr: the table has 0.1, the command says 0.2"):
        Job(file, TABLE, {**settings, "recipe": {"lr": 0.2}})


"""One search wherever it trains: in this process, or by whoever joins its folder; the journals are equal, times aside."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import archduel
from archduel.commands.search.executors import about_run, prepared, versions
from archduel.commands.search.plan import Plan
from archduel.core.job import RUN, WORK, Job
from archduel.errors import DataError, RunError, SettingError
from archduel.estimators.judges import HALVED
from archduel.fusing import judging

pytestmark = pytest.mark.usefixtures("no_onnx")
TIMES = {"clock", "seconds", "owed_seconds", "crc32"}
TINY = {
    "evaluations": 5, "max_images": 80, "final_seeds": 1, "workers": 2, "baselines": False, "strategy": "evolution",
    "set": {
        "label.epochs": 1, "label.channels": 4, "label.depth": 1, "reevaluate.epochs": 1, "reevaluate.channels": 4, "reevaluate.depth": 1,
        "final.epochs": 2, "final.channels": 4, "final.depth": 1, "plan.shortlist": 2, "plan.confirm": 2, "plan.channels": 4, "plan.depth": 1,
    },
}  # fmt: skip


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in TIMES}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def journal(folder: Path) -> list[str]:
    """Returns the lines of a journal without what tells of time."""
    return [json.dumps(timeless(json.loads(line))) for line in (folder / "journal.jsonl").read_text().splitlines()]


def worker(folder: Path, *more: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "archduel", "worker", "--join", str(folder), *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> archduel.Run:
    return archduel.search("digits", out=tmp_path_factory.mktemp("runs") / "local", quiet=True, executor="local", **TINY)


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> archduel.Run:
    folder = tmp_path_factory.mktemp("runs") / "joined"
    process = worker(folder, "--workers", "2", "--wait", "60s")  # before there is anything to join
    run = archduel.search("digits", out=folder, quiet=True, executor="folder", **TINY)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "is finished; 8 tasks were done here" in output
    return run


def test_journals_and_networks_are_equal_whoever_trained(local: archduel.Run, joined: archduel.Run) -> None:
    assert journal(joined.folder) == journal(local.folder)
    networks = [sorted((run.folder / "networks").rglob("*.safetensors")) for run in (local, joined)]
    assert [path.read_bytes() for path in networks[0]] == [path.read_bytes() for path in networks[1]]
    for name in ("tasks", "claimed", "answers", "workers"):
        assert not list((joined.folder / WORK / name).iterdir()), name


def test_a_run_goes_on_with_another_executor(local: archduel.Run, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    shutil.copy(local.folder / "run.toml", folder)
    lines = (local.folder / "journal.jsonl").read_text().splitlines(keepends=True)
    cut = [i for i, line in enumerate(lines) if '"estimate"' in line][-1]  # all but the final training
    (folder / "journal.jsonl").write_text("".join(lines[:cut]))
    process = worker(folder, "--wait", "60s")
    run = archduel.search("digits", out=folder, quiet=True, executor="folder", **{**TINY, "workers": 1})
    process.communicate(timeout=60)
    assert journal(run.folder) == journal(local.folder)


def test_a_group_too_large_for_the_memory_is_journalled_and_a_run_that_goes_on_keeps_the_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, sizes = judging.fuse, list[int]()

    def fuse(networks: Any, *given: Any, **more: Any) -> Any:
        sizes.append(len(networks))
        if len(networks) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99999999999 bytes. Error code 12 (Cannot allocate memory)")
        return real(networks, *given, **more)

    monkeypatch.setattr(judging, "fuse", fuse)
    given = {**TINY, "workers": 1, "strategy": "random", "window": 4, "set": {**TINY["set"], "label.fused": 4}}
    run = archduel.search("digits", out=tmp_path / "run", quiet=True, executor="local", **given)
    halved = [record for line in journal(run.folder) if (record := json.loads(line))["event"] == HALVED]
    assert [(record["fidelity"], record["was"], record["at_once"]) for record in halved] == [("label", 4, 2)]
    assert "can't allocate memory" in halved[0]["reason"]
    assert sizes[0] == 4
    assert set(sizes[1:]) == {2}
    assert run.report().exists()
    sizes.clear()
    lines = (run.folder / "journal.jsonl").read_text().splitlines(keepends=True)
    cut = 1 + next(i for i, line in enumerate(lines) if HALVED in line)
    (tmp_path / "again").mkdir()
    shutil.copy(run.folder / "run.toml", tmp_path / "again")
    (tmp_path / "again" / "journal.jsonl").write_text("".join(lines[:cut]))
    again = archduel.search("digits", out=tmp_path / "again", quiet=True, executor="local", **given)
    assert journal(again.folder) == journal(run.folder)
    assert set(sizes) == {2}


def test_who_cannot_compute_the_same_is_told_before_anything_is_computed(joined: archduel.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = joined.folder
    about = json.loads((folder / WORK / "driver.json").read_text())["about"]
    assert about["versions"] == versions()
    with pytest.raises(RunError, match=r"archduel is .* here, 9\.9 at the driver; torch is .* here, 1\.0 at the driver"):
        prepared(folder, {**about, "versions": {**about["versions"], "archduel": "9.9", "torch": "1.0"}})
    with pytest.raises(SettingError, match="trains on cpu, and on cuda:0 its results would differ"):
        prepared(folder, about, device="cuda:0")
    with pytest.raises(DataError, match="fingerprint .* here, 123 there"):
        prepared(folder, {**about, "data": {**about["data"], "fingerprint": "123"}})()
    with pytest.raises(DataError, match=r"on .*: .*nowhere.*--data names another place"):
        prepared(folder, about, data="/nowhere/at/all")()
    judge = prepared(folder, about)()
    assert judge.settings.n_classes == 10


def test_a_driver_takes_nothing_away_that_another_machine_is_writing(tmp_path: Path) -> None:
    half = tmp_path / "run" / "checkpoints" / ".a.safetensors.99999999-0123abcd.tmp"
    half.parent.mkdir(parents=True)
    for shared in (True, False):
        half.write_text("half")
        (tmp_path / "run" / WORK).mkdir() if shared else (tmp_path / "run" / WORK).rmdir()
        (tmp_path / "run" / "run.toml").write_text("[run]\n")
        Job(tmp_path / "run", RUN, {"run": {}}).close()
        assert half.exists() == shared


def test_what_a_worker_is_told_is_plain_json(local: archduel.Run) -> None:
    from archduel.data import load

    plan = Plan.from_json(next(json.loads(line)["plan"] for line in (local.folder / "journal.jsonl").read_text().splitlines() if '"plan"' in line))
    dataset = load("digits", max_images=80, seed=0)
    about = about_run(plan, dataset, {"seed": 0, "max_images": 80})
    assert json.loads(json.dumps(about)) == about

"""The main job from the outside: it finishes, it can be killed and continued, it refuses what it must."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from clocked import slow_machine

import archduel
from archduel.commands.options import parse_count, parse_seconds
from archduel.commands.search.settings import make_settings
from archduel.core import Scale, parse
from archduel.core.job import RUN, Job
from archduel.errors import DataError, InfeasibleError, RunError, SettingError
from archduel.rankers.size_belief import lifted
from archduel.spaces.family import count
from archduel.spaces.nasbench201.space import NASBench201

pytestmark = pytest.mark.usefixtures("no_onnx")
SMALL = {
    "evaluations": 8,
    "max_images": 240,
    "final_seeds": 2,
    "workers": 2,
    "set": {
        "label.epochs": 1, "label.channels": 4, "label.depth": 1, "reevaluate.epochs": 1, "reevaluate.channels": 4,
        "reevaluate.depth": 1, "final.epochs": 2, "final.channels": 4, "final.depth": 1, "plan.iterations": 4,
        "plan.shortlist": 2, "plan.confirm": 2, "ranker.epochs": 20, "strategy.samples": 16, "plan.channels": 4, "plan.depth": 1,
    },
}  # fmt: skip
HERE = {**SMALL, "executor": "local"}
"""Without worker processes, each of which imports torch: what they have to do with a run is tested on ``finished`` and by killing it."""


def command(out: Path) -> list[str]:
    """Returns the command line of the small run."""
    words = [sys.executable, "-m", "archduel", "search", "digits", "--evaluations", "8", "--max-images", "240"]
    words += ["--final-seeds", "2", "--workers", "2", "--out", str(out)]
    for key, value in SMALL["set"].items():
        words += ["--set", f"{key}={value}"]
    return words


def timeless(value: object) -> object:
    """Returns a result without its times, which differ from run to run."""
    if isinstance(value, dict):
        times = {"clock", "core_seconds", "seconds"}
        return {key: timeless(item) for key, item in value.items() if key not in times}
    return [timeless(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> archduel.Run:
    return archduel.search("digits", out=tmp_path_factory.mktemp("runs") / "whole", quiet=True, **SMALL)


def test_a_run_leaves_everything_a_person_needs(finished: archduel.Run) -> None:
    folder = finished.folder
    for name in ("run.toml", "journal.jsonl", "result.json", "report.html", "export/model.py", "export/predict.py"):
        assert (folder / name).is_file(), name
    roles = finished.result["networks"]
    assert set(roles) == {"search", "random", "standard"}
    assert all(len(network["test"]["accuracy"]) == 2 for network in roles.values())
    assert all(0 <= score <= 1 for network in roles.values() for score in network["test"]["accuracy"])


def test_networks_are_chosen_by_likelihood(finished: archduel.Run) -> None:
    events = [json.loads(line) for line in (finished.folder / "journal.jsonl").read_text().splitlines()]
    stages = {"label", "confirm", "random", "reevaluate"}
    ranked = [event for event in events if event["event"] == "estimate" and event["stage"] in stages]
    assert {event["stage"] for event in ranked} == stages
    for event in ranked:
        assert event["score"] == pytest.approx(np.exp(-event["values"]["val_loss"]), rel=1e-6)


def test_only_the_search_believes_in_size(finished: archduel.Run) -> None:
    space, result = NASBench201(), finished.result
    scale = Scale(**result["scale"])
    for arm, shortlist, weight in zip(("search", "random"), result["shortlists"], (0.5, 0.0)):
        archs, scores = zip(*((parse(text), score) for text, score in result[arm] if score is not None))
        order = np.argsort(-lifted(scores, [count(arch, scale).macs for arch in archs], weight), kind="stable")
        distinct = list({space.fingerprint(archs[i]): str(archs[i]) for i in reversed(order)}.values())
        assert set(shortlist) == set(distinct[-len(shortlist) :]), arm


def test_without_time_to_re_evaluate_labels_decide(finished: archduel.Run, tmp_path: Path) -> None:
    folder = tmp_path / "slow"
    folder.mkdir()
    shutil.copy(finished.folder / "run.toml", folder)
    lines = (finished.folder / "journal.jsonl").read_text().splitlines()
    cut = next(i for i, line in enumerate(lines) if json.loads(line)["event"] == "reevaluation plan")
    none = json.loads(lines[cut]) | {"fidelity": None}
    (folder / "journal.jsonl").write_text("\n".join([*lines[:cut], json.dumps({k: v for k, v in none.items() if k != "crc32"})]) + "\n")
    result = archduel.search("digits", out=folder, quiet=True, **HERE).result
    assert result["shortlists"] == finished.result["shortlists"]
    assert result["reevaluated"] == {}
    assert [result["networks"][role]["arch"] for role in ("search", "random")] == [s[0] for s in result["shortlists"]]
    assert (folder / "report.html").is_file()


def test_a_gain_says_how_much_more_is_computed_for_it(finished: archduel.Run) -> None:
    networks = finished.result["networks"]
    ours = networks["search"]
    for role, part in finished.result["gain"].items():
        theirs = networks[role]
        other_size = theirs["arch"] != ours["arch"] and abs(ours["macs"] / theirs["macs"] - 1) >= 0.05
        assert ("times its multiply-adds" in part["sentence"]) == other_size
        assert not other_size or f"{ours['macs'] / theirs['macs']:.2g} times" in part["sentence"]


def test_test_is_read_once_a_network_and_seed_and_after_all_final_trainings(finished: archduel.Run) -> None:
    events = [json.loads(line) for line in (finished.folder / "journal.jsonl").read_text().splitlines()]
    kinds = [event["event"] for event in events]
    tests = [(event["role"], event["seed"]) for event in events if event["event"] == "test"]
    assert len(tests) == len(set(tests)) == 6
    last_training = max(i for i, event in enumerate(events) if event["event"] == "estimate")
    assert min(i for i, kind in enumerate(kinds) if kind == "test") > last_training


def test_model_predicts_what_the_recorded_network_predicted(finished: archduel.Run, tmp_path: Path) -> None:
    from PIL import Image

    from archduel.data import load

    dataset = load("digits", max_images=240, seed=0)
    model = finished.model()
    import torch

    with torch.inference_mode():
        logits = model(torch.from_numpy(np.array(dataset.test.images)).float() / 255)
    accuracy = float((logits.argmax(1).numpy() == dataset.test.labels).mean())
    assert accuracy == pytest.approx(finished.result["networks"]["search"]["test"]["accuracy"][0], abs=1e-9)
    path = tmp_path / "one.png"
    Image.fromarray(np.array(dataset.test.images[0, 0])).save(path)
    answer = finished.predict([path])[0]
    assert answer[0][0] == dataset.classes[int(logits[0].argmax())]
    assert sum(probability for _, probability in answer) == pytest.approx(1.0, abs=1e-5)


def test_the_same_call_again_does_nothing(finished: archduel.Run) -> None:
    before = (finished.folder / "journal.jsonl").read_bytes()
    again = archduel.search("digits", out=finished.folder, quiet=True, **SMALL)
    assert again.result == finished.result
    assert (finished.folder / "journal.jsonl").read_bytes() == before


def lines(out: Path) -> int:
    """Returns how many lines the run's journal has."""
    path = out / "journal.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def stopped_at(out: Path, line: int, how: signal.Signals) -> tuple[int, str, str]:
    """Starts the small run, sends a signal when its journal has ``line`` lines, returns exit code, output and errors."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command(out), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore Ctrl-C
    )  # fmt: skip
    while process.poll() is None and lines(out) < line:
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers = children.read_text().split() if children.exists() else []
    process.send_signal(how)
    output, errors = process.communicate(timeout=600)
    deadline = time.monotonic() + 60
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "worker processes outlive the run"
        time.sleep(0.1)
    return process.returncode, output, errors


def alive(pid: str) -> bool:
    """Whether a process is there and is not only waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_stopped_and_killed_at_random_points_gives_the_result_of_the_uninterrupted_run(
    finished: archduel.Run, tmp_path: Path
) -> None:
    out, whole, rng = tmp_path / "killed", lines(finished.folder), random.Random(time.time_ns())
    points = sorted(rng.sample(range(3, whole - 2), 2))
    code, output, errors = stopped_at(out, points[0], signal.SIGINT)
    assert code == 130, (points, errors)
    assert output.splitlines()[-1].startswith("stopped after")
    assert f"the same command continues {out}" in output.splitlines()[-1]
    assert "Traceback" not in errors
    for point in (points[1], whole - 1):  # the last is between the result and the report
        code, _, errors = stopped_at(out, point, signal.SIGKILL)
        assert code == -signal.SIGKILL, (points, errors)
    assert not (out / "report.html").exists()
    last = archduel.search("digits", out=out, quiet=True, **SMALL)  # what the command began
    assert timeless(last.result) == timeless(finished.result), points
    assert (out / "report.html").is_file()
    assert (out / "export" / "model.py").is_file()


@pytest.mark.parametrize("stage", ["label", "final"])
def test_a_journal_cut_inside_a_record_gives_the_result_of_the_uninterrupted_run(
    stage: str, finished: archduel.Run, tmp_path: Path
) -> None:
    out = tmp_path / "cut"
    shutil.copytree(finished.folder, out, ignore=shutil.ignore_patterns("result.json", "report.html", "export"))
    records = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    last = max(i for i, line in enumerate(records) if json.loads(line).get("stage") == stage and b'"estimate"' in line)
    (out / "journal.jsonl").write_bytes(b"".join(records[:last]) + records[last][: len(records[last]) // 2])
    assert timeless(archduel.search("digits", out=out, quiet=True, **HERE).result) == timeless(finished.result)
    again = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    assert again[:last] == records[:last]
    assert sum(b'"estimate"' in line for line in again) == sum(b'"estimate"' in line for line in records)


def test_other_settings_in_the_same_folder_are_refused_with_the_difference(finished: archduel.Run) -> None:
    with pytest.raises(RunError, match=r"seed: the run has 0, the command says 1"):
        archduel.search("digits", out=finished.folder, quiet=True, seed=1, **SMALL)


def test_a_second_process_on_the_folder_is_refused(tmp_path: Path) -> None:
    settings = make_settings(data="digits", evaluations=4)
    first = Job(tmp_path / "run", RUN, {"run": settings.model_dump()})
    try:
        with pytest.raises(RunError, match=f"in use by process {os.getpid()}"):
            Job(tmp_path / "run", RUN, {"run": settings.model_dump()})
    finally:
        first.close()
    Job(tmp_path / "run", RUN, {"run": settings.model_dump()}).close()


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(RunError, match="not empty and holds no run"):
        archduel.search("digits", out=tmp_path, quiet=True, **SMALL)


def test_limits_nothing_satisfies_say_what_the_smallest_needs(tmp_path: Path) -> None:
    with pytest.raises(InfeasibleError, match=r"smallest of 1,000 random ones at 4 channels, depth 1 and 8 px\s+needs [\d,]+ parameters"):
        archduel.search("digits", out=tmp_path / "r", quiet=True, max_params=100, **SMALL)


def test_limits_hold_for_every_trained_architecture(tmp_path: Path) -> None:
    run = archduel.search("digits", out=tmp_path / "r", quiet=True, max_params=8000, max_latency_ms=5000, **HERE)
    for line in (run.folder / "journal.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["event"] == "estimate" and record["stage"] in ("label", "confirm", "random") and not record["reason"]:
            assert record["values"]["params"] <= 8000
    assert all(network["params"] <= 8000 for network in run.result["networks"].values())


def test_arrays_and_one_seed_and_no_baselines(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    images = (rng.integers(0, 60, (200, 8, 8, 3)) + labels[:, None, None, None] * 120).astype(np.uint8)
    plain = {key: value for key, value in SMALL["set"].items() if key.split(".")[0] not in ("ranker", "strategy")}
    settings = {**HERE, "final_seeds": 1, "max_images": None, "baselines": False, "workers": 1, "set": plain}
    run = archduel.search((images, labels), out=tmp_path / "r", quiet=True, strategy="evolution", **settings)
    assert set(run.result["networks"]) == {"search"}
    assert run.result["gain"] == {}
    assert len(run.result["search"]) == 8  # a strategy that asks itself gets all evaluations
    again = archduel.search((images, labels), out=tmp_path / "r", quiet=True, strategy="evolution", **settings)
    assert again.result == run.result
    assert run.settings.data.startswith("arrays:")


def test_a_time_budget_is_planned_and_spent_by_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_machine(monkeypatch)
    settings = {**HERE, "evaluations": None, "workers": 1, "set": {"plan.iterations": 4, "ranker.epochs": 20, "strategy.samples": 16}}
    run = archduel.search("digits", time="20s", out=tmp_path / "r", quiet=True, race=False, **settings)
    plan = run.result["plan"]
    assert 0 < sum(plan["seconds"].values()) <= 20
    assert plan["labels"] * plan["seconds_per_label"] <= plan["seconds"]["label"]
    events = {event["event"]: event for event in map(json.loads, (run.folder / "journal.jsonl").read_text().splitlines())}
    assert events["final plan"]["fidelity"] == run.result["fidelity"]  # epochs were chosen from the time that was left
    assert run.result["clock"] == pytest.approx(events["finished"]["seconds"], abs=1.0)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("1h30m", 5400), ("1d", 86400), (5, 5)])
def test_times(text: object, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "0", "5 parsecs", "1h 30"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(SettingError, match="time"):
        parse_seconds(text)


@pytest.mark.parametrize(("text", "number"), [("1M", 1_000_000), ("500k", 500_000), ("1.5M", 1_500_000), ("7", 7), ("2G", 2_000_000_000)])
def test_counts(text: str, number: int) -> None:
    assert parse_count(text) == number


def test_bad_settings_name_themselves(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="metric"):
        archduel.search("digits", out=tmp_path / "a", quiet=True, metric="accurate")
    with pytest.raises(SettingError, match=r"--set lr"):
        archduel.search("digits", out=tmp_path / "b", quiet=True, set={"lr": 1})
    with pytest.raises(SettingError, match="a recipe has no such setting"):
        archduel.search("digits", out=tmp_path / "c", quiet=True, evaluations=4, set={"final.epoch": 1})
    with pytest.raises(KeyError, match="did you mean 'ctnas'"):
        archduel.search("digits", out=tmp_path / "d", quiet=True, evaluations=4, strategy="ctna")
    with pytest.raises(DataError):
        archduel.search(str(tmp_path / "nothing"), out=tmp_path / "e", quiet=True, evaluations=4)

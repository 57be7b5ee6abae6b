"""`archduel compare`, `report` of trainings, `track`, `latency`, `export` and `predict` of training folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from PIL import Image
from typer.testing import CliRunner

from archduel.commands import app
from archduel.commands.network.compare import compare, text_of, trainings
from archduel.commands.network.curves import curves_data, write_curves
from archduel.commands.network.evaluate import evaluate_network
from archduel.commands.network.latency import measure
from archduel.commands.search.settings import make_settings
from archduel.commands.tracking import followed, make_tracker, replay
from archduel.commands.train.train import train_network
from archduel.core.storage import save_state
from archduel.errors import RunError, SettingError, UnknownNameError
from archduel.networks.predictions import predict
from archduel.networks.trained import export_network, load_trained, open_network
from archduel.reporting.run_report import report_html

GOOD, POOR = "nasbench201:1.3.0.1.0.1", "nasbench201:0.0.0.0.0.0"
TINY = {"epochs": 3, "batch_size": 32, "channels": 4, "depth": 1, "image_size": 8}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks, two seeds each, on bright and dark squares; one cannot see anything."""
    root = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    images = (rng.integers(0, 60, (240, 8, 8, 3)) + (labels * 60)[:, None, None, None]).astype(np.uint8)
    np.savez(root / "squares.npz", images=images, labels=labels)
    for name, arch in (("good", GOOD), ("poor", POOR)):
        for seed in (0, 1):
            train_network(
                arch, str(root / "squares.npz"), root / name / f"seed{seed}", recipe="digits", changes=TINY, seed=seed,
                hold_out=True, quiet=True,
            )  # fmt: skip
    return root


def test_the_evaluation_repeats_the_accuracy_of_the_training(runs: Path) -> None:
    for seed in (0, 1):
        folder = runs / "good" / f"seed{seed}"
        kept = json.loads((folder / "result.json").read_text())["test"]
        record = evaluate_network(folder)
        assert record["top1"] == kept["accuracy"]
        assert record["loss"] == pytest.approx(kept["loss"], rel=1e-5)
        assert record["data"]["pictures"] == 48


def test_data_that_changed_since_the_training_is_noticed(runs: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(runs / "squares.npz"))
    np.savez(tmp_path / "squares.npz", **arrays)
    train_network(GOOD, str(tmp_path / "squares.npz"), tmp_path / "t", recipe="digits", changes={**TINY, "epochs": 1}, quiet=True)
    assert evaluate_network(tmp_path / "t")["data"]["notes"] == []
    np.savez(tmp_path / "squares.npz", **{name: values[:-9] for name, values in arrays.items()})
    (note,) = evaluate_network(tmp_path / "t")["data"]["notes"]
    assert note.startswith("231 images now, 240 were used in training")
    facts = json.loads((tmp_path / "t" / "model.json").read_text())
    facts["data"] |= {"test": 10, "test_of": 39}  # of a run that had no time for all of the test images
    (tmp_path / "t" / "model.json").write_text(json.dumps(facts))
    record = evaluate_network(tmp_path / "t")["data"]
    assert (record["notes"], record["pictures"]) == ([], 46)


def test_one_training_each_is_compared_image_by_image(runs: Path) -> None:
    record = compare(runs / "good" / "seed0", runs / "poor" / "seed0")
    (pair,) = record["pairs"]
    accuracy = [json.loads((runs / side / "seed0" / "result.json").read_text())["test"]["accuracy"] for side in ("good", "poor")]
    assert pair["accuracy"] == pytest.approx(accuracy)
    assert pair["first_only"] - pair["second_only"] == round((accuracy[0] - accuracy[1]) * 48)
    assert record["p"] < 0.01
    assert record["sentence"].startswith(f"{GOOD} is better than {POOR}: ")
    assert "another seed" in record["sentence"]
    back = compare(runs / "poor" / "seed0", runs / "good" / "seed0")
    assert back["sentence"] == record["sentence"]
    assert len(text_of(record)) == 4


def test_several_seeds_are_compared_in_pairs(runs: Path) -> None:
    record = compare(runs / "good", runs / "poor")
    assert [pair["seed"] for pair in record["pairs"]] == [0, 1]
    mean = np.mean([pair["accuracy"][0] - pair["accuracy"][1] for pair in record["pairs"]])
    assert record["difference"]["value"] == pytest.approx(mean)
    assert record["test"] == "paired t over seeds"
    same = compare(runs / "good", runs / "good")
    assert same["p"] == 1.0
    assert same["sentence"].startswith("No measurable difference")


def test_networks_that_were_not_trained_alike_are_not_compared(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"(?s)not trained alike.*seeds: the first has \[0\], the second \[1\]"):
        compare(runs / "good" / "seed0", runs / "poor" / "seed1")
    longer = (runs / "poor" / "seed0" / "train.toml").read_text().replace("epochs = 3", "epochs = 4")
    for name in ("model.json", "model.safetensors"):
        (tmp_path / name).write_bytes((runs / "poor" / "seed0" / name).read_bytes())
    (tmp_path / "train.toml").write_text(longer)
    with pytest.raises(RunError, match=r"recipe\.epochs: the first has 3, the second 4"):
        compare(runs / "good" / "seed0", tmp_path)
    wider = (runs / "poor" / "seed0" / "train.toml").read_text().replace("channels = 4", "channels = 8")
    (tmp_path / "train.toml").write_text(wider)
    assert compare(runs / "good" / "seed0", tmp_path)["p"] < 0.01  # the size belongs to the network


def test_folders_without_finished_trainings_are_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no training"):
        trainings(tmp_path)
    spec = (runs / "good" / "seed0" / "train.toml").read_text()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "train.toml").write_text(spec)
    with pytest.raises(RunError, match="not finished"):
        trainings(tmp_path)
    with pytest.raises(RunError, match="not finished"):
        trainings(tmp_path / "a")
    for name in ("a", "b"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "train.toml").write_text(spec)
        (tmp_path / name / "model.json").write_text("{}")
    with pytest.raises(RunError, match="several trainings of one seed"):
        trainings(tmp_path)


def test_curves_of_one_and_of_several_trainings(runs: Path, tmp_path: Path) -> None:
    folder = runs / "good" / "seed0"
    data = curves_data([folder])
    journal = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    drawn = {curve["measure"]: curve["values"] for curve in data["curves"]}
    assert drawn["validation accuracy"] == [line["val_accuracy"] for line in journal]
    assert drawn["learning rate"] == [line["lr"] for line in journal]
    assert data["key_figures"][0]["label"] == "test accuracy"
    evaluate_network(folder)
    assert "confusion" in curves_data([folder])
    both = curves_data([folder, runs / "poor" / "seed0"])
    assert {curve["name"] for curve in both["curves"]} == {"good/seed0", "poor/seed0"}
    page = write_curves([folder], tmp_path / "one.html").read_text()
    assert page.count("<svg") >= 5
    assert "test accuracy" in page
    (tmp_path / "run").mkdir()
    for name in ("train.toml", "journal.jsonl"):
        (tmp_path / "run" / name).write_bytes((folder / name).read_bytes())
    assert "not finished (3 of 3 epochs)" in report_html(curves_data([tmp_path / "run"]))
    with pytest.raises(RunError, match="holds no training"):
        curves_data([tmp_path])


class Listener:
    """A tracker that remembers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.heard = folder, []

    def begin(self, name: str, settings: Any) -> None:
        self.heard.append(("begin", name, settings["recipe"]["epochs"]))

    def note(self, numbers: Any, epoch: float) -> None:
        self.heard.append(("note", epoch, numbers["train_loss"]))

    def keep(self, path: Path) -> None:
        self.heard.append(("keep", path.name))

    def end(self, result: Any) -> None:
        self.heard.append(("end", result.get("params")))


def test_a_tracker_hears_the_same_live_and_afterwards(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    after = Listener(tmp_path)
    assert replay(runs / "good" / "seed0", after) == 3
    kinds = [entry[0] for entry in after.heard]
    assert kinds == ["begin", "note", "note", "note", "keep", "keep", "end"]
    live = Listener(tmp_path)
    monkeypatch.setattr("archduel.commands.tracking.make_tracker", lambda name, folder: live)
    with followed("listener", tmp_path / "seed0") as on_epoch:
        train_network(GOOD, str(runs / "squares.npz"), tmp_path / "seed0", recipe="digits", changes=TINY, hold_out=True, quiet=True, on_epoch=on_epoch)
    assert live.heard == after.heard
    with followed("", tmp_path) as nothing:
        assert nothing is None


def test_tensorboard_reads_what_was_written(runs: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    done = CliRunner().invoke(app, ["track", str(runs / "good" / "seed0"), "--to", "tensorboard", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "seed0"))
    events.Reload()
    journal = [json.loads(line) for line in (runs / "good" / "seed0" / "journal.jsonl").read_text().splitlines()]
    seen = events.Scalars("val_accuracy")
    assert [event.step for event in seen] == [1, 2, 3]
    assert [event.value for event in seen] == pytest.approx([line["val_accuracy"] for line in journal])
    assert "result/test.accuracy" in events.Tags()["scalars"]
    with pytest.raises(UnknownNameError, match="tensorboard"):
        make_tracker("tensorbord", tmp_path)


def test_a_training_is_exported_and_predicts(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archduel.export.folder.missing_packages", lambda: ["onnx"])  # has tests of its own, and takes seconds
    folder = runs / "good" / "seed0"
    image = tmp_path / "dark.png"
    Image.new("RGB", (8, 8), (30, 30, 30)).save(image)
    ((best, share), *_), = predict(open_network(folder), [image])
    assert best == "0"
    said = export_network(open_network(folder), tmp_path / "shipped").summary
    assert "differs from the trained network by at most" in said
    names: dict[str, Any] = {"__file__": str(tmp_path / "shipped" / "model.py"), "__name__": "model"}
    exec((tmp_path / "shipped" / "model.py").read_text(), names)
    network = names["load"](tmp_path / "shipped" / "model.safetensors")
    pixels = torch.full((1, 3, 8, 8), 30, dtype=torch.uint8)
    assert network(pixels).softmax(1)[0, 0].item() == pytest.approx(share, abs=1e-5)
    readme = (tmp_path / "shipped" / "README.md").read_text()
    model, _ = load_trained(folder)
    assert f"{sum(p.numel() for p in model.parameters()):,}" in readme
    with pytest.raises(RunError, match="no trained network"):
        export_network(open_network(tmp_path), tmp_path / "no")


def as_search(training: Path, data: Path, folder: Path, *, before: bool) -> Path:
    """Writes what a finished search leaves (or left ``before``), with the network of a training as its winner."""
    model, facts = load_trained(training)
    if before:
        save_state(folder / "w.safetensors", {"weights": dict(model.state_dict())})
    else:
        shutil.copytree(training, folder / "networks" / "search-7", ignore=shutil.ignore_patterns("evaluation.json"))
    settings = make_settings(data=str(data), evaluations=4).model_dump(exclude_none=True)
    (folder / "run.toml").write_text(tomli_w.dumps({"command": "", "run": settings}))
    place = {"weights": ["w.safetensors"]} if before else {"folders": ["networks/search-7"]}
    winner = {
        "arch": facts["arch"], "text": facts["arch"], **place, "params": facts["params"],
        "macs": facts["macs"], "test": {"accuracy": [0.5]},
    }  # fmt: skip
    data_facts = {"name": str(data), "classes": facts["classes"], "preprocessing": facts["preprocessing"], "splits": {"train": 144, "validation": 48, "test": 48}}
    result = {"networks": {"search": winner}, "scale": facts["scale"], "metric": "accuracy", "data": data_facts}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.mark.parametrize("before", [False, True])
def test_a_search_is_taken_where_a_training_is(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    monkeypatch.setattr("archduel.export.folder.missing_packages", lambda: ["onnx"])
    training = runs / "good" / "seed0"
    search = as_search(training, runs / "squares.npz", tmp_path, before=before)
    own, other = evaluate_network(training), evaluate_network(search)
    assert own["confusion"] == other["confusion"]
    assert (tmp_path / "networks" / "search-7" / "evaluation.json").is_file() != before
    assert other["data"]["notes"] == []
    image = tmp_path / "x.png"
    Image.new("RGB", (8, 8), (150, 150, 150)).save(image)
    assert predict(open_network(search), [image]) == predict(open_network(training), [image])
    run = CliRunner().invoke
    assert json.loads(run(app, ["predict", str(search), str(image), "--json"]).output)["file"] == str(image)
    assert run(app, ["export", str(search), "--to", str(tmp_path / "shipped")]).exit_code == 0
    assert (tmp_path / "shipped" / "model.py").is_file()
    assert measure([str(search)], repetitions=5)[0]["channels"] == 4
    (tmp_path / "result.json").unlink()
    with pytest.raises(RunError, match="not finished"):
        evaluate_network(search)


def test_latency_is_measured_with_its_spread(runs: Path) -> None:
    before = torch.get_num_threads()
    trained, named = measure([str(runs / "good" / "seed0"), "cnas"], size={"channels": 4, "depth": 3, "image_size": 8}, repetitions=5)
    assert torch.get_num_threads() == before
    for record in (trained, named):
        assert record["median_ms"] > 0
        assert record["iqr_ms"] >= 0
        assert record["n"] == 5
    (own,) = measure([str(runs / "good" / "seed0")], batch_size=2, repetitions=5)
    assert (own["channels"], own["image_size"], own["batch"]) == (4, 8, 2)
    with pytest.raises(SettingError, match="at least 1"):
        measure(["cnas"], batch_size=0)


def test_the_commands(runs: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    good, poor = str(runs / "good" / "seed0"), str(runs / "poor" / "seed0")
    done = run(app, ["compare", good, poor])
    assert "is better than" in done.output
    assert json.loads(run(app, ["compare", good, poor, "--json", "--max-images", "30"]).output)["pairs"][0]["pictures"] == 30
    assert run(app, ["report", good]).output.strip() == f"{good}/report.html"
    assert run(app, ["report", good, poor, "--out", str(tmp_path / "x.html")]).exit_code == 0
    line = run(app, ["latency", good, "--repetitions", "5", "--batch", "4"]).output
    assert "ms a batch of 4 (median of 5, quartiles" in line

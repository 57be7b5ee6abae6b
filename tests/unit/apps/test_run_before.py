"""A finished search of a version that kept its final networks as checkpoints still reports, exports, predicts and continues."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import archduel
from archduel.commands import app
from archduel.commands.network.evaluate import evaluate_network
from archduel.commands.network.latency import measure
from archduel.commands.train.train import train_network
from archduel.networks import find_architecture
from archduel.networks.trained import facts_at

BEFORE = Path(__file__).resolve().parents[2] / "golden" / "search_before"
"""What version 0.1.0 wrote for `two.npz`: 4 evaluations, one final network, 8 x 8 grey images of two classes."""
WEIGHTS = "checkpoints/final-b907390a86ac.safetensors"
PREDICTED = (("0", 0.6103355288505554), ("1", 0.5117613077163696))
"""Class and probability that version 0.1.0 gave the first two images."""
SETTINGS = {
    "strategy": "random", "evaluations": 4, "final_seeds": 1, "workers": 1, "baselines": False,
    "set": {
        "label.epochs": 1, "label.channels": 2, "label.depth": 1, "reevaluate.epochs": 1, "reevaluate.channels": 2,
        "reevaluate.depth": 1, "final.epochs": 12, "final.channels": 2, "final.depth": 1, "plan.shortlist": 1,
        "plan.confirm": 1, "plan.channels": 2, "plan.depth": 1,
    },
}  # fmt: skip


def two_classes() -> tuple[np.ndarray, np.ndarray]:
    """Returns the images (80, 8, 8, 1) and labels that the run was made with."""
    labels = np.arange(80) % 2
    noise = np.random.default_rng(0).integers(0, 60, (80, 8, 8, 1))
    return (noise + labels[:, None, None, None] * 90).astype(np.uint8), labels


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run's folder beside its data, which it names relative to where the command was given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("archduel.export.folder.missing_packages", lambda: ["onnx"])  # has tests of its own, and takes seconds
    images, labels = two_classes()
    np.savez(tmp_path / "two.npz", images=images, labels=labels)
    shutil.copytree(BEFORE, tmp_path / "run")
    return tmp_path / "run"


def image_files(folder: Path) -> list[Path]:
    """Writes the first two images."""
    paths = [folder / f"{number}.png" for number in range(2)]
    for path, pixels in zip(paths, two_classes()[0]):
        Image.fromarray(pixels[:, :, 0]).save(path)
    return paths


def predictions(run: Path) -> list[tuple[str, float]]:
    """Returns the most probable class of each of the first two images."""
    return [answer[0] for answer in archduel.Run(run).predict(image_files(run.parent))]


def check_predictions(run: Path) -> None:
    """Fails unless the winner says of the images what it said then."""
    for (name, share), (expected_name, expected) in zip(predictions(run), PREDICTED):
        assert name == expected_name
        assert share == pytest.approx(expected, abs=1e-5)


def test_it_predicts_what_it_predicted(run: Path) -> None:
    check_predictions(run)


def test_it_reports_exports_and_is_evaluated(run: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(run)])
    assert done.exit_code == 0, done.output
    assert "100.00" in (run / "report.html").read_text()
    elsewhere = run.parent / "pages" / "one.html"  # of a run that one may only read, say
    done = CliRunner().invoke(app, ["report", str(run), "--out", str(elsewhere)])
    assert (done.exit_code, done.output.strip()) == (0, str(elsewhere))
    assert elsewhere.read_text() == (run / "report.html").read_text()
    done = CliRunner().invoke(app, ["export", str(run), "--to", str(run.parent / "shipped")])
    assert done.exit_code == 0, done.output
    names = {"__file__": str(run.parent / "shipped" / "model.py"), "__name__": "model"}
    exec((run.parent / "shipped" / "model.py").read_text(), names)
    pixels = torch.from_numpy(two_classes()[0][:2].transpose(0, 3, 1, 2).copy())
    shares = names["load"](run.parent / "shipped" / "model.safetensors")(pixels).softmax(1).max(1).values  # type: ignore[operator]
    assert shares.tolist() == pytest.approx([share for _, share in PREDICTED], abs=1e-5)
    record = evaluate_network(run)
    tested = json.loads((BEFORE / "result.json").read_text())["networks"]["search"]["test"]
    assert record["top1"] == tested["accuracy"][0]
    assert record["ece"] == pytest.approx(tested["ece"][0], abs=1e-6)
    assert record["data"]["pictures"] == 16
    assert measure([str(run)], repetitions=5)[0]["channels"] == 2


def test_its_winner_is_trained_and_started_from(run: Path) -> None:
    assert str(find_architecture(str(run)).arch) == "nasbench201:3.3.4.3.0.2"
    few = {"epochs": 1, "channels": 2, "depth": 1, "image_size": 8, "lr": 1e-9, "warmup_epochs": 0}
    images, labels = two_classes()
    tuned = run.parent / "tuned"
    result = train_network(None, (images, labels), tuned, recipe="digits", changes=few, start=run, quiet=True)
    assert result["test"]["accuracy"] == 1.0  # nothing was learned here, so it was known before


def journal_until(run: Path, event: str) -> None:
    """Cuts the run off before its first record of ``event``, as a kill would."""
    lines = (run / "journal.jsonl").read_text().splitlines()
    cut = next(number for number, line in enumerate(lines) if json.loads(line)["event"] == event)
    (run / "journal.jsonl").write_text("".join(line + "\n" for line in lines[:cut]))


@pytest.mark.parametrize("event", ["test", "finished"])
def test_cut_off_after_its_last_training_it_continues_and_takes_the_new_form(run: Path, event: str) -> None:
    journal_until(run, event)
    (run / "result.json").unlink()
    finished = archduel.search("two.npz", out=run, quiet=True, **SETTINGS)
    before, now = (json.loads((folder / "result.json").read_text())["networks"]["search"] for folder in (BEFORE, run))
    assert {name: now[name] for name in ("arch", "params", "confusion")} == {name: before[name] for name in ("arch", "params", "confusion")}
    assert now["test"]["ece"] == pytest.approx(before["test"]["ece"], abs=1e-6)
    (folder,) = now["folders"]
    assert folder == f"networks/search-{now['seeds'][0]}"
    assert not (run / WEIGHTS).exists()  # the network is not held twice
    check_predictions(run)
    assert finished.report().is_file()


def test_cut_off_before_the_export_it_hands_over_what_it_has(run: Path) -> None:
    journal_until(run, "handed over")
    archduel.search("two.npz", out=run, quiet=True, **SETTINGS)
    assert (run / "export" / "model.py").is_file()
    assert (run / WEIGHTS).is_file()  # its only copy


def test_a_finished_run_that_lost_its_result_finds_the_networks_it_saved(run: Path) -> None:
    for _ in range(2):  # the second time there are no checkpoints any more
        journal_until(run, "test")
        (run / "result.json").unlink()
        archduel.search("two.npz", out=run, quiet=True, **SETTINGS)
        check_predictions(run)


@pytest.mark.parametrize("continued", [False, True])
def test_of_either_form_a_network_is_an_ordinary_module(run: Path, continued: bool) -> None:
    if continued:
        journal_until(run, "test")
        (run / "result.json").unlink()
        archduel.search("two.npz", out=run, quiet=True, **SETTINGS)
    model, network = archduel.Run(run).model(), archduel.load_network(run)
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = model(x)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copied(x), expected)
    for opened in (network, copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(opened.with_normalisation(x), expected)
    data = {name: value for name, value in facts_at(run)["data"].items() if name not in ("place", "listing")}  # which runs note since
    assert Path(data.pop("name")).name == "two.npz"
    assert data == {"max_images": None, "train": 48, "validation": 16, "test": 16}

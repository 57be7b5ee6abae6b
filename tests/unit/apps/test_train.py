"""`archduel train`: the folder it leaves, how it continues, fine-tuning, and what it refuses in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from archduel.commands import app as cli
from archduel.commands.train import train as train_job
from archduel.commands.train.train import train_network
from archduel.core.disk import read_toml
from archduel.errors import (
    ArchduelError,
    DataError,
    InvalidArchError,
    RunError,
    SettingError,
    StateError,
    UnknownNameError,
)
from archduel.networks.find import find_architecture
from archduel.networks.trained import load_trained
from archduel.spaces.named import NAMED
from archduel.training import loop

ARCH = "nasbench201:1.3.0.1.0.1"  # one convolution, skips
TINY = {"epochs": 2, "batch_size": 16, "channels": 4, "depth": 1}


def make_images(classes: int = 3, n: int = 90, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Squares whose brightness is their class, with noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    shape = (n, 8, 8, channels) if channels > 1 else (n, 8, 8)
    bright = (labels * (200 // classes)).reshape(n, *(1,) * (len(shape) - 1))
    return (rng.integers(0, 40, shape) + bright).astype(np.uint8), labels


def run(out: Path, arch: str | None = ARCH, data: object = None, **settings: object) -> dict:
    changes = {**TINY, **settings.pop("changes", {})}
    return train_network(arch, data or make_images(), out, recipe="digits", changes=changes, quiet=True, **settings)


def test_the_folder_holds_everything(tmp_path) -> None:
    result = run(tmp_path / "t", changes={"auxiliary_weight": 0.4}, hold_out=True)
    spec = read_toml(tmp_path / "t" / "train.toml")
    journal = [json.loads(line) for line in (tmp_path / "t" / "journal.jsonl").read_text().splitlines()]
    assert spec["architecture"]["arch"] == ARCH
    assert spec["recipe"]["epochs"] == 2
    assert spec["scale"]["n_classes"] == 3
    assert {"versions", "hardware", "command", "run"} <= set(spec)
    assert [line["epoch"] for line in journal] == [1, 2]
    assert all("val_accuracy" in line for line in journal)
    assert json.loads((tmp_path / "t" / "result.json").read_text()) == result
    assert result["pictures"] == {"train": 54, "validation": 18, "test": 18}
    assert result["images"] == 108
    assert not (tmp_path / "t" / "checkpoint.safetensors").exists()
    model, facts = load_trained(tmp_path / "t")
    assert facts["classes"] == ["0", "1", "2"]
    assert facts["params"] == sum(p.numel() for p in model.parameters()) == result["params"]


def test_without_holding_out_validation_images_are_trained_on(tmp_path) -> None:
    result = run(tmp_path / "t")
    assert result["pictures"] == {"train": 72, "validation": 0, "test": 18}
    assert "val_accuracy" not in result["last_epoch"]


def test_a_killed_training_ends_as_an_uninterrupted_one(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(loop.train, "__kwdefaults__", {**loop.train.__kwdefaults__, "checkpoint_seconds": 0.0})
    changes = {"epochs": 3, "ema": 0.9}
    whole = run(tmp_path / "whole", changes=changes)

    def kill(numbers: dict) -> None:
        if numbers["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", changes=changes, on_epoch=kill)
    assert (tmp_path / "cut" / "checkpoint.safetensors").exists()
    told: list[float] = []
    again = run(tmp_path / "cut", changes=changes, on_epoch=lambda numbers: told.append(numbers["epoch"]))
    assert told == [3]
    assert again["test"] == whole["test"]
    first, second = (load_trained(tmp_path / name)[0].state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    lines = [(tmp_path / name / "journal.jsonl").read_text().splitlines() for name in ("whole", "cut")]
    assert [json.loads(x)["train_loss"] for x in lines[0]] == [json.loads(x)["train_loss"] for x in lines[1]]


def test_a_finished_training_is_not_done_again_and_another_one_is_refused(tmp_path) -> None:
    result = run(tmp_path / "t")
    assert run(tmp_path / "t") == result
    with pytest.raises(RunError, match=r"recipe.epochs: the training has 2, the command says 3"):
        run(tmp_path / "t", changes={"epochs": 3})
    with pytest.raises(RunError, match=r"start.seed: the training has 0"):
        run(tmp_path / "t", seed=1)


def test_fine_tuning_keeps_the_body_and_replaces_the_classifier(tmp_path, monkeypatch) -> None:
    run(tmp_path / "first")
    body = load_trained(tmp_path / "first")[0].state_dict()
    seen: list[dict] = []
    genuine = train_job.Training.network

    def spy(self):
        model = genuine(self)
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return model

    monkeypatch.setattr(train_job.Training, "network", spy)
    few = {"epochs": 1, "batch_size": 16}  # width and depth are those of the start
    result = train_network(
        None, make_images(4, 80), tmp_path / "second", recipe="nasbench201", changes={**few, "image_size": 8}, start=tmp_path / "first", quiet=True
    )
    assert seen[0]["stem.0.weight"].equal(body["stem.0.weight"])
    assert [n for n in body if body[n].shape != seen[0][n].shape] == ["tail.4.weight", "tail.4.bias"]
    assert result["test"]["accuracy"] >= 0
    run(tmp_path / "third", None, start=tmp_path / "first")
    assert all(seen[1][name].equal(body[name]) for name in body)  # the same classes: the classifier stays


def test_fine_tuning_starts_from_the_zoo_too_and_warns_of_images_that_were_learned_from(tmp_path, capsys) -> None:
    few = {"recipe": "digits", "changes": {"epochs": 0.2}, "quiet": False}
    same = train_network(None, "digits", tmp_path / "same", start="zoo:relativenas", **few)
    assert same["params"] == 53_338  # the size of the weights, not the recipe's
    assert "another split" not in capsys.readouterr().out
    train_network(None, "digits", tmp_path / "other", start="zoo:relativenas", seed=1, **few)
    assert "zoo:relativenas was trained on another split of digits" in capsys.readouterr().out


def test_what_was_found_keeps_its_size_under_a_recipe_without_one(tmp_path) -> None:
    first = run(tmp_path / "first")
    fast = {"recipe": "fast", "changes": {"epochs": 1, "batch_size": 16, "image_size": 8, "precision": "fp32"}, "quiet": True}
    assert train_network(str(tmp_path / "first"), make_images(), tmp_path / "again", **fast)["params"] == first["params"]
    published = train_network(ARCH, make_images(), tmp_path / "published", **fast)
    assert published["params"] > 10 * first["params"]


def test_a_training_that_takes_a_cpu_days_says_so_before(tmp_path, monkeypatch, capsys) -> None:
    few = {"recipe": "digits", "changes": {**TINY, "epochs": 0.1}, "quiet": False}
    train_network(ARCH, make_images(), tmp_path / "short", **few)
    assert "hours" not in capsys.readouterr().out
    monkeypatch.setattr(train_job, "CPU_RATE", 1e-2)
    train_network(ARCH, make_images(), tmp_path / "long", **few)
    assert "note: on this CPU that takes about " in capsys.readouterr().out


REFUSED = {
    "an architecture of an unknown space": ({"arch": "chains:0.1.2.0"}, UnknownNameError, "space 'chains' is unknown.*--space MODULE:FAMILY"),
    "an unknown architecture": ({"arch": "cnsa"}, InvalidArchError, "is no architecture; did you mean 'cnas'"),
    "no architecture": ({"arch": None}, SettingError, "which architecture"),
    "an unknown recipe": ({"recipe": "cifar_dart"}, UnknownNameError, "did you mean 'cifar_darts'"),
    "an unknown setting": ({"changes": {"epoch": 3}}, UnknownNameError, "did you mean 'epochs'"),
    "an impossible setting": ({"changes": {"epochs": -1}}, SettingError, "epochs"),
    "missing data": ({"data": "no/such/folder"}, DataError, "no/such/folder"),
    "fewer images than a batch": ({"changes": {"batch_size": 100}}, DataError, "72 training images, fewer than the batch of 100"),
    "no micro-batches": ({"accumulate": 0}, SettingError, "accumulate"),
    "too many micro-batches": ({"accumulate": 16}, SettingError, "it needs at least 32"),
    "a start that is none": ({"start": "no/such/folder"}, RunError, "holds no trained network"),
    "no weights in the zoo": ({"start": "zoo:cnas"}, UnknownNameError, "no weights of ours for cnas, only"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_bad_input_is_refused_in_words(case, tmp_path) -> None:
    settings, kind, words = case
    call = {"arch": ARCH, "data": make_images(), "recipe": "digits", **settings}
    call["changes"] = {**TINY, **call.get("changes", {})}
    arch, data = call.pop("arch"), call.pop("data")
    with pytest.raises(kind, match=words):
        train_network(arch, data, tmp_path / "t", quiet=True, **call)
    assert issubclass(kind, ArchduelError)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_missed_in_words(tmp_path) -> None:
    with pytest.raises(SettingError, match="cuda: torch cannot use it; here it has cpu"):
        run(tmp_path / "t", device="cuda")


def test_weights_of_another_architecture_or_colour_do_not_start_a_training(tmp_path) -> None:
    run(tmp_path / "first")
    with pytest.raises(StateError, match=r"another architecture: .*blocks\."):
        run(tmp_path / "second", "nasbench201:1.3.0.1.0.2", start=tmp_path / "first")
    assert not (tmp_path / "second").exists()  # the corrected command finds holds no trained network another training
    with pytest.raises(SettingError, match="trained on images of 3 channels, these have 1"):
        run(tmp_path / "third", None, make_images(channels=1), start=tmp_path / "first")


def test_a_loss_that_is_no_number_ends_with_the_reason(tmp_path) -> None:
    with pytest.raises(RunError, match="not finite in epoch 1; a smaller lr may help"):
        run(tmp_path / "t", changes={"lr": 1e30, "grad_clip": 0.0, "warmup_epochs": 0.0})


def test_architectures_come_from_every_kind_of_text(tmp_path) -> None:
    item = NAMED["relativenas"]
    (tmp_path / "cell.txt").write_text(f"PairNAS = {item.text}\n")
    (tmp_path / "cell.json").write_text(json.dumps({"arch": ARCH}))
    named = find_architecture("PairNAS")
    assert find_architecture(item.text).arch == find_architecture(str(tmp_path / "cell.txt")).arch == named.arch
    assert str(find_architecture(str(tmp_path / "cell.json")).arch) == ARCH
    assert find_architecture("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|").space == "nasbench201"
    assert find_architecture("resnet20-16", "resnet").space == "resnet"
    assert find_architecture("nasnet_a").arch is None
    with pytest.raises(RunError, match="holds no trained network"):
        find_architecture(str(tmp_path))
    (tmp_path / "run.toml").write_text("")
    with pytest.raises(RunError, match="not finished"):
        find_architecture(str(tmp_path))
    (tmp_path / "result.json").write_text(json.dumps({"networks": {"search": {"arch": ARCH, "text": "x"}}}))
    with pytest.raises(RunError, match="lacks weights; the winner cannot be read from it"):
        find_architecture(str(tmp_path))
    (tmp_path / "result.json").write_text('{"networks": {')
    with pytest.raises(RunError, match="is damaged"):
        find_architecture(str(tmp_path))


def test_a_genotype_of_no_space_is_trained_too(tmp_path) -> None:
    result = run(tmp_path / "t", "nasnet_a", changes={"epochs": 1, "depth": 3, "data_fraction": 0.5})
    assert load_trained(tmp_path / "t")[1]["arch"] is None
    assert result["images"] == 36


def test_the_command_trains_digits(tmp_path) -> None:
    words = ["train", ARCH, "--data", "digits", "--out", str(tmp_path / "t"), "--hold-out", "--seed", "3"]
    sets = [word for name, value in {"epochs": 4, "channels": 8, "depth": 1, "ema": 0.9}.items() for word in ("--set", f"{name}={value}")]
    done = CliRunner().invoke(cli, [*words, *sets], catch_exceptions=False)
    assert done.exit_code == 0
    assert "recipe digits, 4 epochs of 64 images a step" in done.stdout
    assert done.stdout.count("  validation 0.") == 4
    result = json.loads((tmp_path / "t" / "result.json").read_text())
    assert result["test"]["accuracy"] > 0.5
    assert read_toml(tmp_path / "t" / "train.toml")["recipe"]["flip"] is False


def test_the_command_takes_a_file_of_architectures_alone(tmp_path) -> None:
    with pytest.raises(SettingError, match="leave ARCH, --from and --track out"):
        CliRunner().invoke(cli, ["train", ARCH, "digits", "--file", "cells.txt", "--out", str(tmp_path)], catch_exceptions=False)
    listed = CliRunner().invoke(cli, ["list", "recipes"], catch_exceptions=False)
    assert "cifar_relativenas" in listed.stdout

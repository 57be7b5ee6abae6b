"""The zoo: listing, building, torch.hub, and released checkpoints read safely and matched by structure."""

from __future__ import annotations

import argparse
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from archduel.commands import app
from archduel.commands.network.evaluate import evaluate_network
from archduel.core import Scale
from archduel.errors import DataError, RunError, SettingError, StateError, UnknownNameError
from archduel.networks import zoo
from archduel.networks.checkpoints import layers_of, matched, read_checkpoint
from archduel.networks.trained import load_trained
from archduel.networks.zoo import counts_of_named
from archduel.spaces.named import NAMED

TINY = {"channels": 4, "depth": 3}
ROOT = Path(__file__).parents[3]


def own_params(model: nn.Module) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith("auxiliary"))


@pytest.mark.parametrize("name", NAMED)
def test_every_network_is_built_runs_and_costs_what_is_said_without_its_auxiliary_head(name: str) -> None:
    size = {**TINY, "depth": 1 if "nasbench" in name else 3}
    model = zoo.load(name, auxiliary=True, image_size=16, n_classes=3, **size)
    scale = Scale(size["channels"], size["depth"], 16, 3, 3)
    assert own_params(model) == counts_of_named(NAMED[name], scale).params
    logits, extra = model(torch.randn(2, 3, 16, 16))
    assert logits.shape == extra.shape == (2, 3)
    (logits.sum() + extra.sum()).backward()
    assert model.eval()(torch.randn(1, 3, 16, 16)).shape == (1, 3)


def test_unknown_names_and_sizes_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'relativenas'"):
        zoo.load("relativnas")
    with pytest.raises(UnknownNameError, match="width"):
        zoo.load("cnas", width=3)
    with pytest.raises(UnknownNameError, match="archduel zoo list"):
        zoo.load("nasnet_a", pretrained=True)


def test_torch_hub_knows_every_network() -> None:
    entries = runpy.run_path(str(ROOT / "hubconf.py"))
    assert all(callable(entries[name]) and entries[name].__name__ == name for name in NAMED)
    assert "TNNLS" in entries["relativenas"].__doc__
    model = torch.hub.load(str(ROOT), "relativenas", source="local", n_classes=5, **TINY)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 5)


def released(model: nn.Module, style: str) -> dict[str, torch.Tensor]:
    """Returns our weights under the names that a released DARTS-type code gives them, with its auxiliary head."""
    rules = {
        "darts": [
            (r"^stem\.0\.", "stem."), (r"\.before\.", ".preprocess0.op."), (r"\.previous\.", ".preprocess1.op."),
            (r"\.first\.", ".conv_1."), (r"\.second\.", ".conv_2."), (r"\.norm\.", ".bn."),
            (r"\.edges\.(\d+)\.0\.", r"._ops.\1.op."), (r"^tail\.\d\.", "classifier."), (r"^auxiliary\.", "auxiliary_head.features."),
        ],
        "parallel": [(r"^", "module."), (r"\.before\.", ".preproc0.net."), (r"\.edges\.(\d+)\.", r".dag.\1."), (r"tail\.\d", "linear"), (r"auxiliary", "aux_head")],
    }[style]  # fmt: skip
    renamed = {}
    for name, value in model.state_dict().items():
        for pattern, text in rules:
            name = re.sub(pattern, text, name)
        renamed[name] = value
    if style == "parallel":  # a classifier that was registered before the cells, and no batch counters (old releases)
        first = {name: value for name, value in renamed.items() if "linear" in name}
        renamed = first | {name: value for name, value in renamed.items() if "batches_tracked" not in name}
    return renamed


def trained_once(name: str, **size: int) -> nn.Module:
    torch_state = torch.random.get_rng_state()
    model = zoo.load(name, auxiliary=True, **size)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.weight)
    torch.random.set_rng_state(torch_state)
    return model.eval()


@pytest.mark.parametrize("style", ["darts", "parallel"])
@pytest.mark.parametrize("name", ["relativenas", "cnas", "darts_bpe1"])
def test_a_released_checkpoint_gives_the_same_logits(name: str, style: str, tmp_path: Path) -> None:
    model = trained_once(name, **TINY)
    weights = released(model, style)
    assert sum(name not in model.state_dict() for name in weights) > 0.8 * len(weights)  # they are called otherwise
    saved: dict[str, Any] = {"epoch": 600, "best_acc": 97.66, "args": argparse.Namespace(lr=0.025), "state_dict": weights}
    torch.save(saved if style == "darts" else weights, tmp_path / "cifar10_model.pt")
    facts = zoo.import_weights(name, tmp_path / "cifar10_model.pt", tmp_path / "net", size=TINY)
    assert facts["classes"][0] == "airplane"
    loaded, _ = load_trained(tmp_path / "net")
    x = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded(x), model(x))


def test_our_own_names_are_taken_as_they_are_also_from_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = trained_once("ctnas_darts", **TINY)
    own = {name: value for name, value in model.state_dict().items() if not name.startswith("auxiliary")}
    save_file(own, tmp_path / "w.safetensors")
    zoo.import_weights("ctnas_darts", tmp_path / "w.safetensors", tmp_path / "net", size=TINY)
    assert torch.equal(load_trained(tmp_path / "net")[0].tail[-1].weight, model.tail[-1].weight)
    save_file({f"x.{name}": value for name, value in own.items()}, tmp_path / "y.safetensors")
    with pytest.raises(StateError, match=r"no order of layers; give the \.pt file"):
        zoo.import_weights("ctnas_darts", tmp_path / "y.safetensors", tmp_path / "other", size=TINY)


def test_the_published_size_that_fits_is_found(tmp_path: Path) -> None:
    model = zoo.load("relativenas", scale=Scale(36, 20, 32, 3, 100))  # the second published size: CIFAR-100
    torch.save(released(model, "darts"), tmp_path / "c100.pt")
    facts = zoo.import_weights("relativenas", tmp_path / "c100.pt", tmp_path / "net", data="cifar100")
    assert facts["scale"] == {"channels": 36, "depth": 20, "image_size": 32, "in_channels": 3, "n_classes": 100}
    assert len(facts["classes"]) == 100


def test_a_checkpoint_of_another_architecture_is_refused_with_the_layer(tmp_path: Path) -> None:
    torch.save(released(zoo.load("relativenas", **TINY), "darts"), tmp_path / "r.pt")
    with pytest.raises(StateError, match=r"no size of cnas fits.*layer \d+ of \d+ is cells\.0\.\S+ weight"):
        zoo.import_weights("cnas", tmp_path / "r.pt", tmp_path / "net", size=TINY)
    with pytest.raises(StateError, match="no size of relativenas fits"):
        zoo.import_weights("relativenas", tmp_path / "r.pt", tmp_path / "net", size={**TINY, "channels": 8})
    assert not (tmp_path / "net").exists()


class Bomb:
    """Pickles to a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this must never run",)


def test_files_that_are_no_weights_are_refused_and_run_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(DataError, match="there is no file"):
        read_checkpoint(path)
    with pytest.raises(DataError, match="is a folder, expected a file of weights"):
        read_checkpoint(tmp_path)
    torch.save({"state_dict": Bomb()}, path)
    with pytest.raises(DataError, match=r"never objects that would run code"):
        read_checkpoint(path)
    assert capsys.readouterr().out == ""
    torch.save(nn.Linear(2, 2), path)  # a whole module: its class is not on the list
    with pytest.raises(DataError, match="state_dict"):
        read_checkpoint(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match="cannot be read"):
        read_checkpoint(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(DataError, match="holds no tensors by name"):
        read_checkpoint(path)
    for junk in (b"", b"junk", b"PK"):
        path.write_bytes(junk)
        with pytest.raises(DataError, match="cannot be read as weights"):
            read_checkpoint(path)
    (tmp_path / "x.safetensors").write_bytes(b"{}")
    with pytest.raises(DataError, match="no safetensors"):
        read_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.parametrize("wrapped", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_what_wrappers_put_before_every_name_is_left_out(wrapped: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4, 2))
    found = matched(model, {f"{wrapped}{name}": value for name, value in model.state_dict().items()}, "x.safetensors")
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())
    own = nn.Sequential()
    own.add_module("module", nn.Linear(2, 2))
    assert set(matched(own, own.state_dict(), "x.safetensors")) == {"module.weight", "module.bias"}


def test_layers_keep_the_order_of_registration() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    assert [layer.name for layer in layers_of(model.state_dict())] == ["0", "1", "3"]
    assert dict(layers_of(model.state_dict())[1].shapes) == dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (4,))


def test_the_commands(tmp_path: Path) -> None:
    run = CliRunner().invoke
    listed = run(app, ["zoo", "list", "--json"])
    names = [json.loads(line)["name"] for line in listed.output.splitlines()]
    assert names == list(NAMED)
    shown = json.loads(run(app, ["zoo", "show", "pairnas", "--json"]).output)
    assert shown["name"] == "relativenas"
    assert shown["reported"]["ImageNet top-1"] == "75.12"
    assert "of 359 test images of digits" in run(app, ["zoo", "show", "relativenas"]).output
    torch.save(zoo.load("cnas", **TINY).state_dict(), tmp_path / "cnas.pt")
    arguments = ["--checkpoint", str(tmp_path / "cnas.pt"), "--to", str(tmp_path / "net"), "--channels", "4", "--depth", "3"]
    done = run(app, ["zoo", "load", "cnas", *arguments])
    assert done.exit_code == 0, done.output
    assert "archduel eval" in done.output
    assert load_trained(tmp_path / "net")[1]["name"] == "cnas"


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    torch.save(zoo.load("cnas", **TINY).state_dict(), tmp_path / "cnas.pt")
    with pytest.raises(RunError, match=r"holds something else \(cnas\.pt\)"):
        zoo.import_weights("cnas", tmp_path / "cnas.pt", tmp_path, size=TINY)
    for _ in range(2):  # its own earlier work is replaced
        zoo.import_weights("cnas", tmp_path / "cnas.pt", tmp_path / "net", size=TINY)


def test_weights_have_a_size_of_their_own() -> None:
    with pytest.raises(SettingError, match="leave channels out"):
        zoo.load("relativenas", pretrained=True, channels=8)


SHIPPED = sorted(path for path in (ROOT / "archduel" / "weights").glob("*.*") if path.is_dir())


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda path: path.name)
def test_shipped_weights_are_small_and_as_good_as_their_record_says(folder: Path) -> None:
    facts = json.loads((folder / "model.json").read_text())
    assert (folder / "model.safetensors").stat().st_size < 1_000_000
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "model.json"}
    if facts["data"]["name"] == "digits":  # other data are not on every machine
        record = evaluate_network(f"zoo:{folder.name}")
        assert record["data"]["split"].startswith("test split that its training held out")
        assert record["data"]["pictures"] == facts["record"]["test_pictures"]
        assert record["top1"] == pytest.approx(facts["record"]["top1"], abs=0.01)  # other processors round otherwise
        assert record["loss"] == pytest.approx(facts["record"]["loss"], rel=1e-3)
    model = zoo.load(facts["name"], pretrained=folder.name.partition(".")[2])
    assert isinstance(model, nn.Module)
    assert facts["name"] in {entry.name for entry in zoo.entries() if entry.weights}


def test_there_are_weights_and_hub_loads_them() -> None:
    assert SHIPPED
    model = torch.hub.load(str(ROOT), SHIPPED[0].name.partition(".")[0], source="local", pretrained=True)
    assert model.facts["record"]["command"].startswith("python benchmarks/zoo_weights.py")

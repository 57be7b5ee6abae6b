"""A trained network on disk: built again from its facts, refused in words when it does not fit."""

from __future__ import annotations

import json

import pytest
import torch

from archduel.core import Scale
from archduel.errors import RunError, StateError
from archduel.networks.trained import load_trained, network_of, read_facts, save_trained, take_weights
from archduel.spaces.named import NAMED

SCALE = Scale(4, 3, 8, 3, 5)
PREPROCESSING = {"size": 8, "mode": "RGB", "rule": "crop", "mean": [0.5] * 3, "std": [0.25] * 3}


def facts(arch: str | None = "nasbench201:3.2.3.1.3.4", **more: object) -> dict:
    return {"arch": arch, "text": None, "scale": SCALE, "classes": list("abcde"), "preprocessing": PREPROCESSING, **more}


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    "given", [facts(), facts(None, text=NAMED["nasnet_a"].text, options={"pool_norm": True})], ids=["arch", "genotype"]
)
def test_the_same_network_comes_back_without_its_auxiliary_head(given, half, tmp_path) -> None:
    model = network_of(given, auxiliary=True)
    save_trained(tmp_path / "net", model, given, half=half)
    loaded, read = load_trained(tmp_path / "net")
    assert not loaded.training
    assert not any(name.startswith("auxiliary") for name in loaded.state_dict())
    assert read["classes"] == list("abcde")
    assert read["scale"]["n_classes"] == 5
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(loaded(x), model.eval()(x), rtol=0, atol=0.05 if half else 0.0)
    assert next(iter(loaded.parameters())).dtype == torch.float32


def test_weights_of_another_architecture_are_refused_with_their_keys(tmp_path) -> None:
    save_trained(tmp_path, network_of(facts()), facts())
    other = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**other, "arch": "nasbench201:2.2.3.1.3.4"}))
    with pytest.raises(StateError, match=r"architecture: 9 keys of another shape \(blocks.0.edges.0.1.weight"):
        load_trained(tmp_path)
    shallower = network_of(facts(scale=Scale(4, 2, 8, 3, 5)))
    with pytest.raises(StateError, match=r"keys not expected \(blocks\."):
        take_weights(shallower, network_of(facts()).state_dict(), "weights")
    wider = network_of(facts(scale=Scale(8, 3, 8, 3, 5)))
    with pytest.raises(StateError, match="of another shape .*instead of"):
        take_weights(wider, network_of(facts()).state_dict(), "weights")


@pytest.mark.parametrize("damage", ["none", "cut", "lacking", "no weights", "no json"])
def test_damaged_folders_are_refused_in_words(damage, tmp_path) -> None:
    if damage != "none":
        save_trained(tmp_path, network_of(facts()), facts())
    if damage == "cut":
        data = (tmp_path / "model.safetensors").read_bytes()
        (tmp_path / "model.safetensors").write_bytes(data[: len(data) // 2])
    if damage == "lacking":
        (tmp_path / "model.json").write_text('{"arch": null}')
    if damage == "no weights":
        (tmp_path / "model.safetensors").unlink()
    if damage == "no json":
        (tmp_path / "model.json").write_text("{")
    words = {"none": "archduel train", "cut": "SHA-256", "lacking": "lacks scale", "no weights": "no model", "no json": "damaged"}
    with pytest.raises(RunError, match=words[damage]):
        load_trained(tmp_path)


def test_a_missing_fact_is_named(tmp_path) -> None:
    with pytest.raises(StateError, match="classes"):
        save_trained(tmp_path, network_of(facts()), {k: v for k, v in facts().items() if k != "classes"})
    with pytest.raises(RunError, match="no trained network"):
        read_facts(tmp_path)

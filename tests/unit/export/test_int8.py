"""The int8 network of an exported folder: what is written, what is tried, what is said."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from archduel.core import Scale
from archduel.errors import ExportError
from archduel.export import Labelled, export_folder, write_int8
from archduel.export.int8 import INT8_FACTS, INT8_FILE, WAYS, Int8Report
from archduel.networks.trained import TrainedNetwork
from archduel.spaces.family import build, family
from archduel.training.images import Pixels
from archduel.training.quantised import RoundedWeight, fine_tuned

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

LOOK = {"size": 16, "mode": "RGB", "rule": "none", "mean": [0.5] * 3, "std": [0.25] * 3}


def _network():
    arch = family("tiny")().read("16-full-3-2-1-1.5-3-2-1-1.5-3-2-1-1")
    scale = Scale(8, 1, 16, 3, 3)
    return build(arch, scale, generator=torch.Generator().manual_seed(0)).eval(), arch, scale


def _images(n, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    pixels = rng.integers(0, 80, (n, 3, 16, 16), dtype=np.uint8)
    pixels[np.arange(n), labels] += 150  # each class has a colour
    return Labelled(pixels, labels)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model, arch, scale = _network()
    train = _images(96, 0)
    pixels = Pixels(train.pixels, train.labels, LOOK["mean"], LOOK["std"])
    optimizer = torch.optim.Adam(model.train().parameters(), 0.01)
    for _ in range(60):
        x, labels = pixels.batch(torch.arange(96))
        loss = nn.functional.cross_entropy(model((x.float() / 255 - 0.5) / 0.25), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("out") / "net"
    export_folder(model.eval(), arch, scale, folder, classes=["red", "green", "blue"], preprocessing=LOOK, facts={})
    return folder, model, train


def test_the_int8_network_is_there_checked_and_run_by_predict(exported, tmp_path):
    folder, _, train = exported
    validation = _images(64, 1)
    report = write_int8(folder, train, validation)
    assert (folder / INT8_FILE).is_file()
    assert json.loads((folder / INT8_FACTS).read_text())["images"] == 64
    assert report.accuracy >= 0.9
    assert report.agreement >= 0.9
    assert report.lost <= 0.05
    assert report.int8_bytes < report.bytes
    assert "predict.py --int8" in (folder / "README.md").read_text()
    image = tmp_path / "a.png"
    Image.fromarray(np.moveaxis(validation.pixels[0], 0, -1)).save(image)
    done = subprocess.run([sys.executable, str(folder / "predict.py"), "--int8", "--json", str(image)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)[0]["class"] == ["red", "green", "blue"][validation.labels[0]]


def test_weights_are_eight_bits_and_norms_are_folded(exported):
    import onnx

    folder, _, train = exported
    write_int8(folder, train, _images(32, 1))
    graph = onnx.load(folder / INT8_FILE).graph
    kinds = {node.op_type for node in graph.node}
    assert "BatchNormalization" not in kinds
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    large = [i for i in graph.initializer if len(i.dims) == 4]
    assert large
    assert {i.data_type for i in large} == {onnx.TensorProto.INT8}


def test_where_much_is_lost_other_ways_are_tried_and_it_is_said(exported):
    folder, _, train = exported
    right = _images(32, 2)
    asked = []

    def tuned(path):
        asked.append(path)
        path.write_bytes((folder / "model.onnx").read_bytes())

    import archduel.export.int8 as int8

    before, int8.MOST_LOST = int8.MOST_LOST, -1.0  # no network gains a point of everything: all ways are tried
    try:
        report = write_int8(folder, train, right, tuned=tuned)
    finally:
        int8.MOST_LOST = before
    assert len(report.tried) == len(WAYS) + 1
    assert len(asked) == 1
    assert report.int8_accuracy == max(report.tried.values())


def test_a_loss_of_more_than_a_point_is_said():
    report = Int8Report("per channel, MinMax", 100, 0.9, 0.85, 0.9, 2, 1, 1.0, 0.5, {"a": 0.85})
    assert "warning: int8 loses 5.0 points" in report.summary
    assert "warning" not in Int8Report("per channel, MinMax", 100, 0.9, 0.895, 0.9, 2, 1, 1.0, 0.5, {"a": 0.895}).summary


def test_a_folder_without_onnx_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"no model\.onnx"):
        write_int8(tmp_path, _images(8, 0), _images(8, 1))


def test_rounded_weights_have_255_steps_and_the_gradient_of_the_given_ones():
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    rounded = RoundedWeight()(weight)
    assert all(len(channel.unique()) <= 255 for channel in rounded)
    assert (rounded - weight).abs().max() <= weight.abs().max() / 127 / 2 + 1e-6
    rounded.sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))


def test_training_on_leaves_the_given_network_alone_and_has_its_names(exported):
    _, model, train = exported
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pixels = Pixels(train.pixels, train.labels, LOOK["mean"], LOOK["std"])
    tuned = fine_tuned(model, pixels, epochs=1)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert tuned.state_dict().keys() == before.keys()
    assert any(not torch.equal(before[name], value) for name, value in tuned.state_dict().items() if name.endswith("weight"))
    assert all(torch.equal(before[name], value) for name, value in tuned.state_dict().items() if "running" in name)


def test_what_is_trained_on_with_int8_in_mind_is_of_all_classes(monkeypatch):
    import archduel.commands.int8 as command

    labels = np.repeat(np.arange(3), 20)  # as a folder has them, class after class
    part = SimpleNamespace(images=np.zeros((60, 3, 16, 16), np.uint8), labels=labels)
    seen = []
    monkeypatch.setattr(command, "MOST_TUNED", 30)
    monkeypatch.setattr(command, "_images", lambda network, data: SimpleNamespace(train=part, validation=part))
    monkeypatch.setattr("archduel.training.quantised.fine_tuned", lambda model, images, seed: seen.append(images.labels.tolist()))
    monkeypatch.setattr(command, "export_network", lambda network, folder: (folder.mkdir(), (folder / "model.onnx").write_bytes(b"")))
    monkeypatch.setattr(command, "write_int8", lambda folder, train, validation, tuned: tuned(folder / "tuned.onnx"))
    with tempfile.TemporaryDirectory() as place:
        command.export_int8(TrainedNetwork(nn.Identity(), {"preprocessing": LOOK, "seed": 1}, ""), Path(place))
    assert [seen[0].count(label) for label in range(3)] == [10, 10, 10]

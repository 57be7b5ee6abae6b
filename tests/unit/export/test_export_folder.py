"""The exported folder works where there is no archduel, and is written whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from archduel.core import Scale, parse
from archduel.errors import ExportError
from archduel.export import ExportReport, export_folder, folder
from archduel.export.folder import fact_lines
from archduel.spaces.family import build

CLASSES = ("daisy", "tulip & <x>", "süß")
PREPROCESSING = {"size": 16, "mode": "RGB", "rule": "crop", "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}
ARCH, SCALE = parse("nasbench201:3.1.2.4.3.0"), Scale(channels=4, depth=1, image_size=16, n_classes=3)
FACTS = {"test": {"accuracy": [0.93, 0.92], "images": 842, "limit": None}, "params": 12345, "checked": True, "date": None}

# Runs a script as a program while archduel (and what else is named) cannot be imported.
BLOCKED = """
import sys, runpy
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
sys.argv = {arguments!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(*arguments: Any, blocked: tuple[str, ...] = ("archduel",)) -> subprocess.CompletedProcess[str]:
    """Runs a Python script in an isolated process without archduel."""
    code = BLOCKED.format(blocked=set(blocked), arguments=[str(a) for a in arguments])
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return build(ARCH, SCALE, auxiliary=True, generator=torch.Generator().manual_seed(0)).eval()


def export(model: nn.Module, to: Path, **changes: Any) -> ExportReport:
    settings: dict[str, Any] = {"classes": CLASSES, "preprocessing": PREPROCESSING, "facts": FACTS, **changes}
    return export_folder(model, ARCH, SCALE, to, **settings)


@pytest.fixture(scope="module")
def exported(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    to = tmp_path_factory.mktemp("run") / "export"
    return to, export(model, to)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "a b.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 21, 3), dtype=np.uint8)).save(path)
    return path


def expected(model: nn.Module, image: Path) -> np.ndarray[Any, Any]:
    """Returns the probabilities by the library's own path."""
    from archduel.data.dataset import Preprocessing
    from archduel.data.preprocess import apply_preprocessing

    pixels = apply_preprocessing(Image.open(image), Preprocessing(**PREPROCESSING))
    mean, std = (torch.tensor(PREPROCESSING[name]).view(-1, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        return model((torch.from_numpy(pixels).float()[None] / 255 - mean) / std).softmax(1)[0].numpy()


def test_the_report_names_files_and_differences(exported: tuple[Path, ExportReport]) -> None:
    to, report = exported
    assert set(report.files) == {
        "README.md", "labels.json", "model.onnx", "model.py", "model.safetensors", "predict.py", "preprocess.py", "preprocessing.json",
    }  # fmt: skip
    assert report.source_difference < 1e-5
    assert report.onnx_difference is not None
    assert report.onnx_difference < 1e-4
    assert not report.notes
    assert "model.onnx" in report.summary
    assert json.loads((to / "labels.json").read_text(encoding="utf-8")) == list(CLASSES)


def test_nothing_in_the_folder_imports_archduel(exported: tuple[Path, ExportReport]) -> None:
    to, _ = exported
    assert not [p.name for p in to.glob("*.py") if "import archduel" in p.read_text() or "from archduel" in p.read_text()]
    readme = (to / "README.md").read_text(encoding="utf-8")
    assert "@" not in readme
    assert "accuracy 0.93, 0.92; images 842" in readme


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_predict_without_archduel_gives_the_probabilities_of_the_network(
    engine: str, exported: tuple[Path, ExportReport], model: nn.Module, image: Path
) -> None:
    blocked = ("archduel",) if engine == "torch" else ("archduel", "torch")
    done = run(exported[0] / "predict.py", "--json", "--top", "3", image, blocked=blocked)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    wanted = expected(model, image)
    got = [{c["class"]: c["probability"] for c in record["top"]}[name] for name in CLASSES]
    assert np.abs(np.array(got) - wanted).max() < 1e-5
    assert record["class"] == CLASSES[int(wanted.argmax())]


def test_model_py_needs_torch_alone_and_gives_the_same_logits(
    exported: tuple[Path, ExportReport], model: nn.Module, tmp_path: Path
) -> None:
    to, _ = exported
    pixels = np.random.default_rng(1).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)
    script = tmp_path / "use.py"
    script.write_text(
        f"import sys, json, torch\nsys.path.insert(0, {str(to)!r})\nfrom model import load\n"
        f"x = torch.tensor({pixels.tolist()!r})\nwith torch.no_grad(): print(json.dumps(load()(x).tolist()))\n"
    )
    done = run(script, blocked=("archduel", "safetensors", "PIL", "onnxruntime", "scipy"))
    assert done.returncode == 0, done.stderr
    mean, std = (torch.tensor(PREPROCESSING[name]).view(-1, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        wanted = model((torch.from_numpy(pixels).float() / 255 - mean) / std).numpy()
    assert np.abs(np.array(json.loads(done.stdout)) - wanted).max() < 1e-5


def test_predict_reads_folders_and_names_what_it_cannot_read(exported: tuple[Path, ExportReport], image: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not an image")
    done = run(exported[0] / "predict.py", image.parent, tmp_path / "broken.png", blocked=("archduel", "torch"))
    assert done.returncode == 1
    assert done.stdout.startswith(f"{image}\t")
    assert "%" in done.stdout
    assert "broken.png: cannot be read as an image" in done.stderr


def test_without_the_extra_the_rest_is_written(model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "missing_packages", lambda: ["onnxscript"])
    report = export(model, tmp_path / "out")
    assert report.onnx_difference is None
    assert "onnxscript" in report.summary
    assert "model.onnx" not in report.files
    assert "model.onnx" not in (tmp_path / "out" / "README.md").read_text()


def test_an_export_replaces_an_export_and_nothing_else(model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "missing_packages", lambda: ["onnx"])
    export(model, tmp_path / "out")
    export(model, tmp_path / "out", classes=("a", "b", "c"))
    assert json.loads((tmp_path / "out" / "labels.json").read_text()) == ["a", "b", "c"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(ExportError, match="holds other files"):
        export(model, tmp_path / "mine")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExportError, match="is a file"):
        export(model, tmp_path / "file")


def test_a_failing_export_leaves_the_old_one(model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "missing_packages", lambda: ["onnx"])
    export(model, tmp_path / "out")
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    broken = build(ARCH, SCALE, generator=torch.Generator().manual_seed(1)).eval()
    with torch.no_grad():
        broken.stem[0].weight.fill_(float("nan"))
    with pytest.raises(ExportError, match="not finite"):
        export(broken, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("a", "b")}, r"classes 2 \(the network has"),
        ({"preprocessing": {**PREPROCESSING, "size": 32}}, r"image size 32 \(the network has"),
        ({"preprocessing": {**PREPROCESSING, "mode": "L"}}, r"channels 1 \(the network has"),
        ({"preprocessing": {**PREPROCESSING, "rule": "stretch"}}, "stretch"),
        ({"preprocessing": {"size": 16}}, "lacks mode"),
    ],
)
def test_settings_that_do_not_fit_are_refused(model: nn.Module, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export(model, tmp_path / "out", **changes)
    assert not list(tmp_path.iterdir())


def test_the_model_is_left_as_it_was(model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "missing_packages", lambda: ["onnx"])
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    export(model, tmp_path / "out")
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    model.eval()


def test_facts_are_readable() -> None:
    assert fact_lines(FACTS) == [
        "- test: accuracy 0.93, 0.92; images 842", "- parameters: 12,345", "- checked: yes", "- date: not known",
    ]  # fmt: skip


def test_the_range_of_the_training_images_goes_along(model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import runpy
    from types import SimpleNamespace

    from archduel.data import Preprocessing, apply_preprocessing

    monkeypatch.setattr(folder, "missing_packages", lambda: ["onnx"])
    export(model, tmp_path / "e", preprocessing={**PREPROCESSING, "value_range": (0, 4095)})
    settings = json.loads((tmp_path / "e" / "preprocessing.json").read_text())
    assert settings["value_range"] == [0, 4095]
    assert "by 0..4095" in (tmp_path / "e" / "README.md").read_text(encoding="utf-8")
    deep = Image.fromarray(np.random.default_rng(0).integers(0, 4096, (20, 20)).astype(np.uint16))
    alone = runpy.run_path(str(tmp_path / "e" / "preprocess.py"))["apply_preprocessing"](deep, SimpleNamespace(**settings))
    known = apply_preprocessing(deep, Preprocessing(**{**PREPROCESSING, "value_range": (0.0, 4095.0)}))
    np.testing.assert_array_equal(alone, known)
    assert len(np.unique(alone)) > 80

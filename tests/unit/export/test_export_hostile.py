"""An export keeps what is not its own, carries no text of strangers into code, and opens images as the library does."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import struct
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from archduel.core import Scale, parse
from archduel.data import decode
from archduel.errors import ArchduelError, ExportError, InvalidArchError
from archduel.export import ExportReport, export_folder, folder
from archduel.spaces.darts.genotype_text import read_genotype
from archduel.spaces.family import build

LOOK = {"size": 16, "mode": "RGB", "rule": "crop", "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}
ARCH, SCALE = parse("nasbench201:3.1.2.4.3.0"), Scale(channels=4, depth=1, image_size=16, n_classes=3)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return build(ARCH, SCALE, generator=torch.Generator().manual_seed(0)).eval()


@pytest.fixture(autouse=True)
def no_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "missing_packages", lambda: ["onnx"])


def export(model: nn.Module, to: Path, arch: Any = ARCH, **changes: Any) -> ExportReport:
    settings: dict[str, Any] = {"classes": ("a", "b", "c"), "preprocessing": LOOK, "facts": {}, **changes}
    return export_folder(model, arch, SCALE, to, **settings)


def test_what_lies_beside_an_earlier_export_stays(model: nn.Module, tmp_path: Path) -> None:
    to = tmp_path / "shipped"
    export(model, to)
    (to / "LICENSE").write_text("mine")
    (to / ".git").mkdir()
    (to / ".git" / "config").write_text("mine")
    (to / "model.onnx").write_bytes(b"of the network of before")
    export(model, to, classes=("x", "y", "z"))
    assert json.loads((to / "labels.json").read_text()) == ["x", "y", "z"]
    assert (to / "LICENSE").read_text() == (to / ".git" / "config").read_text() == "mine"
    assert not (to / "model.onnx").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["shipped"]


def test_a_link_is_filled_where_it_leads_and_here_is_a_folder_too(model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    export(model, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "model.py").is_file()
    monkeypatch.chdir(tmp_path / "real")
    export(model, Path())
    export(model, Path("../real"))
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    with pytest.raises(ExportError, match="leads nowhere"):
        export(model, tmp_path / "nowhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "nowhere", "real"]


def test_a_planted_link_among_the_files_is_replaced_not_followed(model: nn.Module, tmp_path: Path) -> None:
    export(model, tmp_path / "out")
    (tmp_path / "precious").write_text("years of work")
    (tmp_path / "out" / "README.md").unlink()
    (tmp_path / "out" / "README.md").symlink_to(tmp_path / "precious")
    export(model, tmp_path / "out")
    assert (tmp_path / "precious").read_text() == "years of work"
    assert not (tmp_path / "out" / "README.md").is_symlink()


@pytest.mark.parametrize("left", [("labels.json",), ("model.py", "predict.py"), (".DS_Store",), (".out.999999.tmp",)])
def test_what_is_left_of_an_export_is_completed(left: tuple[str, ...], model: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in left:
        (tmp_path / "out" / name).write_text("x")
    assert "model.py" in export(model, tmp_path / "out").files


HOSTILE = [
    'x"""\nimport os\nos.system("touch pwned")\n"""',
    "x'''\"\"\"\nraise SystemExit\n\"\"\"'''",
    'nasbench201:1.2"""; import os; """',
    "x\\",
    "x\r\nimport os",
    "x\u2028import os\u202e",
    "@DEFINITIONS@ @MEAN@",
    "x\x00y",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_the_words_of_an_architecture_stay_words(text: str, model: nn.Module, tmp_path: Path) -> None:
    export(model, tmp_path / "out", arch=text)
    source = (tmp_path / "out" / "model.py").read_text(encoding="utf-8")
    whole = ast.parse(source)
    plain = ast.parse(source.replace("from __future__ import annotations\n", ""))
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign)
    for tree in (whole, plain):
        assert isinstance(tree.body[0], ast.Expr)  # the docstring
        assert all(isinstance(node, kinds) for node in tree.body[1:])
        imported = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        assert imported == {"json", "torch"}
    assert source.count("class Network") == 1


@pytest.mark.parametrize(
    "text",
    [
        "x['''\"\"\"\\nimport os\\n\"\"\"'''] = Genotype(normal=[], reduce=[])", "a.b = Genotype(normal=[], reduce=[])",
        "a = b = Genotype(normal=[], reduce=[])", "(a, b) = Genotype(normal=[], reduce=[])", "a: int = Genotype(normal=[], reduce=[])",
    ],
)  # fmt: skip
def test_a_genotype_is_given_to_a_name_or_to_nothing(text: str) -> None:
    with pytest.raises(InvalidArchError):
        read_genotype(text)


@pytest.mark.parametrize("look", [{"mean": (float("nan"), 0, 0)}, {"std": (0.0, 1, 1)}, {"std": (float("inf"), 1, 1)}, {"std": (-1.0, 1, 1)}])
def test_numbers_that_are_none_are_refused(look: dict[str, Any], model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ArchduelError, match="must be finite, std above 0"):
        export(model, tmp_path / "out", preprocessing={**LOOK, **look})


# -- predict.py ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def predict(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    to = tmp_path_factory.mktemp("exported") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "missing_packages", lambda: ["onnx"])
        export(model, to)
    before = list(sys.path), dict(sys.modules)
    spec = importlib.util.spec_from_file_location("exported_predict", to / "predict.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = before[0]
    return module


def test_the_script_has_the_rules_of_the_library(predict: ModuleType) -> None:
    assert predict.FORMATS == decode.FORMATS
    assert decode.SUFFIXES == predict.ENDINGS
    assert predict.MOST_PIXELS == decode.MOST_PIXELS


def bomb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def broken_files(to: Path) -> dict[str, Path]:
    """Writes what is no image, in many ways, between images; returns name -> file."""
    rng = np.random.default_rng(0)
    good = Image.fromarray(rng.integers(0, 256, (30, 21, 3), dtype=np.uint8))
    good.save(to / "a_good.png")
    good.save(to / "z_good.jpg")
    png = (to / "a_good.png").read_bytes()
    at = png.index(b"IDAT")
    files = {
        "truncated.png": png[: len(png) // 2], "chunk.png": png[:at] + b"\x00\x01\x02\x03" + png[at + 4 :], "empty.png": b"",
        "text.png": b"not an image", "eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n", "bomb.png": bomb(),
        "zeros.jpg": bytes(100), "half.jpg": (to / "z_good.jpg").read_bytes()[:200], "head.gif": b"GIF89a", "head.bmp": b"BM" + bytes(20),
        "head.tif": b"II*\x00" + b"\xff" * 20, "svg.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    }  # fmt: skip
    for name, data in files.items():
        (to / name).write_bytes(data)
    os.mkfifo(to / "pipe.png")
    (to / "itself.png").symlink_to(to / "itself.png")
    return {path.name: path for path in sorted(to.iterdir())}


def test_one_bad_file_takes_no_answer_of_another(
    predict: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(predict.HERE))
    monkeypatch.delitem(sys.modules, "model", raising=False)
    files = broken_files(tmp_path)
    assert predict.main(["--json", "--engine", "torch", *map(str, files.values())]) == 1
    records = {Path(record["file"]).name: record for record in json.loads(capsys.readouterr().out)}
    assert list(records) == list(files)
    assert {name for name, record in records.items() if "class" in record} >= {"a_good.png", "z_good.jpg"}
    for name in ("chunk.png", "bomb.png", "pipe.png", "eps.png", "itself.png", "empty.png"):
        assert "cannot be read as an image" in records[name]["error"], name


def test_the_command_likewise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from archduel.commands import app

    files = broken_files(tmp_path)
    words = ["predict", "zoo:ctnas_darts.digits", *map(str, files.values())]
    assert app([*words, "--json"], standalone_mode=False) == 1
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(record["file"]).name for record in records] == list(files)
    answered = {Path(record["file"]).name for record in records if "classes" in record}
    assert {"a_good.png", "z_good.jpg"} <= answered
    assert not answered & {"chunk.png", "bomb.png", "pipe.png", "eps.png", "itself.png"}
    for top in ("0", "-1"):
        with pytest.raises(ArchduelError, match="--top must be at least 1"):
            app([*words, "--top", top], standalone_mode=False)


def test_the_function_has_the_answers_where_some_are_missing(tmp_path: Path) -> None:
    from archduel.errors import UnreadableError
    from archduel.networks.predictions import predict as answers
    from archduel.networks.trained import open_network

    files = broken_files(tmp_path)
    network = open_network("zoo:ctnas_darts.digits")
    with pytest.raises(UnreadableError, match="cannot be read") as error:
        answers(network, list(files.values()))
    found = dict(zip(files, error.value.answers))
    assert found["a_good.png"] is not None
    assert found["chunk.png"] is None
    assert len(answers(network, [files["a_good.png"], files["z_good.jpg"]])) == 2


def test_files_that_systems_leave_are_no_images(predict: ModuleType, tmp_path: Path) -> None:
    good = tmp_path / "in" / "a.png"
    good.parent.mkdir()
    Image.new("RGB", (8, 8)).save(good)
    for name in ("._a.png", "@eaDir/a.png", ".thumbs/a.png", "__MACOSX/a.png", "b.txt"):
        (good.parent / name).parent.mkdir(exist_ok=True)
        (good.parent / name).write_bytes(good.read_bytes())
    Image.new("RGB", (8, 8)).save(good.parent / "c.JFIF", "JPEG")
    assert [path.name for path in predict.image_files([good.parent])] == ["a.png", "c.JFIF"]

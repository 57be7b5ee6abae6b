"""A network of one's own through the whole job: raced, continued, reported, read and exported by others, named on the command line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import archduel
from archduel import registry
from archduel.commands import app
from archduel.errors import RunError, SettingError, UnknownNameError

pytestmark = pytest.mark.usefixtures("no_onnx")
MINE = '''
"""Blocks of one width."""

from torch import nn

from archduel import choose, repeat, switch


class Block(nn.Module):
    """A convolution with a shortcut."""

    def __init__(self, width):
        super().__init__()
        kernel = choose("kernel", [3, 5])
        self.conv, self.norm = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(width)
        self.act = switch("act", {"relu": nn.ReLU, "silu": nn.SiLU})

    def forward(self, x):
        return self.act(x + self.norm(self.conv(x)))


class Mine(nn.Module):
    """Blocks of one width."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        width = choose("width", [4, 6, 8])
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1)
        self.body = repeat("blocks", lambda i: Block(width), [1, 2])
        self.head = nn.Linear(width, n_classes)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))
'''
SMALL: dict[str, Any] = {
    "label.epochs": 1, "reevaluate.epochs": 1, "final.epochs": 1, "plan.iterations": 3, "plan.shortlist": 1, "plan.confirm": 1,
    "ranker.epochs": 10, "strategy.samples": 8,
}  # fmt: skip
RACE: dict[str, Any] = {"evaluations": 4, "race": True, "max_images": 120, "workers": 1, "quiet": True, "set": {"race.last_epochs": 10}}


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, f"{result.output}\n{result.exception}"
    return result.output


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Returns the working directory, with a file mine.py; what is added to the menus is taken off again."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    menus, present, modules, path = {role: dict(menu) for role, menu in registry.MENUS.items()}, dict(registry._present), set(sys.modules), list(sys.path)
    registry.MENUS["space"].pop("Mine", None)
    yield tmp_path
    for role, menu in menus.items():
        registry.MENUS[role].clear()
        registry.MENUS[role].update(menu)
    registry._present.clear()
    registry._present.update(present)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def forget() -> None:
    """Makes this process one that knows nothing of mine.py."""
    registry.MENUS["space"].pop("Mine", None)
    for key in [key for key in registry._present if "mine" in key[1]]:
        del registry._present[key]
    for name in [name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")).endswith("mine.py")]:
        del sys.modules[name]


def test_a_race_hands_over_a_network_of_ones_own_and_goes_on(outside: Path) -> None:
    found = archduel.search("digits", space="mine.py:Mine", out=outside / "run", **RACE)
    model = found.model()
    assert type(model).__name__ == "Mine"
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    assert {c["arch"].partition(":")[0] for c in found.result["race"]["candidates"]} == {"Mine"}
    assert found.result["race"]["candidates"][0]["role"] == "start"
    assert found.result["networks"]["search"]["text"].startswith("width=")
    assert (outside / "run" / "export" / "model.py").is_file()
    for name in ("result.json", "report.html"):
        (outside / "run" / name).unlink()
    journal = (outside / "run" / "journal.jsonl").read_text().splitlines()
    kept = next(i for i, line in enumerate(journal) if '"choice"' in line)
    (outside / "run" / "journal.jsonl").write_text("\n".join(journal[:kept]) + "\n")
    again = archduel.search("digits", space="mine.py:Mine", out=outside / "run", **RACE)
    assert again.result["networks"]["search"]["test"] == found.result["networks"]["search"]["test"]


def test_workers_train_networks_of_a_file_and_a_stranger_s_folder_runs_nothing(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(
        "search", "digits", "--space", "mine.py:Mine", "--out", "run", "--evaluations", "4", "--max-images", "120", "--final-seeds", "1",
        "--workers", "1", "--no-baselines", "--quiet", *(word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")),
    )  # fmt: skip
    assert 'space = "mine.py:Mine"' in (outside / "run" / "run.toml").read_text()
    Image.new("L", (8, 8)).save(outside / "image.png")
    (outside / "mine.py").write_text(MINE + "\nopen('ran', 'w').close()\n")
    forget()
    for words in (("report", "run"), ("predict", "run", "image.png"), ("export", "run", "--to", "shipped")):
        refused = CliRunner().invoke(app, list(words))
        assert isinstance(refused.exception, UnknownNameError)
        assert "reading a folder runs no code" in str(refused.exception)
        assert not (outside / "ran").exists()
    monkeypatch.setenv(registry.TRUSTED, "mine.py:Mine")
    for words in (("report", "run"), ("predict", "run", "image.png"), ("export", "run", "--to", "shipped")):
        forget()
        run(*words)
    assert (outside / "ran").exists()
    assert "class Mine" not in (outside / "shipped" / "model.py").read_text()  # it needs nothing of the person's file


def test_a_folder_of_a_space_with_settings_is_read_with_them(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (outside / "mine.py").write_text(MINE.replace("n_classes):", "n_classes, widths=(4, 6, 8)):").replace("[4, 6, 8]", "widths"))
    monkeypatch.syspath_prepend(str(outside))
    from mine import Mine

    space = archduel.space_of(Mine, widths=[6, 10], check=False) + archduel.recipe_space(lr=[0.1, 0.05])
    found = archduel.search("digits", space=space, out="run", **RACE)
    text = found.result["networks"]["search"]["text"]
    assert "recipe.lr=" in text
    assert text.split(",")[0] in ("width=6", "width=10")
    registry.MENUS["space"].pop(space.name)
    registry._present.clear()
    monkeypatch.setenv(registry.TRUSTED, "mine:Mine")
    assert archduel.Run("run").model().stem.out_channels in (6, 10)


def test_a_script_that_searches_its_own_network(outside: Path) -> None:
    call = f"archduel.search('digits', space=Mine, out='run', **{RACE})"
    (outside / "script.py").write_text(MINE + f"import archduel\n\nif __name__ == '__main__':\n    print(type({call}.model()).__name__)\n")
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["Mine"], done.stderr
    assert 'space = "script.py:Mine"' in (outside / "run" / "run.toml").read_text()
    (outside / "script.py").write_text(MINE + "import archduel\narchduel.search('digits', space=Mine, evaluations=4)\n")
    with pytest.raises(RunError, match="put that under `if __name__"):
        registry.entry("space", "script.py:Mine")


def test_what_was_typed_into_a_notebook_races_but_has_no_workers(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archduel.spaces.own.space.script", lambda: None)  # as in a notebook, whose __main__ is no file
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(MINE, "cell 1", "exec"), names)
    found = archduel.search("digits", space=names["Mine"], out="run", **RACE)
    assert type(found.model()) is names["Mine"]
    exec(compile(MINE.replace("[4, 6, 8]", "[6, 10]"), "cell 1, run again", "exec"), names)
    assert archduel.space_of(names["Mine"], check=False).build(archduel.parse("Mine:1.0.0.0")).stem.out_channels == 10
    with pytest.raises(SettingError, match=r"put it at the top level of a file \(mine.py\)"):
        archduel.search("digits", space=names["Mine"], out="run2", evaluations=4, max_images=150, quiet=True)


def test_a_forward_that_no_source_can_be_made_of_still_gives_a_network(outside: Path) -> None:
    (outside / "mine.py").write_text(MINE.replace("return self.head(", "if float(x.sum()) > 1e9:\n            x = x * 2\n        return self.head("))
    found = archduel.search("digits", space="mine.py:Mine", out="run", **RACE)
    assert not (outside / "run" / "export").exists()
    assert found.model()(torch.rand(1, 1, 8, 8)).shape == (1, 10)
    assert (outside / "run" / "report.html").is_file()


def test_names_that_do_not_lead_to_a_network_are_said(outside: Path) -> None:
    for name, words in (
        ("mine.py:Yours", "no attribute 'Yours'"), ("yours.py:Mine", "there is no file yours.py"), ("mine.py:choose", "needs 'name'"),
    ):  # fmt: skip
        with pytest.raises((UnknownNameError, SettingError), match=words):
            archduel.search("digits", space=name, evaluations=4, out="run", quiet=True)
    (outside / "bad.py").write_text("def f(:\n")
    with pytest.raises(UnknownNameError, match="SyntaxError"):
        archduel.search("digits", space="bad.py:Mine", evaluations=4, out="run", quiet=True)
    with pytest.raises(SettingError, match="has no networks, only options"):
        archduel.search("digits", space=archduel.space({"a": [1, 2]}), evaluations=4, out="run", quiet=True)
    joint = archduel.space_of(registry.entry("space", "mine.py:Mine").space.args[0].program, check=False) + archduel.recipe_space(image_size=[8, 16])
    with pytest.raises(SettingError, match="'image_size'"):
        archduel.search("digits", space=joint, out="run", **RACE)

"""`archduel resume` of trainings and proxy jobs: the command of the folder, for that folder, and nobody's code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from archduel.commands import app
from archduel.commands.again import words_of
from archduel.commands.train.command import _which
from archduel.errors import RunError, SettingError


def folder(path: Path, command: str) -> Path:
    path.mkdir(parents=True)
    (path / "train.toml").write_text(f"command = {command!r}\n\n[architecture]\nname = 'x'\n")
    return path


def test_the_command_is_repeated_for_the_folder_where_it_is(tmp_path: Path) -> None:
    moved = folder(tmp_path / "moved", "archduel train resnet:1 digits --out runs/then --set epochs=2")
    assert words_of(moved) == ["train", "resnet:1", "digits", "--out", str(moved), "--set", "epochs=2"]
    also = folder(tmp_path / "also", "archduel train zoo:relativenas digits --out=runs/then")
    assert words_of(also) == ["train", "zoo:relativenas", "digits", "--out", str(also)]


def test_a_search_goes_on_from_its_settings(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[run]\n")
    assert words_of(tmp_path) is None


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("python my_script.py", "began in Python"),
        ("", "began in Python"),
        ("archduel train resnet:1 digits --track evil.module:Class --out x", "names code"),
        ("archduel train resnet:1 digits --space=evil:FAMILY --out x", "names code"),
        ("archduel train resnet:1 digits --space ./there/evil.py:FAMILY --out x", "names code"),
        ("archduel bench search --table t --strategies random,evil:Mine --out x", "names code"),
        ("archduel bench search --table t --strategies=best[ranker=../evil.py:Mine] --out x", "names code"),
    ],
)
def test_what_is_not_repeated_says_why(tmp_path: Path, command: str, said: str) -> None:
    with pytest.raises(RunError, match=said):
        words_of(folder(tmp_path / "run", command))


def test_what_holds_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds nothing that can go on"):
        words_of(tmp_path)
    (tmp_path / "out.json").write_text("{}")
    with pytest.raises(RunError, match="holds nothing that can go on"):
        words_of(tmp_path / "out.json")


def test_data_has_a_place_of_its_own() -> None:
    assert _which("relativenas", "digits", None, alone=False) == ("relativenas", "digits")
    assert _which("relativenas", None, "digits", alone=False) == ("relativenas", "digits")
    assert _which("digits", None, None, alone=True) == (None, "digits")
    assert _which("relativenas", None, None, alone=False) == ("relativenas", "cifar10")
    with pytest.raises(SettingError, match="named twice"):
        _which("relativenas", "digits", "cifar10", alone=False)
    shown = CliRunner().invoke(app, ["train", "--help"]).output
    assert "data <str>" in shown
    assert "--data" not in shown


def test_a_training_is_gone_on_with_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["train", "resnet:1.4", "digits", "--out", str(tmp_path / "run"), "--set", "epochs=1", "--set", "batch_size=16", "--max-images", "60", "--quiet"]
    monkeypatch.setattr(sys, "argv", ["archduel", *words])
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    (tmp_path / "run" / "result.json").unlink()
    (tmp_path / "run").rename(tmp_path / "moved")
    done = subprocess.run([sys.executable, "-m", "archduel", "resume", str(tmp_path / "moved"), "--quiet"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "moved" / "result.json").is_file()

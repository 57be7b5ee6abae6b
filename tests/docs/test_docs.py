"""Every Python block of README and docs runs; every command in them exists with those options."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from PIL import Image
from typer.testing import CliRunner

from archduel import registry
from archduel.commands import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUICK = (
    'evaluations=6, max_params="1M", final_seeds=1, baselines=False, workers=1, executor="local", quiet=True, set={"label.epochs": 1, '
    '"label.channels": 4, "label.depth": 1, "reevaluate.epochs": 1, "final.epochs": 1, "plan.channels": 4, "plan.depth": 1, '
    '"plan.iterations": 2, "ranker.epochs": 5, "strategy.samples": 8, "final.channels": 4, "reevaluate.channels": 4, '
    '"final.depth": 1, "reevaluate.depth": 1}'
)
RACED = 'evaluations=4, race=True, max_params="20k", workers=1, quiet=True, set={"race.last_epochs": 10}'


def blocks(page: Path, language: str) -> list[str]:
    """Returns the code blocks of one language."""
    return [body for name, body in BLOCK.findall(page.read_text(encoding="utf-8")) if name == language]


def make_images(folder: Path) -> None:
    """Writes two classes of 30 small images."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("daisy", "tulip")):
        (folder / name).mkdir(parents=True)
        for i in range(30):
            pixels = rng.integers(0, 100, (16, 16, 3)) + 120 * number
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")


@pytest.mark.parametrize("page", [p for p in PAGES if p.exists() and blocks(p, "python")], ids=lambda p: p.name)
@pytest.mark.usefixtures("no_onnx")
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARCHDUEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(registry.MENUS, "space", dict(registry.MENUS["space"]))  # a page's own network is no other test's
    make_images(tmp_path / "my_images")
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(page, "python"), 1):
        code = block.replace('time="2h", max_params="1M", objectives', f"{RACED}, objectives").replace('time="2h", max_params="1M"', QUICK).replace('space=space, time="2h"', f"space=space, {RACED}")
        exec(compile(code, f"{page.name} block {number}", "exec"), names)


def commands(page: Path) -> list[str]:
    """Returns the lines of the page's shell blocks that call archduel."""
    lines = [line for language in ("", "bash", "sh") for block in blocks(page, language) for line in block.splitlines()]
    parts = [part.strip() for line in lines for part in re.split(r"\s{3,}|#", line)]
    return [part for part in parts if part.startswith("archduel ")]


@cache
def tree() -> Any:
    """Returns the whole command line, which takes as long to make as a test of a line to run."""
    return typer.main.get_command(app)


def walked(group: Any) -> Iterator[Any]:
    """Yields every command below a group."""
    for command in group.commands.values():
        if hasattr(command, "commands"):
            yield from walked(command)
        else:
            yield command


OTHERS = {
    "--torch-backend": "uv", "--space-set": "former", "--supernet": "former", "--provider": "measure.py of a kit", "--engine": "predict.py of an export",
    "--sides": "benchmarks", "--limit": "benchmarks", "--part": "benchmarks", "--table": "benchmarks",
}  # fmt: skip
"""Options that the pages speak of and no command has -> whose they are."""
RELEASED = "seeds.md"
"""The page that sets commands of released code beside ours: options that stand alone there may be of either."""
ALL = [(page, line) for page in PAGES if page.exists() for line in commands(page)]


@pytest.mark.parametrize(("page", "line"), ALL, ids=[f"{page.name}: {line[:60]}" for page, line in ALL])
def test_commands_exist_with_these_options(page: Path, line: str) -> None:
    words = shlex.split(line.rstrip("\\ "))[1:]
    command: Any = tree()
    while hasattr(command, "commands") and words:
        assert words[0] in command.commands, f"{page.name}: no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    used = {word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
    assert used <= known | {"--help"}, f"{page.name}: {sorted(used - known)} are no options of {line!r}"


def inline(page: Path) -> list[str]:
    """Returns what stands between backticks outside of blocks."""
    return [found for line in BLOCK.sub("", page.read_text(encoding="utf-8")).splitlines() for found in re.findall(r"`([^`]+)`", line)]


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda page: page.name)
def test_commands_and_options_in_sentences_exist(page: Path) -> None:
    root = tree()
    every = {option for command in (root, *walked(root)) for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help", "-h"}
    for text in inline(page):
        words = text.replace("|", " ").split()
        if words[0] == "archduel" and len(words) > 1:
            command, rest = root, words[1:]
            while hasattr(command, "commands") and rest and re.fullmatch(r"[a-z]+", rest[0]):
                assert rest[0] in command.commands, f"{page.name}: no command {rest[0]!r} in {text!r}"
                command, rest = command.commands[rest[0]], rest[1:]
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help", "-h"}
            known = every if hasattr(command, "commands") else known
        elif words[0].startswith("--") and page.name != RELEASED:
            known, rest = every | set(OTHERS), words
        else:
            continue
        used = {word.partition("=")[0].rstrip(".,)") for word in rest if re.match(r"--[a-zA-Z]", word)}
        assert used <= known, f"{page.name}: {sorted(used - known)} are no options of {text!r}"


QUICK_WORDS = "--evaluations 4 --race --max-images 120 --max-params 20k --start scratch --workers 1 --set race.last_epochs=10"
WAITED_FOR = ("--time 30m", "+30m", "audit", "bench")  # lines of the tutorial that take minutes: their options are checked above


def test_the_commands_of_the_tutorial_work_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in commands(ROOT / "docs" / "tutorial.md"):
        if any(word in line for word in WAITED_FOR):
            continue
        done = CliRunner().invoke(app, shlex.split(line.replace("--time 3m", QUICK_WORDS))[1:], catch_exceptions=False)
        assert done.exit_code == 0, f"{line}: {done.output}"
    assert {"report.html", "result.json", "export"} <= {path.name for path in (tmp_path / "runs" / "first").iterdir()}
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / "my_digit.png")
    said = subprocess.run([sys.executable, "shipped/predict.py", "my_digit.png"], capture_output=True, text=True, check=True).stdout
    assert "my_digit.png" in said


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda page: page.name)
def test_blocks_are_of_kinds_that_are_looked_at(page: Path) -> None:
    """Python runs, commands are read; text is what a program prints. Another kind would be looked at by nobody."""
    assert {name for name, _ in BLOCK.findall(page.read_text(encoding="utf-8"))} <= {"", "bash", "sh", "python", "text"}

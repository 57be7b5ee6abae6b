"""`archduel describe --machine`: the whole command line is there, and what commands print with --json is what the schemas say."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from simulated import simulated_device
from typer.testing import CliRunner

from archduel import registry
from archduel.commands import app
from archduel.commands.bench import fused
from archduel.commands.interface import EXIT_CODES
from archduel.commands.schemas import OUTPUTS

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed (extra 'dev')")
DOCS = Path(__file__).resolve().parents[3] / "docs"


def printed(line: str, *, code: int = 0) -> str:
    """Returns what a command prints."""
    done = CliRunner().invoke(app, shlex.split(line))
    assert done.exit_code == code, done.output
    return done.stdout


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    """Returns what the command says of all commands."""
    found: dict[str, Any] = json.loads(printed("describe --machine"))
    return found


def test_every_command_and_option_is_there(described: dict[str, Any]) -> None:
    commands = {command["name"]: command for command in described["commands"]}
    assert {"search", "status", "bench search", "zoo load", "describe"} <= set(commands)
    listed = re.findall(r"^  ([a-z]+) ", printed("--help").partition("Commands:")[2], re.MULTILINE)
    assert {name.partition(" ")[0] for name in commands} == set(listed)
    search = {name: option for option in commands["search"]["options"] for name in option["names"]}
    assert search["--time"]["panel"] == "Budget"
    assert search["--max-params"] | {"help": ""} == {"names": ["--max-params"], "help": "", "type": "text", "required": False, "several": False, "default": None, "panel": "Limits"}
    assert search["--strategy"]["menu"] == registry.names("strategy")
    assert search["--quiet"]["type"] == "flag"
    watch = {name: option for option in commands["watch"]["options"] for name in option["names"]}
    assert watch["--port"] | {"help": ""} == {
        "names": ["--port"], "help": "", "type": "integer", "required": False, "several": False, "default": 8640, "panel": "Method", "min": 0, "max": 65535,
    }  # fmt: skip
    assert watch["--no-open"]["names"] == ["--open", "--no-open"]
    assert commands["watch"]["arguments"][0]["type"] == "path"
    assert search["--objective"]["several"] is True
    assert [argument["name"] for argument in commands["search"]["arguments"]] == ["data"]
    assert [argument["several"] for argument in commands["predict"]["arguments"]] == [False, True]
    assert all(option["help"] for command in described["commands"] for option in command["options"]), "an option says nothing"


def test_every_command_with_json_has_a_schema(described: dict[str, Any]) -> None:
    with_flag = {command["name"] for command in described["commands"] if any("--json" in option["names"] for option in command["options"])}
    assert with_flag == set(OUTPUTS) == {command["name"] for command in described["commands"] if "json" in command}
    for output in OUTPUTS.values():
        jsonschema.Draft202012Validator.check_schema(output.schema)


def test_exit_codes_are_those_of_the_page(described: dict[str, Any]) -> None:
    page = (DOCS / "command_line.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| (\d+) \| (.+) \|$", page.partition("## Exit codes")[2], re.MULTILINE))
    assert {int(code): meaning for code, meaning in table.items()} == EXIT_CODES
    assert described["exit_codes"] == table


def check(command: str, text: str, least: int = 1) -> list[Any]:
    """Checks what a command printed against its schema; returns the documents."""
    output = OUTPUTS[command]
    found = [json.loads(line) for line in text.splitlines()] if output.documents == "lines" else [json.loads(text)]
    assert len(found) >= least, text
    for document in found:
        jsonschema.validate(document, output.schema, cls=jsonschema.Draft202012Validator)
    return found


def command_of(line: str) -> str:
    """Returns the command in a line."""
    return next(name for name in sorted(OUTPUTS, key=len, reverse=True) if line.startswith(name))


LIGHT = (
    "doctor", "describe nasbench201:1.0.4.2.2.3", "describe --space nasbench201", "show relativenas", "show nasbench201", "show darts", "zoo list",
    "zoo show relativenas", "backbones list", "bench search --table digits201 --strategies random,evolution --queries 10 --runs 3 --workers 0 -q",
    "bench rank --table digits201 --rankers extratrees --labels 20 --splits 2 -q", "device list",
    "bench search --table digits201 --strategies random --queries 4,8 --runs 2 --workers 0 -q",
    "bench fused --rows nasbench201-4 --time 0.05 --repeats 1 --cores 1 --k 2",
    "bench oneshot digits --table digits201 --cells 14 --passes 1 --channels 4 --depth 1 --max-images 200 --labels 3 --device cpu -q",
)  # fmt: skip


@pytest.mark.parametrize("line", LIGHT)
def test_what_is_printed_is_what_the_schema_says(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHDUEL_HOME", str(tmp_path))
    monkeypatch.setattr(fused, "throughput", lambda *asked: fused.Throughput(4.0, 0.5, 1_000))  # measured by four processes, see test_bench_fused.py
    command = command_of(line)
    check(command, printed(f"{line} --json"), least=0 if command == "device list" else 1)


def test_of_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHDUEL_DEVICES", str(tmp_path / "devices"))
    measured = simulated_device(tmp_path / "m.csv")
    check("device add", printed(f"device add pi4 --measurements {measured} --json"))
    check("device list", printed("device list --json"))
    check("device show", printed("device show pi4 --json"))


def test_every_schema_is_held_against_what_a_command_prints() -> None:
    """Names the commands that this file runs: one that is added has to be run here too."""
    elsewhere = {"ls", "status", "compare", "eval", "latency", "predict", "device add", "device show", "device list"}
    assert {command_of(line) for line in LIGHT} | elsewhere == set(OUTPUTS)


def test_of_runs_and_networks(tmp_path: Path) -> None:
    small = "--set epochs=1 --set channels=4 --set depth=1 --max-images 200 -q"
    for name, arch in (("a", "nasbench201:1.0.4.2.2.3"), ("b", "nasbench201:1.0.4.2.2.1")):
        printed(f"train {arch} digits --out {tmp_path / name} {small}")
    states = check("ls", printed(f"ls {tmp_path} --json"), least=2)
    assert [state["state"] for state in states] == ["finished", "finished"]
    check("status", printed(f"status {tmp_path / 'a'} --json"))
    check("compare", printed(f"compare {tmp_path / 'a'} {tmp_path / 'b'} --max-images 40 --json"))
    check("eval", printed(f"eval {tmp_path / 'a'} --max-images 40 --json"))
    check("latency", printed(f"latency {tmp_path / 'a'} --repetitions 5 --json"))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "zero.png")
    (tmp_path / "none.png").write_text("no image")
    right, wrong = check("predict", printed(f"predict {tmp_path / 'a'} {tmp_path / 'zero.png'} {tmp_path / 'none.png'} --json", code=1), least=2)
    assert set(right) == {"file", "classes"}
    assert set(wrong) == {"file", "error"}


def test_a_schema_notices_what_is_wrong() -> None:
    with pytest.raises(jsonschema.ValidationError):
        check("status", json.dumps({"folder": "a", "kind": "search", "state": "asleep"}))
    with pytest.raises(jsonschema.ValidationError):
        check("zoo show", json.dumps({"name": "a"}))

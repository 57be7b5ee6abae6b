"""Wrong words end in one line of one style, a mistake leaves no run behind, and options with few words list and complete them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn
from typer.main import get_command
from typer.testing import CliRunner

from archduel.commands import app
from archduel.commands.choices import MENUS
from archduel.commands.search.objectives import ACCURACY, MEASURES
from archduel.devices.measurements import UNITS
from archduel.errors import ArchduelError, DataError, InfeasibleError, SettingError, UnknownNameError
from archduel.networks.predictions import answers
from archduel.proxies.agreement import READINGS
from archduel.proxies.find import SAMPLING, SCOPES
from archduel.registry import entry, names
from archduel.tables.build import REPEATS
from archduel.training.augment import CORRUPTIONS

run = CliRunner().invoke


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("search x --tiem 1m", "archduel search: option '--tiem' is unknown; did you mean '--time'? `archduel search -h` shows all"),
        ("serach x", "archduel: command 'serach' is unknown; did you mean 'search'? `archduel -h` shows all"),
        ("bench serach", "archduel bench: command 'serach' is unknown; did you mean 'search'? `archduel bench -h` shows all"),
        ("--vers", "archduel: option '--vers' is unknown; did you mean '--version'?"),
        ("status", "archduel status needs RUN"),
        ("export runs/first", "archduel export needs --to: folder to write; `archduel export -h` shows all"),
        ("search x --out", "archduel search: option '--out' requires an argument"),
        ("search x y", "archduel search: got unexpected extra argument"),
        ("search x --seed y", "--seed: "),
        ("search x --metric acuracy", "--metric: 'acuracy' is not one of 'accuracy', 'balanced_accuracy', 'macro_f1'; `archduel search -h` shows all"),
        ("proxy find x --time 1m --out y --by z", "--by: 'z' is not one of 'spearman', 'kendall'"),
        ("eval x --corrupt fog", "--corrupt: 'fog' is not one of 'noise', 'blur', 'contrast', 'jpeg', 'all'"),
    ],
)
def test_wrong_words_end_in_one_line(words: str, said: str) -> None:
    answer = run(app, words.split())
    assert answer.exit_code == 2
    assert answer.output.startswith(f"error: {said}"), answer.output
    assert answer.output.count("\n") == 1


def test_nothing_at_all_shows_the_help() -> None:
    assert "Commands:" in run(app, []).output
    assert "Commands:" in run(app, ["bench"]).output


def test_the_list_of_commands_has_whole_sentences() -> None:
    for words in ([], ["bench"], ["proxy"], ["table"], ["data"]):
        listed = run(app, [*words, "--help"]).output.partition("Commands:")[2]
        assert "..." not in listed
        assert "report." in listed or words


def choices() -> dict[str, Any]:
    """Returns ``command --option`` -> the words that it takes."""
    described = json.loads(run(app, ["describe", "--machine"]).output)
    return {f"{command['name']} {option['names'][0]}": option["choices"] for command in described["commands"] for option in command["options"] if "choices" in option}


def test_the_words_of_options_are_those_that_the_library_knows() -> None:
    found = choices()
    assert found["search --objective"] == [ACCURACY, *MEASURES]
    assert found["search --start"] == ["auto", "pretrained", "scratch"]
    assert found["eval --corrupt"] == [*CORRUPTIONS, "all"]
    assert found["proxy find --reading"] == found["proxy search --reading"] == list(READINGS)
    assert found["proxy find --sampling"] == list(SAMPLING)
    assert found["proxy find --scope"] == list(SCOPES)
    assert found["device add --unit"] == list(UNITS)
    assert sorted(found["table import --repeats"]) == sorted(REPEATS)
    for command in ("search", "proxy find", "proxy check", "proxy train", "proxy search"):
        assert found[f"{command} --metric"] == ["accuracy", "balanced_accuracy", "macro_f1"]


def completions(option: str, begun: str) -> list[str]:
    """Returns what a shell would offer for an option of `archduel search`."""
    root: Any = get_command(app)
    command = root.commands["search"]
    context = command.make_context("search", [], resilient_parsing=True)
    parameter = next(each for each in command.params if option in each.opts)
    return [item.value for item in parameter.shell_complete(context, begun)]


def test_a_shell_completes_choices_and_menus() -> None:
    assert completions("--metric", "b") == ["balanced_accuracy"]
    assert completions("--strategy", "re") == [name for name in names("strategy") if name.startswith("re")]
    assert completions("--track", "ml") == ["mlflow"]
    assert set(MENUS.values()) <= {"strategy", "space", "tracker", "ranker"}


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["--max-params", "10"], InfeasibleError),
        (["--strategy", "ctna"], UnknownNameError),
        (["--set", "strategy.lrr=1"], SettingError),
        (["--set", "reevaluate.epochs=1"], SettingError),
    ],
)
def test_a_mistake_leaves_no_run_behind_and_a_plan_notices_it(words: list[str], kind: type[ArchduelError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    search = ["search", "digits", "--time", "1h", "--start", "scratch", "--max-images", "200", *words]
    for extra in ([], ["--plan"], ["--out", "here"]):
        assert isinstance(run(app, [*search, *extra]).exception, kind), extra
    assert list(tmp_path.rglob("*.toml")) == list(tmp_path.rglob("*.jsonl")) == []
    assert not (tmp_path / "here").exists()


def test_what_was_paid_for_stays(tmp_path: Path, no_onnx: None) -> None:
    words = ["search", "digits", "--evaluations", "4", "--race", "--workers", "1", "--max-images", "120", "--max-params", "10k", "--start", "scratch", "--set", "race.last_epochs=10", "--out", str(tmp_path / "run"), "-q"]
    assert run(app, words).exit_code == 0
    before = (tmp_path / "run" / "journal.jsonl").read_bytes()
    assert run(app, [*words, "--strategy", "random"]).exception is not None
    assert (tmp_path / "run" / "journal.jsonl").read_bytes() == before


def test_a_missing_image_is_said_once(tmp_path: Path) -> None:
    look = {"size": 8, "mode": "L", "rule": "none", "mean": [0.5], "std": [0.5]}
    network: Any = SimpleNamespace(facts={"preprocessing": look, "classes": ["a"]}, with_normalisation=nn.Identity())
    (answer,) = answers(network, [tmp_path / "nothere.png"])
    assert isinstance(answer, DataError)
    assert str(answer) == f"{tmp_path / 'nothere.png'} is not there; give image files"


def test_a_file_of_this_folder_is_named_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quite_mine.py").write_text("class Mine: pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    with pytest.raises(UnknownNameError, match=r"quite_mine\.py is in this folder: write quite_mine\.py:Mine"):
        entry("strategy", "quite_mine:Mine")
    with pytest.raises(UnknownNameError) as error:
        entry("strategy", "not_mine:Mine")
    assert "folder" not in str(error.value)


def test_the_example_of_a_strategy_needs_no_test_tools(tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "examples"
    hidden = "import sys; sys.modules['pytest'] = None; from archduel.registry import entry; print(entry('strategy', 'my_strategy.py:Annealing').__name__)"
    done = subprocess.run([sys.executable, "-c", hidden], cwd=example, capture_output=True, text=True, check=True)
    assert done.stdout == "Annealing\n"

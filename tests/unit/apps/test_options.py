"""What people write on the command line is read by one reader; options that are fields of a class come from the class."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import archduel.commands
from archduel.commands import app
from archduel.commands.options import (
    assignments,
    given,
    json_or_text,
    names,
    numbers,
    parse_count,
    parse_seconds,
    read_entries,
)
from archduel.commands.search.settings import Settings
from archduel.errors import SettingError

COMMANDS = Path(archduel.commands.__file__).parent


def options_of(*words: str) -> dict[str, object]:
    command = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]  # type: ignore[attr-defined]
    return {parameter.name: parameter for parameter in command.params}


def test_values_are_json_where_they_can_be() -> None:
    assert json_or_text(" batch ") == "batch"
    assert assignments(["lr=1e-3", "on=true", "name= a=b "]) == {"lr": 1e-3, "on": True, "name": "a=b"}
    assert assignments(None) == {}


@pytest.mark.parametrize("text", ["epochs", "=3", " =3"])
def test_the_message_names_the_option_the_text_and_the_form(text: str) -> None:
    with pytest.raises(SettingError, match=f"--set {text}: expected NAME=VALUE, such as --set epochs=2"):
        assignments([text])
    with pytest.raises(SettingError, match=r"ranker 'nac\[lr\]': lr: expected NAME=VALUE, such as nac\[lr=1\]"):
        list(read_entries("nac[lr]", "ranker", example="nac[lr=1]", menu="archduel list rankers"))


def test_lists_of_numbers_and_names() -> None:
    assert numbers("50, 100,", "--queries", int) == [50, 100]
    assert numbers("", "--mean", float) == []
    assert names(" a,,b ") == ["a", "b"]
    for text in ("4,x", "4.5"):
        with pytest.raises(SettingError, match=f"--queries {text}: expected whole numbers separated by commas, such as --queries 50,100,150"):
            numbers(text, "--queries", int)


def test_times_and_numbers_name_their_option() -> None:
    assert (parse_seconds("1h30m"), parse_count("1.5M")) == (5400.0, 1_500_000)
    for wrong in ("soon", "0"):
        with pytest.raises(SettingError, match="^--time .*"):
            parse_seconds(wrong, "--time")
        with pytest.raises(SettingError, match="^--max-params .*"):
            parse_count(wrong, "--max-params")


def test_what_was_not_given_is_left_out() -> None:
    assert given(a=None, b=0, c=False, d="") == {"b": 0, "c": False, "d": ""}


def test_the_options_of_a_search_are_the_settings_of_a_run() -> None:
    options = options_of("search")
    apart = {"seconds", "threads", "set", "objectives"}
    for name, field in Settings.model_fields.items():
        if name in apart:
            assert name not in options
            continue
        option = options[name]
        assert option.help == field.description  # type: ignore[attr-defined]
        if name not in ("data", "workers", "space", "device", "strategy", "ranker"):  # these are chosen by what else is asked for
            assert option.default == field.default  # type: ignore[attr-defined]
    assert set(options) == {*Settings.model_fields} - apart | {"time", "out", "config", "audit", "set_", "plan", "track", "quiet", "objective"}


def test_the_jobs_of_cheap_trainings_have_the_same_options() -> None:
    shared = {"max_images", "image_size", "metric", "seed", "device", "workers", "fused", "quiet"}
    for command in ("find", "check", "train", "search"):
        assert shared <= set(options_of("proxy", command))


@pytest.mark.parametrize("file", sorted(COMMANDS.rglob("*.py")), ids=lambda file: str(file.relative_to(COMMANDS)))
def test_what_people_write_is_read_in_one_place(file: Path) -> None:
    if file.name not in ("options.py", "dialect.py"):  # the latter renames options and reads no values
        assert not re.search(r"""\.r?partition\(['"]=['"]\)|\.split\(['"]=['"]""", file.read_text(encoding="utf-8"))


def test_the_menu_of_commands_imports_none_of_them() -> None:
    code = (
        "import sys\nfrom archduel.commands import app\nfrom typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "print([name for name in ('torch', 'numpy', 'pydantic', 'scipy', 'sklearn') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"

"""The command line of proxies: what is printed, what is refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from archduel.commands import app
from archduel.errors import SettingError

RUN = CliRunner()
TINY = ["--max-images", "60", "--set", "epochs=1", "--set", "channels=4", "--set", "depth=1"]


def test_a_file_is_trained_and_shown(tmp_path: Path) -> None:
    (tmp_path / "cells.txt").write_text("nasbench201:3.2.2.1.1.4\n")
    out = tmp_path / "job"
    result = RUN.invoke(app, ["proxy", "train", "digits", "--file", str(tmp_path / "cells.txt"), "--out", str(out), *TINY])
    assert result.exit_code == 0
    assert "nasbench201:3.2.2.1.1.4" in result.output
    assert "flip True became False" in result.output
    assert str(out / "results.csv") in result.output


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["find", "digits", "--time", "1m", "--levels", "epochs", "--out", "x"], SettingError, "--levels epochs: expected NAME=VALUE"),
        (["check", "digits", "--set-reference", "=3", "--out", "x"], SettingError, "--set-reference =3: expected NAME=VALUE"),
    ],
)
def test_wrong_commands_say_what_is_wrong(arguments: list[str], error: type[Exception], message: str) -> None:
    result = RUN.invoke(app, ["proxy", *arguments])
    assert isinstance(result.exception, error)
    assert message in str(result.exception)


def test_the_help_names_every_command() -> None:
    output = RUN.invoke(app, ["proxy", "--help"]).output
    for command in ("find", "check", "train", "search"):
        assert command in output

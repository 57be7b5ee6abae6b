"""Machines that lack something: a home, a writable cache, descriptors, room for temporary files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from archduel.core.disk import user_folder
from archduel.data.cache import cache_root
from archduel.errors import MachineError
from archduel.tables.store import table_folder

HOMELESS = """
import pathlib, sys
def none(*_): raise RuntimeError("Could not determine home directory.")
pathlib.Path.home = none
pathlib.Path.expanduser = lambda self: none() if str(self).startswith("~") else self
from archduel.commands import main
sys.argv = ["archduel", *{words!r}]
main()
"""


def homeless(*words: str, tmp: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command for a user without a home."""
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "ARCHDUEL_CACHE", "ARCHDUEL_TABLES")}
    code = HOMELESS.format(words=list(words))
    return subprocess.run([sys.executable, "-c", code], env={**environment, "TMPDIR": str(tmp)}, capture_output=True, text=True, timeout=120)


def test_without_a_home_there_is_a_folder_among_the_temporary_files(tmp_path: Path) -> None:
    done = homeless("data", "show", "digits", tmp=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("there is no home folder") == 1
    assert f"archduel-{os.getuid()}" in done.stderr
    assert (tmp_path / f"archduel-{os.getuid()}").stat().st_mode & 0o777 == 0o700
    assert homeless("table", "list", tmp=tmp_path).returncode == 0
    done = homeless("data", "show", "~/images", tmp=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") <= 2, done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_else_may_have_put_that_folder_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for variable in ("XDG_CACHE_HOME", "ARCHDUEL_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", none)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = tmp_path / f"archduel-{os.getuid()}"
    (tmp_path / "theirs").mkdir()
    place.symlink_to(tmp_path / "theirs")
    with pytest.raises(MachineError, match="ARCHDUEL_CACHE"):
        cache_root()
    place.unlink()
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(MachineError, match="no home folder"):
        user_folder("XDG_CACHE_HOME", ".cache", "ARCHDUEL_CACHE")
    place.chmod(0o700)
    assert cache_root() == place / "archduel"


def test_variables_name_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, folder in (("XDG_CACHE_HOME", cache_root), ("XDG_DATA_HOME", table_folder)):
        monkeypatch.delenv({"XDG_CACHE_HOME": "ARCHDUEL_CACHE"}.get(variable, "ARCHDUEL_TABLES"), raising=False)
        monkeypatch.setenv(variable, str(tmp_path))
        assert folder().is_relative_to(tmp_path)
        monkeypatch.setenv(variable, "relative")  # which the standard says is to be left out
        assert folder().is_absolute()


FAILS = """
import sys
from archduel import commands
def work(): raise {error}
commands.app = work
commands.main()
"""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("OSError(28, 'No space left on device', 'x')", 2), ("OSError(27, 'File too large')", 2), ("OSError(24, 'Too many open files')", 2),
        ("MemoryError()", 2), ("RuntimeError('CUDA error: out of memory')", 2), ("FileNotFoundError(2, 'No such file or directory', 'x/y.svg')", 2),
        ("IsADirectoryError(21, 'Is a directory', 'x')", 2), ("RuntimeError('a bug')", 1), ("KeyError('a bug')", 1), ("OSError(9, 'Bad file descriptor')", 1),
    ],
)  # fmt: skip
def test_what_the_machine_lacks_is_a_line_and_a_bug_is_a_traceback(error: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", FAILS.format(error=error)], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert ("Traceback" in done.stderr) == (code == 1)
    if code == 2:
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


def test_a_file_that_ends_too_soon_is_no_abortion(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from archduel import commands

    def ends(*_: object, **__: object) -> None:
        raise EOFError("No data left in file")

    monkeypatch.setattr("archduel.networks.trained.open_network", ends)
    monkeypatch.setattr(sys, "argv", ["archduel", "export", "x", "--to", "y"])
    with pytest.raises(SystemExit) as stop:
        commands.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: a file ends too soon: EOFError: No data left in file\n"

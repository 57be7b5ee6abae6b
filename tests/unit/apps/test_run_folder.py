"""Run folders: what may take the place of what, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from archduel.commands.search.folder import RunFolder, Stage
from archduel.commands.search.settings import Settings, make_settings, read_settings
from archduel.errors import RunError, SettingError
from archduel.estimators.timing import check_device


def settings(**changes: object) -> Settings:
    return make_settings(data="digits", **{"evaluations": 8, "workers": 1, **changes})


def opened(path: Path, **changes: object) -> RunFolder:
    return RunFolder(path, settings(**changes), "archduel search digits", fsync=False)


def test_settings_of_a_run_in_which_nothing_was_trained_are_replaced(tmp_path: Path) -> None:
    first = opened(tmp_path / "r", max_params=10)
    first.note("plan", plan={})
    first.close()
    second = opened(tmp_path / "r", max_params=10_000)
    assert second.journal.records == []
    second.close()
    assert read_settings(tmp_path / "r").max_params == 10_000


def test_settings_of_a_run_with_trainings_are_kept(tmp_path: Path) -> None:
    first = opened(tmp_path / "r")
    Stage(first, "label").append({"event": "estimate"})
    first.close()
    with pytest.raises(RunError, match=r"evaluations: the run has 8, the command says 9"):
        opened(tmp_path / "r", evaluations=9)
    again = opened(tmp_path / "r")
    assert len(again.journal.records) == 1
    again.close()


def test_the_clock_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first = opened(tmp_path / "r")
    first.journal.append({"event": "x", "clock": 100.0})
    first.close()
    again = opened(tmp_path / "r")
    assert 100.0 <= again.clock < 160.0
    again.close()


def test_a_run_of_another_version_is_named(tmp_path: Path) -> None:
    for text in ("", "[run]\ndata = 'x'\nunheard_of = 3\n", "[run]\nseed = 1\n"):
        (tmp_path / "run.toml").write_text(text)
        with pytest.raises(RunError, match="is not a run of this version"):
            read_settings(tmp_path)


def test_a_place_that_cannot_be_written_is_a_plain_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="is a file; --out wants a folder"):
        opened(tmp_path / "file")
    with pytest.raises(RunError, match="cannot be written: Not a directory; give another --out"):
        opened(tmp_path / "file" / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_a_plain_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="cannot be written: Permission denied"):
        opened(tmp_path / "r")


def test_devices_that_are_not_there_are_named() -> None:
    check_device("cpu")
    for device in ("cuda:99", "quantum"):
        with pytest.raises(SettingError, match=rf"--device {device}: torch cannot use it; here it has cpu"):
            check_device(device)


def test_settings_name_what_they_expect() -> None:
    for changes, message in (
        ({"metric": "accurate"}, "'accuracy', 'balanced_accuracy' or 'macro_f1', got 'accurate'"),
        ({"bogus": 3}, "setting 'bogus' is unknown"),
        ({"set": {"policy.lr": None}}, "null is no value"),
        ({"set": {"lr": 1}}, "expected SECTION.NAME=VALUE"),
    ):
        with pytest.raises(SettingError, match=message):
            settings(**changes)

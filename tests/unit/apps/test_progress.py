"""Progress: plain lines when piped, a live view on a terminal, nothing when quiet."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from types import SimpleNamespace
from typing import Any, cast

import pytest

from archduel.commands import progress as module
from archduel.commands.progress import Progress, by_command, duration
from archduel.commands.search.announce import say_images
from archduel.errors import ArchduelWarning


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(progress: Progress) -> None:
    progress.say("hello")
    progress.stage("label", 3)
    for done in (1, 2, 3):
        progress.advance(done, f"best 0.{done}")
    progress.end()


def test_piped_output_has_the_first_and_the_last_line_of_a_quick_stage(capsys: pytest.CaptureFixture[str]) -> None:
    shown(Progress())
    assert capsys.readouterr().out.splitlines() == ["hello", "label         1/3  best 0.1", "label         3/3  best 0.3"]


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    shown(Progress(quiet=True))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_the_live_view_leaves_its_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    shown(Progress())
    assert "hello" in terminal.getvalue()
    assert terminal.getvalue().rstrip().endswith("label         3/3  best 0.3")


def test_reading_is_said_only_when_it_takes_time(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    progress = Progress()
    progress.reading(1, 9)
    now[0] += 1.0
    progress.reading(2, 9)
    assert capsys.readouterr().out == ""
    now[0] += 5.0
    progress.reading(5, 9)
    progress.reading(9, 9)
    assert capsys.readouterr().out.splitlines() == ["read          5/9  images", "read          9/9  images"]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (-3, "0 s")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_what_is_said_goes_to_the_logger_also_where_nothing_is_shown(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.DEBUG, logger="archduel"):
        shown(Progress(quiet=True))
    assert [(record.levelname, record.getMessage()) for record in caplog.records][:2] == [("INFO", "hello"), ("DEBUG", "label 1/3 best 0.1")]
    assert capsys.readouterr().out == ""


def test_a_library_is_silent_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    shown(Progress(quiet=None))
    assert capsys.readouterr() == ("", "")


def test_a_warning_is_a_python_warning_and_a_line_of_the_command(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with pytest.warns(ArchduelWarning, match="few images") as told:
        Progress().say("warning: few images")
    assert told[0].filename == __file__
    assert capsys.readouterr().out == ""
    with by_command(), warnings.catch_warnings():
        warnings.simplefilter("error")
        Progress().say("warning: few images")
    assert capsys.readouterr().out == "warning: few images\n"
    assert [record.levelname for record in caplog.records if record.name == "archduel"] == ["WARNING"] * 2


def test_a_warning_names_the_line_of_who_called_the_package_however_deep_it_was_found() -> None:
    progress = Progress()
    dataset = SimpleNamespace(
        facts={"test_of": 10_000}, train=range(3), validation=range(2), test=range(2_000), n_classes=2, image_size=8, name="mine", warnings=["few images"],
        preprocessing=SimpleNamespace(rule="none"),
    )  # fmt: skip
    with pytest.warns(ArchduelWarning, match="few images") as told:
        say_images(progress, cast(Any, SimpleNamespace(metric="accuracy")), cast(Any, dataset))
    assert told[0].filename == __file__


def test_drawn_test_images_are_said_in_the_words_of_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    dataset = SimpleNamespace(
        facts={"test_of": 10_000}, train=range(3), validation=range(2), test=range(2_000), n_classes=2, image_size=8, name="mine", warnings=[],
        preprocessing=SimpleNamespace(rule="none"),
    )  # fmt: skip
    say_images(Progress(), cast(Any, SimpleNamespace(metric="accuracy")), cast(Any, dataset))
    assert "3 train, 2 validation, 2,000 drawn from 10,000 test; 8 px" in capsys.readouterr().out

"""What comes after a training is forecast from a rehearsal, and a command counts the start of its own program."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from archduel.commands import app, options
from archduel.commands.options import running_for
from archduel.commands.search import run
from archduel.commands.search.after import After, check_time, kept_for, rehearsed, reserve, slower
from archduel.commands.search.dry import plan
from archduel.commands.search.run import search
from archduel.core.job import RUN, Job
from archduel.data import load
from archduel.errors import BudgetError
from archduel.export import rehearse_onnx
from archduel.training.images import Pixels
from archduel.training.metrics import evaluate, final_scores


class Slow(nn.Module):
    """Needs a hundredth of a second for a batch."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(1, 1, 1) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        began = time.process_time()
        while time.process_time() < began + 0.01:
            pass
        return x.flatten(1)[:, :10]


def test_more_layers_and_more_test_images_take_longer() -> None:
    digits = load("digits", max_images=200)
    some = Pixels(digits.validation.images, digits.validation.labels, digits.preprocessing.mean, digits.preprocessing.std)
    few, many = After(2.0, 0, some), After(2.0, 100 * len(some), some)
    assert few(Slow(10)) == pytest.approx(0.8 + 2.0 * (0.4 + 0.3))
    assert few(Slow(30)) - few(Slow(10)) == pytest.approx(2.0 * 0.6)
    assert 1.0 <= many(Slow(10)) - few(Slow(10)) < 5.0  # a hundred batches
    assert After(0.0, 0, some).usual == pytest.approx(0.8)  # without the packages of ONNX nothing is written that takes long


def test_a_rehearsal_is_noted_once_and_left_out_where_time_is_short(tmp_path: Path) -> None:
    digits = load("digits", max_images=200)
    with Job(tmp_path / "run", RUN, {"run": {"data": "digits"}}) as job:
        assert rehearsed(job, None, digits) is None
        assert rehearsed(job, 20.0, digits) is None
        first = rehearsed(job, 60.0, digits)
        assert first is not None
        assert first.rehearsal >= 0
        assert first.images == len(digits.test)
        again = rehearsed(job, 60.0, digits)
        assert again is not None
        assert (again.rehearsal, first.loaded, again.loaded) == (first.rehearsal, True, False)
        assert [r["event"] for r in job.journal.records] == ["rehearsal"]


def test_a_busy_machine_is_known_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "process_time", lambda: 4.0)
    assert [slower(clock) for clock in (2.0, 4.0, 10.0, 100.0)] == [1.0, 1.0, 2.5, 4.0]


def test_a_continued_run_keeps_as_much_for_the_end_as_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = load("digits", max_images=200)
    some = Pixels(digits.validation.images, digits.validation.labels, digits.preprocessing.mean, digits.preprocessing.std)
    after, settings = After(2.0, 0, some), {"run": {"data": "digits"}}
    with Job(tmp_path / "run", RUN, settings, gone=1.0) as job:
        monkeypatch.setattr(time, "process_time", lambda: job.clock)
        kept = kept_for(after, job, 60.0)
        assert kept == pytest.approx(after.usual, abs=1e-3)
        job.note("late", seconds=0)
    # the clock of the second attempt begins with the seconds of the first, that of the processor at nothing: no sign of a busy machine
    monkeypatch.setattr(time, "process_time", lambda: 0.01)
    with Job(tmp_path / "run", RUN, settings) as again:
        assert slower(again.clock) == 4.0
        assert kept_for(after, again, 60.0) == kept
        assert kept_for(None, again, 60.0) == reserve(60.0)


def test_a_rehearsal_leaves_random_numbers_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    rehearse_onnx()
    assert torch.equal(torch.rand(3), expected)


def test_the_clock_of_a_job_counts_what_passed_before(tmp_path: Path) -> None:
    with Job(tmp_path / "run", RUN, {"run": {"data": "digits"}}, gone=3.0) as job:
        assert 3.0 <= job.clock < 4.0
        job.note("something")
        assert job.called == 0.0
    with Job(tmp_path / "run", RUN, {"run": {"data": "digits"}}, gone=2.0) as job:
        assert 3.0 <= job.clock < 4.5  # another program's start was not in the budget
        assert job.called == pytest.approx(1.0, abs=0.9)  # what is added to a finished run counts from there


def test_only_the_command_counts_the_age_of_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["notebook.py"])
    assert running_for() == 0.0
    monkeypatch.setattr(sys, "argv", ["/usr/bin/archduel", "search"])
    monkeypatch.setattr(options, "MOST_STARTING", 1e6)  # the process of these tests may be old
    age = running_for()
    assert age >= time.process_time() - 0.1
    time.sleep(0.3)
    assert running_for() - age == pytest.approx(0.3, abs=0.25)


def test_the_command_knows_when_it_was_started() -> None:
    code = (
        "import sys, time; time.sleep(0.5); sys.argv = ['archduel']\n"
        "from archduel.commands.options import running_for; print(running_for())"
    )
    began = time.monotonic()
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.5 <= float(answer.stdout) <= time.monotonic() - began + 0.02


def test_an_audit_may_stand_alone_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[Any, Any]] = []
    monkeypatch.setattr(run, "search", lambda data, **asked: heard.append((asked["audit"], asked["quiet"])))
    for words in (["--audit"], ["--audit", "--quiet"], ["--audit", "5m", "--quiet"], ["--audit=5m"], []):
        assert CliRunner().invoke(app, ["search", "digits", *words]).exit_code == 0, words
    assert heard == [("half", False), ("half", True), ("5m", True), ("5m", False), (None, False)]


class Plain(nn.Module):
    """A network that notes in which precision it answers."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer, self.out = nn.Conv2d(2, 8, 3), nn.Linear(8, 10)
        self.kinds: list[torch.dtype] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.out(self.layer(torch.cat([x, x], 1)).mean((2, 3)))
        self.kinds.append(out.dtype)
        return out


class Large(Plain):
    """One that enlarges images."""

    works_at = 128


@pytest.mark.parametrize("last", [False, True])
def test_a_network_that_enlarges_images_is_tested_as_it_is_exported_and_left_as_it_was(*, last: bool) -> None:
    digits = load("digits", max_images=200)
    some = Pixels(digits.validation.images, digits.validation.labels, digits.preprocessing.mean, digits.preprocessing.std)
    model = Large()
    if last:  # in training: what an optimizer holds may not be moved
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    where, strides = model.layer.weight.data_ptr(), model.layer.weight.stride()
    found = final_scores(model, some, "cpu")
    assert set(model.kinds) == {torch.float32}
    assert model.layer.weight.stride() == strides
    assert (model.layer.weight.data_ptr() == where) or not last
    np.testing.assert_allclose(found.probabilities, evaluate(model, some).probabilities, rtol=1e-4)


def test_a_network_that_sees_images_as_they_are_is_tested_in_full_precision() -> None:
    digits = load("digits", max_images=200)
    some = Pixels(digits.validation.images, digits.validation.labels, digits.preprocessing.mean, digits.preprocessing.std)
    model = Plain()
    assert np.array_equal(final_scores(model, some, "cpu").probabilities, evaluate(model, some).probabilities)
    assert set(model.kinds) == {torch.float32}


@pytest.mark.parametrize("way", [plan, search])
def test_a_time_that_is_too_short_for_any_images_is_said_before_they_are_read(way: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reads(*given: Any, **values: Any) -> None:
        pytest.fail("images are read for nothing")

    for module in ("run", "dry"):
        monkeypatch.setattr(f"archduel.commands.search.{module}.load", reads)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BudgetError, match=r"--time 5s is too short.*give at least --time \d+s"):
        way("digits", **({"seconds": 5.0} if way is plan else {"time": "5s"}), quiet=True)
    assert list(tmp_path.rglob("run.toml")) == []


def test_only_what_no_image_can_change_is_too_short_beforehand() -> None:
    check_time(None, 1000.0)
    check_time(30.0, 24.0)  # what is kept of half a minute for the end is measured once images are there
    with pytest.raises(BudgetError):
        check_time(30.0, 24.5)
    check_time(10.0, 4.0)
    with pytest.raises(BudgetError):
        check_time(10.0, 4.1)


@pytest.mark.parametrize(("seconds", "gone"), [(5.0, 4.0), (5.0, 6.0), (10.0, 9.0), (20.0, 19.0), (30.0, 24.5), (1.0, 22.5)])
def test_who_gives_as_much_time_as_is_said_is_not_refused_again(seconds: float, gone: float) -> None:
    with pytest.raises(BudgetError) as told:
        check_time(seconds, gone)
    least = float(str(told.value).rpartition("--time ")[2].removesuffix("s"))
    check_time(least, gone)
    with pytest.raises(BudgetError):
        check_time(least - 1, gone)

"""Jobs: what continues, what is refused, what a kill, a full disk and a second process do to the work that is done."""

from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from archduel.commands.search.settings import Settings, default_settings, make_settings, read_settings
from archduel.core import Arch, Cost, Estimate, Query
from archduel.core.job import COMPARISON, PROXY, RUN, TABLE, TRAINING, Job, Layout
from archduel.core.storage import Journal, append_shared, read_journal
from archduel.errors import RunError, SettingError
from archduel.estimators.timing import check_device

LAYOUTS = [RUN, TRAINING, PROXY, COMPARISON, TABLE]
QUERIES = [Query(Arch("toy", (i,)), "cheap") for i in range(5)]


def settings(**changes: object) -> Settings:
    return make_settings(data="digits", **{"evaluations": 8, "workers": 1, **changes})


def opened(path: Path, **changes: object) -> Job:
    values = {"run": settings(**changes).model_dump()}
    return Job(path, RUN, values, command="archduel search digits", defaults={"run": default_settings()}, fsync=False)


def asked(layout: Layout, **values: object) -> dict[str, Any]:
    """Returns settings in the sections of ``layout``."""
    return {section: dict(values) for section in layout.sections} or dict(values)


def place(folder: Path, layout: Layout) -> Path:
    """Returns where such a job lies, and that of its journal is below it or the same."""
    return folder / "job" if layout.file else folder / "job.jsonl"


def journal(path: Path) -> Path:
    return path / "journal.jsonl" if path.is_dir() else path


class Trainer:
    """Judges queries, and knows how often it was asked."""

    def __init__(self) -> None:
        self.ordinals: list[int] = []

    def run(self, queries: Sequence[Query], ordinals: Sequence[int]) -> Iterator[Estimate]:
        """Yields one estimate a query; the last query fails."""
        for query, ordinal in zip(queries, ordinals):
            self.ordinals.append(ordinal)
            n = query.arch.choices[0]
            score = math.nan if n == 4 else ordinal + n / 10
            yield Estimate(score, Cost(1.0, 10), {"val_loss": 0.5}, "no memory" if n == 4 else "")


def work(path: Path, layout: Layout, trainer: Trainer) -> tuple[list[Estimate], list[dict[str, Any]]]:
    """Does the whole of a small job; returns what it paid for and its records, without clocks."""
    with Job(path, layout, asked(layout, seed=1), fsync=False) as job:
        number = job.once("plan", lambda: {"number": 10})["number"]
        ordinals = range(number, number + 5)
        estimates = list(job.paid(trainer.run, QUERIES, ordinals, stage="label", values=[{"seed": i} for i in range(5)]))
        estimates += job.paid(trainer.run, QUERIES[:3], range(3))
        job.note("finished")
        return estimates, [{k: v for k, v in record.items() if k != "clock"} for record in job.journal.records]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)
def test_a_job_cut_anywhere_in_its_journal_goes_on_to_the_same_end(layout: Layout, tmp_path: Path) -> None:
    path = place(tmp_path, layout)
    whole, trainer = work(path, layout, Trainer()), Trainer()
    assert repr(work(path, layout, trainer)[0]) == repr(whole[0])
    assert trainer.ordinals == []  # nothing is paid twice
    data = journal(path).read_bytes()
    for end in range(0, len(data), 7 if len(data) > 1000 else 1):
        journal(path).write_bytes(data[:end])
        trainer = Trainer()
        estimates, records = work(path, layout, trainer)
        assert repr(estimates) == repr(whole[0]), end
        done = sum(b'"estimate"' in line for line in data[: data.rfind(b"\n", 0, end) + 1].splitlines())
        assert len(trainer.ordinals) == 8 - done, end
        one_end = [record for record in records if record["event"] != "finished"]
        assert one_end == [record for record in whole[1] if record["event"] != "finished"], end


def test_what_failed_is_paid_again_only_where_that_is_asked_for(tmp_path: Path) -> None:
    for retry, again in ((False, []), (True, [4])):
        trainer = Trainer()
        with Job(tmp_path / f"{retry}", PROXY, asked(PROXY)) as job:
            list(job.paid(trainer.run, QUERIES, range(5)))
            trainer.ordinals.clear()
            assert math.isnan(list(job.paid(trainer.run, QUERIES, range(5), retry=(lambda record: bool(record["reason"])) if retry else None))[4].score)
        assert trainer.ordinals == again


def test_two_queries_alike_are_paid_once(tmp_path: Path) -> None:
    with Job(tmp_path / "j", PROXY, asked(PROXY)) as job:
        trainer = Trainer()
        scores = [e.score for e in job.paid(trainer.run, [QUERIES[1], QUERIES[1], QUERIES[2]], [7, 7, 8])]
    assert (scores, trainer.ordinals) == ([7.1, 7.1, 8.2], [7, 8])


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)
def test_other_settings_are_refused_with_each_difference(layout: Layout, tmp_path: Path) -> None:
    path = place(tmp_path, layout)
    first = asked(layout, seed=0, recipe={"lr": 0.1, "size": (8, 8)}, limit=None, text="x" * 200)
    with Job(path, layout, first) as job:
        job.note("trial")
    before = {file: file.read_bytes() for file in sorted(tmp_path.rglob("*")) if file.is_file()}
    with Job(path, layout, first):
        pass
    start = f"{layout.sections[0]}." if len(layout.sections) > 1 else ""
    with pytest.raises(RunError) as error:
        Job(path, layout, asked(layout, seed=1, recipe={"lr": 0.2, "size": (8, 8)}, limit=3, text="y" * 200))
    lines = str(error.value).splitlines()
    assert lines[0] == f"{path} holds another {layout.kind}:"
    assert f"  {start}seed: the {layout.kind} has 0, the command says 1" in lines
    assert f"  {start}recipe.lr: the {layout.kind} has 0.1, the command says 0.2" in lines
    assert f"  {start}limit: the {layout.kind} has None, the command says 3" in lines
    assert all(len(line) < 220 for line in lines)
    assert not any("size" in line for line in lines)
    assert lines[-1] == f"give another {layout.option}, or the same settings"
    assert {file: file.read_bytes() for file in sorted(tmp_path.rglob("*")) if file.is_file()} == before


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)
def test_settings_may_change_until_something_is_paid_for(layout: Layout, tmp_path: Path) -> None:
    path = place(tmp_path, layout)
    with Job(path, layout, asked(layout, seed=0)) as job:
        job.note("plan", number=1)
    with Job(path, layout, asked(layout, seed=1)) as job:
        assert job.noted("plan") is None
    with Job(path, layout, asked(layout, seed=1)) as job:
        job.note("trial")
    if layout.file:
        with Job(tmp_path / "state", layout, asked(layout, seed=0)) as job:
            (job.path / "checkpoint.safetensors").write_bytes(b"hours of work")
        path = tmp_path / "state"
    with pytest.raises(RunError, match="holds another"):
        Job(path, layout, asked(layout, seed=2))


def test_the_settings_of_a_replaced_run_are_the_new_ones(tmp_path: Path) -> None:
    opened(tmp_path / "r", max_params=10).close()
    opened(tmp_path / "r", max_params=10_000).close()
    assert read_settings(tmp_path / "r").max_params == 10_000


def test_a_setting_that_an_older_version_did_not_have_is_its_default(tmp_path: Path) -> None:
    with opened(tmp_path / "r") as job:
        job.note("trial")
    path = tmp_path / "r" / "run.toml"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("rank_by")))
    opened(tmp_path / "r").close()
    with pytest.raises(RunError, match="rank_by: the run has 'likelihood', the command says 'metric'"):
        opened(tmp_path / "r", rank_by="metric")


def test_the_clock_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first = opened(tmp_path / "r")
    first.journal.append({"event": "x", "clock": 100.0})
    first.close()
    again = opened(tmp_path / "r")
    assert 100.0 <= again.clock < 160.0
    assert 100.0 <= again.note("y")["clock"] < 160.0
    again.close()


@pytest.mark.parametrize("layout", [RUN, TABLE], ids=lambda layout: layout.kind)
def test_a_second_process_is_refused_until_the_first_ends_however_it_ends(layout: Layout, tmp_path: Path) -> None:
    path = place(tmp_path, layout)
    name = layout.kind.upper()
    code = f"""
import sys, time
from pathlib import Path
from archduel.core.job import {name}, Job
job = Job(Path(sys.argv[1]), {name}, {asked(layout, seed=0)!r})
print("open", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        try:
            assert other.stdout.readline() == "open\n"
            for _ in range(2):  # the first refusal does not forget who holds it
                with pytest.raises(RunError, match=f"in use by process {other.pid}; wait for it or stop it"):
                    Job(path, layout, asked(layout, seed=0))
        finally:
            other.kill()
    with Job(path, layout, asked(layout, seed=0)), pytest.raises(RunError, match=f"in use by process {os.getpid()}"):
        Job(path, layout, asked(layout, seed=0))
    Job(path, layout, asked(layout, seed=0)).close()


def test_a_place_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="is a file; --out wants a folder"):
        opened(tmp_path / "file")
    with pytest.raises(RunError, match="cannot be written: Not a directory; give another --out"):
        opened(tmp_path / "file" / "below")
    with pytest.raises(RunError, match="is a folder; give another --out"):
        Job(tmp_path, COMPARISON, {})
    with pytest.raises(RunError, match="is not empty and holds no run"):
        opened(tmp_path)
    (tmp_path / "run.toml").write_text("command = 'archduel'\n")
    with pytest.raises(RunError, match=r"run.toml is not a run of this version"):
        opened(tmp_path)
    assert (tmp_path / "file").read_text() == "x"


def test_what_a_process_leaves_that_was_killed_before_it_began_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / ".lock").write_text("123")
    (folder / ".run.toml.123.tmp").write_text("[ru")
    opened(folder).close()


UNWRITABLE = """
import os, sys
from pathlib import Path
import torch
from archduel.core.job import RUN, Job
from archduel.errors import RunError
if os.geteuid() == 0:  # root may write anywhere
    os.setuid(65534)
try:
    Job(Path(sys.argv[1]), RUN, {"run": {}})
except RunError as error:
    print(error)
"""


def test_a_folder_without_permission_is_a_plain_error() -> None:
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)
        folder = Path(parent) / "mine"
        folder.mkdir(mode=0o555)
        done = subprocess.run([sys.executable, "-c", UNWRITABLE, str(folder)], capture_output=True, text=True)
        assert f"{folder} cannot be written: Permission denied; give another --out" in done.stdout, done.stderr


FULL = """
import resource, signal, sys
from pathlib import Path
from archduel.core.job import PROXY, Job
from archduel.errors import RunError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
job = Job(Path(sys.argv[1]), PROXY, {"settings": {}}, fsync=False)
job.note("trial", number=0)
size = job.journal.path.stat().st_size
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))  # ten more bytes fit
try:
    job.note("trial", number=1)
except RunError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
job.note("trial", number=2)
job.close()
"""


def test_a_full_disk_is_named_and_leaves_no_half_record(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path / "j")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"cannot be written: {os.strerror(errno.EFBIG)}; the same command continues once that is mended" in done.stdout
    assert [record["number"] for record in read_journal(tmp_path / "j" / "journal.jsonl")] == [0, 2]


def test_a_damaged_line_in_the_middle_ends_a_run_but_not_a_list_of_trials(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text('{"event": "trial", "n": 1}\n{"event": "tri{"event": "trial", "n": 2}\n7\n{"event": "trial", "n": 3}\n')
    with pytest.raises(RunError, match="line 2 is damaged"):
        Journal(path)
    with Job(path, COMPARISON, {}) as job:
        assert [record["n"] for record in job.journal.records if record["event"] == "trial"] == [1, 3]


def test_reading_a_torn_journal_changes_nothing_and_the_next_record_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2')
    Journal(path).close()
    assert path.read_bytes() == b'{"n": 1}\n{"n": 2'
    append_shared(path, {"n": 3})
    assert read_journal(path) == [{"n": 1}, {"n": 3}]


def test_a_run_of_another_version_is_named(tmp_path: Path) -> None:
    for text in ("", "[run]\ndata = 'x'\nunheard_of = 3\n", "[run]\nseed = 1\n"):
        (tmp_path / "run.toml").write_text(text)
        with pytest.raises(RunError, match="is not a run of this version"):
            read_settings(tmp_path)


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

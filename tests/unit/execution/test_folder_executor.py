"""Workers that meet in a folder: the same answers, whoever dies, and nobody's clock."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import worker_judges
from test_executors import check_failures, eventually, queries

from archduel.core import Query, evaluation_seed
from archduel.core.storage import write_records
from archduel.errors import MachineError, RunError, SettingError
from archduel.execution import Folder, Sequential, folder, join
from archduel.execution.folder import Places, Still, read_driver
from archduel.execution.letters import (
    identity_of,
    job_digest,
    job_records,
    outcome_records,
    read_job,
    read_outcome,
)
from archduel.execution.tries import Job, Trouble

QUICK = {"beat": 0.2, "lease": 1.0}


def worker(place: Path, factory: str, *more: str, workers: int = 1) -> subprocess.Popen[str]:
    """Starts a worker in a process of its own, as another machine would."""
    script = Path(__file__).with_name("run_joined.py")
    return subprocess.Popen(
        [sys.executable, str(script), str(place), factory, str(workers), *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def test_answers_are_those_of_one_process_whoever_joins_and_workers_leave_at_the_end(place: Path, started) -> None:
    asked, ordinals = queries(0, 9, 1, 8, 2, 7), [10, 11, 12, 13, 14, 15]
    local = list(Sequential(worker_judges.judge, run_seed=3).run(asked, ordinals))
    started += [worker(place, "factory") for _ in range(2)]
    with Folder(place, {"a": 1}, run_seed=3, **QUICK) as executor:
        both = list(executor.run(asked, ordinals))
        assert [e.score for e in both] == [e.score for e in local]
        assert len({e.values["worker"] for e in both}) == 2
        assert list(executor.run([], [])) == []
        again = list(executor.run(asked[:2], [20, 21]))
        assert [int(e.score) for e in again] == [evaluation_seed(3, 20), evaluation_seed(3, 21)]
    (place.parent / "result.json").write_text("{}")
    outputs = [process.communicate(timeout=30)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], outputs
    assert sum(int(output.split()[-1]) for output in outputs) == 8
    for name in ("tasks", "claimed", "answers", "workers"):
        assert not list((place / name).iterdir()), name


def test_failures_are_whose_they_are(place: Path, started) -> None:
    started.append(worker(place, "faulty_factory", workers=2))
    with Folder(place, {}, run_seed=0, **QUICK) as executor:
        check_failures(executor)


def test_a_worker_that_vanishes_is_noticed_and_its_job_is_anothers(place: Path, tmp_path: Path, started) -> None:
    (tmp_path / "seen").mkdir()
    started += [worker(place, "Once", str(tmp_path / "seen")) for _ in range(2)]
    with Folder(place, {}, run_seed=0, **QUICK) as executor:
        running = executor.run(queries(0, 1), range(2))
        assert next(running).score == 0
        assert eventually(lambda: any((tmp_path / "seen").iterdir()))
        # the claim says who has it
        assert eventually(lambda: any((place / "claimed").iterdir()))
        claim = next((place / "claimed").iterdir())
        victim = int(claim.name.split("-")[-2])
        assert victim in [process.pid for process in started]
        os.kill(victim, signal.SIGKILL)
        # an hour fast or slow: nobody looks at a file's time
        for path in place.rglob("*"):
            os.utime(path, (time.time() + 3600, time.time() + 3600))
        assert next(running).score == 1


def test_a_job_that_every_worker_vanishes_with_ends_the_run(place: Path, started) -> None:
    class Gone(threading.Thread):
        """Takes every job, and does nothing more."""

        def run(self) -> None:
            while not self.ended:
                for path in (place / "tasks").glob("*"):
                    with contextlib.suppress(FileNotFoundError):
                        path.rename(place / "claimed" / path.name.replace(".jsonl", ".nobody.jsonl"))
                time.sleep(0.05)

        ended = False

    gone = Gone(daemon=True)
    with Folder(place, {}, run_seed=0, beat=0.1, lease=0.4) as executor:
        gone.start()
        with pytest.raises(MachineError, match=r"worker nobody gave no sign of life for 0.4 s, 3 times in a row with s:5"):
            list(executor.run(queries(5), [0]))
    gone.ended = True


def test_a_driver_that_was_killed_takes_what_was_finished_meanwhile(place: Path) -> None:
    about = {"b": 2}
    first = Folder(place, about, run_seed=7, **QUICK)
    first._start()
    for ordinal, query in enumerate(queries(1, 2)):
        first.begin(Job(1, ordinal, [query], [evaluation_seed(7, ordinal)], ordinals=[ordinal]))
    # a worker answers one, takes the other, and the driver is gone
    one, other = sorted((place / "tasks").iterdir())
    job, identity = read_job(folder.records_in(one))
    assert identity == identity_of(about)
    write_records(place / "answers" / one.name, outcome_records(job, [worker_judges.judge(job.queries[0], job.seeds[0])]))
    one.unlink()
    other.rename(place / "claimed" / other.name.replace(".jsonl", ".host-1-ab.jsonl"))
    first._beating.end()
    with Folder(place, about, run_seed=7, beat=0.2, lease=60) as second:
        again = second.run(queries(1, 2), [0, 1])
        assert int(next(again).score) == evaluation_seed(7, 0)  # nobody computed it twice
        assert not list((place / "tasks").iterdir())  # nor is the other given away twice
        job, _ = read_job(folder.records_in(next((place / "claimed").iterdir())))
        write_records(place / "answers" / other.name, outcome_records(job, [worker_judges.judge(job.queries[0], job.seeds[0])]))
        assert int(next(again).score) == evaluation_seed(7, 1)


def test_what_a_worker_refuses_it_says_and_gives_back(place: Path, started) -> None:
    started.append(worker(place, "Differs"))
    with Folder(place, {"versions": {"archduel": "9"}}, run_seed=0, **QUICK) as executor:
        threading.Thread(target=lambda: list(executor.run(queries(1), [0])), daemon=True).start()
        output, _ = started[0].communicate(timeout=30)
        assert started[0].returncode == 1
        assert "archduel is 1 here, 9 there" in output
        assert len(list((place / "tasks").iterdir())) == 1


def test_a_worker_that_is_asked_to_leave_gives_back_what_it_has(place: Path, tmp_path: Path, started) -> None:
    (tmp_path / "seen").mkdir()
    started.append(worker(place, "Sleeper", str(tmp_path / "seen")))
    with Folder(place, {}, run_seed=0, **QUICK) as executor:
        threading.Thread(target=lambda: list(executor.run(queries(1), [0])), daemon=True).start()
        assert eventually(lambda: any((tmp_path / "seen").iterdir()))
        started[0].send_signal(signal.SIGTERM)
        started[0].communicate(timeout=30)
        assert len(list((place / "tasks").iterdir())) == 1
        assert not list((place / "claimed").iterdir())
        executor.abandon()


def test_nobody_drives(place: Path) -> None:
    with pytest.raises(RunError, match="nobody has driven the run"):
        join(place, lambda about: worker_judges.factory, wait=0.1)
    (place.parent / "result.json").write_text("{}")
    assert join(place, lambda about: worker_judges.factory, wait=0.1, finished=lambda: True) == 0


def test_two_drivers_are_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with Folder(place, {}, run_seed=0, **QUICK) as first:
        list(first.run([], []))
        monkeypatch.setattr(folder, "host_name", lambda: "elsewhere")
        with pytest.raises(RunError, match="is in use by process"):
            list(Folder(place, {}, run_seed=0, say=said.append, **QUICK).run([], []))
        assert "whether it still is" in said[0]
        # where nothing told that there was one, it notices that it was replaced
        content = json.loads((place / "driver.json").read_text())
        (place / "driver.json").write_text(json.dumps({**content, "session": "another"}))
        with pytest.raises(RunError, match="was taken by process"):
            list(first.run(queries(1), [0]))
    assert read_driver(Places(place))["session"] == "another"


def test_a_driver_of_another_machine_that_is_gone_does_no_harm(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Folder(place, {}, run_seed=0, **QUICK)
    list(first.run([], []))
    first._beating.end()
    monkeypatch.setattr(folder, "host_name", lambda: "elsewhere")
    with Folder(place, {}, run_seed=0, **QUICK) as second:
        assert list(second.run([], [])) == []


def test_that_nobody_has_joined_is_said_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "LONELY", 0.1)
    said: list[str] = []
    with Folder(place, {}, run_seed=0, beat=0.1, lease=0.5, say=said.append) as executor:
        threading.Thread(target=lambda: list(executor.run(queries(1), [0])), daemon=True).start()
        assert eventually(lambda: said)
        time.sleep(0.5)
        executor.abandon()
    assert said == [f"no worker is there; start some on any machine that sees the folder: archduel worker --join {place.parent}"]


def test_files_that_are_not_whole_or_of_something_else_are_no_answers(place: Path) -> None:
    job = Job(1, 0, queries(4), [5], ordinals=[3])
    identity = identity_of({})
    name = f"000000003-{job_digest(identity, job)}"
    assert read_job(job_records(job, identity)) == (Job(0, 0, queries(4), [5], ordinals=[3]), identity)
    for bad in ([], [{"event": "task"}], [{"event": "task", "identity": "x", "failures": 0}], [{"event": "task", "identity": "x", "failures": 0}, {"arch": 3}]):
        assert read_job(bad) is None
    other = Job(1, 0, queries(6), [5], ordinals=[3])
    done = outcome_records(other, [worker_judges.judge(other.queries[0], 1)])
    assert read_outcome(job, done) is None
    assert read_outcome(other, done[:1]) is None
    for bad in ([], [{"event": "done"}], [{"event": "what"}], [{"event": "trouble"}], [{}]):
        assert read_outcome(job, bad) is None
    trouble = Trouble("out of memory", True, 2.0, True, worker_judges.judge(job.queries[0], 1))
    assert read_outcome(job, outcome_records(job, trouble)) == trouble
    with Folder(place, {}, run_seed=0, **QUICK) as executor:
        list(executor.run([], []))
        (place / "answers" / f"{name}.00000000.jsonl").write_bytes(b"\x80\x04\x95 no journal")
        (place / "answers" / "readme.txt").write_text("not ours")
        executor._jobs[name] = (job, "00000000", 0.0)
        assert executor._answered() == []
        assert not (place / "answers" / f"{name}.00000000.jsonl").exists()
        assert (place / "answers" / "readme.txt").exists()
        executor.abandon()


def test_whoever_was_stopped_itself_has_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(folder.time, "monotonic", lambda: now[0])
    still = Still(2.0)
    assert still.seconds("a", 1) == 0
    for expected, passed in ((1.0, 1.0), (3.0, 3600.0), (4.0, 1.0)):
        now[0] += passed
        assert still.seconds("a", 1) == expected
    assert still.seconds("a", 2) == 0
    still.keep(set())
    now[0] += 1
    assert still.seconds("a", 2) == 0


def test_a_lease_is_longer_than_a_few_beats(place: Path) -> None:
    with pytest.raises(SettingError, match="at least three times"):
        Folder(place, {}, run_seed=0, beat=10, lease=20)


def test_a_job_over_its_time_is_ended(place: Path, tmp_path: Path, started) -> None:
    started.append(worker(place, "Sleeper", str(tmp_path)))
    with Folder(place, {}, run_seed=0, limit=0.3, **QUICK) as executor:
        (answer,) = executor.run([Query(queries(1)[0].arch)], [0])
    assert answer.reason == "its training took longer than the limit of 0.3 s"

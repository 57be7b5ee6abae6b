"""What fails because the machine fails is tried again, ends the run, and is never an answer about a network."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import worker_judges
from worker_judges import TROUBLES, Late, Troubled

from archduel.core import Arch, Journal, Query
from archduel.core.job import PROXY, Job
from archduel.core.storage import read_journal
from archduel.errors import MachineError, SettingError, StateError, machine_trouble, of_the_machine
from archduel.execution import Processes, Sequential, as_they_finish, processes, workers


def queries(*numbers: int) -> list[Query]:
    return [Query(Arch("s", (number,))) for number in numbers]


@pytest.mark.parametrize("how", sorted(TROUBLES))
def test_a_failure_of_the_machine_that_passes_leaves_no_trace(how: str, tmp_path: Path) -> None:
    here = Sequential(Troubled(tmp_path, how, 2).judge, run_seed=0)
    assert [e.score for e in here.run(queries(1, 10, 2), range(3))] == [1, 10, 2]


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGBUS", "disk", "memory", "gpu"])
def test_a_failure_in_a_worker_that_passes_leaves_no_trace(how: str, tmp_path: Path) -> None:
    with Processes(Troubled(tmp_path, how, 2), workers=2, run_seed=0) as executor:
        assert [e.score for e in executor.run(queries(1, 10, 2, 3), range(4))] == [1, 10, 2, 3]


@pytest.mark.parametrize("how", ["SIGKILL", "disk"])
def test_a_failure_that_stays_ends_the_run_without_a_record_and_the_same_call_goes_on(how: str, tmp_path: Path) -> None:
    asked, ordinals = queries(1, 10, 2), [5, 6, 7]
    judge = Troubled(tmp_path, how, 4)
    with Job(tmp_path / "job", PROXY, {"settings": {}}) as job:
        with Processes(judge, workers=1, run_seed=0) as executor, pytest.raises(MachineError, match="3 times in a row with s:10.*the same command"):
            list(job.paid(executor.run, asked, ordinals))
        assert [record["arch"] for record in job.journal.records if record["event"] == "estimate"] == ["s:1"]
    with Job(tmp_path / "job", PROXY, {"settings": {}}) as job, Processes(judge, workers=2, run_seed=0) as executor:
        assert [e.score for e in job.paid(executor.run, asked, ordinals)] == [1, 10, 2]


def test_what_a_network_does_to_its_process_twice_is_its_answer(tmp_path: Path) -> None:
    with Processes(Troubled(tmp_path, "SIGSEGV", 9), workers=1, run_seed=0) as executor:
        answers = list(executor.run(queries(1, 10, 2), range(3)))
    assert [e.failed for e in answers] == [False, True, False]
    assert "SIGSEGV" in answers[1].reason
    assert (tmp_path / "tried-10").stat().st_size == 2


def test_a_network_too_large_for_the_gpu_has_its_answer_once_others_were_trained(tmp_path: Path) -> None:
    with Processes(Troubled(tmp_path, "gpu", 9), workers=1, run_seed=0) as executor:
        answers = list(executor.run(queries(1, 10, 2), range(3)))
        assert [e.failed for e in answers] == [False, True, False]
        assert answers[1].reason.startswith("out of memory")
    with Processes(Troubled(tmp_path, "gpu", 99), workers=1, run_seed=0) as executor, pytest.raises(MachineError, match="out of memory"):
        list(executor.run(queries(11), [0]))


def test_a_group_in_which_the_machine_fails_is_judged_one_by_one(tmp_path: Path) -> None:
    with Processes(Troubled(tmp_path, "SIGKILL", 2), workers=2, run_seed=0, at_once=lambda waiting, seeds: 3) as executor:
        assert [e.score for e in executor.run(queries(1, 10, 2, 3), range(4))] == [1, 10, 2, 3]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not say what processes compute")
@pytest.mark.parametrize(("how", "times"), [("SIGSTOP", 1), ("sleep", 9)])
def test_a_worker_that_computes_nothing_is_ended(how: str, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LOOK_EVERY", 0.3)
    began = time.monotonic()
    with Processes(Troubled(tmp_path, how, times), workers=1, run_seed=0, idle=1) as executor:
        (answer,) = executor.run(queries(10), [0])
    assert time.monotonic() - began < 60
    if times == 1:
        assert answer.score == 10
    else:
        assert answer.reason == "its process computed nothing for 1 s"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not say what processes compute")
def test_a_worker_that_computes_without_an_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LOOK_EVERY", 0.2)
    monkeypatch.setattr(processes, "STUCK", 0.02)
    with Processes(Troubled(tmp_path, "spin", 9), workers=1, run_seed=0, idle=30) as executor:
        answers = list(executor.run(queries(1, 10, 2), range(3)))
    assert [e.score for e in answers if not e.failed] == [1, 2]
    assert answers[1].reason.startswith("its process computed for ")
    assert answers[1].reason.endswith("and got no further: no batch was finished")
    monkeypatch.setattr(processes, "PROC", tmp_path)  # as where there is none: the pulse says it as well
    with Processes(Troubled(tmp_path / "again", "spin", 9), workers=1, run_seed=0, idle=30) as executor:
        (tmp_path / "again").mkdir()
        assert next(executor.run(queries(10), [0])).reason.startswith("its process computed ")


class Looked:
    """A watch over numbers that a test turns, on a clock that it turns too."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **given: Any) -> None:
        monkeypatch.setattr(processes, "PROC", folder)
        monkeypatch.setattr(processes.time, "monotonic", lambda: self.now)
        self.now, self.pulse = 0.0, [0.0, 0.0]
        self.watch = processes.Watch(1, 10.0, self.pulse, **given)

    def after(self, seconds: float, computed: float = 0.0, batches: int = 0) -> bool:
        self.now += seconds
        self.pulse[0] += batches
        self.pulse[1] += computed
        return self.watch.hangs()


def test_a_pulse_tells_of_waiting_and_of_computing_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Looked(tmp_path, monkeypatch)
    assert not any(one.after(2, 2, 1) for _ in range(500))
    assert not any(one.after(2) for _ in range(49))
    assert one.after(2)  # a hundred seconds: ten times the limit, since what it shows may be late
    assert one.watch.reason == "its process computed nothing for 100 s"
    one = Looked(tmp_path, monkeypatch)
    assert not any(one.after(2, 2) for _ in range(50))
    assert one.after(2, 2)
    assert one.watch.reason == "its process computed for 100 s and got no further: no batch was finished"
    one = Looked(tmp_path, monkeypatch, threads=3)
    assert not any(one.after(2, 6) for _ in range(50))
    assert one.after(2, 6)


def test_a_batch_may_take_twenty_times_as_long_as_the_longest_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Looked(tmp_path, monkeypatch)
    assert not any(one.after(2, 10, batches=int(n == 4)) for n in range(5))
    assert not any(one.after(2, 10, batches=int(n % 5 == 4)) for n in range(50))  # fifty seconds a batch
    assert not any(one.after(2, 10) for _ in range(99))
    assert one.after(2, 10)  # a thousand


def test_without_pulse_and_without_proc_nothing_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PROC", tmp_path)
    watch = processes.Watch(1, 0.0, None)
    assert not any(watch.hangs() for _ in range(5))


def test_a_worker_that_dies_before_it_is_ready_is_started_again(tmp_path: Path) -> None:
    with Processes(Late(tmp_path, 2), workers=1, run_seed=0) as executor:
        (answer,) = executor.run(queries(1), [0])
        assert answer.score == 1
    with Processes(Late(tmp_path, 99), workers=1, run_seed=0) as executor, pytest.raises(MachineError, match="SIGKILL .* before it was ready"):
        list(executor.run(queries(1), [0]))


def in_a_pool(number: int) -> list[float]:
    with Processes(worker_judges.quick_factory, workers=1, run_seed=0) as executor:
        return [len(e.values) for e in executor.run(queries(number), [0])]


def test_a_worker_of_somebody_elses_pool_has_workers_too() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(in_a_pool, [3]) == [[1]]


def test_a_script_from_standard_input_has_workers() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import worker_judges\nfrom archduel.core import Arch, Query\nfrom archduel.execution import Processes, as_they_finish\n"
        "with Processes(worker_judges.quick_factory, workers=1, run_seed=0) as executor:\n"
        "    print(len(list(executor.run([Query(Arch('s', (1,)))], [0]))))\n"
        "print(list(as_they_finish(abs, [(-3,)], workers=1)))\n"
    )
    done = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "1\n[3]\n"), done.stderr


def dies_once(folder: str, number: int) -> int:
    path = Path(folder) / f"{number}"
    first = not path.exists()
    path.touch()
    if number == 2 and first:
        os._exit(137)
    return number


def dies(number: int) -> int:
    os._exit(1)


def test_jobs_of_a_pool_whose_process_is_ended_are_done_again(tmp_path: Path) -> None:
    assert sorted(as_they_finish(dies_once, [(str(tmp_path), n) for n in range(5)], workers=2)) == [0, 1, 2, 3, 4]
    with pytest.raises(MachineError, match="3 times in a row"):
        list(as_they_finish(dies, [(1,)], workers=1))


def test_no_more_processes_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(multiprocessing.get_context("spawn").Process, "start", none)
    with Processes(worker_judges.quick_factory, workers=1, run_seed=0) as executor, pytest.raises(MachineError, match="cannot be started"):
        list(executor.run(queries(1), [0]))


@pytest.mark.parametrize(
    ("error", "machine"),
    [
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"), False),
        (ValueError("one is too few"), False),
        (StateError("nothing was told yet"), False),
        (SettingError("too large"), False),
        (ZeroDivisionError(), False),
        (KeyError("out of memory"), False),
        (RuntimeError("CUDA out of memory. Tried to allocate 9 GiB"), True),
        (RuntimeError("unable to open shared memory object </torch_1> in read-write mode: No space left on device (28)"), True),
        (RuntimeError("[enforce fail at inline_container.cc:626] . unexpected pos 64 vs 0: file write failed"), True),
        (TimeoutError(), True),
        (BrokenPipeError(), True),
        (FileNotFoundError("the disk is gone"), True),
    ],
    ids=str,
)
def test_whose_failure_it_is(error: Exception, machine: bool) -> None:
    assert of_the_machine(error) is machine
    with pytest.raises(MachineError if machine else type(error)), machine_trouble("training s:1"):
        raise error


def test_an_error_that_is_its_own_cause_is_looked_at_once() -> None:
    error = ValueError("round")
    error.__cause__ = error
    assert not of_the_machine(error)


def test_a_flipped_digit_of_a_score_is_noticed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append({"event": "note", "score": 0.125})
    journal.append({"event": "note", "score": math.nan})
    journal.close()
    assert json.loads((tmp_path / "j.jsonl").read_text().splitlines()[0])["score"] == 0.125
    assert len(read_journal(tmp_path / "j.jsonl")) == 2
    text = (tmp_path / "j.jsonl").read_text()
    (tmp_path / "j.jsonl").write_text(text.replace("0.125", "0.135"))
    with pytest.raises(RuntimeError, match="line 1 is damaged .it is not as it was written"):
        read_journal(tmp_path / "j.jsonl")

"""Too little memory: a group is halved, the halved size is remembered, and a network that does not fit alone has its verdict."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import worker_judges
from test_executors import queries
from worker_judges import TROUBLES, Fits

from archduel.core import Estimate, Executor
from archduel.core.job import PROXY, Job
from archduel.errors import MachineError, short_of_memory
from archduel.estimators.judges import HALVED, Groups
from archduel.execution import Folder, Processes, Sequential, processes, workers

MEMORY = ["memory", "allocator", "cuda"]
ASKED, ORDINALS = queries(*range(12)), list(range(12))


def groups(n: int = 8) -> Groups:
    return Groups(n, SimpleNamespace(default="label"))  # type: ignore[arg-type]


def halvings(job: Job) -> list[tuple[str, int, int]]:
    return [(record["fidelity"], record["was"], record["at_once"]) for record in job.journal.records if record["event"] == HALVED]


def here(how: str, most: int, sizes: Groups) -> Executor:
    return Sequential(Fits(how, most)(), run_seed=0, at_once=sizes)


def there(how: str, most: int, sizes: Groups) -> Executor:
    return Processes(Fits(how, most), workers=2, run_seed=0, at_once=sizes)


@pytest.mark.parametrize("how", MEMORY)
@pytest.mark.parametrize("made", [here, there])
def test_a_group_is_halved_until_it_fits_and_that_is_remembered(made: Any, how: str, tmp_path: Path) -> None:
    heard: list[str] = []
    with Job(tmp_path / "job", PROXY, {"settings": {}}) as job:
        sizes = groups()
        sizes.remember(job, heard.append)
        executor = made(how, 3, sizes)
        answers = list(job.paid(executor.run, ASKED, ORDINALS))
        assert [e.score for e in answers] == ORDINALS
        assert all(e.values["n"] <= 2 for e in answers)
        assert halvings(job) == [("label", 8, 4), ("label", 4, 2)]
        reasons = [record["reason"] for record in job.journal.records if record["event"] == HALVED]
        assert all("memory" in reason.lower() for reason in reasons)
        assert heard == [f"{n} networks at once take more memory than there is: from now on {n // 2}" for n in (8, 4)]
        more = list(executor.run(queries(*range(20, 24)), range(20, 24)))  # a later window begins with what is known
        assert [e.values["n"] for e in more] == [2, 2, 2, 2]
        executor.close()
    with Job(tmp_path / "job", PROXY, {"settings": {}}) as job:  # and so does a run that goes on
        sizes = groups()
        sizes.remember(job)
        executor = made(how, 3, sizes)
        assert [e.values["n"] for e in executor.run(queries(30, 31, 32), [30, 31, 32])] == [2, 2, 1]
        assert len(halvings(job)) == 2
        executor.close()


def joined(place: Path) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("run_joined.py")
    return subprocess.Popen([sys.executable, str(script), str(place), "two_fit", "1"], stdout=subprocess.PIPE, text=True)


def test_a_control_is_done_though_its_answer_lies_in_the_folder(tmp_path: Path) -> None:
    process = joined(tmp_path / "work")
    with Folder(tmp_path / "work", {"a": 1}, run_seed=0, beat=0.2, lease=5.0) as executor:
        large, small = executor.run(queries(100, 1), [0, 1])  # the second one is answered while the first is tried again
    assert large.reason.startswith("out of memory: ")
    assert small.score == 1
    (tmp_path / "result.json").write_text("{}")
    output, _ = process.communicate(timeout=60)
    assert output.split() == ["done", "5"]  # three times the first, the second, and that again


def test_workers_that_joined_a_folder_have_smaller_groups_too(tmp_path: Path) -> None:
    place, sizes = tmp_path / "work", groups(4)
    process = joined(place)
    with Folder(place, {"a": 1}, run_seed=0, beat=0.2, lease=1.0, at_once=sizes) as executor:
        assert [(e.score, e.values["n"]) for e in executor.run(ASKED[:6], ORDINALS[:6])] == [(n, 2) for n in range(6)]
    assert sizes.most == {"label": 2}
    (tmp_path / "result.json").write_text("{}")
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_groups_that_were_under_way_are_not_counted_twice() -> None:
    sizes, heard = groups(), list[dict[str, Any]]()
    sizes.noted = lambda **values: heard.append(values)
    for _ in range(3):  # three workers had eight each
        sizes.shrink(ASKED[:8], "out of memory")
    assert sizes.most == {"label": 4}
    sizes.shrink(ASKED[:3], "out of memory")  # the rest of a window
    sizes.shrink(ASKED[:2], "out of memory")
    sizes.shrink(ASKED[:1], "out of memory")
    assert sizes.most == {"label": 1}
    assert [each["at_once"] for each in heard] == [4, 2, 1]


@pytest.mark.parametrize("how", MEMORY)
def test_a_network_that_does_not_fit_alone_is_infeasible_while_another_does(how: str) -> None:
    executor = there(how, 4, groups(4))
    answers = list(executor.run(queries(1, 2, 3, 100, 4, 5), range(6)))
    executor.close()
    assert [e.score for e in answers if not e.failed] == [1, 2, 3, 4, 5]
    assert math.isnan(answers[3].score)
    assert answers[3].reason.startswith("out of memory: ")


def test_one_process_alone_makes_no_such_verdict() -> None:
    with pytest.raises(MachineError, match="3 times in a row with s:100"):
        list(here("memory", 4, groups(4)).run(queries(1, 2, 100), range(3)))


def test_several_in_a_row_that_do_not_fit_have_their_verdicts() -> None:
    executor = there("memory", 4, groups(4))
    answers = list(executor.run(queries(1, 100, 101), range(3)))
    executor.close()
    assert [e.failed for e in answers] == [False, True, True]


def test_a_machine_that_others_fill_meanwhile_makes_no_verdicts(tmp_path: Path) -> None:
    for name, n in (("here", 0), ("there", 2)):
        judge = Fits("memory", 4, tmp_path / name)
        executor: Any = Processes(judge, workers=n, run_seed=0) if n else Sequential(judge(), run_seed=0)
        found = list[Estimate]()
        with pytest.raises(MachineError, match="3 times in a row"):
            found.extend(executor.run(queries(1, 2, 3, 100, 4), range(5)))
        executor.close()
        assert [e.score for e in found] == [1, 2, 3][: len(found)]  # which of them were through when it was full


@pytest.mark.parametrize("made", [here, there])
def test_where_nothing_fits_it_is_the_machine(made: Any) -> None:
    executor = made("memory", 4, groups(2))
    with pytest.raises(MachineError, match="3 times in a row with s:10[01]"):
        list(executor.run(queries(100, 101), [0, 1]))
    executor.close()


def test_a_process_that_the_system_ended_for_memory_is_such_a_case_and_one_that_somebody_killed_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = itertools.count()
    monkeypatch.setattr(workers, "memory_kills", lambda: next(counted))  # rises between any two looks
    sizes = groups()
    with Processes(Fits("SIGKILL", 3), workers=1, run_seed=0, at_once=sizes) as executor:
        answers = list(executor.run([*ASKED[:8], *queries(100)], range(9)))
    assert sizes.most == {"label": 2}
    assert answers[8].reason.startswith("out of memory: the worker process was ended by signal SIGKILL")
    monkeypatch.setattr(workers, "memory_kills", lambda: 7)
    sizes = groups()
    with Processes(Fits("SIGKILL", 3), workers=1, run_seed=0, at_once=sizes) as executor:
        assert [e.values["n"] for e in executor.run(ASKED[:8], range(8))] == [1] * 8
    assert sizes.most == {}


def test_what_the_system_says_of_processes_that_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PROC", tmp_path)
    assert processes.memory_kills() == 0
    (tmp_path / "vmstat").write_text("oom_kill_other 3\noom_kill 12\nnuma_hit 5\n")
    assert processes.memory_kills() == 12


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (MemoryError(), True),
        (OSError(12, "Cannot allocate memory"), True),
        (OSError(28, "No space left on device"), False),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate 64 bytes."), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("could not create a primitive descriptor for a convolution forward propagation primitive"), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("unable to open shared memory object </torch_1>"), False),
        (MachineError("the machine is full"), False),
        (ValueError("out of memory"), False),
        (None, False),
    ],
    ids=repr,
)
def test_what_tells_of_too_little_memory(error: Exception | None, short: bool) -> None:
    assert short_of_memory(error) is short
    wrapped = MachineError("training s:1 failed")
    wrapped.__cause__ = error
    assert short_of_memory(wrapped) is short


def test_errors_of_memory_are_those_that_are_tried_again() -> None:
    assert all(short_of_memory(TROUBLES[how]) for how in MEMORY)
    assert worker_judges.Fits("memory", 1)()(queries(3)[0], 0).score == 3

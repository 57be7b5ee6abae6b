"""Executors: order, seeds, failures, deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import worker_judges

from archduel.core import Arch, Executor, Query, evaluation_seed
from archduel.errors import MachineError, RunError, SettingError
from archduel.execution import Processes, Sequential


def queries(*numbers: int) -> list[Query]:
    return [Query(Arch("s", (number,))) for number in numbers]


def check_failures(executor: Executor) -> None:
    """An executor of ``faulty_factory`` says of each failure whose it is, and gives up where the machine fails again and again."""
    answers = list(executor.run(queries(4, 1, 2, 3, 5), range(5)))
    assert [e.score for e in answers if not e.failed] == [4, 5]
    assert answers[1].reason == "ValueError: one is too few"
    assert "signal SIGSEGV" in answers[2].reason
    assert "cannot be sent" in answers[3].reason
    with pytest.raises(MachineError, match="3 times in a row with s:8"):
        list(executor.run(queries(8), [9]))


def alive(process: int) -> bool:
    """Whether a process is there and not just waiting to be buried."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(condition, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(scope="module")
def two():
    with Processes(worker_judges.factory, workers=2, run_seed=3) as executor:
        yield executor


def test_the_answers_do_not_depend_on_the_number_of_workers(two) -> None:
    asked, ordinals = queries(0, 9, 1, 8, 2, 7), [10, 11, 12, 13, 14, 15]
    local = list(Sequential(worker_judges.judge, run_seed=3).run(asked, ordinals))
    with Processes(worker_judges.factory, workers=1, run_seed=3) as executor:
        one = list(executor.run(asked, ordinals))
    both = list(two.run(asked, ordinals))
    assert [e.score for e in one] == [e.score for e in both] == [e.score for e in local]
    assert [int(e.score) for e in both] == [evaluation_seed(3, ordinal) for ordinal in ordinals]
    assert len({e.values["worker"] for e in one}) == 1
    assert len({e.values["worker"] for e in both}) == 2
    assert both[0].cost.images == 10


def test_workers_are_kept_and_an_abandoned_run_does_no_harm(two) -> None:
    first = {e.values["worker"] for e in two.run(queries(*range(6)), range(6))}
    next(iter(two.run(queries(1, 2, 3, 4), [90, 91, 92, 93])))
    later = list(two.run(queries(5, 6), [7, 8]))
    assert [int(e.score) for e in later] == [evaluation_seed(3, 7), evaluation_seed(3, 8)]
    assert {e.values["worker"] for e in later} <= first
    assert list(two.run([], [])) == []


def test_a_worker_that_dies_between_two_runs_is_replaced_without_harm() -> None:
    with Processes(worker_judges.quick_factory, workers=1, run_seed=3) as executor:
        (before,) = executor.run(queries(1), [0])
        os.kill(before.values["worker"], signal.SIGKILL)
        assert eventually(lambda: not alive(before.values["worker"]))
        (after,) = executor.run(queries(1), [1])
        assert after.score == evaluation_seed(3, 1)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped here")
def test_a_query_that_a_dying_worker_never_saw_is_given_to_the_next_one() -> None:
    with Processes(worker_judges.quick_factory, workers=1, run_seed=3) as executor:
        (before,) = executor.run(queries(1), [0])
        worker = before.values["worker"]
        os.kill(worker, signal.SIGSTOP)  # its pipe takes the query, nobody reads it
        killing = threading.Timer(0.3, os.kill, (worker, signal.SIGKILL))
        killing.start()
        (after,) = executor.run(queries(1), [1])
        killing.join()
        assert after.score == evaluation_seed(3, 1)
        assert after.values["worker"] != worker


def test_failures_are_estimates_with_a_reason() -> None:
    with Processes(worker_judges.faulty_factory, workers=2, run_seed=0) as executor:
        for _ in range(2):
            answers = list(executor.run(queries(4, 1, 2, 3, 5, 2, 6), range(7)))
            assert [e.score for e in answers if not e.failed] == [4, 5, 6]
            assert answers[1].reason == "ValueError: one is too few"
            assert "signal SIGSEGV" in answers[2].reason
            assert "SIGSEGV" in answers[5].reason
            assert "cannot be sent" in answers[3].reason
    (local,) = Sequential(worker_judges.faulty, run_seed=0).run(queries(1), [0])
    assert local.reason == "ValueError: one is too few"
    assert local.failed


def test_a_group_that_fails_is_judged_one_by_one() -> None:
    asked = queries(4, 5, 6, 1, 5, 2, 6, 7)
    with Processes(worker_judges.Together, workers=2, run_seed=0, at_once=lambda waiting, seeds: min(2, len(waiting))) as executor:
        answers = list(executor.run(asked, range(8)))
    assert [e.values.get("n") for e in answers] == [2, 2, None, None, None, None, 2, 2]
    assert [e.score for e in answers if not e.failed] == [4, 5, 6, 5, 6, 7]
    assert answers[3].reason == "ValueError: one is too few"
    assert "signal SIGSEGV" in answers[5].reason
    alone = list(Sequential(worker_judges.Together(), run_seed=0, at_once=lambda waiting, seeds: 3).run(asked[:4], range(4)))
    assert [e.values.get("n") for e in alone] == [3, 3, 3, None]


def test_threads_of_a_worker() -> None:
    with Processes(worker_judges.threads_factory, workers=1, run_seed=0, threads=2) as executor:
        (answer,) = executor.run(queries(0), [0])
    assert answer.score == 2
    assert answer.values == {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}


@pytest.mark.parametrize(("factory", "message"), [("broken_factory", "no images here"), ("dying_factory", "exit code 7")])
def test_workers_that_cannot_start_are_an_error(factory: str, message: str) -> None:
    with Processes(getattr(worker_judges, factory), workers=2, run_seed=0) as executor, pytest.raises(RunError, match=message):
        list(executor.run(queries(1), [0]))


@pytest.mark.parametrize("settings", [{"workers": 0}, {"workers": 1, "threads": 0}])
def test_impossible_settings(settings: dict[str, int]) -> None:
    with pytest.raises(SettingError, match="at least 1"):
        Processes(worker_judges.factory, run_seed=0, **settings)


def test_close_ends_workers_in_the_middle_of_their_work(tmp_path: Path) -> None:
    executor = Processes(worker_judges.Sleeper(tmp_path), workers=2, run_seed=0)
    running = executor.run(queries(0, 1), [0, 1])
    assert next(running).score == 0
    assert eventually(lambda: any(tmp_path.iterdir()))
    worker = int(next(tmp_path.iterdir()).name)
    executor.close()
    assert not alive(worker)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent_however_it_ends(number: signal.Signals, tmp_path: Path) -> None:
    script = Path(__file__).with_name("run_sleepers.py")
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    assert eventually(lambda: len(list(tmp_path.iterdir())) == 2)
    workers = [int(path.name) for path in tmp_path.iterdir()]
    if number == signal.SIGINT:
        os.killpg(parent.pid, number)  # as a terminal does
    else:
        parent.send_signal(number)
    output, _ = parent.communicate(timeout=60)
    assert eventually(lambda: not any(alive(worker) for worker in workers))
    if number == signal.SIGINT:
        assert (parent.returncode, output) == (0, "interrupted\n")


UNGUARDED = """
import sys
sys.path.insert(0, {folder!r})
from functools import partial
import worker_judges
{own}
from archduel.core import Arch, Query
from archduel.execution import Processes

print("script", flush=True)
with Processes({factory}, workers=2, run_seed=0) as executor:
    print(len(list(executor.run([Query(Arch("s", (i,))) for i in range(3)], range(3)))))
"""


def run_script(path: Path, own: str, factory: str) -> subprocess.CompletedProcess[str]:
    path.write_text(UNGUARDED.format(folder=str(Path(__file__).parent), own=own, factory=factory))
    return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=30)


def test_a_script_needs_no_guard_around_what_starts_workers(tmp_path: Path) -> None:
    done = run_script(tmp_path / "script.py", "", "partial(worker_judges.ignoring, bytes(1_000_000))")
    assert (done.returncode, done.stdout) == (0, "script\n3\n"), done.stderr


def test_a_script_with_a_factory_of_its_own_is_told_that_it_needs_one(tmp_path: Path) -> None:
    own = "def own(data): return worker_judges.judge"
    done = run_script(tmp_path / "script.py", own, "partial(own, bytes(1_000_000))")
    assert done.returncode == 1
    assert "needs `if __name__ == '__main__':`" in done.stderr.splitlines()[-1]

"""Tasks of a Ray cluster of two nodes: the same answers, whatever dies, and each thing that cannot be said at once and clearly."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import worker_judges
from test_executors import check_failures, eventually, queries

from archduel.core import evaluation_seed
from archduel.errors import MachineError, RunError
from archduel.execution import RayTasks, Sequential, cluster

ray = pytest.importorskip("ray", reason="tests of the executor ray need Ray: pip install 'archduel[ray]'")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # of files of Ray's own
HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    """A cluster of two nodes with one CPU each, as two machines would be."""
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([HERE, *filter(None, [before])])  # what a machine of a cluster has installed
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()
    os.environ["PYTHONPATH"] = before


@pytest.fixture
def tasks(two_nodes: Any) -> Iterator[Any]:
    """Returns executors on the cluster, closed at the end."""
    made: list[RayTasks] = []

    def make(factory: Any, **given: Any) -> RayTasks:
        made.append(RayTasks(factory, address=two_nodes.address, **{"run_seed": 0, **given}))
        return made[-1]

    yield make
    for executor in made:
        executor.close()


def test_answers_are_those_of_one_process_from_both_nodes(tasks: Any) -> None:
    asked, ordinals = queries(0, 9, 1, 8, 2, 7), [10, 11, 12, 13, 14, 15]
    local = list(Sequential(worker_judges.judge, run_seed=3).run(asked, ordinals))
    said: list[str] = []
    executor = tasks(worker_judges.factory, run_seed=3, say=said.append)
    both = list(executor.run(asked, ordinals))
    assert [e.score for e in both] == [e.score for e in local]
    assert len({e.values["worker"] for e in both}) == 2
    assert said == ["Ray: 2 nodes, 2 trainings at a time"]
    assert list(executor.run([], [])) == []
    again = list(executor.run(asked[:2], [20, 21]))
    assert [int(e.score) for e in again] == [evaluation_seed(3, 20), evaluation_seed(3, 21)]
    # nothing outlives the driver but the cluster itself
    executor.close()
    assert eventually(lambda: not any(Path(f"/proc/{e.values['worker']}").exists() for e in both))
    assert [int(e.score) for e in executor.run(asked[:1], [20])] == [evaluation_seed(3, 20)]


def test_groups_are_one_task(tasks: Any) -> None:
    executor = tasks(worker_judges.Together, at_once=lambda queries, seeds: 3)
    answers = list(executor.run(queries(4, 5, 6, 7, 2, 9), range(6)))
    # the group with a 2 kills its process, and is judged one by one
    assert [e.values.get("n") for e in answers] == [3, 3, 3, None, None, None]
    assert [e.score for e in answers if not e.failed] == [4, 5, 6, 7, 9]
    assert "signal SIGSEGV" in answers[4].reason


def test_failures_are_whose_they_are_and_no_task_is_run_again_behind_our_back(tasks: Any, tmp_path: Path) -> None:
    check_failures(tasks(worker_judges.faulty_factory))
    killed = tasks(worker_judges.Troubled(tmp_path, "SIGKILL", 99))
    with pytest.raises(MachineError, match="3 times in a row with s:10"):
        list(killed.run(queries(10), [0]))
    assert (tmp_path / "tried-10").stat().st_size == 3


def test_a_process_of_ray_that_is_killed_costs_an_attempt_and_nothing_else(tasks: Any, tmp_path: Path) -> None:
    executor = tasks(worker_judges.Once(tmp_path))
    running = executor.run(queries(0, 1), range(2))
    assert next(running).score == 0
    assert eventually(lambda: (tmp_path / "tried-1").exists())
    for process in _of_ray():
        os.kill(process, signal.SIGKILL)
    assert next(running).score == 1
    assert (tmp_path / "tried-1").stat().st_size == 2


def _of_ray() -> list[int]:
    """Returns the processes of Ray that do a task of ours, each in a process of its own below."""
    parents, tasks = set(), set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents.add(int((folder / "stat").read_text().rpartition(")")[2].split()[1]))
            if (folder / "cmdline").read_bytes().startswith(b"ray::"):
                tasks.add(int(folder.name))
    return sorted(parents & tasks)


def test_a_task_over_its_time_or_that_computes_nothing_is_ended(tasks: Any, tmp_path: Path) -> None:
    (answer,) = tasks(worker_judges.Sleeper(tmp_path), limit=0.3).run(queries(1), [0])
    assert answer.reason == "its training took longer than the limit of 0.3 s"


def test_threads_are_those_of_the_run(tasks: Any) -> None:
    (answer,) = tasks(worker_judges.threads_factory, threads=2).run(queries(1), [0])
    assert answer.score == 2
    assert set(answer.values.values()) == {"2"}


def test_a_new_run_drops_what_an_unfinished_one_waits_for(tasks: Any, tmp_path: Path) -> None:
    executor = tasks(worker_judges.Sleeper(tmp_path))
    running = executor.run(queries(0, 1, 2), range(3))
    assert next(running).score == 0
    assert eventually(lambda: len(list(tmp_path.iterdir())) == 2)
    assert [e.score for e in executor.run(queries(0, 0), [5, 6])] == [0, 0]


def test_a_node_that_dies_and_one_that_comes(two_nodes: Any, tasks: Any, tmp_path: Path) -> None:
    node = two_nodes.add_node(num_cpus=1, resources={"third": 1})
    executor = tasks(worker_judges.Once(tmp_path))
    running = executor.run(queries(1, 2, 3), range(3))
    waiting = threading.Thread(target=lambda: answers.extend(running))
    answers: list[Any] = []
    waiting.start()
    assert eventually(lambda: len(list(tmp_path.iterdir())) == 3)
    two_nodes.remove_node(node, allow_graceful=False)
    for process in _of_ray():
        os.kill(process, signal.SIGKILL)
    waiting.join(60)
    assert [e.score for e in answers] == [1, 2, 3]


# -- what cannot be -------------------------------------------------------------------------------------------------------


def test_what_no_node_has_is_named(tasks: Any) -> None:
    began = time.monotonic()
    with pytest.raises(RunError, match=r"for 1 s no node .* has had the 1 CPUs and 2 GPUs that a task needs \(there: .* 1 CPUs 0 GPUs; .*--gpus-per-task"):
        list(tasks(worker_judges.factory, gpus=2, patience=1).run(queries(1), [0]))
    assert time.monotonic() - began < 20


def test_a_node_that_cannot_is_named_before_anything_is_computed(tasks: Any, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"(?s)on .*: .*no images here"):
        list(tasks(worker_judges.broken_factory).run(queries(1), [0]))
    with pytest.raises(RunError, match=r"(?s)on .*: .*archduel is 1 here, 9 there"):
        list(tasks(worker_judges.DiffersOnce(tmp_path)).run(queries(1), [0]))


def test_a_node_without_archduel(tasks: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "only_here.py").write_text("def judge_here(setup, records):\n    return []\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(cluster, "judge_here", __import__("only_here").judge_here)
    executor = tasks(worker_judges.factory)
    executor._connect()
    (tmp_path / "only_here.py").unlink()
    with pytest.raises(RunError, match="archduel cannot be used there: ModuleNotFoundError: No module named 'only_here'"):
        list(executor.run(queries(1), [0]))


def test_an_address_where_nothing_or_something_else_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ANSWERS_IN", 2.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
            began = time.monotonic()
            with pytest.raises(RunError, match=f"nothing answers at {address} .*ray start --head"):
                list(RayTasks(worker_judges.factory, run_seed=0, address=address).run(queries(1), [0]))
            assert time.monotonic() - began < 10
        free.listen()
        with pytest.raises(RunError, match="is no Ray that works"):
            list(RayTasks(worker_judges.factory, run_seed=0, address=f"127.0.0.1:{port}").run(queries(1), [0]))

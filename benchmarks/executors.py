"""Executors: the same journal whatever is killed, what a task costs, how busy many workers are.

    pip install 'archduel[ray]'
    python benchmarks/executors.py kills --out benchmarks/records/executor_kills.json
    python benchmarks/executors.py overhead efficiency driver --out benchmarks/records/executors.json

``kills``: a search in three stages (16 labels by evolution with 4 asked for at a time, 4 trainings again, 4 final ones) whose trainings sleep is
started with every executor; after a random share of its time a process of it is killed with SIGKILL, and where that was the driver (or took it along) the same
command goes on. Its journal must be that of an uninterrupted ``local`` one, times aside, byte by byte. The cluster of Ray has two nodes of one CPU, each with a raylet of its own.

``overhead``: 1,000 tasks that do nothing. ``efficiency``: tasks of one second of sleep on N workers, 4 N of them (``--each``) in one window, after one warm round:
the time that N workers need at least, over the time that it took. ``real``: trainings of small cells with one process and with two, in turn. ``driver``: a journal of 100,000 entries is opened; the driver's memory while it is handed 2,000 tasks in windows of 16.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kills import timeless
from recording import write_record
from sleeping import KINDS, executor, queries

from archduel import environment
from archduel.core.storage import Journal, estimate_record

SCRIPT = Path(__file__).with_name("sleeping.py")
WARM = 60.0  # seconds for which a cluster is given tasks before anything is measured
SECONDS = 0.3  # that a task of a search that is killed sleeps
VICTIMS = {
    "local": ("driver",), "processes": ("driver", "worker"), "folder": ("driver", "worker", "training"),
    "ray": ("driver", "worker", "training", "raylet", "head"),
}  # fmt: skip


# -- processes --------------------------------------------------------------------------------------------------------------


def tree() -> dict[int, tuple[int, str]]:
    """Returns the parent and the command of every living process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(folder.name)] = int(parent), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


def below(number: int) -> list[int]:
    """Returns the processes that one started, and that those did; not those that only keep resources."""
    processes = tree()
    found = [n for n, (parent, words) in processes.items() if parent == number and "resource_tracker" not in words]
    return found + [each for child in found for each in below(child)]


class Two:
    """A Ray cluster of two nodes with one CPU each, or with as many as are asked for."""

    def __init__(self, cpus: int = 1) -> None:
        self.cpus, self.nodes = cpus, None
        self.start()

    def start(self) -> None:
        """Starts it; its address is in RAY_ADDRESS."""
        from ray.cluster_utils import Cluster

        self.nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": self.cpus, "include_dashboard": False})
        self.second = self.nodes.add_node(num_cpus=self.cpus)
        os.environ["RAY_ADDRESS"] = self.nodes.address

    def kill(self, head: bool) -> None:
        """Kills a raylet, and gives the cluster another one; with the head all is started anew."""
        (self.nodes.head_node if head else self.second).kill_raylet()
        if head:
            time.sleep(1)
            self.nodes.shutdown()
            self.start()
        else:
            self.second = self.nodes.add_node(num_cpus=self.cpus)

    def tasks(self) -> list[int]:
        """Returns the processes of Ray that do a task."""
        return [number for number, (_, words) in tree().items() if words.startswith("ray::judge_here")]


# -- kills ------------------------------------------------------------------------------------------------------------------


def started(kind: str, folder: Path) -> subprocess.Popen[bytes]:
    """Starts the driver, or the same command again."""
    with open(f"{folder}.log", "ab") as log:
        return subprocess.Popen([sys.executable, str(SCRIPT), "drive", kind, str(folder), str(SECONDS)], stdout=log, stderr=log)


def joined(folder: Path) -> subprocess.Popen[bytes]:
    """Starts a worker with one process that joins."""
    with open(f"{folder}.worker.log", "ab") as log:
        return subprocess.Popen([sys.executable, str(SCRIPT), "join", str(folder), "1"], stdout=log, stderr=log)


def journal(folder: Path) -> list[str]:
    """Returns the lines of a journal without what tells of time."""
    return [json.dumps(timeless(json.loads(line))) for line in (folder / "journal.jsonl").read_text().splitlines()]


def answered(folder: Path) -> int:
    """Returns how many answers the journal holds."""
    with contextlib.suppress(OSError):
        return (folder / "journal.jsonl").read_text().count('"event": "estimate"')
    return 0


def kill(victim: str, driver: subprocess.Popen[bytes], workers: list[subprocess.Popen[bytes]], cluster: Two | None, rng: random.Random) -> int:
    """Kills what is named; returns how many processes that were."""
    numbers: list[int] = []
    if victim == "driver":
        numbers = [driver.pid]
    elif cluster is not None and victim in ("raylet", "head"):
        cluster.kill(victim == "head")
        return 1
    elif cluster is not None:
        tasks = cluster.tasks()
        numbers = tasks if victim == "worker" else [each for task in tasks for each in below(task)]
    elif workers:
        numbers = [each.pid for each in workers] if victim == "worker" else [number for each in workers for number in below(each.pid)]
    else:
        numbers = below(driver.pid)
    for number in (chosen := rng.sample(numbers, min(1, len(numbers)))):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return len(chosen)


def trial(kind: str, victim: str, folder: Path, at: int, cluster: Two | None, rng: random.Random) -> dict[str, Any]:
    """Kills once, when so many answers are there, and lets it go on until it ends; returns what became of it."""
    began, workers = time.monotonic(), [joined(folder) for _ in range(2 if kind == "folder" else 0)]
    driver = started(kind, folder)
    while answered(folder) < at and driver.poll() is None:
        time.sleep(0.02)
    time.sleep(rng.uniform(0, SECONDS))
    stage = answered(folder)
    kills = kill(victim, driver, workers, cluster, rng)
    if kind == "folder" and victim == "worker":
        workers.append(joined(folder))
    commands = 1
    code = driver.wait(300)
    while code != 0 and commands < 5:
        commands += 1
        code = started(kind, folder).wait(300)
    for each in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            each.wait(30)
        each.kill()
    return {"executor": kind, "killed": victim, "answers before": stage, "kills": kills, "commands": commands, "exit code": code, "seconds": round(time.monotonic() - began, 1)}


def kills(folder: Path, n: int, kinds: list[str], victims: list[str], seed: int) -> Iterator[dict[str, Any]]:
    """Yields ``n`` trials of every executor and victim, compared with the journal of ``local`` left alone."""
    whole = folder / "whole"
    if started("local", whole).wait(300) != 0:
        raise SystemExit(f"the uninterrupted search failed; see {whole}.log")
    wanted = journal(whole)
    for kind in kinds:
        cluster = Two() if kind == "ray" else None
        for victim in (each for each in VICTIMS[kind] if each in victims):
            for number in range(n):
                rng = random.Random(f"{seed}/{kind}/{victim}/{number}")
                # one in each stage, in turn: labels, trainings again, final ones
                at = (rng.randint(1, 14), rng.randint(16, 18), rng.randint(20, 22))[number % 3]
                place = folder / f"{kind}-{victim}-{number}"
                record = trial(kind, victim, place, at, cluster, rng)
                yield {**record, "stage": ("labels", "reevaluate", "final")[number % 3], "equal": record["exit code"] == 0 and journal(place) == wanted}
        if cluster is not None:
            cluster.nodes.shutdown()


# -- what it costs ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def ready(kind: str, folder: Path, seconds: float, workers: int) -> Iterator[Any]:
    """Gives an executor whose workers are all there."""
    cluster = Two(-(-workers // 2)) if kind == "ray" else None
    worker = None
    if kind == "folder":
        with open(f"{folder}.worker.log", "ab") as log:
            worker = subprocess.Popen([sys.executable, str(SCRIPT), "join", str(folder), str(workers)], stdout=log, stderr=log)
    made = executor(kind, folder, seconds, workers)
    try:
        until = time.monotonic() + WARM * (kind == "ray")
        while True:  # processes start with the first; Ray starts its own one after the other, and gives tasks to those that are there
            list(made.run(queries(2 * workers), range(2 * workers)))
            if time.monotonic() >= until:
                break
        yield made
    finally:
        made.close()
        folder.mkdir(exist_ok=True)
        (folder / "result.json").write_text("{}")
        if worker is not None:
            worker.wait(60)
        if cluster is not None:
            cluster.nodes.shutdown()


def overhead(kind: str, folder: Path, n: int = 1000) -> dict[str, Any]:
    """Returns milliseconds a task that does nothing, in windows of 32 on two workers."""
    asked = queries(n)
    with ready(kind, folder, 0.0, 2) as made:
        began, cpu = time.perf_counter(), time.process_time()
        for first in range(0, n, 32):
            some = asked[first : first + 32]
            list(made.run(some, range(first, first + len(some))))
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"executor": kind, "n": n, "ms a task": round(1e3 * wall / n, 3), "driver's processor ms a task": round(1e3 * cpu / n, 3)}


def efficiency(kind: str, folder: Path, workers: int, each: int = 4) -> dict[str, Any]:
    """Returns the share of the time that workers of sleeping tasks were busy."""
    n = workers * each
    with ready(kind, folder, 1.0, workers) as made:
        began = time.perf_counter()
        list(made.run(queries(n), range(n)))
        took = time.perf_counter() - began
    load = [round(value, 1) for value in os.getloadavg()]
    return {"executor": kind, "workers": workers, "n": n, "seconds": round(took, 3), "efficiency": round(each / took, 4), "load": load}


def computed(numbers: list[int]) -> float:
    """Returns the processor seconds of processes so far."""
    ticks = 0
    for number in numbers:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def real(n: int, rounds: int = 3) -> Iterator[dict[str, Any]]:
    """Yields what ``n`` trainings of random NAS-Bench-201 cells on the digits took with one process and with two, in turn."""
    from search_fused import data_of, judge_of

    from archduel.core import Query
    from archduel.execution import Processes

    judge = judge_of(data_of("digits"), 8, 1, 4)
    asked = [Query(query.arch, "label") for query in queries(n)]
    for number in range(rounds):
        for workers in (1, 2):
            with Processes(judge, workers=workers, run_seed=0) as made:
                list(made.run(asked[: 2 * workers], range(900, 900 + 2 * workers)))  # processes start, libraries load
                others = [worker.process.pid for worker in made._workers]
                began, cpu, own = time.perf_counter(), computed(others), time.process_time()
                scores = [estimate.score for estimate in made.run(asked, range(n))]
                wall, cpu, own = time.perf_counter() - began, computed(others) - cpu, time.process_time() - own
            yield {
                "round": number, "workers": workers, "n": n, "seconds": round(wall, 2), "processor seconds": round(cpu, 2),
                "driver's processor seconds": round(own, 3), "sum of scores": round(sum(scores), 9), "load": [round(value, 1) for value in os.getloadavg()],
            }  # fmt: skip


def driver(folder: Path) -> dict[str, Any]:
    """Returns seconds to open a journal of 100,000 entries, and the driver's memory over 2,000 tasks in windows of 16."""
    from archduel.core import Cost, Estimate

    path, asked = folder / "journal.jsonl", queries(1000)
    folder.mkdir(parents=True)
    with contextlib.closing(Journal(path, fsync=False)) as journal:
        for number in range(100_000):
            journal.append(estimate_record(number, asked[number % 1000], Estimate(0.5, Cost(1.0, 10), {"params": 1000, "macs": 100_000})))
    times, cpu = [], []
    for _ in range(3):
        began, used = time.perf_counter(), time.process_time()
        with contextlib.closing(Journal(path)) as journal:
            assert len(journal.records) == 100_000
        times.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
        del journal
    appended, began = 300, time.perf_counter()
    with contextlib.closing(Journal(folder / "durable.jsonl")) as journal:
        for number in range(appended):
            journal.append(estimate_record(number, asked[number], Estimate(0.5, Cost(1.0, 10))))
    append = time.perf_counter() - began
    memory = []
    with ready("processes", folder / "run", 0.0, 2) as made:
        for first in range(0, 2000, 16):
            list(made.run(asked[first % 900 : first % 900 + 16], range(first, first + 16)))
            memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())
    return {
        "entries": 100_000, "seconds to open": round(statistics.median(times), 3), "processor seconds to open": round(statistics.median(cpu), 3), "n": len(times),
        "ms to append durably": round(1e3 * append / appended, 3), "memory after 160 tasks": memory[9], "memory after 2,000 tasks": memory[-1],
    }  # fmt: skip


def main() -> None:
    """Measures and writes the record, as far as it is, after every measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=("kills", "overhead", "efficiency", "real", "driver"))
    parser.add_argument("--executors", default=",".join(KINDS))
    parser.add_argument("--trials", type=int, default=3, help="kills of each executor and victim")
    parser.add_argument("--victims", default="driver,worker,training,raylet,head", help="what is killed")
    parser.add_argument("--workers", default="16,32,64")
    parser.add_argument("--each", type=int, default=4, help="tasks of a second for each worker")
    parser.add_argument("--trainings", type=int, default=48, help="of each round of ``real``")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    record: dict[str, Any] = json.loads(chosen.out.read_text()) if chosen.out.exists() else {}
    record["command"] = [*record.get("command", []), shlex.join(["python", *sys.argv])]
    kinds = chosen.executors.split(",")

    def keep(part: str, value: dict[str, Any]) -> None:
        """Writes one more measurement down."""
        print(json.dumps(value), flush=True)
        record.setdefault(part, []).append(value)
        some = record.get("kills", [])
        counts = {"number of kills": sum(r["kills"] for r in some), "equal journals": sum(r["equal"] for r in some), "searches": len(some)} if some else {}
        write_record(chosen.out, {**record, **counts, **environment(), "ray": _ray(), "load": os.getloadavg()})

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for part in chosen.parts:
            if part == "kills":
                for value in kills(folder, chosen.trials, kinds, chosen.victims.split(","), chosen.seed):
                    keep(part, value)
            elif part == "overhead":
                for kind in kinds:
                    keep(part, overhead(kind, folder / f"overhead-{kind}"))
            elif part == "efficiency":
                for workers in map(int, chosen.workers.split(",")):
                    for kind in (each for each in kinds if each != "local"):
                        keep(part, efficiency(kind, folder / f"efficiency-{kind}-{workers}", workers, chosen.each))
            elif part == "real":
                for value in real(chosen.trainings):
                    keep(part, value)
            else:
                keep(part, driver(folder / "driver"))


def _ray() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ray")
    except PackageNotFoundError:
        return "none"


if __name__ == "__main__":
    main()

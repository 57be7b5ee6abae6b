"""Kills small jobs at random moments with SIGKILL, lets the same command go on, and compares the results with those of jobs left alone.

    nice -n 19 python benchmarks/kills.py --trials 7 --out benchmarks/records/kills.json

Each job is started, killed after a random share of the time that an uninterrupted one takes (the program itself, or one of its workers), started
again, in every third trial killed once or twice more, and then started until it ends. What may differ is time: seconds, clocks and rates. All else, weights included, must be equal; no process may be
left, no half-written file, and no lock that keeps the next call out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recording import write_record

from archduel import environment

TIMES = {
    "clock", "seconds", "core_seconds", "cpu_seconds", "test_seconds", "images_per_second", "latency_ms", "command", "wall", "shares", "fit", "query",
    "train_loss", "ended", "cost", "share_of_reference", "provenance", "share", "speed", "costs", "time_share",
}  # fmt: skip
"""Names of values that tell of time. A mean training loss is of the steps since a training was opened."""
TINY = ["--set", "epochs=2", "--set", "channels=4", "--set", "depth=1"]


@dataclass(frozen=True)
class Job:
    """A small job.

    Attributes:
        words: of the command line; ``OUT`` stands for its place.
        result: file below the place (or the place itself) that holds the result.
        weights: files whose bytes must be equal.
        workers: whether it has worker processes that can be killed too.
    """

    words: tuple[str, ...]
    result: str
    weights: tuple[str, ...] = ()
    workers: bool = False


def jobs() -> dict[str, Job]:
    """Returns the jobs by name."""
    race = "search digits --race --evaluations 5 --max-images 240 --space stages --strategy evolution --max-params 20k --workers 1 --set race.last_epochs=14"
    alike = "search digits --evaluations 6 --max-images 240 --final-seeds 1 --workers 2 --no-baselines"
    for name, value in {
        "label.epochs": 1, "label.channels": 4, "label.depth": 1, "reevaluate.epochs": 2, "reevaluate.channels": 4, "reevaluate.depth": 1,
        "final.epochs": 2, "final.channels": 4, "final.depth": 1, "plan.iterations": 4, "plan.shortlist": 2, "plan.confirm": 2, "ranker.epochs": 20,
        "strategy.samples": 16, "plan.channels": 4, "plan.depth": 1,
    }.items():  # fmt: skip
        alike += f" --set {name}={value}"
    shared = alike.replace("--no-baselines", "--strategy spos")
    shared = shared.replace("--set strategy.samples=16", "--set strategy.epochs=2 --set strategy.batches=2 --set strategy.population=4 --set strategy.generations=2")
    shared = shared.replace("--set ranker.epochs=20 ", "")
    final = "networks/search-0/model.safetensors"
    return {
        "race": Job((*race.split(), "--out", "OUT"), "result.json", (final, "export/model.safetensors")),
        "search": Job((*alike.split(), "--out", "OUT"), "result.json", ("export/model.safetensors",), workers=True),
        "one-shot": Job((*shared.split(), "--out", "OUT"), "result.json", ("export/model.safetensors",), workers=True),
        "train": Job(("train", "nasbench201:1.2.3.4.0.1", "--data", "digits", "--out", "OUT", *TINY, "--set", "epochs=6"), "result.json", ("model.safetensors",)),
        "table": Job(("table", "train", "digits", "--cells", "5", "--seeds", "1", *TINY, "--workers", "1", "--out", "OUT.table"), "OUT.jsonl", workers=True),
        "bench": Job(
            ("bench", "search", "--table", "digits201", "--strategies", "random,evolution,best", "--queries", "20,40", "--runs", "6", "--workers", "0",
             "--json", "OUT.json"), "OUT.json",
        ),
        "bench-workers": Job(
            ("bench", "search", "--table", "digits201", "--strategies", "random,evolution,best", "--queries", "20,40", "--runs", "6", "--workers", "2",
             "--json", "OUT.json"), "OUT.json", workers=True,
        ),
        "find": Job(
            ("proxy", "find", "digits", "--time", "20m", "--cost", "macs", "--truth", "5", "--max-images", "480", "--samples", "2", *TINY,
             "--levels", "epochs=1,2", "--levels", "channels=2,4", "--levels", "depth=1", "--out", "OUT"), "proxies.json",
        ),
        "proxy": Job(
            ("proxy", "search", "digits", "--method", "random", "--steps", "5", "--max-images", "240", *TINY, "--out", "OUT"), "result.json",
        ),
    }  # fmt: skip


def place(job: Job, out: Path) -> Path:
    """Returns the file with the result of a job at ``out``."""
    return Path(job.result.replace("OUT", str(out))) if "OUT" in job.result else out / job.result


def timeless(value: Any) -> Any:
    """Returns a value without what tells of time."""
    if isinstance(value, dict):
        return {name: timeless(item) for name, item in value.items() if name not in TIMES and name != "crc32"}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def outcome(job: Job, out: Path) -> dict[str, Any]:
    """Returns what a finished job came to: its result without times, and the hashes of its weights."""
    path = place(job, out)
    if path.suffix == ".jsonl":
        lines = [timeless(json.loads(line)) for line in path.read_text().splitlines()]
        content: Any = sorted((line for line in lines if line.get("event") == "estimate"), key=lambda line: line["ordinal"])
    else:
        content = timeless(json.loads(path.read_text()))
    return {"result": content, **{name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in job.weights}}


def start(job: Job, out: Path) -> subprocess.Popen[bytes]:
    """Starts a job at ``out`` in a process group of its own."""
    words = [word.replace("OUT", str(out)) for word in job.words]
    with open(f"{out}.log", "ab") as log:
        return subprocess.Popen([sys.executable, "-m", "archduel", *words], stdout=log, stderr=log, start_new_session=True)


def group(leader: int) -> list[int]:
    """Returns the living processes of a group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, rest = stat.read_text().split(" ", 1)
        except OSError:
            continue
        state, _, own = rest.rpartition(")")[2].split()[:3]
        if int(own) == leader and state != "Z":
            found.append(int(number))
    return found


def killed(job: Job, out: Path, after: float, rng: random.Random, worker: bool) -> tuple[int, int]:
    """Kills a job after some seconds; returns how many processes were killed, and how many of its were left ten seconds later.

    A job whose worker was killed goes on with another one, or ends by itself.
    """
    process = start(job, out)
    try:
        process.wait(after)
        return 0, 0
    except subprocess.TimeoutExpired:
        pass
    others = [number for number in group(process.pid) if number != process.pid]
    if worker and others:
        os.kill(rng.choice(others), signal.SIGKILL)
        process.wait(600)
        return 1, 0
    process.kill()
    process.wait()
    end = time.monotonic() + 10
    while group(process.pid) and time.monotonic() < end:
        time.sleep(0.1)
    return 1, len(group(process.pid))


def trials(name: str, job: Job, n: int, folder: Path, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Yields what became of each job that was killed, compared with one that was left alone."""
    whole, began = folder / f"{name}-whole", time.monotonic()
    if start(job, whole).wait(900) != 0:
        raise SystemExit(f"{name}: the uninterrupted job failed; see {whole}.log")
    took, wanted = time.monotonic() - began, outcome(job, whole)
    for number in range(n):
        out, worker = folder / f"{name}-{number}", job.workers and number % 2 == 1
        moments, kills, left = [], 0, 0
        for again in range(1 if number % 3 else rng.randint(2, 3)):
            # later ones come earlier, since less is left to do; all come after the time that Python needs to start
            moments.append(took * rng.uniform(0.1, 0.98 / (1 + again)))
            more, leftover = killed(job, out, moments[-1], rng, worker)
            kills, left = kills + more, max(left, leftover)
        code = start(job, out).wait(900)
        equal = code == 0 and outcome(job, out) == wanted
        junk = [path.name for path in out.parent.rglob("*.tmp") if out.name in str(path)]
        yield {
            "job": name, "killed": "worker" if worker else "program", "after": [round(moment, 2) for moment in moments], "of": round(took, 2), "kills": kills,
            "processes left": left, "exit code": code, "equal": equal, "files left": junk,
        }  # fmt: skip


def main() -> None:
    """Kills every job some times and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", default=",".join(jobs()))
    parser.add_argument("--trials", type=int, default=7, help="of each job")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where jobs are left to look at; default a temporary one")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    records: list[dict[str, Any]] = []

    def write(at: Callable[[dict[str, Any]], bool]) -> int:
        """Returns how many trials are so."""
        return sum(at(record) for record in records)

    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in chosen.jobs.split(","):
            for record in trials(name, jobs()[name], chosen.trials, folder, random.Random(f"{chosen.seed}/{name}")):
                records.append(record)
                print(json.dumps(record), flush=True)
                write_record(chosen.out, {
                    "command": shlex.join(["python", *sys.argv]), "kills": sum(record["kills"] for record in records), "jobs": len(records),
                    "equal": write(lambda r: bool(r["equal"])), "left processes": write(lambda r: r["processes left"] > 0),
                    "left files": write(lambda r: bool(r["files left"])), "trials": records, **environment(),
                })  # fmt: skip


if __name__ == "__main__":
    main()

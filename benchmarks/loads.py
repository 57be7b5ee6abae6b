"""Large inputs: 100,000 images in a folder, 2,000 classes, a table of 10^6 rows, journals of 10^5 entries; time and peak memory of each step.

    nice -n 19 python benchmarks/loads.py --out benchmarks/records/loads.json
    python benchmarks/loads.py --loads table --scale 0.1

Every step is a process of its own: the command as a person would type it, or a line of Python. Its processor seconds and its largest resident
memory are the operating system's count; memory-mapped pages that were touched are among the latter, and so is what the process had that started
it: therefore large inputs are made in processes of their own, too. Inputs are also made at a tenth of their
size, so that one sees what grows. A search is measured until its plan is in its journal, and then ended.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from recording import write_record

SIDE = 40
"""Pixels of a side: of the images, not of what they are loaded as."""


def _ended(process: subprocess.Popen[bytes], began: float) -> dict[str, Any]:
    """Returns what a process took, once it has ended."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "seconds": round(time.monotonic() - began, 2), "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2), "peak_mb": round(usage.ru_maxrss / 1024, 1),
        "exit_code": process.returncode,
    }  # fmt: skip


def command(words: str, cache: Path, until: Callable[[], bool] | None = None) -> dict[str, Any]:
    """Returns what a command of archduel took; one with ``until`` is ended as soon as that is true."""
    log, began = cache / "log.txt", time.monotonic()
    cache.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [sys.executable, *shlex.split(words)], stdout=file, stderr=file, env={**os.environ, "ARCHDUEL_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
        )
    if until is not None:
        while not until() and process.poll() is None and time.monotonic() - began < 900:
            time.sleep(0.05)
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
    found = _ended(process, began) if process.returncode is None else {"exit_code": process.returncode}
    if found["exit_code"] not in (0, -signal.SIGKILL):
        raise SystemExit(f"{words}\n{log.read_text()[-2000:]}")
    return found


def ours(words: str, cache: Path, until: Callable[[], bool] | None = None) -> dict[str, Any]:
    """Returns what ``archduel WORDS`` took."""
    return command(f"-m archduel {words}", cache, until)


def python(text: str, cache: Path) -> dict[str, Any]:
    """Returns what a line of Python took, and what it printed as JSON."""
    found = command(f"-c {shlex.quote(text)}", cache)
    return {**found, **json.loads((cache / "log.txt").read_text() or "{}")}


def made(what: str, path: Path, n: int) -> None:
    """Has a process of its own make an input."""
    subprocess.run([sys.executable, __file__, "--make", what, "--scale", str(n), "--out", str(path)], check=True, stdout=subprocess.DEVNULL)


# -- Images --------------------------------------------------------------------------------------------------------------


def write_images(root: Path, n: int, classes: int) -> None:
    """Writes ``n`` different small images into folders of classes: two JPEGs to one PNG."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (64, SIDE, SIDE, 3), dtype=np.uint8)
    for label in range(classes):
        (root / f"class{label:04d}").mkdir(parents=True, exist_ok=True)
    for number in range(n):
        pixels = base[number % 64].copy()
        pixels[:8] = rng.integers(0, 256, (8, SIDE, 3), dtype=np.uint8)
        path = root / f"class{number % classes:04d}" / f"{number:06d}"
        image = Image.fromarray(pixels)
        if number % 3:
            image.save(path.with_suffix(".jpg"), quality=75)
        else:
            image.save(path.with_suffix(".png"), compress_level=1)


def _search(folder: Path, scratch: Path) -> dict[str, Any]:
    """Returns what a search took until its plan was made."""
    out = scratch / "run"
    journal = out / "journal.jsonl"
    words = f"search {folder} --evaluations 4 --no-race --image-size 16 --out {out} --workers 1 --quiet"
    return ours(words, scratch, lambda: journal.is_file() and b'"plan"' in journal.read_bytes())


def images(scratch: Path, scale: float) -> Iterator[dict[str, Any]]:
    """Yields the steps of a folder of 100,000 images in 10 classes."""
    yield from _folder(scratch, round(100_000 * scale), 10)


def classes(scratch: Path, scale: float) -> Iterator[dict[str, Any]]:
    """Yields the steps of 2,000 classes of 10 images."""
    n = round(2_000 * scale)
    yield from _folder(scratch, 10 * n, n)


def _folder(scratch: Path, n: int, n_classes: int) -> Iterator[dict[str, Any]]:
    folder = scratch / "images"
    write_images(folder, n, n_classes)
    size = {"images": n, "classes": n_classes, "pixels_mb": round(n * 16 * 16 * 3 / 1e6, 1)}
    yield {"step": "archduel data show, first", **size, **ours(f"data show {folder} --image-size 16", scratch)}
    yield {"step": "archduel data show, from the cache", **size, **ours(f"data show {folder} --image-size 16", scratch)}
    yield {"step": "archduel search until its plan", **size, **_search(folder, scratch)}


# -- A driver ------------------------------------------------------------------------------------------------------------

WINDOW = 16
"""Trainings that are asked for at a time."""
QUICK = {"epochs": 1, "data_fraction": 0.005, "channels": 2, "depth": 1, "batch_size": 64}
"""A training of a moment: what is looked at is the driver, which trains nothing."""


def resident(process: int) -> dict[str, float]:
    """Returns the MB that a process has of its own, and of files that it maps (the decoded images), in memory."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return {name: round(int(lines[key].split()[0]) / 1024, 1) for name, key in (("own_mb", "RssAnon"), ("mapped_mb", "RssFile"))}


def driver(scratch: Path, scale: float) -> Iterator[dict[str, Any]]:
    """Yields a search over a folder of 100,000 images with 16 trainings in flight, done by 2 processes that joined it: the driver's memory meanwhile."""
    n, evaluations, scratch = round(100_000 * scale), 192, scratch.resolve()
    made("images", scratch / "images", n)
    out = scratch / "run"
    sets = " ".join(f"--set {stage}.{name}={value}" for stage in ("label", "reevaluate", "final") for name, value in QUICK.items())
    words = (
        f"search {scratch / 'images'} --evaluations {evaluations} --no-race --strategy evolution --no-baselines --final-seeds 1 --image-size 16 --seed 0 "
        f"--executor folder --workers {WINDOW} --window {WINDOW} --set plan.shortlist=2 {sets} --out {out} --quiet"
    )
    env = {**os.environ, "ARCHDUEL_CACHE": str(scratch / "cache"), "OMP_NUM_THREADS": "1"}
    began, seen, flying = time.monotonic(), list[dict[str, Any]](), 0
    with open(scratch / "log.txt", "wb") as log:
        run = subprocess.Popen([sys.executable, "-m", "archduel", *shlex.split(words)], stdout=log, stderr=log, env=env)
        joined = subprocess.Popen([sys.executable, "-m", "archduel", "worker", "--join", str(out), "--workers", "2", "--quiet"], stdout=log, stderr=log, env=env)
    while run.poll() is None:
        answers = (out / "journal.jsonl").read_bytes().count(b'"estimate"') if (out / "journal.jsonl").is_file() else 0
        flying = max(flying, sum(len(os.listdir(out / "work" / name)) for name in ("tasks", "claimed") if (out / "work" / name).is_dir()))
        with contextlib.suppress(OSError, KeyError):
            if answers and (not seen or seen[-1]["answers"] != answers):
                seen.append({"answers": answers, **resident(run.pid)})
        time.sleep(0.2)
    joined.wait(60)
    if run.returncode:
        raise SystemExit(f"{words}\n{(scratch / 'log.txt').read_text()[-2000:]}")
    labels = [each for each in seen if each["answers"] <= evaluations]
    at = {name: min(labels, key=lambda each: abs(each["answers"] - share * evaluations)) for name, share in (("begin", 0.0), ("quarter", 0.25), ("middle", 0.5), ("end", 1.0))}
    size = {"images": n, "pixels_mb": round(n * 16 * 16 * 3 / 1e6, 1), "evaluations": evaluations, "window": WINDOW, "most_in_flight": flying}
    yield {"step": "driver of a search", **size, "seconds": round(time.monotonic() - began, 1), "exit_code": run.returncode, "memory": at, "command": f"archduel {words}".replace(f"{scratch}/", "")}


# -- A table -------------------------------------------------------------------------------------------------------------


def write_csv(path: Path, n: int) -> None:
    """Writes a CSV of ``n`` different architectures of the space mobilenetv3 and invented accuracies."""
    rng = np.random.default_rng(0)
    from archduel.core import sample
    from archduel.spaces import MobileNetV3

    space, seen = MobileNetV3(), set()
    while len(seen) < n:
        seen.add(str(sample(space, rng)))
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["arch", "val", "test", "params"])
        for text in seen:
            score = rng.random()
            rows.writerow([text, f"{score:.6f}", f"{score * 0.99:.6f}", rng.integers(10**5, 10**7)])


def table(scratch: Path, scale: float) -> Iterator[dict[str, Any]]:
    """Yields the steps of a table of 10^6 rows: import, opening, queries, a comparison of strategies."""
    n, scratch = round(1_000_000 * scale), scratch.resolve()
    made("csv", scratch / "big.csv", n)
    file = scratch / "big.table"
    size = {"rows": n, "csv_mb": round((scratch / "big.csv").stat().st_size / 1e6, 1)}
    words = f"table import {scratch / 'big.csv'} --space mobilenetv3 --arch-column arch --validation val --test test --column params --out {file}"
    yield {"step": "archduel table import", **size, **ours(words, scratch)}
    look = f"""
import json, time
from archduel.tables import open_table
began = time.process_time(); table = open_table({str(file)!r}); opened = time.process_time() - began
archs = [table.arch(row) for row in range(0, len(table), max(1, len(table) // 1000))][:1000]
began = time.process_time(); table.validation(archs); asked = time.process_time() - began
print(json.dumps({{"open_ms": round(opened * 1e3, 2), "query_us": round(asked / len(archs) * 1e6, 2)}}))"""
    yield {"step": "open and 1,000 queries", **size, **python(look, scratch)}
    yield {"step": "archduel table show", **size, **ours(f"table show {file}", scratch)}
    search = f"bench search --table {file} --strategies random,evolution --queries 100 --runs 4 --workers 0 --json {scratch / 'bench.json'}"
    yield {"step": "archduel bench search, 100 queries, 4 runs of 2 strategies", **size, **ours(search, scratch)}


# -- Journals ------------------------------------------------------------------------------------------------------------

STUDY = """
import json, time, archduel
def evaluate(made):
    return sum(hash(str(v)) % 97 for v in made.values()) / 1000
began = time.process_time()
study = archduel.search_space({options}, evaluate, strategy="random", evaluations={n}, out={out!r}, window=50, quiet=True)
print(json.dumps({{"evaluations": len(study.evaluations), "call_seconds": round(time.process_time() - began, 2)}}))"""
OPTIONS = {f"choice{number}": list(range(8)) for number in range(8)}


def grow(out: Path, n: int) -> None:
    """Goes on with a study up to ``n`` evaluations whose scores cost nothing; records are as the study's own, without an fsync each."""
    from archduel.assemble import assemble
    from archduel.commands.study.judging import answers_of
    from archduel.commands.study.search import STUDY as LAYOUT
    from archduel.core import Budget, Cost, Estimate, search
    from archduel.core.disk import read_toml
    from archduel.core.job import Job
    from archduel.core.search import Local
    from archduel.spaces.own.making import space

    opened = space(OPTIONS)
    with Job(out, LAYOUT, {"study": read_toml(out / "study.toml")["study"]}, fsync=False) as job:
        judge = Local(lambda queries: [Estimate(sum(q.arch.choices) / 1000, Cost(0.001), {"answers": answers_of(opened, q.arch)}) for q in queries])
        search(assemble("random", opened, seed=0), judge, budget=Budget(evaluations=n), window=50, journal=job.part(""))


def journal(scratch: Path, scale: float) -> Iterator[dict[str, Any]]:
    """Yields the steps of a study of 10^5 evaluations: opened, reported, read again while another process may write, continued."""
    n, scratch = round(100_000 * scale), scratch.resolve()
    out = scratch / "study"
    python(STUDY.format(options=OPTIONS, n=50, out=str(out)), scratch)
    made("journal", out, n)
    file = out / "journal.jsonl"
    size = {"entries": n, "journal_mb": round(file.stat().st_size / 1e6, 1)}
    steps = {
        "open the journal": f"from archduel.core.storage import Journal; from pathlib import Path; Journal(Path({str(file)!r}))",
        "Study(folder).best": f"import archduel; archduel.Study({str(out)!r}).best",
        "report of the study": f"import archduel; archduel.Study({str(out)!r}).report()",
        "read twice, as one who watches it": f"import archduel; [archduel.Study({str(out)!r}).best for _ in range(2)]",
    }
    for name, text in steps.items():
        timed = f"import json, time\nbegan = time.process_time()\n{text}\nprint(json.dumps({{'call_seconds': round(time.process_time() - began, 2)}}))"
        found = python(timed, scratch)
        if "report" in name:
            found["page_kb"] = (out / "report.html").stat().st_size // 1024
        yield {"step": name, **size, **found}
    yield {"step": "continue the study for 50 more", **size, **python(STUDY.format(options=OPTIONS, n=n + 50, out=str(out)), scratch)}


LOADS: dict[str, Callable[[Path, float], Iterator[dict[str, Any]]]] = {"images": images, "classes": classes, "table": table, "journal": journal, "driver": driver}


def main() -> None:
    """Measures the loads at a tenth and in full, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--scale", default="0.1,1", help="sizes, as shares of the full ones")
    parser.add_argument("--make", default="", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    if chosen.make:
        {"csv": write_csv, "journal": grow, "images": partial(write_images, classes=10)}[chosen.make](chosen.out, int(chosen.scale))
        return
    steps: list[dict[str, Any]] = []
    for name in chosen.loads.split(","):
        for scale in map(float, chosen.scale.split(",")):
            with tempfile.TemporaryDirectory(prefix="loads-") as scratch:
                for step in LOADS[name](Path(scratch), scale):
                    steps.append({"load": name, **step})
                    print(json.dumps(steps[-1]), flush=True)
                    if chosen.out:
                        write_record(chosen.out, {"command": shlex.join(["python", *sys.argv]), "steps": steps})
    if chosen.out:
        # imports PyTorch, with whose memory every later step would have begun
        from archduel.core.storage import environment

        write_record(chosen.out, {"command": shlex.join(["python", *sys.argv]), "steps": steps, **environment()})


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()

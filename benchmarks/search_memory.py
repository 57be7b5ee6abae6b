"""Peak memory of a whole search over 50,000 pictures of 32 x 32: all its processes together, every stage from plan to export.

    python benchmarks/search_memory.py --out benchmarks/records/search_memory.json

The plan is that of one hour on this machine; then the trainings are cut short (memory is that of a step, not of an epoch).
Sizes of networks, batches and data are those of an uncut run. Counted is the proportional set size, in which a page that several processes share counts once, every 0.2 s.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from recording import write_record

SIDE, CLASSES = 32, 10
SHORT = ["--time", "1h", "--evaluations", "6", "--final-seeds", "1", "--quiet"]
CUT = {"label.epochs": 0.05, "reevaluate.epochs": 0.02, "final.epochs": 0.02}


def family(root: int) -> list[int]:
    """Returns the process and all that it started, directly or not."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:  # it ended meanwhile
                continue
            parents[int(entry.name)] = int(text.rsplit(")", 1)[1].split()[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def memory_mb(pids: list[int]) -> dict[str, float]:
    """Returns the proportional set size of some processes, and the part that belongs to no file."""
    total = {"Pss": 0.0, "Pss_Anon": 0.0}
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name = line.partition(":")[0]
            if name in total:
                total[name] += int(line.split()[1]) / 1e3
    return total


def watch(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Runs a command and returns the peaks of its processes together."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    peak, most, began = {"Pss": 0.0, "Pss_Anon": 0.0}, 0, time.perf_counter()
    while process.poll() is None:
        pids = family(process.pid)
        most = max(most, len(pids))
        for name, value in memory_mb(pids).items():
            peak[name] = max(peak[name], value)
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"the search ended with code {process.returncode}: {shlex.join(command)}")
    return {
        "peak_mb": peak["Pss"], "peak_without_files_mb": peak["Pss_Anon"], "processes": most,
        "seconds": time.perf_counter() - began,
    }  # fmt: skip


def sizes(run: Path) -> dict[str, dict[str, int]]:
    """Returns what the plan chose."""
    plan = next(r["plan"] for r in map(json.loads, (run / "journal.jsonl").read_text().splitlines()) if r["event"] == "plan")
    names = ("channels", "depth", "batch_size", "image_size")
    return {stage: {name: plan[stage][name] for name in names} for stage in ("label", "final")}


def main() -> None:
    """Runs the search on 5,000 and on 50,000 pictures and writes the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[5_000, 50_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    from archduel import environment

    rows = {}
    for n in arguments.images:
        with tempfile.TemporaryDirectory() as folder:
            images = np.random.default_rng(0).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)
            np.savez(Path(folder) / "pictures.npz", images=images, labels=np.arange(n) % CLASSES)
            del images
            command = [
                sys.executable,
                "-m",
                "archduel",
                "search",
                "pictures.npz",
                *SHORT,
                "--workers",
                str(arguments.workers),
            ]
            command[4] = str(Path(folder) / command[4])
            command += ["--out", str(Path(folder) / "run")]
            command += [word for name, value in CUT.items() for word in ("--set", f"{name}={value}")]
            own = os.environ | {"ARCHDUEL_CACHE": str(Path(folder) / "cache")}
            rows[str(n)] = watch(command, own) | {"plan": sizes(Path(folder) / "run")}
    record = {
        "command": shlex.join(["python", *sys.argv]), **environment(), "search": shlex.join(["archduel", "search", *SHORT]),
        "cut": CUT, "by_images": rows,
    }  # fmt: skip
    write_record(arguments.out, record)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()

"""How well ``archduel search DATA --time T`` keeps to T, on the machine as it is and with other programs running.

    python benchmarks/race_budget.py --out benchmarks/records/race_budget.json

Measured from the start of the program to its end, as a person does. The other programs are endless loops of arithmetic, one
process each. What else the machine does is recorded: the load average before and after, and how many processors there are.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recording import write_record

from archduel.core.storage import environment

SLACK, LEAST = 0.05, 10.0
"""A run may take so much longer, as a share or in seconds, whichever is more."""


def turn() -> None:
    """Computes for ever."""
    x = 1.0
    while True:
        x = x * 1.0000001 % 10.0


@contextmanager
def others(number: int) -> Iterator[None]:
    """Lets so many other programs run."""
    processes = [multiprocessing.Process(target=turn, daemon=True) for _ in range(number)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def measured(seconds: float, busy: int, data: str) -> dict[str, Any]:
    """Runs one search and returns how long it took and what its time went into."""
    with tempfile.TemporaryDirectory() as folder, others(busy):
        out, before, began = Path(folder) / "run", os.getloadavg()[0], time.monotonic()
        words = ["search", data, "--time", f"{seconds:g}s", "--out", str(out), "--quiet"]
        subprocess.run([sys.executable, "-m", "archduel", *words], check=True)
        took = time.monotonic() - began
        result = json.loads((out / "result.json").read_text())
    race = result["race"]
    return {
        "data": data, "seconds": seconds, "busy_loops": busy, "took": round(took, 2), "over": round(took - seconds, 2),
        "within": took <= seconds + max(SLACK * seconds, LEAST), "share_handed_over": round(race["candidates"][race["winner"]]["seconds"] / took, 3),
        "candidates": len(race["candidates"]), "load_average": [before, os.getloadavg()[0]],
    }  # fmt: skip


def main() -> None:
    """Parses the command line, measures and writes the record after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--seconds", default="60,180")
    parser.add_argument("--busy", default="0,2")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = []
    for _ in range(arguments.repeats):
        for seconds in map(float, arguments.seconds.split(",")):
            for busy in map(int, arguments.busy.split(",")):
                rows.append(measured(seconds, busy, arguments.data))
                print(rows[-1], flush=True)
                write_record(arguments.out, {"rows": rows, "command": shlex.join(["python", *sys.argv]), **environment()})


if __name__ == "__main__":
    main()

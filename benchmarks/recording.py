"""What the measuring scripts share: numbers over fresh processes, and the record that they write."""

from __future__ import annotations

import json
import multiprocessing
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def command() -> str:
    """Returns how this script was called, as from the root of the repository."""
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def over_processes(measure: Callable[[str, Any], None], part: str, repeats: int) -> dict[str, Any]:
    """Returns median and spread of each number that ``measure(part, answers)`` puts on the queue, over fresh processes."""
    context = multiprocessing.get_context("spawn")
    runs = []
    for _ in range(repeats):
        answers = context.Queue()
        process = context.Process(target=measure, args=(part, answers))
        process.start()
        runs.append(answers.get())
        process.join()
    return {
        key: {"median": statistics.median(r[key] for r in runs), "min": min(r[key] for r in runs),
              "max": max(r[key] for r in runs), "n": repeats}
        for key in runs[0]
    }  # fmt: skip


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Writes the record, in folders that are made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")

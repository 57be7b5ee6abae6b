"""Joins the records of faults into one: kinds, cases, how many were not on the lists, what was mended, what is left and why.

    python benchmarks/faults_record.py

Reads ``faults_data.json``, ``faults_runs.json`` (the cases, one by one), ``kills.json``, ``fuzz_readers.json``, ``loads.json`` and ``mutants.json``
beside it, and writes ``faults.json``. Nothing is measured here.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

RECORDS = Path(__file__).parent / "records"
LEFT = [
    "an export over an export that is killed between two renames: files of both until the same command runs again",
    "a candidate that computes without an end is noticed after ten minutes of processor time without a batch, in worker processes; in the process of a race itself nobody looks",
    "journals of before the failures of the machine were told from verdicts: such a record is not known by its text for sure, and is replayed as it stands",
]
"""Beside what ``faults_data.json`` leaves."""


def read(name: str) -> dict[str, Any]:
    """Returns a record, empty where there is none."""
    path = RECORDS / name
    return json.loads(path.read_text()) if path.is_file() else {}


def kinds(cases: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Returns for each kind how many cases were tried, and how many of them were on no list."""
    tried, unlisted = Counter(case["kind"] for case in cases), Counter(case["kind"] for case in cases if not case["listed"])
    return {kind: {"cases": n, "not listed": unlisted[kind]} for kind, n in sorted(tried.items())}


def main() -> None:
    """Writes the record."""
    data, runs, kills, fuzz, loads, mutants = map(read, ("faults_data.json", "faults_runs.json", "kills.json", "fuzz_readers.json", "loads.json", "mutants.json"))
    cases = [{**case, "of": "data"} for case in data["cases"]] + [{**case, "of": "runs"} for case in runs["cases"]]
    untried = sum(case.get("checked", "") == "not run" for case in runs["cases"])
    content = {
        "what": "Faults that were tried on the product: see faults_data.json and faults_runs.json for how each was checked and by which test",
        "cases": len(cases), "of them not on the lists": sum(not case["listed"] for case in cases),
        "failures found and mended": {
            "data": data["n_mended_or_told_now"], "runs": sum(case["before"] not in ("-", case["after"]) for case in runs["cases"]) - untried,
        },
        "kinds": kinds(cases),
        "kills": {key: kills.get(key) for key in ("kills", "jobs", "equal", "left processes", "left files")},
        "fuzz": {**fuzz.get("total", {}), "memory_limit_mb": fuzz.get("memory_limit_mb")},
        "loads": [{key: step[key] for key in ("load", "step", "cpu_seconds", "peak_mb")} for step in loads.get("steps", [])],
        "mutants": {key: mutants.get(key) for key in ("n", "killed", "score", "interval")},
        "left": [*data["left"], *(f"{case['case']}: {case['after']}" for case in runs["cases"] if case.get("checked") == "not run"), *LEFT],
        "list": [{key: case[key] for key in ("of", "kind", "case", "listed", "test")} for case in cases],
    }  # fmt: skip
    (RECORDS / "faults.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()

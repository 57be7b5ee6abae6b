"""A search while it works: from the records of its journal to what a page shows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archduel.commands.search.report import KINDS, entered, reached_rungs, report_data
from archduel.commands.search.settings import read_settings
from archduel.reporting.text import percent

__all__ = ["search_live"]

Records = Sequence[Mapping[str, Any]]
STAGES = {
    "label": "labels with a cheap recipe", "confirm": "trains what the comparator proposed", "check": "trains random architectures alone",
    "random": "random search at equal cost", "reevaluate": "trains the shortlist for longer", "final": "final trainings",
}  # fmt: skip
"""Stage -> what happens in it."""


def search_live(folder: Path, records: Records) -> dict[str, Any]:
    """Returns what a page shows of a search, see :class:`archduel.reporting.schema.LiveData`.

    Args:
        folder: of the run.
        records: of its journal so far.
    """
    settings, networks = read_settings(folder), entered(records)
    data = {**report_data(folder, records), **_budget(records, settings), "unfinished": ""}
    scored = [r for r in records if r["event"] == "rung" and r["point"]]
    if networks:
        return data | {
            "reached": [{"clock": r["clock"], "score": r["point"]["accuracy"], "name": networks[r["number"]]["arch"]} for r in scored],
            "rungs": _standings(records, networks), "candidates": _racing(records, networks), "now": _race_now(records, networks),
        }  # fmt: skip
    estimates = [r for r in records if r["event"] == "estimate"]
    # the chart of the search's cost shows the same scores, where there is one
    drawn = [] if data["arms"] else estimates
    return data | {
        "reached": [{"clock": r["clock"], "score": r["values"].get("val_metric", r["score"]), "name": r["arch"]} for r in drawn],
        "candidates": [_estimated(r) for r in estimates], "now": _now(records, estimates),
    }  # fmt: skip


def _budget(records: Records, settings: Any) -> dict[str, Any]:
    """Returns what was allowed and is spent; the tool's own choice of a time is in the journal."""
    noted = [r for r in records if r["event"] == "time" or (r["event"] == "plan" and r.get("time"))]
    seconds = settings.seconds or next((r.get("seconds", r.get("time")) for r in noted), None)
    if seconds is not None:
        seconds += sum(r["seconds"] for r in records if r["event"] == "more")
        return {"done": records[-1].get("clock", 0.0) if records else 0.0, "allowed": seconds, "unit": "seconds"}
    paid = sum(r["event"] == "enter" or (r["event"] == "estimate" and r["stage"] in ("label", "confirm", "check")) for r in records)
    return {"done": min(paid, settings.evaluations or paid), "allowed": settings.evaluations or 0, "unit": "evaluations"}


def _standings(records: Records, networks: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns a row a rung, the highest first."""
    by_rung: dict[int, list[tuple[int, Mapping[str, Any]]]] = {}
    for number, rungs in reached_rungs(records).items():
        for record in rungs:
            by_rung.setdefault(record["rung"], []).append((number, record))
    rows = []
    for rung in sorted(by_rung, reverse=True):
        number, record = max(by_rung[rung], key=lambda entry: entry[1]["point"]["score"])
        point = record["point"]
        rows.append({
            "rung": rung, "n": len(by_rung[rung]), "name": networks[number]["arch"], "score": point["accuracy"], "low": point["low"],
            "high": point["high"], "seconds": point["seconds"],
        })  # fmt: skip
    return rows


def _chosen(records: Records) -> dict[int, str]:
    """Returns what is said of the networks that are trained to the end, by number."""
    notes: dict[int, str] = {}
    for record in records:
        if record["event"] == "choice":
            notes |= dict.fromkeys(record.get("numbers", [record["number"]]), "goes on to the end")
        elif record["event"] in ("trained", "member"):
            notes[record["number"]] = "trained to the end"
    return notes


def _racing(records: Records, networks: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    reached, notes = reached_rungs(records), _chosen(records)
    failed = {r["number"] for r in records if r["event"] == "rung" and not r["point"]}
    rows = []
    for number, record in networks.items():
        rungs = reached.get(number, [])
        last = rungs[-1] if rungs else None
        note = notes.get(number, "failed: the training loss was not finite" if number in failed else "" if rungs else "not scored yet")
        rows.append({
            "name": record["arch"], "kind": KINDS.get(record["role"], record["role"]), "params": record["counts"][0], "note": note,
            "score": last["point"]["accuracy"] if last else None, "seconds": last["seconds"] if last else None,
            "at": f"rung {last['rung']}" if last else "",
        })  # fmt: skip
    return rows


def _race_now(records: Records, networks: Mapping[int, Mapping[str, Any]]) -> str:
    """Returns the sentence of a race: what happens, and who is ahead."""
    chosen = [networks[number]["arch"] for number, note in _chosen(records).items() if note == "goes on to the end"]
    if chosen:
        return f"{chosen[0]} is trained to the end." if len(chosen) == 1 else f"{len(chosen)} networks of the front are trained to the end."
    if any(r["event"] in ("trained", "member") for r in records):
        return "Training is over: test, export and report."
    reached = reached_rungs(records)
    if not reached:
        return f"{len(networks)} network{'s' * (len(networks) != 1)} on the way to the first rung."
    number, rungs = max(reached.items(), key=lambda entry: entry[1][-1]["point"]["score"])
    point = rungs[-1]["point"]
    return f"{len(networks)} network{'s race' if len(networks) != 1 else ' races'}. The best is right on {percent(point['accuracy'])} of the validation images: {networks[number]['arch']}."


def _estimated(record: Mapping[str, Any]) -> dict[str, Any]:
    values = record["values"]
    return {
        "name": record["arch"], "kind": record.get("stage", ""), "score": values.get("val_metric", record["score"]), "params": values.get("params"),
        "seconds": record["seconds"], "at": f"evaluation {record['ordinal']}", "note": record["reason"],
    }  # fmt: skip


def _now(records: Records, estimates: Records) -> str:
    """Returns the sentence of a search without a race."""
    steps = [r for r in records if r["event"] == "one-shot step"]
    if not estimates:
        return f"{len(steps)} steps with shared weights." if steps else "Images are read and the plan is made."
    stage = estimates[-1]["stage"]
    n = sum(r["stage"] == stage for r in estimates)
    return f"{n} trained in stage {stage}: {STAGES.get(stage, stage)}."

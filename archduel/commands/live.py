"""Any job while it works: from its place and the records of its journal to what a page shows of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from archduel.commands.journals import Place, settings_of
from archduel.text import printable

__all__ = ["job_live", "log_line"]

Records = Sequence[Mapping[str, Any]]
LISTED, LOGGED = 30, 100
"""Candidates and records that a page lists."""
LONGEST = 240
"""Characters of a line of the log."""


def job_live(place: Place, records: Records) -> dict[str, Any]:
    """Returns what a page shows of a job, see :class:`archduel.reporting.schema.LiveData`.

    Args:
        place: of the job.
        records: of its journal so far.

    Raises:
        DamagedError: if its settings cannot be read.
    """
    makers = {"search": _search, "training": _training, "study": _study, "comparison": _comparison}
    data = makers.get(place.kind, _other)(place, records)
    rows = sorted(data.get("candidates", ()), key=_rank)
    return {
        "title": "", **data, "name": place.name, "kind": place.kind, "records": len(records), "candidates": rows[:LISTED],
        "more_candidates": max(0, len(rows) - LISTED), "log": [log_line(record) for record in reversed(records[-LOGGED:])],
    }  # fmt: skip


def _rank(candidate: Mapping[str, Any]) -> float:
    score = candidate.get("score")
    return math.inf if score is None or not math.isfinite(score) else -score


def log_line(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a record in words: clock, event, and its values, long ones cut."""
    event = str(record.get("event", "epoch"))
    values = {key: value for key, value in record.items() if key not in ("event", "clock", "crc32")}
    text = ", ".join(f"{key} {_short(value)}" for key, value in values.items() if value not in (None, "", [], {}))
    clock = record.get("clock")
    return {"clock": clock if isinstance(clock, (int, float)) else None, "event": printable(event), "text": printable(text[:LONGEST])}


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= LONGEST // 3 else f"{text[: LONGEST // 3]} ..."


def _search(place: Place, records: Records) -> dict[str, Any]:
    from archduel.commands.search.live import search_live

    return search_live(place.path, records)


def _training(place: Place, records: Records) -> dict[str, Any]:
    from archduel.commands.network.curves import curves_data

    data = curves_data([place.path], [records])
    asked = settings_of(place).get("recipe", {}).get("epochs", 0)
    last = records[-1] if records else {}
    measured = next((f"{name.replace('_', ' ').replace('val', 'validation')} {last[name]:.4g}" for name in ("val_accuracy", "train_loss") if name in last), "")
    now = f"Epoch {last['epoch']:g} of {asked:g}" + (f": {measured}." if measured else ".") if last else "Nothing is trained yet."
    return {**data, "unfinished": "", "now": now, "done": last.get("epoch", 0), "allowed": asked, "unit": "epochs"}


def _study(place: Place, records: Records) -> dict[str, Any]:
    settings = settings_of(place).get("study", {})
    return {**_estimates(records, "score"), "title": str(settings.get("space", "")), "subtitle": f"strategy {settings.get('strategy', '')}"}


def _estimates(records: Records, metric: str) -> dict[str, Any]:
    """Returns what any job of evaluations has: scores over the clock, candidates, the best so far in a sentence."""
    estimates = [r for r in records if r.get("event") == "estimate"]
    rows = [
        {"name": _answers(r), "kind": r.get("stage", ""), "score": r["score"], "params": r["values"].get("params"), "seconds": r["seconds"],
         "at": f"evaluation {r['ordinal']}", "note": r["reason"]}
        for r in estimates
    ]  # fmt: skip
    scores = [r["score"] for r in estimates if r["score"] is not None]
    best = f" The best score is {max(scores):.4g}." if scores else ""
    failed = len(estimates) - len(scores)
    return {
        "metric": metric, "candidates": rows, "done": len(estimates), "unit": "evaluations",
        "reached": [{"clock": r.get("clock", 0.0), "score": r["score"], "name": r["arch"]} for r in estimates],
        "now": f"{len(estimates)} evaluations{f', {failed} of them failed' if failed else ''}.{best}",
    }  # fmt: skip


def _answers(record: Mapping[str, Any]) -> str:
    """Returns what was tried, by the names of its decisions where they are known."""
    answers = record["values"].get("answers")
    return ", ".join(f"{name}={value}" for name, value in answers.items()) if isinstance(answers, Mapping) else str(record["arch"])


def _comparison(place: Place, records: Records) -> dict[str, Any]:
    from archduel.commands.bench.live import trials_live

    return {**trials_live(records), "settings": json.dumps(settings_of(place, records), indent=1)}


def _other(place: Place, records: Records) -> dict[str, Any]:
    """Returns what a table or a proxy job shows: evaluations, and the numbers of its epochs as curves."""
    epochs = [r for r in records if r.get("event") == "epoch"]
    names = [name for name in (epochs[0] if epochs else ()) if name not in ("event", "clock") and isinstance(epochs[0][name], (int, float))]
    curves = [
        {"name": name, "measure": name, "values": [_number(r.get(name)) for r in epochs], "x": list(range(1, len(epochs) + 1))} for name in names
    ]
    return {**_estimates(records, "score"), "curves": curves, "settings": json.dumps(settings_of(place, records), indent=1)}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None

"""What a comparison of shared weights hands over: a table for people, JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from archduel.apps.bench_oneshot import OneshotBench
from archduel.reporting.tables import text_table

__all__ = ["summary", "write_json"]


def write_json(bench: OneshotBench, path: Path, *, command: str = "") -> None:
    """Writes records, effects and facts as one object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"command": command, "facts": bench.facts, "effects": bench.effects, "records": bench.records}
    path.write_text(json.dumps(whole, indent=1) + "\n")


def _interval(record: dict[str, Any]) -> str:
    value, low, high = record["value"], record["low"], record["high"]
    if value is None:
        return "–"
    return f"{value:.3f}" if low is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def summary(bench: OneshotBench) -> str:
    """Returns the comparison as text."""
    facts = bench.facts
    headers = [
        "sampling", "curriculum", "passes", "recalibration", "tune", "seed", "tau", "tau, better half", "tau of loss", "accuracy %", "rank of best", "train s",
    ]  # fmt: skip
    rows = [
        [
            record["sampling"],
            f"{record['curriculum']:g}",
            f"{record['passes']:g}",
            record["recalibration"],
            record["tune"],
            record["seed"],
            _interval(record["kendall_tau"]),
            _interval(record["kendall_tau_better_half"]),
            _interval(record["kendall_tau_of_loss"] or {"value": None, "low": None, "high": None}),
            f"{100 * record['mean_score']:.1f}",
            record["rank_of_best"],
            f"{record['train_seconds']:.0f}",
        ]
        for record in bench.records
    ]
    lines = [
        f"{facts['table']}: {facts['cells']} cells of different function, truth: mean test accuracy of the table; supernet "
        f"trained on {facts['n_train']:,} images, scores read {facts['n_validation']:,}; 95 % intervals",
        "",
        text_table(headers, rows),
        "",
        f"to compare with: the number of weights ranks these cells with tau {_interval(facts['tau_params'])},",
        f"multiply-adds with {_interval(facts['tau_macs'])}; below that, shared weights say less than a count does",
    ]
    for effect in bench.effects:
        d = effect["difference"]
        rest = ", ".join(f"{k} {v}" for k, v in effect.items() if k not in ("option", "value", "against", "difference"))
        verdict = "" if d["low"] > 0 or d["high"] < 0 else " (within noise)"
        lines.append(
            f"{effect['option']} {effect['value']} instead of {effect['against']}: tau {d['value']:+.3f} "
            f"[{d['low']:+.3f}, {d['high']:+.3f}]{verdict}; {rest}"
        )
    return "\n".join(lines)

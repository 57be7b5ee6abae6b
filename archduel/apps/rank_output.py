"""What a comparison of rankers hands over: a table for people, JSON for programs, a figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from archduel.apps.bench_rank import RankBench
from archduel.errors import SettingError
from archduel.reporting.rank_figures import tau_by_labels
from archduel.reporting.tables import text_table

__all__ = ["check_figure", "summary", "write_figure", "write_json"]

FIGURES = (".svg", ".png", ".pdf")


def check_figure(path: Path | None) -> None:
    """Raises SettingError for a figure in another format, before anything is computed for it."""
    if path is not None and path.suffix.lower() not in FIGURES:
        raise SettingError(f"--figure {path}: the name must end in {', '.join(FIGURES)}")


def write_json(bench: RankBench, path: Path, *, command: str = "") -> None:
    """Writes the records as a list, each with the facts of the comparison (and the command, if told) under ``facts``."""
    facts = {**bench.facts, "command": command} if command else bench.facts
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([{**record, "facts": facts} for record in bench.records], indent=1) + "\n")


def write_figure(bench: RankBench, path: Path) -> None:
    """Writes Kendall's tau over the number of labels; the suffix says the format (svg, png, pdf)."""
    facts = bench.facts
    curves: dict[str, list[tuple[int, float, float | None, float | None]]] = {}
    for record in bench.records:
        point = record["labels"], record["kendall_tau"], record["kendall_tau_low"], record["kendall_tau_high"]
        curves.setdefault(record["ranker"], []).append(point)
    title = f"{facts['table']}: {facts['learn']} labels, {facts['judged_by']} of {facts['judge']}, {facts['splits']} splits"
    tau_by_labels(path, curves, title=title)


def _with_interval(record: dict[str, Any], name: str) -> str | None:
    value, low, high = record[name], record[f"{name}_low"], record[f"{name}_high"]
    if value is None:
        return None
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ± {(high - low) / 2:.3f}"


def _test(record: dict[str, Any]) -> str | None:
    if "against" not in record:
        return None
    return f"{record['difference']:+.3f} to {record['against']} (p {record['p_holm']:.2g})"


def summary(bench: RankBench) -> str:
    """Returns the comparison as text."""
    facts = bench.facts
    headers = [
        "labels", "ranker", "tau", "tau, distinct", "Spearman", "top 1 %", "N@10", "nDCG", "fit CPU s", "query CPU s",
        "difference in tau",
    ]  # fmt: skip
    rows = [
        [
            record["labels"],
            record["ranker"],
            _with_interval(record, "kendall_tau"),
            _with_interval(record, "kendall_tau_distinct"),
            f"{record['spearman'] or float('nan'):.3f}",
            f"{100 * record['precision_at_1pct']:.0f} %",
            f"{record['n_at_10']:.1f}",
            f"{record['ndcg']:.3f}",
            f"{record['fit_cpu_seconds']:.2f}",
            f"{record['query_cpu_seconds']:.2f}",
            _test(record),
        ]
        for record in bench.records
    ]
    about = (
        f"{facts['table']}: {facts['architectures']} architectures ({facts['classes']} different functions), learned from "
        f"{facts['learn']} accuracy, judged by {facts['judged_by']} accuracy of {facts['judge']} architectures, "
        f"{facts['splits']} splits, 95 % intervals; tests: Wilcoxon on paired splits, Holm."
    )
    return f"{about}\n\n{text_table(headers, rows)}"

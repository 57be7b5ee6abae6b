"""What a comparison of searches hands over: a table for people, JSON and CSV for programs, figures."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from archduel.apps.bench_search import Bench
from archduel.reporting.checklist import checklist, checklist_text
from archduel.reporting.tables import text_table

__all__ = ["summary", "write_csv", "write_figures", "write_json", "write_trajectories"]


def write_json(bench: Bench, path: Path) -> None:
    """Writes the records as a list, each with the facts of the comparison under ``facts``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([{**record, "facts": bench.facts} for record in bench.records], indent=1) + "\n")


def write_csv(bench: Bench, path: Path) -> None:
    """Writes the records, one a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for record in bench.records for name in record))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(bench.records)


def write_trajectories(bench: Bench, path: Path) -> None:
    """Writes mean validation accuracy and regret after every query, one row a strategy, budget and query."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["strategy", "budget", "query", "mean_validation", "mean_regret", "median_regret", "mean_seconds"])
        for (title, budget), curve in bench.curves.items():
            columns = curve.validation.mean(0), curve.regret.mean(0), np.median(curve.regret, 0), curve.seconds.mean(0)
            for query, values in enumerate(zip(*columns), 1):
                writer.writerow([title, budget, query, *map(float, values)])


def write_figures(bench: Bench, folder: Path, *, suffix: str = "svg") -> list[Path]:
    """Writes regret over queries (and seconds where the table has times), and critical differences at each number of queries."""
    from archduel.reporting.search_figures import critical_difference, trajectories

    facts, queries = bench.facts, bench.facts["queries"][-1]
    shown = {title: curve for (title, budget), curve in bench.curves.items() if budget == queries}
    title = f"{facts['table']}, {facts['runs']} paired runs, 95 % intervals"
    regrets = {name: curve.regret for name, curve in shown.items()}
    paths = [folder / f"regret_by_queries.{suffix}"]
    trajectories(paths[0], regrets, title=title)
    if facts["simulated_seconds"]:
        paths.append(folder / f"regret_by_seconds.{suffix}")
        trajectories(paths[-1], regrets, title=title, seconds={name: curve.seconds for name, curve in shown.items()})
    for number, ranks in bench.ranks.items():
        paths.append(folder / f"critical_difference_{number}.{suffix}")
        about = f"{facts['table']}: average rank by area under validation regret to {number} queries, {facts['runs']} runs"
        critical_difference(paths[-1], ranks, title=about)
    return paths


def _percent(record: dict[str, Any], name: str) -> str:
    value, low, high = record.get(f"mean_{name}"), record.get(f"{name}_low"), record.get(f"{name}_high")
    if value is None:
        return "–"
    return f"{100 * value:.2f}" if low is None or high is None else f"{100 * value:.2f} ± {50 * (high - low):.2f}"


def summary(bench: Bench) -> str:
    """Returns the comparison as text: numbers, tests, and the best-practice checklist."""
    proposing = any("mean_proposed_test" in record for record in bench.records)
    headers = ["strategy", "queries", "test %", *["first proposal %"] * proposing, "validation %", "regret area", "best found"]
    headers += ["CPU seconds", "p (Holm)"]
    rows = [
        [
            record["strategy"],
            record["queries"],
            _percent(record, "test"),
            *[_percent(record, "proposed_test")] * proposing,
            _percent(record, "validation"),
            _percent(record, "regret_area"),
            f"{100 * record['share_best']:.0f} %",
            f"{record['cpu_seconds']:.2f}",
            f"{record['p_holm']:.2g}" if "p_holm" in record else "",
        ]
        for record in bench.records
    ]
    facts = bench.facts
    lines = [
        f"{facts['table']}: {facts['architectures']:,} architectures, best validation {100 * facts['best_validation']:.2f} %,"
        f" {facts['runs']} paired runs, seed {facts['seed']}; mean ± half of the 95 % interval",
        "",
        text_table(headers, rows),
        "",
        "regret area: mean validation regret over all queries so far, points; best found: share of runs that reached the",
        "table's best validation accuracy; incumbents are chosen by validation accuracy, their test accuracy is read last",
    ]
    if proposing:
        lines.append("first proposal: test accuracy of what a strategy asks for first after its random labels")
    against = {comparison.first for comparisons in bench.comparisons.values() for comparison in comparisons}
    if against:
        lines.append(f"p: paired Wilcoxon tests of the regret area against {against.pop()}, Holm-corrected at each number of queries")
    for number, ranks in bench.ranks.items():
        order = ", ".join(f"{name} {rank:.2f}" for name, rank in ranks.ranks.items())
        lines.append(f"average ranks at {number} queries: {order} (critical difference {ranks.critical_difference:.2f})")
    points = checklist(facts, [record["strategy"] for record in bench.records if record["queries"] == facts["queries"][-1]])
    return "\n".join([*lines, "", checklist_text(points)])

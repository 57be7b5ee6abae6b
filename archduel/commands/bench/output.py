"""What a comparison writes: a table for people, JSON and CSV for programs, figures."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from archduel.commands.bench.fronts import FrontBench
from archduel.commands.bench.one_shot import OneShotBench
from archduel.commands.bench.rank import RankBench
from archduel.commands.bench.search import Bench
from archduel.commands.progress import write_json
from archduel.errors import SettingError
from archduel.reporting.figures import check_matplotlib, tau_by_labels
from archduel.reporting.text import text_table

__all__ = ["Point", "check_figure", "checklist", "checklist_text", "one_shot_summary", "rank_summary", "records_of", "search_summary", "write_csv", "write_figure", "write_figures", "write_records", "write_trajectories"]

# -- Which points of the NAS best-practice checklist a comparison satisfies, in words -----------------------------------
#
# Source: Lindauer and Hutter, "Best Practices for Scientific Research on Neural Architecture Search", JMLR 21 (2020), appendix.


class Point(NamedTuple):
    """One point of the checklist.

    Attributes:
        question: the point, shortened.
        answer: ``yes``, ``no`` or ``yours`` (only the authors of a study can answer it).
        why: what the answer rests on.
    """

    question: str
    answer: str
    why: str


def checklist(facts: Mapping[str, Any], strategies: Sequence[str]) -> list[Point]:
    """Returns the points with answers.

    Args:
        facts: of a comparison: ``table``, ``runs``, ``seed``, ``queries``, ``simulated_seconds``, ``versions``.
        strategies: the titles that took part.
    """
    many, queries = facts["runs"] >= 10, facts["queries"][-1]
    ablations = len({title.partition("[")[0] for title in strategies}) < len(strategies)
    timed = facts["simulated_seconds"]
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return [
        Point("same benchmark, data split, search space and training for all methods", "yes", f"table {facts['table']}"),
        Point("confounding factors controlled (hardware, versions, run time)", "yes", f"one table for all; {versions}"),
        Point("same evaluation protocol", "yes", f"{queries} distinct queries each, incumbent by validation, test read last"),
        Point("performance compared over time", "yes", "a value after every query" + (" and simulated second" if timed else "")),
        Point("compared with random search", *_yes("random" in strategies, "random took part", "add `random` to --strategies")),
        Point(
            "several runs, seeds reported",
            *_yes(many, f"{facts['runs']} paired runs, seed {facts['seed']}", f"{facts['runs']} runs; use 10 or more"),
        ),
        Point("tabular benchmark used for in-depth evaluation", "yes", f"{facts['architectures']:,} architectures"),
        Point("ablation studies", *_yes(ablations, "settings of one strategy compared", "add variants: NAME[SETTING=VALUE]")),
        Point("code of method, space and training released; settings and seeds given", "yours", "titles list settings"),
        Point("tuning of the methods' own settings and its cost reported", "yours", "say how settings were chosen"),
        Point("end-to-end time reported", *_end_to_end(timed)),
        Point("all details of the setup reported", "yours", "the JSON file and this command are a start"),
    ]


def _yes(true: bool, why: str, otherwise: str) -> tuple[str, str]:
    return ("yes", why) if true else ("no", otherwise)


def _end_to_end(timed: bool) -> tuple[str, str]:
    why = "simulated training seconds and the search's own processor seconds stand in the records"
    return _yes(timed, why, "the table has no training times; the search's own processor seconds stand in the records")


def checklist_text(points: Sequence[Point]) -> str:
    """Returns the points one a line, with the count of those that are satisfied."""
    decided = [point for point in points if point.answer != "yours"]
    done = sum(point.answer == "yes" for point in decided)
    head = f"NAS best-practice checklist: {done} of {len(decided)} points that a comparison can satisfy, {len(points) - len(decided)} are yours"
    return "\n".join([head, *(f"  {p.answer:<5} {p.question}: {p.why}" for p in points)])


# -- JSON for programs ---------------------------------------------------------------------------------------------------


def write_records(bench: RankBench | Bench | FrontBench, path: Path) -> None:
    """Writes what :func:`records_of` returns."""
    write_json(path, records_of(bench))


def records_of(bench: RankBench | Bench | FrontBench) -> list[dict[str, Any]]:
    """Returns the records, each with the facts of the comparison under ``facts``."""
    return [{**record, "facts": bench.facts} for record in bench.records]


# -- What a comparison of shared weights hands over: a table for people -------------------------------------------------


def _interval(record: dict[str, Any]) -> str:
    value, low, high = record["value"], record["low"], record["high"]
    if value is None:
        return "–"
    return f"{value:.3f}" if low is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def one_shot_summary(bench: OneShotBench) -> str:
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
    lines += _with_labels(bench.records)
    for effect in bench.effects:
        d = effect["difference"]
        rest = ", ".join(f"{k} {v}" for k, v in effect.items() if k not in ("option", "value", "against", "difference"))
        note = "" if d["low"] > 0 or d["high"] < 0 else " (within noise)"
        lines.append(
            f"{effect['option']} {effect['value']} instead of {effect['against']}: tau {d['value']:+.3f} "
            f"[{d['low']:+.3f}, {d['high']:+.3f}]{note}; {rest}"
        )
    return "\n".join(lines)


def _with_labels(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a line for each training and number of true labels."""
    return [
        f"with {n} true labels, on the other cells ({record['sampling']}, {record['passes']:g} passes, seed {record['seed']}): "
        + ", ".join(f"{name} {_interval(tau)}" for name, tau in taus.items())
        for record in records
        for n, taus in record["with_labels"].items()
    ]


# -- What a comparison of rankers hands over: a table for people, a figure ---------------------------------------------


FIGURES = (".svg", ".png", ".pdf")


def check_figure(path: Path | None) -> None:
    """Raises SettingError for a figure in another format, before anything is computed for it."""
    if path is not None and path.suffix.lower() not in FIGURES:
        raise SettingError(f"--figure {path}: the name must end in {', '.join(FIGURES)}")
    if path is not None:
        check_matplotlib()


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


def rank_summary(bench: RankBench) -> str:
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


def write_csv(bench: Bench | FrontBench, path: Path) -> None:
    """Writes the records, one a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for record in bench.records for name in record))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(bench.records)


def write_trajectories(bench: Bench, path: Path) -> None:
    """Writes mean validation accuracy and regret after every query, one row a strategy, budget and query."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["strategy", "budget", "query", "mean_validation", "mean_regret", "median_regret", "mean_seconds"])
        for (title, budget), curve in bench.curves.items():
            columns = curve.validation.mean(0), curve.regret.mean(0), np.median(curve.regret, 0), curve.seconds.mean(0)
            for query, values in enumerate(zip(*columns), 1):
                writer.writerow([title, budget, query, *map(float, values)])


def write_figures(bench: Bench, folder: Path, *, suffix: str = "svg") -> list[Path]:
    """Writes regret over queries (and seconds where the table has times), and critical differences at each number of queries."""
    from archduel.reporting.figures import critical_difference, trajectories

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


def search_summary(bench: Bench) -> str:
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

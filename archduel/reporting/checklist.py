"""Which points of the NAS best-practice checklist a comparison satisfies, in words.

Source: Lindauer and Hutter, "Best Practices for Scientific Research on Neural Architecture Search", JMLR 21 (2020), appendix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Point", "checklist", "checklist_text"]


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

"""Several objectives in the main job: which there are, what measures them, and what a race for a front came to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from archduel.commands.search.latency import latency_at
from archduel.commands.search.objectives import ACCURACY
from archduel.commands.search.settings import Settings
from archduel.core import SCORE, Arch, Counts, Objectives, Scale, Space
from archduel.core.fronts import MARGIN, front, hypervolume, normalised
from archduel.errors import RunError
from archduel.race import Member, Tradeoff
from archduel.race.sizes import depths, widths
from archduel.spaces.family import count
from archduel.spaces.memory import footprint

__all__ = ["front_fields", "front_lines", "front_sentence", "objectives_for", "refuse_front", "tradeoff_of", "volume_over_time"]

CLOSED = ("params", "macs")
POINTS = 200  # of a curve: more cannot be seen


def refuse_front(result: Mapping[str, Any], what: str) -> None:
    """Raises RunError for a run with several objectives, which has no single network to go on with."""
    if "front" in result:
        members = len(result["front"]["members"])
        raise RunError(f"this run has several objectives and {members} networks; {what} is for runs with one. A new run with a longer --time has more for each")


def tradeoff_of(settings: Settings) -> Tradeoff | None:
    """Returns what a race weighs against accuracy; None for a race for accuracy alone.

    Raises:
        SettingError: without moocore: before hours of training rather than after.
    """
    if settings.objectives is None:
        return None
    front([[0.0, 0.0]])
    names = [name for name in settings.objectives if name != ACCURACY]

    def measure(arch: Arch, scale: Scale, counts: Counts) -> dict[str, float]:
        """Returns what a network costs."""
        found: dict[str, float] = {"params": counts.params, "macs": counts.macs}
        if {"ram", "flash"} & set(names):
            need = footprint(arch, scale, int8=settings.int8)
            found |= {"ram": need.ram, "flash": need.flash}
        if "latency_ms" in names:
            found["latency_ms"] = latency_at(settings, scale)(arch)
        return {name: float(found[name]) for name in names}

    return Tradeoff(measure, settings.front)


def objectives_for(settings: Settings, space: Space, image_size: int, in_channels: int, n_classes: int) -> Objectives | None:
    """Returns what the strategy weighs: logarithms of costs, known beforehand where architectures have a size of their own.

    Elsewhere the race decides a newcomer's size, so that a cost is known once it has entered.
    """
    if settings.objectives is None:
        return None
    known: dict[str, Callable[[Sequence[Arch]], Any]] = {}
    if len(widths(space)) == 1:
        scale = Scale(widths(space)[0], depths(space)[0], image_size, in_channels, n_classes)
        for place, name in enumerate(CLOSED):
            if name in settings.objectives:
                known[name] = partial(_logarithms, scale, place)
    return Objectives((SCORE, *(name for name in settings.objectives if name != ACCURACY)), known)


def _logarithms(scale: Scale, place: int, archs: Sequence[Arch]) -> Any:
    """Returns (N,) logarithms of parameters (0) or multiply-adds (1)."""
    return np.log([max(1, count(arch, scale)[place]) for arch in archs])


def front_fields(
    settings: Settings, members: Sequence[Member], tests: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Returns what ``result.json`` says of a front: its members from the best on (see ``--rank-by``), which is the knee, what it is worth over time.

    Args:
        settings: of the run.
        members: trained and validated, the knee first.
        tests: what each said of the test images, and where it lies, in the same order.
        records: of the race's journal.
    """
    losses = np.array([member.losses for member in members])
    best = set(front(losses).tolist())
    order = sorted(range(len(members)), key=lambda i: (losses[i].tolist(), i))
    rows = [
        {
            "member": place, "knee": i == 0, "non_dominated": i in best, "number": members[i].candidate.number,
            "role": members[i].candidate.role, "arch": str(members[i].candidate.entry.arch), "name": members[i].candidate.name,
            "params": members[i].candidate.params, "macs": members[i].candidate.entry.counts.macs,
            "costs": dict(members[i].candidate.entry.costs), "validation": dict(members[i].point),
            "seconds": round(members[i].candidate.seconds, 3), "passes": round(members[i].candidate.passes, 3),
            "recipe": asdict(members[i].recipe), **tests[i],
        }
        for place, i in enumerate(order, 1)
    ]  # fmt: skip
    return {"objectives": list(settings.objectives or ()), "rank_by": settings.rank_by, "members": rows, "hypervolume": volume_over_time(records)}


def front_sentence(front: Mapping[str, Any], n_validation: int) -> str:
    """Returns what a front came to, in plain words; from ``result.json``."""
    members = front["members"]
    knee = next(row for row in members if row["knee"])
    other = next((row["member"] for row in members if not row["knee"]), None)
    between = f"between {' and '.join(front['objectives'])}"
    rows = [f"member {row['member']} {100 * row['validation']['accuracy']:.1f} % with {_costs(row)}" for row in (members[0], members[-1])]
    if other is None:
        return f"1 network {between} was trained to the end, {rows[0]} on {n_validation:,} validation images. It is handed over; there is no other to take."
    beaten = sum(not row["non_dominated"] for row in members)
    by = " They are compared by the likelihood of the right classes, which need not follow accuracy." if front.get("rank_by") == "likelihood" else ""
    lost = f" {beaten} of them {'is' if beaten == 1 else 'are'} beaten by another one after the last training." if beaten else ""
    return (
        f"{len(members)} networks {between} were trained to the end; on {n_validation:,} validation images they reach from "
        f"{' to '.join(rows)}.{by}{lost} Member {knee['member']}, the knee, is handed over; `archduel export RUN --member {other} --to FOLDER` takes another one."
    )


def front_lines(result: Mapping[str, Any]) -> list[str]:
    """Returns a line for each member of a front, none for a run that has none."""
    rows = result.get("front", {}).get("members", [])
    return [
        f"{'knee  ' if row['knee'] else 'member'}  {row['member']}  validation {row['validation']['accuracy']:.2%}, test {row['test']['accuracy'][0]:.2%}, "
        f"{_costs(row)}  {row['name']}{'' if row['non_dominated'] else ' (beaten)'}"
        for row in rows
    ]


def _costs(row: Mapping[str, Any]) -> str:
    words = {"params": "parameters", "macs": "multiply-adds", "latency_ms": "ms", "ram": "bytes of RAM", "flash": "bytes of flash"}
    return ", ".join(f"{cost:.3g} {words[name]}" if name == "latency_ms" else f"{cost:,.0f} {words[name]}" for name, cost in row["costs"].items())


def volume_over_time(records: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Returns (seconds, hypervolume) of the networks of a race as they stood after each score, the last training included.

    Losses are 1 - score and logarithms of costs, in ranges of the front of all points that were ever reached, up to 1.1: the
    hypervolume is then between 0 and about 1.2 and means nothing outside of its run.
    """
    costs = {r["number"]: [math.log(cost) for cost in r.get("costs", {}).values()] for r in records if r["event"] == "enter"}
    events = [r for r in records if r["event"] in ("rung", "member") and r.get("point") and costs.get(r["number"])]
    if not events:
        return []
    reached = np.array([[1.0 - r["point"]["score"], *costs[r["number"]]] for r in events])
    unit = normalised(reached, reached[front(reached)])
    reference = np.full(unit.shape[1], 1 + MARGIN)
    now: dict[int, int] = {}
    curve = []
    for place, record in enumerate(events):
        now[record["number"]] = place
        curve.append([round(float(record["clock"]), 2), round(hypervolume(unit[list(now.values())], reference), 5)])
    step = max(1, len(curve) // POINTS)
    return [*curve[::step], *([curve[-1]] if (len(curve) - 1) % step else [])]

"""The networks of a job, and the trials of a comparison, from the records of its journal: for trackers that show each of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from archduel import registry
from archduel.core import Space, decisions, parse
from archduel.core.space import WordedSpace
from archduel.errors import ArchduelError
from archduel.training.tracking import Candidate

__all__ = ["Candidates"]

POINTS = 200
"""Steps of a curve at most: more cannot be seen."""
Answers = dict[str, tuple[Any, tuple[Any, ...]]]


class Candidates:
    """Follows a journal: a record in, the networks out that it tells something new of."""

    def __init__(self) -> None:
        self._racing: dict[int, Candidate] = {}
        self._chosen: set[int] = set()
        self._numbers: dict[str, int] = {}
        self._makers = {"enter": self._entered, "rung": self._rung, "choice": self._choice, "trained": self._choice, "member": self._choice, "estimate": self._estimate, "trial": self._trial}  # fmt: skip

    def __call__(self, record: Mapping[str, Any]) -> Iterable[Candidate]:
        """Yields the candidates that ``record`` tells something new of."""
        return self._makers.get(record.get("event", ""), lambda record: ())(record)

    def rest(self) -> Iterable[Candidate]:
        """Yields the networks of a finished race as they ended: chosen ones, and those that others left behind."""
        for number, candidate in self._racing.items():
            if candidate.state == "running":
                yield replace(candidate, state="finished" if number in self._chosen and candidate.curve else "dropped")

    def _entered(self, record: Mapping[str, Any]) -> Iterable[Candidate]:
        params, macs = (*record["counts"], None, None)[:2]
        measures = {"kind": record["role"], "params": params, "macs": macs}
        self._racing[record["number"]] = found = Candidate(
            record["number"], record["arch"], answers=_answers(record["arch"]), measures=measures, clock=float(record.get("clock", 0.0))
        )
        yield found

    def _rung(self, record: Mapping[str, Any]) -> Iterable[Candidate]:
        before, point = self._racing.get(record["number"]), record["point"]
        if before is None:
            return
        score = point.get("accuracy") if point else None
        if score is None:
            found = replace(before, state="failed", clock=float(record.get("clock", 0.0)))
        else:
            found = replace(before, curve={**before.curve, record["rung"]: score}, score=score, clock=float(record.get("clock", 0.0)))
        self._racing[record["number"]] = found
        yield found

    def _choice(self, record: Mapping[str, Any]) -> Iterable[Candidate]:
        self._chosen |= set(record.get("numbers", [record["number"]] if "number" in record else []))
        return ()

    def _estimate(self, record: Mapping[str, Any]) -> Iterable[Candidate]:
        values = record["values"]
        told = values.get("answers")
        answers = _answers(record["arch"]) if not isinstance(told, Mapping) else {n: (v, ()) for n, v in told.items() if type(v) in (int, float)}
        texts = {f"answer {name}": str(value) for name, value in told.items() if name not in answers} if isinstance(told, Mapping) else {}
        score = values.get("val_metric", record["score"])
        failed = record["score"] is None or score is None or not math.isfinite(score)
        measures = {name: values[name] for name in ("params", "macs") if name in values} | texts
        measures |= {name: record[name] for name in ("stage", "reason") if record.get(name)}
        yield Candidate(
            self._next(""), record["arch"], answers=answers, score=None if failed else score, state="failed" if failed else "finished",
            measures=measures, clock=float(record.get("clock", 0.0)), seconds=float(record.get("seconds", 0.0)),
        )  # fmt: skip

    def _trial(self, record: Mapping[str, Any]) -> Iterable[Candidate]:
        group = str(record.get("title", record.get("ranker", record.get("sampling", "trial"))))
        best, curve = -math.inf, dict[int, float]()
        scores = [score for score in record.get("scores", ()) if score is not None]
        for step, score in enumerate(scores, 1):
            best = max(best, score) if math.isfinite(score) else best
            if math.isfinite(best) and (step == len(scores) or step % max(1, len(scores) // POINTS) == 0):
                curve[step] = best
        quality = record.get("quality", {}).get("kendall_tau")
        score = quality if quality is not None and math.isfinite(quality) else best if curve else None
        answers: Answers = {name: (record[name], ()) for name in ("labels", "queries", "run", "split") if type(record.get(name)) is int}
        yield Candidate(
            self._next(group), group, group, answers=answers, curve=curve, score=score, state="failed" if score is None else "finished",
            clock=float(record.get("clock", 0.0)),
        )  # fmt: skip

    def _next(self, group: str) -> int:
        self._numbers[group] = number = self._numbers.get(group, -1) + 1
        return number


@lru_cache(1000)
def _space(name: str) -> Space | None:
    """Returns a space of ours; None for one from outside, which is not run because somebody looks at a journal."""
    from archduel.spaces.lookup import open_space

    if name not in registry.MENUS["space"] or registry.MENUS["space"][name] in registry.plug_ins("space"):
        return None
    try:
        return open_space(name)
    except ArchduelError:
        return None


def _answers(text: str) -> Answers:
    """Returns what an architecture decides, in the words of its space; nothing where the space is not ours."""
    try:
        arch = parse(text)
        space = _space(arch.space)
        if space is None:
            return {}
        asked = list(zip(decisions(space, arch.choices), arch.choices))
    except ArchduelError:
        return {}
    found: Answers = {}
    for decision, choice in asked:
        words = space.words(decision.kind) if isinstance(space, WordedSpace) else ()
        # the whole vocabulary: Optuna wants one list of answers a parameter, whatever was asked before
        options: tuple[Any, ...] = words or tuple(range(space.kinds[decision.kind]))
        found[f"{arch.space} {decision.name}"] = (options[choice], options)
    return found

"""`archduel.search_space`: a search over any space with any function, journalled, continued by the same call."""

from __future__ import annotations

import json
import math
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from archduel import registry
from archduel.assemble import assemble, declaration
from archduel.commands.options import parse_seconds
from archduel.commands.progress import Progress
from archduel.commands.study.judging import StudyJudge, answers_of
from archduel.commands.study.study import Study
from archduel.commands.tracking import following
from archduel.core import (
    Allowance,
    Arch,
    Budget,
    Constraint,
    Estimate,
    Executor,
    Query,
    StepReport,
    Strategy,
    search,
)
from archduel.core.job import STUDY, Job
from archduel.core.search import Told
from archduel.errors import RunError, SettingError, check_at_least
from archduel.execution import Processes, Sequential
from archduel.spaces.own.space import script

__all__ = ["search_space"]

HOPELESS = 5
"""Evaluations that may all fail before a study ends with the reason: a mistake in the function is no property of the space."""
ITERATIONS = 1_000
"""Steps without evaluations that a strategy may plan for: they take milliseconds, an evaluation mostly much longer."""
TAIL = 4
"""A strategy that labels first keeps one in so many evaluations for what it proposes."""


def search_space(
    space: Any,
    evaluate: Callable[..., Any],
    *,
    strategy: str | Strategy = "best",
    evaluations: int | None = None,
    time: str | float | None = None,
    out: str | Path | None = None,
    workers: int = 1,
    window: int = 4,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    constraint: Constraint | None = None,
    inherit: bool = False,
    init: str | Path = "",
    keep_weights: bool = False,
    device: str = "cpu",
    threads: int = 1,
    track: str = "",
    quiet: bool | None = None,
) -> Study:
    """Returns a study of a space: a strategy asks, a person's function answers, everything is written down.

    The same call continues an interrupted study, and with more ``evaluations`` a finished one. The same seed gives the same study,
    whatever the number of workers, as long as ``evaluate`` draws its random numbers from the global generators or ``context.seed``.

    Args:
        space: :func:`archduel.space_of` a network, :func:`archduel.space` of options, a class with choices, or any :class:`archduel.Space`.
        evaluate: ``evaluate(made, context)`` or ``evaluate(made)`` returns a number (higher is better) or ``{"score": number, ...}``; ``made`` is the
            person's own untrained network, of a table of options a dict, of a space of ours the architecture. An exception is a failed
            evaluation with its reason in the journal.
        strategy: a name (`archduel list strategies`), ``module:Class``, or an object.
        evaluations: how many; None = until the time is up or the space is exhausted.
        time: seconds of evaluations and steps together, such as ``"2h"``; with two workers an hour of both counts twice.
        out: folder of the study; None = nothing is written.
        workers: processes; with more than one ``evaluate`` and the space must be importable from a file.
        window: how many are asked at a time, whatever the number of workers, so that this does not change a study.
        seed: of everything.
        settings: of the strategy, such as ``{"ranker": "gp"}``.
        constraint: ``(arch) -> bool`` says which architectures are allowed.
        inherit: every network starts from the weights of the nearest one that was evaluated before it, leading channels where shapes
            differ; needs ``out``.
        init: file of weights (``.pth``, ``.safetensors``) that every network starts from.
        keep_weights: whether the weights of every evaluated network are kept, for :meth:`Study.model`; needs ``out``.
        device: told to ``evaluate``; networks are moved there.
        threads: of torch in each evaluation.
        track: a tracker that is told too, such as ``"mlflow"`` (`archduel list trackers`); needs ``out``.
        quiet: print nothing; None = print where a person watches, in a terminal or a notebook.

    Raises:
        RunError: for a folder with another study, or where the first evaluations all fail.
        SettingError: for settings out of range, or what workers cannot import.
    """
    _check(evaluations, time, workers, window, out, inherit or keep_weights)
    opened = _opened(space)
    folder = None if out is None else Path(out).resolve()
    file = str(Path(init).resolve()) if init else ""
    judge = StudyJudge(opened, evaluate, folder, device, inherit or keep_weights, file, threads)
    if workers > 1:
        _check_importable(judge)
    name = strategy if isinstance(strategy, str) else type(strategy).__name__
    asked = {
        "space": opened.name, "decisions": getattr(opened, "digest", ""), "evaluate": getattr(evaluate, "__qualname__", type(evaluate).__name__),
        "strategy": name, "seed": seed, "window": window, "inherit": inherit, "init": str(init), "settings": dict(settings or {}),
    }  # fmt: skip
    progress = Progress(quiet=quiet)
    with ExitStack() as stack:
        stack.callback(progress.end)
        stack.enter_context(following(track, folder, progress.say))
        job = None if folder is None else stack.enter_context(Job(folder, STUDY, {"study": asked}, command=" ".join(sys.argv), defaults={}))
        records: Any = _Memory() if job is None else _begun(job)
        chosen = _strategy(strategy, opened, seed, constraint, _planned(job, name, opened, evaluations, settings or {}))
        budget = Budget(evaluations, None if time is None else parse_seconds(time))
        _run(opened, judge, chosen, budget, records, workers=workers, window=window, seed=seed, inherit=inherit, progress=progress)
        study = Study(folder, opened, records=records.records)
        if job is not None:
            best = study.best
            job.write("result.json", {"best": best.row(), "evaluations": len(study.evaluations)})
        return study


def _check(evaluations: int | None, time: object, workers: int, window: int, out: object, weights: bool) -> None:
    if registry.loading():
        raise RunError(f"{registry.loading()} starts a search whenever its network is looked up in it; put that under `if __name__ == '__main__':`")
    if evaluations is None and time is None:
        raise SettingError("say how much: search_space(..., evaluations=60) or time='1h'")
    check_at_least(1, workers=workers, window=window, **({} if evaluations is None else {"evaluations": evaluations}))
    if weights and out is None:
        raise SettingError("weights are kept in the study's folder; give one: out='runs/mine'")


def _opened(space: Any) -> Any:
    """Returns the space that is meant by a class, a table of options, or a space."""
    if isinstance(space, Mapping):
        from archduel.spaces.own.making import space as table

        return table(space)
    if isinstance(space, str):
        return registry.make("space", space)
    if hasattr(space, "decision"):
        return space() if isinstance(space, type) else space
    from archduel.spaces.own.making import space_of

    return space_of(space)


def _check_importable(judge: StudyJudge) -> None:
    """Raises SettingError for a function or class that a worker process could not find."""
    for what, part in (("evaluate", judge.evaluate), ("the space's class", judge.space)):
        home = getattr(getattr(part, "program", part), "__module__", "")
        interactive = home == "__main__" and script() is None
        try:
            pickle.dumps(getattr(part, "program", part))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            interactive, reason = True, f" ({error})"
        else:
            reason = ""
        if interactive:
            raise SettingError(
                f"workers import {what} from its file, and it is in none: it is a lambda, stands inside a function, or was typed into a notebook "
                f"or shell{reason}; put it at the top level of a file (mine.py) and import it from there, or use workers=1"
            )


def _begun(job: Job) -> Any:
    """Returns the journal; failures of a study in which nothing succeeded are taken out: their reason is mended by now, or comes again."""
    estimates = [record for record in job.journal.records if record.get("event") == "estimate"]
    if estimates and all(record["reason"] for record in estimates):
        job.journal.drop(lambda record: record.get("event") in ("estimate", "plan"))
    return job.part("")


class _Memory:
    """The records of a study without a folder."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a record."""
        self.records.append(dict(record))


def _planned(job: Job | None, name: str, space: Any, evaluations: int | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the strategy's settings for so many evaluations; of a continued study those that it began with."""

    def plan() -> dict[str, Any]:
        """Returns what the strategy makes of its allowance."""
        if name not in registry.names("strategy") and ":" not in name:
            return {"settings": dict(given)}
        says = declaration(name)
        if says.kind == "one-shot":
            raise SettingError(f"strategy {name!r} works on shared weights; search_space evaluates each architecture by itself")
        number = evaluations or 100
        proposals = max(1, number // TAIL) if says.kind == "labels-first" else 0
        allowance = Allowance(evaluations=number, proposals=proposals, iterations=ITERATIONS, space=space, given=given)
        return {"settings": {**says.settings(allowance), **given}}

    return dict((plan() if job is None else job.once("plan", plan))["settings"])


def _strategy(strategy: str | Strategy, space: Any, seed: int, constraint: Constraint | None, settings: Mapping[str, Any]) -> Strategy:
    if not isinstance(strategy, str):
        return strategy
    return assemble(strategy, space, seed=seed, constraint=constraint, costs=_costs(space), settings=settings)


def _costs(space: Any) -> Any:
    """Returns what tells rankers how large networks are, None where that is not known."""
    if not hasattr(space, "program") or not (space.example is not None or "in_channels" in space.arguments):
        return None
    from archduel.spaces.own.network import predicted_costs

    return lambda archs: predicted_costs(space, archs, space.scale)


class _Listening:
    """A strategy, and what it was told: a parent is chosen among those, so that a continued study chooses the same."""

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self.told: dict[Arch, float] = {}

    def ask(self, n: int) -> list[Query]:
        """Asks the strategy."""
        return self.strategy.ask(n)

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Tells the strategy, and remembers."""
        self.strategy.tell(queries, estimates)
        self.told.update((query.arch, estimate.score) for query, estimate in zip(queries, estimates) if not estimate.failed)

    def step(self) -> StepReport | None:
        """Lets the strategy learn."""
        return self.strategy.step()

    def best(self) -> Arch:
        """Asks the strategy."""
        return self.strategy.best()

    def state_dict(self) -> dict[str, Any]:
        """Returns the strategy's."""
        return self.strategy.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hands it to the strategy."""
        self.strategy.load_state_dict(state)


class _Numbered:
    """An executor that tells the judge number and parent of each evaluation."""

    def __init__(self, inner: Executor, parent: Callable[[Arch], int | None]) -> None:
        self.inner, self.parent = inner, parent

    def run(self, queries: Sequence[Query], ordinals: Sequence[int]) -> Iterator[Estimate]:
        """Yields one estimate a query, in order."""
        told = [
            Query(query.arch, json.dumps({"ordinal": ordinal, "parent": self.parent(query.arch), "fidelity": query.fidelity}), query.group)
            for query, ordinal in zip(queries, ordinals)
        ]
        yield from self.inner.run(told, ordinals)

    def close(self) -> None:
        """Ends the workers."""
        self.inner.close()


def _run(
    space: Any, judge: StudyJudge, strategy: Strategy, budget: Budget, records: Any, *, workers: int, window: int, seed: int, inherit: bool,
    progress: Progress,
) -> None:  # fmt: skip
    """Asks, evaluates, tells and writes down until the budget is spent."""
    listening = _Listening(strategy)
    numbers: dict[Arch, int] = {}
    done, highest = 0, -math.inf

    def parent(arch: Arch) -> int | None:
        """Returns the number of the nearest architecture that was told, None without inheritance."""
        return _nearest(space, arch, listening.told, numbers) if inherit and listening.told else None

    def on_told(told: Told) -> None:
        """Counts, shows, and ends a study in which everything fails."""
        nonlocal done, highest
        numbers.setdefault(told.query.arch, told.ordinal)
        done, highest = done + 1, highest if told.estimate.failed else max(highest, told.estimate.score)
        if done >= min(HOPELESS, budget.evaluations or HOPELESS) and highest == -math.inf:
            raise RunError(f"the first {done} evaluations all failed, the last one with {told.estimate.reason}")
        progress.advance(done, f"best {highest:.4g}")

    progress.stage("evaluate", budget.evaluations or 0)
    inner: Any = Sequential(judge(), run_seed=seed) if workers == 1 else Processes(judge, workers=workers, run_seed=seed, threads=judge.threads)
    executor = _Numbered(inner, parent)
    try:
        search(listening, executor, budget=budget, window=window, journal=records, on_told=on_told)
    finally:
        executor.close()


def _nearest(space: Any, arch: Arch, told: Mapping[Arch, float], numbers: Mapping[Arch, int]) -> int:
    """Returns the number of the told architecture that differs in the fewest answers, the best and earliest of those."""
    own = answers_of(space, arch)

    def distance(other: Arch) -> tuple[float, float, int]:
        theirs = answers_of(space, other)
        differ = sum(own.get(name) != theirs.get(name) for name in {**own, **theirs})
        return differ, -told[other], numbers[other]

    return numbers[min(told, key=distance)]

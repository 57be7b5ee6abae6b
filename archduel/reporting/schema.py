"""What a report is made of: plain JSON values, every part optional, so that a half-finished run can be reported too.

Conventions: accuracies and probabilities are fractions of 1; ``None`` is "not known" (a failed evaluation, an interval
without ends); times are seconds; ``params`` and ``macs`` are plain counts (MACs are multiply-adds for one image).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

__all__ = [
    "Agreement", "Arm", "Balance", "Candidate", "Cell", "Confusion", "Curve", "Failure", "Final", "KeyFigure", "LiveData", "LogLine", "Mistake",
    "Point", "Reached", "ReportData", "Rung", "StageCost", "Standing", "WinMatrix",
]  # fmt: skip


class KeyFigure(TypedDict, total=False):
    """One of the large numbers at the top: ``label``, ``value`` with its unit, ``note`` (n, interval, what it is)."""

    label: str
    value: str
    note: str


class Final(TypedDict, total=False):
    """A fully trained network. The first of the list is the search's winner."""

    name: str  # "CTNAS", "random search", "ResNet-20 (width 12)"
    arch: str
    params: int
    macs: int
    latency_ms: float
    test: Sequence[float]  # one accuracy a training seed
    validation: Sequence[float]


class Standing(TypedDict, total=False):
    """The best network of one kind at one point of a race, with the interval of its validation accuracy."""

    name: str
    value: float
    low: float
    high: float
    n: int  # networks of the kind that got there


class Arm(TypedDict, total=False):
    """One search: its evaluations in the order they were paid."""

    name: str  # "search (ctnas)", "random search"
    seconds: Sequence[float]  # paid by the end of each evaluation, shared stages counted for each arm
    scores: Sequence[float | None]  # validation score; None = failed


class Curve(TypedDict, total=False):
    """A learning curve; curves of one ``measure`` share a chart."""

    name: str
    measure: str  # "validation accuracy", "training loss", "comparator accuracy"
    x: Sequence[float]
    x_label: str  # "epoch"
    values: Sequence[float | None]
    low: Sequence[float]  # over seeds, optional
    high: Sequence[float]


class Cell(TypedDict, total=False):
    """A drawing of the winner. The SVG may use ``currentColor``; otherwise it gets a light background."""

    title: str
    svg: str
    text: str  # the space's own text form


class Point(TypedDict, total=False):
    """An architecture in the parameters-accuracy scatter. Those with a ``name`` are drawn large."""

    name: str
    arch: str
    params: int
    macs: int
    score: float | None
    kind: str  # "evaluated", "re-evaluated", "winner", "baseline"; any text, a legend entry each
    front: bool  # may stand on the Pareto front (default); false for scores of another recipe, which do not compare


class WinMatrix(TypedDict, total=False):
    """What the comparator thinks of the finalists: ``prob[i][j]`` that i is at least as good as j."""

    names: Sequence[str]
    prob: Sequence[Sequence[float | None]]


class Agreement(TypedDict, total=False):
    """Kendall tau between the scores of two stages over the architectures that both judged, 95 % interval."""

    first: str
    second: str
    tau: float | None  # None: too few architectures, or all scores equal
    low: float | None
    high: float | None
    n: int


class Confusion(TypedDict, total=False):
    """``counts[truth][guess]`` of one network on one split."""

    classes: Sequence[str]
    counts: Sequence[Sequence[int]]
    network: str
    split: str


class Mistake(TypedDict, total=False):
    """An image that was classified wrongly; ``image`` is a ``data:image/png;base64,`` URI."""

    image: str
    file: str
    truth: str
    guess: str
    probability: float  # the network gave to its guess


class Balance(TypedDict, total=False):
    """How many images of a class each split has."""

    name: str
    train: int
    validation: int
    test: int


class Failure(TypedDict, total=False):
    """A candidate without a score."""

    arch: str
    stage: str
    reason: str


class StageCost(TypedDict, total=False):
    """What a stage of the run cost."""

    stage: str
    seconds: float
    evaluations: int
    images: int


class ReportData(TypedDict, total=False):
    """A run, as far as it got."""

    title: str  # the data's name or the run folder's
    subtitle: str  # "10 classes, 1,797 images, 8 x 8 grey"
    created: str
    unfinished: str  # empty when finished; otherwise what is missing and how to continue
    headline: str  # what a person gets: accuracy, size, latency; without it the sentence leads
    known: Sequence[str]  # all that is known of the gain, a sentence or two a line, where a headline leads
    sentence: str  # the gain, from statistics.gain_sentence
    sentence_note: str  # a second sentence, such as against the standard network
    key_figures: Sequence[KeyFigure]
    standings: Sequence[Standing]  # of a race, at equal training
    finals: Sequence[Final]
    n_test: int
    metric: str  # "validation accuracy"; the axis of trajectory and scatter
    label_metric: str  # that of the trajectory where the search sees another one, such as "validation likelihood"
    arms: Sequence[Arm]
    agreement: Sequence[Agreement]
    wins: WinMatrix
    front: Mapping[str, Any]  # of a run with several objectives: objectives, members, hypervolume, metric (as in result.json)
    points: Sequence[Point]
    cells: Sequence[Cell]
    curves: Sequence[Curve]
    confusion: Confusion
    mistakes: Sequence[Mistake]
    balance: Sequence[Balance]
    skipped: Mapping[str, str]  # file -> reason
    failures: Sequence[Failure]
    costs: Sequence[StageCost]
    budget_seconds: float
    clock_seconds: float  # wall clock of the whole run; the stages' seconds add up to more where they ran side by side
    environment: Mapping[str, str]
    command: str
    settings: str  # the text of run.toml
    warnings: Sequence[str]


class Candidate(TypedDict, total=False):
    """An architecture that a job tries or tried, as far as it got."""

    name: str
    kind: str  # "searched", "standard networks", a stage
    score: float | None  # None = failed, or not scored yet
    params: int
    seconds: float  # of training
    at: str  # "rung 2", "evaluation 17"
    note: str  # "goes on to the end", why it failed


class Rung(TypedDict, total=False):
    """A rung of a race: how many networks are there, and the best of them."""

    rung: int
    n: int
    name: str
    score: float
    low: float
    high: float
    seconds: float  # of training that the best had had there


class Reached(TypedDict, total=False):
    """A score at a time of the clock."""

    clock: float
    score: float
    name: str


class LogLine(TypedDict, total=False):
    """A record of the journal in words."""

    clock: float | None
    event: str
    text: str


class LiveData(ReportData, total=False):
    """A job as far as it is at this moment, with what a report of it would show already."""

    name: str
    kind: str  # "search", "training", "study", "comparison" ...
    state: str  # "running", "stopped", "finished"
    process: str  # that works on it
    now: str  # one sentence: what happens
    done: float  # of `allowed`
    allowed: float  # seconds of the budget, evaluations or epochs; 0 or missing = not known
    unit: str  # "seconds", "evaluations", "epochs"
    records: int
    damaged: int  # lines of the journal that could not be read
    reached: Sequence[Reached]  # every score over the clock
    rungs: Sequence[Rung]
    candidates: Sequence[Candidate]  # best first
    more_candidates: int  # that are not listed
    log: Sequence[LogLine]  # newest first

"""FrontContenders, archduel's own search for several objectives: ask what is expected to add most hypervolume to the front.

What is known before an evaluation (multiply-adds, parameters) is taken exactly for every candidate, and only the rest is believed, by
one ranker an objective. The expected gain is then not sampled but worked out: the losses that no member of the front has reached are
cut into boxes, and the gain of a candidate in a box is a product of expected improvements, one factor an objective.

Losses that are above zero are learned as logarithms: errors and latencies differ by factors. A gain is counted in the losses themselves.

Accuracies belong to what an architecture computes, costs that are told with an answer, such as latencies, to how it is written down: their
rankers see the graph too, where they can, and all encodings of the most promising architectures and of those asked before are weighed.
Where closed-form counts are given and such a cost follows them, its ranker learns what a line through their logarithms leaves of it.

Source: expected hypervolume improvement, Emmerich, Giannakoglou and Naujoks, "Single- and Multiobjective Evolutionary Optimization
Assisted by Gaussian Random Field Metamodels", IEEE Trans. Evol. Comp. 2006; over boxes, Yang et al., "Efficient Computation of Expected
Hypervolume Improvement", J. Glob. Optim. 2019. Objectives are taken as independent, as there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from archduel.core import (
    SCORE,
    Arch,
    Believer,
    Constraint,
    Costs,
    Estimate,
    Objectives,
    Outcomes,
    Query,
    Ranker,
    Space,
    State,
    Uncertain,
    enumerate_space,
    sample_distinct,
)
from archduel.core.fronts import corner, front, hypervolume, spread
from archduel.errors import InfeasibleError
from archduel.strategies.best import Contenders
from archduel.strategies.candidates import GraphAware, beliefs
from archduel.strategies.cost_trend import CostTrend
from archduel.strategies.rounds import first_distinct

__all__ = ["Belief", "Boxes", "FrontContenders", "expected_gain", "unreached"]

Matrix = NDArray[np.float64]
MOST_BOXES = 4_096
"""Of more than that many boxes, members that add least are left out: with four objectives, a front of 15 has as many."""
CHUNK = 1_024
"""Candidates at a time, which bounds the memory of boxes times candidates."""
UNSTATED = 0.2
"""Standard deviation, in those of the labels, of a ranker that states none: without any, nothing would be worth exploring."""
HARDLY = 3e-4
"""Share of the front's hypervolume; where less is expected, other encodings of its members are worth a question too."""
DRAWN = 20
"""Random architectures for each one of the first design, which is of all known costs."""
REWRITTEN = 100
"""Most promising architectures, beside those asked before, of which every encoding is weighed where a cost is not known beforehand."""
LEAST = 1e-300  # of a gain, so that it has a logarithm


@dataclass(frozen=True)
class Belief:
    """What is believed of one loss of N architectures: normal, or with a normal logarithm.

    Attributes:
        mean: (N,) expected loss, or expected logarithm.
        deviation: (N,) standard deviation of that; zeros = known exactly.
        logs: whether they are of logarithms.
    """

    mean: Matrix
    deviation: Matrix
    logs: bool = False

    def improvement(self, bounds: Matrix) -> Matrix:
        """Returns (N, K) by how much the loss is expected to be below each of K bounds; 0 for a bound of minus infinity."""
        deviation = np.maximum(self.deviation, 1e-9)[:, None]
        mean, inner = self.mean[:, None], np.isfinite(bounds) & ((bounds > 0) | (not self.logs))
        improvement = np.zeros((len(self.mean), len(bounds)))
        if self.logs:
            place = (np.log(bounds[inner]) - mean) / deviation
            below = np.exp(mean + deviation**2 / 2) * ndtr(place - deviation)
            improvement[:, inner] = bounds[inner] * ndtr(place) - below
        else:
            place = (bounds[inner] - mean) / deviation
            density = np.exp(-0.5 * np.minimum(place**2, 1e4)) / np.sqrt(2 * np.pi)
            improvement[:, inner] = deviation * (place * ndtr(place) + density)
        return np.maximum(improvement, 0.0)

    def part(self, rows: slice) -> Belief:
        """Returns the belief of some of them."""
        return Belief(self.mean[rows], self.deviation[rows], self.logs)


@dataclass(frozen=True)
class Boxes:
    """The losses below a reference point that no member of a front has reached.

    Attributes:
        edges: of each objective but the last, ascending: minus infinity, the front's values, the reference.
        places: (K, M - 1) which interval of each objective a box spans.
        tops: (K,) up to where it goes in the last objective, from minus infinity.
    """

    edges: tuple[Matrix, ...]
    places: NDArray[np.int64]
    tops: Matrix


def unreached(losses: Matrix, reference: Matrix) -> Boxes:
    """Returns the boxes between the front ``losses`` (K, M) and ``reference`` (M,)."""
    losses = losses[(losses < reference).all(1)]
    n = losses.shape[1]
    if n == 1:
        return Boxes((), np.empty((1, 0), np.int64), np.array([losses.min(initial=reference[0])]))
    most = int(MOST_BOXES ** (1 / (n - 1))) - 1
    losses = losses if len(losses) <= most else losses[spread(losses, most)]
    edges = tuple(np.array([-np.inf, *np.unique(losses[:, m]), reference[m]]) for m in range(n - 1))
    places = np.array(list(product(*(range(len(edge) - 1) for edge in edges))), np.int64)
    lows = np.stack([edge[places[:, m]] for m, edge in enumerate(edges)], 1)
    reached = (losses[None, :, :-1] <= lows[:, None]).all(2)  # (boxes, front)
    tops = np.where(reached, losses[None, :, -1], np.inf).min(1, initial=reference[-1])
    return Boxes(edges, places, tops)


def expected_gain(believed: Sequence[Belief], boxes: Boxes) -> Matrix:
    """Returns (N,) the hypervolume that each architecture is expected to add.

    Args:
        believed: of each of M objectives.
        boxes: of what the front has not reached.
    """
    n = len(believed[0].mean)
    gains = np.empty(n)
    for start in range(0, n, CHUNK):
        rows = slice(start, start + CHUNK)
        gain = believed[-1].part(rows).improvement(boxes.tops)  # (N, boxes)
        for m, edges in enumerate(boxes.edges):
            gain = gain * np.diff(believed[m].part(rows).improvement(edges), axis=1)[:, boxes.places[:, m]]
        gains[rows] = gain.sum(1)
    return gains


class FrontContenders(Contenders):
    """Asks the architectures of largest expected hypervolume improvement, one at a time.

    Args:
        ranker: what is fitted to each loss that is not known beforehand; for further ones copies of it.
        objectives: what is to be small; None = 1 - score alone.
        constraint: which architectures are allowed.
        costs: gives closed-form counts, multiply-adds last; None = there are none.
        initial: random architectures first.
        batch: architectures a round.
        whole: spaces of at most this many encodings are judged whole, larger ones are bred from.
        bred: mutants a generation.
        generations: of mutants a round.
    """

    # a floor lower than usual: networks of little accuracy and little cost are members of a front
    partners: ClassVar[Mapping[str, str | Mapping[str, Any]]] = {"ranker": {"name": "gp", "share": 0.5, "floor": 6.0}}
    several: ClassVar[str] = ""

    def __init__(
        self,
        space: Space,
        ranker: Ranker,
        *,
        rng: np.random.Generator,
        objectives: Objectives | None = None,
        constraint: Constraint | None = None,
        costs: Costs | None = None,
        initial: int = 10,
        batch: int = 1,
        whole: int = 50_000,
        bred: int = 500,
        generations: int = 4,
    ) -> None:
        super().__init__(
            space, ranker, rng=rng, constraint=constraint, initial=initial, batch=batch, whole=whole, bred=bred, generations=generations
        )
        self.objectives = objectives or Objectives()
        self.outcomes = Outcomes(self.objectives)
        believed = [name for name in self.objectives.names if name not in self.objectives.known]
        self.rankers = {name: _ranker_for(name, ranker) for name in believed}
        self.ranker = next(iter(self.rankers.values()), ranker)
        told = any(name != SCORE for name in believed)
        self._trend = CostTrend(costs) if costs is not None and told else None
        self._volume = 0.0  # of the front, as of the last goal
        self._turns = 0  # proposals made where little gain was expected
        self._logs: dict[str, bool] = {}
        self._units: dict[str, tuple[float, float, float]] = {}  # name -> intercept, slope, deviation of labels over scores
        self._twins: dict[str, list[Arch]] | None = None  # fingerprint -> encodings, once they were needed
        self._beforehand: tuple[Sequence[Arch], Matrix] | None = None  # of the listed space, once it was needed

    def ask(self, n: int) -> list[Query]:
        """Returns at most ``n`` new architectures; empty while there is something to learn first."""
        if not self.rounds.drawn and self._exact():
            self._design()
        return super().ask(n)

    def _design(self) -> None:
        """Queues a first design of all sizes: one random architecture of each share of the known costs, from cheap to dear."""
        initial = self.rounds.initial
        try:
            drawn = sample_distinct(self.space, DRAWN * initial, self.rng, constraint=self.constraint)
        except InfeasibleError as few:
            drawn = list(few.archs)
        known = self._known(drawn)[:, self._exact()]
        there = np.flatnonzero(np.isfinite(known).all(1))
        if len(there) < initial:  # of a small space all will be asked anyway
            return
        size = known[there].argsort(0, kind="stable").argsort(0).sum(1)  # (N,) sum of ranks
        for part in np.array_split(there[np.argsort(size, kind="stable")], initial):
            self.rounds.propose([drawn[int(self.rng.choice(part))]])
            self.rounds.drawn += 1

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Remembers the losses; an evaluation that lacks one has failed."""
        told = self.outcomes.record(queries, estimates)
        super().tell(queries, [e if np.isfinite(losses[0]) else Estimate(np.nan, reason="no loss") for e, (_, losses) in zip(estimates, told)])

    def _learn(self) -> int:
        archs, losses = self.outcomes.labelled()
        for name, ranker in self.rankers.items():
            column = losses[:, self.objectives.names.index(name)]
            self._logs[name] = logs = bool((column > 0).all())
            labels = -np.log(column) if logs else -column
            if self._trend is not None and name != SCORE:
                labels = self._trend.fit(name, archs, labels)
            if np.ptp(labels) == 0:
                self._units[name] = (float(labels[0]), 0.0, 0.0)
                continue
            ranker.fit(archs, labels)
            self._units[name] = _units(ranker, archs, labels)
        return len(archs)

    def _goal(self) -> Boxes:
        """Returns what the front has not reached, up to the worst there is where that is known, else somewhat beyond the worst met."""
        losses = self.outcomes.labelled()[1]
        listed = self._all()[1]
        worst = corner(losses)
        if listed:  # a first design may hold none of the large ones
            known = self._known(listed)
            known = np.where(np.isfinite(known), known, -np.inf).max(0)
            worst = np.maximum(worst, known)
        members = losses[front(losses)]
        self._volume = hypervolume(members, worst)
        return unreached(members, worst)

    def _batch(self, archs: list[Arch], goal: Boxes, size: int) -> list[Arch]:
        """Returns ``archs``, best first; where a cost is not known beforehand, encodings of the best are queued instead.

        Where hardly any gain is expected, another encoding of a member comes every other time: what computes the same need not cost the
        same, and an accuracy has noise.
        """
        costs_told = any(name != SCORE for name in self.rankers)
        if costs_told and (encodings := self._encodings(archs[:REWRITTEN])):
            worth = self._worth(encodings, goal)
            archs = [encodings[i] for i in np.argsort(-worth, kind="stable").tolist()]
        gain = float(np.exp(self._worth(archs[:1], goal)[0])) if archs else 0.0
        if gain < HARDLY * self._volume:
            self._turns += 1
            if self._turns % 2 == 0 and (twin := self._twin()) is not None:
                self.rounds.again(twin)
                return []
        archs = super()._batch(archs, goal, size)
        if not costs_told:
            return archs
        for arch in archs[:size]:  # one of a fingerprint that was asked would be taken for old
            self.rounds.pool.add(arch)
            self.rounds.again(arch)
        return []

    def _encodings(self, archs: Sequence[Arch]) -> list[Arch]:
        """Returns every encoding of ``archs`` and of what was asked that was not asked itself; nothing in a space too large to list."""
        twins = self._all_twins()
        prints = dict.fromkeys(self.space.fingerprint(arch) for arch in [*self.outcomes.labelled()[0], *archs])
        return [arch for each in prints for arch in twins.get(each, ()) if arch not in self.outcomes]

    def _all_twins(self) -> Mapping[str, list[Arch]]:
        """Returns every allowed encoding by its fingerprint; nothing in a space too large to list."""
        if self._twins is None:
            self._twins = {}
            for arch in enumerate_space(self.space) if self._all()[1] else ():
                if self.constraint is None or self.constraint(arch):
                    self._twins.setdefault(self.space.fingerprint(arch), []).append(arch)
        return self._twins

    def _twin(self) -> Arch | None:
        """Returns an architecture that computes the same as a member of the front, costs no more as far as known, and was not asked."""
        found = []
        for member in self.outcomes.members():
            twins = [arch for arch in self._all_twins().get(self.space.fingerprint(member), ()) if arch not in self.outcomes]
            known, own = self.objectives.beforehand([*twins, member]), self.objectives.beforehand([member])
            found += [arch for arch, losses in zip(twins, known) if not (losses > own[0]).any()]
        return found[int(self.rng.integers(len(found)))] if found else None

    def _parents(self) -> list[Arch]:
        return self.outcomes.members()

    def _worth(self, archs: Sequence[Arch], goal: Boxes, assumed: Sequence[Arch] = ()) -> Matrix:
        """Returns (N,) logarithms of the expected gain; minus infinity where something known beforehand is no number."""
        known = self._known(archs)
        believed = [
            self._believed(name, archs, assumed) if name in self.rankers else Belief(known[:, m], np.zeros(len(archs)))
            for m, name in enumerate(self.objectives.names)
        ]
        gains = np.log(np.maximum(expected_gain(believed, goal), LEAST))
        return np.where(np.isfinite(known[:, self._exact()]).all(1), gains, -np.inf)

    def _exact(self) -> list[int]:
        """Returns which losses are known beforehand."""
        return [m for m, name in enumerate(self.objectives.names) if name in self.objectives.known]

    def _known(self, archs: Sequence[Arch]) -> Matrix:
        """Returns (N, M) what is known beforehand; of the listed space it is worked out once."""
        if not isinstance(archs, tuple):  # a list of the same identity may have changed since
            return self.objectives.beforehand(archs)
        if self._beforehand is None or self._beforehand[0] is not archs:
            self._beforehand = archs, self.objectives.beforehand(archs)
        return self._beforehand[1]

    def _believed(self, name: str, archs: Sequence[Arch], assumed: Sequence[Arch]) -> Belief:
        intercept, slope, unstated = self._units[name]
        line = self._trend(name, archs) if self._trend is not None and name != SCORE else np.zeros(len(archs))
        if not slope:
            return Belief(-(intercept + line), np.zeros(len(archs)), self._logs[name])
        mean, deviation = beliefs(self.rankers[name], archs, assumed)
        return Belief(-(intercept + slope * mean + line), np.maximum(slope * deviation, unstated), self._logs[name])

    def best(self) -> Arch:
        """Returns the knee of the front; raises StateError before any tell."""
        return self.outcomes.best()

    def finalists(self, n: int) -> list[Arch]:
        """Returns ``n`` members of the front, spread over it, its knee first; fewer if it has fewer."""
        return first_distinct(self.space, self.outcomes.members(n), n)

    def state_dict(self) -> State:
        """Returns all that changes."""
        further = [ranker.state_dict() for ranker in list(self.rankers.values())[1:]]
        return {**super().state_dict(), "outcomes": self.outcomes.state_dict(), "further": further, "turns": self._turns}

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        super().load_state_dict(state)
        self.outcomes.load_state_dict(state["outcomes"])
        self._turns = int(state["turns"])
        for ranker, learned in zip(list(self.rankers.values())[1:], state["further"]):
            ranker.load_state_dict(learned)


def _ranker_for(name: str, ranker: Ranker) -> Ranker:
    """Returns a ranker of its own for an objective: one that also sees graphs where it is a cost, if it can."""
    return ranker.with_graphs() if name != SCORE and isinstance(ranker, GraphAware) else deepcopy(ranker)


def _units(ranker: Ranker, archs: Sequence[Arch], labels: Matrix) -> tuple[float, float, float]:
    """Returns intercept and slope that make labels of a ranker's scores, and the least deviation, for one that states none."""
    unstated = 0.0 if isinstance(ranker, (Believer, Uncertain)) else UNSTATED * float(labels.std())
    if isinstance(ranker, Believer):  # believes in the unit of the labels
        return 0.0, 1.0, unstated
    scores = np.asarray(ranker.predict(archs), np.float64)
    slope = float(labels.std() / scores.std()) if scores.std() > 0 else 0.0
    return float(labels.mean() - slope * scores.mean()), slope, unstated

"""Where newcomers of a race come from: the search's own space, and networks that know something before the race begins."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import nn

from archduel.core import Arch, Counts, Scale
from archduel.race.candidates import Candidate, Foretold
from archduel.race.newcomers import Asker, Entry
from archduel.race.rungs import Rungs, Standing
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe

__all__ = ["Begun", "Opener", "Side", "Tuned", "opened_score", "turn"]

STANDARD_PLACES = (1, 4, 8, 13, 19)
"""Which newcomers are standard networks, as long as there are any; all others are asked for or drawn, but for the space's own start."""
RANDOM_EVERY = 6
"""Of the newcomers one in so many is random where the strategy does not begin with random ones: a reference for under a tenth of the time."""
NEIGHBOUR_EVERY = 3
"""Of the newcomers one in so many is the leader with one answer changed: with a handful of scores no strategy knows more."""
OTHER_EVERY = 4
"""Once one side leads, one newcomer in so many is still of the other."""


@runtime_checkable
class Begun(Protocol):
    """A space that knows a good network to begin with."""

    def start(self) -> Arch:
        """Returns it."""


class Proposed(Protocol):
    """Who enters a race first."""

    @property
    def role(self) -> str:
        """``tuned`` (plain fine-tuning), ``earlier`` or ``search``."""

    @property
    def arch(self) -> Arch:
        """The architecture."""


def opened_score(found: Foretold | None, metric: str, *, by_likelihood: bool) -> float:
    """Returns the score of a network before its first step, as far as it is known; nan where it is not."""
    if found is None or not (by_likelihood or metric == "accuracy"):
        return math.nan
    return math.exp(found.score) if by_likelihood else found.accuracy


class Opener(Protocol):
    """Opens networks that know something before the race: they have weights from elsewhere and are trained in a way of their own."""

    def prepare(
        self, train: Pixels, validation: Pixels, seconds: float | None, noted: Mapping[str, Any] | None, now: Callable[[], float], *, meet: bool
    ) -> dict[str, Any]:
        """Does what is done once before the race; returns JSON values to be noted.

        Args:
            train: training images.
            validation: those that decide.
            seconds: that are left for it and the race; None = the race must repeat exactly, and the clock decides nothing.
            noted: what this returned before an interruption, else None.
            now: the clock of the budget.
            meet: whether several of its networks can meet at the highest rung; else only those should enter that are expected to do best.
        """

    def first(self) -> Sequence[Proposed]:
        """Returns who enters first, whatever the strategy says."""

    def sized(self, arch: Arch) -> tuple[Scale, Counts] | None:
        """Returns at which scale an architecture is built, and what it costs; None where that is above the limits."""

    def open(self, arch: Arch, scale: Scale, images: Pixels, seed: int, *, fresh: bool) -> nn.Module:
        """Returns the network with its weights.

        Args:
            arch: what it is.
            scale: as :meth:`sized` said.
            images: of the training, at the size of ``scale``.
            seed: of what is drawn.
            fresh: whether it is about to be trained from here; else saved weights will replace these.
        """

    def foretold(self, arch: Arch) -> Foretold | None:
        """Returns what is known of a network before its first step; None where nothing is."""

    def recipe(self, arch: Arch, recipe: Recipe) -> Recipe:
        """Returns how it is trained, where others are trained with ``recipe``."""

    def named(self, arch: Arch) -> str:
        """Returns a name for people."""


@runtime_checkable
class Tuned(Protocol):
    """A network of which only a part may be trained on."""

    def tune(self) -> None:
        """Lets gradients go to that part and no other."""


@dataclass
class Side:
    """One source of newcomers.

    Attributes:
        asker: the strategy that searches there.
        standards: networks that enter in fixed places.
        opener: opens its networks; None = they begin untrained, at a size that the race chooses.
        random_first: how many of the strategy's first questions are random architectures.
        random_only: whether all newcomers are drawn at random.
        proposed: who enters first, before those of the opener and the space's own start.
        favours: whether the space's own start is known to do well in the end, and goes on whatever its first scores are.
    """

    asker: Asker
    standards: list[Entry] = field(default_factory=list)
    opener: Opener | None = None
    random_first: int = 0
    random_only: bool = False
    proposed: list[Proposed] = field(default_factory=list)
    favours: bool = True

    def next(
        self, place: int, rng: np.random.Generator, ahead: Candidate | None, patient: Callable[[], bool], *, again: bool
    ) -> tuple[str, Arch | None, list[list[Any]]]:
        """Returns role and architecture of this side's newcomer ``place``, and the exchange with the strategy that led to it.

        Args:
            place: its number among the newcomers of this side, from 0.
            rng: of what is drawn.
            ahead: who leads on this side.
            patient: whether there is time for the strategy to learn.
            again: whether what was proposed for this place before is too large at every size; the space's own start would be again.
        """
        if self.random_only:
            return "random", self.asker.random(rng), []
        first = self.first
        if place < len(first) and not again:
            return first[place].role, first[place].arch, []
        if place == len(self.proposed) and not again and isinstance(self.asker.space, Begun):
            return "start" if self.favours else "search", self.asker.space.start(), []
        standard = STANDARD_PLACES.index(place) if place in STANDARD_PLACES else len(self.standards)
        if standard < len(self.standards):
            return "standard", self.standards[standard].arch, []
        return self._asked(place, rng, ahead, patient)

    def settled(self, place: int, ahead: Candidate | None, standings: Mapping[int, Standing], rungs: Rungs) -> bool:
        """Whether no newcomer of this side can win a race that is too short for its networks to meet at the highest rung.

        In 50 races of one to three minutes there were 42 networks with missing or thinned blocks; none scored more than 0.52 of what a plain cut of the same
        backbone did, each for a seventieth to a twentieth of the time (records of ``benchmarks/against_plain.py``).

        Args:
            place: how many newcomers it has sent.
            ahead: who leads on this side.
            standings: of all candidates.
            rungs: the rules of the race.
        """
        if ahead is None or ahead.standing.costs or self.random_only or rungs.duels:
            return False
        if ahead.standing.known:
            return ahead.foretold is not None and place >= len(self.first)
        return ahead.standing.rung > 1 and rungs.beaten(ahead.number, standings, ahead.standing.rung)

    @property
    def first(self) -> Sequence[Proposed]:
        """Who enters first, whatever the strategy says."""
        return [*self.proposed, *([] if self.opener is None else self.opener.first())]

    def _asked(
        self, place: int, rng: np.random.Generator, ahead: Candidate | None, patient: Callable[[], bool]
    ) -> tuple[str, Arch | None, list[list[Any]]]:
        """Returns role, architecture and the exchange with the strategy that led to it."""
        if not self.random_first and place % RANDOM_EVERY == RANDOM_EVERY - 1:
            return "random", self.asker.random(rng), []
        if place % NEIGHBOUR_EVERY == 0 and ahead is not None and ahead.entry.arch.space == self.asker.space.name:
            child = self.asker.neighbour(ahead.entry.arch, rng)
            if child is not None:
                return "search", child, []
        arch, exchange = self.asker.next(patient)
        return ("search", arch, exchange) if arch is not None else ("random", self.asker.random(rng), exchange)


def turn(leaders: Sequence[Candidate | None], numbers: Sequence[int]) -> int:
    """Returns whose turn it is to send a newcomer: sides take turns until one leads at the second rung, then it sends most.

    Args:
        leaders: who leads on each side, None = nobody has a score yet.
        numbers: how many newcomers each side has sent.
    """
    fewest = min(range(len(numbers)), key=lambda side: (numbers[side], -side))  # the last side first: its networks know something
    if any(leader is None or leader.standing.rung < 2 for leader in leaders):
        return fewest
    rung = min(leader.standing.rung for leader in leaders if leader is not None) - 1
    best = max(range(len(leaders)), key=lambda side: leaders[side].standing.scores[rung])  # type: ignore[union-attr]
    return fewest if sum(numbers) % OTHER_EVERY == OTHER_EVERY - 1 else best

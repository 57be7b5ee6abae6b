"""A race for a front: networks of all sizes compete, those that nothing beats in everything are trained to the end.

What goes on to the next rung is what nothing dominates, and among equals what adds most hypervolume. The front is then taken of all
networks where they stand, the time that is left is shared equally among its members, and each is validated on images that it was not
trained on: unlike the one network of a race for accuracy, members are compared after their last training too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from archduel.core import Arch, Counts, Scale
from archduel.core.fronts import front, knee, spread
from archduel.errors import RunError, machine_trouble
from archduel.race.candidates import Candidate, score_interval
from archduel.race.newcomers import Entry
from archduel.race.plan import Ending
from archduel.race.race import Race
from archduel.race.sides import Side
from archduel.training.metrics import evaluate
from archduel.training.recipe import Recipe

__all__ = ["FrontRace", "Member", "Tradeoff", "members_going_on"]

FRONT_FACTORS = (1.0, 0.25, 0.06, 0.5, 0.12, 2.0, 0.03)
"""Sizes of newcomers around what the time supports: a front reaches from there down to a thirtieth."""


@dataclass(frozen=True)
class Tradeoff:
    """What a race weighs against accuracy.

    Attributes:
        measure: gives the costs of a network before it is trained, by the objective's name; all are to be small.
        members: how many members of the front are trained to the end, None = all.
    """

    measure: Callable[[Arch, Scale, Counts], Mapping[str, float]]
    members: int | None = None


@dataclass(frozen=True)
class Member:
    """A member of the front, trained to the end.

    Attributes:
        candidate: what is known of it from the race.
        network: trained, in evaluation mode.
        recipe: how it was trained.
        point: its score, accuracy and loss on the validation images after the last training.
    """

    candidate: Candidate
    network: nn.Module
    recipe: Recipe
    point: Mapping[str, float]

    @property
    def losses(self) -> tuple[float, ...]:
        """What is to be small: 1 - score, and the logarithms of the costs."""
        return (1.0 - self.point["score"], *self.candidate.standing.costs)


class FrontRace(Race):
    """Runs a race whose outcome is a front; see :class:`archduel.race.race.Race`."""

    factors = FRONT_FACTORS
    tradeoff: Tradeoff

    def members(self) -> list[Member]:
        """Returns the members of the front, trained and validated, the knee of what they came to first.

        Raises:
            RunError: if no candidate got as far as the first rung, or none could be trained to the end.
        """
        self._continue()
        with machine_trouble("training the networks of a race"):
            if self.winner < 0:
                self._compete()
                self._choose()
            numbers = self._noted("choice")["numbers"]
            trained = [self._member(number, len(numbers) - place) for place, number in enumerate(numbers)]
        members = [member for member in trained if member is not None]
        if not members:
            raise RunError(f"the last training of all {len(numbers)} members of the front diverged; a smaller recipe.lr may help")
        losses = np.array([member.losses for member in members])
        rows = front(losses)
        chosen = int(rows[knee(losses[rows])])
        self.winner = members[chosen].candidate.number
        return [members[chosen], *(member for row, member in enumerate(members) if row != chosen)]

    def _choose(self) -> None:
        alive = [c for c in self.candidates if c.standing.scores and not c.standing.failed and math.isfinite(c.standing.scores[-1])]
        if not alive:
            super()._choose()  # says why there is none
        losses = np.array([(1.0 - c.standing.scores[-1], *c.standing.costs) for c in alive])
        rows = front(losses)
        chosen = spread(losses[rows], len(rows) if self.tradeoff.members is None else self.tradeoff.members)
        middle = knee(losses[rows])
        numbers = [alive[rows[place]].number for place in dict.fromkeys([middle, *chosen])]
        self.winner = numbers[0]
        self._note("choice", number=self.winner, numbers=numbers, front=[alive[row].number for row in rows])
        self.say(members_going_on(len(rows), len(alive), len(numbers)))

    def _centre(self, ahead: Candidate | None) -> float:
        return self.macs

    def _sized(self, side: Side, role: str, arch: Arch, place: int, rng: np.random.Generator) -> Entry | None:
        entry = super()._sized(side, role, arch, place, rng)
        if entry is None:
            return None
        costs = dict(self.tradeoff.measure(entry.arch, entry.scale, entry.counts))
        # a cost that cannot be measured is none that can be compared
        sound = all(math.isfinite(cost) and cost > 0 for cost in costs.values())
        return replace(entry, costs=costs) if sound else None

    # -- the last training of each member ------------------------------------------------------------------------------

    def _member(self, number: int, left: int) -> Member | None:
        """Returns a member after its last training, None where that diverged; ``left`` members share the time that is left."""
        candidate = self.candidates[number]
        noted = self._noted_of("member", number)
        if noted is None:
            trainer = self._trained(candidate, left)
            point = {} if trainer is None else self._validated(candidate, trainer.model)
            values = {"seconds": candidate.seconds, "passes": candidate.passes, "steps": candidate.steps}
            noted = self._note("member", number=number, point=point, **values)
        elif noted["point"]:
            trainer = self._open(candidate, "last")
        if not noted["point"]:
            return None
        assert trainer is not None
        return Member(candidate, trainer.model, self.recipe(candidate), noted["point"])

    def _trained(self, candidate: Candidate, left: int) -> Any:
        """Returns the training of a member at its end, None where it diverged."""
        trainer = self._open(candidate, "last")
        if self.after is not None and not self.reserve_known:
            self.reserve, self.reserve_known = self.after(trainer.model, len(self._noted("choice")["numbers"])), True
        began = self._noted_of("begins", candidate.number) or self._note(
            "begins", number=candidate.number, trained=self._units(candidate), began=self._now(candidate)
        )
        ending = Ending(self.plan.end, began["trained"], began["began"])
        least = began["began"] + (self.plan.end - began["began"]) / (2 * left)

        def end() -> float:
            """When this one's training is over: members share what is left equally."""
            if not self.settings.timed:
                return self.plan.end
            return max(began["began"] + (self._end() - began["began"]) / left, least)

        return self._last(candidate, trainer, ending, end, joined=False)

    def _validated(self, candidate: Candidate, model: nn.Module) -> dict[str, float]:
        """Returns what a trained member says of the validation images."""
        images = self.sets.at(candidate.entry.scale).validation
        found = evaluate(model, images, device=self.settings.device)
        low, high = score_interval(found, self.settings.metric)
        accuracy = found.score(self.settings.metric)
        score = found.likelihood() if self.settings.by_likelihood else accuracy
        return {"score": score, "accuracy": accuracy, "low": low, "high": high, "loss": found.loss}

    def _noted_of(self, event: str, number: int) -> dict[str, Any] | None:
        return next((r for r in self.journal.records if r["event"] == event and r["number"] == number), None)

    def _repeat(self, record: Mapping[str, Any]) -> None:
        super()._repeat(record)
        if record["event"] == "member":
            candidate = self.candidates[record["number"]]
            candidate.seconds, candidate.passes, candidate.steps = (record[name] for name in ("seconds", "passes", "steps"))


def members_going_on(front: int, trained: int, members: int) -> str:
    """Returns for people how many of the networks of a race are its front, and how many of these are trained to the end."""
    if trained == 1:
        return "one network was trained as far as it can be scored; it goes on to the end"
    goes = "it goes" if front == 1 else "each goes" if members == front else f"{members} of them {'goes' if members == 1 else 'go'}"
    return f"{front} of {trained} networks {'is' if front == 1 else 'are'} beaten by none in everything; {goes} on to the end"

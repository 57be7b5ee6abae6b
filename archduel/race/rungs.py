"""Who trains next: successive halving without waiting, where the strong go on from what they have. Decisions only, nothing is trained here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from archduel.core.fronts import merits
from archduel.errors import SettingError

__all__ = ["BEHIND", "Enter", "Move", "Promote", "Rungs", "Standing"]

BEHIND = 0.15
"""A score that is behind that of the other kind (networks that knew something before the race, and networks from scratch) by more than this at the
second rung is not made good until the end: 180 s of one core with 5,000 images of CIFAR-10 took 0.24 from scratch and 0.47 fine-tuned to 78 % and 87 %."""
BEHIND_SHARE = 0.3
"""The same as a share of the other's score, where scores are low: of many classes 0.11 against 0.39 is hopeless. In 40 races of the records the only network from
scratch that was behind at the second rung and came to more had 0.29 where a part of a backbone had 0.34."""

DEFENDED_SHARE = 0.5
"""The same for a favoured network against others from scratch, where it is :data:`BEHIND` at most: after 5.5 passes of 48 over 10,000 images of CIFAR-100 the start of ``stages`` had 0.028 and
came to 54.7 % in the end, a network with strides 0.041 (0.048 after 8), of a kind that came to 44.3 %."""


@dataclass
class Standing:
    """How far a candidate is.

    Attributes:
        scores: its score at each rung it has reached; higher is better.
        failed: it takes no further part.
        known: whether it knew something before the race: scores of such networks on the way say little next to those of the others, so the best
            of them goes on, as a favoured one does.
        opened: the score of a network that knows something before its first step; nan of others.
        costs: logarithms of what else is to be small, empty in a race for accuracy alone.
        passes: over the training images that it had made at each of its scores, where they were counted.
        favoured: it goes on to the highest rung whatever its first scores are: of a network that is known to do well in the end, a short
            training says less than that.
    """

    scores: list[float] = field(default_factory=list)
    failed: bool = False
    favoured: bool = False
    known: bool = False
    opened: float = math.nan
    costs: tuple[float, ...] = ()
    passes: list[float] = field(default_factory=list)

    @property
    def rung(self) -> int:
        """Rungs that it has reached."""
        return len(self.scores)

    def reach(self, score: float, passes: float = math.nan) -> None:
        """Notes the score at the next rung, after so many passes.

        That of a network that knew something never falls, nor below what it was opened with: fine-tuning begins with a dip, deeper the larger the
        images and the fewer the passes, that says nothing of its end: 12 blocks at 96 px were right on 77 % and then on 72 %, 15 blocks on 76 % and
        after six steps on 62 %, and for that lost against 64 px.
        """
        before = [each for each in (self.opened, *self.scores[-1:]) if self.known and not math.isnan(each)]
        self.scores.append(max([score, *before]))
        self.passes.append(passes)

    def at(self, passes: float) -> float:
        """Returns the last score, or that of before after so many passes, between two rungs in proportion to their logarithms."""
        there = [(math.log(each), score) for each, score in zip(self.passes, self.scores) if each > 0 and math.isfinite(score)]
        if len(there) < self.rung or not passes > 0:
            return self.scores[-1]
        logs, scores = zip(*there)
        return float(np.interp(math.log(passes), np.array(logs), np.array(scores)))


@dataclass(frozen=True)
class Enter:
    """A newcomer is trained up to the first rung."""


@dataclass(frozen=True)
class Promote:
    """Candidate ``number`` is trained on, up to its next rung."""

    number: int


Move = Enter | Promote


@dataclass(frozen=True)
class Rungs:
    """The rules of a race.

    A rung is an amount of training (seconds, or epochs where a race must repeat exactly): ``first``, ``first * factor``, ... Each
    level may spend the same (``level``), so that about one in ``factor`` goes on; the highest twice as much, for a choice is between
    two. A candidate goes on as soon as it is among the best ``1 / factor`` of those at its rung; the highest rung comes first.

    Attributes:
        first: training up to the first rung.
        level: what all trainings up to one rung may spend together; see :meth:`limit`.
        levels: how many rungs there are.
        factor: how much further the next rung is.
        duels: whether networks that knew something before the race meet each other at the highest rung; else only one of them and one from
            scratch do, and among themselves the rung below decides.

    Source: ASHA, Li et al., MLSys 2020, with a limit a level in place of one for all.
    """

    first: float
    level: float
    levels: int = 3
    factor: int = 3
    duels: bool = True

    def __post_init__(self) -> None:
        for name in ("first", "level"):
            if not getattr(self, name) > 0:
                raise SettingError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.levels < 1 or self.factor < 2:
            raise SettingError(f"levels must be at least 1 and factor 2, got {self.levels} and {self.factor}")

    def amount(self, rung: int) -> float:
        """Returns the training that a candidate has had when it reaches rung ``rung`` (from 0)."""
        return self.first * self.factor**rung

    def extra(self, rung: int) -> float:
        """Returns what it takes from the rung below."""
        return self.amount(rung) - (self.amount(rung - 1) if rung else 0.0)

    def limit(self, rung: int) -> float:
        """Returns what all trainings up to ``rung`` may spend together."""
        return self.level * (2 if 0 < rung == self.levels - 1 else 1)

    def next_move(self, standings: Mapping[int, Standing], spent: Sequence[float], *, newcomers: bool = True) -> Move | None:
        """Returns what is trained next; None = the choice can be made.

        Args:
            standings: of all candidates by their number.
            spent: what the trainings up to each rung have cost so far.
            newcomers: whether there are any left.
        """
        enters = newcomers and self._affordable(0, spent)
        if not enters and self._decided(standings):
            return None
        for rung in range(self.levels - 1, 0, -1):
            if self._affordable(rung, spent):
                number = self._strongest(standings, rung, everyone=not enters)
                if number is not None:
                    return Promote(number)
        return Enter() if enters else None

    def _affordable(self, rung: int, spent: Sequence[float]) -> bool:
        """Whether at least half of one more training up to ``rung`` is left; the first one always is."""
        already = spent[rung] if rung < len(spent) else 0.0
        return already == 0 or already + self.extra(rung) / 2 <= self.limit(rung)

    def _strongest(self, standings: Mapping[int, Standing], rung: int, *, everyone: bool) -> int | None:
        """Returns the candidate that goes on to ``rung``, if one deserves it: favoured, or among the best ``1 / factor`` at the rung below.

        Once there are no newcomers to wait for (``everyone``) the share is rounded up. Where networks take part that know something the highest
        rung waits for that: the first of them is the one with the resolution that a forecast chose, and one of the next may do better. In a short
        race it also waits until one of them was at the second rung, unless all are beaten.
        """
        last = rung == self.levels - 1
        if last and any(s.known for s in standings.values()) and not (everyone and self._met(standings)):
            return None
        there = {n: s.scores[rung - 1] for n, s in standings.items() if s.rung >= rung and math.isfinite(s.scores[rung - 1])}
        share = len(there) / self.factor
        deserve = math.ceil(share) if everyone else math.floor(share)
        worth = _worth(standings, there)
        best = sorted(there, key=lambda n: (-worth[n], n))[:deserve]
        ahead = [n for n in there if standings[n].favoured] + _best_known(standings, worth, alone=everyone)
        best = [n for n in [*ahead, *best] if not (last and self.beaten(n, standings, rung))]
        if last and not self.duels and all(standings[n].known for n in best):
            return None
        return next((n for n in best if standings[n].rung == rung and not standings[n].failed), None)

    def leader(self, standings: Mapping[int, Standing]) -> int | None:
        """Returns who won: the best by score among those on the highest rung that anybody reached and who is not beaten; None if all failed.

        Of those from scratch there only one counts, see :meth:`defended`.

        Where the time was over before one that knows something got there, it need not: with less training it is ahead already, and its score never falls.
        """
        alive = self._left(standings) or _alive(standings)
        if not alive:
            return None
        top = max(s.rung for s in alive.values())
        worth = _worth(standings, {n: s.scores[-1] for n, s in alive.items() if s.rung == top})
        scratch = {n: alive[n] for n in worth if not alive[n].known and not alive[n].costs}
        if scratch and top == self.levels:
            kept = self.defended(scratch)
            worth = {n: value for n, value in worth.items() if n == kept or n not in scratch}
        best = max(worth, key=lambda n: (worth[n], -n))
        if alive[best].costs:
            return best
        ahead = {n: s.scores[-1] for n, s in alive.items() if s.known and s.scores[-1] > alive[best].scores[-1]}
        return max(ahead, key=lambda n: (ahead[n], -n), default=best)

    def defended(self, standings: Mapping[int, Standing]) -> int:
        """Returns which of several networks from scratch is handed over that were trained for the same time.

        Of an equal time a smaller network makes more passes, and one with strides learns faster: both are ahead at first and end lower. So others are compared with the
        best favoured one (where there is none, with the one that made the fewest passes) by their score after as many passes as that one made, if they made more; and a
        favoured one is replaced only where it is behind by more than is made good.
        """
        favoured = [n for n in standings if standings[n].favoured]
        least = min(standings, key=lambda n: (standings[n].passes[-1:], n))
        own = max(favoured, key=lambda n: (standings[n].scores[-1], -n), default=least)
        passes = min(standings[own].passes[-1:], default=math.nan)
        even = {n: standing.at(passes) for n, standing in standings.items()}
        best = max(even, key=lambda n: (even[n], n == own, -n))
        return best if not favoured or _not_made_good(even[own], even[best], DEFENDED_SHARE) else own

    def beaten(self, number: int, standings: Mapping[int, Standing], rung: int) -> bool:
        """Whether a network that reached ``rung`` rungs has lost against the other kind; where costs count too nobody has.

        In a race too short for those that know something to meet at the highest rung, one from scratch has lost when it is behind at the second rung: of 8,111
        drawings one with 59 % was there, where frozen features had 60 %, and came to 66 %, fine-tuning to 74 %.
        """
        own = standings[number]
        if own.costs or _far_behind(number, standings, rung):
            return not own.costs
        return not self.duels and not own.known and rung > 1 and _best_other(number, standings, rung) >= own.scores[rung - 1]

    def _left(self, standings: Mapping[int, Standing]) -> dict[int, Standing]:
        """Returns who is not beaten."""
        return {n: s for n, s in _alive(standings).items() if not self.beaten(n, standings, s.rung)}

    def _met(self, standings: Mapping[int, Standing]) -> bool:
        """Whether those that know something were where a short race compares them with those from scratch."""
        known = [s.rung for s in self._left(standings).values() if s.known]
        return self.duels or not known or max(known) >= self.levels - 1

    def _decided(self, standings: Mapping[int, Standing]) -> bool:
        """Whether one network that knows something is all that is left: it is trained to the end, and further rungs would only ask for its score again."""
        left = list(self._left(standings).values())
        return len(left) == 1 and left[0].known and not left[0].costs


def _alive(standings: Mapping[int, Standing]) -> dict[int, Standing]:
    """Returns who has a score and takes part."""
    return {n: s for n, s in standings.items() if s.scores and not s.failed and math.isfinite(s.scores[-1])}


def _best_known(standings: Mapping[int, Standing], worth: Mapping[int, float], *, alone: bool) -> list[int]:
    """Returns the best of those that know something, none before there are two to compare; ``alone``: one will do."""
    known = [n for n in worth if standings[n].known]
    return [max(known, key=lambda n: (worth[n], -n))] if len(known) > 1 or (known and alone) else []


def _far_behind(number: int, standings: Mapping[int, Standing], rung: int) -> bool:
    """Whether a network that reached ``rung`` rungs is behind the best of the other kind by more than it will make good."""
    return _not_made_good(standings[number].scores[rung - 1], _best_other(number, standings, rung))


def _not_made_good(score: float, best: float, share: float = BEHIND_SHARE) -> bool:
    """Whether a score is so far behind another one, by :data:`BEHIND` or a share of it, that further training does not make it good."""
    return best - score > (min(BEHIND, share * best) if best > 0 else BEHIND)


def _best_other(number: int, standings: Mapping[int, Standing], rung: int) -> float:
    """Returns the best score of the other kind for a network that reached ``rung`` rungs, -inf where there is none.

    That of those that know something counts also from a lower rung, for it never falls; of those from scratch only at the same one.
    """
    others = [s for s in standings.values() if s.known != standings[number].known and s.scores and not s.failed]
    scores = [s.scores[min(s.rung, rung) - 1] for s in others if s.known or s.rung >= rung]
    return max(filter(math.isfinite, scores), default=-math.inf)


def _worth(standings: Mapping[int, Standing], scores: Mapping[int, float]) -> dict[int, float]:
    """Returns what candidates are compared by: scores, or where costs count too fronts, and in one front the hypervolume each adds."""
    if not any(standings[n].costs for n in scores):
        return dict(scores)
    return dict(zip(scores, merits([(1.0 - score, *standings[n].costs) for n, score in scores.items()]).tolist()))

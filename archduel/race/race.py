"""The race: everything that is trained is a candidate for the hand-over, and at least half of the time trains the network that is handed over."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from archduel.core import Arch, Cost, Counts, parse
from archduel.core.storage import Records, if_whole
from archduel.errors import ArchduelError, InfeasibleError, RunError, in_one_line, machine_trouble
from archduel.race.candidates import Candidate, going_on
from archduel.race.clock import Pace, Stopwatch
from archduel.race.newcomers import Entry, one_answer_apart, read_scale, was_asked, write_scale
from archduel.race.plan import Ending, Plan, enough_passes
from archduel.race.rungs import Enter, Standing
from archduel.race.sets import Sets
from archduel.race.settings import RaceSettings
from archduel.race.sides import Side, opened_score, turn
from archduel.race.sizes import Sizes, fitting_scale
from archduel.race.teaching import LEAST_TO_LEARN, LESSON, TEACHER_SHARE, Teacher, asked, learns_from, taught
from archduel.race.threads import Threads
from archduel.race.training import Anytime
from archduel.spaces.family import build, family, recipe_changes
from archduel.training.metrics import evaluate
from archduel.training.recipe import Recipe
from archduel.training.runtime import mix_seed

__all__ = ["Race"]

FACTORS = (1.0, 1.0, 0.5, 2.0)
"""Sizes of newcomers around the one that leads: the size is part of what the race decides."""
WARMUP_STEPS = 100
WARMUP_SHARE = 0.25
"""The learning rate rises during the first steps, or this share of the way to the first rung where that is shorter."""
KNOWN_WARMUP = 0.1
"""Of the last training's length, over which the rate of networks rises that know something: with a full rate from the start what they
know is lost first (68 % fell to 35 % within 3 s), and with 0.3 a rung does not say what they come to: 62 to 67 % at the last one, where a network
from scratch had 68 % and came to less. With 0.1 it is 72 %, and the end is the same (``benchmarks/records/warm_up.json``)."""
MOST_REFUSED = 20  # newcomers in a row that no size makes small enough
SAVE_SECONDS = 5.0
FAVOURED = ("start", "earlier")
"""Roles of networks that are known to do well in the end."""
MOST_SLOWER = 4.0  # times that test, export and report may be slower than on an idle machine, for the plan
STRATEGY_SHARE = 0.05
"""Share of the time that the strategy's own steps (fitting a comparator, training a policy) may take."""


class Race:
    """Runs a race over a folder of checkpoints and a journal; the same call continues an interrupted one."""

    factors: tuple[float, ...] = FACTORS

    def __init__(
        self, settings: RaceSettings, plan: Plan, sets: Sets, sizes: Sizes, sides: list[Side],
        *, stopwatch: Stopwatch, journal: Records, folder: Path, named: Callable[[Arch], str], say: Callable[[str], None],
        after: Callable[..., float] | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.plan, self.sets, self.sizes, self.sides = settings, plan, sets, sizes, sides
        self.stopwatch, self.journal, self.folder = stopwatch, journal, folder
        self.named, self.say, self.after, self.reserve, self.reserve_known = named, say, after, settings.reserve, False
        self.candidates: list[Candidate] = []
        self.spent = [0.0] * plan.rungs.levels
        self.strategy_seconds, self.exhausted, self.winner = 0.0, False, -1
        self.dry: set[int] = set()  # sides without further newcomers
        self.infeasible: InfeasibleError | None = None  # why the last of them has none
        self.macs, self.pace = settings.macs, Pace(stopwatch)
        self.threads = Threads((1, settings.threads) if settings.timed else (settings.threads,))

    # -- the order of events -------------------------------------------------------------------------------------------

    def run(self, last_training: bool = True) -> tuple[Candidate, nn.Module]:
        """Returns the network that is handed over, trained; without the last training as far as the race took it.

        Raises:
            RunError: if no candidate got as far as the first rung.
        """
        self._continue()
        # nothing of a candidate is written down before it is trained and scored, so that the same call goes on from there
        with machine_trouble("training the networks of a race"):
            if self.winner < 0:
                self._compete()
                self._choose()
            winner = self.candidates[self.winner]
            return winner, self._finish(winner) if last_training else self._open(winner).model

    def _compete(self) -> None:
        for candidate in self.candidates:
            if not candidate.standing.scores and not candidate.reason:
                self._advance(candidate)  # it was interrupted on the way to its first rung
        while self.stopwatch.seconds < self.plan.race_until or not self._any_scored():
            move = self.plan.rungs.next_move(self._standings(), self.spent, newcomers=not self.exhausted)
            if move is None:
                break
            if isinstance(move, Enter):
                entered = self._enter()
                if entered is None:
                    self.exhausted = True
                    continue
                self._advance(entered)
            else:
                self._advance(self.candidates[move.number])

    def _standings(self) -> dict[int, Standing]:
        return {c.number: c.standing for c in self.candidates}

    def _any_scored(self) -> bool:
        """Whether there is a network to hand over; rather late than none."""
        return any(candidate.standing.scores for candidate in self.candidates)

    def _choose(self) -> None:
        leader = self.plan.rungs.leader(self._standings())
        if leader is None and not self.candidates and self.infeasible is not None:
            raise self.infeasible
        if leader is None:
            late = "all that were proposed are above the limits" if self.exhausted and not self.candidates else "the time was too short for the first rung"
            reasons = [c.reason for c in self.candidates if c.reason] or [late]
            raise RunError(f"none of {len(self.candidates)} networks could be trained: {reasons[0]}")
        self.winner, winner = leader, self.candidates[leader]
        self._note("choice", number=leader, trained=self._units(winner), began=self._now(winner))
        self.say(going_on(winner, self.candidates, len(self.sets.validation), self.settings.metric))

    # -- newcomers -----------------------------------------------------------------------------------------------------

    def _enter(self) -> Candidate | None:
        """Returns the next newcomer, or None if no side has any more."""
        sent = Counter(candidate.entry.side for candidate in self.candidates)
        while wet := [side for side in range(len(self.sides)) if side not in self.dry and not self._settled(side, sent[side])]:
            place = turn([self._ahead(side) for side in wet], [sent[side] for side in wet])
            entry = self._newcomer(wet[place], sent[wet[place]], np.random.default_rng([self.settings.seed, len(self.candidates), 11]))
            if entry is not None:
                return self._add(entry)
            self.dry.add(wet[place])
            self._note("dry", side=wet[place])
        return None

    def _settled(self, side: int, sent: int) -> bool:
        return self.sides[side].settled(sent, self._ahead(side), self._standings(), self.plan.rungs)

    def _newcomer(self, number: int, place: int, rng: np.random.Generator) -> Entry | None:
        """Returns newcomer ``place`` of a side, or None if it has no more."""
        side = self.sides[number]
        for attempt in range(MOST_REFUSED):
            began = self.stopwatch.seconds
            try:
                role, arch, exchange = side.next(place, rng, self._ahead(number), self._patient, again=attempt > 0)
            except InfeasibleError as error:
                self.infeasible = error
                return None
            self.strategy_seconds += self.stopwatch.seconds - began
            if arch is None:
                return None
            entry = self._sized(side, role, arch, place, rng)
            if entry is not None:
                values = {"role": role, "arch": str(arch), "scale": write_scale(entry.scale), "counts": list(entry.counts)}
                values |= {"costs": dict(entry.costs)} if entry.costs else {}
                self._note("enter", number=len(self.candidates), **values, exchange=exchange, side=number)
                return replace(entry, asked=was_asked(exchange), side=number)
            self._note("refused", arch=str(arch), exchange=exchange, side=number)
            self._refuse(side, arch, exchange)
        return None

    def _refuse(self, side: Side, arch: Arch, exchange: list[list[Any]]) -> None:
        """Answers a question about an architecture that no size makes small enough."""
        side.asker.tell(arch, math.nan, Cost(), asked=was_asked(exchange))

    def _patient(self) -> bool:
        """Whether there is time for the strategy to learn."""
        return not self.settings.timed or self.strategy_seconds < STRATEGY_SHARE * self.plan.end

    def _sized(self, side: Side, role: str, arch: Arch, place: int, rng: np.random.Generator) -> Entry | None:
        if role == "standard":
            return next(entry for entry in side.standards if entry.arch == arch)
        if side.opener is not None:
            found = side.opener.sized(arch)
        else:
            ahead = self._ahead(self.sides.index(side))
            macs = self._centre(ahead) * self.factors[place % len(self.factors)]
            if ahead is not None and one_answer_apart(arch, ahead.entry.arch):
                macs = ahead.entry.counts.macs  # as large as the leader, so that the answer decides and not the size
            found = fitting_scale(arch, macs, self._sizes(arch), rng)
        return None if found is None else Entry(role, arch, *found)

    def _sizes(self, arch: Arch) -> Sizes:
        """Returns the sizes at which a network is built: those of the race are of its first side's space, and one of an earlier race may be of any."""
        return self.sizes if arch.space == self.sides[0].asker.space.name else self.sizes.of(family(arch.space)())

    def _centre(self, ahead: Candidate | None) -> float:
        """Returns the multiply-adds around which newcomers are built."""
        return self.macs if ahead is None or ahead.standing.rung < 2 else ahead.entry.counts.macs

    def _ahead(self, side: int) -> Candidate | None:
        """Returns who leads on a side at present."""
        leader = self.plan.rungs.leader({c.number: c.standing for c in self.candidates if c.entry.side == side})
        return None if leader is None else self.candidates[leader]

    def _add(self, entry: Entry) -> Candidate:
        side = self.sides[entry.side]
        own_size = side.opener is not None or (entry.role == "standard" and entry.scale.channels == 16) or len(self._sizes(entry.arch).channels) == 1
        text = self.named(entry.arch) if side.opener is None else side.opener.named(entry.arch)
        name = text if own_size else f"{text} C{entry.scale.channels} N{entry.scale.depth}"
        foretold = None if side.opener is None else side.opener.foretold(entry.arch)
        standing = Standing(
            favoured=entry.role in FAVOURED, known=side.opener is not None,
            opened=opened_score(foretold, self.settings.metric, by_likelihood=self.settings.by_likelihood),
            costs=tuple(map(math.log, entry.costs.values())),
        )  # fmt: skip
        candidate = Candidate(len(self.candidates), entry, name, standing, foretold)
        self.candidates.append(candidate)
        side.asker.costs[entry.arch] = entry.costs
        side.asker.known.setdefault(entry.arch, math.nan)
        return candidate

    # -- training ------------------------------------------------------------------------------------------------------

    def _checkpoint(self, candidate: Candidate, stage: str = "race") -> Path:
        return self.folder / "checkpoints" / f"{stage}-{candidate.number}.safetensors"

    def _open(self, candidate: Candidate, stage: str = "race") -> Anytime:
        """Returns the candidate's training where it stands."""
        sets = self.sets.at(candidate.entry.scale)
        paths = dict.fromkeys((self._checkpoint(candidate, stage), self._checkpoint(candidate)))
        there = any(path.exists() for path in paths)
        trainer = self._trainer(candidate, sets, fresh=not there)
        for path in paths:
            facts = if_whole(path, lambda path: trainer.load(path, sets.both), self.say)
            if facts is not None:
                candidate.seconds = max(candidate.seconds, facts["seconds"])
                candidate.passes, candidate.steps = trainer.passes, trainer.steps
                return trainer
        if there:
            trainer = self._trainer(candidate, sets, fresh=True)
        goal = candidate.passes
        candidate.seconds, candidate.passes, candidate.steps = 0.0, 0.0, 0  # new, or its state is gone and it is trained again
        if stage == "last" and not self.settings.timed:
            trainer.run(self._follow(candidate, trainer, lambda a_step: None if candidate.passes + a_step / 2 >= goal else 1.0, "race"))
        return trainer

    def _trainer(self, candidate: Candidate, sets: Sets, *, fresh: bool) -> Anytime:
        """Returns the candidate's training before its first step; without ``fresh`` saved weights will replace what it begins with."""
        entry, seed = candidate.entry, self.settings.seed
        weights, opener = mix_seed(seed, "weights", candidate.number), self.sides[entry.side].opener
        if opener is None:
            model = build(entry.arch, entry.scale, generator=torch.Generator().manual_seed(weights))
        else:
            model = opener.open(entry.arch, entry.scale, sets.train, weights, fresh=fresh)
        training = mix_seed(seed, "training", candidate.number)
        return Anytime(model, sets.train, self.recipe(candidate), seed=training, device=self.settings.device)

    def recipe(self, candidate: Candidate) -> Recipe:
        """Returns how a candidate is trained."""
        opener = self.sides[candidate.entry.side].opener
        if opener is not None:
            return opener.recipe(candidate.entry.arch, self.settings.recipe)
        return self.settings.recipe.with_(**recipe_changes(candidate.entry.arch))

    def _units(self, candidate: Candidate) -> float:
        return candidate.seconds if self.settings.timed else candidate.passes

    def _now(self, candidate: Candidate) -> float:
        return self.stopwatch.seconds if self.settings.timed else candidate.passes

    def _end(self) -> float:
        """Returns when training ends: what comes after it takes longer where others use the processor too."""
        if not self.settings.timed:
            return self.plan.end
        slower = min(MOST_SLOWER, 1 / max(self.pace.lasting, 1e-3))
        return self.plan.end + self.settings.reserve - slower * self.reserve

    def _follow(self, candidate: Candidate, trainer: Anytime, share: Callable[[float], float | None], stage: str) -> Callable[[], float | None]:
        """Returns what a training asks before each step: counts the time, saves now and then, and gives the learning rate.

        Args:
            candidate: whose training.
            trainer: the training.
            share: of the peak rate, None to stop; asked with the units that a step takes.
            stage: name of the checkpoint.
        """
        before, began, first = candidate.seconds, self.stopwatch.seconds, trainer.steps
        saved = began
        self.threads.pause()
        peak = trainer.recipe.lr

        def rate() -> float | None:
            nonlocal saved
            now = self.stopwatch.seconds
            candidate.seconds = before + now - began
            steps = trainer.steps - first
            whole = int(trainer.passes) > int(candidate.passes)
            candidate.passes, candidate.steps = trainer.passes, trainer.steps
            a_step = trainer.turn if not self.settings.timed else (now - began) / steps if steps else 0.0
            if whole and now - saved >= SAVE_SECONDS:
                saved = now
                trainer.save(self._checkpoint(candidate, stage), seconds=candidate.seconds, clock=now)
            self.pace.read(self.threads.chosen)
            torch.set_num_threads(self.threads.next(time.perf_counter(), calm=self.pace.calm))
            part = share(a_step)
            warm = self._warm(candidate, trainer.steps + 1)
            return None if part is None else peak * part * min(1.0, warm)

        return rate

    def _warm(self, candidate: Candidate, step: int) -> float:
        """Returns the share of the peak rate that a training has risen to; above 1 it is through."""
        if self.sides[candidate.entry.side].opener is not None:
            return self._units(candidate) / (KNOWN_WARMUP * self.plan.last)
        return max(step / WARMUP_STEPS, self._units(candidate) / (WARMUP_SHARE * self.plan.rungs.first))

    def _advance(self, candidate: Candidate) -> None:
        """Trains a candidate up to its next rung, scores it there and tells the strategy."""
        rung, before, began = candidate.standing.rung, self._units(candidate), self.stopwatch.seconds
        goal = self.plan.rungs.amount(rung)
        trainer = self._open(candidate)
        before = min(before, self._units(candidate)) if self.settings.timed else before  # a lost state costs its time again

        def late() -> bool:
            return self.stopwatch.seconds >= self.plan.race_until and self._any_scored()

        def share(a_step: float) -> float | None:
            return None if late() or self._units(candidate) + a_step / 2 >= goal else 1.0

        sound = trainer.run(self._follow(candidate, trainer, share, "race"))
        trainer.save(self._checkpoint(candidate), seconds=candidate.seconds, clock=self.stopwatch.seconds)
        reached = self.settings.timed is False or self._units(candidate) >= 0.8 * goal or not late()  # a step may be longer than what is left to the rung
        if sound and not reached:
            return  # the race is over; what it has learned is kept
        point = self._scored(candidate, trainer) if sound else {}
        point = self._reach(candidate, rung, point, self._units(candidate) - before)
        self._note(
            "rung", number=candidate.number, rung=rung, point=point, cost=self._units(candidate) - before, seconds=candidate.seconds,
            passes=candidate.passes, steps=candidate.steps, wall=round(self.stopwatch.seconds - began, 3),
        )  # fmt: skip

    def _scoring(self, candidate: Candidate, trainer: Anytime) -> str:
        """Returns the precision in which a network is scored: large ones would take as long for it as for a rung's training."""
        return trainer.recipe.precision if self.sides[candidate.entry.side].opener is not None else "fp32"

    def _reach(self, candidate: Candidate, rung: int, point: dict[str, float], cost: float) -> dict[str, float]:
        """Writes a candidate's score at a rung down and tells the strategy of its first; returns what it stands for."""
        self.spent[rung] += cost
        if point:
            candidate.standing.reach(point["score"], candidate.passes)
            point = candidate.best_so_far(point, self.settings.metric)
            candidate.curve.append(point)
        else:
            candidate.standing.failed, candidate.reason = True, "the training loss was not finite"
        if point and self.settings.timed and candidate.steps and self.sides[candidate.entry.side].opener is None:
            self._correct(candidate)
        if rung == 0:
            paid = Cost(candidate.seconds, candidate.steps * self.settings.recipe.batch_size)
            score = candidate.standing.scores[0] if point else math.nan
            self.sides[candidate.entry.side].asker.tell(candidate.entry.arch, score, paid, asked=candidate.entry.asked)
        return point

    def _correct(self, candidate: Candidate) -> None:
        """Corrects the size that the time supports by what a candidate really took; says so where it changes by a lot."""
        a_second = candidate.entry.counts.macs * candidate.passes * len(self.sets.train) / max(candidate.seconds, 1e-9)
        macs = a_second * self.plan.last / (enough_passes(len(self.sets.both)) * len(self.sets.both))
        before = self.macs
        self.macs = math.sqrt(before * macs)  # half of the way, in ratios: one candidate is one measurement
        if not 1 / 3 < self.macs / before < 3:
            self.say(f"the forecast changes: networks of about {self.macs / 1e6:.3g} M multiply-adds fit the time, {before / 1e6:.3g} M were planned")

    def _scored(self, candidate: Candidate, trainer: Anytime) -> dict[str, float]:
        """Returns where a candidate stands: its average weights on the validation images."""
        began = self.stopwatch.seconds
        with trainer.averaged() as model:
            found = evaluate(
                model, self.sets.at(candidate.entry.scale).validation, device=self.settings.device, precision=self._scoring(candidate, trainer),
                channels_last=trainer.recipe.channels_last,
            )  # fmt: skip
        candidate.seconds += self.stopwatch.seconds - began
        return {**candidate.point(found, self.settings.metric, by_likelihood=self.settings.by_likelihood), "train_loss": trainer.loss}

    # -- the last training ---------------------------------------------------------------------------------------------

    def _finish(self, winner: Candidate) -> nn.Module:
        """Trains the chosen network, on training and validation images together, until the time is used up."""
        choice = self._noted("choice")
        lesson, began = self._lesson(winner, choice["began"])
        ending = Ending(self.plan.end, choice["trained"], began)
        least = (began + self.plan.end) / 2  # rather late than a network that has not been trained
        trainer = learns_from(self._open(winner, "last"), lesson)
        if self.after is not None:
            self.reserve = self.after(trainer.model)
        trained = self._last(winner, trainer, ending, lambda: max(self._end(), least), joined=True, lesson=lesson)
        if trained is None:
            raise RunError(f"the last training of {winner.name} diverged twice; a smaller recipe.lr may help")
        self._note("trained", number=winner.number, seconds=winner.seconds, passes=winner.passes, steps=winner.steps)
        return trained.model

    def _last(
        self, winner: Candidate, trainer: Anytime, ending: Ending, end: Callable[[], float], *, joined: bool, lesson: Tensor | None = None
    ) -> Anytime | None:
        """Returns a training at its end, None if it diverged twice.

        Args:
            winner: whose training.
            trainer: where it stands.
            ending: when the rate falls.
            end: when it is over.
            joined: whether it goes on with training and validation images together.
            lesson: what a larger network says of these, None without one.
        """
        for attempt in range(2):
            if joined and trainer.joined_at < 0:
                trainer.join(self.sets.at(winner.entry.scale).both)
            slow = 1.0 if attempt == 0 else 0.3

            def share(a_step: float) -> float | None:
                ending.end = end()
                part = ending.rate(self._now(winner), a_step)
                peak = winner.peak(ending.end - self._now(winner), a_step) if self.settings.timed else 1.0
                return None if part is None else slow * peak * part  # noqa: B023 - used within this turn

            if trainer.run(self._follow(winner, trainer, share, "last")):
                trainer.save(self._checkpoint(winner, "last"), seconds=winner.seconds, clock=self.stopwatch.seconds)
                return trainer
            self.say("warning: the last training diverged; it begins again from the race's weights, with a lower learning rate")
            self._checkpoint(winner, "last").unlink(missing_ok=True)
            trainer = learns_from(self._open(winner), lesson)
        return None

    def _lesson(self, winner: Candidate, began: float) -> tuple[Tensor | None, float]:
        """Returns what a network above the limits says of all images, if there is one that should know better, and when that is done."""
        folder, both = self.folder / "checkpoints", self.sets.both
        left = self.plan.end - began
        if not self.settings.timed or left < LEAST_TO_LEARN:
            return None, began
        noted = next((record for record in self.journal.records if record["event"] == "lesson"), None)
        if noted is not None:
            return taught(folder / LESSON, len(both), self.say), noted["clock"]
        seconds = TEACHER_SHARE * left
        for teacher in (side.opener for side in self.sides):
            found = teacher.teacher(winner.entry.arch, winner.accuracy, seconds, len(both)) if isinstance(teacher, Teacher) else None
            if found is None:
                continue
            arch, scale = found
            self.say(f"{winner.name} will learn from {teacher.named(arch)}, which is above the limits and is trained for {seconds:.0f} s first")
            settings, seed = self.settings, mix_seed(self.settings.seed, "teacher", 0)
            lesson = asked(
                teacher, arch, scale, self.sets.at(scale).both, settings.recipe, seconds, folder, self.stopwatch,
                seed=seed, device=settings.device, threads=settings.threads,
            )  # fmt: skip
            self._note("lesson", arch=str(arch), name=teacher.named(arch), seconds=round(self.stopwatch.seconds - began, 3))
            return lesson, self.stopwatch.seconds
        return None, began

    # -- the journal ---------------------------------------------------------------------------------------------------

    def _note(self, event: str, **values: Any) -> dict[str, Any]:
        record = {"event": event, "clock": round(self.stopwatch.seconds, 3), **values}
        self.journal.append(record)
        return record

    def _noted(self, event: str) -> dict[str, Any]:
        return next(record for record in reversed(self.journal.records) if record["event"] == event)

    def _continue(self) -> None:
        """Goes to where the journal and the checkpoints stand.

        Raises:
            RunError: for a journal that is not one of this race.
        """
        for number, record in enumerate(list(self.journal.records), 1):
            try:
                self._repeat(record)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                if isinstance(error, ArchduelError):
                    raise
                raise RunError(f"record {number} of the race ({record['event']!r}) is damaged: {in_one_line(error)}; make a new run") from error

    def _repeat(self, record: Mapping[str, Any]) -> None:
        """Does again what a record of the journal says."""
        if record["event"] == "refused":
            side = self.sides[record.get("side", 0)]
            side.asker.repeat(record["exchange"])
            self._refuse(side, parse(record["arch"]), record["exchange"])
        elif record["event"] == "enter":
            place = record.get("side", 0)
            self.sides[place].asker.repeat(record["exchange"])
            counts = Counts(*record["counts"])
            asked, costs = was_asked(record["exchange"]), record.get("costs", {})
            self._add(Entry(record["role"], parse(record["arch"]), read_scale(record["scale"]), counts, asked, place, costs))
        elif record["event"] == "rung":
            candidate = self.candidates[record["number"]]
            candidate.seconds, candidate.passes, candidate.steps = (record[name] for name in ("seconds", "passes", "steps"))
            self._reach(candidate, record["rung"], record["point"], record["cost"])
        elif record["event"] == "dry":
            self.dry.add(record["side"])
        elif record["event"] == "choice":
            self.winner = record["number"]

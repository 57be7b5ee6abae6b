"""What the clock decides while a run goes on; each decision is made once and written down, so that a continued run keeps it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from archduel.assemble import declaration
from archduel.commands.search.plan import LABEL, Plan
from archduel.commands.search.settings import Settings
from archduel.core import Budget
from archduel.core.job import Job

__all__ = ["Pace", "whole_epochs"]

ENOUGH = 0.25
"""A re-evaluation of a smaller share of the planned epochs says less than the cheap labels it would overrule."""
SLACK = 1.2
"""Times its share that a strategy which only asks may use: its number of evaluations is to end it, time only where trainings take much
longer than was measured."""
TOO_SLOW = 1.3
"""Times their share that labels may take before there are fewer of them; measured step times vary by less."""
FINAL_SHARE_LEFT = 0.95
"""Share of the time that is left when the final stage begins that it may use; the rest is test, export and report."""
LONGEST_FINAL = 3
"""Times the planned epochs that final networks are trained for at most: time that nothing was planned for is rather left than used up."""


def whole_epochs(planned: float, possible: float) -> float | None:
    """Returns for how many of the ``planned`` epochs there is time, None if for too few to choose by.

    Networks of the final size that were trained for an epoch or two are ranked by how fast they begin; one that computes nearly
    nothing may lead.
    """
    epochs = min(planned, float(math.floor(possible)))
    return epochs if epochs >= min(planned, max(2.0, ENOUGH * planned)) else None


class Pace:
    """Holds the stages of a run to the shares of the time that the plan gives them.

    Args:
        job: has the clock and the journal.
        settings: of the run; without ``seconds`` the clock decides nothing.
        plan: has the shares.
    """

    def __init__(self, job: Job, settings: Settings, plan: Plan) -> None:
        self.job, self.settings, self.plan = job, settings, plan
        self._compare_began: float | None = None

    def label_budget(self) -> Budget:
        """Returns the budget of the strategy: one that compares keeps pace itself, others end in time."""
        share = self.plan.seconds.get(LABEL)
        unlimited = share is None or declaration(self.settings.strategy).compares
        seconds = None if unlimited or share is None else SLACK * share * self.settings.workers
        return Budget(evaluations=self.plan.labels + self.plan.confirm, seconds=seconds)

    def labels(self, done: int, wanted: int) -> int:
        """Returns how many of the ``wanted`` labels there is time for; fewer, once, if they take much longer than planned."""
        decided = self.job.noted("fewer labels")
        if decided is not None:
            return min(wanted, int(decided["labels"]))
        share = self.plan.seconds.get(LABEL)
        # the rate of a few rounds of all workers, one of which may have drawn the largest networks
        due = max(8, 4 * self.settings.workers)
        if share is None or done != due:
            return wanted
        started = next(r["clock"] for r in self.job.journal.records if r["event"] == "plan")
        rate = (self.job.clock - started) / done
        if rate * self.plan.labels <= TOO_SLOW * share:
            return wanted
        labels = max(due, int(share / rate))
        self.job.note("fewer labels", labels=labels, seconds_per_label=round(rate, 3))
        return labels

    def enough_steps(self, done: int) -> bool:
        """Ends the comparison when its share of the time is used; a continued run makes as many steps again."""
        decided = self.job.noted("compared")
        if decided is not None:
            return done >= int(decided["steps"])
        now, share = self.job.clock, self.plan.seconds.get("compare")
        if done == 0 or self._compare_began is None:
            self._compare_began = now
        if share is None or now - self._compare_began < share:
            return False
        self.job.note("compared", steps=done)
        return True

    def random_labels(self, owed: float, seconds_per_label: Callable[[], float], extra: int) -> int:
        """Returns how many architectures random search trains of its own.

        Args:
            owed: core seconds that the search has cost more so far.
            seconds_per_label: core seconds of one training here.
            extra: the number where the budget is a number of evaluations, and runs repeat exactly.
        """
        decided = self.job.noted("random arm")
        if decided is not None:
            return int(decided["labels"])
        if self.settings.seconds is not None:
            # at least one: a search that cost nothing more would otherwise be compared with a part of itself
            owed = max(owed, 1e-9)
            extra = max(1, math.ceil(owed / max(seconds_per_label(), 1e-6)))
        self.job.note("random arm", labels=extra, owed_seconds=round(owed, 2))
        return extra

    def reevaluation(self, n: int, seconds_per_label: Callable[[], float]) -> str | None:
        """Returns ``reevaluate@epochs`` for ``n`` networks: fewer than planned if this machine turned out slower, None if too few."""
        decided = self.job.noted("reevaluation plan")
        if decided is not None:
            return None if decided["fidelity"] is None else str(decided["fidelity"])
        epochs: float | None = self.plan.reevaluate.epochs
        if self.settings.seconds is not None and "epochs" not in self.settings.section("reevaluate"):
            slower = max(1.0, seconds_per_label() / max(self.plan.seconds_per_label, 1e-9))
            left = self.settings.seconds - self.job.clock - self.plan.seconds["final"]
            rounds = math.ceil(n / self.settings.workers)
            epochs = whole_epochs(self.plan.reevaluate.epochs, left / (rounds * slower * self.plan.seconds_per_epoch))
        fidelity = None if epochs is None else f"reevaluate@{epochs:g}"
        self.job.note("reevaluation plan", fidelity=fidelity)
        return fidelity

    def final(self, networks: Mapping[str, str], epoch_seconds: Callable[[], Sequence[float]]) -> str:
        """Returns ``final@epochs``: as many epochs as the time that is left allows.

        Args:
            networks: role -> architecture, for the record.
            epoch_seconds: what an epoch of each final training will take, in the order in which they start.
        """
        decided = self.job.noted("final plan")
        if decided is not None:
            return str(decided["fidelity"])
        planned = self.plan.final.epochs
        epochs = planned
        if self.settings.seconds is not None and "epochs" not in self.settings.section("final"):
            left = FINAL_SHARE_LEFT * (self.settings.seconds - self.job.clock)
            seconds = _makespan(epoch_seconds(), self.settings.workers)
            epochs = max(1, min(LONGEST_FINAL * planned, math.floor(left / max(seconds, 1e-9))))
        fidelity = f"final@{epochs:g}"
        self.job.note("final plan", fidelity=fidelity, networks=dict(networks))
        return fidelity


def _makespan(seconds: Sequence[float], workers: int) -> float:
    """Returns the time ``workers`` need for trainings started in order."""
    ends = [0.0] * workers
    for each in seconds:
        i = ends.index(min(ends))
        ends[i] += each
    return max(ends)

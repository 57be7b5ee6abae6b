"""What the clock decides while a run goes on: each decision is made once and written down, so that a continued run keeps it."""

from __future__ import annotations

import math
from collections.abc import Callable

from archduel.apps.choice import whole_epochs
from archduel.apps.folder import RunFolder
from archduel.apps.plan import Plan
from archduel.apps.settings import Settings
from archduel.core import Budget

__all__ = ["LABEL", "Pace"]

LABEL = "label"
"""The stage, and the fidelity, of trainings with the cheap recipe."""


class Pace:
    """Holds the stages of a run to the shares of the time that the plan gives them.

    Args:
        folder: has the clock and the journal.
        settings: of the run; without ``seconds`` the clock decides nothing.
        plan: has the shares.
        compares: whether the strategy compares after its labels, and so keeps pace itself.
    """

    def __init__(self, folder: RunFolder, settings: Settings, plan: Plan, *, compares: bool) -> None:
        self.folder, self.settings, self.plan, self.compares = folder, settings, plan, compares
        self._compare_began: float | None = None

    def label_budget(self) -> Budget:
        """Returns the budget of the strategy: one that compares keeps pace itself, others end in time."""
        share = self.plan.seconds.get(LABEL)
        seconds = None if share is None or self.compares else 1.2 * share * self.settings.workers
        return Budget(evaluations=self.plan.labels + self.plan.confirm, seconds=seconds)

    def labels(self, done: int, wanted: int) -> int:
        """Returns how many of the ``wanted`` labels there is time for; fewer, once, if they take much longer than planned."""
        noted = self.folder.noted("fewer labels")
        if noted is not None:
            return min(wanted, int(noted["labels"]))
        share = self.plan.seconds.get(LABEL)
        due = max(8, 4 * self.settings.workers)
        if share is None or done != due:
            return wanted
        started = next(r["clock"] for r in self.folder.journal.records if r["event"] == "plan")
        rate = (self.folder.clock - started) / done
        if rate * self.plan.labels <= 1.3 * share:
            return wanted
        labels = max(due, int(share / rate))
        self.folder.note("fewer labels", labels=labels, seconds_per_label=round(rate, 3))
        return labels

    def enough_steps(self, done: int) -> bool:
        """Ends the comparison when its share of the time is used; a continued run makes as many steps again."""
        noted = self.folder.noted("compared")
        if noted is not None:
            return done >= int(noted["steps"])
        now, share = self.folder.clock, self.plan.seconds.get("compare")
        if done == 0 or self._compare_began is None:
            self._compare_began = now
        if share is None or now - self._compare_began < share:
            return False
        self.folder.note("compared", steps=done)
        return True

    def reevaluation(self, n: int, seconds_per_label: Callable[[], float]) -> str | None:
        """Returns ``reevaluate@epochs`` for ``n`` networks: fewer than planned if this machine turned out slower, None if too few."""
        noted = self.folder.noted("reevaluation plan")
        if noted is not None:
            return None if noted["fidelity"] is None else str(noted["fidelity"])
        epochs: float | None = self.plan.reevaluate.epochs
        if self.settings.seconds is not None and "epochs" not in self.settings.section("reevaluate"):
            slower = max(1.0, seconds_per_label() / max(self.plan.seconds_per_label, 1e-9))
            left = self.settings.seconds - self.folder.clock - self.plan.seconds["final"]
            rounds = math.ceil(n / self.settings.workers)
            epochs = whole_epochs(self.plan.reevaluate.epochs, left / (rounds * slower * self.plan.seconds_per_epoch))
        fidelity = None if epochs is None else f"reevaluate@{epochs:g}"
        self.folder.note("reevaluation plan", fidelity=fidelity)
        return fidelity

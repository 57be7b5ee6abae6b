"""How one-shot searches end: candidates are judged with the shared weights, the few best are trained on their own if wanted."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch

from archduel.core import (
    Allowance,
    Arch,
    Constraint,
    Cost,
    Estimate,
    Policy,
    Prices,
    Query,
    SharedEstimator,
    Space,
    State,
    decisions,
    fair_sample,
    parse,
    sample,
)
from archduel.core.ranks import inherited, lifted
from archduel.core.space import Allowed, KnowsConstants
from archduel.core.spending import Kind
from archduel.errors import InvalidArchError, SettingError, StateError, check_at_least
from archduel.strategies.rounds import Ledger, first_distinct

__all__ = ["JUDGED_BY", "SAMPLING", "SIZE", "Closing", "OneShot", "SupernetTraining", "distinct_draws", "epochs_within", "feasible", "fewer_updates", "group_prices", "group_size", "ignores_input", "within"]

# -- How one-shot searches spend what they may -----------------------------------------------------------------------------


def within(low: float, value: float, high: float) -> int:
    """Returns the whole number below ``value`` that is at least ``low`` and at most ``high``."""
    return int(max(low, min(value, high)))


def epochs_within(batches: float, n: int, usual: int, most: int) -> tuple[int, int]:
    """Returns (epochs, batches an epoch): ``usual`` shorter epochs where a whole pass each would be too much, at most ``most``."""
    usual = within(1, batches, usual)
    if batches / usual <= n:
        return usual, max(1, int(batches / usual))
    return within(usual, batches / n, most), n


def fewer_updates(updates: int, *, paper: int, farthest: float) -> float:
    """Returns the learning rate with which ``updates`` may go as far as the ``paper``'s many at 3e-4, but not beyond ``farthest``."""
    return float(f"{min(farthest, 3e-4 * max(1.0, paper / max(1, updates))):.2g}")


def group_prices(allowance: Allowance, prices: Prices) -> Prices:
    """Returns the prices where the user wants fair sampling: a batch then teaches a whole group."""
    if allowance.given.get("sampling") != "fair" or allowance.space is None:
        return prices
    return replace(prices, learn=prices.learn * group_size(allowance.space))


# -- The first half of decoupled one-shot searches: shared weights that learn from uniformly or fairly sampled architectures 


SAMPLING = ("uniform", "fair")
PROBES = 64  # random architectures that are looked at to find the largest decision


def group_size(space: Space) -> int:
    """Returns how many architectures a fair group has: the largest number of options that a decision offers."""
    rng = np.random.default_rng(0)
    return max(len(d.options) for _ in range(PROBES) for d in decisions(space, sample(space, rng).choices))


class SupernetTraining:
    """Epochs of learning with one architecture a batch, or with a fair group of them.

    Args:
        space: where architectures are drawn.
        shared: the weights.
        epochs: how many.
        batches: of an epoch; 0 = a whole pass.
        sampling: ``uniform`` (SPOS) or ``fair`` (FairNAS: each batch teaches a group in which every option of a decision
            occurs once; one step on their mean loss).
    """

    def __init__(
        self, space: Space, shared: SharedEstimator, *, rng: np.random.Generator, epochs: int, batches: int, sampling: str
    ) -> None:
        check_at_least(1, epochs=epochs)
        check_at_least(0, batches=batches)
        if sampling not in SAMPLING:
            raise SettingError(f"sampling is {sampling!r}, expected one of {', '.join(SAMPLING)}")
        self.space, self.shared, self.rng, self.epochs, self.sampling = space, shared, rng, epochs, sampling
        self.batches = batches or shared.n_batches("train")
        self.epoch = 0

    @property
    def finished(self) -> bool:
        """Whether all epochs are made."""
        return self.epoch == self.epochs

    def run_epoch(self) -> Cost:
        """Learns for one epoch and returns its cost."""
        cost = self.shared.learn(self._items(), self.batches)
        self.epoch += 1
        return cost

    def _items(self) -> Iterator[Arch | list[Arch]]:
        group = group_size(self.space)
        while True:
            yield sample(self.space, self.rng) if self.sampling == "uniform" else fair_sample(self.space, group, self.rng)


def feasible(space: Space, arch: Arch, constraint: Constraint | None) -> bool:
    """Whether ``arch`` belongs to the space and the constraint allows it."""
    try:
        space.validate(arch)
    except InvalidArchError:
        return False
    return constraint is None or constraint(arch)


def ignores_input(space: Space, arch: Arch) -> bool:
    """Whether the space knows that the network of ``arch`` answers the same whatever it sees; False where it cannot say."""
    return isinstance(space, KnowsConstants) and space.ignores_input(arch)


def distinct_draws(
    policy: Policy, n: int, generator: torch.Generator, allowed: Allowed | None, allows: Constraint, *, tries: int = 20
) -> list[Arch]:
    """Returns at most ``n`` distinct draws of ``policy`` that ``allows`` allows, from at most ``tries`` times ``n`` draws."""
    found: dict[Arch, None] = {}
    with torch.no_grad():
        for _ in range(tries):
            found.update(dict.fromkeys(filter(allows, policy.draw(n, generator, allowed=allowed).archs)))
            if len(found) >= n:
                break
    return list(found)[:n]


JUDGED_BY = ("joint", "score")
SIZE = 1.0
"""Weight of multiply-adds beside what shared weights say: on 100 NAS-Bench-201 cells tau is 0.60 with it and 0.52 without."""


class Closing:
    """Remembers what the shared weights say about candidates, and what stand-alone trainings say about the best of them.

    What scores no better with them than a network that does not look comes after all that does, whatever its size.

    Args:
        space: tells which architectures are the same.
        verify: how many of the best candidates are asked for a stand-alone evaluation in the end; 0 = none.
        judged_by: what puts candidates in order before that: ``joint``, accuracy and loss with the shared weights and, as much as
            both, the multiply-adds, or the ``score`` alone.

    Raises:
        SettingError: for another judge, or a negative number.
    """

    def __init__(self, space: Space, verify: int, judged_by: str = "joint") -> None:
        check_at_least(0, verify=verify)
        if judged_by not in JUDGED_BY:
            raise SettingError(f"judged_by is {judged_by!r}, expected {' or '.join(map(repr, JUDGED_BY))}")
        self.space, self.verify, self.judged_by = space, verify, judged_by
        self.inherited, self.trained = Ledger(), Ledger()
        self.beside: dict[Arch, tuple[float, float]] = {}  # loss with the shared weights, multiply-adds
        self.guessing: set[Arch] = set()
        self.queue: deque[Arch] = deque()
        self.any: Arch | None = None

    def judge(self, shared: SharedEstimator, archs: Iterable[Arch], *, afresh: bool = True) -> Cost:
        """Scores ``archs`` on validation images with recalibrated batch norm and returns the cost.

        ``afresh`` forgets older scores, which belong to older weights; otherwise only new architectures are scored.
        """
        self.inherited = Ledger() if afresh else self.inherited
        queries = [Query(arch) for arch in dict.fromkeys(archs) if arch not in self.inherited]
        estimates = shared.estimate(queries) if queries else []
        self.inherited.record(queries, estimates)
        for query, estimate in zip(queries, estimates):
            if not estimate.failed and estimate.score <= estimate.values.get("chance", -math.inf):
                self.guessing.add(query.arch)
            else:
                self.guessing.discard(query.arch)
            if {"val_loss", "macs"} <= estimate.values.keys():
                self.beside[query.arch] = float(estimate.values["val_loss"]), float(estimate.values["macs"])
        return sum((estimate.cost for estimate in estimates), Cost())

    def finish(self) -> None:
        """Queues the best candidates for a stand-alone evaluation."""
        self.queue.extend(first_distinct(self.space, self.by_weights(), self.verify))

    def ask(self, n: int) -> list[Query]:
        """Returns at most ``n`` of the queue."""
        return [Query(self.queue.popleft()) for _ in range(min(n, len(self.queue)))]

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Remembers stand-alone scores, which count before inherited ones."""
        self.trained.record(queries, estimates)

    def ranked(self) -> list[Arch]:
        """Returns what was judged, best first: by stand-alone score, then by what the shared weights say."""
        return list(dict.fromkeys([*self.trained.ranked(), *self._untrained()]))

    def by_weights(self) -> list[Arch]:
        """Returns what was judged with the shared weights, best first, and after it what scores no better than a guess."""
        return sorted(self._by_judge(), key=self.guessing.__contains__)

    def _by_judge(self) -> list[Arch]:
        """Returns the same by what ``judged_by`` says alone; by the score where somebody says no size or no loss."""
        archs, scores = self.inherited.labelled()
        known = [self.beside.get(arch, (math.nan, math.nan)) for arch in archs]
        if self.judged_by == "score" or not np.isfinite(known).all() or not archs:
            return self.inherited.ranked()
        losses, macs = np.array(known).T
        joint = lifted(inherited(scores, losses), macs, SIZE)
        return [archs[i] for i in np.argsort(-joint, kind="stable")]

    def refused(self, arch: Arch) -> bool:
        """Whether ``arch`` scores no better than a guess with the shared weights while another candidate does."""
        return arch in self.guessing and any(other not in self.guessing for other in self.inherited.ranked())

    def _untrained(self) -> list[Arch]:
        """Returns the candidates whose own training did not fail."""
        return [arch for arch in self.by_weights() if arch not in self.trained]

    def finalists(self, n: int) -> list[Arch]:
        """Returns at most ``n`` architectures that differ in fingerprint, best first."""
        return first_distinct(self.space, self.ranked() or ([self.any] if self.any else []), n)

    def best(self) -> Arch:
        """Returns the first of ``ranked``; before anything was judged the architecture ``any``.

        Raises:
            StateError: before the first step.
        """
        found = self.finalists(1)
        if not found:
            raise StateError("the search has made no step yet, so there is no best architecture; call step first")
        return found[0]

    def state_dict(self) -> State:
        """Returns all that changes."""
        return {
            "inherited": self.inherited.state_dict(),
            "trained": self.trained.state_dict(),
            "queue": [str(arch) for arch in self.queue],
            "any": str(self.any) if self.any else "",
            "beside": [[str(arch), *values] for arch, values in self.beside.items()],
            "guessing": sorted(map(str, self.guessing)),
        }

    def load_state_dict(self, state: State) -> None:
        """Takes another's memory."""
        self.inherited.load_state_dict(state["inherited"])
        self.trained.load_state_dict(state["trained"])
        self.queue = deque(parse(text) for text in state["queue"])
        self.any = parse(state["any"]) if state["any"] else None
        self.beside = {parse(text): (loss, macs) for text, loss, macs in state.get("beside", [])}
        self.guessing = {parse(text) for text in state.get("guessing", [])}


class OneShot:
    """What one-shot searches share: weights that learn in ``step``, which a paper adds, and the same end.

    Args:
        shared: the weights.
        constraint: which architectures are allowed.
        verify: how many of the best candidates are evaluated on their own in the end.
        judged_by: see :class:`Closing`.
    """

    kind: ClassVar[Kind] = "one-shot"

    def __init__(
        self, space: Space, shared: SharedEstimator, constraint: Constraint | None, verify: int, judged_by: str = "joint"
    ) -> None:
        self.space, self.shared, self.constraint = space, shared, constraint
        self.closing = Closing(space, verify, judged_by)

    @classmethod
    def learns(cls, settings: Mapping[str, Any], allowance: Allowance) -> int:
        """Returns the batches of its epochs."""
        return int(settings["epochs"] * (settings["batches"] or allowance.batches))

    def ask(self, n: int) -> list[Query]:
        """Returns candidates to evaluate on their own, after the search."""
        return self.closing.ask(n)

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Remembers their scores."""
        self.closing.tell(queries, estimates)

    def best(self) -> Arch:
        """Returns the best that was judged, an architecture met on the way before that; raises StateError before any step."""
        return self.closing.best()

    def finalists(self, n: int) -> list[Arch]:
        """Returns at most ``n`` architectures that differ in fingerprint, best first."""
        return self.closing.finalists(n)

    def state_dict(self) -> State:
        """Returns all that changes, the shared weights included."""
        return {"shared": self.shared.state_dict(), "closing": self.closing.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        self.shared.load_state_dict(state["shared"])
        self.closing.load_state_dict(state["closing"])

"""How one-shot searches end: candidates are judged with the shared weights, the few best are trained on their own if wanted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import torch

from archduel.core import (
    Arch,
    Constraint,
    Cost,
    Estimate,
    Policy,
    Query,
    SharedEstimator,
    Space,
    State,
    parse,
)
from archduel.core.space import Allowed
from archduel.errors import InvalidArchError, SettingError, StateError
from archduel.strategies.ledger import Ledger
from archduel.strategies.pool import first_distinct

__all__ = ["Closing", "distinct_draws", "feasible"]


def feasible(space: Space, arch: Arch, constraint: Constraint | None) -> bool:
    """Whether ``arch`` belongs to the space and the constraint allows it."""
    try:
        space.validate(arch)
    except InvalidArchError:
        return False
    return constraint is None or constraint(arch)


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


class Closing:
    """Remembers what the shared weights say about candidates, and what stand-alone trainings say about the best of them.

    Args:
        space: tells which architectures are the same.
        verify: how many of the best candidates are asked for a stand-alone evaluation in the end; 0 = none.
    """

    def __init__(self, space: Space, verify: int) -> None:
        if verify < 0:
            raise SettingError(f"verify must not be negative, got {verify}")
        self.space, self.verify = space, verify
        self.inherited, self.trained = Ledger(), Ledger()
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
        return sum((estimate.cost for estimate in estimates), Cost())

    def finish(self) -> None:
        """Queues the best candidates for a stand-alone evaluation."""
        self.queue.extend(first_distinct(self.space, self.inherited.ranked(), self.verify))

    def ask(self, n: int) -> list[Query]:
        """Returns at most ``n`` of the queue."""
        return [Query(self.queue.popleft()) for _ in range(min(n, len(self.queue)))]

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Remembers stand-alone scores, which count before inherited ones."""
        self.trained.record(queries, estimates)

    def ranked(self) -> list[Arch]:
        """Returns what was judged, best first: by stand-alone score, then by inherited score."""
        return list(dict.fromkeys([*self.trained.ranked(), *self._untrained()]))

    def _untrained(self) -> list[Arch]:
        """Returns the candidates whose own training did not fail."""
        return [arch for arch in self.inherited.ranked() if arch not in self.trained]

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
        }

    def load_state_dict(self, state: State) -> None:
        """Takes another's memory."""
        self.inherited.load_state_dict(state["inherited"])
        self.trained.load_state_dict(state["trained"])
        self.queue = deque(parse(text) for text in state["queue"])
        self.any = parse(state["any"]) if state["any"] else None

"""Fair sampling: architectures in which every answer to a question occurs equally often.

Source: strict fairness, Chu, Zhang and Xu, "FairNAS" (ICCV 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from archduel.core.arch import Arch
from archduel.core.space import Decision, Space
from archduel.errors import InfeasibleError

__all__ = ["fair_sample"]


def fair_sample(
    space: Space, n: int, rng: np.random.Generator, *, allowed: Mapping[str, Sequence[int]] | None = None
) -> list[Arch]:
    """Returns ``n`` architectures in which the options of each question occur equally often, to within one.

    In a space with K options at every decision, ``n = K`` is a round of strict fairness: every operation of every edge
    occurs exactly once. Where a question comes up depends on earlier answers, it is fair among the times that it came up.

    Args:
        space: what to sample from.
        n: architectures.
        rng: randomness.
        allowed: options of a kind of decision that may be chosen (a stage's mask); kinds not named are free.

    Raises:
        InfeasibleError: if ``allowed`` leaves a question without an answer.
    """
    queues: dict[str, list[int]] = {}
    archs = []
    for _ in range(n):
        choices: tuple[int, ...] = ()
        while (decision := space.decision(choices)) is not None:
            choices += (_next(decision, queues, rng, allowed or {}),)
        archs.append(Arch(space.name, choices))
    return archs


def _next(
    decision: Decision, queues: dict[str, list[int]], rng: np.random.Generator, allowed: Mapping[str, Sequence[int]]
) -> int:
    """Returns the first answer still waiting among the present options, after shuffling all of them in if there is none."""
    options = [o for o in decision.options if o in allowed.get(decision.kind, decision.options)]
    if not options:
        raise InfeasibleError(f"no option of {decision.name} is among the allowed {list(allowed[decision.kind])}")
    queue = queues.setdefault(decision.name, [])
    waiting = next((o for o in queue if o in options), None)
    if waiting is None:
        queue += [options[int(i)] for i in rng.permutation(len(options))]
        waiting = next(o for o in queue if o in options)
    queue.remove(waiting)
    return waiting

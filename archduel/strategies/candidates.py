"""Where proposals come from (the whole space, or its best corner) and what makes one worth a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

from archduel.core import (
    Arch,
    Believer,
    Constraint,
    Ranker,
    Space,
    Uncertain,
    enumerate_space,
    mutate,
    sample,
)
from archduel.errors import InfeasibleError

__all__ = ["GraphAware", "Informed", "beliefs", "evolved", "log_improvement", "mutants", "whole_space"]


_listed: WeakKeyDictionary[Any, tuple[int, tuple[str, ...], tuple[Arch, ...]]] = WeakKeyDictionary()
"""Space -> limit, fingerprints, their first architectures: many searches in one space list it once."""


def whole_space(space: Space, constraint: Constraint | None, limit: int) -> tuple[tuple[str, ...], tuple[Arch, ...]]:
    """Returns each fingerprint and its first architecture for a space of at most ``limit`` encodings, nothing for a larger one.

    Without a constraint the very same tuples come back each time, so that rankers can keep what they know of them.
    """
    if space not in _listed or _listed[space][0] != limit:
        archs = list(islice(enumerate_space(space), limit + 1))
        found: dict[str, Arch] = {}
        for arch in archs if len(archs) <= limit else []:
            found.setdefault(space.fingerprint(arch), arch)
        _listed[space] = limit, tuple(found), tuple(found.values())
    fingerprints, first = _listed[space][1:]
    if constraint is None or not first:
        return fingerprints, first
    allowed: dict[str, Arch] = {}
    for arch in enumerate_space(space):
        if constraint(arch):
            allowed.setdefault(space.fingerprint(arch), arch)
    return tuple(allowed), tuple(allowed.values())


def mutants(
    space: Space, parents: Iterable[Arch], rng: np.random.Generator, constraint: Constraint | None
) -> Iterator[Arch]:
    """Yields a mutant of each parent; one that has none goes without, others have mutants."""
    for parent in parents:
        try:
            yield mutate(space, parent, rng, constraint, tries=50)
        except InfeasibleError:
            continue


def evolved(
    space: Space,
    parents: Sequence[Arch],
    worth: Callable[[list[Arch]], NDArray[np.float64]],
    rng: np.random.Generator,
    constraint: Constraint | None,
    *,
    size: int,
    rounds: int,
) -> list[Arch]:
    """Returns architectures bred for what ``worth`` says: ``rounds`` generations of ``size`` mutants and random ones.

    A quarter of the first generation is random; each further one descends from the best tenth of all so far.
    """
    pool: dict[Arch, None] = {}
    for _ in range(size // 4):
        pool[sample(space, rng, constraint)] = None
    for _ in range(rounds):
        # One after another: a parent is drawn after the mutant of the one before.
        drawn = (parents[int(rng.integers(len(parents)))] for _ in range(size))
        pool.update(dict.fromkeys(mutants(space, drawn, rng, constraint)))
        archs = list(pool)
        order = np.argsort(-worth(archs), kind="stable")[: max(10, len(archs) // 10)]
        parents = [archs[i] for i in order]
    return list(pool)


@runtime_checkable
class GraphAware(Protocol):
    """A ranker that can be made for labels that belong to how an architecture is written down, as latencies do."""

    def with_graphs(self) -> Ranker:
        """Returns a fresh ranker with the same settings that also sees how architectures are written down."""


@runtime_checkable
class Informed(Protocol):
    """A ranker that expects something of architectures before it has learned a label."""

    def prior(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """Returns (N,) what is expected, higher is better; all alike where nothing is."""


def beliefs(
    ranker: Ranker, archs: Sequence[Arch], assumed: Sequence[Arch] = ()
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns (N,) expected scores and (N,) standard deviations, zeros for a ranker that is never uncertain.

    Args:
        ranker: the one that is asked.
        archs: about which architectures.
        assumed: others that count as labelled with what is expected of them, where the ranker can imagine that.
    """
    if isinstance(ranker, Believer):
        return ranker.beliefs(archs, assumed=assumed)
    mean = ranker.predict(archs)
    return mean, ranker.uncertainty(archs) if isinstance(ranker, Uncertain) else np.zeros(len(archs))


def log_improvement(
    mean: NDArray[np.float64], deviation: NDArray[np.float64], incumbent: float
) -> NDArray[np.float64]:
    """Returns (N,) logarithms of the expected improvement over ``incumbent``, finite far below it too.

    Source: Ament et al., "Unexpected Improvements to Expected Improvement for Bayesian Optimization", NeurIPS 2023.
    """
    deviation = np.maximum(deviation, 1e-12)
    u = (mean - incumbent) / deviation
    density = np.exp(-0.5 * u * u) / np.sqrt(2 * np.pi)
    near = np.maximum(density + u * ndtr(u), 1e-300)
    # far below: phi(u) + u Phi(u) -> phi(u) / u^2; log_ndtr(u) + log(|u|) is log phi(u) up to 1 / u^2
    far = log_ndtr(u) - np.log(np.maximum(-u, 1.0))
    return np.asarray(np.where(u > -20, np.log(near), far) + np.log(deviation))

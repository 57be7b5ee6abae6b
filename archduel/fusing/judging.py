"""Judging several architectures at once by fused training, and choosing how many: measured, never where it loses.

:func:`plan_fused` measures a few steps alone and in groups and says how many networks to train at once; :func:`train_together` trains such
a group and evaluates it; :func:`planned` and :func:`judged_together` do the two for the queries of an estimator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from archduel.core import Arch, Counts, Estimate, Query, Scale
from archduel.errors import ArchduelError, MachineError, SettingError, short_of_memory
from archduel.fusing.fastest import now
from archduel.fusing.memory import free_memory, room
from archduel.fusing.networks import Fused, fuse
from archduel.fusing.training import FusedNetworks, evaluate_fused, train_fused
from archduel.training.images import Images, Pixels
from archduel.training.loop import Trained, failures_as_reason, train
from archduel.training.metrics import Evaluation
from archduel.training.recipe import Recipe

__all__ = ["SIZES", "FusedPlan", "judged_together", "plan_fused", "planned", "train_together"]

# Doublings, so that few sizes are measured; rising, so that a plan can stop where a larger group no longer gains.
SIZES = (8, 16, 32, 64)
"""Numbers of networks that are tried."""

# Steps of a measurement; each is made twice and the shorter time counts, so that a plan takes about a second.
STEPS = 4

# Measured times are never exact. The bounds are on the side of trying on, where a mistake costs a
# second, and of training alone, where a wrong choice costs the whole table:
HOPELESS = 1.2  # a smallest group that is so much slower than one by one is not enlarged
LARGER_LOSS = 1.05  # a group that is so much slower than the one before is not enlarged
GAIN = 1.1  # so much faster a group must be than one by one to be chosen


@dataclass(frozen=True)
class FusedPlan:
    """How many networks to train at once, and what was measured.

    Attributes:
        k: networks a group; 1 = one by one.
        alone: seconds a step of one network by itself.
        together: seconds a step and network, by number of networks.
        bytes: memory of a group.
        reason: why networks are trained one by one, empty if they are not.
    """

    k: int
    alone: float
    together: dict[int, float]
    bytes: int
    reason: str = ""

    def record(self) -> dict[str, Any]:
        """Returns the plan as JSON values."""
        return {**asdict(self), "together": {str(k): seconds for k, seconds in self.together.items()}}


def plan_fused(
    networks: Sequence[nn.Module],
    scale: Scale,
    images: Images,
    recipe: Recipe,
    *,
    device: str | torch.device = "cpu",
    sizes: Sequence[int] = SIZES,
    memory: int | None = None,
    sharing: int = 1,
) -> FusedPlan:
    """Returns how many networks like these are best trained at once, by a few steps of each group size.

    Args:
        networks: different ones of the space, freshly built; they are trained for a few steps, so throw them away.
        scale: what they were built for.
        sizes: numbers of networks to try, rising; larger ones only while they do not lose.
        memory: bytes that a group may take; None = :func:`~archduel.fusing.memory.room` of what the device has free.
        sharing: processes that train on the device.
    """
    steps = recipe.with_(
        epochs=STEPS * recipe.batch_size / max(recipe.batch_size, len(images)), data_fraction=1.0
    )
    place = torch.device(device)
    memory = room(place, free_memory(place), sharing) if memory is None else memory
    alone = _alone(networks, images, steps, place)
    together, fitting = dict[int, float](), dict[int, float]()
    used, reason = 0, ""
    for k in sizes:
        try:
            chosen = [networks[i % len(networks)] for i in range(k)]
            group = fuse(chosen, scale, device=device)
            # once before the clock runs: it allocates the memory and measures the ways of the convolutions
            train_fused(group, images, steps, seeds=[0])
            together[k] = _seconds(partial(train_fused, group, images, steps, seeds=[0]), place) / (STEPS * k)
        except (SettingError, RuntimeError, MemoryError) as error:
            reason = str(error)
            break
        used = group.buffers.bytes
        if used > memory:
            reason = f"{k} networks take {used >> 20:,} MiB of memory, and {memory >> 20:,} are there for them"
            break
        fitting[k] = together[k]
        # a group of twice the networks takes about twice the memory
        if 2 * used > memory or not _worth_more(list(together.values()), alone):
            break
    best = min(fitting, key=lambda k: fitting[k], default=0)
    if not best or fitting[best] * GAIN > alone:
        return FusedPlan(1, alone, together, used, reason or "a group is not faster")
    return FusedPlan(best, alone, together, used)


def _worth_more(together: Sequence[float], alone: float) -> bool:
    """Returns whether a larger group may pay: the last one was no slower than the one before, or the first not far behind alone."""
    if len(together) == 1:
        return together[0] < HOPELESS * alone
    return together[-1] < LARGER_LOSS * together[-2]


def _alone(networks: Sequence[nn.Module], images: Images, steps: Recipe, device: torch.device) -> float:
    """Returns the mean seconds a step of a few networks."""
    # networks of a space cost differently, so that one would not speak for all
    some = networks[:4]
    # the first call of a library is slow
    train(some[0], images, steps, seed=0, device=device)
    times = [
        _seconds(partial(train, network, images, steps, seed=0, device=device), device) for network in some
    ]
    return sum(times) / (STEPS * len(some))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Returns the shorter of two times."""
    times = []
    for _ in range(2):
        began = now(device)
        work()
        times.append(now(device) - began)
    return min(times)


class Trains(Protocol):
    """What is needed of an estimator that trains."""

    train: Pixels
    run_seed: int
    device: torch.device
    curves: bool

    def recipe(self, query: Query) -> Recipe:
        """Returns how a query is trained."""

    def scale(self, recipe: Recipe) -> Scale:
        """Returns the size of its network."""

    def network(self, arch: Arch, recipe: Recipe, seed: int) -> nn.Module:
        """Returns the network."""

    def counts(self, arch: Arch, recipe: Recipe) -> Counts:
        """Returns its parameters and multiply-adds."""

    def splits(self, recipe: Recipe) -> list[Pixels]:
        """Returns the images that a trained network is scored on."""

    def estimate_of(
        self,
        trained: Trained,
        scores: Sequence[Evaluation],
        values: dict[str, Any],
        seconds: float,
        recipe: Recipe,
    ) -> Estimate:
        """Returns a training as an estimate."""


def planned(estimator: Trains, queries: Sequence[Query], most: int, sharing: int = 1) -> FusedPlan:
    """Returns how many queries like these an estimator best trains at once; 1 if one cannot be built.

    Args:
        estimator: trains.
        queries: some, of one recipe.
        most: larger groups are not tried: there is no time to measure what there are no queries for.
        sharing: processes that train on the device.
    """
    recipe = estimator.recipe(queries[0])
    images = estimator.train.resized(recipe.image_size).fraction(recipe.data_fraction, estimator.run_seed)
    sizes = [k for k in SIZES if k <= max(most, min(SIZES))]
    try:
        networks = [estimator.network(queries[i % len(queries)].arch, recipe, i) for i in range(max(sizes))]
        return plan_fused(networks, estimator.scale(recipe), images, recipe, device=estimator.device, sizes=sizes, sharing=sharing)
    except ArchduelError as error:
        return FusedPlan(1, 0.0, {}, 0, str(error))


def judged_together(
    estimator: Trains, queries: Sequence[Query], seeds: Sequence[int]
) -> list[Estimate] | None:
    """Returns the estimates of queries of one recipe, or None if they cannot be trained as one group.

    Raises:
        Exception: what :func:`archduel.errors.short_of_memory` says is too little memory: half of the group may fit.
    """
    recipe = estimator.recipe(queries[0])
    if any(estimator.recipe(query) != recipe for query in queries[1:]):
        return None  # architectures that say something of their own training
    began = time.perf_counter()
    splits = estimator.splits(recipe)
    images = estimator.train.resized(recipe.image_size).fraction(recipe.data_fraction, estimator.run_seed)
    try:
        networks = [estimator.network(query.arch, recipe, seed) for query, seed in zip(queries, seeds)]
        results = train_together(
            networks,
            estimator.scale(recipe),
            images,
            recipe.with_(data_fraction=1.0),  # taken above, with the run's seed
            seeds=seeds[:1] if len(set(seeds)) == 1 else seeds,  # of one seed: batches are made once
            validations=splits,
            curves=splits[0] if estimator.curves else None,
            device=estimator.device,
        )
    except ArchduelError as error:
        if short_of_memory(error):
            raise
        return None  # a network that cannot be built or fused: alone, each gets its own answer
    too_large = next((trained.reason for trained, _ in results if trained.reason.startswith("out of memory")), None)
    if too_large is not None:
        raise MachineError(f"{len(queries)} networks at once: {too_large}") from MemoryError(too_large)
    seconds = (time.perf_counter() - began) / len(queries)
    estimates = []
    for query, (trained, scored) in zip(queries, results):
        values: dict[str, Any] = estimator.counts(query.arch, recipe)._asdict() | {
            "fused": len(queries)
        }
        estimates.append(
            estimator.estimate_of(trained, scored or [], values, seconds, recipe)
        )
    return estimates


def train_together(
    networks: Sequence[nn.Module],
    scale: Scale,
    images: Images,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    validations: Sequence[Images],
    curves: Images | None = None,
    device: str | torch.device = "cpu",
) -> list[tuple[Trained, list[Evaluation] | None]]:
    """Trains networks as one group; returns what happened to each, and its evaluations (None if it did not end).

    Args:
        networks: freshly built; they get the weights.
        scale: what they were built for.
        seeds: of batches, augmentation and drop path: one a network (each ends as it would alone), or one for all.
        validations: images to evaluate on, once trained; one evaluation each.
        curves: images that are evaluated after each epoch, for the histories.

    Raises:
        SettingError: for networks or a recipe that cannot be fused.
    """
    group: FusedNetworks = fuse(networks, scale, device=device)
    overall = Trained()
    with failures_as_reason(overall):
        group, left, trained = train_fused(group, images, recipe, seeds=seeds, validation=curves)
    if overall.reason:
        return [(Trained(reason=overall.reason), None) for _ in networks]
    if not left:
        return [(one, None) for one in trained]
    # by split, then by network; the caller wants it by network
    evaluations = [evaluate_fused(group, validation, batch_size=recipe.batch_size) for validation in validations]
    assert isinstance(group, Fused)
    group.extract()
    judged = {number: [split[place] for split in evaluations] for place, number in enumerate(left)}
    return [(one, judged.get(number)) for number, one in enumerate(trained)]

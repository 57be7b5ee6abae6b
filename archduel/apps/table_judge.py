"""The trainings behind a table of one's own, one by one or in groups."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from archduel.core import Arch, Cost, Estimate, Query, evaluation_seed
from archduel.estimators.training import TrainingEstimator
from archduel.execution.processes import Processes
from archduel.execution.worker import end_with_parent
from archduel.training.pixels import Pixels
from archduel.training.recipe import Recipe
from archduel.training.running import Trained

__all__ = ["TableJudge", "answers"]


@dataclass(frozen=True)
class TableJudge:
    """Trains an architecture once and scores it on validation and on test: a table needs both, a search sees one.

    Attributes:
        train: training images.
        validation: images of the validation column.
        test: images of the test column.
        recipe: how to train.
        n_classes: outputs.
    """

    train: Pixels
    validation: Pixels
    test: Pixels
    recipe: Recipe
    n_classes: int

    def __call__(self) -> Callable[[Query, int], Estimate]:
        """Returns ``judge(query, seed)``."""
        return self.judge

    def estimator(self) -> TrainingEstimator:
        """Returns what builds the networks."""
        recipes = {"table": self.recipe}
        return TrainingEstimator(
            self.train, self.validation, recipes, n_classes=self.n_classes, run_seed=0, default="table"
        )

    def judge(self, query: Query, seed: int) -> Estimate:
        """Returns validation accuracy as the score, test and training accuracy among the values."""
        from archduel.nets.ops import set_drop_path
        from archduel.training.loop import train
        from archduel.training.metrics import evaluate

        model = self.estimator().network(query.arch, self.recipe, seed)
        trained = train(model, self.train, self.recipe, seed=seed, drop_path=set_drop_path)
        said = [] if trained.reason else [evaluate(model, part) for part in (self.validation, self.test)]
        return _estimate(trained, [one.accuracy for one in said])

    def judge_together(self, queries: Sequence[Query], seeds: Sequence[int]) -> list[Estimate]:
        """Returns what :meth:`judge` would, trained as one group."""
        from archduel.estimators.fused import train_together

        estimator = self.estimator()
        size = self.recipe.image_size
        began = time.perf_counter()
        results = train_together(
            [estimator.network(query.arch, self.recipe, seed) for query, seed in zip(queries, seeds)],
            estimator.scale(self.recipe),
            self.train,
            self.recipe,
            seeds=seeds[:1] if len(set(seeds)) == 1 else seeds,  # of one seed: batches are made once
            validations=[self.validation.resized(size), self.test.resized(size)],
        )
        seconds = (time.perf_counter() - began) / len(queries)
        for trained, _ in results:
            trained.seconds = seconds  # building and judging included: a group's cost is shared by all
        return [_estimate(trained, [one.accuracy for one in said or []]) for trained, said in results]

    def at_once(self, archs: Sequence[Arch]) -> int:
        """Returns how many networks like those of ``archs`` are best trained at once, as measured."""
        from archduel.estimators.fused import planned

        return planned(self.estimator(), [Query(arch) for arch in archs])


def _estimate(trained: Trained, accuracies: Sequence[float]) -> Estimate:
    """Returns a training with its validation and test accuracy, or its failure."""
    cost = Cost(trained.seconds, trained.images)
    if trained.reason or not accuracies:
        return Estimate(float("nan"), cost, {}, trained.reason)
    values = {"test": accuracies[1], "train": trained.history[-1]["train_accuracy"]}
    return Estimate(accuracies[0], cost, values)


Group = tuple[list[Query], list[int]]


def _grouped(judge: TableJudge, groups: Sequence[Group], workers: int) -> Iterator[Estimate]:
    """Yields the estimates of groups that are trained as one each, ``workers`` at a time with one thread each."""
    if not groups:
        return
    context = multiprocessing.get_context("spawn")  # fork would copy torch's threads in an unknown state
    with ProcessPoolExecutor(workers, context, _begin) as pool:
        for estimates in pool.map(partial(_judge_group, judge), groups):
            yield from estimates


def _begin() -> None:
    """Prepares a worker: one thread for torch, and an end when the process that waits for it is gone, however that ended."""
    import torch

    torch.set_num_threads(1)
    end_with_parent()


def _judge_group(judge: TableJudge, group: Group) -> list[Estimate]:
    return judge.judge_together(*group)


def _groups(queries: Sequence[Query], runs: Sequence[int], seed: int, k: int) -> list[Group]:
    """Returns neighbouring queries of one run, at most ``k`` together."""
    groups: list[Group] = []
    for place, (query, run) in enumerate(zip(queries, runs)):
        if not place or run != runs[place - 1] or len(groups[-1][0]) == k:
            groups.append(([], []))
        groups[-1][0].append(query)
        groups[-1][1].append(evaluation_seed(seed, run))
    return groups


def answers(
    judge: TableJudge,
    queries: Sequence[Query],
    runs: Sequence[int],
    seed: int,
    workers: int,
    fused: int | str,
) -> Generator[Estimate, None, None]:
    """Yields the estimate of each query, trained one by one or in groups of one run, which all have its seed."""
    if not queries:
        return
    k = (
        judge.at_once([query.arch for query in queries])
        if fused == "auto"
        else 1
        if fused == "off"
        else int(fused)
    )
    if k > 1:
        yield from _grouped(judge, _groups(queries, runs, seed, k), workers)
        return
    with Processes(judge, workers=workers, run_seed=seed) as executor:
        yield from executor.run(queries, runs)

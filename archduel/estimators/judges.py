"""What a worker process does with a query: load the cached images, build the network, train it, say how good it is."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Cost, Estimate, Query, Scale, evaluation_seed
from archduel.data import Dataset
from archduel.estimators.training import TrainingEstimator
from archduel.spaces.family import PlugIns
from archduel.training.images import Pixels
from archduel.training.loop import Trained
from archduel.training.recipe import Recipe, text_recipe

__all__ = ["JudgeFactory", "RecipeJudge", "TableJudge", "Together", "final_weights", "joined", "recipe_of", "scale_of"]


@dataclass(frozen=True)
class TableJudge:
    """Trains an architecture once and scores it on validation and on test: a table needs both, a search sees one.

    Attributes:
        train: training images.
        validation: images of the validation column.
        test: images of the test column.
        recipe: how to train.
        n_classes: outputs.
        plug_ins: spaces from outside, which a worker must know too.
    """

    train: Pixels
    validation: Pixels
    test: Pixels
    recipe: Recipe
    n_classes: int
    plug_ins: PlugIns = field(default_factory=PlugIns)

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
        from archduel.spaces.layers import set_drop_path
        from archduel.training.loop import train
        from archduel.training.metrics import evaluate

        model = self.estimator().network(query.arch, self.recipe, seed)
        trained = train(model, self.train, self.recipe, seed=seed, drop_path=set_drop_path)
        said = [] if trained.reason else [evaluate(model, part) for part in (self.validation, self.test)]
        return _estimate(trained, [one.accuracy for one in said])

    def judge_together(self, queries: Sequence[Query], seeds: Sequence[int]) -> list[Estimate]:
        """Returns what :meth:`judge` would, trained as one group."""
        from archduel.fusing.judging import train_together

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
        from archduel.fusing.judging import planned

        return planned(self.estimator(), [Query(arch) for arch in archs])


def _estimate(trained: Trained, accuracies: Sequence[float]) -> Estimate:
    """Returns a training with its validation and test accuracy, or its failure."""
    cost = Cost(trained.seconds, trained.images)
    if trained.reason or not accuracies:
        return Estimate(float("nan"), cost, {}, trained.reason)
    values = {"test": accuracies[1], "train": trained.history[-1]["train_accuracy"]}
    return Estimate(accuracies[0], cost, values)


@dataclass(frozen=True)
class RecipeJudge:
    """Trains a query with the recipe that its fidelity spells out (:func:`~archduel.training.recipe.recipe_text`).

    Attributes:
        train: training images.
        validation: images that scores are read from.
        n_classes: outputs.
        run_seed: of the run.
        metric: what a score is.
        device: where networks are trained.
        threads: of torch on a CPU.
        checkpoints: folder for unfinished trainings; None = they start again.
        plug_ins: spaces from outside, which a worker must know too.
    """

    train: Pixels
    validation: Pixels
    n_classes: int
    run_seed: int
    metric: str = "accuracy"
    device: str = "cpu"
    threads: int = 1
    checkpoints: Path | None = None
    plug_ins: PlugIns = field(default_factory=PlugIns)

    def estimator(self, fused: int | str = "off") -> TrainingEstimator:
        """Returns the estimator; its recipes are added as they are asked for."""
        return TrainingEstimator(
            self.train,
            self.validation,
            {"": Recipe()},
            n_classes=self.n_classes,
            run_seed=self.run_seed,
            metric=self.metric,
            device=self.device,
            threads=self.threads,
            default="",
            checkpoints=self.checkpoints,
            fused=fused,
        )

    def __call__(self) -> Callable[[Query, int], Estimate]:
        """Returns ``judge(query, seed)``."""
        estimator = self.estimator()

        def judge(query: Query, seed: int) -> Estimate:
            text = query.fidelity or "{}"
            estimator.recipes[text] = text_recipe(text)
            return estimator.judge(Query(query.arch, text, query.group), seed)

        return judge


class Together:
    """An executor that trains waiting queries of one recipe at once (:mod:`archduel.fusing.judging`), in this process.

    Args:
        estimator: trains; how many at once is its setting ``fused``.
        run_seed: with the ordinal it gives the seed of an evaluation.
    """

    def __init__(self, estimator: TrainingEstimator, *, run_seed: int) -> None:
        self.estimator, self.run_seed = estimator, run_seed

    def run(self, queries: Sequence[Query], ordinals: Sequence[int]) -> Iterator[Estimate]:
        """Yields one estimate a query, in order, group by group."""
        place = 0
        while place < len(queries):
            text = queries[place].fidelity or "{}"
            self.estimator.recipes[text] = text_recipe(text)
            waiting = list(takewhile(lambda query: query.fidelity == text, queries[place:]))  # noqa: B023
            group = waiting[: self.estimator.at_once(waiting)]
            seeds = [evaluation_seed(self.run_seed, ordinals[place + i]) for i in range(len(group))]
            yield from self.estimator.judge_together(group, seeds)
            place += len(group)

    def close(self) -> None:
        """Nothing to end."""


def recipe_of(fidelity: str, recipes: Mapping[str, Recipe]) -> Recipe:
    """Returns the recipe that ``name`` or ``name@epochs`` means."""
    name, _, epochs = fidelity.partition("@")
    return recipes[name].with_(epochs=float(epochs)) if epochs else recipes[name]


def scale_of(recipe: Recipe, dataset: Dataset) -> Scale:
    """Returns the scale at which a recipe builds networks for ``dataset``."""
    return Scale(recipe.channels, recipe.depth, recipe.image_size, dataset.in_channels, dataset.n_classes)


def final_weights(folder: Path, arch: Arch, fidelity: str, seed: int) -> Path:
    """Returns where the weights of a final training are kept."""
    digest = hashlib.sha256(f"{arch}/{fidelity}/{seed}".encode()).hexdigest()[:12]
    return folder / "checkpoints" / f"final-{digest}.safetensors"


def joined(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns both arrays as one, without a copy where the second follows the first in memory (splits of one map do)."""
    follows = second.ctypes.data == first.ctypes.data + first.nbytes
    if follows and first.flags.c_contiguous and second.flags.c_contiguous and first.shape[1:] == second.shape[1:]:
        shape = (len(first) + len(second), *first.shape[1:])
        return np.lib.stride_tricks.as_strided(first, shape, first.strides, subok=True, writeable=False)
    return np.concatenate([first, second])


@dataclass(frozen=True)
class JudgeFactory:
    """Makes the judging function inside a worker. Memory-mapped images travel as a file name, not as pixels.

    Attributes:
        train: training images.
        validation: validation images.
        both: training and validation images together, for final trainings.
        recipes: the recipes by fidelity name; ``final`` is trained on ``both``.
        n_classes: outputs of the networks.
        run_seed: seed of the run.
        metric: what a score is.
        device: where networks are trained.
        threads: CPU threads of one training.
        folder: the run folder, where final weights and checkpoints go.
        rank_by: the score of all trainings but the final ones: ``metric`` or ``likelihood``.
        plug_ins: spaces from outside, which a worker must know too.
    """

    train: Pixels
    validation: Pixels
    both: Pixels
    recipes: Mapping[str, Recipe]
    n_classes: int
    run_seed: int
    metric: str
    device: str
    threads: int
    folder: Path
    rank_by: str = "likelihood"
    plug_ins: PlugIns = field(default_factory=PlugIns)

    def __call__(self) -> Callable[[Query, int], Estimate]:
        """Returns ``judge(query, seed)``."""
        return Judge(self).judge


class Judge:
    """Trains and scores networks on one data set."""

    def __init__(self, factory: JudgeFactory) -> None:
        from archduel.estimators.training import TrainingEstimator

        self.factory = factory
        self.default = next(iter(factory.recipes))
        self.estimator = TrainingEstimator(
            factory.train,
            factory.validation,
            factory.recipes,
            n_classes=factory.n_classes,
            run_seed=factory.run_seed,
            metric=factory.metric,
            device=factory.device,
            threads=factory.threads,
            default=self.default,
            checkpoints=factory.folder / "checkpoints",
        )

    def judge(self, query: Query, seed: int) -> Estimate:
        """Returns the validation score of a query, or for ``final`` fidelities trains and keeps the weights."""
        fidelity = query.fidelity or self.default
        recipe = recipe_of(fidelity, self.factory.recipes)
        if fidelity.startswith("final"):
            return self._final(query.arch, fidelity, recipe, seed)
        self.estimator.recipes[fidelity] = recipe
        self.estimator.curves = fidelity.startswith("reevaluate")
        self.estimator.by_likelihood = self.factory.rank_by == "likelihood"
        return self.estimator.judge(Query(query.arch, fidelity, query.group), seed)

    def _final(self, arch: Arch, fidelity: str, recipe: Recipe, seed: int) -> Estimate:
        """Trains a final network on train and validation images; its test score is read later, once, elsewhere."""
        from archduel.core.storage import save_state
        from archduel.spaces.family import count
        from archduel.spaces.layers import set_drop_path
        from archduel.training.loop import train

        factory = self.factory
        path = final_weights(factory.folder, arch, fidelity, seed)
        model = self.estimator.network(arch, recipe, seed)
        checkpoint = path.with_name(f"{path.stem}.training.safetensors")
        trained = train(
            model, factory.both, recipe, seed=seed, device=factory.device, checkpoint=checkpoint, drop_path=set_drop_path
        )
        counts = count(arch, self.estimator.scale(recipe))
        values = {**counts._asdict(), "epochs": recipe.epochs, "history": trained.history}
        cost = Cost(trained.seconds, trained.images)
        if trained.reason:
            return Estimate(float("nan"), cost, values, trained.reason)
        save_state(path, {"weights": dict(model.state_dict())})
        checkpoint.unlink(missing_ok=True)
        return Estimate(0.0, cost, values)  # no score: validation images were trained on, test is not read here

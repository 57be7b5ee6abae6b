"""What a worker process does with a query: load the cached images, build the network, train it, say how good it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Cost, Estimate, Query, Scale
from archduel.data import Dataset
from archduel.training.recipe import Recipe

if TYPE_CHECKING:
    from archduel.training.pixels import Pixels

__all__ = ["JudgeFactory", "final_weights", "joined", "recipe_of", "scale_of"]


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
        from archduel.core.checkpoint import save_state
        from archduel.nets import count
        from archduel.nets.ops import set_drop_path
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

"""Judging an architecture by training it with a recipe and scoring it on validation images."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from archduel.core import Arch, Cost, Counts, Estimate, Query, Scale, State, evaluation_seed
from archduel.errors import SettingError, of_the_machine, short_of_memory, unknown
from archduel.fusing.judging import judged_together, planned
from archduel.spaces import family as nets
from archduel.spaces.layers import set_drop_path
from archduel.training.images import Pixels
from archduel.training.loop import Trained, train
from archduel.training.metrics import METRICS, Evaluation, evaluate
from archduel.training.recipe import Recipe
from archduel.training.runtime import seeded_build

__all__ = ["TrainingEstimator", "check_fused"]


def check_fused(fused: int | str) -> None:
    """Raises SettingError for what does not say how many networks are trained at once."""
    if fused not in ("auto", "off") and not (isinstance(fused, int) and fused >= 1):
        raise SettingError(f"fused must be 'auto', 'off' or a number of networks from 1, got {fused!r}")


class TrainingEstimator:
    """Trains each architecture from scratch; the score is a metric of the validation images.

    Args:
        train: training images.
        validation: images that scores are read from; a test split has no place here.
        recipes: how to train, by the name a query gives as its fidelity; may grow later.
        n_classes: outputs of the networks.
        run_seed: seed of the run: with the number of an evaluation it gives initialisation, batch order and augmentation,
            and alone it gives the images of a recipe with ``data_fraction``.
        metric: ``accuracy``, ``balanced_accuracy`` or ``macro_f1``.
        device: where networks are trained.
        threads: of torch on a CPU.
        default: the recipe of queries without a fidelity.
        curves: also validates after every epoch.
        checkpoints: folder for unfinished trainings, which then continue after a kill; None = they start again.
        also: further images by the name of their split, whose accuracy stands among an estimate's values: for tables, which hold more than
            a search may see.
        fused: how many of the queries that :meth:`estimate` is given are trained at once (see ``docs/fused.md``): a number,
            ``auto`` = measured for each recipe when it is first needed, ``off`` = one by one. A group is a run of queries of
            one recipe in ask order; each ends as it would alone, but for rounding.

    Raises:
        UnknownNameError: for a metric or default recipe that does not exist.
        SettingError: for a value of ``fused`` that is none of these, and for training and validation images of different channels.
    """

    def __init__(
        self,
        train: Pixels,
        validation: Pixels,
        recipes: Mapping[str, Recipe],
        *,
        n_classes: int,
        run_seed: int,
        metric: str = "accuracy",
        device: str | torch.device = "cpu",
        threads: int = 1,
        default: str = "cheap",
        curves: bool = False,
        checkpoints: Path | None = None,
        also: Mapping[str, Pixels] | None = None,
        fused: int | str = "off",
    ) -> None:
        check_fused(fused)
        if metric not in METRICS:
            raise unknown("metric", metric, METRICS)
        if default not in recipes:
            raise unknown("recipe", default, recipes)
        if train.in_channels != validation.in_channels:
            raise SettingError(
                f"training images have {train.in_channels} channels, validation images {validation.in_channels}"
            )
        self.train, self.validation, self.recipes = train, validation, dict(recipes)
        self.n_classes, self.run_seed, self.device = n_classes, run_seed, torch.device(device)
        self.threads, self.default, self.curves, self.checkpoints = threads, default, curves, checkpoints
        self.also, self.fused = dict(also or {}), fused
        self._groups: dict[str, int] = {}  # recipe -> networks at once, once measured
        self._metric = metric
        self.built_with: Mapping[str, Mapping[str, Any]] = {}  # space -> options of its networks, such as {"pool_norm": True}
        self.shallow = False  # whether networks may lack a part of every architecture, as those of older runs did
        self.by_likelihood = False  # scores by the likelihood of the right classes instead of by the metric
        self._ordinal = 0

    @property
    def metric(self) -> str:
        """``validation_`` and the metric."""
        return f"validation_{self._metric}"

    def recipe(self, query: Query) -> Recipe:
        """Returns how ``query`` is trained.

        Raises:
            UnknownNameError: for a fidelity that is no recipe.
        """
        name = query.fidelity or self.default
        if name not in self.recipes:
            raise unknown("recipe", name, self.recipes)
        return self.recipes[name].with_(**nets.recipe_changes(query.arch))

    def scale(self, recipe: Recipe) -> Scale:
        """Returns the size at which ``recipe`` builds networks for these images."""
        return Scale(recipe.channels, recipe.depth, recipe.image_size, self.train.in_channels, self.n_classes)

    def network(self, arch: Arch, recipe: Recipe, seed: int) -> nn.Module:
        """Returns the untrained network of ``arch``; equal seeds give equal weights."""
        options = self.built_with.get(arch.space, {})
        build = partial(nets.build, arch, self.scale(recipe), auxiliary=recipe.auxiliary_weight > 0, shallow=self.shallow, **options)
        return seeded_build(build, seed)

    def counts(self, arch: Arch, recipe: Recipe) -> Counts:
        """Returns parameters and multiply-adds of :meth:`network`, without its auxiliary head."""
        return nets.count(arch, self.scale(recipe), **self.built_with.get(arch.space, {}))

    def judge(self, query: Query, seed: int) -> Estimate:
        """Returns the estimate of one query; whatever goes wrong with its network becomes the reason of a failure.

        Raises:
            Exception: of the machine (a full disk, too little memory), which is no answer about the network.
            UnknownNameError: for a fidelity that is no recipe.
        """
        recipe = self.recipe(query)
        began = time.perf_counter()
        trained = Trained()
        try:
            with self.own_threads():
                values: dict[str, Any] = self.counts(query.arch, recipe)._asdict()
                trained, scores = self._train(query, recipe, seed)
        except Exception as error:
            too_large = isinstance(error, torch.OutOfMemoryError)  # for a GPU: an answer about the network, unless others use it too
            if of_the_machine(error) and not too_large:
                raise
            kind = "out of memory" if too_large else type(error).__name__
            return Estimate(math.nan, Cost(time.perf_counter() - began), {}, f"{kind}: {error}")
        seconds = max(time.perf_counter() - began, trained.seconds)  # an interrupted training counts as a whole
        return self.estimate_of(trained, scores, values, seconds, recipe)

    def splits(self, recipe: Recipe) -> list[Pixels]:
        """Returns the images that a trained network is scored on, at the recipe's size: the validation images first."""
        return [images.resized(recipe.image_size) for images in (self.validation, *self.also.values())]

    def estimate_of(
        self, trained: Trained, scores: Sequence[Evaluation], values: dict[str, Any], seconds: float, recipe: Recipe
    ) -> Estimate:
        """Returns what a training came to as an estimate; ``values`` gets what was measured.

        Args:
            trained: how it went.
            scores: what the network says about each of :meth:`splits`; empty if the training failed.
            values: of the estimate so far.
            seconds: what all of it took.
            recipe: how it was trained.
        """
        values |= {"epochs": recipe.epochs, "history": trained.history}
        if trained.history:
            values["train_loss"] = trained.history[-1]["train_loss"]
        if not scores:
            return Estimate(math.nan, Cost(seconds, trained.images), values, trained.reason)
        scored = scores[0]
        metric = scored.score(self._metric)
        values |= {split: other.accuracy for split, other in zip(self.also, scores[1:])}
        values |= {"val_loss": scored.loss, "val_accuracy": scored.accuracy, "val_metric": metric}
        score = scored.likelihood(balanced=self._metric != "accuracy") if self.by_likelihood else metric
        return Estimate(score, Cost(seconds, trained.images), values)

    def _train(self, query: Query, recipe: Recipe, seed: int) -> tuple[Trained, list[Evaluation]]:
        """Returns the training and, if it ended well, what the network says about the images that it is scored on."""
        splits = self.splits(recipe)
        pixels = self.train.resized(recipe.image_size).fraction(recipe.data_fraction, self.run_seed)
        model = self.network(query.arch, recipe, seed)
        path = self._checkpoint(query, seed)
        trained = train(
            model,
            pixels,
            recipe.with_(data_fraction=1.0),  # taken above, with the run's seed
            seed=seed,
            device=self.device,
            validation=splits[0] if self.curves else None,
            checkpoint=path,
            drop_path=set_drop_path,
        )
        scores = [] if trained.reason else [evaluate(model, images, device=self.device) for images in splits]
        if path is not None:
            path.unlink(missing_ok=True)
        return trained, scores

    def _checkpoint(self, query: Query, seed: int) -> Path | None:
        if self.checkpoints is None:
            return None
        digest = hashlib.sha256(f"{query.arch}/{query.fidelity}/{seed}".encode()).hexdigest()[:16]
        return self.checkpoints / f"training-{digest}.safetensors"

    def estimate(self, queries: Sequence[Query]) -> list[Estimate]:
        """Returns one estimate a query; evaluations are numbered in the order in which they are asked for. A group that does not fit into memory is halved."""
        estimates: list[Estimate] = []
        while len(estimates) < len(queries):
            first = queries[len(estimates)]
            same = list(takewhile(lambda q: self.recipe(q) == self.recipe(first), queries[len(estimates) :]))  # noqa: B023
            group = same[: self.at_once(same)]
            seeds = [evaluation_seed(self.run_seed, self._ordinal + place) for place in range(len(group))]
            try:
                estimates += self.judge_together(group, seeds)
            except Exception as error:
                if len(group) == 1 or not short_of_memory(error):
                    raise
                self._groups[group[0].fidelity or self.default] = max(1, min(len(group), self.at_once(same)) // 2)
                continue
            self._ordinal += len(group)
        return estimates

    def at_once(self, waiting: Sequence[Query]) -> int:
        """Returns how many of the ``waiting`` queries of one recipe are trained at once; measures it if that is asked for."""
        if len(waiting) == 1 or self.fused == "off":
            return 1
        name = waiting[0].fidelity or self.default
        if isinstance(self.fused, int):
            return self._groups.get(name, self.fused)  # fewer once so many did not fit into memory
        if name not in self._groups:
            with self.own_threads():
                self._groups[name] = planned(self, waiting, len(waiting)).k
        return self._groups[name]

    def judge_together(self, queries: Sequence[Query], seeds: Sequence[int]) -> list[Estimate]:
        """Returns the estimates of queries of one recipe, trained at once; one by one where that cannot be.

        Raises:
            Exception: of too little memory for so many at once (:func:`archduel.errors.short_of_memory`), or of the machine as :meth:`judge`.
        """
        if len(queries) > 1:
            with self.own_threads():
                estimates = judged_together(self, queries, seeds)
            if estimates is not None:
                return estimates
        return [self.judge(query, seed) for query, seed in zip(queries, seeds)]

    @contextmanager
    def own_threads(self) -> Iterator[None]:
        """Lets torch compute with this estimator's number of threads for a while."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def state_dict(self) -> State:
        """Returns the number of the next evaluation, and how many are trained at once under each recipe."""
        return {"ordinal": self._ordinal, "groups": dict(self._groups)}

    def load_state_dict(self, state: State) -> None:
        """Continues the numbering, with groups as they were."""
        self._ordinal = int(state["ordinal"])
        self._groups = dict(state.get("groups", {}))

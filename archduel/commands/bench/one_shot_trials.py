"""Supernets trained one after the other and scored on the way; a stopped one goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from archduel import registry
from archduel.commands.bench.trials import Kept, Trials
from archduel.core import Arch, Estimate, Query, Scale, Space, fair_sample, sample
from archduel.core.storage import if_whole, load_state, save_state
from archduel.data import Dataset, load
from archduel.errors import RunError, SettingError, unknown
from archduel.estimators.shared import SharedWeights
from archduel.recipes import base_recipe, changed
from archduel.spaces import family as nets
from archduel.spaces.family import options_of, supernet
from archduel.tables.store import open_table
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe
from archduel.training.runtime import keep_freed_memory

__all__ = ["SAMPLING", "OneShot", "OneShotProtocol", "OneShotTrial", "Paths", "Variant", "operations_in_order", "run_variants"]

# -- What is compared when shared weights are compared: how paths are sampled, for how long, in which order operations come 


SAMPLING = ("uniform", "fair", "strict")
"""One uniform path a batch; one path a batch, each operation of an edge once per round; a whole round in each step."""


@dataclass(frozen=True)
class Variant:
    """One way to train a supernet.

    Attributes:
        sampling: one of ``SAMPLING``.
        curriculum: share of the training in which operations are still added, one at a time; 0 = all from the start.
        seed: of weights, batches and paths.
    """

    sampling: str
    curriculum: float
    seed: int

    @property
    def title(self) -> str:
        """What it is called."""
        return self.sampling + (f", curriculum {self.curriculum:g}" if self.curriculum else "")


@dataclass(frozen=True)
class OneShotProtocol:
    """What is measured.

    Attributes:
        table: name or file of the table that knows the truth.
        data: where the images come from, in words.
        cells: architectures of different function that are scored.
        passes: lengths: passes over the training images, each path's images counted; scored on the way to the last.
        sampling: variants of ``SAMPLING``.
        curriculum: variants of the share of the training in which operations are added.
        recalibration: variants of the number of batches that measure batch-norm statistics before a score; 0 = none.
        tune: variants of the number of batches that each cell learns on its own, from the shared weights, before its score.
        seeds: trainings of each variant.
        seed: which cells, and the split and sample of the images.
        first: seed of the first training; the others count on.
        score_share: share of the validation images that scores read.
        recipe: settings of the recipe that differ from the default.
        supernet: options of the supernet.
        load: settings of loading the images.

    Raises:
        SettingError: for values out of range.
    """

    table: str
    data: str
    cells: int = 100
    passes: tuple[float, ...] = (10.0,)
    sampling: tuple[str, ...] = ("fair",)
    curriculum: tuple[float, ...] = (0.0,)
    recalibration: tuple[int, ...] = (8,)
    tune: tuple[int, ...] = (0,)
    seeds: int = 1
    seed: int = 0
    first: int = 0
    score_share: float = 1.0
    recipe: Mapping[str, Any] = field(default_factory=dict)
    supernet: Mapping[str, Any] = field(default_factory=dict)
    load: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for way in self.sampling:
            if way not in SAMPLING:
                raise unknown("sampling", way, SAMPLING)
        if self.cells < 5:
            raise SettingError(f"--cells {self.cells}: a rank correlation needs at least 5 cells")
        if self.seeds < 1 or not (self.sampling and self.curriculum and self.recalibration and self.tune):
            raise SettingError("there is nothing to train: give at least one sampling, curriculum, recalibration, tune and seed")
        if not self.passes or min(self.passes) <= 0 or list(self.passes) != sorted(set(self.passes)):
            raise SettingError(f"--passes must be ascending numbers above 0, got {list(self.passes)}")
        if not all(0 <= share < 1 for share in self.curriculum):
            raise SettingError(f"--curriculum must be shares in [0, 1), got {list(self.curriculum)}")
        for option, batches in (("recalibration", self.recalibration), ("tune", self.tune)):
            if min(batches) < 0:
                raise SettingError(f"--{option} must be numbers of batches from 0, got {list(batches)}")

    def variants(self) -> list[Variant]:
        """Returns the trainings."""
        return [
            Variant(sampling, curriculum, self.first + run)
            for run in range(self.seeds)
            for sampling in self.sampling
            for curriculum in self.curriculum
        ]


def operations_in_order(space: Space, scale: Scale, seed: int) -> tuple[int, ...]:
    """Returns the operations as a curriculum adds them: the one with most weights first, the others shuffled.

    Raises:
        SettingError: for a space without decisions of the kind ``op``.
    """
    if "op" not in space.kinds:
        raise SettingError(f"a curriculum adds operations; the decisions of {space.name} are {', '.join(space.kinds)}")

    def params(op: int) -> int:
        """Returns the weights of the architecture that has ``op`` wherever it may."""
        choices: tuple[int, ...] = ()
        while (decision := space.decision(choices)) is not None:
            wanted = decision.kind == "op" and op in decision.options
            choices += (op if wanted else decision.options[0],)
        return nets.count(Arch(space.name, choices), scale).params

    ops = list(range(space.kinds["op"]))
    first = max(ops, key=params)
    rest = [op for op in ops if op != first]
    order = np.random.default_rng([seed, 17]).permutation(len(rest))
    return (first, *(rest[i] for i in order))


class Paths:
    """The architectures of each batch, a function of the number of the batch alone.

    Args:
        space: what to sample from.
        variant: how.
        batches: batches of the whole training.
        order: operations as a curriculum adds them; unused without one.
    """

    def __init__(self, space: Space, variant: Variant, batches: int, order: Sequence[int]) -> None:
        self.space, self.variant, self.batches, self.order = space, variant, batches, order
        self.round = max(space.kinds.values())
        self._drawn: tuple[int, list[Arch]] = (-1, [])

    @property
    def per_batch(self) -> int:
        """Paths in one step."""
        return self.round if self.variant.sampling == "strict" else 1

    def __getitem__(self, batch: int) -> list[Arch]:
        """Returns the paths of a batch."""
        rng: Callable[[int], np.random.Generator] = lambda n: np.random.default_rng([self.variant.seed, n])  # noqa: E731
        allowed = self.allowed(batch)
        if self.variant.sampling == "strict":
            return fair_sample(self.space, self.round, rng(batch), allowed=allowed)
        if self.variant.sampling == "uniform" and not allowed:
            return [sample(self.space, rng(batch))]
        if self.variant.sampling == "uniform":
            return fair_sample(self.space, 1, rng(batch), allowed=allowed)
        number = batch // self.round
        if self._drawn[0] != number:
            self._drawn = number, fair_sample(self.space, self.round, rng(number), allowed=allowed)
        return [self._drawn[1][batch % self.round]]

    def allowed(self, batch: int) -> dict[str, Sequence[int]]:
        """Returns the operations that a curriculum allows at a batch (fair rounds are not divided); empty = all."""
        if not self.variant.curriculum:
            return {}
        start = batch - batch % self.round if self.variant.sampling == "fair" else batch
        stage = int(start / (self.variant.curriculum * self.batches) * (len(self.order) - 1))
        return {"op": self.order[: stage + 1]} if stage + 1 < len(self.order) else {}


SAVE_SECONDS = 30.0
TUNE_LR = 0.2  # of the recipe's learning rate, constant, where a cell learns on its own
PORTION = 20  # batches learned between two looks at the clock


@dataclass(frozen=True)
class OneShotTrial:
    """The scores of one supernet after some passes.

    Attributes:
        sampling: of the variant.
        curriculum: of the variant.
        seed: of the variant.
        passes: passes over the training images so far.
        recalibration: batches that measured batch-norm statistics before each score.
        scores: accuracy on the validation images of each cell.
        train_seconds: time spent on training so far.
        score_seconds: time spent on these scores.
        images: images trained on so far.
        losses: mean cross entropy on the validation images of each cell; it is less noisy than accuracy.
        tune: batches that each cell learned on its own before its score.
    """

    sampling: str
    curriculum: float
    seed: int
    passes: float
    recalibration: int
    scores: list[float]
    train_seconds: float
    score_seconds: float
    images: int
    losses: list[float] = field(default_factory=list)
    tune: int = 0

    @property
    def key(self) -> tuple[str, float, int, float, int, int]:
        """The variant and when and how it was scored."""
        return self.sampling, self.curriculum, self.seed, self.passes, self.recalibration, self.tune


class OneShot:
    """The images, the cells and the truth of a comparison.

    Args:
        protocol: what is measured.
        data: what :func:`archduel.data.load` takes.
        device: where supernets are trained.

    Raises:
        UnknownNameError: for a table that there is not, a space without a supernet, or an option that its supernet does not have.
        SettingError: for more cells than the table has.
    """

    def __init__(self, protocol: OneShotProtocol, data: Any, device: str = "cpu") -> None:
        self.protocol, self.data, self.device = protocol, data, device
        self.table = open_table(protocol.table)
        self.space: Space = registry.make("space", self.table.space_name, **self.table.space_settings)
        options_of(self.space.name)  # which raises where there is no supernet
        if wrong := sorted(set(protocol.supernet) - set(known := options_of(self.space.name))):
            raise unknown(f"option of the supernet of {self.space.name}", wrong[0], known)
        self.archs, self.truth = self._cells()

    def _cells(self) -> tuple[list[Arch], NDArray[np.float64]]:
        """Returns cells of different function, and their mean test accuracy, which nothing but the comparison reads."""
        classes = self.table.classes
        order = np.random.default_rng(self.protocol.seed).permutation(len(self.table))
        _, first = np.unique(classes[order], return_index=True)
        rows = order[np.sort(first)][: self.protocol.cells]
        if len(rows) < self.protocol.cells:
            raise SettingError(f"table {self.table.name!r} has {len(rows)} different cells, {self.protocol.cells} were asked for")
        return [self.table.arch(int(row)) for row in rows], self.table.test(rows)

    @cached_property
    def dataset(self) -> Dataset:
        """The images."""
        return load(self.data, seed=self.protocol.seed, **self.protocol.load)

    @cached_property
    def recipe(self) -> Recipe:
        """How supernets are trained; the number of epochs is each variant's own."""
        data = self.dataset
        plain = base_recipe(len(data.train), data.image_size, data.flip, self.space.name).with_(label_smoothing=0.0)
        return changed(plain, self.protocol.recipe)

    @property
    def scale(self) -> Scale:
        """The size of the networks."""
        size, recipe = self.dataset, self.recipe
        channels = int(size.train.images.shape[1])
        return Scale(recipe.channels, recipe.depth, recipe.image_size, channels, size.n_classes)

    def shared(self, variant: Variant, paths: int) -> SharedWeights:
        """Returns untrained shared weights whose schedule ends with the longest training."""
        keep_freed_memory()
        generator = torch.Generator().manual_seed(variant.seed)
        network = supernet(self.space.name, self.scale, generator=generator, **self.protocol.supernet)
        means = self.dataset.preprocessing.mean, self.dataset.preprocessing.std
        train, validation = (
            Pixels(split.images, split.labels, *means, self.device) for split in (self.dataset.train, self.dataset.validation)
        )
        return SharedWeights(
            network,
            train,
            validation,
            self.recipe.with_(epochs=self.protocol.passes[-1] / paths),
            n_classes=self.dataset.n_classes,
            seed=variant.seed,
            device=self.device,
            score_share=self.protocol.score_share,
        )


class Training:
    """One supernet on its way, with its state on disk."""

    def __init__(self, one_shot: OneShot, variant: Variant, path: Path | None) -> None:
        self.one_shot, self.variant, self.path = one_shot, variant, path
        curriculum = bool(variant.curriculum)
        order = operations_in_order(one_shot.space, one_shot.scale, variant.seed) if curriculum else ()
        self.paths = Paths(one_shot.space, variant, 0, order)
        self.shared = one_shot.shared(variant, self.paths.per_batch)
        self.per_pass = self.shared.n_batches("train") / self.paths.per_batch
        self.paths.batches = round(one_shot.protocol.passes[-1] * self.per_pass)
        self.batch, self.seconds, self.images = 0, 0.0, 0
        self._saved = time.perf_counter()
        state = None if path is None else if_whole(path, load_state)
        if state is not None:
            self.shared.load_state_dict(state["shared"])
            self.batch, self.seconds, self.images = state["batch"], state["seconds"], state["images"]

    def advance(self, to: int, on_batch: Callable[[int, int], None] | None) -> None:
        """Trains up to batch number ``to``; the state is written from time to time and at the end."""
        while self.batch < to:
            several = [self.paths[b] for b in range(self.batch, min(to, self.batch + PORTION))]
            cost = self.shared.learn(several, len(several))
            self.batch += len(several)
            self.seconds, self.images = self.seconds + cost.seconds, self.images + cost.images
            if on_batch:
                on_batch(self.batch, self.paths.batches)
            if self.batch >= to or time.perf_counter() - self._saved > SAVE_SECONDS:
                self.save()

    def save(self) -> None:
        """Writes the state."""
        self._saved = time.perf_counter()
        if self.path is not None:
            counts = {"batch": self.batch, "seconds": self.seconds, "images": self.images}
            save_state(self.path, {"shared": self.shared.state_dict(), **counts})

    def trial(self, passes: float, recalibration: int, tune: int) -> OneShotTrial:
        """Scores all cells.

        Raises:
            RunError: if one of them has no score.
        """
        began = time.perf_counter()
        self.shared.recalibration = recalibration
        archs = self.one_shot.archs
        estimates = self._tuned(tune) if tune else self.shared.estimate([Query(arch) for arch in archs])
        if failed := next((e for e in estimates if e.failed), None):
            raise RunError(f"a cell could not be scored after {passes:g} passes: {failed.reason}")
        how = self.variant.sampling, self.variant.curriculum, self.variant.seed, passes, recalibration
        seconds = time.perf_counter() - began
        scores, losses = [e.score for e in estimates], [float(e.values["val_loss"]) for e in estimates]
        return OneShotTrial(*how, scores, self.seconds, seconds, self.images, losses, tune)

    def _tuned(self, batches: int) -> list[Estimate]:
        """Returns the scores of all cells, each after a few batches of its own; the shared weights are then what they were."""
        found, archs, kept = list[Estimate](), self.one_shot.archs, self.shared.state_dict()
        for i in range(0, len(archs), 2):
            pair = archs[i : i + 2]
            found += self.shared.compete(pair[0], pair[-1], batches, lr=TUNE_LR * self.one_shot.recipe.lr)[: len(pair)]
            self.shared.load_state_dict(kept)
        return found


def run_variants(
    one_shot: OneShot, kept: Kept, on_batch: Callable[[str], None] | None = None
) -> list[OneShotTrial]:
    """Returns the trials of all variants, lengths and recalibrations.

    Args:
        one_shot: images, cells, truth.
        kept: file of finished trials; the states of unfinished trainings lie beside it.
        on_batch: called now and then with a line that says how far it is.
    """
    path = kept.path
    with Trials(kept, OneShotTrial, one_shot.protocol, fsync=True) as trials:  # states on disk must not be ahead of it
        for variant in one_shot.protocol.variants():
            left = [
                (passes, recalibration, tune)
                for passes in one_shot.protocol.passes
                for recalibration in one_shot.protocol.recalibration
                for tune in one_shot.protocol.tune
                if (variant.sampling, variant.curriculum, variant.seed, passes, recalibration, tune) not in trials.done
            ]
            if left:
                state = None if path is None else path.with_suffix(f".{variant.sampling}-{variant.curriculum:g}-{variant.seed}.state")
                _run_variant(Training(one_shot, variant, state), left, trials, on_batch)
        return list(trials.done.values())


def _run_variant(
    training: Training, left: Sequence[tuple[float, int, int]], trials: Trials[OneShotTrial], on_batch: Callable[[str], None] | None
) -> None:
    """Trains one supernet and adds the trials that are left of it."""

    def show(batch: int, batches: int) -> None:
        """Says how far the training is."""
        if on_batch:
            on_batch(f"{training.variant.title}: batch {batch} of {batches}")

    if training.path is not None and training.batch > round(left[0][0] * training.per_pass):
        training.path.unlink()  # its trial is not in the file any more; the weights are beyond it
        training = Training(training.one_shot, training.variant, training.path)
    for passes, recalibration, tune in left:
        training.advance(round(passes * training.per_pass), show)
        trials.add(training.trial(passes, recalibration, tune))
    if training.path is not None:
        training.path.unlink(missing_ok=True)

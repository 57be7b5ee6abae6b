"""What trains a query and scores it, in this process or in workers: the one judge of searches, tables and proxies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from archduel.core import Arch, Cost, Estimate, Query, Scale
from archduel.core.job import Job
from archduel.errors import unknown
from archduel.estimators.training import TrainingEstimator, check_fused
from archduel.spaces.family import PlugIns
from archduel.training.images import Pixels
from archduel.training.recipe import Recipe, text_recipe

if TYPE_CHECKING:
    from archduel.fusing.judging import FusedPlan

__all__ = ["HALVED", "Finals", "Groups", "Inputs", "Judge", "Judging", "final_weights", "recipe_of", "scale_of"]


HALVED = "group halved"
"""Event of a journal: so many networks trained at once took more memory than there was."""


class Inputs(Protocol):
    """What is asked of a data set to know which networks are for it."""

    @property
    def in_channels(self) -> int:
        """1 for grey, 3 for colour."""

    @property
    def n_classes(self) -> int:
        """Number of classes."""


def recipe_of(fidelity: str, recipes: Mapping[str, Recipe]) -> Recipe:
    """Returns the recipe that a fidelity means: ``name``, ``name@epochs``, or a recipe's text.

    Raises:
        UnknownNameError: for another name.
        SettingError: for a text that is no recipe.
    """
    if fidelity.startswith("{"):
        return text_recipe(fidelity)
    name, _, epochs = fidelity.partition("@")
    if name not in recipes:
        raise unknown("recipe", name, recipes)
    return recipes[name].with_(epochs=float(epochs)) if epochs else recipes[name]


def scale_of(recipe: Recipe, dataset: Inputs) -> Scale:
    """Returns the scale at which a recipe builds networks for ``dataset``."""
    return Scale(recipe.channels, recipe.depth, recipe.image_size, dataset.in_channels, dataset.n_classes)


def final_weights(folder: Path, arch: Arch, fidelity: str, seed: int) -> Path:
    """Returns where the weights of a final training are kept."""
    digest = hashlib.sha256(f"{arch}/{fidelity}/{seed}".encode()).hexdigest()[:12]
    return folder / "checkpoints" / f"final-{digest}.safetensors"


@dataclass(frozen=True)
class Finals:
    """Trainings whose weights are wanted, not a score.

    Attributes:
        name: of their recipe.
        images: what is trained on, validation images included.
        folder: where weights go (:func:`final_weights`).
    """

    name: str
    images: Pixels
    folder: Path


@dataclass(frozen=True)
class Judge:
    """Makes, in a worker, the function that trains queries and scores them. Memory-mapped images travel as a file name.

    A query's fidelity says how it is trained: the name of a recipe, ``name@epochs``, or a recipe's text
    (:func:`~archduel.training.recipe.recipe_text`).

    Attributes:
        train: training images.
        scored: split -> images that are scored. The first one's score is the estimate's; the accuracies of the others stand among its
            values by the split's name, for tables. A search gives its validation images and no others.
        recipes: by name; the first is that of queries without a fidelity.
        n_classes: outputs of the networks.
        run_seed: seed of the run.
        metric: what a score is.
        device: where networks are trained.
        threads: CPU threads of one training.
        checkpoints: folder for unfinished trainings; None = they start again.
        by_likelihood: scores by the likelihood of the right classes instead of by ``metric``.
        curves: names of recipes whose trainings are scored after every epoch too.
        finals: trainings whose weights are kept, on images of their own; None = there are none.
        built_with: space -> options of its networks, such as ``{"pool_norm": True}``.
        shallow: whether networks may be of a depth at which a part of every architecture has no place: for runs that began with such.
        plug_ins: spaces from outside, which a worker must know too.
    """

    train: Pixels
    scored: Mapping[str, Pixels]
    recipes: Mapping[str, Recipe]
    n_classes: int
    run_seed: int
    metric: str = "accuracy"
    device: str = "cpu"
    threads: int = 1
    checkpoints: Path | None = None
    by_likelihood: bool = False
    curves: tuple[str, ...] = ()
    finals: Finals | None = None
    built_with: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    shallow: bool = False
    plug_ins: PlugIns = field(default_factory=PlugIns)

    def __call__(self) -> Judging:
        """Returns ``judge(query, seed)``, which also judges groups."""
        return Judging(self)

    @property
    def default(self) -> str:
        """The fidelity of queries that name none."""
        return next(iter(self.recipes), "{}")

    def plan(self, archs: Sequence[Arch], fidelity: str, most: int, sharing: int = 1) -> FusedPlan:
        """Returns how many networks like those of ``archs`` are best trained at once, as measured here in a few seconds.

        Args:
            archs: some that will be asked for.
            fidelity: how they are trained.
            most: how many there are for each worker; larger groups are not tried.
            sharing: workers on each device.
        """
        from archduel.fusing.judging import planned

        judging = Judging(self)
        judging.prepare(fidelity)
        with judging.estimator.own_threads():
            return planned(judging.estimator, [Query(arch, fidelity) for arch in archs], most, sharing)


class Judging:
    """Trains and scores networks on one data set, one by one or as a group.

    Args:
        made_by: says on what and how.
    """

    def __init__(self, made_by: Judge) -> None:
        self.settings = made_by
        first, *others = made_by.scored
        self.estimator = TrainingEstimator(
            made_by.train,
            made_by.scored[first],
            {made_by.default: recipe_of(made_by.default, made_by.recipes)},
            n_classes=made_by.n_classes,
            run_seed=made_by.run_seed,
            metric=made_by.metric,
            device=made_by.device,
            threads=made_by.threads,
            default=made_by.default,
            checkpoints=made_by.checkpoints,
            also={split: made_by.scored[split] for split in others},
        )
        self.estimator.by_likelihood = made_by.by_likelihood
        self.estimator.built_with, self.estimator.shallow = made_by.built_with, made_by.shallow

    def prepare(self, fidelity: str | None) -> str:
        """Returns the fidelity's name, whose recipe the estimator now has.

        Raises:
            UnknownNameError: for a name that no recipe has.
            SettingError: for a text that is no recipe.
        """
        name = fidelity or self.settings.default
        self.estimator.recipes[name] = recipe_of(name, self.settings.recipes)
        self.estimator.curves = name.partition("@")[0] in self.settings.curves
        return name

    def __call__(self, query: Query, seed: int) -> Estimate:
        """Returns the score of a query, or for a final training keeps the weights."""
        fidelity = self.prepare(query.fidelity)
        finals = self.settings.finals
        if finals is not None and fidelity.partition("@")[0] == finals.name:
            return self._final(finals, query.arch, fidelity, seed)
        return self.estimator.judge(Query(query.arch, fidelity, query.group), seed)

    def together(self, queries: Sequence[Query], seeds: Sequence[int]) -> list[Estimate]:
        """Returns the estimates of queries of one fidelity, trained at once; one by one where that cannot be.

        Raises:
            Exception: of too little memory for so many at once (:func:`archduel.errors.short_of_memory`), or of the machine.
        """
        fidelity = self.prepare(queries[0].fidelity)
        return self.estimator.judge_together([Query(query.arch, fidelity, query.group) for query in queries], seeds)

    def _final(self, finals: Finals, arch: Arch, fidelity: str, seed: int) -> Estimate:
        """Trains a final network and writes its weights; its test score is read later, once, elsewhere."""
        from archduel.core.storage import save_state
        from archduel.spaces.layers import set_drop_path
        from archduel.training.loop import train

        path = final_weights(finals.folder, arch, fidelity, seed)
        recipe = self.estimator.recipe(Query(arch, fidelity))
        model = self.estimator.network(arch, recipe, seed)
        checkpoint = path.with_name(f"{path.stem}.training.safetensors")
        trained = train(
            model, finals.images, recipe, seed=seed, device=self.settings.device, checkpoint=checkpoint, drop_path=set_drop_path
        )
        values = {**self.estimator.counts(arch, recipe)._asdict(), "epochs": recipe.epochs, "history": trained.history}
        cost = Cost(trained.seconds, trained.images)
        if trained.reason:
            return Estimate(float("nan"), cost, values, trained.reason)
        save_state(path, {"weights": dict(model.state_dict())})
        checkpoint.unlink(missing_ok=True)
        return Estimate(0.0, cost, values)  # no score: validation images were trained on, test is not read here


@dataclass
class Groups:
    """How many waiting queries an executor has trained at once: a run of one fidelity in ask order, so that it depends on nothing else.

    Where all trainings of a run have one seed (a table), a group has one, since its batches are then made once.

    Attributes:
        fused: networks at once: a number, ``auto`` = measured with the first queries of each fidelity, or ``off``.
        judge: measures; needed for ``auto``.
        workers: processes that share the queries: no group is measured that would leave some without any.
        sharing: of these, those on one device, whose memory they share.
        fidelities: which may be grouped; None = all.
        sizes: fidelity -> networks at once, as measured so far.
        most: fidelity -> networks at once, where more did not fit into memory.
        noted: is told of each time that a group did not fit, see :meth:`remember`.

    Raises:
        SettingError: for another value of ``fused``.
    """

    fused: int | str
    judge: Judge
    workers: int = 1
    sharing: int = 1
    fidelities: tuple[str, ...] | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)
    noted: Callable[..., object] = lambda **values: None

    def __post_init__(self) -> None:
        check_fused(self.fused)

    def __call__(self, queries: Sequence[Query], seeds: Sequence[int]) -> int:
        """Returns the number of the first queries that are one group."""
        name = queries[0].fidelity or self.judge.default
        if self.fused == "off" or (self.fidelities is not None and name not in self.fidelities):
            return 1
        alike = list(takewhile(lambda query: query.fidelity == queries[0].fidelity, queries))
        n = len(alike)
        if n > 1 and seeds[1] == seeds[0]:
            n = len(list(takewhile(lambda seed: seed == seeds[0], seeds[:n])))
        return 1 if n == 1 else min(n, self.size(name, alike), self.most.get(name, n))

    def size(self, fidelity: str, waiting: Sequence[Query]) -> int:
        """Returns how many queries of a fidelity are trained at once, measured the first time if that is asked for."""
        if isinstance(self.fused, int):
            return self.fused
        if fidelity not in self.sizes:
            most = -(-len(waiting) // self.workers)
            self.sizes[fidelity] = self.judge.plan([query.arch for query in waiting], fidelity, most, self.sharing).k
        return self.sizes[fidelity]

    def shrink(self, queries: Sequence[Query], reason: str) -> None:
        """Halves the groups of a fidelity from now on; known already where these queries were handed out before the last time.

        Args:
            queries: that took more memory than there was, trained at once.
            reason: in words, for the record.
        """
        name = queries[0].fidelity or self.judge.default
        size = self.size(name, queries)
        present = min(size, self.most.get(name, size))
        if len(queries) <= present and present > 1:
            self.most[name] = max(1, present // 2)
            self.noted(event=HALVED, fidelity=name, was=present, at_once=self.most[name], reason=reason)

    def remember(self, job: Job, say: Callable[[str], None] = lambda text: None) -> None:
        """Takes what the journal of a job knows of groups that did not fit into memory, and writes down there what comes.

        Args:
            job: whose queries are grouped.
            say: is told too.
        """
        self.most |= {record["fidelity"]: int(record["at_once"]) for record in job.journal.records if record.get("event") == HALVED}

        def noted(**values: Any) -> None:
            job.note(**values)
            say(f"{values['was']} networks at once take more memory than there is: from now on {values['at_once']}")

        self.noted = noted

"""A sampler of Optuna that asks a strategy of ours: any objective over categorical and whole-number parameters can be searched with it."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from archduel import registry
from archduel.assemble import assemble, declaration
from archduel.core import Arch, Estimate, Query, Space, Strategy, decisions
from archduel.errors import InvalidArchError, SettingError
from archduel.spaces.own.making import space as table_space
from archduel.strategies.optuna_study import in_study

try:
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.samplers import BaseSampler, RandomSampler
    from optuna.search_space import intersection_search_space
    from optuna.study import StudyDirection
    from optuna.trial import TrialState
except ImportError as error:
    raise SettingError("archduel.optuna needs Optuna; install it with `pip install 'archduel[optuna]'`") from error

__all__ = ["Sampler", "suggest"]

SEED = "archduel:seed"
"""Attribute of a study in which the seed stands that it began with."""
MOST = 1_000
"""Options of a parameter at most: one with more, and one of any number, is drawn at random."""
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def suggest(trial: Any, space: Space) -> Arch:
    """Returns the architecture of ``space`` that a trial is about: a categorical parameter a decision.

    Args:
        trial: of a study, with any sampler.
        space: such as ``archduel.spaces.open_space("nasbench201")``.
    """
    path: tuple[int, ...] = ()
    while (decision := space.decision(path)) is not None:
        path = (*path, int(trial.suggest_categorical(in_study(decision), decision.options)))
    return Arch(space.name, path)


class Sampler(BaseSampler):  # type: ignore[misc]
    """Suggests what a strategy of ours asks, and tells it every finished trial of the study, also those of other samplers.

    A study that is loaded again goes on as if it had not been interrupted, as long as its trials ran one after another. Parameters that are neither
    categorical nor whole numbers nor in steps are drawn at random; so is the first trial where no ``space`` is given. Pruned and failed trials
    count as failed.

    Args:
        strategy: a name (`archduel list strategies`), or ``module:Class``.
        space: where to search: ``{parameter: options or a distribution of Optuna}``, or a space (or its name) whose
            architectures the objective gets from :func:`suggest`; None = the parameters of the first finished trials.
        seed: of the strategy; None = drawn once and kept in the study.
        settings: of the strategy, such as ``{"ranker": "gp"}``.

    Raises:
        SettingError: if Optuna is not installed, or for a strategy that works on shared weights.
        UnknownNameError: for a name that is not on a menu.
    """

    def __init__(
        self, strategy: str = "best", *, space: Mapping[str, Any] | Space | str | None = None, seed: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        if declaration(strategy).kind == "one-shot":
            raise SettingError(f"strategy {strategy!r} works on shared weights; a trial of Optuna is evaluated by itself")
        self.strategy, self.seed, self.settings = strategy, seed, dict(settings or {})
        self._lock = threading.Lock()
        self._parameters: _Parameters | None = None if space is None else _parameters_of(space)
        self._searching: Strategy | None = None
        self._asked: dict[int, Arch | None] = {}
        self._told: set[int] = set()
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, BaseDistribution]:
        """Returns the parameters of what the strategy asks next, as distributions."""
        with self._lock:
            arch = self._asked[trial.number] = self._next(study)
        return {} if arch is None else self._space.distributions(arch)

    def sample_relative(self, study: Any, trial: Any, search_space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
        """Returns what the strategy asked for this trial."""
        arch = self._asked[trial.number]
        return {} if arch is None else self._space.values(arch)

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: BaseDistribution) -> Any:
        """Returns a random value: of a parameter that is not of the space, or where the strategy asks for nothing."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    @property
    def _space(self) -> _Parameters:
        assert self._parameters is not None
        return self._parameters

    def _next(self, study: Any) -> Arch | None:
        """Returns what the strategy asks after all finished trials; None where it asks nothing, or there is no space yet."""
        if len(study.directions) > 1:
            raise SettingError(f"the study has {len(study.directions)} objectives; the strategies know one: archduel search --objective finds fronts")
        trials = study.get_trials(deepcopy=False, states=FINISHED)
        if self._parameters is None:
            self._parameters = _parameters_in(intersection_search_space(trials))
        if self._parameters is None:
            return None
        if self._searching is None:
            self._searching = assemble(self.strategy, self._parameters.space, seed=self._seed(study), settings=self.settings)
        for trial in trials:
            if trial.number not in self._told:
                self._tell(trial, worse=study.direction == StudyDirection.MINIMIZE)
        return _question(self._searching)

    def _seed(self, study: Any) -> int:
        known = study._storage.get_study_system_attrs(study._study_id).get(SEED) if self.seed is None else self.seed
        if known is None:
            known = int(np.random.default_rng().integers(2**31))
            study._storage.set_study_system_attr(study._study_id, SEED, known)
        return int(known)

    def _tell(self, trial: Any, *, worse: bool) -> None:
        """Tells the strategy a finished trial, of whoever; a question of ours stands for one that was not asked here."""
        assert self._searching is not None
        asked = self._asked.pop(trial.number, None) or _question(self._searching)
        self._told.add(trial.number)
        arch = self._space.arch(trial.params) or asked
        if arch is None:
            return
        done = trial.state == TrialState.COMPLETE and math.isfinite(trial.value)
        score = (-trial.value if worse else trial.value) if done else math.nan
        self._searching.tell([Query(arch)], [Estimate(score, reason="" if done else trial.state.name.lower())])


def _question(strategy: Strategy) -> Arch | None:
    """Returns what a strategy asks next, after the steps that it wants to make before; None where it asks nothing."""
    while not (queries := strategy.ask(1)):
        if strategy.step() is None:
            return None
    return queries[0].arch


# -- From architectures to parameters and back ----------------------------------------------------------------------------


class _Parameters:
    """A table of options as parameters of a study.

    Args:
        options: parameter -> its distribution and its values, in order.
    """

    def __init__(self, options: Mapping[str, tuple[BaseDistribution, Sequence[Any]]]) -> None:
        self.options = options
        # names and values as Optuna takes them may be anything; ours are words, and numbers where the order counts
        self.space: Space = table_space({f"p{i}": _plain(values) for i, (_, values) in enumerate(options.values())})

    def distributions(self, arch: Arch) -> dict[str, BaseDistribution]:
        """Returns what an architecture decides, as distributions."""
        return {name: distribution for name, (distribution, _) in self.options.items()}

    def values(self, arch: Arch) -> dict[str, Any]:
        """Returns what an architecture decides, as values of parameters."""
        return {name: values[choice] for choice, (name, (_, values)) in zip(arch.choices, self.options.items())}

    def arch(self, params: Mapping[str, Any]) -> Arch | None:
        """Returns the architecture of a trial's parameters; None where they are not of the space."""
        try:
            return Arch(self.space.name, tuple(values.index(params[name]) for name, (_, values) in self.options.items()))
        except (KeyError, ValueError):
            return None


class _Decisions(_Parameters):
    """A space of networks: a parameter a decision, see :func:`suggest`."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def distributions(self, arch: Arch) -> dict[str, BaseDistribution]:
        """Returns the decisions of an architecture."""
        return {in_study(decision): CategoricalDistribution(decision.options) for decision in decisions(self.space, arch.choices)}

    def values(self, arch: Arch) -> dict[str, Any]:
        """Returns the answers of an architecture."""
        return {in_study(decision): choice for decision, choice in zip(decisions(self.space, arch.choices), arch.choices)}

    def arch(self, params: Mapping[str, Any]) -> Arch | None:
        """Returns the architecture that a trial's parameters are."""
        path: tuple[int, ...] = ()
        while (decision := self.space.decision(path)) is not None:
            if in_study(decision) not in params:
                return None
            path = (*path, int(params[in_study(decision)]))
        found = Arch(self.space.name, path)
        try:
            self.space.validate(found)
        except InvalidArchError:
            return None
        return found


def _parameters_of(space: Mapping[str, Any] | Space | str) -> _Parameters:
    """Returns the parameters that a person names.

    Raises:
        SettingError: for a parameter without options that can be listed.
    """
    if isinstance(space, str):
        return _Decisions(registry.make("space", space))
    if not isinstance(space, Mapping):
        return _Decisions(space)
    named = {name: what if isinstance(what, BaseDistribution) else CategoricalDistribution(tuple(what)) for name, what in space.items()}
    for name, distribution in named.items():
        if _options(distribution) is None:
            raise SettingError(f"parameter {name!r}, {distribution}, has no options that can be listed (2 to {MOST:,}); leave it out, and it is drawn at random")
    found = _parameters_in(named)
    if found is None:
        raise SettingError("space names no parameter")
    return found


def _parameters_in(named: Mapping[str, BaseDistribution]) -> _Parameters | None:
    """Returns the parameters among these whose options can be listed, None where there are none."""
    listed = {name: (distribution, options) for name, distribution in named.items() if (options := _options(distribution)) is not None}
    return _Parameters(listed) if listed else None


def _options(distribution: BaseDistribution) -> list[Any] | None:
    """Returns the values of a distribution; None where they are not 2 to ``MOST``."""
    found: list[Any] = []
    if isinstance(distribution, CategoricalDistribution):
        found = list(distribution.choices)
    elif isinstance(distribution, IntDistribution):
        found = list(range(distribution.low, distribution.high + 1, distribution.step)[: MOST + 1])
    elif isinstance(distribution, FloatDistribution) and distribution.step is not None:
        number = round((distribution.high - distribution.low) / distribution.step) + 1
        found = [distribution.low + i * distribution.step for i in range(min(number, MOST + 1))]
    return found if 2 <= len(found) <= MOST else None


def _plain(values: Iterable[Any]) -> list[Any]:
    """Returns options for a space of ours: different numbers as they are, since their order counts, anything else by its place."""
    found = list(values)
    numbers = all(type(value) in (int, float) for value in found) and len(set(found)) == len(found)
    return found if numbers else [f"option {i}" for i in range(len(found))]

"""Calling a person's own function on one architecture, in this process or in a worker."""

from __future__ import annotations

import inspect
import json
import math
import random
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from archduel.core import Arch, Cost, Estimate, Query, Space
from archduel.core.storage import load_state, save_state
from archduel.errors import SettingError

__all__ = ["Context", "StudyJudge", "answers_of", "weights_at"]


@dataclass(frozen=True)
class Context:
    """What an evaluation is told beside the network.

    Attributes:
        arch: the architecture.
        values: name of each decision -> the option that was taken.
        recipe: the same of the decisions of :func:`archduel.recipe_space` alone, without its prefix.
        ordinal: of the evaluation, from 0.
        seed: for whatever is random in it; the global generators of Python, NumPy and torch are seeded with it already.
        device: where to compute, as the study was told.
        folder: for files of this evaluation; None for a study without a folder. It is made when it is asked for the first time.
        inherited: tensors that got weights of an earlier network or of ``init``; 0 = it begins from scratch.
    """

    arch: Arch
    values: Mapping[str, Any]
    recipe: Mapping[str, Any]
    ordinal: int
    seed: int
    device: str = "cpu"
    home: Path | None = None
    inherited: int = 0

    @property
    def folder(self) -> Path | None:
        """Where this evaluation may keep files."""
        if self.home is None:
            return None
        path = self.home / "evaluations" / str(self.ordinal)
        path.mkdir(parents=True, exist_ok=True)
        return path


def answers_of(space: Space, arch: Arch) -> dict[str, Any]:
    """Returns name of each decision -> the option that ``arch`` takes; of a space of ours the number of the answer."""
    from archduel.core import decisions

    values = getattr(space, "values", None)
    if values is not None:
        return dict(values(arch))
    return {decision.name: choice for decision, choice in zip(decisions(space, arch.choices), arch.choices)}


def weights_at(folder: Path, ordinal: int) -> Path:
    """Returns where the weights of an evaluated network are kept."""
    return folder / "weights" / f"{ordinal}.safetensors"


@dataclass(frozen=True)
class StudyJudge:
    """Makes, in a worker, the function that evaluates.

    Attributes:
        space: of the architectures.
        evaluate: the person's function.
        folder: of the study, None without one.
        device: told to the function.
        keep: whether the weights of evaluated networks are kept.
        init: file of weights that every network starts from, empty = none.
        threads: of torch.
    """

    space: Any
    evaluate: Callable[..., Any]
    folder: Path | None = None
    device: str = "cpu"
    keep: bool = False
    init: str = ""
    threads: int = 1

    def __call__(self) -> Callable[[Query, int], Estimate]:
        """Returns ``judge(query, seed)``; the query's fidelity says number and parent of the evaluation."""
        weights: Mapping[str, Any] = {}
        if self.init:
            from archduel.networks.checkpoints import read_checkpoint

            weights = read_checkpoint(Path(self.init))
        positional = [p for p in inspect.signature(self.evaluate).parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
        alone = len(positional) == 1 and positional[0].kind is not positional[0].VAR_POSITIONAL

        def judge(query: Query, seed: int) -> Estimate:
            told = json.loads(query.fidelity or "{}")
            began = time.perf_counter()
            values: dict[str, Any] = {"answers": _plain_answers(answers_of(self.space, query.arch))}
            try:
                with _seeded(seed, self.threads):
                    made, inherited = self._made(query.arch, told.get("parent"), weights)
                    context = self._context(query.arch, told.get("ordinal", 0), seed, inherited)
                    returned = self.evaluate(made) if alone else self.evaluate(made, context)
                score, measures = _score_of(returned)
            except Exception as error:  # a person's own function raises what it likes
                return Estimate(math.nan, Cost(time.perf_counter() - began), values, _reason(error))
            values |= {**measures, **({"parent": told["parent"]} if told.get("parent") is not None else {})}
            if self.keep and self.folder is not None and hasattr(made, "state_dict"):
                save_state(weights_at(self.folder, told["ordinal"]), {"weights": {k: v.detach().cpu() for k, v in made.state_dict().items()}})
            return Estimate(score, Cost(time.perf_counter() - began), values, "" if math.isfinite(score) else f"the score is {score}")

        return judge

    def _made(self, arch: Arch, parent: int | None, weights: Mapping[str, Any]) -> tuple[Any, int]:
        """Returns what the space makes of an architecture, and how many tensors got weights of another."""
        build = getattr(self.space, "build", None)
        made: Any = arch if build is None else build(arch)
        if not hasattr(made, "load_state_dict"):
            return made, 0
        from archduel.spaces.own.weights import inherit

        inherited = inherit(made, weights) if weights else 0
        if parent is not None and self.folder is not None and (path := weights_at(self.folder, parent)).is_file():
            inherited = inherit(made, load_state(path)["weights"])
        return made.to(self.device), inherited

    def _context(self, arch: Arch, ordinal: int, seed: int, inherited: int) -> Context:
        values = answers_of(self.space, arch)
        recipe = {name.removeprefix("recipe."): value for name, value in values.items() if name.startswith("recipe.")}
        return Context(arch, values, recipe, ordinal, seed, self.device, self.folder, inherited)


def _plain_answers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the answers as JSON holds them."""
    from archduel.spaces.own.choices import label

    return {name: value if isinstance(value, (int, float, str, type(None))) else label(value) for name, value in values.items()}


@contextmanager
def _seeded(seed: int, threads: int) -> Iterator[None]:
    """Seeds the global generators, and puts them and torch's number of threads back afterwards."""
    import torch

    python, numpy_state, before = random.getstate(), np.random.get_state(), torch.get_num_threads()  # noqa: NPY002 - a person's code uses it
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.set_num_threads(threads)
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)
        random.setstate(python)
        np.random.set_state(numpy_state)  # noqa: NPY002


def _score_of(returned: Any) -> tuple[float, dict[str, Any]]:
    """Returns score and further measures of what an evaluation returned.

    Raises:
        SettingError: for what is neither a number nor a mapping with a score.
    """
    if isinstance(returned, Mapping):
        if "score" not in returned:
            raise SettingError(f"evaluate returned {{{', '.join(map(repr, returned))}}} without 'score'; higher is better: return {{'score': ...}}")
        measures = {str(name): _number(value) for name, value in returned.items() if name != "score"}
        return float(_number(returned["score"])), measures
    number = _number(returned)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise SettingError(f"evaluate returned {type(returned).__name__}, expected a number (higher is better) or {{'score': number, ...}}")
    return float(number), {}


def _number(value: Any) -> Any:
    """Returns numbers of torch and NumPy as Python's."""
    return value.item() if hasattr(value, "item") else value


def _reason(error: Exception) -> str:
    """Returns an exception in one line, with the place in the person's code."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"

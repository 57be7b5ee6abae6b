"""A search space from a person's own constructor, or from a table of options: what :func:`choose` and its like ask is the tree."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel import registry
from archduel.core import Arch, Decision, Scale
from archduel.core.space import check_decisions
from archduel.errors import InvalidArchError, SettingError, unknown
from archduel.spaces.own.choices import Question, Trace, choose, replay
from archduel.spaces.own.quiet import randomness_kept, weights_not_drawn
from archduel.spaces.own.structure import Structure, by_name

__all__ = ["RECIPE", "SIZES", "USUAL", "Columns", "OwnSpace", "arguments_for", "identity_of", "marked", "nothing", "script"]

FROM_SCALE = {
    "in_channels": "in_channels", "n_classes": "n_classes", "num_classes": "n_classes", "image_size": "image_size",
    "channels": "channels", "depth": "depth",
}  # fmt: skip
"""Parameter of a constructor -> field of :class:`archduel.core.Scale` that fills it."""
SIZES = ("channels", "depth")
"""Filled in only where the constructor has no default: a person's ``depth=3`` is no size of ours."""
USUAL = Scale(16, 3, 32, 3, 10)
"""The scale at which a space is looked at before there are data."""
LISTED = 2_000
"""Architectures of a space that is listed; larger ones are drawn from."""
CACHED = 20_000
RECIPE = "recipe."
"""What the names of a recipe's decisions begin with."""


def nothing() -> None:
    """The program of a recipe alone: it builds nothing."""


def marked(values: Mapping[str, Any]) -> str:
    """Returns six letters that tell settings apart."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:6]


def identity_of(program: Any, how: Mapping[str, Any]) -> str:
    """Returns how another process finds what was made of ``program`` with these arguments: ``module:Name{...}``, ``file.py:Name{...}``."""
    module, qualname = getattr(program, "__module__", "__main__"), getattr(program, "__qualname__", "<program>")
    if module == "__main__":
        path = script()
        module = module if path is None else _short(path)
    elif path := getattr(sys.modules.get(module), registry.FILE, None):
        module = str(path)
    try:
        told = json.dumps(dict(how), sort_keys=True) if how else ""
    except TypeError:
        told = "{...}"
    return f"{module}:{qualname}{told}"


def script() -> Path | None:
    """Returns the file that this process runs; None in a notebook, a shell, or where it was piped in."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    return Path(path) if path is not None and Path(path).is_file() else None


def _short(path: Path) -> str:
    """Returns a path from the working directory where it lies below it."""
    full = path.resolve()
    return str(full.relative_to(Path.cwd())) if full.is_relative_to(Path.cwd()) else str(full)


def arguments_for(factory: Callable[..., Any], settings: Mapping[str, Any], scale: Scale) -> dict[str, Any]:
    """Returns the keyword arguments with which ``factory`` is called for data of this scale.

    Raises:
        SettingError: for parameters that nothing fills, and settings that there are not.
    """
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return dict(settings)
    found = dict(settings)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    title = getattr(factory, "__name__", str(factory))
    for name in () if open_ended else settings:
        if name not in parameters:
            raise SettingError(str(unknown(f"setting of {title}", name, parameters)))
    for name, parameter in parameters.items():
        if name in found or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        needed = parameter.default is parameter.empty
        if name in FROM_SCALE and (needed or name not in SIZES):
            found[name] = getattr(scale, FROM_SCALE[name])
        elif needed:
            raise SettingError(f"{title} needs {name!r}, which neither the images nor the space say; give it: space_of({title}, {name}=...)")
    return found


class OwnSpace:
    """Architectures that a program builds: one for each way to answer the choices that it asks.

    Attributes:
        name: the first part of every ``str(arch)``.
        program: what is built: a class or function, called with the arguments that the scale gives and ``settings``.
        settings: further keyword arguments of the program.
        example: shape of one input without the batch, for programs whose input is no image; None = images, or not known.
        identity: ``module:Name``, ``file.py:Name`` or empty: how another process finds it.
        size: architectures, exact or estimated (:attr:`exact`).

    Args:
        scale: the data for which the questions were explored.

    Raises:
        SettingError: for a program whose choices cannot be searched; the message says why.
    """

    def __init__(
        self, program: Callable[..., Any], *, name: str, settings: Mapping[str, Any] | None = None, example: Any = None,
        identity: str = "", scale: Scale = USUAL, recipe: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        if not name.isidentifier():
            raise SettingError(f"a space's name is a word, as it begins texts such as NAME:1.0.4; got {name!r}: space_of(..., name='mine')")
        self.name, self.program, self.settings, self.recipe = name, program, dict(settings or {}), dict(recipe or {})
        self.example, self.identity, self.scale = example, identity, scale
        self.arguments = arguments_for(program, self.settings, scale)
        self._runs = 0
        self.structure = Structure(self._run)
        self.size, self.exact = self.structure.size()
        self.listable = LISTED
        self.columns = _columns(self.structure)
        self._answers = lru_cache(CACHED)(self._read_answers)
        self._others: dict[tuple[Any, ...], OwnSpace] = {}

    def __repr__(self) -> str:
        number = f"{self.size:,}" if self.size < 10**9 else f"{self.size:.2g}"
        asked = len(self.structure.questions)
        return f"{self.name}: {'' if self.exact else 'about '}{number} architectures, {asked} decisions ({len(self.structure.always)} always asked)"

    def _run(self, answer: Callable[[Question], int]) -> Trace:
        taken: dict[str, str] = {}

        def noted(question: Question) -> int:
            """Answers, and remembers what is not the first option."""
            index = answer(question)
            if index:
                taken[question.name] = question.labels[index]
            return index

        self._runs += 1  # another seed each time, so that a constructor that asks at random is noticed
        with randomness_kept(self._runs), weights_not_drawn():
            try:
                return replay(self._made, noted)[1]
            except SettingError:
                raise
            except Exception as error:  # a person's own constructor raises what it likes
                options = ", ".join(f"{name}={text}" for name, text in taken.items())
                what = "the network of all first options" if not taken else f"option {options}" if len(taken) == 1 else f"options {options} together"
                raise SettingError(f"{self.name}: {what} cannot be built: {type(error).__name__}: {error}") from error

    def _made(self) -> Any:
        made = self.program(**self.arguments)
        for name, values in self.recipe.items():
            choose(f"{RECIPE}{name}", list(values))
        return made

    # -- what a space says -------------------------------------------------------------------------------------------------

    @property
    def kinds(self) -> Mapping[str, int]:
        """Vocabulary size of each kind of decision: of ``blocks[0].kernel`` that of ``blocks[].kernel``."""
        found = {}
        for questions in self.structure.options.values():
            for question in questions.values():
                found[self.structure.kind(question)] = len(question.options)
        return found

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        """Returns the next question after the answers ``prefix``, or None when the architecture is complete."""
        return self.structure.decision(prefix)

    def validate(self, arch: Arch) -> None:
        """Raises InvalidArchError unless ``arch`` answers every question with one of its options."""
        check_decisions(self, arch)

    def fingerprint(self, arch: Arch) -> str:
        """Returns the answers as text; nothing is known of which networks compute the same."""
        return ".".join(map(str, arch.choices))

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, F): a column a decision where options are numbers, one an option elsewhere, and whether it was asked."""
        x = np.zeros((len(archs), self.columns.number), np.float32)
        for row, arch in zip(x, archs):
            self.columns.fill(row, self._questions(arch))
        return x

    def start(self) -> Arch:
        """Returns the architecture of all first options: the one that a person would build by hand."""
        choices: tuple[int, ...] = ()
        while self.decision(choices) is not None:
            choices = (*choices, 0)
        return Arch(self.name, choices)

    # -- answers and networks ----------------------------------------------------------------------------------------------

    def _questions(self, arch: Arch) -> list[tuple[Question, int]]:
        return list(zip(self._answers(arch.choices), arch.choices))

    def _read_answers(self, choices: tuple[int, ...]) -> tuple[Question, ...]:
        self.validate(Arch(self.name, choices))
        return tuple(self.structure.path(choices))

    def values(self, arch: Arch) -> dict[str, Any]:
        """Returns name -> the option that is taken, of every decision that ``arch`` answers.

        Raises:
            InvalidArchError: for an architecture of another space.
        """
        if arch.space != self.name:
            raise InvalidArchError(f"{arch} belongs to space {arch.space!r}, expected {self.name!r}")
        return {question.name: question.options[index] for question, index in self._questions(arch)}

    def build(self, arch: Arch) -> Any:
        """Returns what the program makes of these answers: an untrained network, weights drawn from the global generator.

        Raises:
            InvalidArchError: for an architecture of another space.
        """
        if arch.space != self.name:
            raise InvalidArchError(f"{arch} belongs to space {arch.space!r}, expected {self.name!r}")
        answers = {question.name: index for question, index in self._questions(arch)}
        return replay(self._made, by_name(answers))[0]

    def recipe_changes(self, arch: Arch) -> dict[str, Any]:
        """Returns what ``arch`` changes of a training recipe: the decisions of :func:`archduel.recipe_space`, empty without any."""
        changes: dict[str, Any] = {}
        for name, value in self.values(arch).items() if self.recipe else ():
            if name.startswith(RECIPE):
                among = self.recipe[name.removeprefix(RECIPE)]
                changes |= among[value] if isinstance(among, Mapping) else {name.removeprefix(RECIPE): value}
        return changes

    def __add__(self, other: OwnSpace) -> OwnSpace:
        """Returns this space with the recipe's decisions of ``other`` beside its own.

        Raises:
            SettingError: for another space than :func:`archduel.recipe_space`.
        """
        if not isinstance(other, OwnSpace) or other.program is not nothing:
            raise SettingError("only decisions of a recipe can be added to a space: space_of(Mine) + recipe_space(lr=[0.1, 0.05])")
        recipe = {**self.recipe, **other.recipe}
        name = f"{self.name}_{marked(recipe)}"
        how: dict[str, Any] = {"name": name, "recipe": recipe, **self.settings}
        if self.example is not None:
            how["example"] = self.example
        found = OwnSpace(
            self.program, name=name, settings=self.settings, example=self.example, scale=self.scale, recipe=recipe,
            identity=identity_of(self.program, how) if self.identity else "",
        )  # fmt: skip
        if found.identity:
            registry.adopt("space", found.identity, found)
        return found

    def at_scale(self, scale: Scale) -> OwnSpace:
        """Returns the space for data of another scale; the choices may depend on it."""
        arguments = arguments_for(self.program, self.settings, scale)
        if arguments == self.arguments:
            return self
        key = tuple(sorted((name, str(value)) for name, value in arguments.items()))
        if key not in self._others:
            self._others[key] = OwnSpace(
                self.program, name=self.name, settings=self.settings, example=self.example, identity=self.identity, scale=scale,
                recipe=self.recipe,
            )  # fmt: skip
        return self._others[key]

    # -- texts -------------------------------------------------------------------------------------------------------------

    def words(self, kind: str) -> tuple[str, ...]:
        """Returns the labels of a kind's options."""
        for questions in self.structure.options.values():
            for question in questions.values():
                if self.structure.kind(question) == kind:
                    return question.labels
        raise unknown(f"kind of decision of {self.name}", kind, self.kinds)

    def write(self, arch: Arch) -> str:
        """Returns ``width=24, blocks=3, blocks[0].kernel=5``."""
        return ", ".join(f"{question.name}={question.labels[index]}" for question, index in self._questions(arch))

    def read(self, text: str) -> Arch:
        """Returns the architecture of what :meth:`write` writes, in any order.

        Raises:
            InvalidArchError: naming the answer that is wrong, missing or too many.
        """
        parts = [part.partition("=") for part in text.split(", ")]
        given = {name.strip(): value for name, equals, value in parts if equals}
        choices: tuple[int, ...] = ()
        asked = set()
        while (question := self.structure.question(choices)) is not None:
            value = given.get(question.name)
            if value is None or value not in question.labels:
                raise InvalidArchError(
                    f"{text[:80]!r} is no architecture of {self.name}: {question.name}={value} where one of {', '.join(question.labels)} is expected"
                )
            asked.add(question.name)
            choices = (*choices, question.labels.index(value))
        if extra := set(given) - asked:
            raise InvalidArchError(f"{text[:80]!r} is no architecture of {self.name}: {min(extra)} is not asked after the other answers")
        return Arch(self.name, choices)

    @property
    def digest(self) -> str:
        """A text that changes when the decisions do: their names and options, in the order in which they are met."""
        listed = [[q.name, q.labels] for questions in self.structure.options.values() for q in questions.values()]
        return hashlib.sha256(json.dumps([self.name, listed]).encode()).hexdigest()[:16]

    def __reduce__(self) -> tuple[Any, ...]:
        how = {"name": self.name, "settings": self.settings, "example": self.example, "scale": self.scale, "recipe": self.recipe}
        outside = self.identity and not self.identity.startswith("__main__")
        if outside and getattr(sys.modules.get("__main__"), "__dict__", {}).get(getattr(self.program, "__name__", "")) is not self.program:
            return _from_identity, (self.identity, self.scale)
        return _again, (self.program, how, self.identity)


def _from_identity(identity: str, scale: Scale) -> OwnSpace:
    found: OwnSpace = registry.make("space", identity)
    return found.at_scale(scale)


def _again(program: Callable[..., Any], how: Mapping[str, Any], identity: str) -> OwnSpace:
    return OwnSpace(program, identity=identity, **how)


# -- Columns for rankers --------------------------------------------------------------------------------------------------


class Columns:
    """Where each decision stands in the description of an architecture."""

    def __init__(self) -> None:
        self.number = 0
        self.numeric: dict[str, tuple[int, float, float]] = {}
        self.named: dict[str, tuple[int, dict[str, int]]] = {}
        self.flags: dict[str, int] = {}

    def fill(self, row: NDArray[np.float32], answered: Iterable[tuple[Question, int]]) -> None:
        """Writes an architecture into a row of zeros."""
        for question, index in answered:
            name = question.name
            if name in self.numeric:
                at, low, spread = self.numeric[name]
                row[at] = (float(question.options[index]) - low) / spread
            elif name in self.named:
                at, places = self.named[name]
                place = places.get(question.labels[index])
                if place is not None:
                    row[at + place] = 1.0
            if name in self.flags:
                row[self.flags[name]] = 1.0


def _columns(structure: Structure) -> Columns:
    columns = Columns()
    for name, questions in structure.options.items():
        options = [option for question in questions.values() for option in question.options]
        if all(isinstance(option, (int, float)) for option in options):
            low, high = float(min(options)), float(max(options))
            columns.numeric[name] = (columns.number, low, (high - low) or 1.0)
            columns.number += 1
        else:
            labels = dict.fromkeys(text for question in questions.values() for text in question.labels)
            columns.named[name] = (columns.number, {text: i for i, text in enumerate(labels)})
            columns.number += len(labels)
        if name not in structure.always:
            columns.flags[name] = columns.number
            columns.number += 1
    return columns

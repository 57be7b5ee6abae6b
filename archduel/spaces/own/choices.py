"""Choices in an ordinary constructor: asked in the order in which it runs, answered by whoever runs it again.

Nothing is traced: :func:`replay` runs the constructor with a tape, and :func:`choose`, :func:`repeat` and :func:`switch` ask the tape.
Without a tape every choice is its first option, so that a class with choices is an ordinary class.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from archduel.errors import SettingError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Answer", "Question", "Trace", "choose", "kind_of", "label", "no_choices", "repeat", "replay", "switch"]

T = TypeVar("T")
NAME = re.compile(r"[A-Za-z_][\w.\-/]*")
MOST_QUESTIONS = 2_000  # a constructor that asks for more asks in a loop without an end
PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True, slots=True)
class Question:
    """A choice as it was asked.

    Attributes:
        name: where it stands, such as ``blocks[0].kernel``.
        options: the answers, in the order in which they were written.
        labels: a short text for each, all different.
    """

    name: str
    options: tuple[Any, ...]
    labels: tuple[str, ...]

    @property
    def key(self) -> tuple[Any, ...]:
        """What two questions that are one have in common; 1, 1.0 and True are different answers."""
        return (self.name, self.labels, tuple(type(option) for option in self.options))


Answer = Callable[[Question], int]
"""Says which option is taken, from 0."""

Trace = tuple[tuple[Question, int], ...]
"""The questions of one run of a program, in order, with their answers."""


def label(option: Any) -> str:
    """Returns a short text of an option: a number, a text, the name of a class."""
    if isinstance(option, tuple):
        return f"({','.join(map(label, option))})"
    return str(getattr(option, "__name__", option))


def kind_of(name: str) -> str:
    """Returns the name without the places in repeats: ``blocks[3].kernel`` and ``blocks[0].kernel`` are one kind of question."""
    return re.sub(r"\[\d+\]", "[]", name)


class _Tape:
    """One run of a constructor: who answers, and what was asked so far."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.scope = ""
        self.asked: dict[str, tuple[Question, int]] = {}

    def ask(self, name: str, options: tuple[Any, ...]) -> int:
        question = Question(self.scope + name, options, tuple(map(label, options)))
        known = self.asked.get(question.name)
        if known is not None:
            if known[0].key != question.key:
                raise SettingError(
                    f"choice {question.name!r} is asked again with other options: first {_shown(known[0].options)}, now {_shown(options)}; "
                    "one name is one decision, so give one of the two another name"
                )
            return known[1]
        if len(self.asked) >= MOST_QUESTIONS:
            raise SettingError(f"the constructor asks more than {MOST_QUESTIONS:,} questions, the last one {question.name!r}; does a loop never end?")
        index = self.answer(question) if len(options) > 1 else 0
        self.asked[question.name] = (question, index)
        return index


class _NoChoices:
    """Stands in the tape's place while a network runs."""


_tape: ContextVar[_Tape | _NoChoices | None] = ContextVar("archduel_choices", default=None)


def _shown(options: Iterable[Any]) -> str:
    return f"[{', '.join(map(label, options))}]"


def _index(name: str, options: tuple[Any, ...]) -> int:
    """Returns which option is taken; the first where nobody searches."""
    tape = _tape.get()
    if isinstance(tape, _NoChoices):
        raise SettingError(
            f"choice {name!r} is asked while the network runs; decide in the constructor and keep the answer "
            f"(`self.{name.split('.')[-1]} = choose(...)` in __init__), then use it in forward"
        )
    return 0 if tape is None else tape.ask(name, options)


def _checked(name: str, options: Iterable[Any], asks: str) -> tuple[Any, ...]:
    """Returns the options, after checking name and options.

    Raises:
        SettingError: for a name or options that a decision cannot have.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise SettingError(f"{asks}: a choice's name is a word such as 'width' or 'stem.kernel', got {name!r}")
    values = tuple(_plain(option) for option in options)
    if not values:
        raise SettingError(f"{asks}({name!r}): there are no options to choose from")
    labels = list(map(label, values))
    if len(set(labels)) < len(labels):
        raise SettingError(f"{asks}({name!r}): options must differ, got {_shown(values)}")
    return values


def _plain(option: Any) -> Any:
    """Returns numbers of NumPy as Python's."""
    return option.item() if type(option).__module__ == "numpy" and hasattr(option, "item") else option


def _check_option(name: str, option: Any) -> None:
    if isinstance(option, tuple):
        for part in option:
            _check_option(name, part)
    elif hasattr(option, "state_dict") and not isinstance(option, type):
        raise SettingError(
            f"choose({name!r}): {type(option).__name__}() is a module that is there already, chosen or not; "
            f"write switch({name!r}, {{'{type(option).__name__.lower()}': {type(option).__name__}}}), which makes the chosen one alone"
        )
    elif isinstance(option, float) and not math.isfinite(option):
        raise SettingError(f"choose({name!r}): {option} is no number to choose")
    elif not isinstance(option, (*PLAIN, type)) and "<lambda>" in getattr(option, "__qualname__", "<lambda>"):
        raise SettingError(
            f"choose({name!r}): options are numbers, texts, None, tuples of them, classes or named functions, got {option!r}; "
            f"for anything else write switch({name!r}, {{'a': ..., 'b': ...}}) with a name for each"
        )


def choose(name: str, options: Iterable[T]) -> T:
    """Returns one of ``options``; while a space is searched, the one that is being tried, else the first.

    The same name with the same options is one decision, however often it is asked.

    Args:
        name: of the decision, within the ``repeat`` and ``switch`` that it stands in.
        options: numbers, texts, None, tuples of them, or classes; the one that you would take by hand first.

    Raises:
        SettingError: for options that cannot be decided between, a name that means another decision already, or a call from ``forward``.

    Example:
        >>> choose("width", [16, 24, 32])
        16
    """
    values = _checked(name, options, "choose")
    for option in values:
        _check_option(name, option)
    return values[_index(name, values)]  # type: ignore[no-any-return]


def switch(name: str, options: Mapping[str, Callable[[], T]]) -> T:
    """Returns what one of ``options`` makes; the others are not called.

    Args:
        name: of the decision; choices inside of an option are called ``name.choice``.
        options: name of each option -> class or function without arguments that makes it; the one that you would take by hand first.

    Raises:
        SettingError: as for :func:`choose`, and for options that are modules already.
    """
    if not isinstance(options, Mapping):
        raise SettingError(f"switch({name!r}): expected {{'name': what makes it, ...}}, got {type(options).__name__}")
    names = _checked(name, options, "switch")
    for key, make in options.items():
        if hasattr(make, "state_dict") and not isinstance(make, type):
            raise SettingError(
                f"switch({name!r}): option {key!r} is a module that is there already, which all draws would share; "
                f"give what makes one: {type(make).__name__} without parentheses, or lambda: {type(make).__name__}(...)"
            )
        if not callable(make):
            raise SettingError(f"switch({name!r}): option {key!r} is {make!r}, expected a class or a function without arguments")
    key = names[_index(name, names)]
    with _scope(f"{name}."):
        made = options[key]()
    if hasattr(made, "state_dict") and hasattr(made, "_modules"):
        # shared weights must not mix the weights of two options that call theirs alike
        object.__setattr__(made, "_archduel_option", f"{name}={key}")
    return made


def repeat(name: str, make: Callable[[int], nn.Module], counts: Iterable[int]) -> nn.Sequential:
    """Returns ``nn.Sequential(make(0), make(1), ...)`` of a chosen length.

    Args:
        name: of the decision; choices inside of ``make(i)`` are called ``name[i].choice``.
        make: returns the i-th module; what was chosen before is in plain Python variables.
        counts: lengths to choose from, 0 included; the one that you would take by hand first.

    Raises:
        SettingError: as for :func:`choose`, and for counts that are no lengths.
    """
    from torch import nn

    numbers = _checked(name, counts, "repeat")
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in numbers):
        raise SettingError(f"repeat({name!r}): counts are whole numbers from 0, got {_shown(numbers)}")
    parts = []
    for i in range(numbers[_index(name, numbers)]):
        with _scope(f"{name}[{i}]."):
            parts.append(make(i))
    return nn.Sequential(*parts)


@contextmanager
def _scope(part: str) -> Iterator[None]:
    """Puts ``part`` before the names of the choices inside."""
    tape = _tape.get()
    if not isinstance(tape, _Tape):
        yield
        return
    before, tape.scope = tape.scope, tape.scope + part
    try:
        yield
    finally:
        tape.scope = before


def replay(program: Callable[[], T], answer: Answer) -> tuple[T, Trace]:
    """Returns what ``program`` makes when ``answer`` answers its choices, and the choices that it asked, single options left out."""
    tape = _Tape(answer)
    token = _tape.set(tape)
    try:
        made = program()
    finally:
        _tape.reset(token)
    return made, tuple((question, index) for question, index in tape.asked.values() if len(question.options) > 1)


@contextmanager
def no_choices() -> Iterator[None]:
    """Makes every choice inside an error: the network runs."""
    token = _tape.set(_NoChoices())
    try:
        yield
    finally:
        _tape.reset(token)

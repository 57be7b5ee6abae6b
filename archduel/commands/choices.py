"""Options that take one of a few words: shells complete them, help and errors list them, and functions get plain text."""

from __future__ import annotations

import copy
import enum
import inspect
from collections.abc import Mapping
from typing import Annotated, Any, get_args, get_origin

from typer.models import ParameterInfo

from archduel import registry

__all__ = ["MENUS", "OneOf", "plain", "shown"]

MENUS = {"strategy": "strategy", "space": "space", "track": "tracker", "to": "tracker", "beside": "space", "ranker": "ranker"}
"""Option -> the menu whose names it takes, beside ``module:Class``."""


class OneOf:
    """Marks text that is one of a few words: ``Annotated[str, typer.Option(help=...), OneOf("mean", "sum")]``, or a list of such text.

    Args:
        words: that it may be.
    """

    def __init__(self, *words: str) -> None:
        self.words = words

    def kind(self, name: str) -> type[enum.Enum]:
        """Returns the words as the enumeration that the command line knows, called after the option."""
        return enum.Enum(name.title().replace("_", ""), {word: word for word in self.words}, type=str)  # type: ignore[return-value]


def shown(parameter: inspect.Parameter) -> inspect.Parameter:
    """Returns a command's parameter as the command line shall know it: an enumeration where it is marked, completed where it is from a menu."""
    if get_origin(parameter.annotation) is not Annotated:
        return parameter
    annotation, *marks = get_args(parameter.annotation)
    info = next((mark for mark in marks if isinstance(mark, ParameterInfo)), None)
    one_of = next((mark for mark in marks if isinstance(mark, OneOf)), None)
    if one_of is not None:
        kind = one_of.kind(parameter.name)
        default = parameter.default
        whole = Annotated[(_with(annotation, kind), *(mark for mark in marks if mark is not one_of))]  # type: ignore[valid-type]
        return parameter.replace(annotation=whole, default=kind(default) if isinstance(default, str) else default)
    if info is not None and info.autocompletion is None and parameter.name in MENUS and annotation in (str, str | None):
        completed = copy.copy(info)
        completed.autocompletion = _completion(MENUS[parameter.name])
        return parameter.replace(annotation=Annotated[annotation, completed])  # type: ignore[valid-type]
    return parameter


def _with(annotation: Any, kind: Any) -> Any:
    """Returns the annotation of an option with ``kind`` in place of text."""
    forms = ((str, kind), (str | None, kind | None), (list[str], list[kind]), (list[str] | None, list[kind] | None))
    return next(form for text, form in forms if annotation == text)


def _completion(role: str) -> Any:
    def names(incomplete: str) -> list[str]:
        """Returns the names on the menu that begin so."""
        return [name for name in registry.names(role) if name.startswith(incomplete)]

    return names


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the command line read with text in place of members of enumerations."""
    return {name: [_text(item) for item in value] if isinstance(value, list) else _text(value) for name, value in values.items()}


def _text(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value

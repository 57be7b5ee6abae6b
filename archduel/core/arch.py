"""The value everything is about: an architecture, without weights."""

from __future__ import annotations

from dataclasses import dataclass

from archduel.errors import InvalidArchError

__all__ = ["Arch", "parse"]


@dataclass(frozen=True, slots=True, order=True)
class Arch:
    """An architecture: the name of its space and one integer for each decision.

    Prints as ``nasbench201:1.0.4.2.2.3`` and is read back by :func:`parse`.
    """

    space: str
    choices: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.space}:{'.'.join(map(str, self.choices))}"


def parse(text: str) -> Arch:
    """Returns the architecture that ``text`` (``space:1.0.4``) names; whether it is valid only its space knows.

    Raises:
        InvalidArchError: if the text has another form.
    """
    space, colon, choices = text.strip().partition(":")
    parts = choices.split(".") if choices else []
    if not colon or not space or not all(part.isascii() and part.isdigit() for part in parts):
        raise InvalidArchError(
            f"{text!r} is not an architecture; expected SPACE:CHOICE.CHOICE..., such as nasbench201:1.0.4.2.2.3"
        )
    return Arch(space, tuple(int(part) for part in parts))

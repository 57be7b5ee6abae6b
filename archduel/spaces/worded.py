"""Spaces of networks that are written as words with - between, one a decision: ``conv2-pool-1-1-...``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from archduel.core import Arch, Decision, check_decisions
from archduel.errors import InvalidArchError

__all__ = ["Worded"]


class Worded:
    """What such spaces share; each says its name, its questions in order, and the words of their answers.

    Attributes:
        order: name and kind of each decision.
        vocabulary: the words of each kind, in the order of its answers.
    """

    name: str
    order: ClassVar[Sequence[tuple[str, str]]]
    vocabulary: ClassVar[Mapping[str, tuple[str, ...]]]

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        """Returns the next part, or None after the last."""
        if len(prefix) >= len(self.order):
            return None
        name, kind = self.order[len(prefix)]
        return Decision(name, kind, self.options(kind))

    def options(self, kind: str) -> tuple[int, ...]:
        """Returns the answers that are offered: all of a kind."""
        return tuple(range(len(self.vocabulary[kind])))

    def validate(self, arch: Arch) -> None:
        """Raises InvalidArchError unless ``arch`` answers all questions."""
        check_decisions(self, arch)  # type: ignore[arg-type]

    def words(self, kind: str) -> tuple[str, ...]:
        """Returns the names of the answers."""
        return self.vocabulary[kind]

    def read(self, text: str) -> Arch:
        """Returns the network of such a text.

        Raises:
            InvalidArchError: with the part that does not fit.
        """
        parts = text.strip().split("-")
        if len(parts) != len(self.order):
            raise InvalidArchError(f"{text!r} has {len(parts)} parts, expected {len(self.order)}: {'-'.join(n for n, _ in self.order)}")
        for part, (name, kind) in zip(parts, self.order):
            if part not in self.vocabulary[kind]:
                raise InvalidArchError(f"{name} {part!r} in {text!r} is not one of {', '.join(self.vocabulary[kind])}")
        return Arch(self.name, tuple(self.vocabulary[kind].index(part) for part, (_, kind) in zip(parts, self.order)))

    def write(self, arch: Arch) -> str:
        """Returns the words of all parts."""
        self.validate(arch)
        return "-".join(self.vocabulary[kind][choice] for choice, (_, kind) in zip(arch.choices, self.order))

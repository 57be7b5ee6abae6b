"""What there is around a space: one record, found by the space's name, that every command asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from archduel.core.arch import Scale
from archduel.core.space import Space
from archduel.errors import SettingError, UnknownNameError

__all__ = ["Family", "Target", "family_of", "target"]

# By name, because commands read the menu of spaces without waiting for PyTorch, which networks and supernets import.
Target = str | Callable[..., Any]
"""A class or function, or ``package.module:name`` of one that is imported when it is used."""


def target(what: Target) -> Any:
    """Returns the class or function that ``what`` is or names.

    Raises:
        UnknownNameError: for a name that cannot be imported.
    """
    if not isinstance(what, str):
        return what
    module, _, name = what.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UnknownNameError(f"{what!r} cannot be loaded: {error}") from error


@dataclass(frozen=True)
class Family:
    """A space and everything that is made for it; only ``name`` and ``space`` must be given.

    Attributes:
        name: of the space; the first part of every ``str(arch)``.
        space: the class; its settings are keywords.
        build: ``(arch, scale, *, auxiliary=False, **options) -> nn.Module``; without it nothing can be trained.
        count: ``(arch, scale, **options) -> Counts`` in closed form, without torch.
        costs: ``(archs, scale) -> (N, 2)`` what rankers are given where ``count`` takes too long for thousands; None = they are counted.
        check: ``(scale) -> int`` tries what can go wrong before a search pays for it; None = nothing can.
        recipe: ``(arch) -> {setting: value}`` what an architecture says of its own training; None = nothing.
        example: ``(scale) -> torch.Tensor`` one input (a batch of one) of its networks, None where nothing says it; None = an image.
        side: ``(arch, image_size) -> int`` at how many pixels an architecture sees images; None = as they are.
        own_weights: whether networks draw their weights themselves while they are built, and are a person's own: then no
            standard network takes their place.
        pretrained: whether networks are parts of published ones and begin with the weights of these; untrained they are nothing to begin with.
        supernet: class made with ``(scale, **options)``, see :class:`archduel.core.Supernet`; without it there is no one-shot search.
        scale: size at which the networks were published; parameters and multiply-adds are given for it.
        ladder: (channels, depth) from small to large at which a search may build them; empty = the user says it.
        least_depth: depth from which on every part of an architecture has a place in its network; a shallower one is refused, because it
            could not tell architectures apart.
        own_size: whether architectures say their width and depth themselves; those of a scale mean nothing then.
        costs_for_rankers: whether rankers are given closed-form costs at ``scale``, because features do not tell them.
        widest: settings under which the space holds what any paper's variant of it holds.
        usual: settings under which random architectures are drawn where nothing is said.
        columns: part of an architecture -> usual name of its column in files of architectures.
        optional_columns: parts that a file may lack.
        formats: published files whose architectures are of this space.
        one_by_fingerprint: whether such files count architectures with one fingerprint as one.
        text_pattern: regular expression that the beginning of the space's own texts matches, and no other space's.
        free_text: module with ``build``, ``count``, ``diagrams`` and ``canonical`` of texts in this form that no space holds.
        diagrams: ``(arch) -> list[Diagram]``; without it the answers are drawn in turn.
        generators: name -> ``(rng) -> Arch``, other ways to draw random architectures.
        protocols: settings of ``bench rank`` that suit tables of this space.
    """

    name: str
    space: Target
    build: Target | None = None
    count: Target | None = None
    supernet: Target | None = None
    costs: Target | None = None
    check: Target | None = None
    recipe: Target | None = None
    example: Target | None = None
    side: Target | None = None
    own_weights: bool = False
    pretrained: bool = False
    scale: Scale = Scale()
    ladder: tuple[tuple[int, int], ...] = ()
    least_depth: int = 1
    own_size: bool = False
    costs_for_rankers: bool = False
    widest: Mapping[str, Any] = field(default_factory=dict)
    usual: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=lambda: {"arch": "arch"})
    optional_columns: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    one_by_fingerprint: bool = False
    text_pattern: str = ""
    free_text: str = ""
    diagrams: Target | None = None
    generators: Mapping[str, Target] = field(default_factory=dict)
    protocols: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise SettingError(f"name must be an identifier, as it begins texts such as NAME:1.0.4; got {self.name!r}")

    def __call__(self, **settings: Any) -> Space:
        """Returns the space with these settings."""
        space: Space = target(self.space)(**settings)
        return space


def family_of(entry: Any) -> Family:
    """Returns what stands on the menu of spaces as a family; a class of a space alone has nothing around it.

    Raises:
        UnknownNameError: for anything else.
    """
    if isinstance(entry, Family):
        return entry
    name = getattr(entry, "name", None)
    if not callable(entry) or not isinstance(name, str):
        raise UnknownNameError(f"{entry!r} is no space; expected a Family, or a class of a space with a `name`")
    return Family(name, entry)

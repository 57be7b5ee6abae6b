"""Families by name (`family`), and what they make: networks (`build`), exact costs without torch (`count`), supernets."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archduel import registry
from archduel.core import Arch, Counts, Scale, Space
from archduel.core.family import Family, Target, family_of, target
from archduel.errors import InvalidArchError, SettingError, unknown

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["PlugIns", "build", "build_text", "check_depth", "checked", "costs_for", "count", "count_text", "enters_elsewhere", "families", "family", "for_scale", "found_by_others", "free_text", "is_own", "options_of", "recipe_changes", "seen_scale", "supernet", "target_of", "with_text"]


def family(name: str) -> Family:
    """Returns the family of a space's name, or that of ``package.module:FAMILY`` (a family, or the class of a space alone).

    A family from outside is known by the name of its space from then on, in this process.

    Raises:
        UnknownNameError: for a name that there is not, or what cannot be loaded.
    """
    return family_of(registry.entry("space", name))


def families() -> Iterator[Family]:
    """Yields the families on the menu, by name."""
    return map(family, registry.names("space"))


class PlugIns:
    """The spaces from outside that this process knows; where an object that holds this is unpickled, they are known too."""

    def __reduce__(self) -> tuple[Any, ...]:
        # what stands inside a function or in a notebook no other process can find; a search in it says so
        return _known, (tuple(name for name in registry.plug_ins("space") if found_by_others(name)),)


def found_by_others(name: str) -> bool:
    """Whether another process can import what is named: not a notebook's, nor what stands inside a function."""
    return "<locals>" not in name and not name.startswith("__main__:")


def _known(names: tuple[str, ...]) -> PlugIns:
    for name in names:
        registry.entry("space", name)
    return PlugIns()


# -- Texts of architectures that do not name their space ------------------------------------------------------------------


def with_text(text: str) -> list[Family]:
    """Returns the families whose spaces write such texts; the first that holds it is meant."""
    return [each for each in families() if each.text_pattern and re.match(each.text_pattern, text.lstrip())]


def free_text(text: str) -> Any:
    """Returns the module that knows the networks of texts such as ``text`` which no space holds.

    Raises:
        InvalidArchError: for a text of another form.
    """
    modules = [each.free_text for each in with_text(text) if each.free_text]
    if not modules:
        raise InvalidArchError(f"{text[:60]!r} is no architecture; networks without a space are genotypes")
    return import_module(modules[0])


def build_text(text: str, scale: Scale, *, auxiliary: bool = False, **options: Any) -> nn.Module:
    """Returns the untrained network of a text that no space holds, as :func:`build` does of an architecture."""
    return free_text(text).build(text, scale, auxiliary=auxiliary, **options)  # type: ignore[no-any-return]


def count_text(text: str, scale: Scale, **options: Any) -> Counts:
    """Returns what :func:`build_text` costs."""
    return free_text(text).count(text, scale, **options)  # type: ignore[no-any-return]


# -- Weight sharing: one network that holds the weights of every architecture of a space --------------------------------


def supernet(space: str, scale: Scale, *, generator: torch.Generator, shallow: bool = False, **options: Any) -> Any:
    """Returns an untrained supernet (:class:`archduel.core.Supernet`).

    Args:
        space: whose architectures it holds.
        scale: width, depth, input and classes.
        generator: draws the initial weights, on the CPU.
        shallow: allows a depth at which parts of architectures have no place; for weights that exist already.
        options: of one supernet, such as ``affine=True`` (RelativeNAS) for ``darts``.

    Raises:
        UnknownNameError: for a space without a supernet.
        SettingError: for images too small for the network, or a depth at which it could not tell architectures apart.
    """
    import torch

    from archduel.spaces.layers import initialise

    if not shallow:
        check_depth(space, scale.depth)
    with torch.device("meta"):  # no weights are drawn twice
        network = _part(space, "supernet")(scale, **options)
    return initialise(network.to_empty(device="cpu"), generator)


def options_of(space: str) -> dict[str, Any]:
    """Returns the options of a space's supernet with their defaults.

    Raises:
        UnknownNameError: for a space without a supernet.
    """
    parameters = inspect.signature(_part(space, "supernet")).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _part(space: str, kind: str) -> Any:
    """Returns what builds, counts or shares weights in ``space``.

    Raises:
        UnknownNameError: where there is no such thing.
    """
    what: Target | None = getattr(family(space), kind)
    if what is None:
        titles = {"build": "network of space", "count": "costs of space", "supernet": "supernet of space"}
        raise unknown(titles[kind], space, [each.name for each in families() if getattr(each, kind) is not None])
    return target(what)


def check_depth(space: str, depth: int, name: str = "depth") -> None:
    """Raises SettingError for networks in which a part of every architecture has no place, so that it could not be judged.

    Args:
        space: of the networks.
        depth: theirs.
        name: of the setting that says it.
    """
    least = family(space).least_depth
    if depth < least:
        raise SettingError(
            f"{name} is {depth}, but networks of space {space!r} hold all of an architecture from depth {least} on only (a DARTS-type network "
            f"of one or two cells has no normal cell): give {least} or more"
        )


# -- Networks ---------------------------------------------------------------------------------------------------------------


def build(
    arch: Arch,
    scale: Scale,
    *,
    auxiliary: bool = False,
    generator: torch.Generator | None = None,
    shallow: bool = False,
    **options: Any,
) -> nn.Module:
    """Returns an untrained network; ``forward`` takes (N, in_channels, image_size, image_size) and returns (N, classes).

    Args:
        arch: the architecture; its space says which network it becomes.
        scale: width, depth, input and classes.
        auxiliary: adds the auxiliary head; in training mode ``forward`` then returns ``(logits, auxiliary logits)``.
        generator: draws the initial weights (on the CPU, before anything is moved); None = torch's global one.
        shallow: allows a depth at which parts of the architecture have no place; for weights that exist already.
        options: of one family of networks, such as ``pool_norm=True`` (BPE) for ``darts``.

    Raises:
        UnknownNameError: for a space without a network.
        InvalidArchError: for an architecture that its space does not hold.
        SettingError: for images too small for the network, or a depth that is too small for it (see :func:`check_depth`).
    """
    make = _part(arch.space, "build")
    if not shallow:
        check_depth(arch.space, scale.depth)
    if generator is None:
        return make(arch, scale, auxiliary=auxiliary, **options)  # type: ignore[no-any-return]
    import torch

    from archduel.spaces.layers import initialise

    if family(arch.space).own_weights:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(torch.randint(2**31 - 1, (), generator=generator)))
            return make(arch, scale, auxiliary=auxiliary, **options)  # type: ignore[no-any-return]
    with torch.device("meta"):  # no weights are drawn twice
        network = make(arch, scale, auxiliary=auxiliary, **options)
    return initialise(network.to_empty(device="cpu"), generator)


def count(arch: Arch, scale: Scale, **options: Any) -> Counts:
    """Returns parameters and multiply-adds of the network that ``build`` returns, auxiliary head left out.

    Args:
        arch: the architecture.
        scale: as for ``build``.
        options: as for ``build``.

    Raises:
        UnknownNameError: for a space without a network.
        InvalidArchError: for an architecture that its space does not hold.
        SettingError: for images too small for the network.
    """
    return _part(arch.space, "count")(arch, scale, **options)  # type: ignore[no-any-return]


def costs_for(archs: Sequence[Arch], scale: Scale) -> NDArray[np.float64]:
    """Returns (N, 2) parameters and multiply-adds of architectures of one space as rankers get them: counted, or foretold where counting takes long.

    Raises:
        UnknownNameError: for a space without a network.
        InvalidArchError: for an architecture that its space does not hold.
    """
    foretold = family(archs[0].space).costs if len(archs) else None
    if foretold is not None:
        return np.asarray(target(foretold)(archs, scale), np.float64)
    return np.array([count(arch, scale) for arch in archs], np.float64).reshape(-1, 2)


def is_own(arch: str | None) -> bool:
    """Whether the text of an architecture is one of a person's own network."""
    return arch is not None and family(str(arch).partition(":")[0]).own_weights


def enters_elsewhere(space: str, into: str) -> bool:
    """Whether networks of the space of one name can take part in a race in another: they begin untrained, and neither is a
    person's own: who searches in that gets back a network of the own class."""
    around, there = (family(name) if name in registry.MENUS["space"] else None for name in (space, into))
    if around is None or around.build is None or around.own_weights or around.pretrained:
        return False
    return there is None or not there.own_weights


def recipe_changes(arch: Arch) -> dict[str, Any]:
    """Returns what an architecture says of its own training, setting of a recipe -> value; empty for most spaces, and for one that there is not."""
    says = family(arch.space).recipe if arch.space in registry.MENUS["space"] else None
    return {} if says is None else dict(target(says)(arch))


def for_scale(space: Space, scale: Scale) -> Space:
    """Returns the space for data of this scale: the choices of a person's own constructor may depend on it."""
    at = getattr(space, "at_scale", None)
    return space if at is None else at(scale)  # type: ignore[no-any-return]


def seen_scale(arch: Arch, scale: Scale) -> Scale:
    """Returns the scale with the size at which an architecture sees images of ``scale.image_size``."""
    says = family(arch.space).side
    return scale if says is None else replace(scale, image_size=int(target(says)(arch, scale.image_size)))


def target_of(space: Any) -> str:
    """Returns the name by which a run folder names a space: a text as it is, a person's own class or space as ``module:Name``.

    Raises:
        SettingError: for what is no space.
    """
    if isinstance(space, str):
        return space
    from archduel.spaces.own.making import space_of
    from archduel.spaces.own.space import OwnSpace

    found = space if isinstance(space, OwnSpace) else space_of(space, check=False)
    if not found.identity:
        raise SettingError(f"space {found.name!r} has no networks, only options; archduel.search_space searches it")
    return found.identity


def checked(space: str, scale: Scale) -> int:
    """Returns how many options of a person's own space were built and run at this scale, 0 for any other space.

    Raises:
        SettingError: naming the option that cannot be.
    """
    check = family(space).check
    return 0 if check is None else int(target(check)(scale))

"""Spaces and architectures from outside: texts read, files described, random architectures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from archduel import recipes, registry
from archduel.core import Arch, Constraint, Scale, Space, TextSpace, sample, sample_distinct
from archduel.core.family import target
from archduel.errors import InvalidArchError, SettingError, TableError, unknown
from archduel.networks import zoo
from archduel.spaces.family import count, families, family
from archduel.spaces.lookup import facts, open_space, scale_of
from archduel.spaces.named import NAMED, find
from archduel.tables.readers.columns import arch_columns, row_reader

__all__ = ["at_most", "describe", "describe_file", "sampled", "shown"]

def shown(name: str) -> dict[str, dict[str, Any]]:
    """Returns what is known of each thing that is called ``name``: ``architecture``, ``space``, ``recipe``.

    Raises:
        UnknownNameError: where nothing is called so.
    """
    known: dict[str, dict[str, Any]] = {}
    if find(name) is not None:
        known["architecture"] = zoo.show(name)
    if name in registry.names("space"):
        known["space"] = facts(open_space(name))
    if name in recipes.names():
        recipe = recipes.open_recipe(name)
        known["recipe"] = {part: getattr(recipe, part) for part in ("name", "about", "source", "deviations")}
        known["recipe"] |= {"spaces": list(recipe.spaces), "options": dict(recipe.options), "settings": dict(recipe.settings)}
    if not known:
        command = "archduel list architectures|spaces|recipes"
        raise unknown("name", name, {*NAMED, *registry.names("space"), *recipes.names()}, command=command)
    return known


def at_most(max_params: float) -> Constraint:
    """Returns the rule that a network has at most ``max_params`` parameters at its published scale."""
    return lambda arch: count(arch, scale_of(arch.space, {})).params <= max_params


def describe(space: Space, archs: Sequence[Arch], scale: Scale | None = None) -> Iterator[dict[str, Any]]:
    """Yields for each architecture its texts, fingerprint (the hash for ``nasbench101``), parameters and multiply-adds.

    Args:
        space: the space.
        archs: architectures of it.
        scale: the size of the networks; None = as published.
    """
    for arch in archs:
        space.validate(arch)
        row: dict[str, Any] = {"arch": str(arch)}
        if isinstance(space, TextSpace):
            row["text"] = space.write(arch)
        for extra in ("index", "unique_str"):
            if hasattr(space, extra):
                row[extra] = getattr(space, extra)(arch)
        row["fingerprint"] = space.fingerprint(arch)
        if family(space.name).count is not None:
            row |= count(arch, scale or scale_of(space.name, {}))._asdict()
        yield row


def describe_file(
    space_name: str,
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    scale: Scale | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yields one description a row of a CSV or parquet file.

    Args:
        space_name: the space.
        path: the file.
        columns: part of an architecture -> column, as ``archduel table import`` takes them.
        scale: see :func:`describe`.
        settings: of the space.

    Raises:
        TableError: for a file that cannot be read, or a row that is no architecture, with its number and the offending part.
        UnknownNameError: for an unknown space or column.
    """
    from archduel.tables.readers.columns import read_columns

    space = open_space(space_name, **(settings or {}))
    used = arch_columns(space_name, columns or {})
    data, read = read_columns(path, tuple(used.values())), row_reader(space, used)
    for number, cells in enumerate(zip(*data.values()), 1):
        try:
            arch = read(dict(zip(data, map(str, cells))))
        except InvalidArchError as error:
            raise TableError(f"{path} row {number}: {error}") from error
        yield {"row": number, **next(describe(space, [arch], scale))}


def _generator(name: str, space: Space) -> Callable[[np.random.Generator], Arch]:
    homes = {generator: each for each in families() for generator in each.generators}
    if name not in homes:
        raise unknown("generator", name, homes)
    if name not in family(space.name).generators:
        raise SettingError(f"generator {name!r} draws in {homes[name].name}, not in {space.name}")
    draw: Callable[[np.random.Generator], Arch] = target(family(space.name).generators[name])
    return draw


def sampled(
    space: Space,
    n: int,
    seed: int = 0,
    *,
    generator: str = "",
    distinct: bool = False,
    constraint: Constraint | None = None,
) -> list[Arch]:
    """Returns ``n`` random architectures; the space's docstring says over what they are uniform.

    Args:
        space: where from.
        n: how many.
        seed: of the randomness.
        generator: ``bpe`` draws as BPE's released generator does (space ``darts``).
        distinct: no two with the same fingerprint.
        constraint: what each must satisfy.

    Raises:
        SettingError: for fewer than one, or a generator of another space.
        InfeasibleError: if the constraint cannot be satisfied, or there are fewer that differ.
    """
    if n < 1:
        raise SettingError(f"n must be at least 1, got {n}")
    draw = _generator(generator, space) if generator else None
    rng = np.random.default_rng(seed)
    if distinct:
        return sample_distinct(space, n, rng, constraint=constraint, draw=draw)
    return [sample(space, rng, constraint, draw=draw) for _ in range(n)]

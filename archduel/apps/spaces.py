"""Spaces and architectures from outside: texts read, files described, random architectures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from archduel import registry
from archduel.apps.cells import arch_columns, row_reader
from archduel.core import Arch, Constraint, Scale, Space, TextSpace, sample
from archduel.core import parse as parse_choices
from archduel.errors import InvalidArchError, SettingError, TableError, unknown
from archduel.nets import COUNTERS, count
from archduel.spaces.named import find
from archduel.spaces.supercell import random_darts

__all__ = [
    "DEFAULTS",
    "OWN_SIZE",
    "SCALES",
    "at_most",
    "describe",
    "describe_file",
    "facts",
    "open_space",
    "parse",
    "resolve",
    "sampled",
    "scale_of",
    "settings_of",
    "write",
]

SCALES: Mapping[str, Scale] = {
    "nasbench101": Scale(128, 3),
    "nasbench201": Scale(16, 5),
    "natsbench_sss": Scale(16, 1),
    "darts": Scale(36, 20),
    "darts_supercell": Scale(36, 20),
    "mobilenetv3": Scale(16, 5, 224, 3, 1000),
    "resnet": Scale(),
    "resnet4": Scale(),
}
"""Space -> the scale at which its networks were published; parameters and multiply-adds are given for it."""
OWN_SIZE = frozenset({"resnet", "resnet4"})
"""Spaces whose architectures say their width and depth themselves; those of a scale mean nothing there."""
WIDEST: Mapping[str, Mapping[str, Any]] = {"darts": {"preset": "any"}, "darts_supercell": {"none": True}}
"""Settings under which a space holds everything that any paper's variant of it holds."""
DEFAULTS: Mapping[str, Mapping[str, Any]] = {"darts": {"preset": "darts"}, "darts_supercell": {"none": False}}
"""Settings under which random architectures are drawn where nothing is said: the usual variant."""
GENERATORS: Mapping[str, tuple[str, Callable[[np.random.Generator], Arch]]] = {"bpe": ("darts", random_darts)}
"""Name -> (space, how one architecture is drawn)."""


def open_space(name: str, **settings: Any) -> Space:
    """Returns the space called ``name``; without settings the widest variant, which holds those of all papers.

    Raises:
        UnknownNameError: for an unknown space.
        SettingError: for a setting that it does not have.
    """
    try:
        return registry.make("space", name, **(settings or WIDEST.get(name, {})))  # type: ignore[no-any-return]
    except TypeError as error:
        raise SettingError(f"space {name!r}: {error}") from error


def parse(space: Space, text: str) -> Arch:
    """Returns the architecture of ``text``: ``space:1.0.4``, the name of a published one, or the space's own text.

    Raises:
        InvalidArchError: that shows the offending part.
    """
    text = text.strip()
    if text.startswith(f"{space.name}:"):
        arch = parse_choices(text)
        space.validate(arch)
        return arch
    if item := find(text):
        if item.space != space.name:
            raise InvalidArchError(
                f"{item.name} belongs to {item.space or 'no space'}, expected {space.name}"
            )
        text = item.text
    if not isinstance(space, TextSpace):
        raise InvalidArchError(
            f"{text!r} is not an architecture of {space.name}; expected {space.name}:CHOICE.CHOICE..."
        )
    return space.read(text)


def write(space: Space, arch: Arch) -> str:
    """Returns the space's own text of ``arch``, or ``space:1.0.4`` where there is none."""
    return space.write(arch) if isinstance(space, TextSpace) else str(arch)


def scale_of(space_name: str, changes: Mapping[str, int]) -> Scale:
    """Returns the scale at which a space's networks were published, with some values changed."""
    return replace(SCALES.get(space_name, Scale()), **changes)


def at_most(max_params: float) -> Constraint:
    """Returns the rule that a network has at most ``max_params`` parameters at its published scale."""
    return lambda arch: count(arch, scale_of(arch.space, {})).params <= max_params


def resolve(text: str, space_name: str = "") -> tuple[Space, Arch]:
    """Returns space and architecture of a text that says its space itself, or belongs to ``space_name``.

    Raises:
        InvalidArchError: if no space is known or the text does not belong to it.
        UnknownNameError: for an unknown space.
    """
    item = find(text)
    name = space_name or (item.space if item else text.strip().partition(":")[0])
    if not space_name and name not in registry.names("space"):
        raise InvalidArchError(
            f"{text!r} is no name (`archduel list architectures`) and does not say its space; say `--space NAME`, "
            "or write SPACE:CHOICE.CHOICE..."
        )
    space = open_space(name)
    return space, parse(space, text)


def facts(space: Space) -> dict[str, Any]:
    """Returns what is known of a space: size (number of encodings where the docstring says so), decisions, features."""
    arch = sample(space, np.random.default_rng(0))
    return {
        "space": space.name,
        "size": getattr(space, "size", None),
        "kinds": dict(space.kinds),
        "features": int(space.features([arch]).shape[1]),
        "graphs": hasattr(space, "graphs"),
        "about": (type(space).__doc__ or "").strip().splitlines()[0],
        "example": str(arch),
    }


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
        if space.name in COUNTERS:
            row |= count(arch, scale or SCALES.get(space.name, Scale()))._asdict()
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
    from archduel.estimators.importers.columns import read_columns

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
    if name not in GENERATORS:
        raise unknown("generator", name, GENERATORS)
    home, draw = GENERATORS[name]
    if home != space.name:
        raise SettingError(f"generator {name!r} draws in {home}, not in {space.name}")
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
        InfeasibleError: if the constraint cannot be satisfied.
    """
    if n < 1:
        raise SettingError(f"n must be at least 1, got {n}")
    draw = _generator(generator, space) if generator else partial(sample, space, constraint=constraint)
    rng = np.random.default_rng(seed)
    found: dict[str, Arch] = {}
    for _ in range(1_000 + 100 * n):
        arch = draw(rng)
        if constraint is not None and not constraint(arch):
            continue
        found.setdefault(space.fingerprint(arch) if distinct else str(len(found)), arch)
        if len(found) == n:
            return list(found.values())
    raise SettingError(
        f"only {len(found)} of {n} architectures were found; ask for fewer, or loosen the limits"
    )


def settings_of(texts: Sequence[str]) -> dict[str, Any]:
    """Returns the settings of ``KEY=VALUE`` texts; a value is JSON where it can be, otherwise a text.

    Raises:
        SettingError: for another form.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise SettingError(f"{text!r} is not KEY=VALUE")
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    return settings

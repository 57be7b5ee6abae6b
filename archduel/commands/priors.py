"""What an earlier run or a table knows, for the ranker of a new search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from archduel.assemble import USUAL, accepted_partners, collaborator, declaration, derived_seed
from archduel.core import Arch, Costs, Ranker, Space, parse
from archduel.core.disk import read_json
from archduel.errors import RunError, SettingError, TableError
from archduel.rankers.warm import Source, warmed
from archduel.tables.store import known_tables, open_table

__all__ = ["PRIOR", "TEACHER", "labels_of_run", "read_source", "warm_ranker", "warmed_ranker", "winner_of_run", "with_prior"]

PRIOR = "prior"
"""Setting of a ranker, or of a strategy that has one: where it begins."""
TEACHER = "best"
"""The ranker that learns the labels of a source, once a search, whichever one learns those of the search after every few.

Of 60 random labels of CIFAR-100 in NAS-Bench-201 it places the best cell of CIFAR-10 28th of 6,466 (median of 50 draws), a Gaussian process alone 1,971st of 30.
"""
SEPARATOR = "+"
"""Between several sources."""


def read_source(text: str, space: Space, seed: int) -> Source:
    """Returns the labels that ``runs/last``, ``c100.table`` or ``c100.table:60`` (60 of its rows at random) stands for.

    Args:
        text: a run folder, or name or file of a table, then perhaps how many of its labels.
        space: that the architectures must be of.
        seed: of the rows that are drawn.

    Raises:
        RunError: for a folder that is no finished run, or has fewer than two labels in the space.
        SettingError: for more labels than there are.
        TableError: for a table of another space, or without validation values.
        UnknownNameError: for a table that there is not.
    """
    name, _, number = text.rpartition(":")
    if not name or not number.isdigit():
        name, number = text, ""
    if not name:
        raise SettingError("a prior needs a name: the folder of a finished run, or a table such as digits201:60")
    run = Path(name).is_dir() and name not in known_tables()
    source = labels_of_run(Path(name), space) if run else _of_table(name, space)
    if len(source.archs) < 2:
        raise RunError(f"{name} has labels of {len(source.archs)} architectures of space {space.name!r}, too few to begin a search with")
    if not number:
        return source
    if not 2 <= int(number) <= len(source.archs):
        raise SettingError(f"prior {text}: it has {len(source.archs):,} labels, expected a number from 2 to that")
    rows = np.random.default_rng([seed, 23]).permutation(len(source.archs))[: int(number)]
    return Source(text, [source.archs[row] for row in rows.tolist()], np.asarray(source.scores)[rows])


def _of_table(name: str, space: Space) -> Source:
    table = open_table(name)
    if table.space is None or table.space.name != space.name:
        raise TableError(f"prior {name}: the table is of space {table.space.name if table.space else 'unknown'!r}, the search is in {space.name!r}")
    if "validation" not in table.splits:
        raise TableError(f"prior {name}: the table has no validation values, it has {', '.join(table.splits)}")
    scores = table.read("validation")
    there = np.flatnonzero(np.isfinite(scores))
    archs = table.archs
    return Source(name, [archs[row] for row in there.tolist()], scores[there])


def labels_of_run(folder: Path, space: Space) -> Source:
    """Returns the labels of a finished run: of each architecture of ``space`` that it trained the score after the first, equal training.

    Raises:
        RunError: for a folder without the result of a search.
    """
    labels: dict[Arch, float] = {}
    for text, score in _result_of(folder, "search", "random"):
        arch = parse(text)
        if arch.space == space.name and isinstance(score, (int, float)) and np.isfinite(score):
            labels.setdefault(arch, float(score))
    return Source(str(folder), list(labels), list(labels.values()))


def winner_of_run(folder: Path) -> Arch:
    """Returns the architecture that a finished run handed over.

    Raises:
        RunError: for a folder without the result of a search.
    """
    _result_of(folder, "search")
    return parse(read_json(folder / "result.json", {"networks": dict})["networks"]["search"]["arch"])


def _result_of(folder: Path, *parts: str) -> list[list[Any]]:
    path = folder / "result.json"
    if not path.is_file():
        raise RunError(f"{folder} holds no finished search (no result.json) that a new one could begin with")
    result = read_json(path, dict.fromkeys(parts, list))
    return [pair for part in parts for pair in result[part]]


def warm_ranker(name: str, settings: Mapping[str, Any], prior: str, space: Space, *, seed: int, costs: Costs | None = None) -> Ranker:
    """Returns the ranker ``name`` that begins with what ``prior`` names, several sources with + between.

    Raises:
        SettingError: for a ranker that cannot begin with a prior, or settings that it does not have.
    """
    sources = [read_source(part.strip(), space, derived_seed(seed, f"prior/{part}")) for part in prior.split(SEPARATOR)]
    return warmed_ranker({"name": name, **settings}, sources, space, seed=seed, costs=costs)


def warmed_ranker(wanted: str | Mapping[str, Any], sources: Sequence[Source], space: Space, *, seed: int, costs: Costs | None = None) -> Ranker:
    """Returns the ranker ``wanted`` (a name, or a mapping with one and settings) that begins with what ``sources`` know.

    Raises:
        SettingError: for a ranker that cannot begin with a prior, or settings that it does not have.
    """
    make = partial(collaborator, "ranker", wanted, space, seed=seed, costs=costs)
    if not all(source.foretells for source in sources):  # a run goes on as it was begun, whatever is better today
        return warmed(space, make, sources, seed=seed)
    name, settings = (wanted, {}) if isinstance(wanted, str) else (wanted["name"], wanted)
    own = settings if name == TEACHER else {}  # where both are of one kind, both have the settings
    teach = partial(collaborator, "ranker", {**own, "name": TEACHER}, space, seed=seed, costs=costs)
    return warmed(space, make, sources, teach=teach, seed=derived_seed(seed, "prior"))


def with_prior(
    strategy: str, settings: Mapping[str, Any], space: Space, *, seed: int, costs: Costs | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns settings without ``prior``, and the collaborators that it asks for, for :func:`archduel.assemble.assemble`.

    Raises:
        SettingError: for a strategy that has no ranker.
    """
    rest = dict(settings)
    prior = rest.pop(PRIOR, None)
    if not prior:
        return rest, {}
    if "ranker" not in accepted_partners(strategy):
        raise SettingError(f"{strategy}[prior={prior}]: strategy {strategy!r} has no ranker that could begin with a prior")
    wanted = rest.pop("ranker", {**USUAL, **declaration(strategy).partners}["ranker"])
    named = {"name": wanted} if isinstance(wanted, str) else dict(wanted)
    ranker = warm_ranker(named.pop("name"), named, str(prior), space, seed=seed, costs=costs)
    return rest, {"ranker": ranker}

"""Who is compared in `archduel bench rank`, on which labels, and against which truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel import registry
from archduel.apps.assemble import check_keys
from archduel.apps.entries import read_entries
from archduel.core import Arch, Scale, Space
from archduel.errors import SettingError, unknown
from archduel.nets import count
from archduel.rankers.columns import Costs

__all__ = ["PRESETS", "VARIANTS", "Entrant", "Protocol", "Sides", "closed_form_costs", "parse_entrants"]


@dataclass(frozen=True)
class Protocol:
    """How rankers are compared.

    Attributes:
        table: name or file.
        labels: how many are learned from, one comparison each.
        splits: repetitions with other labelled architectures (the first are the same for all numbers of labels).
        learn: ``validation`` or ``test``: what is learned from.
        run: of the labels; None = the mean of the table's runs.
        draw: ``random`` labelled architectures, or the ``first`` of the table.
        judge: ``remaining`` architectures, ``all`` (labelled ones included), or a number of held-out ones.
        seed: of the splits and the rankers.
    """

    table: str
    labels: tuple[int, ...]
    splits: int = 20
    learn: str = "validation"
    run: int | None = None
    draw: str = "random"
    judge: str = "remaining"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.learn not in ("validation", "test") or self.draw not in ("random", "first"):
            raise SettingError("learn is 'validation' or 'test', draw is 'random' or 'first'")
        if self.judge not in ("remaining", "all") and not self.judge.isdigit():
            raise SettingError(f"judge is {self.judge!r}, expected 'remaining', 'all' or a number of architectures")
        if self.splits < 1 or not self.labels or min(self.labels) < 2:
            raise SettingError(
                f"splits must be at least 1 and labels numbers of at least 2; got {self.splits} and {', '.join(map(str, self.labels)) or 'none'}"
            )

    def sides(self, n: int, labels: int, split: int) -> Sides:
        """Returns which of ``n`` architectures are labelled and which judged.

        Raises:
            SettingError: if there are not enough.
        """
        order = np.arange(n) if self.draw == "first" else np.random.default_rng([self.seed, split]).permutation(n)
        held_out = int(self.judge) if self.judge.isdigit() else 2
        if labels + held_out > n:
            raise SettingError(f"{labels} labels leave fewer than {held_out} of {n} architectures to judge")
        rest = order[labels : labels + held_out] if self.judge.isdigit() else order[labels:]
        return Sides(order[:labels], np.arange(n) if self.judge == "all" else rest)


@dataclass(frozen=True)
class Sides:
    """Rows of a table: labelled and judged ones."""

    labelled: NDArray[np.int64]
    judged: NDArray[np.int64]

    def distinct(self, classes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Returns (J,) which judged rows are the first of their class and not equal to a labelled one.

        Args:
            classes: (N,) equal for functionally equal architectures.
        """
        judged = classes[self.judged]
        first = np.zeros(len(judged), np.bool_)
        first[np.unique(judged, return_index=True)[1]] = True
        return first & ~np.isin(judged, classes[self.labelled])


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "nasbench201": {"labels": (78, 156, 469, 781, 1563), "splits": 20},
    "nasbench101": {"labels": (100, 172, 424, 4236), "splits": 20},
    "pinat201": {"labels": (78, 156, 469, 781, 1563), "splits": 20, "judge": "all"},
    "pinat101": {"labels": (100, 172, 424, 4236), "splits": 20, "judge": "all", "run": 0},
    "narformer": {"labels": (78, 156, 469, 781, 1563), "splits": 1, "judge": "all", "draw": "first"},
    "ctnas": {"labels": (423,), "splits": 10, "judge": "100"},
    "graf": {"labels": (32, 128, 1024), "splits": 50, "learn": "test"},
    "emprox": {"labels": (121,), "splits": 20, "judge": "100"},
}
"""Protocols of the literature (the first two are ours): labels, splits, what is learned and judged.

``pinat*``: PINAT and TNASP (one split there); ``narformer``: first entries of the file, one split (extra labelled cells for the
choice of a checkpoint are not given); ``ctnas``: tau on 100 held-out cells; ``graf``: test labels on both sides, unreachable
operations not removed; ``emprox``: the NASLib setting.
"""

VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "best+zc": ("archduel.apps.rank_zero_cost:MeasuredJury", {}),
    "nac-paper": ("nac", {"variant": "paper"}),
    "nac-published": ("nac", {"antisymmetric": False}),
    "renas-1": ("renas", {"tensor": "type", "loss": "mse"}),
    "renas-2": ("renas", {"tensor": "full", "loss": "mse"}),
    "renas-3": ("renas", {"tensor": "type", "loss": "logistic"}),
    "renas-4": ("renas", {"tensor": "full", "loss": "logistic"}),
    "renas-5": ("renas", {"tensor": "type", "loss": "logistic", "consistency": 0.1}),
    "renas-6": ("renas", {"tensor": "full", "loss": "logistic", "consistency": 0.1}),
}
"""Names that stand for a ranker with settings; ``best+zc`` is told its data: ``best+zc[data=digits]``."""

SCALES: Mapping[str, Scale] = {
    "darts": Scale(channels=36, depth=20),
    "darts_supercell": Scale(channels=36, depth=20),
    "mobilenetv3": Scale(image_size=224, n_classes=1000),
}
"""Size of the networks whose costs rankers are given, in spaces whose features do not tell them."""


@dataclass(frozen=True)
class Entrant:
    """A ranker with settings of its own.

    Attributes:
        title: name and settings, such as ``nac[epochs=500]``.
        ranker: its name on the menu.
        settings: a JSON object.
    """

    title: str
    ranker: str
    settings: str = "{}"

    def make(self, space: Space, seed: int) -> Any:
        """Returns a fresh ranker; those that look at closed-form costs are given them."""
        wants = signature(registry.entry("ranker", self.ranker)).parameters
        settings = {**({"seed": seed} if "seed" in wants else {}), **json.loads(self.settings)}
        costs = closed_form_costs(space) if "costs" in wants else None
        return registry.make("ranker", self.ranker, space, *([costs] if costs else []), **settings)


def closed_form_costs(space: Space) -> Costs | None:
    """Returns what gives (N, 2) parameters and multiply-adds of architectures of ``space``, None where features tell them."""
    scale = SCALES.get(space.name)
    if scale is None:
        return None
    one = cache(lambda arch: count(arch, scale))

    def costs(archs: Sequence[Arch]) -> NDArray[np.float64]:
        return np.array([one(arch) for arch in archs], np.float64).reshape(-1, 2)

    return costs


def parse_entrants(text: str) -> list[Entrant]:
    """Returns the rankers of ``best,nac[epochs=500;antisymmetric=false]``.

    Raises:
        SettingError: for text of another form or a ranker that is named twice.
        UnknownNameError: for a name that is not on the menu.
    """
    found = []
    example, menu = "nac[epochs=500]", "archduel list rankers"
    for title, name, given in read_entries(text, "ranker", example=example, menu=menu):
        ranker, settings = VARIANTS.get(name, (name, {}))
        known = registry.names("ranker")
        if ranker not in known and ":" not in ranker:
            raise unknown("ranker", name, [*known, *VARIANTS])
        check_keys("ranker", ranker, given)
        found.append(Entrant(title, ranker, json.dumps({**settings, **given})))
    return found

"""What may be made cheaper in a recipe: hyper-parameters with a few levels each, cheapest first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

from archduel.errors import SettingError, unknown
from archduel.training.recipe import Recipe

__all__ = ["Factor", "Grid", "Setting", "default_factors", "factor"]

Setting = tuple[int, ...]
"""One level a factor."""


@dataclass(frozen=True)
class Factor:
    """A hyper-parameter, or several that change together (batch size and learning rate).

    Attributes:
        name: what it is called.
        levels: recipe settings of each level, cheapest first.
    """

    name: str
    levels: tuple[Mapping[str, Any], ...]

    def __post_init__(self) -> None:
        if not self.levels:
            raise SettingError(f"hyper-parameter {self.name!r} needs at least one level")
        known = {field.name for field in fields(Recipe)}
        for key in (key for level in self.levels for key in level):
            if key not in known:
                raise unknown("setting of a recipe", key, known)

    def label(self, level: int) -> str:
        """Returns the values of a level, such as ``128/0.03``."""
        return "/".join(
            f"{value:g}" if isinstance(value, (int, float)) else str(value) for value in self.levels[level].values()
        )


@dataclass(frozen=True)
class Grid:
    """All recipes that differ from one in some factors.

    Attributes:
        base: what the factors leave open.
        factors: in any order.
    """

    base: Recipe
    factors: tuple[Factor, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many levels each factor has."""
        return tuple(len(factor.levels) for factor in self.factors)

    def __len__(self) -> int:
        return math.prod(self.sizes)

    def settings(self) -> Iterator[Setting]:
        """Yields all settings, the last factor changing fastest."""
        return product(*map(range, self.sizes))

    def changes(self, setting: Setting) -> dict[str, Any]:
        """Returns the recipe settings of ``setting``."""
        merged: dict[str, Any] = {}
        for each, level in zip(self.factors, setting):
            merged |= each.levels[level]
        return merged

    def recipe(self, setting: Setting) -> Recipe:
        """Returns the recipe of ``setting``.

        Raises:
            SettingError: for values that a recipe cannot have.
        """
        return self.base.with_(**self.changes(setting))

    def text(self, setting: Setting) -> str:
        """Returns ``epochs=3 channels=8 batch=128/0.03``."""
        return " ".join(f"{f.name}={f.label(level)}" for f, level in zip(self.factors, setting))

    def read(self, values: Mapping[str, Any]) -> Setting:
        """Returns the setting whose levels have these recipe settings.

        Raises:
            SettingError: if a factor has no such level.
        """
        setting = []
        for each in self.factors:
            wanted = {key: values[key] for key in each.levels[0]}
            matching = [i for i, level in enumerate(each.levels) if dict(level) == wanted]
            if not matching:
                raise SettingError(
                    f"{each.name} has no level {wanted}; it has {[dict(level) for level in each.levels]}"
                )
            setting.append(matching[0])
        return tuple(setting)


def factor(name: str, values: Sequence[Any]) -> Factor:
    """Returns the factor of one recipe setting with these values, cheapest first."""
    return Factor(name, tuple({name: value} for value in values))


def _shares(whole: float, shares: Sequence[float], least: float) -> list[int]:
    """Returns distinct whole numbers: shares of ``whole``, at least ``least``, rising."""
    return sorted({max(math.ceil(least), round(whole * share)) for share in shares})


def default_factors(reference: Recipe, *, n_images: int, accelerator: bool = False, least_depth: int = 1) -> tuple[Factor, ...]:
    """Returns what is tried to make ``reference`` cheaper: BPE's eight hyper-parameters, and the share of the images.

    Epochs down to a sixteenth, depth and channels to a quarter, images to half their side and a quarter of their number, batches
    up to four times as large (the learning rate with them, at most ten times 0.1), without cutout, drop path and auxiliary head,
    and with bfloat16 where there is an accelerator. Hyper-parameters with a single level are left out.

    Args:
        reference: the trusted recipe.
        n_images: training images; batches are at most a tenth of what a level leaves of them.
        accelerator: whether half precision pays.
        least_depth: depth from which on networks tell architectures apart.
    """
    even = sorted({2 * math.ceil(max(4, reference.channels * share) / 2) for share in (0.25, 0.5)} | {reference.channels})
    batches = [
        # the linear rule: the learning rate grows with the batch, but not above 1 unless the reference's is
        {"batch_size": reference.batch_size * times, "lr": min(reference.lr * times, max(1.0, reference.lr))}
        for times in (4, 2, 1)
        if times == 1 or reference.batch_size * times * 10 <= n_images * reference.data_fraction
    ]
    # one factor, not three: all belong to the reference's long training
    extras = {"cutout": 0, "drop_path": 0.0, "auxiliary_weight": 0.0}
    with_extras = {name: getattr(reference, name) for name in extras}
    fractions = [reference.data_fraction * share for share in (0.25, 0.5, 1.0)]
    wanted = (
        factor("epochs", _shares(reference.epochs, (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1), 1)),
        factor("depth", _shares(reference.depth, (0.25, 0.5, 1), min(least_depth, reference.depth))),
        factor("channels", [c for c in even if c <= reference.channels] or [reference.channels]),
        factor("image_size", _shares(reference.image_size, (0.5, 1), min(8, reference.image_size))),
        factor("data_fraction", fractions),
        Factor("batch", tuple(batches)),
        Factor("extras", (extras, with_extras) if extras != with_extras else (extras,)),
        factor("precision", ["bf16", reference.precision] if accelerator and reference.precision == "fp32" else [reference.precision]),
    )
    return tuple(each for each in wanted if len(each.levels) > 1)

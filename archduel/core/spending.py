"""What a strategy says of itself beside its six methods: what it needs, how it goes about it, how it spends what it may.

All of it is optional; nothing is guessed from the names of settings. As class attributes and classmethods::

    class Mine:
        kind = "labels-first"
        partners = {"ranker": {"name": "gp", "share": 0.5}}

        @classmethod
        def spend(cls, allowance, prices=None):
            return {"labels": allowance.evaluations - allowance.proposals}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from archduel.core.space import Space
from archduel.errors import SettingError

__all__ = ["KINDS", "Allowance", "Declaration", "Kind", "Prices", "Probe", "RandomFirst", "declared"]

Kind = Literal["asks", "labels-first", "one-shot"]
"""How a strategy goes about it.

``asks``: it asks for what it wants to know. ``labels-first``: it asks for random architectures, as many as its setting and
attribute ``labels`` says (which may be lowered while it runs), and for what it learned from them afterwards. ``one-shot``: its third
or fourth collaborator is ``shared`` (:class:`archduel.core.SharedEstimator`), and it learns in its steps.
"""
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Prices:
    """What one-shot work costs, all in one unit (seconds, or training batches).

    Attributes:
        learn: a batch that one architecture learns from.
        reward: a score on one validation batch, and a share of a policy update.
        score: a score on all validation images with recalibrated batch norm.
        mix: a batch of a differentiable strategy, both gradients.
    """

    learn: float
    reward: float
    score: float
    mix: float


@dataclass(frozen=True)
class Allowance:
    """What a search may spend; of one-shot searches ``work`` counts, of all others ``evaluations``.

    Attributes:
        evaluations: architectures that are trained alone or looked up.
        proposals: of these, those to keep for what the strategy proposes once it has learned; 0 = they are not its business.
        iterations: steps without evaluations that there is time for; None = they cost nothing (tables), so a paper's own numbers
            stay.
        work: what one-shot work may cost in the unit of the prices.
        batches: of a pass over the training images.
        space: where is searched.
        given: settings of the user, which stay as they are.
    """

    evaluations: int = 0
    proposals: int = 0
    iterations: int | None = None
    work: float = 0.0
    batches: int = 1
    space: Space | None = None
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Probe:
    """Steps of a one-shot strategy that show a price where time is measured: the first warms up, the second counts.

    Attributes:
        price: ``reward`` (on top of learning) or ``mix``.
        settings: of the strategy that makes these steps.
        batches: of a step.
    """

    price: Literal["reward", "mix"]
    settings: Mapping[str, Any]
    batches: int


@runtime_checkable
class RandomFirst(Protocol):
    """A strategy whose first questions are random architectures, which random search at equal cost then need not pay for."""

    @property
    def random_first(self) -> int:
        """How many."""


def _no_settings(allowance: Allowance, prices: Prices | None = None) -> dict[str, Any]:
    return {}


def _as_many_labels(allowance: Allowance, prices: Prices | None = None) -> dict[str, Any]:
    return {"labels": allowance.evaluations - allowance.proposals}


@dataclass(frozen=True)
class Declaration:
    """What a strategy says of itself, defaults filled in.

    Attributes:
        kind: see :data:`Kind`.
        partners: role (``policy``, ``ranker``) -> the name on its menu, or a mapping with a ``name`` and settings, that the strategy
            gets unless its settings say another; for collaborators that its constructor has.
        several: the strategy on the menu that takes its place where there are several objectives; empty = it weighs them itself, or
            is told one number for all.
        compares: whether it makes many steps without any training after its labels and then proposes what is worth one.
        spend: ``(allowance, prices) -> settings`` that cost about as much; prices are None outside one-shot searches.
        learns: ``(settings, allowance) -> batches`` that a one-shot strategy with these settings learns from, the length of the
            learning rate's schedule; None = all that the allowance pays for.
        judges: ``(settings, allowance, validation batches) -> batches`` that a one-shot strategy with these settings judges architectures on.
        mixing: ``(given, options) -> batches``: what a batch of the mixture costs with so many operations an edge, in batches that
            one architecture learns from.
        schedule: of the shared weights' learning rate: ``cosine`` or ``constant``.
        probe: how a price of its own is measured.
    """

    kind: Kind = "asks"
    partners: Mapping[str, str | Mapping[str, Any]] = field(default_factory=dict)
    several: str = ""
    compares: bool = False
    spend: Callable[..., dict[str, Any]] = _no_settings
    learns: Callable[..., int] | None = None
    judges: Callable[..., int] | None = None
    mixing: Callable[..., float] = lambda given, options: float(options)
    schedule: str = "cosine"
    probe: Probe | None = None

    def settings(self, allowance: Allowance, prices: Prices | None = None) -> dict[str, Any]:
        """Returns what the strategy makes of an allowance; of one-shot work nothing is known without prices."""
        return {} if self.kind == "one-shot" and prices is None else self.spend(allowance, prices)


def declared(strategy: Any) -> Declaration:
    """Returns what the class of a strategy declares.

    Raises:
        SettingError: for a declaration of another form.
    """
    kind = getattr(strategy, "kind", "asks")
    if kind not in KINDS:
        raise SettingError(f"{strategy.__name__}.kind is {kind!r}, expected one of {', '.join(KINDS)}")
    names = ["kind", "partners", "several", "compares", "spend", *(("learns", "judges", "mixing", "schedule", "probe") if kind == "one-shot" else ())]
    says = {name: getattr(strategy, name) for name in names if hasattr(strategy, name)}
    partners = says.get("partners", {})
    if not isinstance(partners, Mapping) or not set(partners) <= {"policy", "ranker"}:
        raise SettingError(f"{strategy.__name__}.partners is {partners!r}, expected names for policy and ranker")
    if says.get("compares") and kind != "labels-first":
        raise SettingError(f"{strategy.__name__} compares, which only a strategy of the kind 'labels-first' can; its kind is {kind!r}")
    if kind == "labels-first":
        says.setdefault("spend", _as_many_labels)
    return Declaration(**says)

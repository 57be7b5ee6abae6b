"""Networks that are the beginning of a backbone, or all of it thinned: the architectures that a race begins with, and what a probe says of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from archduel.core import Arch
from archduel.spaces.pretrained.backbones import Backbone, backbone
from archduel.spaces.pretrained.space import HEADS, Plan, plan_of, thinnable

__all__ = ["Proposal", "Seen", "full", "named", "prefix", "prefix_of"]


@dataclass(frozen=True)
class Proposal:
    """Who enters first.

    Attributes:
        role: ``tuned`` (plain fine-tuning of as much of a backbone as the limits allow) or ``search``.
        arch: the architecture.
    """

    role: str
    arch: Arch


@dataclass(frozen=True)
class Seen:
    """What a probe says of one cut of a backbone at one resolution.

    Attributes:
        backbone: its name.
        resolution: side in pixels.
        blocks: how many blocks are kept; one more than there are = with the neck.
        accuracy: share of validation images that a linear probe names rightly.
        score: mean log likelihood, in nats.
        seconds: what a training image costs in a pass without gradients.
        n: validation images.
        evidence: likelihood of training images that were left out, too (:class:`archduel.pretrained.probes.Probe`); None = the score is all there is.
    """

    backbone: str
    resolution: int
    blocks: int
    accuracy: float
    score: float
    seconds: float
    n: int
    evidence: float | None = None

    @property
    def says(self) -> float:
        """Log likelihood by which resolutions are compared, in nats."""
        return self.score if self.evidence is None else self.evidence


def full(source: Backbone, resolution: int, width: float) -> Plan:
    """Returns all stages of a backbone, inner channels thinned where they can be."""
    widths = tuple(width if thinnable(stage) else 1.0 for stage in source.stages)
    return Plan(source.name, resolution, tuple(source.depths), widths, "linear", "all")


def prefix(name: str, resolution: int, blocks: int) -> Plan | None:
    """Returns a backbone that ends after so many blocks (one more than there are: with its neck); None where that is no whole network."""
    source = backbone(name)
    total = sum(source.depths)
    head = HEADS[0] if blocks <= total else "neck"
    depths, left = [], min(blocks, total)
    for depth in source.depths:
        if left > 0:
            depths.append(min(depth, left))
            left -= depth
    if len(depths) < 2:
        return None
    return Plan(name, resolution, tuple(depths), (1.0,) * len(depths), head, "all")


def prefix_of(seen: Seen) -> Plan:
    """Returns the architecture that a probe was made of."""
    plan = prefix(seen.backbone, seen.resolution, seen.blocks)
    assert plan is not None
    return plan


def named(arch: Arch) -> str:
    """Returns what is kept of which network, in words."""
    plan = plan_of(arch)
    total, kept = sum(plan.source.depths), len(plan.kept)
    parts = "all of it" if plan.is_prefix and plan.head == "neck" else f"{kept} of {total} blocks"
    thin = "" if plan.whole_width else f", thinned to {np.mean(plan.widths):.0%}"
    tuned = {"all": "", "half": ", later half trained", "last": ", last stage trained", "head": ", head trained"}[plan.tuned]
    hidden = ", hidden layer" if plan.head == "hidden" else ""
    return f"{plan.backbone} at {plan.resolution} px, {parts}{thin}{hidden}{tuned}"

"""Networks that keep a part of a published one, with its weights in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from archduel.core import Arch, Scale
from archduel.spaces.pretrained.space import Plan, Pretrained, plan_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from archduel.spaces.pretrained.member import Member

__all__ = ["member", "space", "take", "thinned_weights", "weights_for"]


def space(backbones: Sequence[str] = (), resolutions: Sequence[int] = ()) -> Pretrained:
    """Returns the space of what can be kept of these backbones; see :class:`archduel.spaces.pretrained.space.Pretrained`.

    Args:
        backbones: names; empty = all.
        resolutions: sides in pixels; empty = all that the space has.
    """
    return Pretrained(backbones=backbones, resolutions=resolutions)


def member(
    arch: Arch, scale: Scale, mean: Sequence[float], std: Sequence[float], *, generator: torch.Generator, weights: Mapping[str, Tensor] | None = None,
    cache: Path | None = None,
) -> Member:  # fmt: skip
    """Returns the network of an architecture with the backbone's weights in what it keeps; only its head is drawn.

    Args:
        arch: of space ``pretrained``.
        scale: input and classes.
        mean: with which its input is normalised, of values in 0..1, one a channel.
        std: likewise.
        generator: draws the head.
        weights: those of the backbone under our names; None = read (:func:`archduel.pretrained.weights_of`).
        cache: root of the cache, where weights that a user added are; None = the user's.

    Raises:
        DataError: where the weights are not at hand.
        InvalidArchError: for an architecture of another space.
    """
    from archduel.pretrained.weights import weights_of
    from archduel.spaces.family import build

    plan = plan_of(arch)
    model: Member = build(arch, scale, generator=generator)  # type: ignore[assignment]
    take(model, plan, weights_of(plan.backbone, cache=cache) if weights is None else weights)
    model.shown.between(mean, std, plan.source)
    return model


def take(model: Member, plan: Plan, weights: Mapping[str, Tensor]) -> None:
    """Copies the backbone's weights into what is kept of it; of a thinned block the inner channels that say most."""
    import torch

    chosen = weights_for(model, plan, weights)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name in chosen:
                tensor.copy_(chosen[name])


def weights_for(model: Member, plan: Plan, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of stem, kept blocks, and where it is kept the neck, under the names and in the shapes of ``model``."""
    wanted = model.state_dict()
    found = {name: weights[name] for name in wanted if name.startswith(("stem.", "neck.", "head.hidden.")) and _fits(wanted, weights, name)}
    for mine, theirs in enumerate(plan.kept):
        names = {name.removeprefix(f"blocks.{theirs}."): weights[name] for name in weights if name.startswith(f"blocks.{theirs}.")}
        targets = {rest: wanted[f"blocks.{mine}.{rest}"] for rest in names}
        chosen = thinned_weights(plan.source.layout.blocks[theirs].kind, names, targets)
        found |= {f"blocks.{mine}.{rest}": tensor for rest, tensor in chosen.items()}
    return found


def _fits(wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor], name: str) -> bool:
    return name in weights and weights[name].shape == wanted[name].shape


INNER = {
    "separable": (("expand depthwise squeeze.expand", "depthwise.norm.weight", "project.conv.weight", "squeeze.reduce"),),
    "basic": (("layers.0", "layers.0.norm.weight", "layers.1.conv.weight", ""),),
    "bottleneck": (
        ("layers.0", "layers.0.norm.weight", "layers.1.conv.weight", ""), ("layers.1", "layers.1.norm.weight", "layers.2.conv.weight", ""),
    ),
}  # fmt: skip
"""Of each kind of block, for each set of inner channels: whose outputs they are, the norm that scales them, who reads them, who else does."""


def thinned_weights(kind: str, block: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of a block in the shapes of ``targets``: of each set of inner channels those that reach the output most.

    A channel counts by the scale that its batch norm gives it times the weights (their absolute values) that read it.

    Source: the L1 norm of weights as importance, Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, and once-for-all.
    """
    found = dict(block)
    for makers, norm, reader, other in INNER[kind]:
        inner, wanted = block[norm].shape[0], targets[norm].shape[0]
        if inner == wanted:
            continue
        importance = block[norm].abs() * block[reader].abs().flatten(2).sum((0, 2))  # (inner,)
        chosen = importance.topk(wanted).indices.sort().values
        for name in block:
            if name.startswith(tuple(f"{maker}." for maker in makers.split())) and found[name].ndim:
                found[name] = found[name].index_select(0, chosen)
            if name == reader or (other and name == f"{other}.weight"):
                found[name] = found[name].index_select(1, chosen)
    return found

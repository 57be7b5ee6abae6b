"""Measurements of an untrained network on a batch of the user's own images: seconds instead of a training.

==========================  ==================================================================================
name                        what, higher is better unless the task says otherwise
==========================  ==================================================================================
``jacobian_covariance``     how little the input gradients of different images resemble each other (Mellor et al., v1)
``naswot``                  how differently activations are switched for different images (Mellor et al., ICML 2021)
``synflow``                 log of the sum of |weight x gradient| for an image of ones and absolute weights (Tanaka et al.)
``zen``                     log of how far a small change of the input moves the last maps, scaled by the norms (Lin et al.)
``grad_norm``               log of the norm of the loss's gradient
``snip``                    log of the sum of |weight x gradient of the loss| (Lee et al.)
==========================  ==================================================================================

Deviations: sums are given as logarithms, so that orders stay and numbers stay small; ``zen`` takes the maps before the last
adaptive pooling, or the logits of networks that pool in another way.

Sources: Mellor et al., "Neural Architecture Search without Training", ICML 2021; Abdelfattah et al., "Zero-Cost Proxies for
Lightweight NAS", ICLR 2021; Lin et al., "Zen-NAS", ICCV 2021.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archduel.core import Arch, Cost, Estimate, Query, Scale, State
from archduel.errors import SettingError, of_the_machine, unknown
from archduel.spaces import family as nets
from archduel.training.augment import normalise
from archduel.training.images import Pixels
from archduel.training.runtime import mix_seed, seeded_build

__all__ = ["MEASURES", "ZeroCost", "measure"]

MEASURES = ("jacobian_covariance", "naswot", "synflow", "zen", "grad_norm", "snip")
SWITCHES = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.GELU)
"""Layers whose sign of the input ``naswot`` reads."""
TINY = 1e-30
SHIFT = 1e-2
"""Size of the change of the input in ``zen``."""


class ZeroCost:
    """An estimator that trains nothing; the score is one of ``MEASURES``, all of them are among the values.

    Args:
        train: images; a random batch of them is used, the same for every network.
        n_classes: outputs of the networks.
        metric: the measure that is the score.
        channels: width of the measured networks; small ones keep most of the order.
        depth: their depth.
        image_size: side in pixels to which the images are resized.
        batch_size: images, at least 2.
        seed: of the batch and of the weights (with the architecture).
        device: where networks are measured.

    Raises:
        UnknownNameError: for another metric.
        SettingError: for fewer than two images.
    """

    def __init__(
        self,
        train: Pixels,
        *,
        n_classes: int,
        metric: str = "jacobian_covariance",
        channels: int = 8,
        depth: int = 1,
        image_size: int = 16,
        batch_size: int = 32,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        if metric not in MEASURES:
            raise unknown("measure", metric, MEASURES)
        if min(batch_size, len(train)) < 2:
            raise SettingError(f"measures compare images; got a batch of {batch_size} of {len(train)}, expected 2 or more")
        self.metric, self.seed, self.device = metric, seed, torch.device(device)
        self.scale = Scale(channels, depth, image_size, train.in_channels, n_classes)
        rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:batch_size]
        few = train.subset(rows.sort().values).resized(image_size)
        pixels, labels = few.batch(torch.arange(len(few)))
        self._images = normalise(pixels, few.mean, few.std).to(self.device)
        self._labels = labels.to(self.device)

    def judge(self, query: Query) -> Estimate:
        """Returns the estimate of one query; whatever goes wrong with its network becomes the reason of a failure."""
        began = time.perf_counter()
        try:
            values = self.measure(query.arch)
        except Exception as error:
            if of_the_machine(error):
                raise
            return Estimate(math.nan, Cost(time.perf_counter() - began), {}, f"{type(error).__name__}: {error}")
        cost = Cost(time.perf_counter() - began, len(self._labels))
        score = values[self.metric]
        reason = "" if math.isfinite(score) else f"{self.metric} is {score}"
        return Estimate(math.nan if reason else score, cost, values, reason)

    def measure(self, arch: Arch) -> dict[str, float]:
        """Returns all measures of an architecture; the same whatever was measured before.

        Raises:
            InvalidArchError: for an architecture that its space does not hold.
            SettingError: for images too small for the network.
        """
        seed = mix_seed(self.seed, str(arch))
        network = seeded_build(lambda: nets.build(arch, self.scale), seed).to(self.device)
        return measure(network, self._images, self._labels, seed=seed)

    def estimate(self, queries: Sequence[Query]) -> list[Estimate]:
        """Returns one estimate a query."""
        return [self.judge(query) for query in queries]

    def state_dict(self) -> State:
        """Returns nothing: no measurement depends on an earlier one."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Takes nothing."""


def measure(model: nn.Module, images: Tensor, labels: Tensor, *, seed: int) -> dict[str, float]:
    """Returns all ``MEASURES`` of a fresh network, whose weights are spoiled afterwards.

    Args:
        model: gives (B, K) logits.
        images: (B, C, H, W) normalised images.
        labels: (B,) their classes.
        seed: of the noise that ``zen`` looks at.
    """
    model.train()
    values = _by_gradients(model, images, labels)
    values["zen"] = _zen(model, images, seed)
    values["synflow"] = _synflow(model, images)
    return {name: values[name] for name in MEASURES}


def _by_gradients(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Returns what one forward and two backward passes tell."""
    n, codes = len(images), []
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs: codes.append((inputs[0] > 0).flatten(1)))
        for layer in model.modules()
        if isinstance(layer, SWITCHES)
    ]
    x = images.clone().requires_grad_()
    logits = model(x)
    for hook in hooks:
        hook.remove()
    (slopes,) = torch.autograd.grad(logits.sum(), x, retain_graph=True, allow_unused=True)
    slopes = torch.zeros_like(images) if slopes is None else slopes
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(F.cross_entropy(logits, labels), weights, allow_unused=True)
    pairs = [(w.detach(), g) for w, g in zip(weights, gradients) if g is not None]
    same = torch.zeros(n, n, dtype=torch.float64, device=images.device)
    for code in codes:
        sign = 2 * code.float() - 1
        same += ((sign @ sign.T + sign.shape[1]) / 2).double()  # (B, B): how many switches agree
    return {
        "jacobian_covariance": _spread(slopes.flatten(1).double()),
        "naswot": float(torch.linalg.slogdet(same + 1e-3 * torch.eye(n, device=same.device))[1]),
        "grad_norm": _log(sum(float((g.double() ** 2).sum()) for _, g in pairs)) / 2,
        "snip": _log(sum(float((w * g).abs().double().sum()) for w, g in pairs)),
    }


def _spread(rows: Tensor) -> float:
    """Returns how uncorrelated rows are: minus the sum of log(v) + 1 / v over the eigenvalues v of their correlations."""
    rows = rows - rows.mean(1, keepdim=True)
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(TINY)
    values = torch.linalg.eigvalsh(rows @ rows.T).clamp_min(0) + 1e-5
    return -float((values.log() + 1 / values).sum())


def _zen(model: nn.Module, images: Tensor, seed: int) -> float:
    """Returns the zen score of a network in training mode."""
    generator = torch.Generator().manual_seed(seed)
    x, noise = (torch.randn(images.shape, generator=generator).to(images.device) for _ in range(2))
    maps: list[Tensor] = []
    spreads: list[float] = []
    pools = [layer for layer in model.modules() if isinstance(layer, nn.AdaptiveAvgPool2d)]
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    with torch.no_grad():
        hooks = [pool.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0])) for pool in pools[-1:]]
        moved = model(x + SHIFT * noise)
        moved = maps.pop() if maps else moved
        hooks += [
            norm.register_forward_pre_hook(lambda _, inputs: spreads.append(float(inputs[0].var((0, 2, 3)).mean())))
            for norm in norms
        ]
        still = model(x)
        still = maps.pop() if maps else still
    for hook in hooks:
        hook.remove()
    return _log(float((moved - still).abs().mean())) + sum(_log(spread) / 2 for spread in spreads)


def _synflow(model: nn.Module, images: Tensor) -> float:
    """Returns synflow; leaves the network with absolute weights in double precision."""
    model.double().eval()  # fresh batch norms do nothing in evaluation mode
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    with torch.no_grad():
        for weight in weights:
            weight.abs_()
    out = model(torch.ones_like(images[:1], dtype=torch.float64))
    gradients = torch.autograd.grad(out.sum(), weights, allow_unused=True)
    return _log(sum(float((w.detach() * g).abs().sum()) for w, g in zip(weights, gradients) if g is not None))


def _log(value: float) -> float:
    return math.log(max(value, TINY))

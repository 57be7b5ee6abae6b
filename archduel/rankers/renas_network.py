"""The parts of ReNAS: what a space's tensors are, the LeNet-like network, the pairwise losses and the consistency term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from archduel.core import Arch, GraphSpace, Space

__all__ = ["LOSSES", "LeNet", "TensorSpace", "distances", "inconsistency", "pair_loss", "tensors_of"]

LOSSES = ("logistic", "hinge", "exponential", "mse")


@runtime_checkable
class TensorSpace(Protocol):
    """A space that writes its architectures as ReNAS does."""

    def tensors(self, archs: Sequence[Arch], *, costs: bool = True) -> NDArray[np.float32]:
        """Returns (B, C, V, V): what stands on the edge from vertex x to y, C numbers; without costs only types."""


def tensors_of(space: Space, archs: Sequence[Arch], *, costs: bool) -> NDArray[np.float32]:
    """Returns (B, C, V, V): the space's tensors; else its graphs' types; else its features, as (B, F, 1, 1)."""
    if isinstance(space, TensorSpace):
        return space.tensors(archs, costs=costs)
    if isinstance(space, GraphSpace):
        graphs = space.graphs(archs)
        return np.asarray(graphs.adj * graphs.ops[:, :, None, :], np.float32)
    features = np.asarray(space.features(archs), np.float32)
    return features.reshape(*features.shape, 1, 1)


class LeNet(nn.Module):
    """Two convolutions 3x3 with batch norm, then three linear layers; no pooling, no dropout (papers' C -> 2 C -> 128)."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        width = max(38, 2 * channels)
        self.maps = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 128, 3, padding=1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.features = nn.Sequential(
            nn.Linear(128 * side * side, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()
        )
        self.score = nn.Linear(84, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (B,) scores and (B, 84) features of (B, C, V, V)."""
        features = self.features(self.maps(x))
        return self.score(features).squeeze(1), features


def pair_loss(kind: str, scores: Tensor, labels: Tensor) -> Tensor:
    """Returns the mean loss over all ordered pairs of (B,) scores; ties count a constant. ``mse`` looks at each alone."""
    if kind == "mse":
        return F.mse_loss(scores, labels)
    margin = (scores[:, None] - scores) * torch.sign(labels[:, None] - labels)  # (B, B)
    if kind == "logistic":
        losses = F.softplus(-margin)
    else:
        losses = torch.relu(1 - margin) if kind == "hinge" else torch.exp(-margin)
    n = len(labels)
    return (losses.sum() - losses.diagonal().sum()) / (n * (n - 1))


def distances(x: Tensor) -> Tensor:
    """Returns (B, B) Euclidean distances of the flattened rows; its gradient is finite for equal rows too."""
    flat = x.flatten(1)
    squared = (flat * flat).sum(1)
    return (squared[:, None] + squared - 2 * flat @ flat.T).clamp_min(1e-6).sqrt()


def inconsistency(features: Tensor, apart: Tensor) -> Tensor:
    """Returns 1 - the correlation of all distances between features with those between architectures, 0 to 2.

    Args:
        features: (B, D) of the network.
        apart: (B, B) distances between the architectures.
    """
    pairs = ~torch.eye(len(apart), dtype=torch.bool, device=apart.device)
    first, second = distances(features)[pairs], apart[pairs]
    first, second = first - first.mean(), second - second.mean()
    return 1 - (first * second).sum() / (first.norm() * second.norm()).clamp_min(1e-12)

"""The networks of the comparators: an encoder of architectures and the linear head on two of its embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from archduel.core import Arch, GraphSpace, Space

__all__ = ["CellEncoder", "Comparator", "Inputs", "VectorEncoder", "encode", "make_encoder", "reset_uniform"]

Inputs = tuple[Tensor, ...]
"""What an encoder reads: kinds of node and flow matrices, or features; the first axis is the architecture."""


def encode(space: Space, archs: Sequence[Arch], device: torch.device) -> tuple[Inputs, int]:
    """What an encoder reads of ``archs``, and how many kinds of node there are (0 without graphs).

    Graphs become ``ops`` (N, C, V) int64 and ``flow`` (N, C, V, V) float32, row = receiver, with self loops; a space
    without graphs gives its features (N, F) float32.
    """
    if not isinstance(space, GraphSpace):
        return (torch.from_numpy(np.asarray(space.features(archs), np.float32)).to(device),), 0
    # Row = receiver: a node gathers from those that feed it. The released code adds the identity, so that a node also
    # keeps itself, and normalises nothing.
    batch = space.graphs(archs)
    flow = torch.from_numpy(batch.adj).transpose(-1, -2) + torch.eye(batch.adj.shape[-1])
    return (torch.from_numpy(batch.ops).to(device), flow.contiguous().to(device)), batch.n_ops


class CellEncoder(nn.Module):
    """A GCN over each cell, mean over its nodes (padding included), the cells' means side by side.

    Args:
        n_ops: kinds of node, padding included.
        n_cells: cells an architecture.
        dim: width of embedding and layers.
        layers: number of layers.
        residual: the released layer ``relu((A + I) X W + X + b)``; otherwise the paper's, without ``X + b`` and
            without a nonlinearity after the last.
    """

    def __init__(self, n_ops: int, n_cells: int, *, dim: int, layers: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.out_dim = n_cells * dim
        self.embedding = nn.Parameter(torch.empty(n_ops, dim))
        self.weights = nn.ParameterList(torch.empty(dim, dim) for _ in range(layers))
        self.biases = nn.ParameterList(torch.empty(dim) for _ in range(layers if residual else 0))

    def forward(self, ops: Tensor, flow: Tensor) -> Tensor:
        """(B, C * dim) from ``ops`` (B, C, V) int64 and ``flow`` (B, C, V, V): row = receiver, with self loops."""
        batch, cells, nodes = ops.shape
        flow = flow.reshape(batch * cells, nodes, nodes)
        kinds = ops.reshape(batch * cells, nodes)
        x = self.embedding[kinds]  # (B * C, V, dim)
        for i, weight in enumerate(self.weights):
            # The first layer sees n_ops different rows only: they are multiplied once each.
            new = torch.bmm(flow, x @ weight if i else (self.embedding @ weight)[kinds])
            if self.residual:
                x = torch.relu(new + x + self.biases[i])
            else:
                x = torch.relu(new) if i + 1 < len(self.weights) else new
        return x.mean(1).reshape(batch, self.out_dim)  # (B, C * dim)


class VectorEncoder(nn.Module):
    """NAC's form for MobileNetV3: three linear layers with ReLU between, on ``space.features``."""

    def __init__(self, n_features: int, *, dim: int = 512) -> None:
        super().__init__()
        self.out_dim = dim
        sizes = [n_features, dim, dim, dim]
        # Layers draw weights when they are made, from the global generator, which is not ours to move.
        with torch.random.fork_rng(devices=[]):
            linear = [nn.Linear(*pair) for pair in pairwise(sizes)]
        self.layers = nn.Sequential(linear[0], nn.ReLU(), linear[1], nn.ReLU(), linear[2])

    def forward(self, features: Tensor) -> Tensor:
        """(B, dim) from ``features`` (B, F)."""
        return self.layers(features)


def make_encoder(
    width: int, n_ops: int, *, dim: int, layers: int, residual: bool
) -> CellEncoder | VectorEncoder:
    """An encoder of ``width`` cells of ``n_ops`` kinds of node, or of ``width`` features if there are 0 kinds."""
    if n_ops:
        return CellEncoder(n_ops, width, dim=dim, layers=layers, residual=residual)
    return VectorEncoder(width)


class Comparator(nn.Module):
    """An encoder and the linear head on two concatenated embeddings."""

    def __init__(self, encoder: CellEncoder | VectorEncoder, antisymmetric: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.first = nn.Parameter(torch.empty(encoder.out_dim))
        self.second = None if antisymmetric else nn.Parameter(torch.empty(encoder.out_dim))
        self.bias = None if antisymmetric else nn.Parameter(torch.empty(1))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The two halves of the logit: (B,) as first and (B,) as second, bias included."""
        embedding = self.encoder(*inputs)
        first = embedding @ self.first
        if self.second is None or self.bias is None:
            return first, -first
        return first, embedding @ self.second + self.bias

    def at(self, places: Tensor, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Both halves for ``inputs`` at ``places`` (P,); those of pairs repeat, each is encoded once."""
        # A batch and its permutation hold each architecture twice or more, and encoding is nearly all of a step.
        unique, index = torch.unique(places, return_inverse=True)
        if len(unique) == len(places):
            return self(*(tensor[places] for tensor in inputs))  # type: ignore[no-any-return]
        first, second = self(*(tensor[unique] for tensor in inputs))
        return first[index], second[index]


def reset_uniform(model: nn.Module, generator: torch.Generator) -> None:
    """Draws all parameters as the released comparator does: embeddings of kinds of node from N(0, 1), others from U(-1/sqrt(d), 1/sqrt(d)).

    d is the size of the last dimension.
    """
    embeddings = {id(module.embedding) for module in model.modules() if isinstance(module, CellEncoder)}
    # Drawn on the CPU and copied, so that one seed means the same weights on every device.
    for parameter in model.parameters():
        drawn, bound = torch.empty(parameter.shape), parameter.shape[-1] ** -0.5
        normal = id(parameter) in embeddings
        parameter.data.copy_(drawn.normal_(generator=generator) if normal else drawn.uniform_(-bound, bound, generator=generator))

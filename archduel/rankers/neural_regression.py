"""Neural baselines that regress labels with squared error: a GCN (the twin of NAC) and a one-hot MLP.

Both see what the comparator sees. The GCN has NAC's encoder, optimizer and schedule; only the loss and the head differ, so
what separates the two is comparing instead of regressing. The MLP sees the flat adjacency matrix and one-hot operations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from archduel.core import Arch, GraphSpace, Space
from archduel.errors import SettingError
from archduel.rankers.networks import Inputs, make_encoder
from archduel.rankers.squared_error import Fitting, NeuralRegression

__all__ = ["GCN", "OneHotMLP"]


class GCN(NeuralRegression):
    """NAC's encoder with a linear head that regresses labels.

    Args:
        space: the space; its graphs are used where it has them, otherwise its features.
        layers: number of GCN layers (residual, as in NAC's released form).
        embedding_dim: width of the GCN (the vector form is 512 wide).
        epochs: passes over the labels.
        lr: Adam's learning rate.
        weight_decay: Adam's L2 penalty.
        batch_size: labelled architectures a batch.
        seed: of weights and batches.
        device: where the network runs.

    Raises:
        SettingError: for settings out of range.
    """

    def __init__(
        self,
        space: Space,
        *,
        layers: int = 4,
        embedding_dim: int = 128,
        epochs: int = 1000,
        lr: float = 2e-4,
        weight_decay: float = 5e-4,
        batch_size: int = 256,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        if min(layers, embedding_dim) < 1:
            raise SettingError(
                f"layers and embedding_dim must be at least 1, got {layers} and {embedding_dim}"
            )
        self.layers, self.embedding_dim = layers, embedding_dim
        super().__init__(space, Fitting(epochs, lr, weight_decay, batch_size, seed, device))

    def _network(self, inputs: Inputs, n_ops: int) -> nn.Module:
        encoder = make_encoder(
            inputs[0].shape[1], n_ops, dim=self.embedding_dim, layers=self.layers, residual=True
        )
        return _Headed(encoder, nn.Linear(encoder.out_dim, 1))


class _Headed(nn.Module):
    """An encoder and a linear layer."""

    def __init__(self, encoder: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, *inputs: Tensor) -> Tensor:
        """Returns (B, 1)."""
        return self.head(self.encoder(*inputs))


class OneHotMLP(NeuralRegression):
    """Two hidden layers on one-hot operations and the adjacency matrix (or on features, where there are no graphs).

    Args:
        space: the space.
        width: units of a hidden layer.
        epochs: passes over the labels.
        lr: Adam's learning rate.
        weight_decay: Adam's L2 penalty.
        batch_size: labelled architectures a batch.
        seed: of weights and batches.
        device: where the network runs.

    Raises:
        SettingError: for settings out of range.
    """

    def __init__(
        self,
        space: Space,
        *,
        width: int = 128,
        epochs: int = 300,
        lr: float = 1e-3,
        weight_decay: float = 5e-4,
        batch_size: int = 256,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        if width < 1:
            raise SettingError(f"width must be at least 1, got {width}")
        self.width = width
        super().__init__(space, Fitting(epochs, lr, weight_decay, batch_size, seed, device))

    def _inputs(self, archs: Sequence[Arch]) -> tuple[Inputs, int]:
        if not isinstance(self.space, GraphSpace):
            return super()._inputs(archs)
        graphs = self.space.graphs(archs)
        above = np.triu_indices(graphs.adj.shape[-1], 1)
        kinds = np.eye(graphs.n_ops, dtype=np.float32)[graphs.ops].reshape(
            len(archs), -1
        )  # (B, C * V * n_ops)
        edges = graphs.adj[..., above[0], above[1]].reshape(len(archs), -1)  # (B, C * V (V - 1) / 2)
        return (torch.from_numpy(np.concatenate([kinds, edges], 1)).to(self.device),), 0

    def _network(self, inputs: Inputs, n_ops: int) -> nn.Module:
        first, hidden = nn.Linear(inputs[0].shape[1], self.width), nn.Linear(self.width, self.width)
        return nn.Sequential(first, nn.ReLU(), hidden, nn.ReLU(), nn.Linear(self.width, 1))

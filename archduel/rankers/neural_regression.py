"""Neural baselines that regress labels with squared error: a GCN (the twin of NAC) and a one-hot MLP.

Both see what the comparator sees. The GCN has NAC's encoder, optimizer and schedule; only the loss and the head differ, so
what separates the two is comparing instead of regressing (RegressionNAS of the CTNAS paper). The MLP sees the flat adjacency
matrix and one-hot operations.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from archduel.core import Arch, GraphSpace, Space, State, parse
from archduel.errors import StateError, check_at_least, check_positive
from archduel.rankers.labels import Pairs, ScoreRanker, WinCurve, check_archs, check_labels, each_once
from archduel.rankers.networks import Inputs, encode, make_encoder, reset_uniform

__all__ = ["GCN", "Fitting", "NeuralRegression", "OneHotMLP"]

Matrix = NDArray[np.float64]
# Architectures scored at a time, which bounds the memory of a query for a whole space.
CHUNK = 4096


class _Fit(NamedTuple):
    """A trained network, the labels it was trained on, and the win probabilities that follow."""

    model: nn.Module
    archs: list[Arch]
    labels: Matrix
    wins: WinCurve


@dataclass(frozen=True)
class Fitting:
    """How a network is fitted.

    Attributes:
        epochs: passes over the labels.
        lr: Adam's learning rate.
        weight_decay: Adam's L2 penalty.
        batch_size: labelled architectures a batch.
        seed: of weights and batches.
        device: where the network runs.

    Raises:
        SettingError: for settings out of range.
    """

    epochs: int
    lr: float
    weight_decay: float
    batch_size: int
    seed: int
    device: str

    def __post_init__(self) -> None:
        check_at_least(1, epochs=self.epochs, batch_size=self.batch_size)
        check_positive(lr=self.lr)
        check_at_least(0, weight_decay=self.weight_decay)


class NeuralRegression(ScoreRanker[_Fit]):
    """A ranker by squared error on standardised labels with Adam; what is left to say is which network.

    Args:
        space: the space.
        fitting: how the network is fitted.
    """

    noun = "network"

    def __init__(self, space: Space, fitting: Fitting) -> None:
        self.space, self.fitting, self.device = space, fitting, torch.device(fitting.device)
        self._fit: _Fit | None = None

    def _inputs(self, archs: Sequence[Arch]) -> tuple[Inputs, int]:
        """What the network reads of ``archs``, and how many kinds of node there are (0 without graphs)."""
        return encode(self.space, archs, self.device)

    @abstractmethod
    def _network(self, inputs: Inputs, n_ops: int) -> nn.Module:
        """A network for such inputs, (B, ...) -> (B, 1); its first weights are drawn later."""

    def _fresh(self, inputs: Inputs, n_ops: int) -> nn.Module:
        """A network with first weights of the seed."""
        # Layers draw weights when they are made, from the global generator, which is not ours to move.
        with torch.random.fork_rng(devices=[]):
            model = self._network(inputs, n_ops)
        reset_uniform(model, torch.Generator().manual_seed(self.fitting.seed))
        return model.to(self.device)

    def fit(
        self, archs: Sequence[Arch], scores: Sequence[float] | Matrix, *, pairs: Pairs | None = None
    ) -> Mapping[str, float]:
        """The last ``loss`` in squared standard deviations, after learning from scratch; ``pairs`` are not used.

        An architecture that is given several times counts once, with the mean of its labels.

        Raises:
            InvalidArchError: if an architecture does not belong to the space.
            SettingError: for labels that are not finite, or fewer than two distinct ones.
        """
        unique, labels = check_labels(self.space, archs, scores)
        inputs, n_ops = self._inputs(unique)
        model = self._fresh(inputs, n_ops)
        # The comparator's optimizer (CTNAS), so that the loss is all that differs between the twins.
        adam = torch.optim.Adam(
            model.parameters(), lr=self.fitting.lr, betas=(0.5, 0.999), weight_decay=self.fitting.weight_decay, foreach=True
        )
        y = torch.from_numpy((labels - labels.mean()) / labels.std()).float().to(self.device)
        # Another seed than the first weights', so that the order of batches is not made of the same numbers.
        generator, loss = torch.Generator().manual_seed(self.fitting.seed + 1), torch.zeros(())
        for _ in range(self.fitting.epochs):
            order = torch.randperm(len(y), generator=generator).to(self.device)
            for batch in order.split(self.fitting.batch_size):
                loss = F.mse_loss(model(*(tensor[batch] for tensor in inputs)).squeeze(1), y[batch])
                adam.zero_grad()
                loss.backward()
                adam.step()
        self._fit = self._fit_of(model, unique, labels)
        return {"loss": float(loss.detach())}

    def _fit_of(
        self, model: nn.Module, archs: list[Arch], labels: Matrix, steepness: float | None = None
    ) -> _Fit:
        wins = WinCurve(self.predict, self._relearn, labels, seed=self.fitting.seed, steepness=steepness)
        return _Fit(model, archs, labels, wins)

    def predict(self, archs: Sequence[Arch]) -> Matrix:
        """(N,) scores in the unit of the labels; each distinct architecture is encoded once.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        fit = self._require_fit()

        def score(part: list[Arch]) -> Matrix:
            inputs, _ = self._inputs(part)
            with torch.inference_mode():
                return np.asarray(fit.model(*inputs).squeeze(1).double().cpu().numpy())

        return fit.labels.mean() + fit.labels.std() * each_once(self.space, archs, score, CHUNK)

    def state_dict(self) -> State:
        """Weights and labels."""
        if self._fit is None:
            return {}
        return {"model": dict(self._fit.model.state_dict()), **self._labelled_state()}

    def load_state_dict(self, state: State) -> None:
        """Takes what another learned.

        Raises:
            StateError: if the state is of other settings.
            InvalidArchError: if it is of another space.
        """
        self._fit = None
        if not state:
            return
        archs = [parse(text) for text in state["archs"]]
        check_archs(self.space, archs)
        model = self._fresh(*self._inputs(archs[:1]))
        try:
            model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise StateError(f"the saved network has other settings than this one: {error}") from error
        self._fit = self._fit_of(model, archs, np.asarray(state["labels"]), state["slope"])


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
        check_at_least(1, layers=layers, embedding_dim=embedding_dim)
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
        """(B, 1) predictions of standardised labels."""
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
        check_at_least(1, width=width)
        self.width = width
        super().__init__(space, Fitting(epochs, lr, weight_decay, batch_size, seed, device))

    def _inputs(self, archs: Sequence[Arch]) -> tuple[Inputs, int]:
        if not isinstance(self.space, GraphSpace):
            return super()._inputs(archs)
        graphs = self.space.graphs(archs)
        # Edges go from lower to higher vertices only: the lower half of the matrix is always 0.
        above = np.triu_indices(graphs.adj.shape[-1], 1)
        kinds = np.eye(graphs.n_ops, dtype=np.float32)[graphs.ops].reshape(
            len(archs), -1
        )  # (B, C * V * n_ops)
        edges = graphs.adj[..., above[0], above[1]].reshape(len(archs), -1)  # (B, C * V (V - 1) / 2)
        return (torch.from_numpy(np.concatenate([kinds, edges], 1)).to(self.device),), 0

    def _network(self, inputs: Inputs, n_ops: int) -> nn.Module:
        first, hidden = nn.Linear(inputs[0].shape[1], self.width), nn.Linear(self.width, self.width)
        return nn.Sequential(first, nn.ReLU(), hidden, nn.ReLU(), nn.Linear(self.width, 1))

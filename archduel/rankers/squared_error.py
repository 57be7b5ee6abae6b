"""Networks that regress labels with squared error: everything but the network itself."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from archduel.core import Arch, Space, State, parse
from archduel.errors import SettingError, StateError
from archduel.rankers.labels import Pairs, check_archs, check_labels, distinct
from archduel.rankers.networks import Inputs, encode
from archduel.rankers.slope import ByScores

__all__ = ["Fitting", "NeuralRegression"]

Matrix = NDArray[np.float64]


class _Learned(NamedTuple):
    """A trained network and the labels it was trained on."""

    model: nn.Module
    archs: list[Arch]
    labels: Matrix


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
        if min(self.epochs, self.batch_size) < 1 or self.lr <= 0 or self.weight_decay < 0:
            raise SettingError(
                f"epochs and batch_size must be at least 1, lr above 0, weight_decay at least 0; "
                f"got {self.epochs}, {self.batch_size}, {self.lr}, {self.weight_decay}"
            )


class NeuralRegression(ByScores):
    """Squared error on standardised labels, Adam, the ranker's methods; what is left is which network.

    Args:
        space: the space.
        fitting: how the network is fitted.
    """

    def __init__(self, space: Space, fitting: Fitting) -> None:
        self.space, self.fitting, self.device = space, fitting, torch.device(fitting.device)
        self._learned: _Learned | None = None

    def _inputs(self, archs: Sequence[Arch]) -> tuple[Inputs, int]:
        """Returns what the network reads of ``archs`` and how many kinds of node there are (0 without graphs)."""
        return encode(self.space, archs, self.device)

    @abstractmethod
    def _network(self, inputs: Inputs, n_ops: int) -> nn.Module:
        """Returns a network for such inputs, (B, ...) -> (B, 1); its first weights are drawn later."""

    def _fresh(self, inputs: Inputs, n_ops: int) -> nn.Module:
        """Returns a network with weights from U(-1/sqrt(d), 1/sqrt(d)), d the number of inputs of a unit."""
        generator = torch.Generator().manual_seed(self.fitting.seed)
        with torch.random.fork_rng(devices=[]):  # torch's own first draw must not move the global state
            model = self._network(inputs, n_ops)
        for parameter in model.parameters():
            bound = parameter.shape[-1] ** -0.5
            parameter.data.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
        return model.to(self.device)

    def fit(
        self, archs: Sequence[Arch], scores: Sequence[float] | Matrix, *, pairs: Pairs | None = None
    ) -> Mapping[str, float]:
        """Learns from scratch; ``pairs`` are not used. Returns the last ``loss``, in squared standard deviations.

        An architecture that is given several times counts once, with the mean of its labels.

        Raises:
            InvalidArchError: if an architecture does not belong to the space.
            SettingError: for labels that are not finite, or fewer than two distinct ones.
        """
        unique, labels = check_labels(self.space, archs, scores)
        inputs, n_ops = self._inputs(unique)
        model = self._fresh(inputs, n_ops)
        adam = torch.optim.Adam(
            model.parameters(), lr=self.fitting.lr, betas=(0.5, 0.999), weight_decay=self.fitting.weight_decay, foreach=True
        )
        y = torch.from_numpy((labels - labels.mean()) / labels.std()).float().to(self.device)
        generator, loss = torch.Generator().manual_seed(self.fitting.seed + 1), torch.zeros(())
        for _ in range(self.fitting.epochs):
            order = torch.randperm(len(y), generator=generator).to(self.device)
            for batch in order.split(self.fitting.batch_size):
                loss = F.mse_loss(model(*(tensor[batch] for tensor in inputs)).squeeze(1), y[batch])
                adam.zero_grad()
                loss.backward()
                adam.step()
        self._learned, self._slope = _Learned(model, unique, labels), None
        return {"loss": float(loss.detach())}

    def predict(self, archs: Sequence[Arch]) -> Matrix:
        """Returns (N,) scores in the unit of the labels; each distinct architecture is encoded once.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        known = self._known()
        check_archs(self.space, archs)
        unique, index = distinct(archs)
        found = [np.empty(0)]
        with torch.inference_mode():
            for start in range(0, len(unique), 4096):
                inputs, _ = self._inputs(unique[start : start + 4096])
                found.append(known.model(*inputs).squeeze(1).double().cpu().numpy())
        return np.asarray(known.labels.mean() + known.labels.std() * np.concatenate(found)[index])

    def _known(self) -> _Learned:
        if self._learned is None:
            raise StateError("the network has learned nothing yet; call fit first")
        return self._learned

    def _lesson(self) -> tuple[Matrix, int]:
        return self._known().labels, self.fitting.seed

    def _held_out(self, kept: NDArray[np.int64], out: NDArray[np.int64]) -> Matrix:
        known, twin = self._known(), copy.copy(self)
        twin.fit([known.archs[i] for i in kept], known.labels[kept])
        return twin.predict([known.archs[i] for i in out])

    def state_dict(self) -> State:
        """Returns weights and labels."""
        if self._learned is None:
            return {}
        model, archs, labels = self._learned
        labelled = {"archs": [str(arch) for arch in archs], "labels": labels, "slope": self._slope}
        return {"model": dict(model.state_dict()), **labelled}

    def load_state_dict(self, state: State) -> None:
        """Takes what another learned.

        Raises:
            StateError: if the state is of other settings.
            InvalidArchError: if it is of another space.
        """
        self._learned, self._slope = None, None
        if not state:
            return
        archs = [parse(text) for text in state["archs"]]
        check_archs(self.space, archs)
        model = self._fresh(*self._inputs(archs[:1]))
        try:
            model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise StateError(f"the saved network has other settings than this one: {error}") from error
        self._learned, self._slope = _Learned(model, archs, np.asarray(state["labels"])), state["slope"]

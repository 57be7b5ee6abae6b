"""The relativistic predictor of ReNAS: a small network that scores architectures so that their order is right.

Xu et al., "ReNAS: Relativistic Evaluation of Neural Architecture Search", CVPR 2021.

==================  ====================================================================
paper               here
==================  ====================================================================
feature tensor      ``space.tensors``: 19 x 7 x 7 (NAS-Bench-101), 31 x 4 x 4 (NAS-Bench-201)
phi                 ``loss``: logistic, hinge or exponential, of (o_i - o_j) sign(y_i - y_j)
L1                  mean of phi over all ordered pairs of a batch
L2, lambda          the consistency term and its weight ``consistency``
ReNAS-1 ... 6       ``VARIANTS[1]`` ... ``VARIANTS[6]``
==================  ====================================================================

Deviations from the paper and the released code:

1. Labels are what ``fit`` is given, validation accuracies in this program; the released code learns test accuracies.
2. The paper's consistency term compares distances of features with distances of architectures; how is not published in what
   could be read. Here L2 = 1 - correlation of the two over all pairs of a batch.
3. What the variants 1 to 6 are is inferred from the paper's text: odd = types only, even = all; MSE, pairwise, both terms.
4. DARTS cells have a form of our own, spaces without tensors show their graphs' types or, without graphs, their features.
5. The first convolution has at least 38 maps, also where a tensor has one channel (types only).
6. Weights are kept by rank agreement with the labels learned from, as released, in every ``check``-th epoch only.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from archduel.core import Arch, Space, State, parse
from archduel.errors import SettingError, StateError
from archduel.rankers.labels import Pairs, check_archs, check_labels, distinct
from archduel.rankers.renas_network import LOSSES, LeNet, distances, inconsistency, pair_loss, tensors_of
from archduel.rankers.slope import ByScores

__all__ = ["VARIANTS", "ReNAS"]

Matrix = NDArray[np.float64]
VARIANTS: Mapping[int, Mapping[str, Any]] = {
    1: {"tensor": "type", "loss": "mse"},
    2: {"tensor": "full", "loss": "mse"},
    3: {"tensor": "type", "loss": "logistic"},
    4: {"tensor": "full", "loss": "logistic"},
    5: {"tensor": "type", "loss": "logistic", "consistency": 0.1},
    6: {"tensor": "full", "loss": "logistic", "consistency": 0.1},
}
"""Settings of the paper's ablation, ReNAS-1 to ReNAS-6."""
NATIVE = {"logistic": 1.0, "exponential": 2.0}
"""Slope of the win probability that minimises a loss; other losses have none of their own."""


class _Lesson(NamedTuple):
    """Standardised tensors (N, C, V, V) and labels (N,) in 0..1."""

    x: Tensor
    y: Tensor


class _Scale(NamedTuple):
    """Where the entries of the tensors lie, (C, V, V) each; entries that never change count 0."""

    mean: Tensor
    factor: Tensor


class ReNAS(ByScores):
    """Learns scores from the pairwise order of labels.

    Win probabilities are those that the logistic or exponential loss is made for; the other losses have none, so that held-out
    labels tell how far differences of scores can be trusted.

    Args:
        space: the space; see :func:`archduel.rankers.renas_network.tensors_of` for what the network sees of it.
        loss: ``logistic``, ``hinge``, ``exponential`` (of pairs) or ``mse`` (of labels scaled to 0..1).
        tensor: ``full``, or ``type`` without multiply-adds and parameters.
        consistency: weight of the consistency term.
        epochs: passes over the labels.
        lr: Adam's learning rate.
        weight_decay: Adam's L2 penalty.
        batch_size: labelled architectures a batch.
        check: epochs from one measurement of rank agreement to the next; the best weights measured are kept. 0 = the last.
        seed: of weights and batches.
        device: where the network runs.

    Raises:
        SettingError: for settings out of range.
    """

    def __init__(
        self,
        space: Space,
        *,
        loss: str = "logistic",
        tensor: str = "full",
        consistency: float = 0.0,
        epochs: int = 200,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        batch_size: int = 1024,
        check: int = 10,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        if loss not in LOSSES:
            raise SettingError(f"loss is {loss!r}, expected one of {', '.join(LOSSES)}")
        if tensor not in ("full", "type"):
            raise SettingError(f"tensor is {tensor!r}, expected 'full' or 'type'")
        if min(epochs, batch_size - 1) < 1 or min(consistency, weight_decay, check) < 0 or lr <= 0:
            raise SettingError(
                "epochs must be at least 1, batch_size at least 2, lr above 0, consistency, weight_decay and check not below 0"
            )
        self.space, self.loss, self.tensor, self.consistency = space, loss, tensor, consistency
        self.epochs, self.lr, self.weight_decay, self.batch_size = epochs, lr, weight_decay, batch_size
        self.check, self.seed, self.device = check, seed, torch.device(device)
        self._model: LeNet | None = None
        self._scale: _Scale | None = None
        self._archs: list[Arch] = []
        self._labels: Matrix = np.empty(0)

    def fit(
        self, archs: Sequence[Arch], scores: Sequence[float] | Matrix, *, pairs: Pairs | None = None
    ) -> Mapping[str, float]:
        """Learns from scratch; ``pairs`` are not used. Returns the last epoch's ``loss``.

        An architecture that is given several times counts once, with the mean of its labels.

        Raises:
            InvalidArchError: if an architecture does not belong to the space.
            SettingError: for labels that are not finite, or fewer than two distinct ones.
        """
        self._archs, self._labels = check_labels(self.space, archs, scores)
        self._slope = NATIVE.get(self.loss)
        x = self._tensors(self._archs)
        mean, spread = x.mean(0), x.std(0, correction=0)
        self._scale = _Scale(mean, torch.where(spread > 1e-9, 1 / spread.clamp_min(1e-9), 0.0))
        y = (self._labels - self._labels.min()) / np.ptp(self._labels)
        lesson = _Lesson((x - mean) * self._scale.factor, torch.from_numpy(y).float().to(self.device))
        self._model = self._fresh(x.shape[1], x.shape[2])
        return {"loss": self._learn(self._model, lesson)}

    def _tensors(self, archs: Sequence[Arch]) -> Tensor:
        return torch.from_numpy(tensors_of(self.space, archs, costs=self.tensor == "full")).to(self.device)

    def _fresh(self, channels: int, side: int) -> LeNet:
        """Returns a network with weights from U(-1/sqrt(d), 1/sqrt(d)), d the number of inputs of a unit."""
        generator = torch.Generator().manual_seed(self.seed)
        with torch.random.fork_rng(devices=[]):  # torch's own first draw must not move the global state
            model = LeNet(channels, side)
        for module in model.modules():
            if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
                bound = module.weight[0].numel() ** -0.5
                for parameter in module.parameters():
                    parameter.data.uniform_(-bound, bound, generator=generator)
        return model.to(self.device)

    def _learn(self, model: LeNet, lesson: _Lesson) -> float:
        """Trains ``model``, leaves the best weights in it and returns the last epoch's loss."""
        adam = torch.optim.Adam(model.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        generator = torch.Generator().manual_seed(self.seed + 1)
        best, kept = -np.inf, copy.deepcopy(model.state_dict())
        loss = torch.zeros(())
        for epoch in range(1, self.epochs + 1):
            model.train()
            order = torch.randperm(len(lesson.y), generator=generator).to(self.device)
            for batch in order.split(self.batch_size):
                if len(batch) > 1:  # one alone has no order, and no batch statistics
                    loss = self._step(model, adam, lesson.x[batch], lesson.y[batch])
            if self.check and (epoch % self.check == 0 or epoch == self.epochs):
                tau = _agreement(_scored(model, lesson.x), lesson.y)
                if tau > best:
                    best, kept = tau, copy.deepcopy(model.state_dict())
        if self.check:
            model.load_state_dict(kept)
        return float(loss)

    def _step(self, model: LeNet, adam: torch.optim.Adam, x: Tensor, y: Tensor) -> Tensor:
        scores, features = model(x)
        loss = pair_loss(self.loss, scores, y)
        if self.consistency:
            loss = loss + self.consistency * inconsistency(features, distances(x))
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss.detach()

    def predict(self, archs: Sequence[Arch]) -> Matrix:
        """Returns (N,) scores; each distinct architecture is scored once.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        if self._model is None or self._scale is None:
            raise StateError("the predictor has learned nothing yet; call fit first")
        check_archs(self.space, archs)
        unique, index = distinct(archs)
        found = [np.empty(0)]
        for start in range(0, len(unique), 2048):
            x = self._tensors(unique[start : start + 2048])
            found.append(
                _scored(self._model, (x - self._scale.mean) * self._scale.factor).double().cpu().numpy()
            )
        return np.concatenate(found)[index]

    def _lesson(self) -> tuple[Matrix, int]:
        return self._labels, self.seed

    def _held_out(self, kept: NDArray[np.int64], out: NDArray[np.int64]) -> Matrix:
        twin = copy.copy(self)
        twin.fit([self._archs[i] for i in kept], self._labels[kept])
        return twin.predict([self._archs[i] for i in out])

    def state_dict(self) -> State:
        """Returns weights, scale and labels."""
        if self._model is None or self._scale is None:
            return {}
        labelled = {
            "archs": [str(arch) for arch in self._archs],
            "labels": self._labels,
            "slope": self._slope,
        }
        return {"model": dict(self._model.state_dict()), "scale": list(self._scale), **labelled}

    def load_state_dict(self, state: State) -> None:
        """Takes what another learned.

        Raises:
            StateError: if the state is of other settings or another space.
        """
        self._model = self._scale = self._slope = None
        if not state:
            return
        mean, factor = (tensor.to(self.device) for tensor in state["scale"])
        model = self._fresh(mean.shape[0], mean.shape[1])
        archs = [parse(text) for text in state["archs"]]
        check = self._tensors(archs[:1])
        if check.shape[1:] != mean.shape or archs[0].space != self.space.name:
            raise StateError(
                f"the saved predictor reads tensors {tuple(mean.shape)} of {archs[0].space}, "
                f"this one {tuple(check.shape[1:])} of {self.space.name}"
            )
        model.load_state_dict(state["model"])
        self._model, self._scale, self._slope = model, _Scale(mean, factor), state["slope"]
        self._archs, self._labels = archs, np.asarray(state["labels"])


def _scored(model: LeNet, x: Tensor) -> Tensor:
    """Returns (N,) scores of standardised tensors."""
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(part)[0] for part in x.split(2048)])


def _agreement(scores: Tensor, labels: Tensor) -> float:
    """Returns Kendall's tau-b."""
    from scipy.stats import kendalltau

    return float(kendalltau(scores.cpu().numpy(), labels.cpu().numpy()).statistic)

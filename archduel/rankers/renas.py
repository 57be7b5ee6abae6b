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
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from archduel.core import Arch, GraphSpace, Space, State, parse
from archduel.errors import SettingError, StateError, check_at_least, check_positive
from archduel.rankers.labels import Pairs, ScoreRanker, WinCurve, check_labels, each_once

__all__ = [
    "LOSSES", "VARIANTS", "LeNet", "ReNAS", "TensorSpace", "distances", "inconsistency", "pair_loss", "tensors_of",
]  # fmt: skip

Matrix = NDArray[np.float64]
LOSSES = ("logistic", "hinge", "exponential", "mse")
# Settings of the paper's ablation, ReNAS-1 to ReNAS-6, as far as its text tells. The weight of the consistency term could not be
# read anywhere: both terms are near 1 before training, and 0.1 leaves the order of labels in charge.
VARIANTS: Mapping[int, Mapping[str, Any]] = {
    1: {"tensor": "type", "loss": "mse"},
    2: {"tensor": "full", "loss": "mse"},
    3: {"tensor": "type", "loss": "logistic"},
    4: {"tensor": "full", "loss": "logistic"},
    5: {"tensor": "type", "loss": "logistic", "consistency": 0.1},
    6: {"tensor": "full", "loss": "logistic", "consistency": 0.1},
}
# The steepness of the win probability that a loss is made for: if the first wins with probability p, the expected loss
# p phi(d) + (1 - p) phi(-d) is least at d = log(p / (1 - p)) for log(1 + exp(-d)), at half of that for exp(-d). Hinge and
# squared error are least at a sign and at a label, from which no probability follows.
NATIVE = {"logistic": 1.0, "exponential": 2.0}
# Architectures scored at a time, which bounds the memory of a query for a whole space.
CHUNK = 2048


@runtime_checkable
class TensorSpace(Protocol):
    """A space that writes its architectures as tensors, as ReNAS does."""

    def tensors(self, archs: Sequence[Arch], *, costs: bool = True) -> NDArray[np.float32]:
        """(B, C, V, V): what stands on the edge from vertex x to y, C numbers; without costs only types."""


def tensors_of(space: Space, archs: Sequence[Arch], *, costs: bool) -> NDArray[np.float32]:
    """(B, C, V, V): the space's tensors; else its graphs' types; else its features, as (B, F, 1, 1)."""
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
        # 38 = twice the 19 channels of a NAS-Bench-101 tensor, as released. No bias before batch norm, which subtracts it.
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
        """(B,) scores and (B, 84) features of (B, C, V, V)."""
        features = self.features(self.maps(x))
        return self.score(features).squeeze(1), features


def pair_loss(kind: str, scores: Tensor, labels: Tensor) -> Tensor:
    """The mean loss over all ordered pairs of (B,) scores; ties count a constant. ``mse`` looks at each alone."""
    if kind == "mse":
        return F.mse_loss(scores, labels)
    margin = (scores[:, None] - scores) * torch.sign(labels[:, None] - labels)  # (B, B)
    if kind == "logistic":
        losses = F.softplus(-margin)
    else:
        losses = torch.relu(1 - margin) if kind == "hinge" else torch.exp(-margin)
    # The diagonal pairs each architecture with itself, a constant that would only dilute the mean.
    n = len(labels)
    return (losses.sum() - losses.diagonal().sum()) / (n * (n - 1))


def distances(x: Tensor) -> Tensor:
    """(B, B) Euclidean distances of the flattened rows; its gradient is finite for equal rows too."""
    flat = x.flatten(1)
    squared = (flat * flat).sum(1)
    # The gradient of a root is infinite at 0; clamped there it is 0, so that equal rows do not pull each other.
    return (squared[:, None] + squared - 2 * flat @ flat.T).clamp_min(1e-6).sqrt()


def inconsistency(features: Tensor, apart: Tensor) -> Tensor:
    """1 - the correlation of all distances between features with those between architectures, 0 to 2.

    Args:
        features: (B, D) of the network.
        apart: (B, B) distances between the architectures.
    """
    # A correlation, because neither the unit nor the zero of the two distances is comparable.
    pairs = ~torch.eye(len(apart), dtype=torch.bool, device=apart.device)
    first, second = distances(features)[pairs], apart[pairs]
    first, second = first - first.mean(), second - second.mean()
    return 1 - (first * second).sum() / (first.norm() * second.norm()).clamp_min(1e-12)


class _TrainingSet(NamedTuple):
    """Standardised tensors (N, C, V, V) and labels (N,) in 0..1."""

    x: Tensor
    y: Tensor


class _Scale(NamedTuple):
    """Where the entries of the tensors lie, (C, V, V) each; entries that never change count 0."""

    mean: Tensor
    factor: Tensor


class _Fit(NamedTuple):
    """What was learned."""

    model: LeNet
    scale: _Scale
    archs: list[Arch]
    labels: Matrix
    wins: WinCurve


class ReNAS(ScoreRanker[_Fit]):
    """Learns scores from the pairwise order of labels.

    Win probabilities are those that the logistic or exponential loss is made for; the other losses have none, so that held-out
    labels tell how far differences of scores can be trusted.

    Args:
        space: the space; see :func:`tensors_of` for what the network sees of it.
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

    noun = "predictor"

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
        check_at_least(1, epochs=epochs)
        # One architecture alone has no order.
        check_at_least(2, batch_size=batch_size)
        check_positive(lr=lr)
        check_at_least(0, consistency=consistency, weight_decay=weight_decay, check=check)
        self.space, self.loss, self.tensor, self.consistency = space, loss, tensor, consistency
        self.epochs, self.lr, self.weight_decay, self.batch_size = epochs, lr, weight_decay, batch_size
        self.check, self.seed, self.device = check, seed, torch.device(device)
        self._fit: _Fit | None = None

    def fit(
        self, archs: Sequence[Arch], scores: Sequence[float] | Matrix, *, pairs: Pairs | None = None
    ) -> Mapping[str, float]:
        """The last epoch's ``loss``, after learning from scratch; ``pairs`` are not used.

        An architecture that is given several times counts once, with the mean of its labels.

        Raises:
            InvalidArchError: if an architecture does not belong to the space.
            SettingError: for labels that are not finite, or fewer than two distinct ones.
        """
        unique, labels = check_labels(self.space, archs, scores)
        x = self._tensors(unique)
        # Over the labelled architectures, as released. Most entries never change (no edge goes there): they stay 0, so
        # that the convolutions see the tensor's shape, which dropping them would destroy.
        mean, spread = x.mean(0), x.std(0, correction=0)
        scale = _Scale(mean, torch.where(spread > 1e-9, 1 / spread.clamp_min(1e-9), 0.0))
        y = (labels - labels.min()) / np.ptp(labels)
        data = _TrainingSet((x - mean) * scale.factor, torch.from_numpy(y).float().to(self.device))
        model = self._fresh(x.shape[1], x.shape[2])
        loss = self._learn(model, data)
        self._fit = self._fit_of(model, scale, unique, labels, NATIVE.get(self.loss))
        return {"loss": loss}

    def _fit_of(
        self, model: LeNet, scale: _Scale, archs: list[Arch], labels: Matrix, steepness: float | None
    ) -> _Fit:
        wins = WinCurve(self.predict, self._relearn, labels, seed=self.seed, steepness=steepness)
        return _Fit(model, scale, archs, labels, wins)

    def _tensors(self, archs: Sequence[Arch]) -> Tensor:
        return torch.from_numpy(tensors_of(self.space, archs, costs=self.tensor == "full")).to(self.device)

    def _fresh(self, channels: int, side: int) -> LeNet:
        """A network with weights from U(-1/sqrt(d), 1/sqrt(d)), d the number of inputs of a unit."""
        generator = torch.Generator().manual_seed(self.seed)
        # Layers draw weights when they are made, from the global generator, which is not ours to move.
        with torch.random.fork_rng(devices=[]):
            model = LeNet(channels, side)
        for module in model.modules():
            if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
                bound = module.weight[0].numel() ** -0.5
                for parameter in module.parameters():
                    parameter.data.uniform_(-bound, bound, generator=generator)
        return model.to(self.device)

    def _learn(self, model: LeNet, data: _TrainingSet) -> float:
        """The last epoch's loss; the best weights are left in ``model``."""
        adam = torch.optim.Adam(model.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        generator = torch.Generator().manual_seed(self.seed + 1)
        best, best_state = -np.inf, copy.deepcopy(model.state_dict())
        loss = torch.zeros(())
        for epoch in range(1, self.epochs + 1):
            model.train()
            order = torch.randperm(len(data.y), generator=generator).to(self.device)
            for batch in order.split(self.batch_size):
                # One alone has no order, and no batch statistics.
                if len(batch) > 1:
                    loss = self._step(model, adam, data.x[batch], data.y[batch])
            if self.check and (epoch % self.check == 0 or epoch == self.epochs):
                tau = _agreement(_scores(model, data.x), data.y)
                if tau > best:
                    best, best_state = tau, copy.deepcopy(model.state_dict())
        if self.check:
            model.load_state_dict(best_state)
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
        """(N,) scores; each distinct architecture is scored once.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        model, scale, *_ = self._require_fit()

        def score(part: list[Arch]) -> Matrix:
            return np.asarray(_scores(model, (self._tensors(part) - scale.mean) * scale.factor).double().cpu().numpy())

        return each_once(self.space, archs, score, CHUNK)

    def state_dict(self) -> State:
        """Weights, scale and labels."""
        if self._fit is None:
            return {}
        return {"model": dict(self._fit.model.state_dict()), "scale": list(self._fit.scale), **self._labelled_state()}

    def load_state_dict(self, state: State) -> None:
        """Takes what another learned.

        Raises:
            StateError: if the state is of other settings or another space.
        """
        self._fit = None
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
        self._fit = self._fit_of(model, _Scale(mean, factor), archs, np.asarray(state["labels"]), state["slope"])


def _scores(model: LeNet, x: Tensor) -> Tensor:
    """(N,) scores of standardised tensors."""
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(part)[0] for part in x.split(CHUNK)])


def _agreement(scores: Tensor, labels: Tensor) -> float:
    """Kendall's tau-b."""
    from scipy.stats import kendalltau

    return float(kendalltau(scores.cpu().numpy(), labels.cpu().numpy()).statistic)

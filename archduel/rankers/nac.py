"""NAC, the neural architecture comparator of CTNAS.

Chen et al., "Contrastive Neural Architecture Search with Neural Architecture Comparators", CVPR 2021.

==================  =========================================================
paper               here
==================  =========================================================
NAC(a, b)           ``prob([a], [b])``: Pr[R(a) >= R(b)]
f(a, b)             the logit ``first(a) + second(b) + bias``
A                   ``pairs`` among the labelled architectures of a batch
D, y'               ``pairs`` of :meth:`NAC.fit` and :meth:`NAC.update`
r                   ``pseudo_ratio``
==================  =========================================================

The published head is linear on the concatenation of two embeddings, so a logit is a number of the first architecture
plus a number of the second: N embeddings give all N x N probabilities, and all pairs of a batch cost no more than one.

Deviations from the paper and the released code:

1. ``pairing="permutation"`` (default) pairs a batch with one random permutation of itself, as the released code does;
   ``"all"`` learns from all ordered pairs of a batch (the paper's set A) and overfits small numbers of labels.
2. ``antisymmetric=True`` (default) takes ``second = -first`` and no bias, so prob(a, b) + prob(b, a) = 1; ``False`` is
   the published head. Measured in docs/rankers.md.
3. Of all pairs, ties teach 1/2 and self-pairs are left out; of a permutation both teach 0, as in the released code
   (1 in the paper).
4. The paper's propagation matrix ("A") is taken as adjacency plus identity, as in the released code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from archduel.core import Arch, Space, State
from archduel.errors import SettingError, StateError, check_at_least, check_below_one
from archduel.rankers.labels import (
    Pairs,
    check_labels,
    check_pairs,
    check_sides,
    distinct,
    each_once,
    sigmoid,
)
from archduel.rankers.networks import Comparator, Inputs, encode, make_encoder, reset_uniform

__all__ = ["NAC"]

# Layers of the GCN: the paper says 2, the released code has 4 residual ones.
LAYERS = {"released": 4, "paper": 2}
# Architectures encoded at a time, which bounds the memory of a query for a whole space.
CHUNK = 512


class _Trainable(NamedTuple):
    """The network and its optimizer."""

    model: Comparator
    optimizer: torch.optim.Adam


class _TrainingSet(NamedTuple):
    """Encoded architectures, labels of the first N of them, and pseudo-labelled pairs of places."""

    inputs: Inputs
    n_ops: int
    labels: Tensor  # (N,)
    first: Tensor  # (P,)
    second: Tensor  # (P,)
    truth: Tensor  # (P,) in 0..1


def _training_set(
    space: Space,
    archs: Sequence[Arch],
    scores: Sequence[float] | NDArray[np.float64],
    pairs: Pairs | None,
    device: torch.device,
) -> _TrainingSet:
    """Labelled architectures and pseudo-labelled pairs, each distinct architecture encoded once.

    Raises:
        InvalidArchError: if an architecture does not belong to the space.
        SettingError: for labels that are not finite, or fewer than two distinct ones.
    """
    labelled, labels = check_labels(space, archs, scores)
    first, second, truth = check_pairs(space, pairs or ([], [], np.empty(0)))
    # Pseudo-labelled pairs repeat architectures, labelled ones among them; places make each one row.
    unique, index = distinct([*labelled, *first, *second])
    places = torch.from_numpy(index[len(labelled) :]).to(device)
    inputs, n_ops = encode(space, unique, device)
    return _TrainingSet(
        inputs,
        n_ops,
        torch.from_numpy(labels).to(device),
        places[: len(first)],
        places[len(first) :],
        torch.from_numpy(truth).float().to(device),
    )


def _labelled_loss(first: Tensor, second: Tensor, labels: Tensor, generator: torch.Generator, *, every: bool) -> Tensor:
    """The binary cross entropy over pairs of a batch.

    Args:
        first: (B,) each one's part of the logit as the first of a pair.
        second: (B,) likewise as the second.
        labels: (B,) of the batch.
        generator: draws whom each is paired with, on the CPU.
        every: all ordered pairs instead of one random permutation.
    """
    # Strict, as released: a tie and an architecture paired with itself teach 0. With all pairs, a tie teaches 1/2, which a
    # sign of 0 gives, and nobody is paired with himself.
    if not every:
        other = torch.randperm(len(labels), generator=generator).to(labels.device)
        return F.binary_cross_entropy_with_logits(first + second[other], (labels > labels[other]).float())
    truth = ((torch.sign(labels[:, None] - labels) + 1) / 2).float()  # (B, B)
    losses = F.binary_cross_entropy_with_logits(first[:, None] + second, truth, reduction="none")
    n = len(labels)
    return (losses.sum() - losses.diagonal().sum()) / (n * (n - 1))


class NAC:
    """Learns from labelled architectures which of two is better.

    Args:
        space: the space; its graphs are used where it has them, otherwise its features.
        variant: ``released`` (4 residual layers) or ``paper`` (2 plain ones) for graphs.
        layers: number of GCN layers; None = the variant's.
        embedding_dim: width of the GCN (the vector form is 512 wide).
        epochs: passes over the labels.
        lr: Adam's learning rate.
        weight_decay: Adam's L2 penalty.
        batch_size: labelled architectures a batch.
        pairing: a batch with one random ``permutation`` of itself, or ``all`` its ordered pairs.
        pseudo_ratio: share of pseudo-labelled pairs in a batch (r), 0..1 without 1.
        antisymmetric: whether prob(a, b) + prob(b, a) = 1.
        seed: of weights and batches.
        device: where the network runs.

    Raises:
        SettingError: for settings out of range.
    """

    def __init__(
        self,
        space: Space,
        *,
        variant: str = "released",
        layers: int | None = None,
        embedding_dim: int = 128,
        epochs: int = 1000,
        lr: float = 2e-4,
        weight_decay: float = 5e-4,
        batch_size: int = 256,
        pairing: str = "permutation",
        pseudo_ratio: float = 0.5,
        antisymmetric: bool = True,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        if variant not in ("released", "paper"):
            raise SettingError(f"variant is {variant!r}, expected 'released' or 'paper'")
        if pairing not in ("all", "permutation"):
            raise SettingError(f"pairing is {pairing!r}, expected 'all' or 'permutation'")
        check_below_one(pseudo_ratio=pseudo_ratio)
        self.layers = LAYERS[variant] if layers is None else layers
        check_at_least(1, embedding_dim=embedding_dim, epochs=epochs, layers=self.layers)
        # One architecture alone cannot be compared with any other of its batch.
        check_at_least(2, batch_size=batch_size)
        self.space = space
        self.variant, self.embedding_dim = variant, embedding_dim
        self.epochs, self.lr, self.weight_decay, self.batch_size = epochs, lr, weight_decay, batch_size
        self.pairing, self.pseudo_ratio, self.antisymmetric = pairing, pseudo_ratio, antisymmetric
        self.seed, self.device = seed, torch.device(device)
        self._generator = torch.Generator().manual_seed(seed)
        self._trainable: _Trainable | None = None

    def fit(
        self,
        archs: Sequence[Arch],
        scores: Sequence[float] | NDArray[np.float64],
        *,
        pairs: Pairs | None = None,
    ) -> Mapping[str, float]:
        """The last epoch's ``loss``, after learning from scratch.

        An architecture that is given several times counts once, with the mean of its labels.

        Raises:
            InvalidArchError: if an architecture does not belong to the space.
            SettingError: for labels that are not finite, or fewer than two distinct ones.
        """
        self._generator = torch.Generator().manual_seed(self.seed)
        self._trainable = None
        return self.update(archs, scores, pairs=pairs, epochs=self.epochs)

    def update(
        self,
        archs: Sequence[Arch],
        scores: Sequence[float] | NDArray[np.float64],
        *,
        pairs: Pairs | None = None,
        epochs: int = 1,
    ) -> Mapping[str, float]:
        """The last epoch's ``loss``, after ``epochs`` more passes over the labels from the present weights (fresh if none).

        Raises:
            InvalidArchError: if an architecture does not belong to the space.
            SettingError: for labels that are not finite, or fewer than two distinct ones.
        """
        data = _training_set(self.space, archs, scores, pairs, self.device)
        width = data.inputs[0].shape[1]
        trainable = self._trainable = self._trainable or self._build(width, data.n_ops)
        losses = [self._epoch(trainable, data) for _ in range(epochs)]
        return {"loss": float(losses[-1]) if losses else float("nan")}

    def _build(self, width: int, n_ops: int) -> _Trainable:
        """A fresh network for ``width`` cells of ``n_ops`` kinds of node, or ``width`` features if 0 kinds."""
        residual = self.variant == "released"
        encoder = make_encoder(width, n_ops, dim=self.embedding_dim, layers=self.layers, residual=residual)
        model = Comparator(encoder, self.antisymmetric)
        reset_uniform(model, self._generator)
        model.to(self.device)
        # Moments of 0.5 and 0.999, learning rate and decay are those of the released code.
        adam = torch.optim.Adam(
            list(model.parameters()), lr=self.lr, betas=(0.5, 0.999), weight_decay=self.weight_decay, foreach=True
        )
        return _Trainable(model, adam)

    def _epoch(self, trainable: _Trainable, data: _TrainingSet) -> Tensor:
        """The mean loss of one pass over the labels (and as many pseudo-labelled pairs as r says)."""
        order = torch.randperm(len(data.labels), generator=self._generator)
        batches = [batch.to(self.device) for batch in order.split(self.batch_size) if len(batch) > 1]
        return torch.stack([self._step(trainable, data, batch) for batch in batches]).mean()

    def _step(self, trainable: _Trainable, data: _TrainingSet, batch: Tensor) -> Tensor:
        """The loss of a batch of labels, before the one step taken on it."""
        # r = |U| / (|U| + |M|) of the paper, solved for the number |U| of pseudo-labelled pairs.
        n_pseudo = round(len(batch) * self.pseudo_ratio / (1 - self.pseudo_ratio)) if len(data.truth) else 0
        drawn = torch.randint(max(1, len(data.truth)), (n_pseudo,), generator=self._generator).to(
            self.device
        )
        places = torch.cat([batch, data.first[drawn], data.second[drawn]])
        first, second = trainable.model.at(places, data.inputs)
        n, m = len(batch), len(batch) + n_pseudo
        loss = _labelled_loss(first[:n], second[:n], data.labels[batch], self._generator, every=self.pairing == "all")
        if n_pseudo:
            pseudo = F.binary_cross_entropy_with_logits(first[n:m] + second[m:], data.truth[drawn])
            loss = (1 - self.pseudo_ratio) * loss + self.pseudo_ratio * pseudo
        trainable.optimizer.zero_grad()
        loss.backward()
        trainable.optimizer.step()
        return loss.detach()

    def _halves(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """(2, N), the parts of the logit as first and as second; each distinct one is encoded once."""
        if self._trainable is None:
            raise StateError("the comparator has learned nothing yet; call fit first")
        model = self._trainable.model

        def score(part: list[Arch]) -> NDArray[np.float64]:
            inputs, _ = encode(self.space, part, self.device)
            with torch.inference_mode():
                return np.asarray(torch.stack(model(*inputs)).double().cpu().numpy())

        return each_once(self.space, archs, score, CHUNK, rows=(2,))

    def predict(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """(N,) scores: half of (its part of the logit as first minus that as second), so both sides count.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        first, second = self._halves(archs)
        return np.asarray((first - second) / 2)

    def prob(self, first: Sequence[Arch], second: Sequence[Arch]) -> NDArray[np.float64]:
        """(P,) probabilities that ``first[i]`` is at least as good as ``second[i]``.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
            SettingError: for sides of different lengths.
        """
        check_sides(first, second)
        halves = self._halves([*first, *second])
        return sigmoid(halves[0, : len(first)] + halves[1, len(first) :])

    def matrix(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """(N, N): ``[i, j]`` = probability that ``archs[i]`` is at least as good as ``archs[j]``.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        # exp(-(f + s)) = exp(-f) exp(-s): 2 N exponentials instead of N * N. Clipped to 300, the product of two cannot overflow.
        lost, won = np.exp(-np.clip(self._halves(archs), -300, 300))
        odds = np.multiply.outer(lost, won)  # (N, N)
        odds += 1
        return np.asarray(np.reciprocal(odds, out=odds))

    def state_dict(self) -> State:
        """Weights, optimizer and random state, so that :meth:`update` goes on exactly."""
        state: State = {"generator": self._generator.get_state()}
        if self._trainable is not None:
            model, optimizer = self._trainable
            state |= {"model": dict(model.state_dict()), "optimizer": optimizer.state_dict()}
        return state

    def load_state_dict(self, state: State) -> None:
        """Takes what another learned.

        Raises:
            StateError: if the state is of other settings or another space.
        """
        trainable = None
        if "model" in state:
            trainable = self._build(*self._sizes(state["model"]))
            try:
                trainable.model.load_state_dict(state["model"])
                trainable.optimizer.load_state_dict(state["optimizer"])
            except (RuntimeError, ValueError) as error:
                raise StateError(f"the saved comparator has other settings than this one: {error}") from error
        self._trainable = trainable
        self._generator = torch.Generator()
        self._generator.set_state(state["generator"])

    def _sizes(self, model: Mapping[str, Tensor]) -> tuple[int, int]:
        """The arguments of ``_build`` that made a saved network."""
        # A state says nothing of the space it came from, but the shapes of its weights do.
        if "encoder.embedding" in model:
            n_ops, dim = model["encoder.embedding"].shape
            return model["first"].shape[0] // dim, n_ops
        return model["encoder.layers.0.weight"].shape[1], 0

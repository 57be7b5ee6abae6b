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
3. Ties teach 1/2 (antisymmetric) instead of 0 (released code) or 1 (paper); self-pairs are left out.
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
from archduel.errors import SettingError, StateError
from archduel.rankers.labels import Pairs, check_archs, check_sides, distinct, sigmoid
from archduel.rankers.nac_lesson import Lesson, labelled_loss, lesson_of
from archduel.rankers.networks import Comparator, encode, make_encoder

__all__ = ["NAC"]


class _Student(NamedTuple):
    """The network and its optimizer."""

    model: Comparator
    optimizer: torch.optim.Adam


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
        if not 0 <= pseudo_ratio < 1:
            raise SettingError(f"pseudo_ratio must be at least 0 and below 1, got {pseudo_ratio}")
        if min(embedding_dim, epochs, batch_size - 1, 1 if layers is None else layers) < 1:
            raise SettingError(
                "embedding_dim, epochs and layers must be at least 1, batch_size at least 2; "
                f"got {embedding_dim}, {epochs}, {layers} and {batch_size}"
            )
        self.space = space
        self.variant, self.embedding_dim = variant, embedding_dim
        self.layers = layers if layers is not None else {"released": 4, "paper": 2}[variant]
        self.epochs, self.lr, self.weight_decay, self.batch_size = epochs, lr, weight_decay, batch_size
        self.pairing, self.pseudo_ratio, self.antisymmetric = pairing, pseudo_ratio, antisymmetric
        self.seed, self.device = seed, torch.device(device)
        self._generator = torch.Generator().manual_seed(seed)
        self._student: _Student | None = None

    def fit(
        self,
        archs: Sequence[Arch],
        scores: Sequence[float] | NDArray[np.float64],
        *,
        pairs: Pairs | None = None,
    ) -> Mapping[str, float]:
        """Learns from scratch and returns the last epoch's ``loss``.

        An architecture that is given several times counts once, with the mean of its labels.

        Raises:
            InvalidArchError: if an architecture does not belong to the space.
            SettingError: for labels that are not finite, or fewer than two distinct ones.
        """
        self._generator = torch.Generator().manual_seed(self.seed)
        self._student = None
        return self.update(archs, scores, pairs=pairs, epochs=self.epochs)

    def update(
        self,
        archs: Sequence[Arch],
        scores: Sequence[float] | NDArray[np.float64],
        *,
        pairs: Pairs | None = None,
        epochs: int = 1,
    ) -> Mapping[str, float]:
        """Goes on learning for ``epochs`` passes over the labels, from the present weights (fresh ones if none).

        Raises:
            InvalidArchError: if an architecture does not belong to the space.
            SettingError: for labels that are not finite, or fewer than two distinct ones.
        """
        lesson = lesson_of(self.space, archs, scores, pairs, self.device)
        shape = lesson.inputs[0].shape
        student = self._student = self._student or self._enrol(shape[1], lesson.n_ops)
        losses = [self._epoch(student, lesson) for _ in range(epochs)]
        return {"loss": float(losses[-1]) if losses else float("nan")}

    def _enrol(self, width: int, n_ops: int) -> _Student:
        """Returns a fresh network for ``width`` cells of ``n_ops`` kinds of node, or ``width`` features if 0 kinds."""
        residual = self.variant == "released"
        encoder = make_encoder(width, n_ops, dim=self.embedding_dim, layers=self.layers, residual=residual)
        model = Comparator(encoder, self.antisymmetric)
        model.reset(self._generator)
        model.to(self.device)
        parameters = list(model.parameters())
        adam = torch.optim.Adam(
            parameters, lr=self.lr, betas=(0.5, 0.999), weight_decay=self.weight_decay, foreach=True
        )
        return _Student(model, adam)

    def _epoch(self, student: _Student, lesson: Lesson) -> Tensor:
        """Returns the mean loss of one pass over the labels (and as many pseudo-labelled pairs as r says)."""
        order = torch.randperm(len(lesson.labels), generator=self._generator)
        batches = [batch.to(self.device) for batch in order.split(self.batch_size) if len(batch) > 1]
        return torch.stack([self._step(student, lesson, batch) for batch in batches]).mean()

    def _step(self, student: _Student, lesson: Lesson, batch: Tensor) -> Tensor:
        """Takes one step on a batch of labels and returns its loss."""
        n_pseudo = round(len(batch) * self.pseudo_ratio / (1 - self.pseudo_ratio)) if len(lesson.truth) else 0
        drawn = torch.randint(max(1, len(lesson.truth)), (n_pseudo,), generator=self._generator).to(
            self.device
        )
        places = torch.cat([batch, lesson.first[drawn], lesson.second[drawn]])
        first, second = student.model.at(places, lesson.inputs)
        n, m = len(batch), len(batch) + n_pseudo
        loss = labelled_loss(first[:n], second[:n], lesson.labels[batch], self._generator, every=self.pairing == "all")
        if n_pseudo:
            pseudo = F.binary_cross_entropy_with_logits(first[n:m] + second[m:], lesson.truth[drawn])
            loss = (1 - self.pseudo_ratio) * loss + self.pseudo_ratio * pseudo
        student.optimizer.zero_grad()
        loss.backward()
        student.optimizer.step()
        return loss.detach()

    def _halves(self, archs: Sequence[Arch], *, chunk: int = 512) -> NDArray[np.float64]:
        """Returns (2, N), the parts of the logit as first and as second; each distinct one is encoded once."""
        if self._student is None:
            raise StateError("the comparator has learned nothing yet; call fit first")
        check_archs(self.space, archs)
        unique, index = distinct(archs)
        halves = [np.empty((2, 0))]
        with torch.inference_mode():
            for start in range(0, len(unique), chunk):
                inputs, _ = encode(self.space, unique[start : start + chunk], self.device)
                halves.append(torch.stack(self._student.model(*inputs)).double().cpu().numpy())
        both: NDArray[np.float64] = np.concatenate(halves, 1)[:, index]
        return both

    def predict(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """Returns (N,) scores: half of (its part of the logit as first minus that as second), so both sides count.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        first, second = self._halves(archs)
        return np.asarray((first - second) / 2)

    def prob(self, first: Sequence[Arch], second: Sequence[Arch]) -> NDArray[np.float64]:
        """Returns (P,) probabilities that ``first[i]`` is at least as good as ``second[i]``.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
            SettingError: for sides of different lengths.
        """
        check_sides(first, second)
        halves = self._halves([*first, *second])
        return sigmoid(halves[0, : len(first)] + halves[1, len(first) :])

    def matrix(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """Returns (N, N): ``[i, j]`` = probability that ``archs[i]`` is at least as good as ``archs[j]``.

        Raises:
            StateError: before fit.
            InvalidArchError: for an architecture of another space.
        """
        lost, won = np.exp(-np.clip(self._halves(archs), -300, 300))  # 2 N exponentials instead of N * N
        odds = np.multiply.outer(lost, won)  # (N, N)
        odds += 1
        return np.asarray(np.reciprocal(odds, out=odds))

    def state_dict(self) -> State:
        """Returns weights, optimizer and random state, so that :meth:`update` goes on exactly."""
        state: State = {"generator": self._generator.get_state()}
        if self._student is not None:
            model, optimizer = self._student
            state |= {"model": dict(model.state_dict()), "optimizer": optimizer.state_dict()}
        return state

    def load_state_dict(self, state: State) -> None:
        """Takes what another learned.

        Raises:
            StateError: if the state is of other settings or another space.
        """
        student = None
        if "model" in state:
            student = self._enrol(*self._sizes(state["model"]))
            try:
                student.model.load_state_dict(state["model"])
                student.optimizer.load_state_dict(state["optimizer"])
            except (RuntimeError, ValueError) as error:
                raise StateError(f"the saved comparator has other settings than this one: {error}") from error
        self._student = student
        self._generator = torch.Generator()
        self._generator.set_state(state["generator"])

    def _sizes(self, model: Mapping[str, Tensor]) -> tuple[int, int]:
        """Returns the arguments of ``_enrol`` that made a saved network."""
        if "encoder.embedding" in model:
            n_ops, dim = model["encoder.embedding"].shape
            return model["first"].shape[0] // dim, n_ops
        return model["encoder.layers.0.weight"].shape[1], 0

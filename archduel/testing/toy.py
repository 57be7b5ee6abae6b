"""A tiny space and a tiny ranker: enough to try a strategy or a policy on, in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archduel.core import Arch, Decision, GraphBatch, State, check_decisions
from archduel.errors import SettingError, StateError

__all__ = ["ToyRanker", "ToySpace", "toy_score"]


class ToySpace:
    """Chains of one to four operations out of five, where operation 0 does nothing.

    780 architectures of 341 fingerprints: the chain without its zeros.
    """

    name = "toy"
    kinds: Mapping[str, int] = {"length": 4, "op": 5}

    def decision(self, prefix: Sequence[int]) -> Decision | None:
        """Returns the question for the length, then one for each operation."""
        if not prefix:
            return Decision("length", "length", (0, 1, 2, 3))
        if len(prefix) == prefix[0] + 2:
            return None
        return Decision(f"op{len(prefix) - 1}", "op", (0, 1, 2, 3, 4))

    def validate(self, arch: Arch) -> None:
        """Raises InvalidArchError unless ``arch`` is a chain."""
        check_decisions(self, arch)

    def features(self, archs: Sequence[Arch]) -> NDArray[np.float32]:
        """Returns (B, 24): the length, which operation is where, how many of each."""
        x = np.zeros((len(archs), 4, 5), np.float32)
        for b, arch in enumerate(archs):
            for i, op in enumerate(arch.choices[1:]):
                x[b, i, op] = 1.0
        return np.concatenate([x[:, :, 1:].sum(1), x.reshape(len(archs), 20)], axis=1)  # (B, 4 + 20)

    def graphs(self, archs: Sequence[Arch]) -> GraphBatch:
        """Returns the chains as graphs of one cell with four vertices."""
        ops = np.zeros((len(archs), 1, 4), np.int64)
        adj = np.zeros((len(archs), 1, 4, 4), np.float32)
        for b, arch in enumerate(archs):
            for i, op in enumerate(arch.choices[1:]):
                ops[b, 0, i] = op + 1
                if i:
                    adj[b, 0, i - 1, i] = 1.0
        return GraphBatch(ops, adj, ops > 0, 6)

    def fingerprint(self, arch: Arch) -> str:
        """Returns the operations that do something, in order."""
        return "-".join(str(op) for op in arch.choices[1:] if op)


def toy_score(arch: Arch) -> float:
    """Returns the made-up quality of a toy architecture in 0..1; 4-3-4-3 is the best."""
    wanted = (4, 3, 4, 3)
    chain = [op for op in arch.choices[1:] if op]
    return sum(1.0 - abs(op - want) / 8 for op, want in zip(chain, wanted)) / 4


class ToyRanker:
    """Ridge regression on the features, with a made-up but fixed uncertainty; can go on learning.

    Args:
        space: gives the features.
        seed: unused, as nothing here is random; rankers take one.
    """

    def __init__(self, space: Any, *, seed: int = 0) -> None:
        self.space = space
        self.seed = seed
        self.weights: NDArray[np.float64] | None = None

    def _x(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        for arch in archs:
            self.space.validate(arch)
        x = np.asarray(self.space.features(archs), np.float64)
        return np.concatenate([x, np.ones((len(archs), 1))], axis=1)

    def fit(
        self, archs: Sequence[Arch], scores: Sequence[float] | NDArray[np.float64], *, pairs: Any = None
    ) -> Mapping[str, float]:
        """Learns from scratch and returns the training error.

        Raises:
            SettingError: for labels that are not finite or fewer than two distinct ones.
        """
        y = np.asarray(scores, np.float64)
        if not np.isfinite(y).all() or len(np.unique(y)) < 2:
            raise SettingError(f"scores must be finite with at least two distinct values, got {list(scores)[:5]}...")
        x = self._x(archs)
        weights = np.asarray(np.linalg.solve(x.T @ x + 0.1 * np.eye(x.shape[1]), x.T @ y), np.float64)
        self.weights = weights
        return {"error": float(np.mean((x @ weights - y) ** 2))}

    def update(
        self, archs: Sequence[Arch], scores: Sequence[float], *, pairs: Any = None, epochs: int = 1
    ) -> Mapping[str, float]:
        """Learns from scratch again: ridge regression has no other way."""
        return self.fit(archs, scores, pairs=pairs)

    def predict(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """Returns (N,) scores; raises StateError before any fit."""
        if self.weights is None:
            raise StateError("the ranker was not fitted yet; call fit first")
        return self._x(archs) @ self.weights

    def prob(self, first: Sequence[Arch], second: Sequence[Arch]) -> NDArray[np.float64]:
        """Returns (P,) probabilities that ``first`` is at least as good as ``second``."""
        return np.asarray(1.0 / (1.0 + np.exp(-20.0 * (self.predict(first) - self.predict(second)))))

    def uncertainty(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """Returns (N,) standard deviations: 0.05 everywhere."""
        return np.full(len(archs), 0.05)

    def state_dict(self) -> State:
        """Returns the weights."""
        return {"weights": deepcopy(self.weights)}

    def load_state_dict(self, state: State) -> None:
        """Takes another's weights."""
        self.weights = deepcopy(state["weights"])

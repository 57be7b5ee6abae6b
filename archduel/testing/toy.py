"""A tiny space and a tiny ranker: enough to try a strategy or a policy on, in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from archduel.core import Arch, Cost, Decision, Estimate, GraphBatch, Query, State, check_decisions
from archduel.errors import InvalidArchError, SettingError, StateError, unknown

__all__ = ["ToyRanker", "ToyShared", "ToySpace", "ToySupernet", "toy_score"]


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


# -- A supernet of 20 weights and an estimator over it: enough to try a one-shot strategy on, in milliseconds -----------


WANTED = (4, 3, 4, 3)
Batch = tuple[torch.Tensor, torch.Tensor]


class ToySupernet(nn.Module):
    """Chains over :class:`~archduel.testing.toy.ToySpace`: operation o at place i is one weight.

    It passes on ``gain * signal_i + (1 - gain) * junk_i`` where the gain is 1 for the wanted operation of the place and falls
    by 1/4 with the distance; operation 0 passes nothing. So the better chains of ``toy_score`` tell the two classes apart
    better, once their weights are trained.
    """

    mix_ops = ("0", "1", "2", "3", "4")

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.ModuleList(nn.ParameterList(torch.zeros(1) for _ in range(5)) for _ in range(4))
        self.bias = nn.Parameter(torch.zeros(1))

    @property
    def mix_shapes(self) -> Mapping[str, tuple[int, int]]:
        """Four places, five operations."""
        return {"chain": (4, 5)}

    def _passed(self, x: torch.Tensor, place: int, op: int) -> torch.Tensor:
        """Returns (N,) what operation ``op`` at ``place`` adds to the logit."""
        gain = 1 - abs(op - WANTED[place]) / 4
        weight: torch.Tensor = self.places[place][op]  # type: ignore[index, assignment]
        return weight * (gain * x[:, place] + (1 - gain) * x[:, 4 + place]) * (op > 0)

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Returns (N, 2) logits of a chain for (N, 8) numbers: four of signal, four of junk.

        Raises:
            InvalidArchError: for an architecture of another space.
        """
        ToySpace().validate(arch)
        total = self.bias.expand(len(x))
        for place, op in enumerate(arch.choices[1:]):
            total = total + self._passed(x, place, op)
        return torch.stack((-total, total), dim=1)

    def mix(self, x: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Returns (N, 2) logits of the chain of length four with blended operations."""
        total = self.bias.expand(len(x))
        for place, row in enumerate(weights["chain"]):
            for op, weight in enumerate(row):
                if weight != 0:
                    total = total + weight * self._passed(x, place, op)
        return torch.stack((-total, total), dim=1)

    def derive(self, weights: Mapping[str, torch.Tensor]) -> Arch:
        """Returns the chain of length four of the heaviest operations other than 0."""
        best = weights["chain"][:, 1:].argmax(1) + 1
        return Arch(ToySpace.name, (3, *(int(op) for op in best)))

    def extract(self, arch: Arch) -> nn.Module:
        """Returns a copy that is called without an architecture."""
        return _Alone(deepcopy(self), arch)

    @property
    def operations(self) -> frozenset[str]:
        """The names of the 20 operations."""
        return frozenset(f"places.{place}.{op}" for place in range(4) for op in range(5))

    def modules_of(self, arch: Arch) -> frozenset[str]:
        """Returns ``places.i.o`` for each operation used."""
        return frozenset(f"places.{place}.{op}" for place, op in enumerate(arch.choices[1:]))


class _Alone(nn.Module):
    def __init__(self, network: ToySupernet, arch: Arch) -> None:
        super().__init__()
        self.network, self.arch = network, arch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x, self.arch)  # type: ignore[no-any-return]


class ToyShared:
    """A :class:`~archduel.core.SharedEstimator` over :class:`ToySupernet` and made-up data.

    Args:
        seed: of data, order and nothing else (the weights start at zero).
        batch_size: numbers of a batch; there are 8 training and 16 validation batches.
        lr: constant learning rate.
    """

    metric = "validation_accuracy"
    momentum, weight_decay = 0.9, 0.0

    def __init__(self, seed: int = 0, *, batch_size: int = 16, lr: float = 0.1) -> None:
        self.lr, self.batch_size, self.seed = lr, batch_size, seed
        self.supernet = ToySupernet()
        self._names = dict(self.supernet.named_parameters())
        self._data = {"train": _made_up(8 * batch_size, seed), "validation": _made_up(16 * batch_size, seed + 1)}
        self._at = {"train": 0, "validation": 0}
        self._velocity = {name: torch.zeros_like(p) for name, p in self._names.items()}
        self._aside: dict[str, dict[str, torch.Tensor]] = {}

    def velocity(self, parameter: nn.Parameter) -> torch.Tensor:
        """Returns the momentum buffer of a weight."""
        return next(self._velocity[name] for name, p in self._names.items() if p is parameter)

    def n_batches(self, split: str) -> int:
        """Returns 8 or 16."""
        return len(self._images(split)) // self.batch_size

    def _images(self, split: str) -> torch.Tensor:
        if split not in self._data:
            raise unknown("split", split, self._data)
        return self._data[split][0]

    def batches(self, split: str) -> Iterator[Batch]:
        """Yields (16, 8) numbers and (16,) labels; every pass in an order of its own."""
        n, per_pass = len(self._images(split)), self.n_batches(split)
        while True:
            turn, place = divmod(self._at[split], per_pass)
            order = torch.randperm(n, generator=torch.Generator().manual_seed(1000 * self.seed + turn))
            rows = order[place * self.batch_size : (place + 1) * self.batch_size]
            self._at[split] += 1
            yield self._data[split][0][rows], self._data[split][1][rows]

    def loss(self, what: Arch | Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Returns the mean cross entropy of an architecture or a mix."""
        x, labels = batch
        logits = self.supernet(x, what) if isinstance(what, Arch) else self.supernet.mix(x, what)
        return F.cross_entropy(logits, labels)

    def update(self, loss: torch.Tensor, *, lr: float | None = None) -> None:
        """Takes one step of Nesterov SGD on the weights that ``loss`` depends on."""
        grads = torch.autograd.grad(loss, list(self._names.values()), allow_unused=True)
        with torch.no_grad():
            for (name, weight), grad in zip(self._names.items(), grads):
                if grad is not None:
                    self._velocity[name].mul_(self.momentum).add_(grad)
                    step = grad + self.momentum * self._velocity[name]
                    weight.sub_((self.lr if lr is None else lr) * step)

    def learn(self, archs: Iterable[Arch | Sequence[Arch]], n_batches: int, *, lr: float | None = None) -> Cost:
        """Trains one item of ``archs`` a batch.

        Raises:
            SettingError: if ``archs`` ends first.
        """
        batches, items = self.batches("train"), iter(archs)
        for done in range(n_batches):
            item = next(items, None)
            if item is None:
                raise SettingError(f"architectures for {done} batches were given, {n_batches} were to be learned")
            batch, several = next(batches), [item] if isinstance(item, Arch) else list(item)
            self.update(torch.stack([self.loss(arch, batch) for arch in several]).mean(), lr=lr)
        return Cost(0.01 * n_batches, n_batches * self.batch_size)

    def compete(
        self, first: Arch, second: Arch, n_batches: int, *, lr: float | None = None, drop_path: float = 0.0
    ) -> tuple[Estimate, Estimate]:
        """Trains both from the present weights on the same batches; drop path has no place here."""
        weights, velocity, at = self._copy(), deepcopy(self._velocity), dict(self._at)
        answers, aside = [], {}
        for arch in (first, second):
            self._put(weights)
            self._velocity = {name: torch.zeros_like(p) for name, p in self._names.items()}
            self._at = dict(at)
            cost = self.learn([arch] * n_batches, n_batches, lr=lr)
            scored = self._score(arch)
            answers.append(Estimate(scored.score, cost, scored.values))
            aside[str(arch)] = self._copy()
        self._put(weights)
        self._velocity, self._aside = velocity, aside
        return answers[0], answers[1]

    def inherit(self, winner: Arch, loser: Arch) -> None:
        """Takes the loser's weights where only it has the operation, the winner's elsewhere.

        Raises:
            StateError: unless these two competed just before.
        """
        if set(self._aside) != {str(winner), str(loser)}:
            raise StateError(f"{winner} and {loser} did not compete just before; call compete with them first")
        only = self.supernet.modules_of(loser) - self.supernet.modules_of(winner)
        won, lost = self._aside[str(winner)], self._aside[str(loser)]
        self._put({name: (lost if name in only else won)[name] for name in won})
        self._aside = {}

    def reset(self) -> None:
        """Puts all weights back to zero."""
        self._put({name: torch.zeros_like(p) for name, p in self._names.items()})
        self._velocity = {name: torch.zeros_like(p) for name, p in self._names.items()}
        self._aside = {}

    def _score(self, arch: Arch, batch: Batch | None = None) -> Estimate:
        x, labels = batch or self._data["validation"]
        with torch.no_grad():
            logits = self.supernet(x, arch)
            right = float((logits.argmax(1) == labels).double().mean())
            return Estimate(right, Cost(0.001), {"val_loss": float(F.cross_entropy(logits, labels))})

    def estimate(self, queries: Sequence[Query]) -> list[Estimate]:
        """Returns accuracies on all validation numbers, or on the next batch for fidelity ``batch``.

        Raises:
            UnknownNameError: for another fidelity.
        """
        answers = []
        for query in queries:
            if query.fidelity not in (None, "batch"):
                raise unknown("fidelity", str(query.fidelity), ["batch"])
            try:
                answers.append(self._score(query.arch, next(self.batches("validation")) if query.fidelity else None))
            except InvalidArchError as error:
                answers.append(Estimate(float("nan"), Cost(), {}, str(error)))
        return answers

    def _copy(self) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in self._names.items()}

    @torch.no_grad()
    def _put(self, weights: Mapping[str, torch.Tensor]) -> None:
        for name, p in self._names.items():
            p.copy_(weights[name])

    def state_dict(self) -> State:
        """Returns weights, velocities, cursors and what waits for ``inherit``."""
        kept: dict[str, Any] = {"velocity": self._velocity, "at": self._at, "aside": self._aside}
        return {"weights": self._copy(), **deepcopy(kept)}

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""
        self._put(state["weights"])
        self._velocity, self._at = deepcopy(state["velocity"]), dict(state["at"])
        self._aside = deepcopy(state["aside"])


def _made_up(n: int, seed: int) -> Batch:
    """Returns (n, 8) numbers and (n,) labels: in the first four columns the class shows through noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (n,), generator=generator)
    x = torch.randn(n, 8, generator=generator)
    x[:, :4] += 0.5 * (2 * labels[:, None] - 1)
    x[:, 4:] *= 2
    return x, labels

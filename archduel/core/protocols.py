"""The roles and what each must do. Everything else is a free function or a value.

The whole of a search is::

    while not budget.spent(paid):
        queries = strategy.ask(n)
        if queries:
            strategy.tell(queries, executor.run(queries))
        elif strategy.step() is None:
            break
    return strategy.best()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from archduel.core.arch import Arch

if TYPE_CHECKING:
    import torch

__all__ = [
    "AllPairs",
    "Cost",
    "Draw",
    "Estimate",
    "Estimator",
    "Executor",
    "Finalists",
    "Policy",
    "Query",
    "Ranker",
    "State",
    "StepReport",
    "Strategy",
    "Uncertain",
    "Updatable",
]

State = dict[str, Any]
"""Nested dicts and lists of JSON values, NumPy arrays and torch tensors (see ``core.checkpoint``)."""


@dataclass(frozen=True, slots=True)
class Query:
    """An architecture to be judged.

    Attributes:
        arch: the architecture.
        fidelity: the name of a recipe or budget of the estimator; None = the estimator's own.
        group: queries with the same number belong together (a pair that learns from each other).
    """

    arch: Arch
    fidelity: str | None = None
    group: int | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What was paid: seconds (simulated for tables) and training images."""

    seconds: float = 0.0
    images: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.images + other.images)


@dataclass(frozen=True, slots=True)
class Estimate:
    """How good an architecture is.

    Attributes:
        score: higher is better; accuracies are fractions of 1; nan for a failed evaluation.
        cost: what it cost.
        values: named measures with units in their names (params, macs, latency_ms, train_loss).
        reason: why the evaluation failed, empty otherwise.
    """

    score: float
    cost: Cost = Cost()
    values: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""

    @property
    def failed(self) -> bool:
        """Whether there is no score."""
        return self.score != self.score


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a strategy did between two questions."""

    metrics: Mapping[str, float]
    cost: Cost = Cost()


class Draw(NamedTuple):
    """Architectures drawn from a policy.

    Attributes:
        archs: N architectures.
        log_prob: (N,) float32, natural log, differentiable.
        entropy: (N,) float32, sum over the decisions in nats, differentiable.
    """

    archs: list[Arch]
    log_prob: torch.Tensor
    entropy: torch.Tensor


class Estimator(Protocol):
    """Says how good queries are and what that cost. Never reads a test split during a search."""

    @property
    def metric(self) -> str:
        """The name of the score, such as ``validation_accuracy``."""

    def estimate(self, queries: Sequence[Query]) -> list[Estimate]:
        """Returns one estimate a query, in order; a failure is an estimate with score nan and a reason."""

    def state_dict(self) -> State:
        """Returns all that changes."""

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""


class Ranker(Protocol):
    """Learns the order of architectures from labels."""

    def fit(
        self,
        archs: Sequence[Arch],
        scores: Sequence[float] | NDArray[np.float64],
        *,
        pairs: tuple[Sequence[Arch], Sequence[Arch], NDArray[np.float64]] | None = None,
    ) -> Mapping[str, float]:
        """Learns from scratch; ``pairs`` are extra comparisons (first, second, label 1 if first is at least as good).

        Raises:
            ValueError: for labels that are not finite, or fewer than two distinct ones.
        """

    def predict(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """Returns (N,) scores; only their order means anything."""

    def prob(self, first: Sequence[Arch], second: Sequence[Arch]) -> NDArray[np.float64]:
        """Returns (P,) probabilities that ``first[i]`` is at least as good as ``second[i]``."""

    def state_dict(self) -> State:
        """Returns all that was learned."""

    def load_state_dict(self, state: State) -> None:
        """Takes what another learned."""


@runtime_checkable
class Uncertain(Protocol):
    """A ranker that knows what it does not know."""

    def uncertainty(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """Returns (N,) standard deviations in the unit of ``predict``."""


@runtime_checkable
class AllPairs(Protocol):
    """A ranker that compares all pairs at once; :func:`archduel.core.win_matrix` asks any ranker."""

    def matrix(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """Returns (N, N) probabilities that the row is at least as good as the column."""


@runtime_checkable
class Updatable(Protocol):
    """A ranker that can go on learning from where it is; :func:`archduel.core.keep_learning` asks any ranker."""

    def update(
        self,
        archs: Sequence[Arch],
        scores: Sequence[float] | NDArray[np.float64],
        *,
        pairs: tuple[Sequence[Arch], Sequence[Arch], NDArray[np.float64]] | None = None,
        epochs: int = 1,
    ) -> Mapping[str, float]:
        """Learns for ``epochs`` more passes; arguments and result are those of ``fit``."""


class Policy(Protocol):
    """A differentiable distribution over a space."""

    def draw(self, n: int, generator: torch.Generator, *, allowed: Mapping[str, Sequence[int]] | None = None) -> Draw:
        """Returns ``n`` architectures; ``allowed`` restricts a kind of decision, or one decision by name (a stage's mask)."""

    def log_prob(self, archs: Sequence[Arch]) -> torch.Tensor:
        """Returns (N,) log probabilities, differentiable."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yields what an optimizer may change."""

    def state_dict(self) -> State:
        """Returns the parameters."""

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """Takes the parameters."""


class Strategy(Protocol):
    """Asks, is told, learns in steps, names its best. Knows neither space nor estimator by name."""

    def ask(self, n: int) -> list[Query]:
        """Returns at most ``n`` queries; empty = "let me step"."""

    def tell(self, queries: Sequence[Query], estimates: Sequence[Estimate]) -> None:
        """Takes the answers, in the order of asking; does not change them."""

    def step(self) -> StepReport | None:
        """Learns a little; None = "tell me first", and after an empty ask: finished."""

    def best(self) -> Arch:
        """Returns the best architecture; raises StateError before any tell or step."""

    def state_dict(self) -> State:
        """Returns all that changes, randomness included."""

    def load_state_dict(self, state: State) -> None:
        """Continues exactly as the saved one would."""


@runtime_checkable
class Finalists(Protocol):
    """A strategy that can name several distinct architectures worth a closer look, best first."""

    def finalists(self, n: int) -> list[Arch]:
        """Returns at most ``n`` distinct architectures, best first."""


class Executor(Protocol):
    """Runs queries somewhere and returns the answers in ask order."""

    def run(self, queries: Sequence[Query], ordinals: Sequence[int]) -> Iterator[Estimate]:
        """Yields one estimate a query in the order given; ``ordinals`` number the evaluations of the run."""

    def close(self) -> None:
        """Ends workers."""

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

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from archduel.core.arch import Arch

# for types alone: a command that only reads a table or a journal does not wait for PyTorch
if TYPE_CHECKING:
    import torch

__all__ = ["AllPairs", "Believer", "Cost", "Costs", "Draw", "Estimate", "Estimator", "Executor", "Finalists", "MixingSupernet", "Policy", "Query", "Ranker", "SharedEstimator", "State", "StepReport", "Strategy", "Supernet", "Uncertain", "Updatable", "keep_learning", "win_matrix"]

State = dict[str, Any]
"""Nested dicts and lists of JSON values, NumPy arrays and torch tensors (see ``core.storage``)."""

Costs = Callable[[Sequence[Arch]], NDArray[np.float64]]
"""Returns (N, K) positive closed-form costs, such as parameters and multiply-adds."""


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
        # nan alone differs from itself
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


# A ranker is judged by order alone. Comparators answer ``prob`` natively, predictors ``predict``; each derives the other, so that a strategy
# need not know which it has. What only some can do is a protocol of its own, asked for by isinstance.


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
class Believer(Protocol):
    """A ranker that tells mean and deviation at once, in the unit of the labels, as if others had been labelled too."""

    def beliefs(
        self, archs: Sequence[Arch], *, assumed: Sequence[Arch] = ()
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns (N,) expected scores and (N,) standard deviations, as if ``assumed`` had been labelled as expected."""


@runtime_checkable
class AllPairs(Protocol):
    """A ranker that compares all pairs at once; :func:`archduel.core.roles.win_matrix` asks any ranker."""

    def matrix(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """Returns (N, N) probabilities that the row is at least as good as the column."""


@runtime_checkable
class Updatable(Protocol):
    """A ranker that can go on learning from where it is; :func:`archduel.core.roles.keep_learning` asks any ranker."""

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
    """Asks, is told, learns in steps, names its best. Knows neither space nor estimator by name.

    Its class may say what it needs and how it spends a budget (``kind``, ``partners``, ``compares``, ``spend``), see
    :mod:`archduel.core.spending`.
    """

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


# -- What some rankers can do and all can be asked for: compare all pairs at once, go on learning -----------------------


Matrix = NDArray[np.float64]


def win_matrix(ranker: Ranker, archs: Sequence[Arch]) -> Matrix:
    """Returns (N, N) probabilities that the row is at least as good as the column; at once where the ranker can."""
    # one that encodes an architecture first does so N times here and 2 N^2 times below
    if isinstance(ranker, AllPairs):
        return ranker.matrix(archs)
    n = len(archs)
    return ranker.prob([arch for arch in archs for _ in range(n)], list(archs) * n).reshape(n, n)


def keep_learning(
    ranker: Ranker,
    archs: Sequence[Arch],
    scores: Sequence[float] | Matrix,
    *,
    pairs: tuple[Sequence[Arch], Sequence[Arch], Matrix] | None = None,
    epochs: int = 1,
) -> Mapping[str, float]:
    """Lets ``ranker`` go on learning for ``epochs`` passes and returns its metrics; one that cannot starts from scratch."""
    # from scratch is slower, but no other answer: labels and pairs are given whole, so that nothing is forgotten
    if isinstance(ranker, Updatable):
        return ranker.update(archs, scores, pairs=pairs, epochs=epochs)
    return ranker.fit(archs, scores, pairs=pairs)


# -- Weight sharing: the supernet, the estimator that owns one, and what a one-shot strategy may do with them -----------
#
# A one-shot strategy gets a :class:`SharedEstimator` as a collaborator. It says which architecture learns from the next batches
# (`learn`), has two compete (`compete`, `inherit`), writes its own training step (`batches`, `loss`, `update`) and asks for
# scores (`estimate`); how images become batches, the optimizer, mixed precision and batch norm are the estimator's business.


class Supernet(Protocol):
    """One network that holds every architecture's weights; an ``nn.Module``."""

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Returns (N, classes) logits of ``arch``; only its operations run."""

    def __call__(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """As ``forward``."""

    def extract(self, arch: Arch) -> torch.nn.Module:
        """Returns a stand-alone network with copies of these weights; in eval mode it says the same as ``forward``."""

    @property
    def operations(self) -> frozenset[str]:
        """The names of the submodules that belong to one choice; all others belong to every architecture."""

    def modules_of(self, arch: Arch) -> frozenset[str]:
        """Returns which of ``operations`` the architecture uses."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Yields all weights, in a fixed order."""


@runtime_checkable
class MixingSupernet(Protocol):
    """A supernet whose operations can be blended: what differentiable strategies need on top of :class:`Supernet`."""

    @property
    def mix_shapes(self) -> Mapping[str, tuple[int, int]]:
        """The shape (edges, operations) of each kind of cell's weights, such as ``{"normal": (14, 8), "reduce": (14, 8)}``."""

    @property
    def mix_ops(self) -> tuple[str, ...]:
        """The names of the operations, in the order of the columns."""

    def mix(self, x: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Returns (N, classes) logits with every edge the weighted sum of its operations.

        ``weights`` have ``mix_shapes`` and are used as they are (softmax them before). Operations whose weight is exactly
        0 do not run; no gradient reaches such a weight.
        """

    def derive(self, weights: Mapping[str, torch.Tensor]) -> Arch:
        """Returns the architecture that ``weights`` favour, by the rule of the space's papers."""


class SharedEstimator(Estimator, Protocol):
    """An estimator over a supernet: it owns weights, optimizer, data cursor and batch-norm recalibration.

    ``estimate`` scores queries with the shared weights. Fidelity None: batch norm is recalibrated for the architecture, then
    the validation images (or the part the estimator was made with) are scored; deterministic for given weights. Fidelity
    ``"batch"``: the accuracy on the next validation batch alone, with that batch's own statistics (CNAS's reward); it
    moves the validation cursor and nothing else. Scores never change weights or running statistics.

    A cost counts the images that were trained on; scoring costs seconds only. The state pair holds everything, also
    what waits between ``compete`` and ``inherit``: resumed equals uninterrupted.
    """

    @property
    def supernet(self) -> Supernet:
        """The network; a :class:`MixingSupernet` where the space has one."""

    @property
    def lr(self) -> float:
        """The learning rate that the estimator's own schedule gives the next batch."""

    @property
    def momentum(self) -> float:
        """Of the optimizer (SGD, Nesterov)."""

    @property
    def weight_decay(self) -> float:
        """L2, on all weights."""

    def velocity(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        """Returns the optimizer's momentum buffer of a weight, zeros before its first update; not to be changed."""

    def n_batches(self, split: str) -> int:
        """Returns how many batches one pass over ``train`` or ``validation`` has."""

    def batches(self, split: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yields (images, labels) of ``train`` (augmented) or ``validation`` without end, from where the cursor stands.

        Each batch taken moves the cursor; after a pass the images come in a new order.
        """

    def loss(self, what: Arch | Mapping[str, torch.Tensor], batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Returns the mean cross entropy () of an architecture, or of a mix, on a batch; differentiable."""

    def update(self, loss: torch.Tensor, *, lr: float | None = None) -> None:
        """Moves the shared weights one step down ``loss``: backward, clip, SGD; gradients are cleared afterwards.

        Args:
            loss: () that depends on the shared weights.
            lr: learning rate of this step; None = the schedule's. Either way the schedule moves on by one batch.
        """

    def learn(
        self, archs: Iterable[Arch | Sequence[Arch]], n_batches: int, *, lr: float | None = None
    ) -> Cost:
        """Trains the shared weights on the next ``n_batches`` training batches and returns the cost.

        Args:
            archs: one item a batch, taken as they are needed (a generator may draw them from a policy). An item that is a
                list of architectures is one step on the mean of their losses on the same batch (strict fairness).
            n_batches: how many batches.
            lr: learning rate of these steps; None = the schedule's.

        Raises:
            SettingError: if ``archs`` ends before the batches do.
        """

    def compete(
        self, first: Arch, second: Arch, n_batches: int, *, lr: float | None = None, drop_path: float = 0.0
    ) -> tuple[Estimate, Estimate]:
        """Trains two architectures, each from the present shared weights with a fresh optimizer, and returns their estimates.

        Both see the same batches. The estimates have ``values["val_loss"]``. The shared weights are as before until
        ``inherit`` is called with the same two.

        Args:
            first: one learner.
            second: the other.
            n_batches: training batches of each.
            lr: learning rate, constant within the competition; None = the schedule's at its start.
            drop_path: probability of dropping an operation's output while training.
        """

    def inherit(self, winner: Arch, loser: Arch) -> None:
        """Makes what the two learned the shared weights (RelativeNAS's weight set).

        Operations that only the loser uses come from the loser; everything else comes from the winner.

        Raises:
            StateError: unless these two competed just before.
        """

    def reset(self) -> None:
        """Starts again with new weights, a fresh optimizer and the schedule at its beginning; the data cursor goes on."""

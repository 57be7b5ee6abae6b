"""Weight sharing: the supernet, the estimator that owns one, and what a one-shot strategy may do with them.

A one-shot strategy gets a :class:`SharedEstimator` as a collaborator. It says which architecture learns from the next batches
(`learn`), has two compete (`compete`, `inherit`), writes its own training step (`batches`, `loss`, `update`) and asks for
scores (`estimate`); how images become batches, the optimizer, mixed precision and batch norm are the estimator's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from archduel.core.arch import Arch
from archduel.core.protocols import Cost, Estimate, Estimator

if TYPE_CHECKING:
    import torch

__all__ = ["MixingSupernet", "SharedEstimator", "Supernet"]


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

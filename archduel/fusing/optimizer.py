"""SGD for many networks whose weights are rows of a few matrices: clipping and learning rates go by network.

A step: gradients of networks whose norm is too large are shortened, then every matrix is updated in one call, or row by row of the
learning rates where networks have their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["FusedSGD", "FusedWeights"]

Places = dict[tuple[int, str], tuple[int, int]]


class FusedWeights(Protocol):
    """Weights of many networks: matrices (rows, size), each row of one network."""

    values: list[Tensor]
    grads: list[Tensor]
    owners: list[Tensor]
    decays: list[bool]


class FusedSGD:
    """Stochastic gradient descent as :class:`archduel.training.optimizer.SGD`, for each network by itself.

    Args:
        n: number of networks.
        lr: learning rate, changed through the attribute ``lr``.
        momentum: 0 = none.
        decay_norm_bias: whether norms and biases decay too.
        grad_clip: largest norm of all gradients of a network together, 0 = off.
        rates: factor of the learning rate of each network.
    """

    def __init__(
        self,
        weights: FusedWeights,
        n: int,
        *,
        lr: float,
        momentum: float,
        nesterov: bool = True,
        weight_decay: float,
        decay_norm_bias: bool,
        grad_clip: float,
        rates: Sequence[float],
    ) -> None:
        self.weights, self.n, self.lr, self.momentum, self.grad_clip = weights, n, lr, momentum, grad_clip
        # without a velocity there is nothing to look ahead with; a recipe may leave nesterov on all the same
        self.nesterov = nesterov and momentum > 0
        self._decay = [weight_decay if decay_norm_bias or decays else 0.0 for decays in weights.decays]
        self.velocity = [torch.zeros_like(value) for value in weights.values]
        # None where all rates are 1: the usual case then takes PyTorch's kernel, which knows one learning rate only
        self._rates = None
        if len(set(rates)) > 1 or (rates and rates[0] != 1.0):
            by_network = torch.tensor(
                list(rates), dtype=weights.values[0].dtype, device=weights.values[0].device
            )
            self._rates = [by_network[owners][:, None] for owners in weights.owners]

    @torch.no_grad()
    def step(self) -> None:
        """Updates all weights by their gradients, which are changed too."""
        self._clip()
        if self._rates is not None:
            self._step_by_network()
            return
        # the kernel takes one decay a call: two calls, for matrices that decay and those that do not
        for decay in set(self._decay):
            matrices = [i for i, own in enumerate(self._decay) if own == decay]
            torch._fused_sgd_(
                [self.weights.values[i] for i in matrices],
                [self.weights.grads[i] for i in matrices],
                [self.velocity[i] for i in matrices] if self.momentum else [],
                weight_decay=decay,
                momentum=self.momentum,
                lr=self.lr,
                dampening=0.0,
                nesterov=self.nesterov,
                maximize=False,
                # the velocity starts at zero, so that the first step is like the others: it becomes the gradient
                is_first_step=False,
            )

    def _step_by_network(self) -> None:
        """The same by hand, with a learning rate a row."""
        assert self._rates is not None
        rows = zip(self.weights.values, self.weights.grads, self.velocity, self._decay, self._rates)
        for value, grad, velocity, decay, rate in rows:
            # the order of torch.optim.SGD: decay joins the gradient before the velocity, so that momentum carries it on
            grad.add_(value, alpha=decay)
            velocity.mul_(self.momentum).add_(grad)
            value.addcmul_(
                grad.add_(velocity, alpha=self.momentum) if self.nesterov else velocity, rate, value=-self.lr
            )

    def _clip(self) -> None:
        """Shortens the gradients of the networks whose norm is too large."""
        if not self.grad_clip:
            return
        # the norm goes over all weights of a network, which are spread over the matrices: sums of squares by owner
        squares = torch.zeros(self.n, dtype=self.weights.grads[0].dtype, device=self.weights.grads[0].device)
        for grad, owners in zip(self.weights.grads, self.weights.owners):
            squares.index_add_(0, owners, torch.linalg.vector_norm(grad, dim=1).square_())
        scale = (squares.sqrt_() / self.grad_clip).clamp_(min=1.0)
        # a look at the numbers makes an accelerator wait for all that was asked of it, which costs more than dividing by 1
        if squares.is_cuda or bool((scale != 1).any()):
            for grad, owners in zip(self.weights.grads, self.weights.owners):
                grad.div_(scale[owners][:, None])

    def inherit(self, before: FusedSGD, places: Places, networks: Sequence[int], now: Places) -> None:
        """Takes the velocities of some networks of ``before``.

        Args:
            places: matrix and row of (network, name) there.
            networks: their numbers there, in their order here.
            now: matrix and row of (network, name) here.
        """
        for (network, name), (matrix, row) in now.items():
            old_matrix, old_row = places[networks[network], name]
            self.velocity[matrix][row].copy_(before.velocity[old_matrix][old_row])

"""SGD with momentum in one fused call a step, gradient clipping included.

``torch.optim.SGD`` does the same, but on small networks its Python takes 3 to 15 times as long as the arithmetic, and
constructing it imports the compiler, which is a second for each worker process.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["SGD"]


class SGD:
    """Stochastic gradient descent; has what ``torch.amp.GradScaler`` needs of an optimizer.

    Args:
        model: all its parameters that require gradients are trained.
        lr: learning rate, changed through the attribute ``lr``.
        momentum: 0 = none.
        nesterov: whether the momentum is Nesterov's.
        weight_decay: L2.
        decay_norm_bias: whether vectors and scalars (norms, biases) decay too.
        grad_clip: largest norm of all gradients together, 0 = off.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        lr: float,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        decay_norm_bias: bool = True,
        grad_clip: float = 0.0,
    ) -> None:
        params = [p for p in model.parameters() if p.requires_grad]
        decayed = [p for p in params if p.ndim > 1 or decay_norm_bias]
        plain = [p for p in params if p.ndim <= 1 and not decay_norm_bias]
        groups = ((decayed, weight_decay), (plain, 0.0))
        self.param_groups: list[dict[str, Any]] = [{"params": p, "weight_decay": w} for p, w in groups if p]
        self.lr, self.momentum, self.grad_clip = lr, momentum, grad_clip
        self.nesterov = nesterov and momentum > 0
        self._velocity = [[torch.zeros_like(p) for p in group["params"]] for group in self.param_groups]

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Updates the parameters that have a gradient."""
        scale = self._clip_scale()
        for group, velocity in zip(self.param_groups, self._velocity):
            live = [(p, p.grad, v) for p, v in zip(group["params"], velocity) if p.grad is not None]
            if not live:
                continue
            params, grads, buffers = (list(column) for column in zip(*live))
            torch._fused_sgd_(
                params,
                grads,
                buffers if self.momentum else [],
                weight_decay=group["weight_decay"],
                momentum=self.momentum,
                lr=self.lr,
                dampening=0.0,
                nesterov=self.nesterov,
                maximize=False,
                is_first_step=False,  # the velocity starts at zero
                grad_scale=scale,
            )

    def _clip_scale(self) -> Tensor | None:
        """Returns what all gradients are to be divided by, () float32, or None."""
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not self.grad_clip or not grads:
            return None
        norm = torch.stack(torch._foreach_norm(grads)).norm()
        return (norm / self.grad_clip).clamp(min=1.0)

    def state_dict(self) -> dict[str, list[list[Tensor]]]:
        """Returns the velocities."""
        return {"velocity": self._velocity}

    def load_state_dict(self, state: dict[str, list[list[Tensor]]]) -> None:
        """Takes the velocities of :meth:`state_dict`."""
        for mine, saved in zip(self._velocity, state["velocity"]):
            for velocity, value in zip(mine, saved):
                velocity.copy_(value)

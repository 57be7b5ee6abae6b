"""SGD with momentum and AdamW in one fused call a step, gradient clipping included.

``torch.optim`` has the same, but on small networks its Python takes 3 to 15 times as long as the arithmetic, and
constructing it imports the compiler, which is a second for each worker process.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from archduel.errors import SettingError
from archduel.training.recipe import Recipe

__all__ = [
    "SGD", "AdamW", "InOrder", "Plan", "WeightAverage", "drop_path_at", "learning_rate", "optimizer_for", "plan", "sgd_settings", "tail_share",
]  # fmt: skip

# -- An exponential moving average of a network's weights ---------------------------------------------------------------


class WeightAverage:
    """The average of all float parameters and buffers.

    The decay starts low, (1 + t) / (10 + t), so that a short training is not averaged with its initialisation.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        # Counters such as ``num_batches_tracked`` are whole numbers, of which a mean makes no sense.
        self._names = [name for name, tensor in model.state_dict().items() if tensor.is_floating_point()]
        self._buffers = {name for name, _ in model.named_buffers()}
        # By reference: parameters are updated in place, so these are the present weights at every step.
        self._live = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
        self._average = [tensor.clone() for tensor in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Takes the present weights in."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        # One call for all tensors: on small networks a Python loop costs more than the arithmetic.
        torch._foreach_lerp_(self._average, self._live, 1 - decay)

    def buffers(self) -> list[Tensor]:
        """Returns the averages of buffers, which differ between processes where parameters do not."""
        return [average for name, average in zip(self._names, self._average) if name in self._buffers]

    @torch.no_grad()
    def _swap(self) -> None:
        # In place and by copies, since optimizer and compiled calls hold these very tensors.
        for average, live in zip(self._average, self._live):
            kept = live.clone()
            live.copy_(average)
            average.copy_(kept)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Lets the network have the average weights for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def keep(self) -> None:
        """Gives the network the average weights for good."""
        self._swap()

    def state_dict(self) -> dict[str, list[Tensor] | int]:
        """Returns the averages."""
        return {"average": self._average, "updates": self.updates}

    def load_state_dict(self, state: dict[str, list[Tensor] | int]) -> None:
        """Takes the averages of :meth:`state_dict`."""
        averages, updates = state["average"], state["updates"]
        assert isinstance(averages, list)
        assert isinstance(updates, int)
        self.updates = updates
        for mine, saved in zip(self._average, averages):
            mine.copy_(saved)


# -- What changes from step to step: how many steps there are, the learning rate, the drop-path probability -------------


# Of RelativeNAS's released ImageNet training, whose last five epochs share what one step would be.
TAIL_EPOCHS = 5


@dataclass(frozen=True)
class Plan:
    """The steps of a training.

    Attributes:
        per_epoch: batches a pass.
        steps: batches in all.
    """

    per_epoch: int
    steps: int

    @property
    def epochs(self) -> int:
        """Passes, the last of which may be a part."""
        return math.ceil(self.steps / self.per_epoch)

    def steps_of(self, epoch: int) -> range:
        """Returns the numbers of the steps of ``epoch``."""
        return range(epoch * self.per_epoch, min((epoch + 1) * self.per_epoch, self.steps))


def plan(recipe: Recipe, n_images: int) -> Plan:
    """Returns the steps of ``recipe`` on ``n_images``.

    A pass is cut into equal batches of at most ``batch_size`` images: no image is left out, no batch is tiny, and a batch
    size above the number of images is one batch of all of them. A batch never has a single image (batch norm needs two).
    """
    # Half of the images at most, because a batch of one has no variance to normalise by.
    per_epoch = max(1, min(math.ceil(n_images / recipe.batch_size), n_images // 2))
    return Plan(per_epoch, max(1, round(recipe.epochs * per_epoch)))


def learning_rate(recipe: Recipe, step: int, total: Plan) -> float:
    """Returns the learning rate of ``step`` (from 0).

    During the warm-up it rises linearly and reaches ``lr`` with the last warm-up step (or epoch, for ``lr_update="epoch"``);
    then, with t the share of the remaining steps that are done:

    - ``cosine``: lr_min + (lr - lr_min) (1 + cos(pi t)) / 2;
    - ``linear``: lr + (lr_min - lr) t;
    - ``linear_tail``: see :func:`tail_share`; it counts epochs from the very beginning, as RelativeNAS does;
    - ``exponential``: lr gamma^(epochs since the warm-up).

    With ``lr_update="epoch"`` all steps of an epoch have the value of its first one.
    """
    # The papers' codes step their scheduler once an epoch; a step is then judged as the first of its epoch.
    by_epoch = recipe.lr_update == "epoch"
    if by_epoch:
        step -= step % total.per_epoch
    warmup = min(round(recipe.warmup_epochs * total.per_epoch), total.steps)
    if step < warmup:
        # Counted from the end of the step (or epoch), so that the first one does not train with a rate of 0.
        return recipe.lr * min(1.0, (step + (total.per_epoch if by_epoch else 1)) / warmup)
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "exponential":
        return float(recipe.lr * recipe.gamma ** ((step - warmup) / total.per_epoch))
    if recipe.schedule == "linear_tail":
        return recipe.lr * tail_share(step / total.per_epoch, total.steps / total.per_epoch)
    # The warm-up may be the whole training; there is nothing to divide by then.
    done = (step - warmup) / max(1, total.steps - warmup)
    left = (1 + math.cos(math.pi * done)) / 2 if recipe.schedule == "cosine" else 1 - done
    return recipe.lr_min + (recipe.lr - recipe.lr_min) * left


def tail_share(epoch: float, epochs: float) -> float:
    """Returns the share of the peak learning rate at ``epoch`` (from 0) of a linear fall with a slower end.

    It falls to 0 within ``epochs - 5``, but the last five epochs share one fifth of the last such step each. Trainings of
    five epochs or fewer have a plain linear fall. Source: the released ImageNet training of RelativeNAS.
    """
    # The linear part falls as if there were no tail; its last step is then spread over the tail.
    body = epochs - TAIL_EPOCHS
    if body <= 0:
        return 1 - epoch / epochs
    return (body - epoch) / body if epochs - epoch > TAIL_EPOCHS else (epochs - epoch) / (TAIL_EPOCHS * body)


def drop_path_at(recipe: Recipe, epoch: int) -> float:
    """Returns the drop-path probability of ``epoch`` (from 0): ``drop_path`` x epoch / epochs, as in DARTS."""
    return recipe.drop_path * min(1.0, epoch / recipe.epochs)


class _Grouped:
    """Parameters in groups of one weight decay and one share of the learning rate; has what ``torch.amp.GradScaler`` needs of an optimizer.

    Args:
        model: all its parameters that require gradients are trained.
        lr: learning rate, changed through the attribute ``lr``.
        weight_decay: see :attr:`archduel.training.recipe.Recipe.weight_decay`.
        decay_norm_bias: whether vectors and scalars (norms, biases) decay too.
        grad_clip: largest norm of all gradients together, 0 = off.
        layer_decay: see :attr:`archduel.training.recipe.Recipe.layer_decay`.
    """

    def __init__(self, model: nn.Module, lr: float, weight_decay: float, grad_clip: float, layer_decay: float, *, decay_norm_bias: bool) -> None:
        params = [p for p in model.parameters() if p.requires_grad]
        rates = _layer_rates(model, layer_decay)
        # Vectors are the scales and shifts of norms, and biases, which recipes such as CNAS's leave alone.
        decayed = [p for p in params if p.ndim > 1 or decay_norm_bias]
        plain = [p for p in params if p.ndim <= 1 and not decay_norm_bias]
        groups = ((decayed, weight_decay), (plain, 0.0))
        self.param_groups: list[dict[str, Any]] = [
            {"params": members, "weight_decay": w, "rate": rate}
            for p, w in groups
            for rate in sorted({rates.get(each, 1.0) for each in p}, reverse=True)
            if (members := [each for each in p if rates.get(each, 1.0) == rate])
        ]
        self.lr, self.grad_clip = lr, grad_clip

    def zeros(self) -> list[list[Tensor]]:
        """Returns a tensor of zeros for each parameter, in groups."""
        return [[torch.zeros_like(p) for p in group["params"]] for group in self.param_groups]

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                # None instead of zeros: an operation that was not used then keeps its velocity and does not decay.
                parameter.grad = None

    def _live(self, *kept: list[list[Tensor]]) -> Iterator[tuple[dict[str, Any], list[list[Tensor]]]]:
        """Gives for each group itself, and lists of those parameters that have a gradient, of the gradients, and of what is kept for each of them."""
        for place, group in enumerate(self.param_groups):
            rows = [(p, p.grad, *each) for p, *each in zip(group["params"], *(lists[place] for lists in kept)) if p.grad is not None]
            # All of a group's operations may be unused in a step of a network that draws its paths.
            if rows:
                yield group, [list(column) for column in zip(*rows)]

    def _clip_scale(self) -> Tensor | None:
        """Returns what all gradients are to be divided by, () float32, or None."""
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not self.grad_clip or not grads:
            return None
        # The norm of the norms is that of all gradients as one vector, as ``clip_grad_norm_`` computes it.
        norm = torch.stack(torch._foreach_norm(grads)).norm()
        # A divisor of at least 1 leaves small gradients alone; it stays on the device, so that no step waits for it.
        scale: Tensor = (norm / self.grad_clip).clamp(min=1.0)
        return scale


class SGD(_Grouped):
    """Stochastic gradient descent.

    Args:
        model: all its parameters that require gradients are trained.
        lr: learning rate, changed through the attribute ``lr``.
        momentum: 0 = none.
        nesterov: whether the momentum is Nesterov's.
        weight_decay: L2.
        decay_norm_bias: whether vectors and scalars (norms, biases) decay too.
        grad_clip: largest norm of all gradients together, 0 = off.
        layer_decay: see :attr:`archduel.training.recipe.Recipe.layer_decay`.
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
        layer_decay: float = 1.0,
    ) -> None:
        super().__init__(model, lr, weight_decay, grad_clip, layer_decay, decay_norm_bias=decay_norm_bias)
        self.momentum = momentum
        # Without momentum there is nothing to look ahead along; ``torch.optim.SGD`` refuses the pair.
        self.nesterov = nesterov and momentum > 0
        self._velocity = self.zeros()

    @torch.no_grad()
    def step(self) -> None:
        """Updates the parameters that have a gradient."""
        scale = self._clip_scale()
        for group, (params, grads, buffers) in self._live(self._velocity):
            torch._fused_sgd_(
                params,
                grads,
                buffers if self.momentum else [],
                weight_decay=group["weight_decay"],
                momentum=self.momentum,
                lr=self.lr * group["rate"],
                dampening=0.0,
                nesterov=self.nesterov,
                maximize=False,
                is_first_step=False,  # the velocity starts at zero
                grad_scale=scale,
            )

    def state_dict(self) -> dict[str, list[list[Tensor]]]:
        """Returns the velocities."""
        return {"velocity": self._velocity}

    def load_state_dict(self, state: dict[str, list[list[Tensor]]]) -> None:
        """Takes the velocities of :meth:`state_dict`."""
        _copy_into(self._velocity, state["velocity"])


class AdamW(_Grouped):
    """Adam with decoupled weight decay.

    Args:
        model: all its parameters that require gradients are trained.
        lr: learning rate, changed through the attribute ``lr``.
        weight_decay: share of a weight, times the learning rate, that a step takes off.
        decay_norm_bias: whether vectors and scalars (norms, biases) decay too.
        grad_clip: largest norm of all gradients together, 0 = off.
        layer_decay: see :attr:`archduel.training.recipe.Recipe.layer_decay`.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
    """

    BETAS, EPSILON = (0.9, 0.999), 1e-8

    def __init__(
        self,
        model: nn.Module,
        *,
        lr: float,
        weight_decay: float = 0.0,
        decay_norm_bias: bool = True,
        grad_clip: float = 0.0,
        layer_decay: float = 1.0,
    ) -> None:
        super().__init__(model, lr, weight_decay, grad_clip, layer_decay, decay_norm_bias=decay_norm_bias)
        self._means, self._squares = self.zeros(), self.zeros()
        # A count for each parameter: an operation that was not used in a step has made none.
        self._steps = [[torch.zeros((), device=p.device) for p in group["params"]] for group in self.param_groups]

    @torch.no_grad()
    def step(self) -> None:
        """Updates the parameters that have a gradient."""
        scale = self._clip_scale()
        for group, (params, grads, means, squares, steps) in self._live(self._means, self._squares, self._steps):
            torch._foreach_add_(steps, 1.0)
            torch._fused_adamw_(
                params,
                grads,
                means,
                squares,
                [],
                steps,
                lr=self.lr * group["rate"],
                beta1=self.BETAS[0],
                beta2=self.BETAS[1],
                weight_decay=group["weight_decay"],
                eps=self.EPSILON,
                amsgrad=False,
                maximize=False,
                grad_scale=scale,
            )

    def state_dict(self) -> dict[str, list[list[Tensor]]]:
        """Returns the averages of gradients and of their squares, and how many steps each parameter has made."""
        return {"means": self._means, "squares": self._squares, "steps": self._steps}

    def load_state_dict(self, state: dict[str, list[list[Tensor]]]) -> None:
        """Takes what :meth:`state_dict` returned.

        The velocities of SGD, which pretrained networks were trained with before, say nothing here: the averages then begin anew.
        """
        if "velocity" not in state:
            for mine, saved in ((self._means, state["means"]), (self._squares, state["squares"]), (self._steps, state["steps"])):
                _copy_into(mine, saved)


def _copy_into(mine: list[list[Tensor]], saved: list[list[Tensor]]) -> None:
    """Copies into place: the lists that a kernel is given are these."""
    for group, values in zip(mine, saved):
        for tensor, value in zip(group, values):
            tensor.copy_(value)


def optimizer_for(model: nn.Module, recipe: Recipe) -> SGD | AdamW:
    """Returns what ``recipe`` trains one network with."""
    names = ("lr", "weight_decay", "decay_norm_bias", "grad_clip", "layer_decay")
    settings = {name: getattr(recipe, name) for name in names}
    if recipe.optimizer == "sgd":
        return SGD(model, momentum=recipe.momentum, nesterov=recipe.nesterov, **settings)
    return AdamW(model, **settings)


@runtime_checkable
class InOrder(Protocol):
    """A network that says the order of its layers."""

    def in_order(self) -> list[nn.Module]:
        """Returns its parts from the input to the output."""


def _layer_rates(model: nn.Module, decay: float) -> dict[nn.Parameter, float]:
    """Returns the share of the learning rate that each parameter has, where the network says the order of its layers."""
    if decay == 1 or not isinstance(model, InOrder):
        return {}
    parts = model.in_order()
    return {p: decay ** (len(parts) - 1 - place) for place, part in enumerate(parts) for p in part.parameters()}


def sgd_settings(recipe: Recipe) -> dict[str, Any]:
    """Returns what ``recipe`` says to :class:`SGD` and to its fused form where networks are trained together or share weights.

    Raises:
        SettingError: for a recipe of another optimizer, or with what one network alone is trained with: frozen norms, rates by layer.
    """
    given = {"optimizer": (recipe.optimizer, "sgd"), "frozen_norms": (recipe.frozen_norms, False), "layer_decay": (recipe.layer_decay, 1.0)}
    for name, (asked, known) in given.items():
        if asked != known:
            raise SettingError(
                f"networks that are trained together or share weights are trained with {name} {known!r}, got {asked!r}; set it to {known!r}, or train one by one"
            )
    names = ("lr", "momentum", "nesterov", "weight_decay", "decay_norm_bias", "grad_clip")
    return {name: getattr(recipe, name) for name in names}

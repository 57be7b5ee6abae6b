"""The training loop of many networks at once: each ends as it would alone, whatever happens to the others.

The order of :mod:`archduel.training.loop`, for K networks: an epoch draws orders and noise from seeds of its own, each step makes batches,
draws drop-path masks, goes forward and backward, and updates; after the epoch its numbers are noted, networks whose loss is not finite
leave, ``prune`` may end others, and the group goes on smaller.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from archduel.errors import DataError, SettingError
from archduel.training.augment import augmented, mixed, mixup_share, normalise
from archduel.training.images import Images
from archduel.training.loop import CHECK_EVERY, Epoch, Trained
from archduel.training.metrics import Evaluation
from archduel.training.optimizer import WeightAverage, drop_path_at, learning_rate, plan, sgd_settings
from archduel.training.recipe import Recipe
from archduel.training.runtime import mix_seed

__all__ = ["FusedGroup", "FusedNetworks", "FusedSGD", "FusedWeights", "evaluate_fused", "train_fused"]

# -- SGD for many networks whose weights are rows of a few matrices: clipping and learning rates go by network ----------
#
# A step: gradients of networks whose norm is too large are shortened, then every matrix is updated in one call, or row by row of the
# learning rates where networks have their own.


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


# -- What the fused loop needs of networks, and what they say about images ----------------------------------------------


class FusedNetworks(Protocol):
    """K networks as one computation, such as :class:`archduel.fusing.networks.Fused`."""

    device: torch.device

    @property
    def weights(self) -> FusedWeights:
        """Values and gradients by row, and whose they are."""

    def __len__(self) -> int:
        """Returns K."""

    def forward(self, images: Tensor, *, training: bool = True) -> list[Tensor]:
        """Returns logits (K, classes, B), and auxiliary ones, of (B, C, H, W) or (K, B, C, H, W)."""

    def backward(self, grads: Sequence[Tensor]) -> None:
        """Writes the gradients, given those of the outputs."""

    def drop_names(self, network: int) -> list[str]:
        """Returns the names of a network's drop-path layers in order."""

    def set_masks(self, masks: Callable[[int, str], Tensor] | None) -> None:
        """Gives drop path its masks."""

    def state_dict(self) -> dict[str, Tensor]:
        """Returns all that training changes, by reference."""

    def named_buffers(self) -> list[tuple[str, Tensor]]:
        """Returns the part of the state that is not learnt."""

    def places(self) -> dict[tuple[int, str], tuple[int, int]]:
        """Returns where the weights of (network, name) are: matrix and row."""

    def keep(self, networks: Sequence[int]) -> FusedNetworks:
        """Returns some of the networks as they are now."""


@torch.no_grad()  # inference mode would spoil the buffers for training
def evaluate_fused(model: FusedNetworks, pixels: Images, *, batch_size: int = 64) -> list[Evaluation]:
    """Returns each network's :class:`~archduel.training.metrics.Evaluation` of ``pixels``.

    Args:
        batch_size: images at a time; larger ones than in training take more memory than training did.

    Raises:
        SettingError: if the labels are more classes than the networks have outputs.
    """
    logits = []
    for rows in torch.arange(len(pixels)).split(batch_size):
        images = pixels.batch(rows)[0].to(model.device)
        out = model.forward(normalise(images, pixels.mean, pixels.std), training=False)[0]
        # float64, as for one network: softmax and loss should not add rounding of their own
        logits.append(out.double().cpu())
    every = torch.cat(logits, 2).transpose(1, 2)  # (K, N, classes)
    labels = pixels.labels.cpu()
    if int(labels.max()) >= every.shape[2]:
        raise SettingError(
            f"labels go up to {int(labels.max())}, but the networks have {every.shape[2]} outputs (labels 0 to "
            f"{every.shape[2] - 1}); build them for as many classes as the images have"
        )
    return [
        Evaluation(one.softmax(1).float().numpy(), labels.numpy(), float(F.cross_entropy(one, labels)))
        for one in every
    ]


# -- Networks in the middle of their training together: what happens in an epoch and in a step --------------------------


class FusedGroup:
    """Networks in the middle of their training."""

    def __init__(
        self,
        model: FusedNetworks,
        images: Images,
        recipe: Recipe,
        seeds: Sequence[int],
        rates: Sequence[float] | None,
    ) -> None:
        self.model, self.images, self.recipe = model, images, recipe
        self.plan = plan(recipe, len(images))
        self.shared = len(seeds) == 1
        self.seeds = list(seeds) * (len(model) if self.shared else 1)
        self.rates = [1.0] * len(model) if rates is None else list(rates)
        self.numbers = list(range(len(model)))  # which of the first networks are still in the batch
        self.results = [Trained() for _ in self.numbers]
        self._equip(None)

    def _equip(
        self, before: tuple[FusedSGD, dict[tuple[int, str], tuple[int, int]], list[int]] | None
    ) -> None:
        """Makes optimizer and average for the networks; their velocities go on."""
        # also when the group shrinks: matrices and rows are then others
        recipe, device = self.recipe, self.model.device
        self.optimizer = FusedSGD(self.model.weights, len(self.model), **sgd_settings(recipe), rates=self.rates)
        if before is not None:
            self.optimizer.inherit(*before, self.model.places())
        self.average = WeightAverage(self.model, recipe.ema) if recipe.ema else None  # type: ignore[arg-type]
        # loss x images, correct answers and images of the epoch, by network; on the device, so that a step does not wait for it
        self._sums = torch.zeros(3, len(self.model), device=device)

    def shrink(self, places: list[int]) -> None:
        """Goes on with the networks at these places only."""
        before, rows, average, whole = self.optimizer, self.model.places(), self.average, self.model
        self.model = whole.keep(places)
        for name in ("seeds", "rates", "numbers"):
            values = getattr(self, name)
            setattr(self, name, [values[k] for k in places])
        self._equip((before, rows, places))
        # the average lies in the old rows; as weights of the networks it finds its way to the new ones
        if average and self.average:
            with average.applied():
                values = whole.keep(places).state_dict()
            self.average.load_state_dict({"average": list(values.values()), "updates": average.updates})

    def run_epoch(self, epoch: int) -> list[int]:
        """Trains one epoch and returns the places of the networks whose loss stayed finite."""
        # One seed for all means one order and one batch; drop path still draws network by network, from equal generators, because
        # their layers differ. Names and order of the draws are those of a network alone, so that it sees the same numbers.
        seeds = self.seeds[:1] if self.shared else self.seeds
        orders = [
            torch.randperm(len(self.images), generator=_generator("cpu", s, "order", epoch)) for s in seeds
        ]
        noises = [_generator(self.model.device, s, "noise", epoch) for s in seeds]
        rngs = [np.random.default_rng(mix_seed(s, "mixup", epoch)) for s in seeds]
        probability = drop_path_at(self.recipe, epoch) if self.recipe.drop_path else 0.0
        layers = [_generator(self.model.device, s, "layers", epoch) for s in self.seeds]
        self._sums.zero_()
        steps = self.plan.steps_of(epoch)
        parts = [order.tensor_split(self.plan.per_epoch)[: len(steps)] for order in orders]
        sources = [self.images.batches(part, mix_seed(s, "crops", epoch)) for part, s in zip(parts, seeds)]
        for place, step in enumerate(steps):
            self.optimizer.lr = learning_rate(self.recipe, step, self.plan)
            batch = [
                self._batch(*next(source), noise, rng) for source, noise, rng in zip(sources, noises, rngs)
            ]
            if probability:
                self._draw_masks(probability, len(parts[0][place]), layers)
            self._step(batch)
            # only when none is left is the rest of the epoch spared: others would be disturbed by a shrink in its middle
            if (step + 1) % CHECK_EVERY == 0 and not torch.isfinite(self._sums[0]).any():
                break
        self.model.set_masks(None)
        finite = torch.isfinite(self._sums[0]).tolist()
        return [k for k, is_finite in enumerate(finite) if is_finite]

    def _batch(
        self, raw: Tensor, labels: Tensor, noise: torch.Generator, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        """Returns images, labels, the labels mixed in and the share of the first."""
        # contiguous: Fused turns the batch to the innermost place itself
        x = augmented(raw, self.recipe.with_(channels_last=False), self.images.mean, self.images.std, noise)
        if not self.recipe.mixup:
            return x, labels, labels, 1.0
        share = mixup_share(self.recipe.mixup, rng)
        x, partner = mixed(x, share, noise)
        return x, labels, labels[partner], share

    def _draw_masks(self, p: float, batch: int, generators: list[torch.Generator]) -> None:
        """Draws the drop-path masks of a step, a network at a time, as it would alone."""
        masks = {}
        for k, generator in enumerate(generators):
            for name in self.model.drop_names(k):
                mask = torch.empty(batch, 1, 1, 1, device=self.model.device)
                masks[k, name] = mask.bernoulli_(1.0 - p, generator=generator).flatten().double() / (1.0 - p)
        self.model.set_masks(lambda k, name: masks[k, name])

    def _step(self, batch: list[tuple[Tensor, Tensor, Tensor, float]]) -> None:
        """Trains on one batch: forward, loss, backward, update, average."""
        k, recipe = len(self.model), self.recipe
        x = batch[0][0] if self.shared else torch.stack([b[0] for b in batch])
        labels = torch.stack([b[1] for b in batch]).expand(k, -1)  # (K, B)
        others = torch.stack([b[2] for b in batch]).expand(k, -1)
        share = torch.tensor([b[3] for b in batch], device=labels.device, dtype=torch.float64).expand(k)
        outputs = [out.detach().requires_grad_() for out in self.model.forward(x)]
        losses = [self._losses(out, labels, others, share) for out in outputs]
        loss = losses[0] if len(losses) == 1 else losses[0] + recipe.auxiliary_weight * losses[1]
        # Autograd goes from the losses to the logits, the layers by hand from there. The networks share no weights, so that the sum
        # of their losses has the gradient of each by itself.
        grads = torch.autograd.grad(loss.sum(), outputs)
        self.model.backward(grads)
        self.optimizer.step()
        if self.average:
            self.average.update()
        right = (outputs[0].detach().argmax(1) == labels).sum(1)
        n = labels.shape[1]
        self._sums += torch.stack((loss.detach().float() * n, right, right.new_full((k,), n)))

    def _losses(self, logits: Tensor, labels: Tensor, others: Tensor, share: Tensor) -> Tensor:
        """Returns the cross entropy of each network (K,), of two labels for mixed images."""
        # a mean over images for each network, never over networks: their number must not change a gradient
        smoothing = self.recipe.label_smoothing
        logits = logits if logits.dtype == torch.float64 else logits.float()
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none").mean(1)
        if not self.recipe.mixup:
            return loss
        other = F.cross_entropy(logits, others, label_smoothing=smoothing, reduction="none").mean(1)
        return share * loss + (1 - share) * other

    def note_epoch(self, epoch: int, validation: Images | None, seconds: float) -> None:
        """Writes the epoch's numbers into the histories."""
        steps = self.plan.steps_of(epoch)
        evaluations = None
        if validation is not None:
            with self.average.applied() if self.average else nullcontext():
                evaluations = evaluate_fused(self.model, validation, batch_size=self.recipe.batch_size)
        for k, (loss, right, count) in enumerate(self._sums.T.tolist()):
            result = self.results[self.numbers[k]]
            result.images += int(count)
            # the seconds of all are shared equally: which network took which part of a product cannot be told
            result.seconds += seconds / len(self.numbers)
            if not math.isfinite(loss):
                result.reason = (
                    f"the training loss was not finite in epoch {epoch + 1}; a smaller lr may help"
                )
                continue
            numbers: Epoch = {
                "epoch": epoch + len(steps) / self.plan.per_epoch,
                "lr": self.rates[k] * learning_rate(self.recipe, steps[-1], self.plan),
                "train_loss": loss / count,
                "train_accuracy": right / count,
            }
            if evaluations is not None:
                numbers |= {"val_loss": evaluations[k].loss, "val_accuracy": evaluations[k].accuracy}
            result.history.append(numbers)


def _generator(device: str | torch.device, seed: int, purpose: str, epoch: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(mix_seed(seed, purpose, epoch))


def train_fused(
    model: FusedNetworks,
    train: Images,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    rates: Sequence[float] | None = None,
    validation: Images | None = None,
    prune: Callable[[int, list[int], list[Epoch]], Sequence[int]] | None = None,
) -> tuple[FusedNetworks, list[int], list[Trained]]:
    """Trains networks together, each as :func:`archduel.training.loop.train` trains it alone with the same seed.

    A network whose loss is not finite leaves the group at the end of the epoch, with a reason; the others do not notice.

    Args:
        model: the networks, initialised.
        train: training images, resized and cut to the recipe's fraction here.
        recipe: its precision must be ``fp32``.
        seeds: of batch order, augmentation and drop path: one for all (they see the same batches), or one a network.
        rates: factors of the learning rate, one a network; None = 1.
        validation: images that all are evaluated on after each epoch.
        prune: called after each epoch but the last with (finished epochs, indices of the networks left, their latest
            metrics); returns the indices of those that go on. The others end there, with a reason.

    Returns:
        The networks that were trained to the end, their indices among those given, and what happened to each given one.

    Raises:
        SettingError: for another precision, or another number of seeds or rates.
        DataError: for fewer than two training images.
    """
    _check(len(model), recipe, seeds, rates)
    images = train.resized(recipe.image_size).fraction(recipe.data_fraction, seed=0)
    if len(images) < 2:
        raise DataError(f"training needs at least 2 images, got {len(images)}")
    judged = validation.resized(recipe.image_size) if validation is not None else None
    group = FusedGroup(model, images, recipe, seeds, rates)
    for epoch in range(group.plan.epochs):
        began = time.perf_counter()
        remaining = finite = group.run_epoch(epoch)
        group.note_epoch(epoch, judged, time.perf_counter() - began)
        if prune is not None and finite and epoch + 1 < group.plan.epochs:
            remaining = _pruned(group, prune, epoch, finite)
        if len(remaining) < len(group.model):
            # no group can be made of nothing: the last networks stay where they are, and none of them counts as trained
            if not remaining:
                group.numbers = []
                break
            group.shrink(remaining)
    if group.average:
        group.average.keep()
    return group.model, group.numbers, group.results


def _check(k: int, recipe: Recipe, seeds: Sequence[int], rates: Sequence[float] | None) -> None:
    """Raises SettingError for settings that ``k`` fused networks cannot be trained with."""
    if recipe.precision != "fp32":
        raise SettingError(
            f"fused training computes in fp32, got precision {recipe.precision!r}; set it to fp32 or train one by one"
        )
    for name, values in (("seeds", seeds), ("rates", rates or [1.0] * k)):
        if len(values) != k and (name, len(values)) != ("seeds", 1):
            one = " (or 1 for all)" if name == "seeds" else ""
            raise SettingError(f"{name} must be {k}, one for each network{one}, got {len(values)}")


def _pruned(
    group: FusedGroup,
    prune: Callable[[int, list[int], list[Epoch]], Sequence[int]],
    epoch: int,
    finite: list[int],
) -> list[int]:
    """Returns the places of the networks that go on; the others get their reason."""
    numbers = [group.numbers[k] for k in finite]
    chosen = set(prune(epoch + 1, numbers, [group.results[n].history[-1] for n in numbers]))
    for number in set(numbers) - chosen:
        group.results[number].reason = f"stopped early after epoch {epoch + 1} of {group.plan.epochs}"
    return [k for k in finite if group.numbers[k] in chosen]

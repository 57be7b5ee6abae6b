"""Networks in the middle of their training together: what happens in an epoch and in a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from archduel.training.augment import augmented, mixed, mixup_share
from archduel.training.average import WeightAverage
from archduel.training.fused_networks import FusedNetworks, evaluate_fused
from archduel.training.fused_sgd import FusedSGD
from archduel.training.pixels import Images
from archduel.training.recipe import Recipe
from archduel.training.running import CHECK_EVERY, Epoch, Trained
from archduel.training.schedule import drop_path_at, learning_rate, plan
from archduel.training.seeding import mix_seed

__all__ = ["FusedGroup"]


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
        recipe, device = self.recipe, self.model.device
        self.optimizer = FusedSGD(
            self.model.weights,
            len(self.model),
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            decay_norm_bias=recipe.decay_norm_bias,
            grad_clip=recipe.grad_clip,
            rates=self.rates,
        )
        if before is not None:
            self.optimizer.inherit(*before, self.model.places())
        self.average = WeightAverage(self.model, recipe.ema) if recipe.ema else None  # type: ignore[arg-type]
        self._sums = torch.zeros(
            3, len(self.model), device=device
        )  # loss x images, correct, images of the epoch

    def shrink(self, kept: list[int]) -> None:
        """Goes on with the networks at these places only."""
        old, places, average, whole = self.optimizer, self.model.places(), self.average, self.model
        self.model = whole.keep(kept)
        for name in ("seeds", "rates", "numbers"):
            values = getattr(self, name)
            setattr(self, name, [values[k] for k in kept])
        self._equip((old, places, kept))
        if average and self.average:
            with average.applied():
                values = whole.keep(kept).state_dict()
            self.average.load_state_dict({"average": list(values.values()), "updates": average.updates})

    def run_epoch(self, epoch: int) -> list[int]:
        """Trains one epoch and returns the places of the networks whose loss stayed finite."""
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
            if (step + 1) % CHECK_EVERY == 0 and not torch.isfinite(self._sums[0]).any():
                break
        self.model.set_masks(None)
        finite = torch.isfinite(self._sums[0]).tolist()
        return [k for k, good in enumerate(finite) if good]

    def _batch(
        self, raw: Tensor, labels: Tensor, noise: torch.Generator, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        """Returns images, labels, the labels mixed in and the share of the first."""
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
        """One batch: forward, loss, backward, update, average."""
        k, recipe = len(self.model), self.recipe
        x = batch[0][0] if self.shared else torch.stack([b[0] for b in batch])
        labels = torch.stack([b[1] for b in batch]).expand(k, -1)  # (K, B)
        others = torch.stack([b[2] for b in batch]).expand(k, -1)
        share = torch.tensor([b[3] for b in batch], device=labels.device, dtype=torch.float64).expand(k)
        outputs = [out.detach().requires_grad_() for out in self.model.forward(x)]
        losses = [self._losses(out, labels, others, share) for out in outputs]
        loss = losses[0] if len(losses) == 1 else losses[0] + recipe.auxiliary_weight * losses[1]
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
        scored = None
        if validation is not None:
            with self.average.applied() if self.average else nullcontext():
                scored = evaluate_fused(self.model, validation, batch_size=self.recipe.batch_size)
        for k, (loss, right, count) in enumerate(self._sums.T.tolist()):
            result = self.results[self.numbers[k]]
            result.images += int(count)
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
            if scored is not None:
                numbers |= {"val_loss": scored[k].loss, "val_accuracy": scored[k].accuracy}
            result.history.append(numbers)


def _generator(device: str | torch.device, seed: int, purpose: str, epoch: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(mix_seed(seed, purpose, epoch))

"""Scoring architectures with shared weights: batch norm measured for each, nothing changed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archduel.core import Arch, Cost, Estimate, Scale, State
from archduel.errors import ArchduelError, StateError, UnknownNameError, of_the_machine, unknown
from archduel.spaces import family as nets
from archduel.spaces.layers import set_drop_path
from archduel.training.images import Cursor, Pixels
from archduel.training.metrics import METRICS, Evaluation, chance, confusion_matrix
from archduel.training.norms import averaging, batch_statistics, statistics_kept
from archduel.training.optimizer import SGD, sgd_settings
from archduel.training.recipe import Recipe
from archduel.training.runtime import mix_seed

__all__ = ["Ownership", "Pair", "SharedJudge"]

# -- Which tensors of a supernet belong to which architectures ----------------------------------------------------------


class Ownership:
    """The tensors of a supernet (weights and buffers) by the operation they belong to.

    Args:
        network: a :class:`archduel.core.Supernet` that is a module.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._operations: frozenset[str] = network.operations  # type: ignore[assignment]
        self._tensors: dict[str, Tensor] = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        self._by_owner: dict[str, list[str]] = {}
        for name in self._tensors:
            self._by_owner.setdefault(self._owner(name), []).append(name)
        self._norms: dict[str, list[nn.BatchNorm2d]] = {}
        for name, module in network.named_modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                self._norms.setdefault(self._owner(name), []).append(module)

    def _owner(self, name: str) -> str:
        """Returns the operation that a submodule or tensor is part of, empty for what everybody uses."""
        parts = name.split(".")
        prefixes = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
        return next((prefix for prefix in prefixes if prefix in self._operations), "")

    def _owners(self, archs: tuple[Arch, ...]) -> list[str]:
        """Returns the operations of ``archs``, and everybody's part, in a fixed order."""
        used: frozenset[str] = frozenset().union(*(self.network.modules_of(arch) for arch in archs))  # type: ignore[operator]
        return ["", *sorted(used)]

    def names(self, *archs: Arch) -> list[str]:
        """Returns the names of all tensors that at least one of ``archs`` uses."""
        return [name for owner in self._owners(archs) for name in self._by_owner.get(owner, ())]

    def parameters(self, arch: Arch) -> list[nn.Parameter]:
        """Returns the weights that ``arch`` uses."""
        tensors = (self._tensors[name] for name in self.names(arch))
        return [tensor for tensor in tensors if isinstance(tensor, nn.Parameter)]

    def norms(self, arch: Arch) -> list[nn.BatchNorm2d]:
        """Returns the batch norms with statistics that ``arch`` uses."""
        return [norm for owner in self._owners((arch,)) for norm in self._norms.get(owner, ())]

    def copies(self, *archs: Arch) -> dict[str, Tensor]:
        """Returns copies of the tensors that ``archs`` use."""
        return {name: self._tensors[name].detach().clone() for name in self.names(*archs)}

    @torch.no_grad()
    def put(self, values: Mapping[str, Tensor]) -> None:
        """Writes ``values`` into the network."""
        for name, value in values.items():
            self._tensors[name].copy_(value)


SCORED_AT_ONCE = 256


class SharedJudge:
    """Scores architectures of a supernet; weights and running statistics are afterwards what they were.

    Args:
        own: the supernet's tensors by their owners.
        train: training images, for the statistics.
        validation: what scores read.
        scale: of the networks, for their counts.
        metric: ``accuracy``, ``balanced_accuracy`` or ``macro_f1``.
        recalibration: training batches that measure batch-norm statistics before a score; 0 = the running ones are used.
        seed: which training images these are.

    Raises:
        UnknownNameError: for a metric that does not exist.
    """

    def __init__(
        self, own: Ownership, train: Cursor, validation: Pixels, scale: Scale, *, metric: str, recalibration: int, seed: int
    ) -> None:
        if metric not in METRICS:
            raise unknown("metric", metric, METRICS)
        self.own, self.train, self.validation, self.scale = own, train, validation, scale
        self.metric, self.recalibration, self.seed = metric, recalibration, seed
        self._dropouts = [module for module in own.network.modules() if isinstance(module, nn.Dropout)]
        self.chance = chance(validation.labels.cpu().numpy(), scale.n_classes, metric)

    def estimate(self, arch: Arch, batch: tuple[Tensor, Tensor] | None = None, *, running: bool = False) -> Estimate:
        """Returns the score on the validation images, or on ``batch`` alone; what is wrong with ``arch`` is a failure.

        Beside a score on all of them stands ``chance``, what a network that does not look may come to.
        ``running``: the present running statistics are used, not recalibrated ones.
        """
        began = time.perf_counter()
        try:
            score, loss = self.score(arch, running=running) if batch is None else self.glance(arch, batch)
            values = {**self.counts(arch), "val_loss": loss}
            if batch is None:
                values["chance"] = self.chance
        except ArchduelError as error:
            if of_the_machine(error):
                raise
            return Estimate(math.nan, Cost(time.perf_counter() - began), {}, str(error))
        cost = Cost(time.perf_counter() - began)
        if not math.isfinite(loss):
            return Estimate(math.nan, cost, values, "the loss on the validation images is not finite")
        return Estimate(score, cost, values)

    def counts(self, arch: Arch) -> dict[str, Any]:
        """Returns params and macs of ``arch`` on its own, where its space has counts."""
        try:
            return nets.count(arch, self.scale)._asdict()
        except UnknownNameError:  # a plug-in's space may have a supernet but no counts
            return {}

    @torch.no_grad()
    def score(self, arch: Arch, *, running: bool = False) -> tuple[float, float]:
        """Returns metric and loss on the validation images, batch norm recalibrated unless the ``running`` statistics are to be used."""
        norms, network = self.own.norms(arch), self.own.network
        with statistics_kept(norms), _at_rest(self._dropouts):
            if self.recalibration and not running:
                with averaging(norms):
                    for x in self.calibration():
                        network(x, arch)
            with _at_rest(norms):
                scored = self._evaluation(arch)
        return scored.score(self.metric), scored.loss

    def _evaluation(self, arch: Arch) -> Evaluation:
        """Returns what ``arch`` says about the validation images."""
        pixels, logits = self.validation, []
        for rows in torch.arange(len(pixels)).split(SCORED_AT_ONCE):
            x = self.train.plain(pixels.batch(rows)[0])
            logits.append(self.own.network(x, arch).double().cpu())
        every, labels = torch.cat(logits), pixels.labels.cpu()  # (N, classes), (N,)
        return Evaluation(every.softmax(1).float().numpy(), labels.numpy(), float(F.cross_entropy(every, labels)))

    def calibration(self) -> Iterator[Tensor]:
        """Yields the normalised training images that statistics are measured with: always the same, not augmented."""
        cursor = self.train
        order = torch.randperm(len(cursor.pixels), generator=torch.Generator().manual_seed(self.seed))
        for rows in order.tensor_split(cursor.per_pass)[: self.recalibration]:
            yield cursor.plain(cursor.pixels.batch(rows)[0])

    @torch.no_grad()
    def glance(self, arch: Arch, batch: tuple[Tensor, Tensor]) -> tuple[float, float]:
        """Returns metric and loss on one batch, with the batch's own statistics."""
        x, labels = batch
        with batch_statistics(self.own.norms(arch)):
            logits = self.own.network(x, arch)
        loss, guess = float(F.cross_entropy(logits, labels)), logits.argmax(1)
        confusion = confusion_matrix(labels.cpu().numpy(), guess.cpu().numpy(), self.scale.n_classes)
        return METRICS[self.metric](confusion), loss


@contextmanager
def _at_rest(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Puts some modules, all in training mode, in evaluation mode for a while; to ask all thousands of them takes longer."""
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module in modules:
            module.training = True


# -- Two architectures that learn from the same shared weights and leave one set behind (RelativeNAS's weight set) ------
#
# Source: Tan et al., "RelativeNAS: Relative Neural Architecture Search via Slow-Fast Learning", TNNLS 2021, and its released
# search. Deviation: both learners see the same batches, where the released loader reshuffles between them.


class Pair:
    """What the last two competitors learned, until one of them wins.

    Args:
        own: the supernet's tensors by their owners.
        batches: training batches.
        judge: scores the learners.
        loss: mean cross entropy of an architecture on a batch.
        scaler: of mixed precision.
        recipe: optimizer settings.
        seed: of drop path.
        running: whether a learner is judged with the batch-norm statistics that it gathered while it trained, not with recalibrated ones.
    """

    def __init__(
        self,
        own: Ownership,
        batches: Cursor,
        judge: SharedJudge,
        loss: Callable[[Arch, tuple[Tensor, Tensor]], Tensor],
        scaler: Any,
        recipe: Recipe,
        *,
        seed: int,
        running: bool = False,
    ) -> None:
        self.own, self.batches, self.judge, self.loss, self.running = own, batches, judge, loss, running
        self.scaler, self.recipe, self.seed = scaler, recipe, seed
        self._aside: dict[str, dict[str, Tensor]] = {}

    def compete(self, first: Arch, second: Arch, n_batches: int, lr: float, drop_path: float) -> tuple[Estimate, Estimate]:
        """Trains both from the present weights, which are put back, and keeps what they learned aside."""
        start, weights = self.batches.position, self.own.copies(first, second)
        self._aside = {}
        answers: dict[Arch, Estimate] = {}
        for arch in dict.fromkeys((first, second)):
            self.batches.position = start
            answers[arch] = self._learn(arch, n_batches, lr, drop_path)
            self._aside[str(arch)] = self.own.copies(arch)
            self.own.put(weights)
        return answers[first], answers[second]

    def _learn(self, arch: Arch, n_batches: int, lr: float, drop_path: float) -> Estimate:
        """Trains ``arch`` in place with an optimizer of its own and returns its estimate, training included."""
        began, images = time.perf_counter(), 0
        sgd = SGD(nn.ParameterList(self.own.parameters(arch)), **sgd_settings(self.recipe))
        sgd.lr = lr
        device = self.batches.pixels.device
        noise = torch.Generator(device).manual_seed(mix_seed(self.seed, "drop", self.batches.position))
        set_drop_path(self.own.network, drop_path, noise)
        for _ in range(n_batches):
            batch = next(self.batches)
            self.scaler.scale(self.loss(arch, batch)).backward()
            self.scaler.step(sgd)
            self.scaler.update()
            sgd.zero_grad()
            images += len(batch[1])
        set_drop_path(self.own.network, 0.0)
        scored = self.judge.estimate(arch, running=self.running)
        return Estimate(scored.score, Cost(time.perf_counter() - began, images), scored.values, scored.reason)

    def inherit(self, winner: Arch, loser: Arch) -> None:
        """Writes the winner's tensors into the network, and the loser's where only it uses the operation.

        Raises:
            StateError: unless these two competed just before.
        """
        if not self._aside or set(self._aside) != {str(winner), str(loser)}:
            raise StateError(f"{winner} and {loser} did not compete just before; call compete with them first")
        won, lost = self._aside[str(winner)], self._aside[str(loser)]
        only_loser = set(lost) - set(won)
        self.own.put({**won, **{name: lost[name] for name in only_loser}})
        self._aside = {}

    def forget(self) -> None:
        """Drops what was learned."""
        self._aside = {}

    def state_dict(self) -> State:
        """Returns what waits for a winner."""
        return {arch: copy(tensors) for arch, tensors in self._aside.items()}  # tensors aside never change

    def load_state_dict(self, state: State) -> None:
        """Takes it back."""
        self._aside = {arch: copy(tensors) for arch, tensors in state.items()}

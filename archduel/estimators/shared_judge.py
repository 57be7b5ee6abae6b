"""Scoring architectures with shared weights: batch norm measured for each, nothing changed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archduel import nets
from archduel.core import Arch, Cost, Estimate, Scale
from archduel.errors import ArchduelError, UnknownNameError, unknown
from archduel.estimators.ownership import Ownership
from archduel.training.cursor import Cursor
from archduel.training.metrics import METRICS, Evaluation, confusion_matrix
from archduel.training.norms import averaging, batch_statistics, statistics_kept
from archduel.training.pixels import Pixels

__all__ = ["SharedJudge"]

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

    def estimate(self, arch: Arch, batch: tuple[Tensor, Tensor] | None = None) -> Estimate:
        """Returns the score on the validation images, or on ``batch`` alone; what is wrong with ``arch`` is a failure."""
        began = time.perf_counter()
        try:
            score, loss = self.score(arch) if batch is None else self.glance(arch, batch)
            values = {**self.counts(arch), "val_loss": loss}
        except ArchduelError as error:
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
    def score(self, arch: Arch) -> tuple[float, float]:
        """Returns metric and loss on the validation images, batch norm recalibrated."""
        norms, network = self.own.norms(arch), self.own.network
        with statistics_kept(norms), _at_rest(self._dropouts):
            if self.recalibration:
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

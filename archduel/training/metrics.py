"""How good predictions are. Fractions of 1; higher is better except for losses and calibration errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from archduel.errors import SettingError, unknown
from archduel.training.augment import normalise
from archduel.training.images import Images
from archduel.training.runtime import at_a_time, autocast, mode_kept

__all__ = [
    "METRICS",
    "Evaluation",
    "Mistake",
    "accuracy",
    "balanced_accuracy",
    "calibration_error",
    "chance",
    "confusion_matrix",
    "evaluate",
    "final_scores",
    "macro_f1",
    "recall",
    "reliability",
    "top_k",
    "worst_mistakes",
]

BATCH = 256  # images that are scored at a time, where they are small
TINY = 1e-12  # a probability of 0 would make the geometric mean 0
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


# Counts, not labels, are what a pass over images leaves behind. scikit-learn has the same numbers (the tests compare them), but
# importing it costs each process that trains 1.1 s of processor time, for a dozen lines.


def confusion_matrix(labels: NDArray[np.int64], predictions: NDArray[np.int64], n_classes: int) -> Counts:
    """Returns (C, C) counts; rows are true classes, columns predicted ones."""
    # Each pair of classes as one number: a single pass of counting.
    return np.bincount(labels * n_classes + predictions, minlength=n_classes**2).reshape(n_classes, n_classes)


def accuracy(confusion: Counts) -> float:
    """Returns the share of correct predictions."""
    return float(np.trace(confusion) / confusion.sum())


def recall(confusion: Counts) -> Floats:
    """Returns (C,) the share of each class that is recognised; nan for a class without images."""
    totals = confusion.sum(1).astype(float)
    return np.divide(np.diag(confusion), totals, out=np.full(len(totals), np.nan), where=totals > 0)


def balanced_accuracy(confusion: Counts) -> float:
    """Returns the mean recall of the classes that have images."""
    return float(np.nanmean(recall(confusion)))


def macro_f1(confusion: Counts) -> float:
    """Returns the mean F1 of the classes that have images or predictions."""
    either = (confusion.sum(0) + confusion.sum(1)).astype(float)  # 2 TP + FP + FN
    # A class that is neither there nor predicted has no F1; as 0 it would lower the mean for nothing.
    present = either > 0
    return float(np.mean(2 * np.diag(confusion)[present] / either[present]))


METRICS: dict[str, Callable[[Counts], float]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
}


LUCK = 1.645
"""Standard errors that a guess exceeds in one of twenty cases."""


def chance(labels: NDArray[np.int64], n_classes: int, metric: str) -> float:
    """Returns the score up to which a network cannot be told from one that does not look: the best constant answer's, and some luck.

    Args:
        labels: (N,) true classes.
        n_classes: how many there are.
        metric: one of ``METRICS``.
    """
    # The largest class is the best constant answer by each of these metrics.
    always = np.full_like(labels, np.bincount(labels).argmax())
    best = METRICS[metric](confusion_matrix(labels, always, n_classes))
    return best + LUCK * math.sqrt(best * (1 - best) / len(labels))


def top_k(probabilities: NDArray[np.float32], labels: NDArray[np.int64], k: int = 5) -> float:
    """Returns the share of images whose class is among the ``k`` likeliest (equal ones count in its favour)."""
    # Counting what is likelier needs no sorting and does not depend on the order of equal ones.
    own = probabilities[np.arange(len(labels)), labels]
    return float(np.mean((probabilities > own[:, None]).sum(1) < k))


def calibration_error(probabilities: NDArray[np.float32], labels: NDArray[np.int64], bins: int = 15) -> float:
    """Returns the expected calibration error: |confidence - accuracy| averaged over equally wide bins by their images.

    Source: Guo et al., arXiv 1706.04599.
    """
    confidence = probabilities.max(1).astype(float)
    right = probabilities.argmax(1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # bins are (low, high]
    gaps = np.bincount(place, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def reliability(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], bins: int = 15
) -> list[dict[str, float]]:
    """Returns the rows of a calibration diagram, empty bins left out.

    Each has ``low`` and ``high`` (edges of the confidence), ``images``, mean ``confidence`` and ``accuracy``.
    """
    confidence = probabilities.max(1).astype(float)
    right = probabilities.argmax(1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # as in calibration_error
    rows = []
    for number in np.unique(place).tolist():
        inside = place == number
        rows.append({
            "low": number / bins, "high": (number + 1) / bins, "pictures": int(inside.sum()),
            "confidence": float(confidence[inside].mean()), "accuracy": float(right[inside].mean()),
        })  # fmt: skip
    return rows


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction.

    Attributes:
        row: number of the image in its set.
        label: true class.
        predicted: what the network said.
        confidence: probability of ``predicted``.
        likelihood: probability of ``label``.
    """

    row: int
    label: int
    predicted: int
    confidence: float
    likelihood: float


def worst_mistakes(probabilities: NDArray[np.float32], labels: NDArray[np.int64], n: int = 16) -> list[Mistake]:
    """Returns at most ``n`` wrong predictions, the least likely true class first."""
    predicted = probabilities.argmax(1)
    likelihood = probabilities[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(likelihood[wrong], kind="stable")][:n]
    return [
        Mistake(int(i), int(labels[i]), int(predicted[i]), float(probabilities[i].max()), float(likelihood[i]))
        for i in worst
    ]


@dataclass(frozen=True)
class Evaluation:
    """What a network says about a set of images.

    Attributes:
        probabilities: (N, C) float32.
        labels: (N,) int64.
        loss: mean cross entropy in nats.
    """

    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    loss: float

    @property
    def predictions(self) -> NDArray[np.int64]:
        """(N,) the likeliest class."""
        return self.probabilities.argmax(1)

    @cached_property
    def confusion(self) -> Counts:
        """(C, C) counts; rows are true classes."""
        return confusion_matrix(self.labels, self.predictions, self.probabilities.shape[1])

    @property
    def accuracy(self) -> float:
        """Share of correct predictions."""
        return accuracy(self.confusion)

    def likelihood(self, *, balanced: bool = False) -> float:
        """Returns the geometric mean of the probability given to the right class, in 0..1.

        It moves with every image's probability, so it tells networks apart that are right equally often. ``balanced``: every
        class counts alike.
        """
        own = self.probabilities[np.arange(len(self.labels)), self.labels].astype(float)
        logs = np.log(np.maximum(own, TINY))
        if not balanced:
            return float(np.exp(logs.mean()))
        totals = np.bincount(self.labels)
        return float(np.exp(np.mean(np.bincount(self.labels, weights=logs)[totals > 0] / totals[totals > 0])))

    def score(self, metric: str) -> float:
        """Returns ``accuracy``, ``balanced_accuracy`` or ``macro_f1``.

        Raises:
            UnknownNameError: for another name.
        """
        if metric not in METRICS:
            raise unknown("metric", metric, METRICS)
        return METRICS[metric](self.confusion)


@torch.inference_mode()
def evaluate(
    model: nn.Module, pixels: Images, *, batch_size: int | None = None, device: str | torch.device | None = None, precision: str = "fp32",
    channels_last: bool = False,
) -> Evaluation:  # fmt: skip
    """Returns what ``model`` says about ``pixels``; its training flags and batch-norm statistics stay as they were.

    Args:
        model: (N, C, H, W) normalised images -> logits (N, classes).
        pixels: labelled images.
        batch_size: images at a time; None = as many as are quick (:func:`archduel.training.runtime.at_a_time`).
        device: where to compute; None = where the images are.
        precision: ``bf16`` or ``fp16`` where speed counts more than the last digit, as between candidates.
        channels_last: memory format of the images; that of the weights is the caller's.

    Raises:
        SettingError: if the labels are more classes than the network has outputs.
    """
    device = pixels.device if device is None else torch.device(device)
    batch_size = batch_size or at_a_time(model, pixels.image_size, BATCH, device)
    logits = []
    with mode_kept(model):
        model.to(device).eval()
        for images, _ in pixels.batches(torch.arange(len(pixels)).split(batch_size), 0):
            with autocast(device, precision):
                out = model(normalise(images.to(device), pixels.mean, pixels.std, channels_last=channels_last))
            # Double precision on the CPU: sums over many images then round alike on every device.
            logits.append((out[0] if isinstance(out, tuple) else out).double().cpu())
    labels = pixels.labels.cpu()
    every = torch.cat(logits)  # (N, C)
    if int(labels.max()) >= every.shape[1]:
        raise SettingError(f"labels go up to {int(labels.max())}, the network has only {every.shape[1]} outputs")
    loss = float(nn.functional.cross_entropy(every, labels))
    return Evaluation(every.softmax(1).float().numpy(), labels.numpy(), loss)


def final_scores(model: nn.Module, images: Images, device: str | torch.device) -> Evaluation:
    """Returns what a network says of images, in full precision, as it is exported; one that enlarges them itself with its maps channels last.

    10,000 images of 128 px take EfficientNet-Lite0 54 s of one core like this, and took 220 s with whole batches of 256, channels first.
    """
    if not hasattr(model, "works_at"):
        return evaluate(model, images, device=device)
    if _is_channels_last(model):  # it is in training, and its optimizer holds its weights as they lie
        return evaluate(model, images, device=device, channels_last=True)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = evaluate(model, images, device=device, channels_last=True)
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return found


def _is_channels_last(model: nn.Module) -> bool:
    """Whether the weights of a network lie channels last."""
    maps = [weight for weight in model.parameters() if weight.dim() == 4]
    return any(weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous() for weight in maps)

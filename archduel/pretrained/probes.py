"""What frozen features are worth: linear probes, in closed form to compare cuts, by likelihood to begin a head with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Probe", "logistic_head", "ridge_probe"]

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Of the ridge, as shares of the mean eigenvalue; the one under which images that are left out are most likely is taken."""
MOST_LEVERAGE = 0.99
"""Of an image on its own prediction; where features are more than images weak ridges repeat what they were told, and what is left of it when the
image is left out is rounding: a neck of 1,280 channels was right on all of 160 images that way and on 64 % of others."""
DECAY, DECAY_IMAGES = 2e-3, 5_000
"""Weight of the squared weights in the logistic regression of standardised features, of so many images; of fewer more, by the root."""
STEPS = 40
SHARPNESS = (1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)


@dataclass(frozen=True)
class Probe:
    """What a linear probe of frozen features comes to on validation images.

    Attributes:
        accuracy: share of right answers.
        score: mean log likelihood of the right classes, in nats.
        evidence: the same of validation images and of training images that were left out, together: less noise, to compare resolutions by.
    """

    accuracy: float
    score: float
    evidence: float


def ridge_probe(
    features: NDArray[np.float16], labels: NDArray[np.int64], validation: NDArray[np.float16], answers: NDArray[np.int64], n_classes: int
) -> Probe:
    """Returns how well a ridge regression onto the classes does on validation images; its strength comes from training images alone.

    Args:
        features: (N, F) of training images.
        labels: (N,) their classes.
        validation: (M, F).
        answers: (M,) theirs.
        n_classes: how many there are.

    Source: leave-one-out residuals of ridge regression in closed form, Golub, Heath and Wahba, Technometrics 1979.
    """
    x, mean, deviation = _standardised(features)
    targets = np.eye(n_classes, dtype=np.float32)[labels]
    centre = targets.mean(0)
    values, vectors = np.linalg.eigh(x.T @ x)
    values = np.maximum(values, 0.0)
    turned = x @ vectors  # (N, F)
    into = turned.T @ (targets - centre)  # (F, K)
    fits: list[tuple[float, float, NDArray[np.float32]]] = []
    for strength in reversed(STRENGTHS):
        inverse = 1.0 / (values + strength * values.mean() + 1e-6)
        leverage = (turned**2 @ inverse) + 1.0 / len(x)  # (N,)
        if fits and leverage.max() > MOST_LEVERAGE:
            break  # weaker ridges have more
        fitted = turned @ (inverse[:, None] * into)
        left_out = targets - (targets - centre - fitted) / (1.0 - np.minimum(leverage, MOST_LEVERAGE)[:, None])  # predictions without the image itself
        sharpness = max(SHARPNESS, key=lambda s: _likelihood(s * left_out, labels))
        fits.append((_likelihood(sharpness * left_out, labels), sharpness, inverse))
    told, sharpness, inverse = max(fits, key=lambda fit: fit[0])
    z = (validation.astype(np.float32) - mean) / deviation
    predicted = centre + (z @ vectors) @ (inverse[:, None] * into)
    accuracy = float((predicted.argmax(1) == answers).mean())
    score, n, m = _likelihood(sharpness * predicted, answers), len(labels), len(answers)
    return Probe(accuracy, score, (n * told + m * score) / (n + m))


def _standardised(features: NDArray[np.float16]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Returns features of mean 0 and variance 1, and what was taken from and divided by."""
    x = features.astype(np.float32)
    mean, deviation = x.mean(0), x.std(0) + 1e-5
    return (x - mean) / deviation, mean, deviation


def _likelihood(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Returns the mean log likelihood of the labels, in nats."""
    top = logits.max(1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(1)) + top[:, 0]
    return float((logits[np.arange(len(labels)), labels] - log_sum).mean())


def logistic_head(features: NDArray[np.float16], labels: NDArray[np.int64], n_classes: int) -> tuple[Tensor, Tensor]:
    """Returns weight (K, F) and bias (K,) of a regularised multinomial logistic regression on raw features.

    A head that begins there leaves the features below it what they are; one that begins at random tears them apart first.

    Args:
        features: (N, F).
        labels: (N,) integers from 0.
        n_classes: how many there are.

    Source: Kumar et al., "Fine-Tuning can Distort Pretrained Features", ICLR 2022.
    """
    import torch
    from torch.nn import functional

    x, mean, deviation = (torch.from_numpy(part) for part in _standardised(features))
    y = torch.from_numpy(labels)
    weight, bias = torch.zeros(n_classes, x.shape[1], requires_grad=True), torch.zeros(n_classes, requires_grad=True)
    decay = DECAY * max(1.0, DECAY_IMAGES / len(x)) ** 0.5
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(x @ weight.T + bias, y) + decay * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    weight, bias = weight.detach() / deviation, bias.detach()
    return weight, bias - weight @ mean

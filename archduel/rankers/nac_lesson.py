"""What NAC learns from, and the loss over the pairs of a batch of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from archduel.core import Arch, Space
from archduel.rankers.labels import Pairs, check_labels, check_pairs, distinct
from archduel.rankers.networks import Inputs, encode

__all__ = ["Lesson", "labelled_loss", "lesson_of"]


class Lesson(NamedTuple):
    """What is learned from: encoded architectures, labels of the first N of them, pseudo-labelled pairs of places."""

    inputs: Inputs
    n_ops: int
    labels: Tensor  # (N,)
    first: Tensor  # (P,)
    second: Tensor  # (P,)
    truth: Tensor  # (P,) in 0..1


def lesson_of(
    space: Space,
    archs: Sequence[Arch],
    scores: Sequence[float] | NDArray[np.float64],
    pairs: Pairs | None,
    device: torch.device,
) -> Lesson:
    """Returns labelled architectures and pseudo-labelled pairs, each distinct architecture encoded once.

    Raises:
        InvalidArchError: if an architecture does not belong to the space.
        SettingError: for labels that are not finite, or fewer than two distinct ones.
    """
    labelled, labels = check_labels(space, archs, scores)
    first, second, truth = check_pairs(space, pairs or ([], [], np.empty(0)))
    unique, index = distinct([*labelled, *first, *second])
    places = torch.from_numpy(index[len(labelled) :]).to(device)
    inputs, n_ops = encode(space, unique, device)
    return Lesson(
        inputs,
        n_ops,
        torch.from_numpy(labels).to(device),
        places[: len(first)],
        places[len(first) :],
        torch.from_numpy(truth).float().to(device),
    )


def labelled_loss(first: Tensor, second: Tensor, labels: Tensor, generator: torch.Generator, *, every: bool) -> Tensor:
    """Returns the binary cross entropy over pairs of a batch.

    Args:
        first: (B,) each one's part of the logit as the first of a pair.
        second: (B,) likewise as the second.
        labels: (B,) of the batch.
        generator: draws whom each is paired with, on the CPU.
        every: all ordered pairs instead of one random permutation.
    """
    if not every:
        other = torch.randperm(len(labels), generator=generator).to(labels.device)
        return F.binary_cross_entropy_with_logits(first + second[other], (labels > labels[other]).float())
    truth = ((torch.sign(labels[:, None] - labels) + 1) / 2).float()  # (B, B)
    losses = F.binary_cross_entropy_with_logits(first[:, None] + second, truth, reduction="none")
    n = len(labels)
    return (losses.sum() - losses.diagonal().sum()) / (n * (n - 1))

"""What the fused loop needs of networks, and what they say about images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from archduel.errors import SettingError
from archduel.training.augment import normalise
from archduel.training.fused_sgd import FusedWeights
from archduel.training.metrics import Evaluation
from archduel.training.pixels import Images

__all__ = ["FusedNetworks", "evaluate_fused"]


class FusedNetworks(Protocol):
    """K networks as one computation, such as :class:`archduel.nets.fusing.fused.Fused`."""

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
    """Returns what each network says about ``pixels``, as :func:`archduel.training.metrics.evaluate` does of one.

    Args:
        model: the networks.
        pixels: the images.
        batch_size: images at a time; larger ones than in training take more memory than training did.

    Raises:
        SettingError: if the labels are more classes than the networks have outputs.
    """
    logits = []
    for rows in torch.arange(len(pixels)).split(batch_size):
        images = pixels.batch(rows)[0].to(model.device)
        logits.append(
            model.forward(normalise(images, pixels.mean, pixels.std), training=False)[0].double().cpu()
        )
    every = torch.cat(logits, 2).transpose(1, 2)  # (K, N, classes)
    labels = pixels.labels.cpu()
    if int(labels.max()) >= every.shape[2]:
        raise SettingError(
            f"labels go up to {int(labels.max())}, the networks have only {every.shape[2]} outputs"
        )
    return [
        Evaluation(one.softmax(1).float().numpy(), labels.numpy(), float(F.cross_entropy(one, labels)))
        for one in every
    ]

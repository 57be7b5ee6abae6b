"""What anybody would write without this library: a small ResNet, trained with one cosine cycle over the processor time that is given.

Three stages of 16, 32 and 64 channels with one, two or three basic blocks each; random flip (not for digits) and shifted crop;
SGD with momentum 0.9 and weight decay 5e-4, batches of 128, learning rate 0.1, float32. The opponent of ``against_plain.py``;
nothing of the library is used here. And the loop that somebody writes who has fine-tuned networks before, for ``plain_tuning.py``.
"""

from __future__ import annotations

import math
import time

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["accuracy", "fine_tune", "resnet", "train"]


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out)
        self.conv2, self.norm2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out)
        changes = stride > 1 or c_in != c_out
        self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)) if changes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the block's output."""
        return F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))) + self.shortcut(x))


def resnet(in_channels: int, n_classes: int, blocks: int) -> nn.Sequential:
    """Returns the untrained network."""
    layers: list[nn.Module] = [nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    c_in = 16
    for stage, width in enumerate((16, 32, 64)):
        for block in range(blocks):
            layers.append(Block(c_in, width, 2 if stage and not block else 1))
            c_in = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, n_classes))


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, seconds: float, *, flip: bool, lr: float = 0.1) -> float:
    """Trains until ``time.process_time()`` is ``seconds`` and returns the epochs; images (N, C, S, S) normalised float32."""
    n, side = len(images), images.shape[2]
    pad, batch = max(1, round(side / 8)), min(128, n)
    padded = F.pad(images, (pad,) * 4)
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=5e-4)
    began, steps = time.process_time(), 0
    model.train()
    while True:
        for rows in torch.randperm(n)[: n - n % batch].split(batch):
            done = (time.process_time() - began) / (seconds - began)
            if done >= 1:
                return steps * batch / n
            optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * done)) / 2
            shift = torch.randint(2 * pad + 1, (len(rows), 2)).tolist()
            x = torch.stack([padded[i, :, a : a + side, b : b + side] for i, (a, b) in zip(rows.tolist(), shift)])
            if flip:
                x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)
            loss = F.cross_entropy(model(x), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1


def fine_tune(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, seconds: float, *, flip: bool, lr: float = 1e-3, batch: int = 32) -> float:
    """Fine-tunes a published network as somebody does who knows how, until ``time.process_time()`` is ``seconds``; returns the epochs.

    AdamW, warm-up and a cosine, small batches (the quickest on a CPU at many pixels), channels last, batch norms that keep their statistics, smoothed labels.
    """
    n, side = len(images), images.shape[2]
    pad = max(1, round(side / 8))
    padded = F.pad(images, (pad,) * 4)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.01)
    began, steps = time.process_time(), 0
    model.eval()  # norms keep their statistics; the network drops nothing
    while True:
        for rows in torch.randperm(n)[: n - n % batch].split(batch):
            done = (time.process_time() - began) / (seconds - began)
            if done >= 1:
                return steps * batch / n
            optimizer.param_groups[0]["lr"] = lr * min(done / 0.1, (1 + math.cos(math.pi * done)) / 2)
            shift = torch.randint(2 * pad + 1, (len(rows), 2)).tolist()
            x = torch.stack([padded[i, :, a : a + side, b : b + side] for i, (a, b) in zip(rows.tolist(), shift)])
            if flip:
                x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)
            loss = F.cross_entropy(model(x.contiguous(memory_format=torch.channels_last)), labels[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Returns the share of right answers."""
    model.eval()
    with torch.no_grad():
        right = sum(int((model(x).argmax(1) == y).sum()) for x, y in zip(images.split(500), labels.split(500)))
    return right / len(labels)

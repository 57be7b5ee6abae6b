"""Networks of one's own for the tests, at the top level of a file, as worker processes need them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from archduel import choose, repeat, switch


class Block(nn.Module):
    """A convolution of a chosen kernel with a shortcut and a chosen activation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        kernel = choose("kernel", [3, 5])
        self.conv, self.norm = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(width)
        self.act = switch("act", {"relu": nn.ReLU, "silu": nn.SiLU})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x + self.norm(self.conv(x)))  # type: ignore[no-any-return]


class Small(nn.Module):
    """Width and depth coupled; its last layer sees the whole map through a `view`."""

    def __init__(self, in_channels: int, n_classes: int, image_size: int) -> None:
        super().__init__()
        blocks = choose("blocks_first", [1, 2])
        width = choose("width", [4, 8]) * (2 if blocks == 1 else 1)
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1)
        self.body = repeat("blocks", lambda i: Block(width), [blocks, blocks + 1])
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(width * (image_size // 2) ** 2, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.body(self.stem(x)))
        return self.head(x.view(len(x), -1))  # type: ignore[no-any-return]


class Signals(nn.Module):
    """One-dimensional, with choices of its own in one option."""

    def __init__(self, n_classes: int = 4) -> None:
        super().__init__()
        width = choose("width", [8, 4, 16])
        self.stem = nn.Conv1d(1, width, 3, padding=1)
        self.mix = switch("mix", {
            "conv": lambda: nn.Conv1d(width, width, choose("kernel", [3, 5, 7]), padding="same"),
            "none": nn.Identity,
            "deep": lambda: repeat("layers", lambda i: nn.Sequential(nn.Conv1d(width, width, 1), nn.ReLU()), [1, 2]),
        })  # fmt: skip
        self.head = nn.Linear(width, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.mix(self.stem(x)).mean(2))  # type: ignore[no-any-return]


class Forty(nn.Module):
    """Forty decisions, most of them asked in every network; more than 10^9 networks."""

    def __init__(self, in_channels: int, n_classes: int) -> None:
        super().__init__()
        width = choose("width", [16, 24, 32])
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1)
        self.body = nn.Sequential(*(repeat(f"stage{s}", lambda i: self.block(width), [3, 2, 4]) for s in range(3)))
        self.head = nn.Linear(width, n_classes)

    def block(self, width: int) -> nn.Module:
        kernel, expand = choose("kernel", [3, 5, 7]), choose("expand", [1, 2, 4])
        hidden = width * expand
        return nn.Sequential(
            nn.Conv2d(width, hidden, 1), nn.BatchNorm2d(hidden), switch("act", {"relu": nn.ReLU, "silu": nn.SiLU}),
            nn.Conv2d(hidden, width, kernel, padding=kernel // 2),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


def judged(model: nn.Module, context: Any) -> dict[str, Any]:
    """Returns a made-up score that depends on the weights, the global generators and the parameters."""
    size = sum(p.numel() for p in model.parameters())
    first = next(model.parameters())
    return {"score": -abs(size - 700) / 700 + 0.01 * float(torch.rand(())), "size": size, "first": float(first.detach().flatten()[0]), "inherited": context.inherited}

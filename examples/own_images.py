"""A network of one's own on images: width and depth are coupled in plain Python, every block chooses its kernel.

    python examples/own_images.py                  # on the embedded digits; with a folder: python examples/own_images.py my_images/
    archduel search my_images/ --space examples/own_images.py:Mine --time 20m     # the same on the command line
"""

import sys

from torch import nn

import archduel
from archduel import choose, repeat, switch


class Block(nn.Module):
    """Two convolutions around a shortcut; the second one's kernel is chosen for each block."""

    def __init__(self, width):
        super().__init__()
        kernel = choose("kernel", [3, 5])
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip
        self.act = switch("act", {"relu": nn.ReLU, "silu": nn.SiLU})

    def forward(self, x):
        return self.act(x + self.layers(x))


class Mine(nn.Module):
    """Stages of doubling width: what the first one is decides all, and a shallow network starts wider."""

    def __init__(self, in_channels, n_classes):
        super().__init__()
        stages = choose("stages", [2, 1, 3])
        width = choose("width", [8, 12, 16]) * (3 - stages if stages < 3 else 1)
        self.stem = nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        body = []
        for stage in range(stages):
            body += [repeat(f"stage{stage}", lambda i, width=width: Block(width), [1, 2]), nn.Conv2d(width, 2 * width, 2, 2)]
            width *= 2
        self.body = nn.Sequential(*body)
        self.head = nn.Linear(width, n_classes)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))


def main(data="digits", **settings):
    """Returns the network that a search hands over: a Mine."""
    run = archduel.search(data, space=archduel.space_of(Mine, check=False), **settings)
    return run.model()


if __name__ == "__main__":
    print(main(*sys.argv[1:2], time="2m"))

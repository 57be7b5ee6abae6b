"""Dense prediction: a mask for every pixel, with a loss and a metric of one's own; mutants start from their parents' weights."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

import archduel
from archduel import choose, repeat


class UNet(nn.Module):
    """Down, across, up again; depth and widths are coupled, and each level may have a shortcut or not."""

    def __init__(self):
        super().__init__()
        width, growth, levels = choose("width", [8, 4, 12]), choose("growth", [1.5, 2.0]), choose("levels", [2, 1, 3])
        widths = [int(width * growth**i) for i in range(levels + 1)]
        self.shortcut = [choose(f"shortcut{i}", [True, False]) for i in range(levels)]
        self.first = self.layers(1, widths[0])
        self.down = nn.ModuleList(self.layers(a, b) for a, b in pairwise(widths))
        self.middle = repeat("middle", lambda i: self.layers(widths[-1], widths[-1]), [1, 0, 2])
        self.up = nn.ModuleList(self.layers(b + a * keep, a) for a, b, keep in zip(widths, widths[1:], self.shortcut))
        self.last = nn.Conv2d(widths[0], 1, 1)

    def layers(self, c_in, c_out):
        kernel = choose("kernel", [3, 5])
        return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2), nn.BatchNorm2d(c_out), nn.ReLU())

    def forward(self, x):
        maps = [self.first(x)]
        for layers in self.down:
            maps.append(layers(F.max_pool2d(maps[-1], 2)))
        x = self.middle(maps.pop())
        for layers, keep, before in reversed(list(zip(self.up, self.shortcut, maps))):
            x = F.interpolate(x, scale_factor=2)
            x = layers(torch.cat([x, before], 1) if keep else x)
        return self.last(x)


def shapes(n, seed):
    """Returns (n, 1, 24, 24) noisy images and masks of discs."""
    generator = torch.Generator().manual_seed(seed)
    centre, radius = torch.rand(n, 2, 1, 1, generator=generator) * 16 + 4, torch.rand(n, 1, 1, generator=generator) * 4 + 3
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    mask = (((x - centre[:, 0]) ** 2 + (y - centre[:, 1]) ** 2).sqrt() < radius).float()[:, None]
    return mask * 0.7 + torch.randn(n, 1, 24, 24, generator=generator), mask


def evaluate(model, context):
    """Trains on one minus the soft Dice and returns the Dice of discs not seen before."""
    x, mask = shapes(200, 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for rows in torch.randperm(200).split(20):
        p = model(x[rows]).sigmoid()
        optimizer.zero_grad()
        (1 - 2 * (p * mask[rows]).sum() / (p + mask[rows]).sum()).backward()
        optimizer.step()
    x, mask = shapes(100, 1)
    found = (model.eval()(x) > 0).float()
    return {"score": float(2 * (found * mask).sum() / (found + mask).sum()), "inherited": context.inherited}


def main(evaluations=20, out="runs/shapes", **settings):
    """Returns the study."""
    space = archduel.space_of(UNet, example=(1, 24, 24))
    return archduel.search_space(space, evaluate, strategy="evolution", evaluations=evaluations, out=out, inherit=True, **settings)


if __name__ == "__main__":
    print(main().best)

"""1-D signals of ten kinds, a network of one's own, one's own training: any task is a function that returns a score."""

import torch
from torch import nn
from torch.nn import functional as F

import archduel
from archduel import choose, repeat, switch


class Net(nn.Module):
    """Convolutions over time; how the signal is shortened is a choice of its own."""

    def __init__(self, n_classes=10):
        super().__init__()
        width = choose("width", [16, 8, 24])
        self.stem = nn.Conv1d(1, width, choose("stem_kernel", [7, 3, 15]), stride=2, padding=3)
        self.body = repeat("blocks", lambda i: self.block(width), [2, 1, 3])
        self.pool = switch("pool", {"mean": lambda: nn.AdaptiveAvgPool1d(1), "max": lambda: nn.AdaptiveMaxPool1d(1)})
        self.head = nn.Linear(width, n_classes)

    def block(self, width):
        kernel = choose("kernel", [3, 5, 9])
        return nn.Sequential(nn.Conv1d(width, width, kernel, padding=kernel // 2), nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(2))

    def forward(self, x):
        return self.head(self.pool(self.body(self.stem(x))).flatten(1))


def signals(n, seed):
    """Returns (n, 1, 128) noisy waves and (n,) kinds: five frequencies, each as a sine or a square wave."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(10, (n,), generator=generator)
    time = torch.linspace(0, 1, 128) + torch.rand(n, 1, generator=generator)
    wave = torch.sin(2 * torch.pi * (3 + 2 * (kind % 5))[:, None] * time)
    wave = torch.where((kind >= 5)[:, None], wave.sign(), wave)
    return (wave + 0.8 * torch.randn(n, 128, generator=generator))[:, None], kind


def evaluate(model, context):
    """Trains for a few steps and returns the accuracy on other signals."""
    x, y = signals(600, 0)
    x_new, y_new = signals(300, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(2):
        for rows in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    model.eval()
    return {"score": float((model(x_new).argmax(1) == y_new).float().mean()), "params": sum(p.numel() for p in model.parameters())}


def main(evaluations=20, out="runs/signals", **settings):
    """Returns the study."""
    space = archduel.space_of(Net, example=(1, 128))
    return archduel.search_space(space, evaluate, evaluations=evaluations, out=out, **settings)


if __name__ == "__main__":
    print(main().best)

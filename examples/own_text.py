"""A small language model on text that comes with Python (its help pages); the score is minus the bits a character on held-out text."""

import math
from pydoc_data.topics import topics

import torch
from torch import nn
from torch.nn import functional as F

import archduel
from archduel import choose, repeat, switch

TEXT = torch.tensor(list("".join(topics.values()).encode("ascii", "ignore")))
TRAIN, HELD_OUT = TEXT[:-20_000], TEXT[-20_000:]


class Recurrent(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, x):
        return x + self.gru(x)[0]


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.mix, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads = choose("heads", [2, 1, 4])

    def forward(self, x):
        q, k, v = self.mix(self.norm(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        width = choose("width", [32, 16, 48])
        self.embed, self.place = nn.Embedding(128, width), nn.Parameter(0.02 * torch.randn(64, width))
        self.body = repeat("layers", lambda i: switch("kind", {"gru": lambda: Recurrent(width), "attention": lambda: Attention(width)}), [1, 2, 3])
        self.head = nn.Linear(width, 128)

    def forward(self, x):
        return self.head(self.body(self.embed(x) + self.place[: x.shape[1]]))


def evaluate(model, context, steps=60):
    """Trains on random pieces of the text; recipe decisions come with the context."""
    optimizer = torch.optim.Adam(model.parameters(), lr=context.recipe.get("lr", 3e-3))
    for _ in range(steps):
        rows = torch.stack([TRAIN[i : i + 65] for i in torch.randint(len(TRAIN) - 65, (16,)).tolist()])
        optimizer.zero_grad()
        F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()).backward()
        optimizer.step()
    rows = HELD_OUT[: 65 * 300].view(300, 65)
    with torch.no_grad():
        bits = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()).item() / math.log(2)
    return {"score": -bits, "bits_a_character": bits}


def main(evaluations=20, out="runs/text", **settings):
    """Returns the study of networks and their learning rates together."""
    space = archduel.space_of(Model, example=HELD_OUT[:128].view(2, 64)) + archduel.recipe_space(lr=[0.003, 0.01, 0.03])
    return archduel.search_space(space, evaluate, evaluations=evaluations, out=out, **settings)


if __name__ == "__main__":
    print(main().best)

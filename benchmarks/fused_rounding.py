"""Where networks trained together and alone part in float32: at ReLUs whose input is zero but for rounding.

    python benchmarks/fused_rounding.py --out benchmarks/records/fused_rounding.json

Every network takes five steps in float64 (alone, together) and in float32 (alone in both memory layouts, together). A flip is
an activation before a ReLU that has one sign in float32 and the other in float64. ``difference`` is the largest of a weight
after the five steps, to float64 alone.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from archduel import environment
from archduel.commands.bench.fused import ROWS, Row, _cells, _network, _pixels
from archduel.fusing import fuse, train_fused
from archduel.fusing.layers import Relu
from archduel.training import Recipe, train

STEPS = 5
Seen = list[list[tuple[str, Tensor]]]
"""By network: (ReLU and step, its input (B, C, H, W) in float64), in the order of computation."""


class AsDouble(nn.Module):
    """A network of doubles for images of floats."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits."""
        return self.network(x.double())  # type: ignore[no-any-return]


def watched(network: nn.Module, into: list[tuple[str, Tensor]]) -> None:
    """Lets ``network`` note what its ReLUs are given while it is trained."""

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
            if module.training:
                into.append((name, inputs[0].detach().double().contiguous().clone()))

        return hook

    for name, module in network.named_modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(note(name))


def alone(row: Row, recipe: Recipe, n: int, *, double: bool, last: bool) -> tuple[list[nn.Module], Seen]:
    """Returns networks that were trained one by one, and what their ReLUs saw."""
    networks, seen = networks_of(row, n, double), [[] for _ in range(n)]  # type: ignore[var-annotated]
    for network, into in zip(networks, seen):
        watched(network, into)
        model = AsDouble(network) if double else network
        train(model, _pixels(row)[0], recipe.with_(channels_last=last), seed=0)
    return networks, seen


def together(row: Row, recipe: Recipe, n: int, *, double: bool) -> tuple[list[nn.Module], Seen]:
    """Returns networks that were trained as one, and what their ReLUs saw."""
    networks, seen = networks_of(row, n, double), [[] for _ in range(n)]  # type: ignore[var-annotated]
    forward = Relu.forward

    def noting(layer: Relu, x: Tensor, training: bool) -> Tensor:
        for owner, maps in zip(layer.owners, x) if training else ():
            seen[owner].append((f"group {layer.key}", maps.permute(3, 0, 1, 2).double().contiguous().clone()))
        return forward(layer, x, training)

    Relu.forward = noting  # type: ignore[assignment, method-assign]
    try:
        group = fuse(networks, row.scale, dtype=torch.float64 if double else torch.float32)
        train_fused(group, _pixels(row)[0], recipe, seeds=[0])
    finally:
        Relu.forward = forward  # type: ignore[assignment, method-assign]
    return group.extract(), seen


def networks_of(row: Row, n: int, double: bool) -> list[nn.Module]:
    """Returns ``n`` different networks as initialised in float32."""
    found = [_network(row, arch, number) for number, arch in enumerate(_cells(row.space, 0)[:n])]
    return [network.double() if double else network for network in found]


def apart(one: nn.Module, other: nn.Module) -> float:
    """Returns the largest difference of a weight."""
    pairs = zip(one.parameters(), other.parameters())
    return max(float((a.detach().double() - b.detach().double()).abs().max()) for a, b in pairs)


def flips(seen: list[tuple[str, Tensor]], truth: list[tuple[str, Tensor]]) -> dict[str, Any]:
    """Returns how many activations have another sign than in float64, and the first of them."""
    count, first = 0, None
    for number, ((name, x), (_, y)) in enumerate(zip(seen, truth)):
        other = (x > 0) != (y > 0)
        count += int(other.sum())
        if count and first is None:
            place = int(other.flatten().int().argmax())
            first = {
                "relu": name,
                "step": number * STEPS // len(truth) + 1,
                "float32": float(x.flatten()[place]),
                "float64": float(y.flatten()[place]),
                "largest": float(y.abs().max()),
            }
    return {"flips": count, "first": first}


def measure(name: str, n: int) -> list[dict[str, Any]]:
    """Returns a record a network and way."""
    row = ROWS[name]
    images, _ = _pixels(row)
    recipe = row.recipe.with_(epochs=STEPS * row.recipe.batch_size / len(images), grad_clip=0.0)
    exact, truth = alone(row, recipe, n, double=True, last=False)
    exact_together, truth_together = together(row, recipe, n, double=True)
    ways = {
        "alone": (*alone(row, recipe, n, double=False, last=False), truth),
        "alone, channels last": (*alone(row, recipe, n, double=False, last=True), truth),
        "together": (*together(row, recipe, n, double=False), truth_together),
        "together, float64": (exact_together, truth_together, truth_together),
    }
    return [
        {
            "row": name,
            "network": k,
            "way": way,
            "difference": apart(networks[k], exact[k]),
            **flips(seen[k], right[k]),
        }
        for way, (networks, seen, right) in ways.items()
        for k in range(n)
    ]


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns, by row and way, how many networks had a flip and the largest difference with and without."""
    found: dict[str, Any] = {}
    for record in records:
        place = found.setdefault(f"{record['row']}, {record['way']}", {})
        kind = place.setdefault(
            "with flips" if record["flips"] else "without", {"networks": 0, "largest": 0.0}
        )
        kind["networks"] += 1
        kind["largest"] = max(kind["largest"], record["difference"])
    return found


def main() -> None:
    """Measures and writes the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", default="nasbench201-4,nasbench201-8")
    parser.add_argument("--networks", type=int, default=32)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    records = [record for name in options.rows.split(",") for record in measure(name, options.networks)]
    short = summary(records)
    print(json.dumps(short, indent=1))
    if options.out:
        command = shlex.join(["python", *sys.argv])
        whole = {"command": command, **environment(), "steps": STEPS, "summary": short}
        kept = [record for record in records if record["flips"]]
        options.out.write_text(json.dumps({**whole, "networks_with_flips": kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()

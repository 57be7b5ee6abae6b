"""The released final networks as tables: every layer's name and shape in their order, and what they compute, stated plainly.

The tables are made from the published cells alone. A checkpoint that has them is imported; logits, loss and every gradient must be those
of the plain statement.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from archduel.networks import load_trained, zoo
from archduel.networks.find import find_architecture
from archduel.spaces.darts.genotype_text import read_genotype
from archduel.spaces.named import named

WORDS = {
    "sep3": "sep_conv_3x3", "sep5": "sep_conv_5x5", "dil3": "dil_conv_3x3", "dil5": "dil_conv_5x5", "max3": "max_pool_3x3",
    "avg3": "avg_pool_3x3", "skip": "skip_connect", "none": "none",
}  # fmt: skip
CELLS: dict[str, tuple[str, str]] = {
    "cnas": (
        "dil3<1 sep3<0 | sep3<0 skip<1 | sep3<1 max3<3 | sep3<2 sep3<4",
        "sep3<0 skip<1 | dil5<2 skip<1 | dil3<2 sep3<1 | sep5<0 sep3<3",
    ),
    "cnas_figure": (
        "sep3<0 skip<1 | dil3<0 sep3<1 | sep3<2 max3<3 | sep3<1 sep3<4",
        "dil3<0 skip<1 | dil5<2 skip<1 | dil3<2 sep3<1 | sep3<0 sep3<3",
    ),
    "ctnas_darts": (
        "avg3<1 skip<0 | skip<1 dil5<2 | dil5<3 sep3<0 | sep3<2 none<2",
        "dil3<1 sep5<0 | none<1 sep5<1 | sep5<1 max3<2 | dil3<1 sep3<0",
    ),
    "relativenas": (
        "sep3<0 dil5<1 | sep3<1 sep3<1 | sep3<1 sep5<1 | skip<0 sep3<0",
        "avg3<1 max3<1 | dil5<1 max3<1 | avg3<3 skip<1 | dil5<3 sep3<1",
    ),
    "ea_bpe1": (
        "avg3<0 skip<1 | skip<0 sep3<1 | sep5<0 dil5<1 | sep3<0 sep5<2",
        "max3<0 sep3<1 | sep5<0 sep5<2 | sep3<0 skip<2 | max3<1 skip<2",
    ),
    "ea_bpe2": (
        "skip<0 avg3<1 | max3<0 skip<2 | dil3<1 avg3<2 | sep3<1 sep3<2",
        "avg3<0 dil3<1 | dil5<0 sep5<2 | sep3<0 sep5<1 | skip<1 sep3<4",
    ),
    "rl_bpe1": (
        "skip<0 dil3<1 | sep3<1 avg3<2 | sep3<0 max3<3 | sep5<0 avg3<3",
        "dil3<0 sep5<1 | sep5<0 max3<1 | dil3<2 sep5<3 | avg3<0 sep3<4",
    ),
    "rl_bpe2": (
        "skip<0 avg3<1 | sep3<0 sep3<1 | sep5<0 skip<1 | avg3<0 avg3<2",
        "sep5<0 skip<1 | avg3<1 sep3<2 | dil5<1 sep3<3 | avg3<1 max3<4",
    ),
    "darts_bpe1": (
        "sep3<0 dil3<1 | sep3<0 sep3<1 | sep5<0 sep5<2 | sep3<4 sep5<3",
        "dil3<0 sep5<1 | sep5<1 sep5<0 | sep5<3 dil5<2 | dil5<4 sep5<3",
    ),
    "darts_bpe2": (
        "sep3<0 sep3<1 | sep3<0 sep3<2 | sep3<0 sep5<3 | sep3<4 sep3<0",
        "dil5<1 sep5<0 | avg3<0 sep5<1 | dil5<3 sep5<2 | sep3<2 sep3<1",
    ),
    "rs_bpe1": (
        "sep5<0 dil3<1 | max3<0 sep3<1 | skip<3 sep5<0 | sep3<2 skip<0",
        "dil5<1 max3<0 | sep3<1 max3<0 | dil3<0 max3<1 | dil3<2 sep3<0",
    ),
    "rs_bpe2": (
        "skip<1 sep3<0 | avg3<2 skip<0 | sep3<1 avg3<3 | avg3<0 dil3<2",
        "skip<1 dil3<0 | max3<1 dil3<0 | dil5<3 max3<0 | skip<3 dil3<2",
    ),
}
"""Published name -> normal and reduction cell as printed: the two edges of each node, an operation on what it reads."""
Edges = list[list[tuple[str, int]]]
WIDTH = 4
KERNEL = {"sep_conv_3x3": 3, "sep_conv_5x5": 5, "dil_conv_3x3": 3, "dil_conv_5x5": 5}


def edges(text: str) -> Edges:
    """Returns the edges of the nodes, (operation, source) each."""
    pairs = [[edge.split("<") for edge in node.split()] for node in text.split("|")]
    return [[(WORDS[op], int(source)) for op, source in node] for node in pairs]


@pytest.mark.parametrize("name", sorted(CELLS))
def test_a_published_cell_is_what_was_printed_edge_by_edge(name: str) -> None:
    genotype = read_genotype(named(name).text)
    assert [[list(edge) for edge in node] for node in genotype.normal] == [[list(edge) for edge in node] for node in edges(CELLS[name][0])]
    assert [[list(edge) for edge in node] for node in genotype.reduce] == [[list(edge) for edge in node] for node in edges(CELLS[name][1])]
    assert find_architecture(name).arch is not None


Row = tuple[str, tuple[int, ...]]


def norm(name: str, n: int) -> list[Row]:
    return [(f"{name}.{part}", (n,)) for part in ("weight", "bias", "running_mean", "running_var")] + [(f"{name}.num_batches_tracked", ())]


def projection(name: str, before: int, c: int, halves: bool) -> list[Row]:
    """ReLU, 1 x 1 convolution, norm; or two convolutions of every other pixel side by side."""
    if halves:
        return [(f"{name}.conv_1.weight", (c // 2, before, 1, 1)), (f"{name}.conv_2.weight", (c - c // 2, before, 1, 1)), *norm(f"{name}.bn", c)]
    return [(f"{name}.op.1.weight", (c, before, 1, 1)), *norm(f"{name}.op.2", c)]


def operation(name: str, op: str, c: int, stride: int) -> list[Row]:
    if op in KERNEL:
        rows: list[Row] = []
        for at in (1, 5)[: 2 if op.startswith("sep") else 1]:
            rows += [(f"{name}.op.{at}.weight", (c, 1, KERNEL[op], KERNEL[op])), (f"{name}.op.{at + 1}.weight", (c, c, 1, 1))]
            rows += norm(f"{name}.op.{at + 2}", c)
        return rows
    return projection(name, c, c, True) if op == "skip_connect" and stride == 2 else []


def layout(depth: int, imagenet: bool) -> Iterator[tuple[int, bool, bool, int, int, int]]:
    """Yields cell, whether it reduces, whether the one before did, and the widths of its inputs and inside."""
    before = previous = WIDTH if imagenet else 3 * WIDTH
    c, after_reduction = WIDTH, imagenet
    for i in range(depth):
        reduces = i in (depth // 3, 2 * depth // 3)
        c *= 1 + reduces
        yield i, reduces, after_reduction, before, previous, c
        before, previous, after_reduction = previous, 4 * c, reduces


def table(name: str, depth: int, classes: int, imagenet: bool) -> list[Row]:
    """Returns name and shape of every tensor of the released network, in the order in which its layers are registered."""
    w = WIDTH
    rows: list[Row] = (
        [("stem0.0.weight", (w // 2, 3, 3, 3)), *norm("stem0.1", w // 2), ("stem0.3.weight", (w, w // 2, 3, 3)), *norm("stem0.4", w),
         ("stem1.1.weight", (w, w, 3, 3)), *norm("stem1.2", w)]
        if imagenet else [("stem.0.weight", (3 * w, 3, 3, 3)), *norm("stem.1", 3 * w)]
    )  # fmt: skip
    c = w
    for i, reduces, after_reduction, before, previous, c in layout(depth, imagenet):
        rows += projection(f"cells.{i}.preprocess0", before, c, after_reduction) + projection(f"cells.{i}.preprocess1", previous, c, False)
        flat = [edge for node in edges(CELLS[name][reduces]) for edge in node]
        for j, (op, source) in enumerate(flat):
            rows += operation(f"cells.{i}._ops.{j}", op, c, 2 if reduces and source < 2 else 1)
        if i == 2 * depth // 3:  # of the head, which the importer leaves out
            head: list[Row] = [("auxiliary_head.features.2.weight", (128, 4 * c, 1, 1)), *norm("auxiliary_head.features.3", 128)]
            head += [("auxiliary_head.features.5.weight", (768, 128, 2, 2)), *([] if imagenet else norm("auxiliary_head.features.6", 768))]
            head += [("auxiliary_head.classifier.weight", (classes, 768)), ("auxiliary_head.classifier.bias", (classes,))]
    return rows + head + [("classifier.weight", (classes, 4 * c)), ("classifier.bias", (classes,))]


class Plain:
    """The released network as one statement a layer, on tensors by their released names."""

    def __init__(self, weights: dict[str, Tensor], *, learning: bool) -> None:
        self.w, self.learning = weights, learning

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean, var = (self.w[f"{name}.running_{part}"].clone() for part in ("mean", "var"))
        return F.batch_norm(x, mean, var, self.w[f"{name}.weight"], self.w[f"{name}.bias"], self.learning)

    def halved(self, x: Tensor, name: str) -> Tensor:
        x = F.relu(x)
        parts = [F.conv2d(x, self.w[f"{name}.conv_1.weight"], stride=2), F.conv2d(x[:, :, 1:, 1:], self.w[f"{name}.conv_2.weight"], stride=2)]
        return self.norm(torch.cat(parts, 1), f"{name}.bn")

    def projected(self, x: Tensor, name: str, halves: bool) -> Tensor:
        return self.halved(x, name) if halves else self.norm(F.conv2d(F.relu(x), self.w[f"{name}.op.1.weight"]), f"{name}.op.2")

    def operated(self, x: Tensor, name: str, op: str, stride: int) -> Tensor:
        if op in KERNEL:
            dilation = 2 if op.startswith("dil") else 1
            for at in (1, 5)[: 3 - dilation]:
                weight = self.w[f"{name}.op.{at}.weight"]
                x = F.conv2d(F.relu(x), weight, None, stride if at == 1 else 1, dilation * (KERNEL[op] // 2), dilation, len(weight))
                x = self.norm(F.conv2d(x, self.w[f"{name}.op.{at + 1}.weight"]), f"{name}.op.{at + 2}")
            return x
        if op == "skip_connect":
            return x if stride == 1 else self.halved(x, name)
        return F.max_pool2d(x, 3, stride, 1) if op == "max_pool_3x3" else F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)

    def __call__(self, x: Tensor, name: str, depth: int, imagenet: bool) -> Tensor:
        w = self.w
        if imagenet:
            x = self.norm(F.conv2d(x, w["stem0.0.weight"], stride=2, padding=1), "stem0.1")
            before = self.norm(F.conv2d(F.relu(x), w["stem0.3.weight"], stride=2, padding=1), "stem0.4")
            previous = self.norm(F.conv2d(F.relu(before), w["stem1.1.weight"], stride=2, padding=1), "stem1.2")
        else:
            before = previous = self.norm(F.conv2d(x, w["stem.0.weight"], padding=1), "stem.1")
        for i, reduces, after_reduction, *_ in layout(depth, imagenet):
            states = [self.projected(before, f"cells.{i}.preprocess0", after_reduction), self.projected(previous, f"cells.{i}.preprocess1", False)]
            for n, node in enumerate(edges(CELLS[name][reduces])):
                places = range(2 * n, 2 * n + 2)
                summed = [self.operated(states[s], f"cells.{i}._ops.{j}", op, 2 if reduces and s < 2 else 1) for j, (op, s) in zip(places, node)]
                states.append(summed[0] + summed[1])
            before, previous = previous, torch.cat(states[2:], 1)
        return F.linear(previous.mean((2, 3)), w["classifier.weight"], w["classifier.bias"])


def filled(rows: list[Row]) -> dict[str, Tensor]:
    """Returns random tensors by the names of a table; variances are positive."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}
    for name, shape in rows:
        if name.endswith("tracked"):
            found[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            found[name] = 0.5 + torch.rand(shape, generator=generator)
        else:
            found[name] = torch.randn(shape, generator=generator) * (0.5 if len(shape) > 1 else 1.0)
    return found


@pytest.mark.parametrize(("name", "data", "depth"), [("relativenas", "cifar10", 4), ("cnas", "cifar10", 4), ("cnas", "imagenet", 3)])
def test_a_checkpoint_in_the_released_order_computes_what_the_plain_statement_does(name: str, data: str, depth: int, tmp_path: Path) -> None:
    imagenet, classes = data == "imagenet", 10
    weights = filled(table(name, depth, classes, imagenet))
    torch.save({"state_dict": {f"module.{key}": value for key, value in weights.items()}}, tmp_path / "released.pt")
    size = {"channels": WIDTH, "depth": depth, "n_classes": classes}
    zoo.import_weights(name, tmp_path / "released.pt", tmp_path / "net", data=data, size=size)
    model, _ = load_trained(tmp_path / "net")
    side = 128 if imagenet else 32
    x, y = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1)), torch.tensor([1, 7, 3])
    with torch.no_grad():
        torch.testing.assert_close(model(x), Plain(weights, learning=False)(x, name, depth, imagenet), rtol=1e-4, atol=1e-4)
    own = [p for _, p in model.train().double().named_parameters()]
    theirs: list[Any] = [key for key, value in weights.items() if value.is_floating_point() and "running" not in key and "auxiliary" not in key]
    leaves = {key: value.double().requires_grad_(key in theirs) for key, value in weights.items()}
    losses = [F.cross_entropy(out, y) for out in (model(x.double()), Plain(leaves, learning=True)(x.double(), name, depth, imagenet))]
    torch.testing.assert_close(*losses, rtol=1e-9, atol=1e-9)
    # a projection that no operation reads (RelativeNAS's reduction cell leaves out input 0) has no gradient
    pairs = [torch.autograd.grad(loss, of, allow_unused=True) for loss, of in zip(losses, (own, [leaves[key] for key in theirs]))]
    for key, a, b in zip(theirs, *pairs, strict=True):
        assert (a is None) == (b is None), key
        if a is None:
            continue
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8, msg=lambda text, key=key: f"{key}: {text}")

"""NAS-Bench-201 and its size space: texts, order, equivalence, graphs and features, numbers by hand."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import nn

from archduel.core import Arch, Scale, enumerate_space, parse
from archduel.errors import InvalidArchError
from archduel.spaces.nasbench201.function import OPS, function
from archduel.spaces.nasbench201.network import Cell
from archduel.spaces.nasbench201.space import NASBench201
from archduel.spaces.natsbench_sss.space import NATSBenchSSS

SPACE = NASBench201()
EVERYTHING = list(enumerate_space(SPACE))


def test_the_benchmark_order_is_the_published_one() -> None:
    assert len(EVERYTHING) == SPACE.size == 15_625
    assert sorted(map(SPACE.index, EVERYTHING)) == list(range(15_625))
    assert (
        SPACE.write(SPACE.at(3)) == "|avg_pool_3x3~0|+|skip_connect~0|none~1|+|none~0|none~1|skip_connect~2|"
    )
    assert SPACE.at(1835).choices == (1,) * 6
    for index in (-1, 15_625):
        with pytest.raises(InvalidArchError, match=r"0\.\.15624"):
            SPACE.at(index)


def test_unique_str_is_the_published_one() -> None:
    strings = [SPACE.unique_str(arch) for arch in EVERYTHING]
    assert len(set(strings)) == 6_466
    assert SPACE.unique_str(SPACE.at(3)) == "#+#+#+0"
    assert SPACE.unique_str(SPACE.at(1835)) == "0+0+0+0"
    assert SPACE.unique_str(SPACE.at(284)) == "#+#+(0)@nor_conv_1x1"
    assert sum(set(text) <= set("#+") for text in strings) == 254


def fill(module: nn.Module, generator: torch.Generator) -> None:
    """Any weights and statistics, so that nothing is equal by initialisation."""
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5, generator=generator)
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.weight.data.sub_(1)


def share(first: nn.Module, second: nn.Module) -> None:
    """Gives ``second`` the weights of ``first``; kernels of convolutions of nothing may differ in size and do not matter."""
    mine, theirs = first.state_dict(), second.state_dict()
    for name, tensor in mine.items():
        if theirs[name].shape == tensor.shape:
            theirs[name].copy_(tensor)


def test_equal_fingerprints_are_equal_functions() -> None:
    groups = defaultdict(list)
    for arch in EVERYTHING:
        groups[SPACE.fingerprint(arch)].append(arch.choices)
    assert len(groups) == 5_234
    generator, images = torch.Generator().manual_seed(0), torch.rand(3, 2, 5, 5, dtype=torch.float64) - 0.5
    several = [group for group in groups.values() if len(group) > 1]
    rng = np.random.default_rng(0)
    for group in (several[i] for i in rng.choice(len(several), 150, replace=False)):
        one, two = (group[i] for i in rng.choice(len(group), 2, replace=False))
        first, second = (Cell(choices, 2, 2).double() for choices in (one, two))
        fill(first, generator)
        fill(second, generator)
        for a, b in zip(function(one).edges, function(two).edges, strict=True):
            share(first.edges[a], second.edges[b])
        for training in (False, True):
            outputs = [cell.train(training)(images) for cell in (first, second)]
            assert torch.allclose(*outputs, atol=1e-9), (one, two, function(one).text)


def test_fingerprints_by_hand() -> None:
    def text(cell: str) -> str:
        return SPACE.fingerprint(SPACE.read(cell))

    dead = "|{}~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|{}~2|"
    assert text(dead.format("nor_conv_3x3", "skip_connect")) == "c0=3(x) out=c0"  # nothing leads to node 2
    assert text(dead.format("none", "skip_connect")) == "c0=3(x) out=c0"
    assert (
        text(dead.format("none", "nor_conv_1x1")) == "c0=3(x) c1=bias(0) out=c0+c1"
    )  # a norm's bias is not nothing
    assert text("|skip_connect~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|") == "c0=3(x) out=c0"
    pools = "|avg_pool_3x3~0|+|avg_pool_3x3~0|none~1|+|none~0|skip_connect~1|skip_connect~2|"
    assert text(pools) == "out=2*p(x)"
    one = text("|nor_conv_1x1~0|+|none~0|none~1|+|nor_conv_1x1~0|skip_connect~1|none~2|")
    two = text("|nor_conv_1x1~0|+|nor_conv_1x1~0|none~1|+|none~0|skip_connect~1|skip_connect~2|")
    shared = text("|nor_conv_1x1~0|+|none~0|skip_connect~1|+|none~0|skip_connect~1|skip_connect~2|")
    assert one == two == "c0=1(x) c1=1(x) out=c0+c1"
    assert shared == "c0=1(x) out=2*c0"  # one convolution read twice is not two


def test_graph_features_by_hand() -> None:
    features = SPACE.graph_features(
        [SPACE.read("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|avg_pool_3x3~2|")]
    )
    assert features.shape == (1, 254)
    assert features.dtype == np.float32
    one_hot, counts = features[0, :30].reshape(6, 5), features[0, 30:35]
    assert one_hot.argmax(1).tolist() == [3, 0, 2, 1, 0, 4]
    assert counts.tolist() == [2, 1, 1, 1, 1]
    subsets = features[0, 35:221].reshape(31, 6)
    skip = 2 ** (4 - 1) - 1  # subsets count in binary, `none` first: only skip_connect is number 0b01000 - 1
    assert subsets[skip].tolist() == [
        1,
        1,
        1,
        0,
        0,
        1,
    ]  # shortest, longest, out of 0, out of 1, into 2, into 3
    assert subsets[30].tolist() == [1, 3, 3, 2, 2, 3]
    paths, alive = features[0, 221:241].reshape(4, 5), features[0, 241:246]
    assert paths[3].tolist() == [0, 0, 1, 1, 1]  # 0-1-2-3
    assert alive.tolist() == [1, 0, 0, 1, 2]
    assert features[0, 246:].tolist() == [1, 1, 1, 1, 0, 2, 0, 1]


def test_graph_features_tell_all_cells_apart() -> None:
    assert len(np.unique(SPACE.graph_features(EVERYTHING), axis=0)) == 15_625


def test_features_are_equal_for_equal_functions_and_hardly_any_others() -> None:
    features = SPACE.features(EVERYTHING)
    _, function = np.unique([SPACE.fingerprint(arch) for arch in EVERYTHING], return_inverse=True)
    _, row = np.unique(features, axis=0, return_inverse=True)
    assert len(np.unique(np.stack([function, row.reshape(-1)]), axis=1).T) == 5_234 == function.max() + 1
    assert row.max() + 1 == 5_212
    some = [7, 3000, 15_624]
    assert np.array_equal(SPACE.features([EVERYTHING[i] for i in some]), features[some])


def test_features_by_hand() -> None:
    # 3x3 to node 1, nothing from 0 to 2, 1x1 from 1 to 2, skip from 0 to 3, nothing from 1 to 3, pool from 2 to 3
    cell = SPACE.read("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|avg_pool_3x3~2|")
    found = dict(zip(SPACE.feature_names(), SPACE.features([cell])[0].tolist()))
    assert len(found) == 114
    one = (
        "n[c3]",
        "n[c1]",
        "input>c3",
        "way skip",
        "way 31p",
        "pooled summands out",
        "most pools out",
        "least op",
    )
    assert {name: found[name] for name in one} == {**dict.fromkeys(one, 1), "least op": 0}
    none = (
        "c constant",
        "blocked",
        "c3>output",
        "input>c1",
        "sums read",
        "pools read",
        "way 3",
        "ways of 1 conv",
    )
    assert {name: found[name] for name in none} == dict.fromkeys(none, 0)
    two = ("ways", "different ways", "n[conv]", "terms out", "most conv", "sum conv", "ways of 0 conv")
    assert {name: found[name] for name in two} == {**dict.fromkeys(two, 2), "ways of 0 conv": 1}
    assert found["mean op"] == 1.5
    assert found["flow (2, 0.5, 0.5)"] == pytest.approx(np.log(1e-3 + 1 + 2 * 0.5 * 0.5))
    dead = SPACE.read("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|none~0|none~1|none~2|")
    found = dict(zip(SPACE.feature_names(), SPACE.features([dead])[0].tolist()))
    assert (found["n[conv]"], found["ways"], found["blocked"], found["most conv"], found["least conv"]) == (
        0,
        0,
        1,
        -1,
        5,
    )


def test_graphs_carry_operations_on_vertices() -> None:
    batch = SPACE.graphs([Arch("nasbench201", (0, 1, 2, 3, 4, 0)), Arch("nasbench201", (1,) * 6)])
    assert batch.ops[0, 0].tolist() == [1, 2, 3, 4, 5, 6, 2, 7]
    assert batch.n_ops == 8
    assert batch.mask.all()
    assert np.array_equal(batch.adj[0], batch.adj[1])
    edges = {(int(i), int(j)) for i, j in zip(*np.nonzero(batch.adj[0, 0]))}
    # vertices 1..6 are the edges 0->1, 0->2, 1->2, 0->3, 1->3, 2->3
    assert edges == {(0, 1), (0, 2), (0, 4), (1, 3), (1, 5), (2, 6), (3, 6), (4, 7), (5, 7), (6, 7)}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("|none~0|+|none~0|none~1|", "2 groups"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|conv~2|", "'conv'"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|", "node 3 needs 3"),
        ("|none~0|+|none~1|none~0|+|none~0|none~1|none~2|", "'none~1'"),
        ("", "''"),
    ],
)
def test_bad_strings_show_the_offending_part(text: str, part: str) -> None:
    with pytest.raises(InvalidArchError, match=part):
        SPACE.read(text)


@pytest.mark.parametrize("text", ["nasbench201:0.0.0.0.0", "nasbench201:0.0.0.0.0.5", "darts:0.0.0.0.0.0"])
def test_bad_architectures_are_refused_everywhere(text: str) -> None:
    arch = parse(text)
    for use in (SPACE.validate, SPACE.write, SPACE.index, SPACE.fingerprint, lambda a: SPACE.features([a])):
        with pytest.raises(InvalidArchError):
            use(arch)


def test_size_space_order_texts_and_features() -> None:
    space = NATSBenchSSS()
    assert space.write(space.at(12)) == "8:8:8:16:40"
    assert [space.index(space.at(i)) for i in (0, 5, 32_767)] == [0, 5, 32_767]
    features = space.features([space.read("8:16:32:64:64")])
    assert features.shape == (1, 69)
    assert features[0, 40:45].tolist() == [0.125, 0.25, 0.5, 1.0, 1.0]
    assert features[0, -4:].tolist() == [2, 2, 2, 1]
    for text, part in (("8:8:8:8", "4 widths"), ("8:8:8:8:7", "'7'"), ("8:8:8:8:x", "'x'")):
        with pytest.raises(InvalidArchError, match=part):
            space.read(text)
    assert space.fingerprint(space.at(12)) == "8:8:8:16:40"


def test_operations_stand_in_the_order_of_the_benchmark() -> None:
    assert OPS == ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    assert Scale() == Scale(16, 5, 32, 3, 10)

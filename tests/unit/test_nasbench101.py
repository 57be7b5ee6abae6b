"""NAS-Bench-101: cells, hashes and counts against published numbers; errors that show what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archduel.core import GraphSpace, Scale, TextSpace, sample
from archduel.errors import InvalidArchError, SettingError
from archduel.spaces.family import build, count
from archduel.spaces.nasbench101.arrays import pack
from archduel.spaces.nasbench101.cell import start_hash
from archduel.spaces.nasbench101.enumeration import enumerate_cells
from archduel.spaces.nasbench101.space import NASBench101, count_cells

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "nasbench101.json").read_text())
PUBLISHED = Scale(channels=128, depth=3, image_size=32, in_channels=3, n_classes=10)
SPACE = NASBench101()


def test_the_space_has_what_its_protocols_ask() -> None:
    assert isinstance(SPACE, GraphSpace)
    assert isinstance(SPACE, TextSpace)


@pytest.mark.parametrize("cell", GOLDEN["cells"], ids=lambda cell: cell["hash"][:8])
def test_hash_and_counts_of_published_cells(cell: dict[str, Any]) -> None:
    arch = SPACE.read(cell["text"])
    assert SPACE.fingerprint(arch) == cell["hash"]
    assert count(arch, PUBLISHED) == (cell["params"], cell["macs"])


@pytest.mark.parametrize(
    "scale", [PUBLISHED, Scale(channels=7, depth=2, image_size=70, in_channels=1, n_classes=4)]
)
def test_counts_of_many_cells_at_once_are_those_of_single_cells(scale: Scale) -> None:
    rng = np.random.default_rng(1)
    archs = [SPACE.draw(rng) for _ in range(300)] + enumerate_cells(4).archs()
    params, macs = count_cells(pack(archs), scale)
    assert list(zip(params.tolist(), macs.tolist())) == [tuple(count(arch, scale)) for arch in archs]


def test_start_of_the_hash_is_the_benchmarks_text() -> None:
    assert start_hash(1, 0, -1) == "3bb65a81afada4c50c2c4630873f0a79"
    assert start_hash(0, 1, -2) == "da7ed8fcf085d449b70116bd536a0344"


def test_draws_are_uniform_over_graphs() -> None:
    rng = np.random.default_rng(0)
    archs = [sample(SPACE, rng) for _ in range(3000)]
    assert archs[:100] == [SPACE.canonical(arch) for arch in archs[:100]]
    seven = sum(arch.choices[0] == 5 for arch in archs) / len(archs)
    share = GOLDEN["by_vertices"]["7"] / SPACE.size  # 0.848; over encodings it would be 0.901
    assert abs(seven - share) < 4 * (share * (1 - share) / len(archs)) ** 0.5


def test_graphs_of_a_cell_by_hand() -> None:
    batch = SPACE.graphs(
        [SPACE.read("0111|0011|0001|0000 input,conv3x3,maxpool,output"), SPACE.read("01|00 input,output")]
    )
    assert batch.n_ops == 6
    assert batch.ops.tolist() == [[[1, 3, 4, 5, 0, 0, 0]], [[1, 5, 0, 0, 0, 0, 0]]]
    assert batch.mask.sum(axis=2).tolist() == [[4], [2]]
    assert batch.adj.dtype == np.float32
    assert np.argwhere(batch.adj[0, 0]).tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]


def test_features_of_a_cell_by_hand() -> None:
    row = SPACE.features([SPACE.read("01101|00010|00010|00001|00000 input,conv3x3,maxpool,conv1x1,output")])
    value = dict(zip(SPACE.feature_names(), row[0].tolist()))
    assert row.shape == (1, len(value))
    expected = {
        "inner": 3, "edges": 6, "skip": 1, "n[c3]": 1, "from_input": 3, "into_output": 2, "paths[c3+c1+mp]": 3,
        "paths[none]": 1, "paths[c3+c1]": 2, "longest[c3+c1+mp]": 3, "shortest[c3+c1+mp]": 1, "most[c3+mp]": 1,
        "least[c1]": 0, "paths[2 any]": 2, "path in>c3>c1>out": 1, "path in>out": 1, "c1>out": 1, "in>c3>c1": 1,
        "c3..c1": 1, "c1..c3": 0, "c1 2 from input": 1, "c3 2 from output": 1, "width": 1, "weights[c3]": 9,
        "weights[projections]": 3, "shortcuts": 0,
    }  # fmt: skip
    assert {name: value[name] for name in expected} == expected
    assert abs(value["mean[any]"] - 4 / 3) < 1e-6


def test_features_of_nothing_and_of_everything_small() -> None:
    assert SPACE.features([]).shape == (0, len(SPACE.feature_names()))
    assert len(set(SPACE.feature_names())) == len(SPACE.feature_names()) >= 150
    features = SPACE.features(enumerate_cells(5).archs())
    assert np.isfinite(features).all()
    assert len(np.unique(features, axis=0)) == len(features)  # different graphs differ


INVALID = {
    "010|000|000 input,conv3x3,output": "no path leads from input to output in 010|000|000",
    "01|00 input,conv3x3,output": "3 operations for 2 vertices",
    "01|0 input,output": "row 1 of the adjacency matrix has 1 entries, expected 2",
    "0111|0011|0001 input,conv3x3,output": "row 0",
    "010|001|100 input,conv3x3,output": "edge 2 -> 0 closes a cycle in 010|001|100",
    "0010|0001|0101|0000 input,conv3x3,conv1x1,output": "edge 2 -> 1 goes backwards",
    "010|011|000 input,conv3x3,output": "edge 1 -> 1 is a loop",
    "01|02 input,output": "contains '2'",
    "010|001|000 input,conv5x5,output": "operation 'conv5x5' of vertex 1 is unknown",
    "010|001|000 conv3x3,conv3x3,output": "begin with 'conv3x3'",
    "0 input": "got 1 vertices",
    "01|00": "has 1 parts, expected 2",
    "nasbench201 |none~0|": "contains",
    "01111|00111|00011|00001|00000 input,conv3x3,conv3x3,conv3x3,output": "10 edges in",
    "|".join("0" * (v + 1) + "1" * (v < 7) + "0" * (6 - v) for v in range(8)) + " input" + ",conv3x3" * 6 + ",output":
        "8 vertices in",
}  # fmt: skip


@pytest.mark.parametrize("text", INVALID)
def test_errors_show_the_offending_part(text: str) -> None:
    with pytest.raises(InvalidArchError, match="nasbench101") as error:
        SPACE.read(text)
    assert INVALID[text] in str(error.value)


def test_an_entry_that_is_no_number_is_shown() -> None:
    with pytest.raises(InvalidArchError, match=r"entry \[0\]\[1\] of the matrix is 'x'"):
        SPACE.from_matrix([[0, "x"], [0, 0]], ["input", "output"])  # type: ignore[list-item]


def test_vertices_on_no_path_are_pruned() -> None:
    pruned = SPACE.read("0110|0000|0001|0000 input,conv3x3,maxpool,output")  # vertex 1 leads nowhere
    assert SPACE.write(pruned) == "010|001|000 input,maxpool3x3,output"
    # 12 edges and 8 vertices before pruning, 9 and 6 after: the limits hold for the pruned cell
    dense = [[0] * 8 for _ in range(8)]
    for x, y in [
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 2),
        (1, 3),
        (2, 3),
        (1, 7),
        (2, 7),
        (3, 7),
        (0, 4),
        (1, 4),
        (0, 5),
    ]:
        dense[x][y] = 1
    arch = SPACE.from_matrix(dense, ["input", *["conv1x1-bn-relu"] * 6, "output"])
    assert SPACE.cell(arch).n == 5


@pytest.mark.parametrize(
    "text", ["nasbench101:9", "nasbench101:0.1.1", "nasbench101:1.1.0.0.0", "nasbench101:", "darts:0.1"]
)
def test_invalid_choices_are_refused(text: str) -> None:
    from archduel.core import parse

    with pytest.raises(InvalidArchError):
        SPACE.validate(parse(text))


def test_networks_compute_what_was_counted() -> None:
    import torch

    rng, scale = (
        np.random.default_rng(3),
        Scale(channels=10, depth=2, image_size=21, in_channels=1, n_classes=7),
    )
    for arch in [SPACE.read(GOLDEN["cells"][5]["text"]), *(SPACE.draw(rng) for _ in range(8))]:
        network = build(arch, scale, generator=torch.Generator().manual_seed(0)).eval()
        macs = traced_macs(network, torch.zeros(1, 1, 21, 21))
        assert (sum(p.numel() for p in network.parameters()), macs) == count(arch, scale)


def traced_macs(network: Any, images: Any) -> int:
    """Returns the multiply-adds of convolutions and linear layers that a forward pass meets."""
    import torch

    found = []

    def note(module: Any, _: Any, output: Any) -> None:
        found.append(output[0].numel() // output.shape[1] * module.weight.numel())

    for module in network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(note)
    with torch.no_grad():
        network(images)
    return sum(found)


def test_a_network_with_an_auxiliary_head_returns_two_answers_and_trains() -> None:
    import torch

    arch = SPACE.read(GOLDEN["cells"][7]["text"])
    network = build(
        arch, Scale(8, 1, 16, 3, 5), auxiliary=True, generator=torch.Generator().manual_seed(0)
    ).train()
    logits, extra = network(torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)))
    assert logits.shape == extra.shape == (4, 5)
    (logits.sum() + extra.sum()).backward()
    assert all(p.grad is not None for p in network.parameters())


def test_too_few_channels_for_the_branches_are_refused() -> None:
    arch = SPACE.read("01110|00001|00001|00001|00000 input,conv3x3,conv3x3,conv3x3,output")
    for make in (build, count):
        with pytest.raises(SettingError, match="at least 3 for 3 branches, got 2"):
            make(arch, Scale(channels=2, depth=1, image_size=8))
    with pytest.raises(SettingError, match="at least 3"):
        count_cells(pack([arch]), Scale(channels=2, depth=1, image_size=8))

"""ReNAS's tensors against cells worked out by hand and against the counts of whole networks."""

from __future__ import annotations

import numpy as np

from archduel.core import Arch, Scale, sample
from archduel.spaces.darts.cost import count
from archduel.spaces.darts.genotype import OPS
from archduel.spaces.darts.space import DARTS
from archduel.spaces.nasbench101.space import NASBench101, count_cell
from archduel.spaces.nasbench201.space import NASBench201, count_nasbench201


def test_a_small_nasbench101_cell_by_hand() -> None:
    space = NASBench101()
    arch = space.from_matrix([[0, 1, 1], [0, 0, 1], [0, 0, 0]], ["input", "conv3x3-bn-relu", "output"])
    tensor = space.tensors([arch])
    assert tensor.shape == (1, 19, 7, 7)
    assert tensor.dtype == np.float32
    types = np.zeros((7, 7))
    types[0, 1], types[0, 6], types[1, 6] = 3, 5, 5
    assert np.array_equal(tensor[0, 0], types)
    conv, projection = 9 * 128 * 128, 128 * 128
    assert np.isclose(tensor[0, 1, 0, 1], (conv + projection) * 1024 / 1e7)
    assert np.isclose(tensor[0, 2, 0, 1], (conv + projection + 512) / 1e5)
    assert np.isclose(tensor[0, 2, 1, 6], (projection + 256) / 1e5)
    assert np.isclose(tensor[0, 8, 0, 6], (128 * 256 + 512) / 1e5)  # first cell of the second stack
    assert np.array_equal(space.tensors([arch], costs=False), tensor[:, :1])


def test_nasbench101_vertices_add_up_to_the_cells_counts() -> None:
    space, rng = NASBench101(), np.random.default_rng(0)
    archs = [space.draw(rng) for _ in range(40)]
    tensor = space.tensors(archs).max(2)  # (B, 19, 7): the value of each vertex, on every edge into it
    for arch, values in zip(archs, tensor):
        for place in range(9):
            stack, first = place // 3, place % 3 == 0
            c = 128 << stack
            counts = count_cell(space.cell(arch), c // 2 if stack and first else c, c, 32 >> stack)
            assert np.isclose(values[1 + 2 * place].sum() * 1e7, counts.macs, rtol=1e-5)
            assert np.isclose(values[2 + 2 * place].sum() * 1e5, counts.params, rtol=1e-5)


def test_nasbench201_edges_add_up_to_the_difference_from_an_empty_network() -> None:
    space, rng, scale = NASBench201(), np.random.default_rng(0), Scale()
    archs = [sample(space, rng) for _ in range(20)]
    tensor = space.tensors(archs)
    assert tensor.shape == (20, 31, 4, 4)
    empty = count_nasbench201(space.read("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"), scale)
    for arch, values in zip(archs, tensor):
        counts = count_nasbench201(arch, scale)
        assert np.isclose(values[1::2].sum() * 1e7, counts.macs - empty.macs, rtol=1e-5, atol=1)
        assert np.isclose(values[2::2].sum() * 1e5, counts.params - empty.params, rtol=1e-5, atol=1)
        assert values[0, 1, 3] == arch.choices[4]  # edge 1 -> 3 is the fifth choice
    assert np.array_equal(space.tensors(archs, costs=False), tensor[:, :1])


def test_darts_operations_add_up_to_the_difference_from_a_free_network() -> None:
    space, rng = DARTS("ctnas"), np.random.default_rng(0)
    archs = [sample(space, rng) for _ in range(20)]
    tensor = space.tensors(archs)
    assert tensor.shape == (20, 12, 10, 10)
    assert np.array_equal(space.tensors(archs, costs=False), tensor[:, :2])
    values = tensor.max(2).sum(2)  # (B, 12): a vertex's number stands on every edge into it
    scale = Scale(depth=3)  # one normal cell, then both reductions
    pool = OPS.index("max_pool_3x3")
    for arch, numbers in zip(archs, values):
        free = Arch(arch.space, tuple(pool if place % 2 else choice for place, choice in enumerate(arch.choices)))
        spent, nothing = count(arch, scale), count(free, scale)
        assert np.isclose(numbers[[2, 4, 8]].sum() * 1e7, spent.macs - nothing.macs, rtol=1e-5, atol=1)
        assert np.isclose(numbers[[3, 5, 9]].sum() * 1e5, spent.params - nothing.params, rtol=1e-5, atol=1)

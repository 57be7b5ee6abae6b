"""What must hold for every architecture of nasbench201, natsbench_sss, darts, darts_supercell and resnet."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import pairwise, permutations
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from archduel.core import Arch, Scale, mutate, neighbours, parse, sample
from archduel.spaces.darts.genotype import OPS, Genotype, canonical
from archduel.spaces.darts.genotype_text import FORMS, read_genotype, write_genotype
from archduel.spaces.darts.space import DARTS
from archduel.spaces.darts.supercell import SuperCell
from archduel.spaces.drawing import draw, layered
from archduel.spaces.family import count
from archduel.spaces.nasbench201.function import EDGES
from archduel.spaces.nasbench201.space import NASBench201
from archduel.spaces.natsbench_sss.space import NATSBenchSSS
from archduel.spaces.resnet.space import ResNet

SPACES = (
    NASBench201(),
    NATSBenchSSS(),
    DARTS(),
    DARTS("ctnas"),
    DARTS("relativenas"),
    SuperCell(),
    SuperCell(none=True),
    ResNet(),
)


@st.composite
def archs(draw: st.DrawFn, space: Any = None) -> tuple[Any, Arch]:
    """Any path down the decision tree of a space."""
    space = space or draw(st.sampled_from(SPACES))
    prefix: tuple[int, ...] = ()
    while (decision := space.decision(prefix)) is not None:
        assert decision.options
        assert all(0 <= option < space.kinds[decision.kind] for option in decision.options)
        assert list(decision.options) == sorted(set(decision.options))
        prefix = (*prefix, draw(st.sampled_from(decision.options)))
    return space, Arch(space.name, prefix)


cells = st.integers(1, 5).flatmap(
    lambda n: st.tuples(
        *(
            st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, t + 1)), max_size=4).map(tuple)
            for t in range(n)
        )
    )
)


@settings(max_examples=120, deadline=None)
@given(archs())
def test_texts_are_read_back(pair: tuple[Any, Arch]) -> None:
    space, arch = pair
    space.validate(arch)
    assert parse(str(arch)) == arch
    assert space.read(space.write(arch)) == arch


@settings(max_examples=60, deadline=None)
@given(archs(), st.integers(0, 2**32 - 1))
def test_mutants_and_samples_are_valid_and_mutants_differ(pair: tuple[Any, Arch], seed: int) -> None:
    space, arch = pair
    rng = np.random.default_rng(seed)
    child = mutate(space, arch, rng)
    assert child != arch
    space.validate(child)
    space.validate(sample(space, rng))


@settings(max_examples=10, deadline=None)
@given(archs())
def test_neighbours_are_distinct_and_valid(pair: tuple[Any, Arch]) -> None:
    space, arch = pair
    found = neighbours(space, arch)
    assert found
    assert len(set(found)) == len(found)
    assert arch not in found
    for other in found:
        space.validate(other)


@settings(max_examples=40, deadline=None)
@given(archs(), archs())
def test_features_do_not_depend_on_the_batch(pair: tuple[Any, Arch], other: tuple[Any, Arch]) -> None:
    space, arch = pair
    alone = space.features([arch])
    assert np.isfinite(alone).all()
    second = other[1] if other[0] is space else sample(space, np.random.default_rng(0))
    assert np.array_equal(space.features([second, arch])[1:], alone)
    assert space.features([]).shape == (0, alone.shape[1])


@settings(max_examples=60, deadline=None)
@given(cells, st.randoms())
def test_order_of_edges_and_nodes_does_not_matter(nodes: tuple[Any, ...], random: Any) -> None:
    orders = [
        order
        for order in permutations(range(len(nodes)))
        if all(s < 2 or order.index(s - 2) < order.index(i) for i in order for _, s in nodes[i])
    ]
    order = random.choice(orders)
    state = {0: 0, 1: 1, **{old + 2: new for new, old in enumerate(order, 2)}}
    renumbered = []
    for i in order:
        edges = [(op, state[s]) for op, s in nodes[i]]
        random.shuffle(edges)
        renumbered.append(tuple(edges))
    assert canonical(tuple(renumbered)) == canonical(nodes)


@settings(max_examples=60, deadline=None)
@given(archs(DARTS("any")), st.lists(st.booleans(), min_size=8, max_size=8))
def test_the_order_of_a_nodes_edges_changes_neither_fingerprint_nor_features(
    pair: tuple[Any, Arch], swaps: list[bool]
) -> None:
    space, arch = pair
    choices = list(arch.choices)
    for node, swap in enumerate(swaps):
        if swap:
            at = 4 * node
            choices[at : at + 4] = [*choices[at + 2 : at + 4], *choices[at : at + 2]]
    swapped = Arch("darts", tuple(choices))
    assert space.fingerprint(swapped) == space.fingerprint(arch)
    assert np.array_equal(space.features([swapped]), space.features([arch]))
    assert count(swapped, Scale(8, 5, 16)) == count(arch, Scale(8, 5, 16))


@settings(max_examples=100, deadline=None)
@given(st.tuples(*(st.integers(0, 4),) * 6), st.permutations([0, 1, 2, 3]))
def test_nasbench201_vertices_may_be_renumbered(choices: tuple[int, ...], order: list[int]) -> None:
    """Exchanging nodes 1 and 2 of a cell without an edge between them changes nothing."""
    choices = tuple(0 if edge == (1, 2) else op for edge, op in zip(EDGES, choices))
    other = {0: 0, 1: 2, 2: 1, 3: 3}
    swapped = tuple(choices[EDGES.index((other[s], other[t]))] if (s, t) != (1, 2) else 0 for s, t in EDGES)
    space = NASBench201()
    assert space.fingerprint(Arch(space.name, swapped)) == space.fingerprint(Arch(space.name, choices))


@settings(max_examples=60, deadline=None)
@given(cells, cells)
def test_genotypes_survive_every_form_that_holds_them(
    normal: tuple[Any, ...], reduce: tuple[Any, ...]
) -> None:
    whole = (tuple(range(2, len(cell) + 2)) for cell in (normal, reduce))
    genotype = Genotype(normal, reduce, *whole)
    assert read_genotype(write_genotype(genotype, "bpe")) == genotype
    if all(normal) and all(reduce):  # triples cannot say that a last node has no edges
        for form in ("cnas", "cnas_json"):
            assert read_genotype(write_genotype(genotype, form)) == genotype
    assert set(FORMS) == {"darts", "bpe", "cnas", "cnas_json", "nasbench301"}


@settings(max_examples=40, deadline=None)
@given(archs())
def test_drawings_are_well_formed_and_show_every_operation(pair: tuple[Any, Arch]) -> None:
    space, arch = pair
    root = ElementTree.fromstring(draw(space, arch))
    assert root.tag.endswith("svg")
    width, height = (float(root.get(key, "")) for key in ("width", "height"))
    boxes = [element for element in root.iter() if element.tag.endswith("rect")]
    assert len(boxes) >= 3
    assert width < 2000
    assert height < 2000


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 9).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))))
    )
)
def test_layouts_keep_vertices_apart_and_edges_downward(graph: tuple[int, set[tuple[int, int]]]) -> None:
    n, pairs = graph
    edges = sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})
    layout = layered([40.0] * n, edges)
    for i, (x, y) in enumerate(layout.centres):
        for u, v in layout.centres[:i]:
            assert y != v or abs(x - u) >= 40
    for (source, target), path in zip(edges, layout.paths):
        assert (path[0], path[-1]) == (layout.centres[source], layout.centres[target])
        assert all(a[1] < b[1] for a, b in pairwise(path))

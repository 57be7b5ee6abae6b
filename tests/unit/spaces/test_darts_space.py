"""DARTS cells, super-cells, genotype texts: numbers by hand, other people's texts, bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from archduel.core import Arch, sample
from archduel.errors import InvalidArchError, SettingError, UnknownNameError
from archduel.spaces.darts.features import EDGES
from archduel.spaces.darts.genotype import OPS, Genotype, canonical
from archduel.spaces.darts.genotype_text import FORMS, read_genotype, write_genotype
from archduel.spaces.darts.network import Cell
from archduel.spaces.darts.space import DARTS, PRESETS
from archduel.spaces.darts.supercell import SuperCell, masked, pruned, random_darts
from archduel.spaces.named import named, nodes

V2 = DARTS().read(named("darts_v2").text)
PAIR = "[('skip_connect', 0), ('max_pool_3x3', 1)]"
FOUR = ", ".join(["('skip_connect', 0), ('max_pool_3x3', 1)"] * 4)


def test_sizes_of_the_variants() -> None:
    assert (
        DARTS().size == (2 * 6 * 12 * 20 * 7**8) ** 2
    )  # ordered pairs of different sources, 7 operations an edge
    assert DARTS("ctnas").size == ((2 * 3 * 4 * 5) ** 2 * 8**8) ** 2
    assert DARTS("relativenas").size == ((2 * 3 * 4 * 5) ** 2 * 7**8) ** 2
    assert SuperCell().size == 7**28
    assert SuperCell(none=True).size == 8**28


def test_presets_differ_in_operations_and_doubled_sources() -> None:
    doubled = named("relativenas").text
    assert DARTS("relativenas").genotype(DARTS("relativenas").read(doubled)) == read_genotype(doubled)
    for preset in ("darts", "bpe"):
        with pytest.raises(InvalidArchError, match=r"normal/node3/source1\) is 1"):
            DARTS(preset).read(doubled)
    with pytest.raises(InvalidArchError, match="op1"):
        DARTS("relativenas").read(named("ctnas_darts").text)
    assert set(PRESETS) >= {"ctnas", "cnas", "bpe", "relativenas"}
    few = DARTS("ctnas", ops=["skip_connect", "sep_conv_3x3"])
    assert {c for i, c in enumerate(sample(few, np.random.default_rng(0)).choices) if i % 2} == {3, 4}
    with pytest.raises(SettingError, match="conv_9x9"):
        DARTS(ops=["conv_9x9"])
    with pytest.raises(UnknownNameError, match="ctnas"):
        DARTS("ctnass")


def test_fingerprint_by_hand() -> None:
    assert canonical(nodes("none<0 none<1 | skip<2 sep3<0 | max3<2 skip<1 | sep3<3 none<4")) == (
        "0 max_pool_3x3(2)+skip_connect(1) sep_conv_3x3(0) sep_conv_3x3(4)"
    )  # node 2 is zero, so its skip vanishes, its pool does not (a norm may follow); 3 and 4 change places
    same = nodes("sep3<0 sep3<0 | skip<1 max3<0 | skip<2 skip<3 | dil3<0 dil3<1")
    swapped = nodes("max3<0 skip<1 | sep3<0 sep3<0 | dil3<1 dil3<0 | skip<3 skip<2")
    assert canonical(same) == canonical(swapped)
    assert canonical(nodes("sep3<0 sep3<0 | skip<1 max3<0")) != canonical(
        nodes("sep3<0 none<0 | skip<1 max3<0")
    )


def test_renumbered_cells_compute_the_same_channels_in_another_order() -> None:
    first = nodes("sep3<0 max3<1 | skip<1 dil5<0 | sep3<2 avg3<0 | sep5<3 skip<2")
    second = nodes(
        "dil5<0 skip<1 | max3<1 sep3<0 | skip<3 sep5<2 | sep3<3 avg3<0"
    )  # 2 <-> 3, 4 <-> 5, edges swapped
    edges = [3, 2, 1, 0, 7, 6, 4, 5]  # edge of the second cell -> edge of the first
    assert canonical(first) == canonical(second)
    shape = {"c_before": 3, "c_previous": 5, "c": 4, "shrink": False, "pool_norm": False}
    images = torch.rand(2, 3, 8, 8), torch.rand(2, 5, 8, 8)
    for reduction in (False, True):
        cells = [Cell(cell, (2, 3, 4, 5), **shape, reduction=reduction) for cell in (first, second)]
        cells[1].before.load_state_dict(cells[0].before.state_dict())
        cells[1].previous.load_state_dict(cells[0].previous.state_dict())
        for to, source in enumerate(edges):
            cells[1].edges[to].load_state_dict(cells[0].edges[source].state_dict())
        one, two = (cell.train()(*images).unflatten(1, (4, 4)) for cell in cells)  # (N, node, C, H, W)
        assert torch.allclose(one, two[:, [1, 0, 3, 2]], atol=1e-5)


def test_graphs_are_those_of_ctnas() -> None:
    batch = DARTS().graphs([V2])
    assert batch.ops.shape == (1, 2, 10)
    assert batch.n_ops == 11
    assert batch.ops[0, 0].tolist() == [
        1,
        2,
        *(3 + OPS.index(op) for node in read_genotype(named("darts_v2").text).normal for op, _ in node),
    ]
    normal = {(int(i), int(j)) for i, j in zip(*np.nonzero(batch.adj[0, 0]))}
    # vertices 2..9 are the operations; the last reads node 2, which the first two make
    assert normal == {(0, 2), (1, 3), (0, 4), (1, 5), (1, 6), (0, 7), (0, 8), (2, 9), (3, 9)}


def test_features_by_hand() -> None:
    found = dict(zip(DARTS().feature_names(), DARTS().features([V2])[0].tolist()))
    assert len(found) == 46
    normal = {name.removeprefix("normal: "): value for name, value in found.items() if name.startswith("normal")}
    counted = ("skip_connect", "sep_conv_3x3", "dil_conv_3x3", "sep", "conv", "pool", "5x5")
    assert [normal[name] for name in counted] == [2, 5, 1, 5, 6, 0, 0]
    assert [normal[f"from input{name}"] for name in ("s", " 0", " 1")] == [7, 4, 3]
    assert [normal[f"{name} from inputs"] for name in ("skip", "sep", "pool", "dil", "5x5")] == [2, 5, 0, 0, 0]
    depths = ("longest way", "most convolutions", "sum of longest ways", "sum of most convolutions")
    assert [normal[name] for name in depths] == [2, 3, 5, 9]
    assert found["reduce: pool"] == sum("pool" in op for node in read_genotype(named("darts_v2").text).reduce for op, _ in node)


def test_graph_features_by_hand() -> None:
    features = DARTS().graph_features([V2]).reshape(2, -1)
    counts, totals = features[0, :112].reshape(14, 8), features[0, 112:120]
    assert counts.sum() == 8
    assert [EDGES[e] for e in np.nonzero(counts.sum(1))[0]] == [
        (0, 2),
        (1, 2),
        (0, 3),
        (1, 3),
        (0, 4),
        (1, 4),
        (0, 5),
        (2, 5),
    ]
    assert totals.tolist() == [0, 0, 0, 2, 5, 0, 1, 0]
    assert features[0, 144:149].tolist() == [4, 3, 1, 0, 0]  # edges out of states 0..4
    deepest = features[0, 149:189].reshape(4, 10)
    assert deepest[:, :3].tolist() == [
        [1, 2, 4],
        [1, 2, 4],
        [1, 2, 4],
        [2, 3, 8],
    ]  # edges, convolutions, pixels
    assert features[0, 189:193].tolist() == [1, 1, 1, 1]
    assert features[0, 194:].tolist() == pytest.approx(np.log2([1 + 5, 1 + 4]))


def test_none_makes_features_of_unreached_nodes_zero() -> None:
    features = SuperCell(none=True).features([Arch("darts_supercell", (0,) * 28)])
    assert features.reshape(2, -1)[:, 149:193].max() == 0
    assert features.reshape(2, -1)[:, 193].tolist() == [4, 4]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["darts_v2", "cnas", "ea_bpe1", "rs_bpe2"])
def test_every_form_is_read_back(form: str, name: str) -> None:
    space, arch = DARTS(), DARTS().read(named(name).text)
    assert space.fingerprint(space.read(space.write(arch, form))) == space.fingerprint(arch)
    if form != "nasbench301":  # which sorts the sources
        assert space.read(space.write(arch, form)) == arch


def test_texts_as_the_code_bases_print_them() -> None:
    flat = f"DARTS = Genotype(normal=[{FOUR}], normal_concat=[2, 3, 4, 5], reduce=[{FOUR}], reduce_concat=[2, 3, 4, 5])"
    nested = f"Genotype(normal=[{', '.join([PAIR] * 4)}], normal_concat=range(2, 6), reduce=[{', '.join([PAIR] * 4)}], reduce_concat=range(2, 6))"
    triples = (
        "[" + ", ".join(f"('skip_connect', 0, {n}), ('max_pool_3x3', 1, {n})" for n in range(2, 6)) + "]"
    )
    call = f"Genotype.from_arch(normal_arch={triples}, normal_concat=[2, 3, 4, 5], reduced_arch={triples}, reduced_concat=[2, 3, 4, 5])"
    lists = json.loads(triples.replace("(", "[").replace(")", "]").replace("'", '"'))
    whole = {
        "named_normal_arch": lists,
        "ordinal_normal_arch": [[5, 0, 2]],
        "named_reduced_arch": lists,
        "loose_end": True,
    }
    keys = {
        f"NetworkSelectorDatasetInfo:darts:inputs_node_{kind}_{n}": "0_1"
        for kind in ("normal", "reduce")
        for n in (3, 4, 5)
    }
    for kind in ("normal", "reduce"):
        for start in (0, 2, 5, 9):
            keys[f"NetworkSelectorDatasetInfo:darts:edge_{kind}_{start}"] = "skip_connect"
            keys[f"NetworkSelectorDatasetInfo:darts:edge_{kind}_{start + 1}"] = "max_pool_3x3"
    expected = Genotype(
        ((("skip_connect", 0), ("max_pool_3x3", 1)),) * 4,
        ((("skip_connect", 0), ("max_pool_3x3", 1)),) * 4,
    )
    positional = f"Genotype([{FOUR}], range(2, 6), [{FOUR}], range(2, 6))"
    settings = {"OptimizerSelector:sgd:weight_decay": 3e-4}
    for text in (flat, nested, call, json.dumps(whole), str(keys), json.dumps(keys | settings), positional):
        assert read_genotype(text) == expected
    assert len(json.loads(write_genotype(expected, "nasbench301"))) == 22


def test_five_node_cells_survive_their_text() -> None:
    for name in ("nasnet_a", "amoebanet_a"):
        genotype = read_genotype(named(name).text)
        assert len(genotype.normal) == 5
        assert read_genotype(write_genotype(genotype, "bpe")) == genotype
        with pytest.raises(InvalidArchError, match="5 nodes"):
            DARTS("any").arch(genotype)
    assert read_genotype(named("nasnet_a").text).reduce_concat == (4, 5, 6)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (f"Genotype(normal=[('sep_conv_9x9', 0), ('skip_connect', 1)], reduce=[{FOUR}])", "sep_conv_9x9"),
        (f"Genotype(normal=[('skip_connect', 7), ('skip_connect', 1)], reduce=[{FOUR}])", "reads from 7"),
        (f"Genotype(normal=[('skip_connect', 0)], reduce=[{FOUR}])", "1 pairs"),
        (
            f"Genotype(normal=[('skip_connect', True), ('skip_connect', 1)], reduce=[{FOUR}])",
            r"True\] is not",
        ),
        (f"Genotype(normal=[{FOUR}])", "'reduce' is missing"),
        (f"Genotype(normal=[{FOUR}], reduce=[{FOUR}], reduce_concat=range(0, 6))", r"concatenates \[0, 1\]"),
        (f"Genotype(normal=[{FOUR}], reduced=[{FOUR}])", "'reduced' is not one of"),
        ("Genotype(normal=__import__('os').getcwd(), reduce=[])", "getcwd"),
        ("__import__('os').getcwd()", "is called"),
        ("Genotype(**{})", "'\\*\\*'"),
        ("Genotype(normal=[x for x in y], reduce=[])", "for x in y"),
        ("nasbench201:0.0.0.0.0.0", "is not a genotype"),
        ("{'a': 1", "is not a genotype"),
        ("{}", "edge_normal_0"),
        ('{"named_normal_arch": 3}', "is not a genotype"),
        ("(" * 5000, "is not a genotype"),
        ("x" * 30_000, "30000 characters"),
        ("", "is not a genotype"),
    ],
)
def test_bad_genotypes_show_the_offending_part(text: str, part: str) -> None:
    with pytest.raises(InvalidArchError, match=part):
        DARTS("any").read(text)


def test_forms_refuse_what_they_cannot_hold() -> None:
    doubled = read_genotype(named("relativenas").text)
    with pytest.raises(InvalidArchError, match="NAS-Bench-301"):
        write_genotype(doubled, "nasbench301")
    with pytest.raises(InvalidArchError, match="use the form 'bpe'"):
        write_genotype(SuperCell().genotype(Arch("darts_supercell", (3,) * 28)))
    with pytest.raises(UnknownNameError, match="bpe"):
        write_genotype(doubled, "bpee")


def test_supercells_read_bpe_codes_and_lose_edges_by_rule_or_by_chance() -> None:
    space = SuperCell(none=True)
    arch = space.read("7 3 0 4 1 1 5 2 0 0 4 3 5 1 3 7 2 4 7 3 0 1 3 4 3 6 3 4")
    assert space.genotype(arch).normal[0] == (("sep_conv_3x3", 1),)
    assert space.genotype(arch).reduce[1] == (("skip_connect", 0), ("sep_conv_5x5", 1))
    with pytest.raises(InvalidArchError, match="'8'"):
        space.read("8 " * 28)
    with pytest.raises(InvalidArchError, match="missing"):
        space.read("1 2 3")
    with pytest.raises(InvalidArchError, match="reads a state twice"):
        space.read(named("relativenas").text)
    weights = np.zeros(28)
    weights[[1, 3, 4, 5, 8, 9, 13]] = 1.0  # of the normal cell; ties go to the smaller state
    kept = DARTS("any").genotype(pruned(arch, weights)).normal
    assert [[source for _, source in node] for node in kept] == [[0, 1], [1, 2], [0, 3], [0, 4]]
    with pytest.raises(InvalidArchError, match=r"\(28,\)"):
        pruned(arch, weights[:14])
    rng, full = np.random.default_rng(0), sample(SuperCell(), np.random.default_rng(1))
    masks = [masked(full, rng) for _ in range(40)]
    assert len(set(masks)) > 30
    whole = SuperCell().genotype(full)
    for arch in masks:
        DARTS().validate(arch)
        for (_, some, _), (_, every, _) in zip(DARTS().genotype(arch).cells(), whole.cells()):
            assert all(set(few) <= set(many) for few, many in zip(some, every))


def test_bpe_generator_is_uniform_over_edges_and_operations() -> None:
    rng = np.random.default_rng(0)
    archs = [random_darts(rng) for _ in range(3000)]
    for arch in archs[:50]:
        DARTS("bpe").validate(arch)
    first = np.array([arch.choices[12:16] for arch in archs])  # node 5 of the normal cell
    sources = np.bincount(first[:, 0], minlength=5) / len(archs)
    ops = np.bincount(first[:, 1], minlength=8) / len(archs)
    assert np.abs(sources - 0.2).max() < 0.03
    assert ops[0] == 0
    assert np.abs(ops[1:] - 1 / 7).max() < 0.03
    assert random_darts(np.random.default_rng(5)) == random_darts(np.random.default_rng(5))


def test_features_do_not_depend_on_the_numbering_of_nodes() -> None:
    space, rng = DARTS("relativenas"), np.random.default_rng(0)
    for _ in range(20):
        cells = rng.integers(1, 8, (2, 4, 2, 2))  # cell, node, edge, (source, operation)
        cells[:, :2, :, 0] = rng.integers(0, 2, (2, 2, 2))  # nodes 2 and 3 read inputs only
        cells[:, 2:, :, 0] = rng.integers(0, 4, (2, 2, 2))
        swapped = cells[:, [1, 0, 2, 3]]
        later = swapped[:, 2:, :, 0]
        swapped[:, 2:, :, 0] = np.where(later == 2, 3, np.where(later == 3, 2, later))
        one, two = (Arch("darts", tuple(c.ravel().tolist())) for c in (cells, swapped))
        assert space.fingerprint(one) == space.fingerprint(two)
        assert np.array_equal(space.features([one]), space.features([two]))

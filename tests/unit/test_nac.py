"""NAC: all-pairs probabilities, antisymmetry, pseudo-labels, states, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_spaces import CellSpace, VectorSpace

from archduel.core import Arch
from archduel.core.storage import load_state, save_state
from archduel.errors import InvalidArchError, SettingError, StateError
from archduel.rankers.nac import NAC
from archduel.rankers.networks import CellEncoder, encode, reset_uniform

FAST = {"embedding_dim": 16, "epochs": 60, "lr": 3e-3}


def toy(space: CellSpace | VectorSpace, n: int = 40) -> tuple[list[Arch], np.ndarray]:
    """Returns ``n`` architectures and a label that counts operation 2."""
    rng = np.random.default_rng(0)
    archs = [space.draw(rng) for _ in range(n)]
    return archs, np.array([sum(c == 2 for c in a.choices) / 8 for a in archs])


@pytest.mark.parametrize("space", [CellSpace(), CellSpace(cells=2), VectorSpace()], ids=["one", "two", "vector"])
@pytest.mark.parametrize("antisymmetric", [True, False])
def test_it_learns_the_order_and_its_three_answers_agree(space: CellSpace | VectorSpace, antisymmetric: bool) -> None:
    archs, labels = toy(space)
    nac = NAC(space, antisymmetric=antisymmetric, **FAST)
    nac.fit(archs, labels)
    scores, matrix = nac.predict(archs), nac.matrix(archs)
    assert np.corrcoef(scores, labels)[0, 1] > 0.8
    first = [a for a in archs for _ in archs]
    second = [b for _ in archs for b in archs]
    np.testing.assert_allclose(nac.prob(first, second).reshape(matrix.shape), matrix, atol=1e-6)
    one_by_one = [nac.prob([archs[0]], [b])[0] for b in archs]
    np.testing.assert_allclose(one_by_one, matrix[0], atol=1e-6)
    order = np.argsort(scores)
    assert (matrix[order[-1]] >= matrix[order[0]]).all()
    if antisymmetric:
        np.testing.assert_allclose(matrix + matrix.T, 1, atol=1e-9)


def test_the_same_seed_gives_the_same_answers_and_another_seed_others() -> None:
    space = CellSpace()
    archs, labels = toy(space)
    answers = []
    for seed in (1, 1, 2):
        nac = NAC(space, seed=seed, **FAST)
        torch.manual_seed(seed + len(answers))
        nac.fit(archs, labels)
        answers.append(nac.predict(archs))
    assert np.array_equal(answers[0], answers[1])
    assert not np.array_equal(answers[0], answers[2])


def test_an_update_after_a_saved_state_continues_exactly(tmp_path) -> None:
    space = CellSpace(cells=2)
    archs, labels = toy(space)
    pairs = (archs[:10], archs[10:20], np.ones(10))
    nac = NAC(space, **FAST)
    nac.fit(archs, labels)
    save_state(tmp_path / "nac.safetensors", nac.state_dict())
    other = NAC(space, **FAST)
    other.load_state_dict(load_state(tmp_path / "nac.safetensors"))
    assert np.array_equal(nac.matrix(archs), other.matrix(archs))
    for ranker in (nac, other):
        ranker.update(archs, labels, pairs=pairs, epochs=3)
    assert np.array_equal(nac.matrix(archs), other.matrix(archs))


def test_pseudo_labelled_pairs_are_learned() -> None:
    space = CellSpace()
    archs, labels = toy(space)
    unseen = [Arch(space.name, (0,) * 6), Arch(space.name, (1,) * 6)]
    wins = []
    for truth in (0.0, 1.0):
        nac = NAC(space, **FAST)
        nac.fit(archs, labels, pairs=([unseen[0]] * 4, [unseen[1]] * 4, np.full(4, truth)))
        wins.append(nac.prob([unseen[0]], [unseen[1]])[0])
    assert wins[0] < 0.3 < 0.7 < wins[1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0.1, float("nan")], "nan"), ([0.5, 0.5], "two distinct"), ([0.5], "one label an architecture")],
)
def test_useless_labels_are_refused(labels: list[float], message: str) -> None:
    space = CellSpace()
    archs = [Arch(space.name, (0,) * 6), Arch(space.name, (1,) * 6)]
    with pytest.raises(SettingError, match=message):
        NAC(space, **FAST).fit(archs, labels)


def test_other_bad_input_is_refused() -> None:
    space = CellSpace()
    archs, labels = toy(space)
    nac = NAC(space, **FAST)
    with pytest.raises(StateError, match="fit"):
        nac.predict(archs)
    with pytest.raises(InvalidArchError, match="elsewhere"):
        nac.fit([Arch("elsewhere", (0,) * 6), *archs[1:]], labels)
    nac.fit(archs, labels)
    with pytest.raises(InvalidArchError, match="elsewhere"):
        nac.prob([Arch("elsewhere", (0,) * 6)], archs[:1])
    with pytest.raises(SettingError, match="pairs"):
        nac.prob(archs[:2], archs[:1])
    with pytest.raises(SettingError, match="variant"):
        NAC(space, variant="best")
    with pytest.raises(StateError, match="settings"):
        NAC(space, **{**FAST, "embedding_dim": 8}).load_state_dict(nac.state_dict())


def test_an_architecture_given_twice_counts_once_with_the_mean_label() -> None:
    space = CellSpace()
    archs, labels = toy(space, 20)
    archs, labels = [*dict.fromkeys(archs)], labels[: len(dict.fromkeys(archs))]
    doubled = NAC(space, **FAST)
    doubled.fit([*archs, archs[3]], [*labels[:3], labels[3] - 0.25, *labels[4:], labels[3] + 0.25])
    single = NAC(space, **FAST)
    single.fit(archs, labels)
    np.testing.assert_allclose(doubled.predict(archs), single.predict(archs))


def test_networks_of_spaces_without_graphs_leave_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    NAC(VectorSpace(), epochs=1).fit([VectorSpace().draw(np.random.default_rng(i)) for i in range(4)], [1, 2, 3, 4])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_matrix_is_what_single_comparisons_say() -> None:
    space, rng = CellSpace(), np.random.default_rng(0)
    archs = [space.draw(rng) for _ in range(12)]
    for antisymmetric in (True, False):
        nac = NAC(space, epochs=5, antisymmetric=antisymmetric)
        nac.fit(archs, np.arange(12) / 12)
        single = [[nac.prob([a], [b])[0] for b in archs] for a in archs]
        np.testing.assert_allclose(nac.matrix(archs), single, atol=1e-6)


@pytest.mark.parametrize("residual", [True, False])
def test_a_layer_gathers_from_what_feeds_a_node_and_from_the_node_itself(residual: bool) -> None:
    space = CellSpace(cells=2)
    archs = [space.draw(np.random.default_rng(i)) for i in range(3)]
    encoder = CellEncoder(6, 2, dim=4, layers=2, residual=residual)
    reset_uniform(encoder, torch.Generator().manual_seed(0))
    graphs = space.graphs(archs)
    expected = np.zeros((3, 2, 4))
    for b in range(3):
        for c in range(2):
            x = encoder.embedding.detach().numpy()[graphs.ops[b, c]]  # (V, 4)
            for i, weight in enumerate(encoder.weights):
                w, new = weight.detach().numpy(), np.zeros_like(x)
                for receiver in range(8):
                    feeding = [sender for sender in range(8) if graphs.adj[b, c, sender, receiver]] + [receiver]
                    new[receiver] = sum(x[sender] @ w for sender in feeding)
                new = new + x + encoder.biases[i].detach().numpy() if residual else new
                x = np.maximum(new, 0) if residual or i == 0 else new
            expected[b, c] = x.mean(0)
    (ops, flow), n_ops = encode(space, archs, torch.device("cpu"))
    assert n_ops == 6
    found = encoder(ops, flow).detach().numpy().reshape(3, 2, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_embeddings_begin_as_normal_numbers_and_all_else_uniform_as_released() -> None:
    nac = NAC(CellSpace(), epochs=1, antisymmetric=False)
    model = nac._build(1, 2_000).model
    embedding = model.encoder.embedding.detach()
    assert float(embedding.std()) == pytest.approx(1.0, abs=0.01)
    assert float(embedding.abs().max()) > 3
    for parameter in (*model.encoder.weights, *model.encoder.biases, model.first):
        assert 0.7 * 128**-0.5 < float(parameter.detach().abs().max()) <= 128**-0.5


def test_of_a_linear_head_the_opponent_changes_no_order() -> None:
    space, rng = CellSpace(), np.random.default_rng(0)
    archs = list(dict.fromkeys(space.draw(rng) for _ in range(30)))
    for antisymmetric in (True, False):
        nac = NAC(space, epochs=20, antisymmetric=antisymmetric, embedding_dim=16)
        nac.fit(archs, np.arange(len(archs)) / 30)
        matrix = nac.matrix(archs)
        orders = {tuple(np.argsort(np.round(np.log(column / (1 - column)), 6), kind="stable")) for column in matrix.T}
        assert len(orders) == 1

"""What every space, policy and ranker must do. Inherit the contract of its role, say how yours is made, run pytest."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from archduel.core import (
    Arch,
    GraphSpace,
    Policy,
    Ranker,
    State,
    TextSpace,
    Uncertain,
    Updatable,
    decisions,
    enumerate_space,
    keep_learning,
    mutate,
    neighbours,
    parse,
    sample,
    win_matrix,
)
from archduel.core.storage import load_state, save_state
from archduel.errors import InvalidArchError, SettingError, StateError
from archduel.testing.toy import ToySpace, toy_score

__all__ = ["PolicyContract", "RankerContract", "SpaceContract", "assert_same_state", "global_randomness_untouched", "through_disk"]

# -- Comparing states, and noticing who touched the global generators ---------------------------------------------------


def assert_same_state(first: Any, second: Any, where: str = "state") -> None:
    """Raises AssertionError that names the place where two states differ; nan equals nan."""
    if hasattr(first, "detach"):
        first, second = first.detach().cpu().numpy(), second.detach().cpu().numpy()
    if isinstance(first, np.ndarray):
        assert first.dtype == second.dtype, f"{where}: {first.dtype} and {second.dtype}"
        np.testing.assert_array_equal(first, second, err_msg=where)
    elif isinstance(first, dict):
        assert isinstance(second, dict), f"{where}: {type(second).__name__}, expected a dict"
        assert first.keys() == second.keys(), f"{where}: keys {sorted(map(str, first))} and {sorted(map(str, second))}"
        for key in first:
            assert_same_state(first[key], second[key], f"{where}[{key!r}]")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), f"{where}: {len(first)} and {len(second)} items"
        for i, (a, b) in enumerate(zip(first, second)):
            assert_same_state(a, b, f"{where}[{i}]")
    elif isinstance(first, float) and math.isnan(first):
        assert math.isnan(second), f"{where}: nan and {second}"
    else:
        assert first == second, f"{where}: {first!r} and {second!r}"


def through_disk(state: State, folder: Path) -> State:
    """Returns ``state`` after writing it to a file and reading it back."""
    save_state(folder / "state.safetensors", state)
    return load_state(folder / "state.safetensors")


@contextmanager
def global_randomness_untouched() -> Iterator[None]:
    """Fails unless the global generators of random, NumPy and torch are the same afterwards."""
    import torch

    def states() -> tuple[Any, ...]:
        numpy_state: Any = np.random.get_state()  # noqa: NPY002 - the global generator is what is watched
        return random.getstate(), [np.asarray(part).tolist() for part in numpy_state], torch.get_rng_state().tolist()

    before = states()
    yield
    for library, one, two in zip(("random", "numpy.random", "torch"), before, states()):
        assert one == two, f"the global generator of {library} was used; take the generator that is given"


# -- What every policy must do. Inherit :class:`PolicyContract`, say how yours is made, run pytest ----------------------


FEW = {"length": (0, 1), "op": (1, 2)}
"""Leaves six of the toy architectures."""


class PolicyContract:
    """Inherit and override :meth:`make`."""

    space: Any = ToySpace()

    def make(self, generator: torch.Generator) -> Policy:
        """Returns a fresh policy over ``self.space`` whose parameters are drawn from ``generator``."""
        raise AttributeError(f"{type(self).__name__} must define make(generator)")

    def _made(self, seed: int = 0) -> tuple[Policy, torch.Generator]:
        generator = torch.Generator().manual_seed(seed)
        return self.make(generator), generator

    def test_draws_are_valid_and_told_with_their_probability(self) -> None:
        """As many as wanted, all valid, with finite log probabilities that ``log_prob`` repeats."""
        policy, generator = self._made()
        for n in (1, 7):
            draw = policy.draw(n, generator)
            assert len(draw.archs) == n
            for arch in draw.archs:
                self.space.validate(arch)
            assert draw.log_prob.shape == draw.entropy.shape == (n,)
            assert draw.log_prob.dtype == torch.float32
            assert (draw.log_prob <= 1e-5).all()
            assert (draw.entropy >= -1e-5).all()
            torch.testing.assert_close(policy.log_prob(draw.archs), draw.log_prob, rtol=1e-5, atol=1e-5)

    def test_probabilities_of_all_architectures_add_up_to_one(self) -> None:
        """The sum over the whole space is 1."""
        policy, _ = self._made()
        assert float(policy.log_prob(list(enumerate_space(self.space))).exp().sum().detach()) == pytest.approx(1.0, abs=1e-4)

    def test_entropy_is_the_chain_rule_entropy(self) -> None:
        """The expected sum of the decisions' entropies is the entropy of the whole distribution."""
        policy, generator = self._made()
        with torch.no_grad():
            draw = policy.draw(400, generator, allowed=FEW)
        seen: dict[Arch, tuple[float, float]] = {
            arch: (float(p), float(h)) for arch, p, h in zip(draw.archs, draw.log_prob, draw.entropy)
        }
        assert sum(math.exp(p) for p, _ in seen.values()) == pytest.approx(1.0, abs=1e-4)
        whole = -sum(math.exp(p) * p for p, _ in seen.values())
        assert sum(math.exp(p) * h for p, h in seen.values()) == pytest.approx(whole, abs=1e-4)

    def test_frequencies_follow_the_probabilities(self) -> None:
        """Of 2,000 draws each architecture has its share, within five standard errors."""
        policy, generator = self._made()
        with torch.no_grad():
            draw = policy.draw(2000, generator, allowed=FEW)
        probability = {arch: float(p.exp()) for arch, p in zip(draw.archs, draw.log_prob)}
        for arch, p in probability.items():
            assert abs(draw.archs.count(arch) / 2000 - p) < 5 * math.sqrt(p * (1 - p) / 2000) + 1e-3

    def test_a_mask_is_respected(self) -> None:
        """Only allowed answers are drawn; a mask that leaves none is an error."""
        policy, generator = self._made()
        for arch in policy.draw(50, generator, allowed={"op": (1, 3)}).archs:
            assert set(arch.choices[1:]) <= {1, 3}
        mixed = {"op": (1, 3), "op0": (2,)}  # the name of a decision counts before its kind
        assert all(a.choices[1] == 2 and set(a.choices[2:]) <= {1, 3} for a in policy.draw(50, generator, allowed=mixed).archs)
        with pytest.raises(SettingError):
            policy.draw(1, generator, allowed={"op": ()})

    def test_learning_makes_an_architecture_likely(self) -> None:
        """Gradients of the log probability reach the parameters and work."""
        policy, _ = self._made()
        wanted = Arch(self.space.name, (2, 4, 1, 3))
        optimizer = torch.optim.Adam(policy.parameters(), lr=0.05)
        before = float(policy.log_prob([wanted]).detach())
        for _ in range(30):
            optimizer.zero_grad()
            (-policy.log_prob([wanted]).sum()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        assert float(policy.log_prob([wanted]).detach()) > before + 1.0

    def test_the_generator_is_the_only_randomness(self) -> None:
        """The same seed gives the same parameters and draws; global generators are untouched."""
        with global_randomness_untouched():
            (one, first), (two, second) = self._made(3), self._made(3)
            assert_same_state(dict(one.state_dict()), dict(two.state_dict()))
            assert one.draw(9, first).archs == two.draw(9, second).archs

    def test_a_state_goes_through_a_file(self, tmp_path: Path) -> None:
        """Another policy with the loaded state gives the same probabilities."""
        (one, generator), (two, _) = self._made(1), self._made(2)
        two.load_state_dict(through_disk(dict(one.state_dict()), tmp_path))
        draw = one.draw(9, generator)
        assert torch.equal(one.log_prob(draw.archs), two.log_prob(draw.archs))

    def test_other_spaces_are_refused(self) -> None:
        """An architecture with answers that are no options raises."""
        with pytest.raises(InvalidArchError):
            self._made()[0].log_prob([Arch(self.space.name, (9, 9, 9))])


# -- What every ranker must do. Inherit :class:`RankerContract`, say how yours is made, run pytest ----------------------


class RankerContract:
    """Inherit and override :meth:`make` (and the attributes where they do not fit).

    Attributes:
        space: what is ranked.
        labels: architectures that are learned from.
        right: least share of held-out pairs that must be in the right order.
    """

    space: Any = ToySpace()
    labels = 60
    right = 0.65

    def make(self, seed: int) -> Ranker:
        """Returns a fresh ranker for ``self.space``."""
        raise AttributeError(f"{type(self).__name__} must define make(seed)")

    def score(self, arch: Arch) -> float:
        """Returns the true score of ``arch``."""
        return toy_score(arch)

    def _data(self) -> tuple[list[Arch], list[float], list[Arch], list[float]]:
        """Returns labelled and held-out architectures with their scores."""
        rng = np.random.default_rng(0)
        archs = list(dict.fromkeys(sample(self.space, rng) for _ in range(3 * self.labels)))
        known, rest = archs[: self.labels], archs[self.labels : 2 * self.labels]
        return known, [self.score(a) for a in known], rest, [self.score(a) for a in rest]

    def _fitted(self, seed: int = 0) -> Ranker:
        ranker = self.make(seed)
        known, scores, _, _ = self._data()
        ranker.fit(known, scores)
        return ranker

    def _asked(self) -> Ranker:
        """Returns a fitted ranker of seed 0 for tests that only ask it; where fitting takes long, they may share one."""
        return self._fitted()

    def test_learns_the_order(self) -> None:
        """Most held-out pairs are in the right order, by scores and by win probabilities."""
        ranker = self._asked()
        _, _, rest, truth = self._data()
        pairs = [(i, j) for i in range(len(rest)) for j in range(i) if truth[i] != truth[j]]
        first, second = [rest[i] for i, _ in pairs], [rest[j] for _, j in pairs]
        better = np.array([truth[i] > truth[j] for i, j in pairs])
        predicted = ranker.predict(rest)
        assert predicted.shape == (len(rest),)
        assert np.isfinite(predicted).all()
        by_score = np.array([predicted[i] > predicted[j] for i, j in pairs])
        assert (by_score == better).mean() > self.right
        p = ranker.prob(first, second)
        assert p.shape == (len(pairs),)
        assert ((p >= 0) & (p <= 1)).all()
        assert ((p > 0.5) == better).mean() > self.right

    def test_the_same_seed_learns_the_same(self) -> None:
        """Two rankers of one seed agree exactly, and learning again starts from scratch."""
        _, _, rest, _ = self._data()
        with global_randomness_untouched():
            one, two = self._fitted(5), self._fitted(5)
        first = one.predict(rest)
        assert np.array_equal(first, two.predict(rest))
        known, scores, _, _ = self._data()
        two.fit(known[::2], scores[::2])
        two.fit(known, scores)
        assert np.array_equal(first, two.predict(rest))

    def test_a_state_goes_through_a_file(self, tmp_path: Path) -> None:
        """Another ranker with the loaded state says the same, exactly."""
        one, two = self._asked(), self.make(0)
        two.load_state_dict(through_disk(one.state_dict(), tmp_path))
        _, _, rest, _ = self._data()
        assert np.array_equal(one.predict(rest), two.predict(rest))
        assert np.array_equal(one.prob(rest[1:], rest[:-1]), two.prob(rest[1:], rest[:-1]))

    def test_an_unfitted_ranker_says_so(self, tmp_path: Path) -> None:
        """Predicting before fitting raises; the empty state can be saved and loaded."""
        ranker = self.make(0)
        _, _, rest, _ = self._data()
        with pytest.raises(StateError):
            ranker.predict(rest)
        with pytest.raises(StateError):
            ranker.prob(rest, rest)
        self.make(1).load_state_dict(through_disk(ranker.state_dict(), tmp_path))

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_labels_that_are_no_numbers_are_refused(self, bad: float) -> None:
        """A failed evaluation must not be learned from."""
        known, scores, _, _ = self._data()
        with pytest.raises(ValueError, match=r"\w"):
            self.make(0).fit(known, [bad, *scores[1:]])

    def test_labels_without_an_order_are_refused(self) -> None:
        """Fewer than two distinct labels teach nothing."""
        known, _, _, _ = self._data()
        with pytest.raises(ValueError, match=r"\w"):
            self.make(0).fit(known, [0.5] * len(known))

    def test_architectures_of_another_space_are_refused(self) -> None:
        """Fitting and predicting check the space."""
        known, scores, _, _ = self._data()
        stranger = Arch("elsewhere", known[0].choices)
        with pytest.raises(InvalidArchError):
            self.make(0).fit([stranger, *known[1:]], scores)
        with pytest.raises(InvalidArchError):
            self._asked().predict([stranger])

    def test_arguments_are_not_modified(self) -> None:
        """Lists and arrays stay as they were."""
        known, scores, _, _ = self._data()
        given = list(known), np.array(scores)
        copies = deepcopy(given)
        self.make(0).fit(*given)
        assert given[0] == copies[0]
        assert np.array_equal(given[1], copies[1])

    def test_all_pairs_at_once_say_what_single_pairs_say(self) -> None:
        """A ranker's own matrix agrees with ``prob`` up to rounding; without one it is made of ``prob``."""
        ranker = self._asked()
        _, _, rest, _ = self._data()
        few = rest[:7]
        single = np.array([ranker.prob([first] * len(few), few) for first in few])
        np.testing.assert_allclose(win_matrix(ranker, few), single, atol=1e-5)

    def test_going_on_learning_is_exact(self) -> None:
        """A ranker that can go on learns from a state exactly as without a break; any other starts from scratch."""
        known, scores, rest, _ = self._data()
        one, two = self._fitted(2), self.make(2)
        extra = known[:2], known[2:4], np.array([1.0, 0.0])
        if isinstance(one, Updatable):
            two.load_state_dict(deepcopy(one.state_dict()))
            keep_learning(two, known, scores, pairs=extra, epochs=2)
        else:
            two.fit(known, scores, pairs=extra)
        keep_learning(one, known, scores, pairs=extra, epochs=2)
        assert np.array_equal(one.predict(rest), two.predict(rest))

    def test_uncertainty_is_a_deviation(self) -> None:
        """Where a ranker knows its uncertainty, it is finite and not negative, one number an architecture."""
        ranker = self._asked()
        if isinstance(ranker, Uncertain):
            _, _, rest, _ = self._data()
            deviation = ranker.uncertainty(rest)
            assert deviation.shape == (len(rest),)
            assert np.isfinite(deviation).all()
            assert (deviation >= 0).all()


class SpaceContract:
    """Inherit and override :meth:`make`.

    Attributes:
        samples: how many random architectures each test looks at.
    """

    samples = 30

    def make(self) -> Any:
        """Returns the space."""
        raise AttributeError(f"{type(self).__name__} must define make()")

    def _archs(self, space: Any, seed: int = 0) -> list[Arch]:
        rng = np.random.default_rng(seed)
        return [sample(space, rng) for _ in range(self.samples)]

    def test_decisions_are_ascending_options_of_a_known_kind(self) -> None:
        """Every question names its kind, and offers indices into that vocabulary."""
        space = self.make()
        for arch in self._archs(space):
            asked = list(decisions(space, arch.choices))
            assert len({decision.name for decision in asked}) == len(asked), "two questions share a name"
            for decision in asked:
                assert list(decision.options) == sorted(set(decision.options))
                assert 0 <= decision.options[0] <= decision.options[-1] < space.kinds[decision.kind]

    def test_random_architectures_are_valid_and_come_from_the_generator_alone(self) -> None:
        """The same seed gives the same architectures; nothing else is random."""
        space = self.make()
        with global_randomness_untouched():
            first, second, other = self._archs(space), self._archs(space), self._archs(space, 1)
        assert first == second != other
        assert len(set(first)) > self.samples // 3
        for arch in first:
            assert arch.space == space.name
            space.validate(arch)

    def test_what_does_not_belong_is_refused(self) -> None:
        """Another space's name, too few, too many and unknown answers are errors."""
        space = self.make()
        arch = self._archs(space)[0]
        choices, beyond = arch.choices, max(space.kinds.values())
        bad = [
            Arch(f"not_{space.name}", choices),
            Arch(space.name, choices[:-1]),
            Arch(space.name, (*choices, 0)),
            Arch(space.name, ()),
            Arch(space.name, (*choices[:-1], beyond)),
            Arch(space.name, (*choices[:-1], -1)),
        ]
        for wrong in bad:
            with pytest.raises(InvalidArchError):
                space.validate(wrong)

    def test_texts_are_read_back(self) -> None:
        """``parse`` reads ``str``; a space with a text of its own reads what it writes and refuses nonsense."""
        space = self.make()
        for arch in self._archs(space):
            assert parse(str(arch)) == arch
            if isinstance(space, TextSpace):
                assert space.read(space.write(arch)) == arch
        if isinstance(space, TextSpace):
            for text in ("", "nonsense", "(((", "{}"):
                with pytest.raises(InvalidArchError):
                    space.read(text)

    def test_mutants_and_neighbours_are_valid_and_differ(self) -> None:
        """One answer changed, everything that follows made to fit."""
        space, rng = self.make(), np.random.default_rng(0)
        for arch in self._archs(space):
            child = mutate(space, arch, rng)
            assert child != arch
            space.validate(child)
        near = neighbours(space, arch)
        assert near
        assert len(set(near)) == len(near)
        assert arch not in near
        for other in near:
            space.validate(other)

    def test_features_describe_each_architecture_by_itself(self) -> None:
        """(B, F) float32, finite, and independent of the rest of the batch."""
        space = self.make()
        archs = self._archs(space)
        features = space.features(archs)
        assert features.shape == (len(archs), features.shape[1])
        assert features.dtype == np.float32
        assert np.isfinite(features).all()
        assert np.array_equal(space.features(archs[3:5]), features[3:5])
        assert space.features([]).shape == (0, features.shape[1])
        assert len(np.unique(features, axis=0)) > 1

    def test_graphs_are_padded_alike(self) -> None:
        """Operations within the vocabulary, nothing at padding, edges only between real vertices, no cycles."""
        space = self.make()
        if not isinstance(space, GraphSpace):
            return
        batch = space.graphs(self._archs(space))
        n, cells, vertices = batch.ops.shape
        assert n == self.samples
        assert batch.adj.shape == (n, cells, vertices, vertices)
        assert batch.mask.shape == batch.ops.shape
        assert [str(part.dtype) for part in (batch.ops, batch.adj, batch.mask)] == ["int64", "float32", "bool"]
        assert np.array_equal(batch.ops > 0, batch.mask)
        assert batch.ops.max() < batch.n_ops
        both = batch.mask[..., :, None] & batch.mask[..., None, :]
        assert not batch.adj[~both].any()
        assert not np.linalg.matrix_power(batch.adj.astype(np.int64), vertices).any(), "there is a cycle"

    def test_fingerprints_are_texts_that_do_not_change(self) -> None:
        """The same architecture, read again, has the same fingerprint."""
        space = self.make()
        archs = self._archs(space)
        for arch in archs:
            assert isinstance(space.fingerprint(arch), str)
            assert space.fingerprint(parse(str(arch))) == space.fingerprint(arch)
        assert len({space.fingerprint(arch) for arch in archs}) > self.samples // 4

"""What every space must do. Inherit :class:`SpaceContract`, say how yours is made, run pytest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archduel.core import Arch, GraphSpace, TextSpace, decisions, mutate, neighbours, parse, sample
from archduel.errors import InvalidArchError
from archduel.testing.states import global_randomness_untouched

__all__ = ["SpaceContract"]


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

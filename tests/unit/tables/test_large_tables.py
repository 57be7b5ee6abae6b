"""Tables of very many rows: what a search keeps of them grows with the rows and not with the rows times their choices."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pytest

from archduel.core import Arch, neighbours, sample
from archduel.errors import InvalidArchError
from archduel.spaces import MobileNetV3
from archduel.spaces.nasbench201.space import NASBench201
from archduel.tables import estimator as module
from archduel.tables.build import make_table
from archduel.tables.estimator import Restricted, TableEstimator

SPACE = MobileNetV3()


def drawn(n: int) -> list[Arch]:
    rng = np.random.default_rng(0)
    return list(dict.fromkeys(sample(SPACE, rng) for _ in range(n)))


def test_a_narrowed_space_takes_less_than_the_choices_themselves_as_architectures() -> None:
    archs = drawn(3_000)
    keys = [bytes(arch.choices) for arch in archs]
    tracemalloc.start()
    narrow = Restricted(SPACE, iter(keys))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the keys are the caller's; two lists of them are kept. A tree of their beginnings has 45 entries a row, of a hundred bytes and more each
    assert peak < 3_000 * 40
    assert narrow.size == len(archs)
    assert sum(map(sys.getsizeof, archs)) > 0


def test_answers_are_those_of_the_list_in_every_place() -> None:
    archs = drawn(60)
    narrow, listed = Restricted(SPACE, archs), {arch.choices for arch in archs}
    for arch in archs:
        for place in range(len(arch.choices) + 1):
            decision = narrow.decision(arch.choices[:place])
            wanted = sorted({choices[place] for choices in listed if choices[:place] == arch.choices[:place] and len(choices) > place})
            assert (decision is None) == (place == len(arch.choices))
            assert decision is None or list(decision.options) == wanted
    assert narrow.archs == archs
    missing = next(arch for arch in drawn(200) if arch.choices not in listed)
    first = next(place for place in range(len(missing.choices)) if missing.choices[place] not in narrow.decision(missing.choices[:place]).options)  # type: ignore[union-attr]
    assert narrow.decision(missing.choices[: first + 1]).options == ()  # type: ignore[union-attr]
    with pytest.raises(InvalidArchError):
        narrow.validate(missing)
    with pytest.raises(InvalidArchError):
        narrow.validate(Arch("nasbench201", archs[0].choices))
    with pytest.raises(InvalidArchError):
        narrow.validate(Arch(SPACE.name, (999, *archs[0].choices[1:])))
    narrow.validate(archs[0])


def test_few_answers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEMO", 10)
    archs = drawn(30)
    narrow = Restricted(SPACE, archs)
    for arch in archs:
        assert sum(1 for _ in neighbours(narrow, arch)) < len(archs)
        assert len(narrow._answers) <= 10


def test_keys_of_a_table_are_its_choices_without_what_fills_short_rows() -> None:
    archs = [Arch("toy", (1,)), Arch("toy", (2, 0, 3)), Arch("toy", ())]
    table = make_table(archs, {"validation": [0.1, 0.2, 0.3]})
    assert table.keys() == [b"\x01", b"\x02\x00\x03", b""]
    ending = Restricted(NASBench201(), [bytes((0, 0)), bytes((0, 0, 4)), bytes((0, 1, 1))])
    assert ending._answers_to((0, 0)) == (4,)  # one ends where another goes on
    assert ending._answers_to((0,)) == (0, 1)
    assert ending._answers_to((300,)) == ()


def test_the_highest_score_is_read_and_not_asked_for_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    archs = drawn(50)
    values = np.random.default_rng(0).random((1, 3, len(archs)))
    values[0, :, 7] = np.nan
    table = make_table(archs, {"validation": values})
    for seed in range(3):
        estimator = TableEstimator(table, reduce="sample", seed=seed)
        told = [estimator._one(arch, None).score for arch in archs]
        monkeypatch.setattr(TableEstimator, "_one", lambda *_: pytest.fail("a million queries"))
        assert estimator.highest() == np.nanmax(told)
        monkeypatch.undo()
    nothing = make_table(archs[:1], {"validation": [np.nan]})
    assert np.isnan(TableEstimator(nothing).highest())

"""BPE's tables: rank correlations as reported, what matters, the front, a replayed pruning. Damaged files are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bpe_published import Published, published_record, published_text, read_published

from archduel.errors import TableError
from archduel.proxies.find import front, recommend


@pytest.fixture(scope="module")
def tables() -> Published:
    root = os.environ.get("ARCHDUEL_DATA")
    if not root:
        pytest.skip("needs the public data named by ARCHDUEL_DATA (bpe/*.csv)")
    return read_published(Path(root) / "bpe", draws=50)


@pytest.mark.data
def test_all_37_rank_correlations_are_those_reported(tables: Published) -> None:
    assert len(tables.trials) == 37
    for trial in tables.trials:
        assert trial.agreement.spearman.value == pytest.approx(tables.reported[trial.name], abs=5e-4)


@pytest.mark.data
def test_layers_and_epochs_matter_most(tables: Published) -> None:
    for seed in range(2):
        assert list(tables.importance(seed=seed, trees=100))[:2] == ["layers", "epochs"]
    assert sum(sorted(tables.importance(trees=100).values())[:-2]) < 0.1


@pytest.mark.data
def test_places_on_the_front(tables: Published) -> None:
    best = [trial.name for trial in front(tables.pool)]
    assert {"test5", "test32", "test30", "test23"} <= set(best)
    assert "test6" not in best  # wide and shallow
    assert len(tables.pool) == 32


@pytest.mark.data
def test_the_replay_finds_front_recipes_for_a_part_of_the_cost(tables: Published) -> None:
    total = sum(trial.paid for trial in tables.pool)
    found = tables.replay(samples=6, trees=100)
    assert found.paid < 0.15 * total
    assert len({trial.name for trial in found.trials}) == len(found.trials)
    everything = {trial.name for trial in front(tables.pool)}
    assert {trial.name for trial in recommend(found.trials).values()} <= everything
    small = tables.replay(budget=200.0, trees=50)
    assert 0 < small.paid <= 200


@pytest.mark.data
def test_the_record_says_it_all(tables: Published) -> None:
    record = published_record(Path(os.environ["ARCHDUEL_DATA"]) / "bpe", trees=20, seeds=2, draws=20)
    assert record["places"]["bpe1"]["on_front_of_37"]
    assert record["places"]["bpe2"]["beaten_by"] == []
    text = published_text(record)
    assert "test30" in text
    assert "importance" in text


def test_missing_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"architectures\.csv cannot be read"):
        read_published(tmp_path)
    (tmp_path / "architectures.csv").write_text("a,b\n1,2\n")
    with pytest.raises(TableError, match="no column 'arch_id'"):
        read_published(tmp_path)

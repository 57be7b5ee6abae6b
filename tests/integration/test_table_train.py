"""A table of one's own: trained, continued, extended, read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from archduel.commands.table.train import train_table
from archduel.errors import SettingError
from archduel.tables.store import open_table

QUICK = {"epochs": 1, "channels": 4, "depth": 1}


def test_a_table_is_trained_once_extended_and_read(tmp_path: Path) -> None:
    out = tmp_path / "mine.table"
    settings = {"changes": QUICK, "load_settings": {"max_images": 200}, "quiet": True}
    train_table("digits", out, cells=2, seeds=2, **settings)
    (settings_record, *before) = [json.loads(line) for line in out.with_suffix(".jsonl").read_text().splitlines()]
    assert settings_record["settings"]["recipe"]["channels"] == 4
    train_table("digits", out, cells=3, seeds=2, **settings)
    (_, *after) = [json.loads(line) for line in out.with_suffix(".jsonl").read_text().splitlines()]
    assert len(before) == 4
    assert after[:4] == before
    assert len(after) == 6
    table = open_table(out)
    assert table.space_name == "nasbench201"
    assert [str(arch) for arch in table.archs] == list(dict.fromkeys(record["arch"] for record in after))
    means = [np.mean([r["score"] for r in after if r["arch"] == str(arch)]) for arch in table.archs]
    assert np.allclose(table.validation(), means, atol=1e-6)


@pytest.mark.usefixtures("in_this_process")
def test_a_table_trained_in_groups_is_the_one_trained_one_by_one(tmp_path: Path) -> None:
    settings = {"recipe": {**QUICK, "batch_size": 40}, "load_settings": {"max_images": 200}, "quiet": True}
    alone = open_table(train_table("digits", tmp_path / "alone.table", cells=4, seeds=1, **settings))
    together = open_table(
        train_table("digits", tmp_path / "together.table", cells=4, seeds=1, fused=3, **settings)
    )
    assert together.archs == alone.archs
    assert np.allclose(
        together.validation(), alone.validation(), atol=0.08
    )  # an image or two of 30 may tip over


@pytest.mark.parametrize("fused", [0, "many", -1])
def test_another_number_of_networks_is_an_error(tmp_path: Path, fused: object) -> None:
    with pytest.raises(SettingError, match="'auto', 'off' or a number"):
        train_table("digits", tmp_path / "mine.table", cells=2, fused=fused, quiet=True)  # type: ignore[arg-type]


@pytest.mark.usefixtures("in_this_process")
def test_a_run_may_be_the_mean_of_several_trainings(tmp_path: Path) -> None:
    settings = {"changes": QUICK, "load_settings": {"max_images": 200}, "quiet": True}
    four = open_table(train_table("digits", tmp_path / "mine.table", cells=2, seeds=4, **settings))
    two = open_table(train_table("digits", tmp_path / "mine.table", cells=2, seeds=2, mean_of=2, **settings))
    for run in range(2):  # nothing was trained again
        pair = [four.validation(run=2 * run + part) for part in range(2)]
        assert np.allclose(two.validation(run=run), np.mean(pair, axis=0), atol=1e-6)
    with pytest.raises(SettingError, match="mean_of must be at least 1"):
        train_table("digits", tmp_path / "mine.table", cells=2, mean_of=0, **settings)

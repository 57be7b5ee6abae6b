"""Datasets of Hugging Face on disk: what `save_to_disk` wrote and folders of parquet files, without their libraries; hostile ones are refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from archduel.data import load
from archduel.errors import DataError

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra 'parquet')")
import pyarrow.parquet as pq  # noqa: E402

FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"}}


def images(n: int, seed: int) -> list[Image.Image]:
    """Returns random grey images of 9 pixels."""
    return [Image.fromarray(pixels) for pixels in np.random.default_rng(seed).integers(0, 256, (n, 9, 9), dtype=np.uint8)]


def table(n: int, seed: int = 0, **columns: Any) -> Any:
    """Returns a table as Hugging Face's libraries write one."""
    cells = []
    for image in images(n, seed):
        image.save(file := io.BytesIO(), "PNG")
        cells.append({"bytes": file.getvalue(), "path": None})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.table({"image": pa.array(cells, kind), "label": pa.array([i % 3 for i in range(n)], pa.int64())} | columns)


def save(folder: Path, found: Any, files: int = 2, features: Any = FEATURES) -> None:
    """Writes a split as ``save_to_disk`` does."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05}-of-{files:05}.arrow" for i in range(files)]
    for i, name in enumerate(names):
        part = found.slice(i * (len(found) // files), len(found) if i == files - 1 else len(found) // files)
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, part.schema) as stream:
            stream.write_table(part)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names], "_split": folder.name}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))


def check(path: Path) -> None:
    """Checks that the images of both splits are there, in their order, with their names."""
    found = load(str(path))
    assert found.classes == ("cat", "dog", "owl")
    assert len(found.test.labels) == 30
    assert len(found.train.labels) + len(found.validation.labels) == 90
    assert np.asarray(found.test.labels[:]).tolist() == [i % 3 for i in range(30)]
    assert np.array_equal(np.asarray(found.test.images[:])[:, 0], np.stack([np.asarray(image) for image in images(30, 1)]))


def test_saved_splits(tmp_path: Path) -> None:
    save(tmp_path / "set" / "train", table(90))
    save(tmp_path / "set" / "test", table(30, 1))
    (tmp_path / "set" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    check(tmp_path / "set")


def test_a_single_split_is_divided(tmp_path: Path) -> None:
    save(tmp_path / "one", table(90))
    found = load(str(tmp_path / "one"))
    assert [len(part.labels) for part in (found.train, found.validation, found.test)] == [54, 18, 18]


@pytest.mark.parametrize("below", ["", "data"])
def test_parquet_files(tmp_path: Path, below: str) -> None:
    place = tmp_path / "set" / below
    place.mkdir(parents=True)
    meta = {b"huggingface": json.dumps({"info": {"features": FEATURES}}).encode()}
    train, test = (part.replace_schema_metadata(meta) for part in (table(90), table(30, 1)))
    pq.write_table(train.slice(0, 50), place / "train-00000-of-00002.parquet", row_group_size=20)
    pq.write_table(train.slice(50), place / "train-00001-of-00002.parquet", row_group_size=20)
    pq.write_table(test, place / "test-00000-of-00001.parquet", row_group_size=7)
    check(tmp_path / "set")


def test_what_is_damaged_or_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    def refused(path: Path, reason: str) -> None:
        """Checks that a dataset cannot be read."""
        with pytest.raises(DataError, match=reason):
            load(str(path))

    save(tmp_path / "a", table(30))
    (tmp_path / "a" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../b/data.arrow"}]}))
    refused(tmp_path / "a", "expected the name of a file beside it")
    save(tmp_path / "set" / "train", table(30))
    (tmp_path / "set" / "dataset_dict.json").write_text(json.dumps({"splits": ["../a"]}))
    refused(tmp_path / "set", "expected the name of a file beside it")
    save(tmp_path / "cut", table(30), files=1)
    arrow = tmp_path / "cut" / "data-00000-of-00001.arrow"
    arrow.write_bytes(arrow.read_bytes()[:500])
    refused(tmp_path / "cut", "cannot be read")
    save(tmp_path / "text", pa.table({"text": ["a"], "label": [0]}), files=1)
    refused(tmp_path / "text", "the columns are text, label")
    elsewhere = pa.array([{"bytes": None, "path": "/etc/passwd"}] * 30, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    save(tmp_path / "paths", pa.table({"image": elsewhere, "label": [i % 3 for i in range(30)]}))
    refused(tmp_path / "paths", "holds no image but")
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "dataset_dict.json").write_text("[")
    refused(tmp_path / "json", "cannot be read")

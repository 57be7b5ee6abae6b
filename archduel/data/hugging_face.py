"""Datasets of Hugging Face that lie on disk: what ``save_to_disk`` wrote, and folders of parquet files as the Hub has them. Nothing is fetched, nothing run."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from archduel.data.dataset import Source
from archduel.data.decode import open_image
from archduel.data.layout import split_of
from archduel.data.objects import IMAGES, LABELS, from_dataset, from_parts
from archduel.errors import DataError, reading

__all__ = ["from_hugging_face", "is_hugging_face"]

WHOLE, INFO, STATE = "dataset_dict.json", "dataset_info.json", "state.json"
"""Files of ``save_to_disk``: splits; what the columns are; which files hold a split."""


def is_hugging_face(path: Path) -> bool:
    """Returns whether a folder is such a dataset: one of splits, one split, or parquet files."""
    return (path / WHOLE).is_file() or ((path / INFO).is_file() and (path / STATE).is_file()) or bool(_parquet(path))


def _parquet(path: Path) -> list[Path]:
    """Returns the parquet files of a dataset, where the Hub has them."""
    return sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))


def from_hugging_face(path: Path, *, name: str) -> Source:
    """Returns the images of a dataset, with its splits and class names.

    Args:
        path: of its folder.
        name: for messages.

    Raises:
        DataError: if pyarrow is not installed, for columns that are no images with labels, or files that are damaged.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise DataError(f"{name} is a dataset of Hugging Face, which needs pyarrow to be read; install it with `pip install 'archduel[parquet]'`") from error
    with reading(f"the dataset {name}", DataError):
        parts = _saved_parts(path) if (path / WHOLE).is_file() or (path / STATE).is_file() else _parquet_parts(path)
    if not parts:
        raise DataError(f"{name} has no split that is called train, validation or test")
    if len(parts) == 1:  # one part alone is simply the images
        parts = {0: next(iter(parts.values()))}
    return from_parts(parts, name) if len(parts) > 1 else from_dataset(parts[0], name=name)


def _plain_name(text: Any, path: Path) -> Path:
    """Returns the file of a name that stands in a dataset's own files, which may not lead elsewhere."""
    if not isinstance(text, str) or Path(text).name != text or text in ("", ".", ".."):
        raise DataError(f"{path} names {str(text)[:60]!r}, expected the name of a file beside it")
    return path.parent / text


def _json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no settings of a dataset")
    return found


def _saved_parts(path: Path) -> dict[int, _Rows]:
    """Returns the splits of what ``save_to_disk`` wrote."""
    import pyarrow as pa

    names = _json(path / WHOLE).get("splits") if (path / WHOLE).is_file() else [""]
    found: dict[int, _Rows] = {}
    for name in names if isinstance(names, list) else []:
        folder = path if name == "" else _plain_name(name, path / WHOLE)
        files = [_plain_name(entry.get("filename"), folder / STATE) for entry in _json(folder / STATE).get("_data_files", [])]
        tables = []
        for file in files:
            with pa.memory_map(str(file)) as mapped:
                tables.append(pa.ipc.open_stream(mapped).read_all())
        code = 0 if name == "" else split_of(name)
        if code is not None and tables:
            found[code] = _Rows([_Table(table) for table in tables], _json(folder / INFO).get("features") or {})
    return found


def _parquet_parts(path: Path) -> dict[int, _Rows]:
    """Returns the splits of a folder of parquet files: ``train-00000-of-00003.parquet``, ``test.parquet``; without such names all of it."""
    import pyarrow.parquet as pq

    by_split: dict[int, list[Any]] = {}
    for file in _parquet(path):
        code = split_of(file.stem.partition("-")[0])
        by_split.setdefault(0 if code is None else code, []).append(pq.ParquetFile(file))
    return {code: _Rows([_Groups(file, i) for file in files for i in range(file.num_row_groups)], _features(files[0])) for code, files in sorted(by_split.items())}


def _features(file: Any) -> dict[str, Any]:
    """Returns what Hugging Face's libraries wrote of the columns into a parquet file."""
    said = (file.schema_arrow.metadata or {}).get(b"huggingface")
    found = json.loads(said).get("info", {}).get("features") if said else {}
    return found if isinstance(found, dict) else {}


class _Table:
    """Rows that lie in a mapped file."""

    def __init__(self, table: Any) -> None:
        self.table, self.columns = table, list(table.column_names)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def column(self, name: str) -> list[Any]:
        """Returns a column of labels."""
        return list(self.table.column(name).to_pylist())

    def cell(self, name: str, row: int) -> Any:
        """Returns one image."""
        return self.table.column(name)[row].as_py()


class _Groups(_Table):
    """Rows of one group of a parquet file, read when the first of them is asked for; the last group that was asked for stays."""

    _last: tuple[Any, Any] = (None, None)

    def __init__(self, file: Any, group: int) -> None:
        self.file, self.group, self.columns = file, group, list(file.schema_arrow.names)

    def __len__(self) -> int:
        return int(self.file.metadata.row_group(self.group).num_rows)

    def column(self, name: str) -> list[Any]:
        """Returns a column of labels."""
        return list(self.file.read_row_group(self.group, columns=[name]).column(name).to_pylist())

    def cell(self, name: str, row: int) -> Any:
        """Returns one image."""
        mark, table = _Groups._last
        if mark != (id(self), name):
            table = self.file.read_row_group(self.group, columns=[name])
            _Groups._last = ((id(self), name), table)
        return table.column(name)[row].as_py()


class _Rows:
    """A split: items (image, label), labels and class names without decoding an image."""

    def __init__(self, blocks: Sequence[_Table], features: Mapping[str, Any]) -> None:
        self.blocks = list(blocks)
        columns = blocks[0].columns
        image, label = (next((name for name in names if name in columns), None) for names in (IMAGES, LABELS))
        if image is None or label is None:
            raise DataError(f"the columns are {', '.join(columns[:6])}; expected one of {', '.join(IMAGES)} and one of {', '.join(LABELS)}")
        self.image = image
        said = features.get(label)
        self.classes = said.get("names") if isinstance(said, Mapping) else None
        self.targets = [value for block in self.blocks for value in block.column(label)]
        self.starts = list(_running([len(block) for block in self.blocks]))

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, number: int) -> tuple[Image.Image, Any]:
        block = max(i for i, start in enumerate(self.starts) if start <= number)
        cell = self.blocks[block].cell(self.image, number - self.starts[block])
        content = cell.get("bytes") if isinstance(cell, Mapping) else cell
        if not isinstance(content, bytes):
            where = cell.get("path") if isinstance(cell, Mapping) else type(cell).__name__
            raise DataError(f"row {number} holds no image but {str(where)[:60]!r}; save the dataset with its images in it (embed_external_files)")
        return open_image(io.BytesIO(content)), self.targets[number]


def _running(lengths: Sequence[int]) -> Iterator[int]:
    """Yields where each of these parts begins."""
    total = 0
    for length in lengths:
        yield total
        total += length

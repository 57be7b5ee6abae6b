"""Reading pickles without unpickling: the same data as pickle gives, and nothing else, whatever the file says."""

from __future__ import annotations

import bz2
import contextlib
import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archduel.errors import TableError
from archduel.tables.readers.nats import read_torch_file
from archduel.tables.readers.pickle_names import CONTAINERS, NUMPY
from archduel.tables.readers.pickles import Limits, PickleReader

MAKERS = {**CONTAINERS, **NUMPY}
PROTOCOLS = (2, 3, 4, 5)


def load(data: bytes, **settings_: Any) -> Any:
    return PickleReader(io.BytesIO(data).read, MAKERS, **settings_).load()


atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**100), 2**100),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
)
values = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=8),
        st.dictionaries(
            st.one_of(st.text(), st.integers(), st.tuples(st.text(), st.integers())), inner, max_size=8
        ),
        st.tuples(inner, inner),
        st.tuples(inner, inner, inner, inner),
        st.dictionaries(st.integers(0, 255), st.floats(allow_nan=False), min_size=4, max_size=30),
        st.dictionaries(
            st.text(min_size=5, max_size=20), st.floats(allow_nan=False), min_size=4, max_size=30
        ),
    ),
    max_leaves=20,
)


@given(values, st.sampled_from(PROTOCOLS), st.booleans())
@settings(max_examples=40, deadline=None)
def test_plain_data_is_read_as_pickle_reads_it(value: Any, protocol: int, twice: bool) -> None:
    value = [value, value] if twice else value
    assert load(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_curves_shared_keys_and_shared_objects(protocol: int) -> None:
    keys = {f"x-valid@{i}": i / 7 for i in range(300)}
    value = {
        "acc": keys,
        "loss": dict.fromkeys(keys, 1.25),
        "by_epoch": {i: i / 3 for i in range(300)},
        "again": keys,
    }
    read = load(pickle.dumps(value, protocol))
    assert read == value
    assert read["again"] is read["acc"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_values_ordered_dicts_and_sets(protocol: int) -> None:
    value = {
        "float": np.float64(0.25),
        "single": np.float32(0.5),
        "integer": np.int64(-3),
        "times": OrderedDict([(1, 2.0), (0, 1.0)]),
        "bytes": b"\x00\xff",
    }
    read = load(pickle.dumps(value, protocol))
    assert read == value
    assert list(read["times"]) == [1, 0]
    assert type(read["float"]) is float
    for array in (np.arange(6.0).reshape(2, 3), np.arange(6, dtype=">i4"), np.asfortranarray(np.eye(3))):
        np.testing.assert_array_equal(load(pickle.dumps(array, protocol)).value, array)
    assert sorted(load(pickle.dumps({3, 1}, protocol))) == [1, 3]


def test_old_text_and_python_2_pickles() -> None:
    assert load(b"\x80\x02U\x03a\xe9bq\x00.") == "a\xe9b"
    assert load(b"\x80\x02ccollections\nOrderedDict\nq\x00]q\x01]q\x02(K\x01K\x02ea\x85q\x03Rq\x04.") == {
        1: 2
    }


class Runs:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_that_a_pickle_names_is_run(tmp_path: Path, protocol: int) -> None:
    data = pickle.dumps({"a": Runs(tmp_path / "made")}, protocol)
    with pytest.raises(TableError, match=r"names '(posix|nt)\.mkdir'; this file may hold plain data only"):
        load(data)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'id'\ntR.",  # protocol 0
        b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
        b"\x80\x02ccollections\nOrderedDict\n)R}b.",  # state for what takes none
        b"\x80\x02K\x01)R.",  # a call of a number
        b"\x80\x02]]b.",
        b"\x80\x02(K\x01.",
        b"\x80\x02.",
        b"\x80\x02K\x01K\x02.",
        b"\x80\x02h\x07.",
        b"\x80\x02j\xff\xff\xff\x7f.",
        b"\x80\x02}(]K\x01u.",  # a list as a key
        b"\x80\x02}(K\x01u.",  # a key without a value
        b"\x80\x02]r\xff\xff\xff\x7f.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"\x80\x02\x8a\xff" + bytes(255) + b".",
        b"\x80\x05\x97.",  # a buffer from outside
        b"\x80\x02K",
        b"\x80\x02G\x00",
        b"\x80\x02u.",
        b"\x80\x02t.",
        b"\x80\x02\x87.",
        b"\x80\x04]]\x93.",
        b"P\x01.",
        b"",
    ],
)
def test_what_is_no_plain_data_gives_one_error(data: bytes) -> None:
    with pytest.raises(TableError, match="the pickle at byte"):
        load(data)


def test_a_name_alone_is_not_handed_out_as_a_function() -> None:
    assert not callable(load(b"\x80\x02ccollections\nOrderedDict\n."))


def test_every_truncation_is_an_error() -> None:
    data = pickle.dumps({"a": [1.5, "text", b"bytes", {i: float(i) for i in range(20)}]}, 2)
    for length in range(len(data)):
        with pytest.raises(TableError):
            load(data[:length])


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_data_or_the_one_error(data: bytes) -> None:
    with contextlib.suppress(TableError):
        load(b"\x80\x04" + data, limits=Limits(size=1 << 12, containers=100, items=1000, text=1000))


SMALL = Limits(containers=1 << 14, items=1 << 16, text=1 << 16, memo=1 << 14)
BOMBS = {
    "lists": b"\x80\x02" + b"]" * 50_000,
    "marks": b"\x80\x02" + b"(" * 50_000,
    "values": b"\x80\x02](" + b"N" * 100_000 + b"e.",
    "waiting": b"\x80\x02]((" + b"N" * 3_000_000,
    "values in pieces": b"\x80\x02]q\x00" + (b"(" + b"h\x00" * 1000 + b"e") * 100 + b".",
    "texts": b"\x80\x02" + (b"X\x00\x00\x01\x00" + bytes(1 << 16) + b"0") * 20 + b".",
    "remembered": b"\x80\x02" + b"N\x94" * 50_000,
    "tuples": b"\x80\x02)" + b"\x85" * 50_000 + b".",
}


@pytest.mark.parametrize("name", list(BOMBS))
def test_bombs_end_at_the_limits(name: str) -> None:
    with pytest.raises(TableError, match=r"values|lists|deep|texts|objects"):
        load(BOMBS[name], limits=SMALL)


def test_a_list_that_holds_itself_a_billion_times_is_neither_copied_nor_printed() -> None:
    """Nine lists, each with ten times the one before: 500 bytes, and no message may spell them out."""
    levels = b"".join(
        b"](" + b"h" + bytes([level]) + (b"h" + bytes([level])) * 9 + b"eq" + bytes([level + 1])
        for level in range(9)
    )
    data = b"\x80\x02]q\x00" + levels
    with pytest.raises(TableError, match="no plain data") as caught:
        load(data + b"\x93.")  # the lists as a name
    assert len(str(caught.value)) < 300


def test_a_deep_tuple_is_never_hashed() -> None:
    deep = b"\x80\x02})" + b"\x85" * 100_000 + b"K\x01s."
    with pytest.raises(TableError, match="keys of dict"):
        load(deep)


def test_a_compressed_bomb_is_read_only_as_far_as_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pbz2"
    path.write_bytes(
        bz2.compress(b"\x80\x02" + (b"\x95" + bytes(8)) * 250_000, 1)
    )  # 2 MB of nothing in 200 bytes
    with bz2.BZ2File(path) as file, pytest.raises(TableError, match="is longer than 100000 bytes"):
        PickleReader(file.read, MAKERS, limits=Limits(size=100_000)).load()


def test_a_dict_can_be_condensed_on_the_way() -> None:
    seen = []

    def on_dict(found: dict[Any, Any]) -> int:
        if "curve" not in found:
            return 0
        seen.append(len(found["curve"]))
        found["curve"].clear()
        return 100

    many = [{"curve": {i: float(i) for i in range(50)}} for _ in range(200)]
    read = load(pickle.dumps(many), on_dict=on_dict, limits=Limits(items=2000))
    assert seen == [50] * 200
    assert read == [{"curve": {}}] * 200
    with pytest.raises(TableError, match="values"):
        load(pickle.dumps(many), limits=Limits(items=2000))


@pytest.mark.parametrize("zipped", [False, True])
def test_files_of_torch_save(tmp_path: Path, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    value = {
        "meta": ["a", "b"],
        "n": np.float64(1.5),
        "w": torch.zeros(3),
        "x": OrderedDict(k=torch.ones(2, 2)),
    }
    torch.save(value, tmp_path / "f.pth", _use_new_zipfile_serialization=zipped)
    read = read_torch_file(tmp_path / "f.pth")
    assert (read["meta"], read["n"]) == (["a", "b"], 1.5)
    data = (tmp_path / "f.pth").read_bytes()
    for length in (0, 1, 10, 60, len(data) // 2 if zipped else 100):
        (tmp_path / "cut.pth").write_bytes(data[:length])
        with pytest.raises(TableError):
            read_torch_file(tmp_path / "cut.pth")


@pytest.mark.parametrize("zipped", [False, True])
def test_a_hostile_file_of_torch_save_runs_nothing(tmp_path: Path, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"a": Runs(tmp_path / "made")}, tmp_path / "f.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(TableError, match="names"):
        read_torch_file(tmp_path / "f.pth")
    assert not (tmp_path / "made").exists()

"""Damaged, hostile and huge files: one line that names the file, bounded work, nothing executed, nothing left behind."""

from __future__ import annotations

import bz2
import errno
import io
import json
import os
import pickle
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from archduel.commands.data import sets
from archduel.data import load, remember
from archduel.data.cifar import safe_unpickle
from archduel.data.download import unpack
from archduel.data.listing import open_catalogue
from archduel.errors import DataError, TableError
from archduel.tables import open_table
from archduel.tables.importing import ImportPlan, import_columns, import_published

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ARCHDUEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def images(root: Path, n: int = 12) -> Path:
    for i in range(n):
        path = root / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(path)
    return root


def replaced(path: Path, raw: bytes) -> None:
    """Puts another file in the place of one that may be mapped into memory."""
    path.unlink()
    path.write_bytes(raw)


def empty(path: Path) -> None:
    replaced(path, b"")


def ones(path: Path) -> None:
    replaced(path, path.read_bytes()[:128] + b"\1" * max(0, path.stat().st_size - 128))


def cut(path: Path) -> None:
    replaced(path, path.read_bytes()[:-5])


def noise(path: Path) -> None:
    replaced(path, b"\x93NUMPY\x01\x00v\x00" + RNG.bytes(200))


def text(content: str) -> Callable[[Path], Any]:
    return lambda path: replaced(path, content.encode())


# -- Caches --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rows.npy", "digests.npy", "images.npy", "entry.json"])
@pytest.mark.parametrize("damage", [empty, cut, noise, ones], ids=["empty", "cut", "noise", "ones"])
def test_decoded_images_that_are_damaged_are_made_again(tmp_path: Path, cache: Path, name: str, damage: Any) -> None:
    first = load(images(tmp_path / "set"))
    (entry,) = (cache / "decoded").glob("*/entry.json")
    damage(entry.parent / name)
    again = load(tmp_path / "set")
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(again.train.images, first.train.images)


@pytest.mark.parametrize("content", ["", "null", "[]", "{}", "5", '{"sizes": null, "grey": 1}', '{"sizes": [[1]], "grey": 0}', "[" * 9999])
def test_a_survey_or_entry_of_another_form_is_made_again(tmp_path: Path, cache: Path, content: str) -> None:
    first = load(images(tmp_path / "set"))
    for path in (*(cache / "decoded").glob("survey-*.json"), *(cache / "decoded").glob("*/entry.json")):
        path.write_text(content)
    assert load(tmp_path / "set").fingerprint == first.fingerprint


@pytest.mark.parametrize("name", ["labels.npy", "given.npy", "images.npy", "set.json"])
@pytest.mark.parametrize("damage", [empty, cut, noise, ones, text("null"), text('{"format": 1}')])
def test_kept_arrays_that_are_damaged_are_said_and_written_again(cache: Path, name: str, damage: Any) -> None:
    data = RNG.integers(0, 256, (40, 6, 6, 3), dtype=np.uint8), np.arange(40) % 2
    kept = remember(data)
    first = load(kept)
    damage(cache / "sets" / kept.replace(":", "-") / name)
    with pytest.raises(DataError, match="is damaged"):
        load(kept)
    assert remember(data) == kept
    assert load(kept).fingerprint == first.fingerprint


def test_kept_images_of_any_size_that_are_damaged(cache: Path) -> None:
    data = [(Image.fromarray(RNG.integers(0, 256, (5 + i % 2, 6, 3), dtype=np.uint8)), i % 2) for i in range(20)]
    kept = remember(data)
    for name in ("offsets.npy", "pack.bin"):
        for damage in (empty, cut, noise):
            remember(data)
            damage(cache / "sets" / kept.replace(":", "-") / name)
            with pytest.raises(DataError, match="is damaged"):
                load(kept)


def test_a_list_of_images_of_another_form_is_none(tmp_path: Path) -> None:
    for content in ("", "null", "[]", "{}", '{"format": 1, "n": 0}'):
        (tmp_path / "catalogue.json").write_text(content)
        assert open_catalogue(tmp_path) is None


# -- Arrays in zip files -------------------------------------------------------------------------------------------------


def header(descr: str, shape: str, *, version: bytes = b"\x01\x00") -> bytes:
    body = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(body)) + body


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in members.items():
            archive.writestr(f"{name}.npy", raw)
    return path


def array(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


GOOD = {"images": array(np.zeros((4, 3, 3), np.uint8)), "labels": array(np.arange(4) % 2)}


@pytest.mark.parametrize(
    "members",
    [
        {"labels": header("'|S0'", "(1000000000,)")},
        {"labels": header("'<i8'", "(1000000000,)")},
        {"labels": header("'<i8'", "(-1,)")},
        {"labels": header("'|O'", "(4,)") + pickle.dumps([1])},
        {"labels": header("'<U100000'", "(4,)")},
        {"labels": array(np.arange(5))},
        {"labels": array(np.array(3))},
        {"images": header("'|u1'", "(4, 1000000, 1000000)")},
        {"images": header("'|u1'", "(4, 3, 3") + bytes(36)},
        {"images": header("__import__('os').getcwd()", "(4, 3, 3)") + bytes(36)},
        {"images": GOOD["images"][:-1]},
        {"images": header("'|u1'", "(4, 3, 3)", version=b"\x09\x00") + bytes(36)},
        {"images": b"garbage"},
        {"images": header("'|u1'", "(4, 3, 3)" + "," * 5000)},
    ],
)
def test_hostile_arrays_are_refused_in_no_time(tmp_path: Path, members: dict[str, bytes]) -> None:
    path, began = npz(tmp_path / "a.npz", **{**GOOD, **members}), time.process_time()
    with pytest.raises(DataError, match=r"a\.npz"):
        load(path)
    assert time.process_time() - began < 5  # the shapes claim gigabytes


def test_names_of_strangers_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(npz(tmp_path / "a.npz", **{"x\n\x1b[2J": GOOD["images"]}))
    assert str(caught.value).isprintable()


def test_bombs_and_odd_zip_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archduel.data.npz.FREE", 1 << 16)
    bomb = npz(tmp_path / "b.npz", images=header("'|u1'", "(9000, 60, 60)") + bytes(9000 * 3600), labels=array(np.arange(9000) % 2))
    with pytest.raises(DataError, match="more than 200 times its size"):
        load(bomb)
    raw = bytearray(npz(tmp_path / "c.npz", **GOOD).read_bytes())
    for place, value in ((6, 1), (8, 97)):  # encrypted; an unknown method
        changed, central = bytearray(raw), raw.index(b"PK\x01\x02")
        changed[place] = changed[central + place + 2] = value
        (tmp_path / "c.npz").write_bytes(changed)
        with pytest.raises(DataError, match=r"c\.npz cannot be read as \.npz"):
            load(tmp_path / "c.npz")
    raw[raw.index(b".npy") + 8] ^= 255
    (tmp_path / "c.npz").write_bytes(raw)
    with pytest.raises(DataError, match=r"c\.npz"):
        load(tmp_path / "c.npz")


# -- Importing -----------------------------------------------------------------------------------------------------------


def zipped(path: Path, *names: str) -> Path:
    raw = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(raw, "PNG")
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), raw.getvalue())
    return path


def test_folders_between_backslashes_and_leftovers_in_archives(tmp_path: Path) -> None:
    names = [f"set\\{label}\\{i}.png" for label in "ab" for i in range(5)]
    source = sets.import_set("net", zipped(tmp_path / "f.zip", *names, "set/@eaDir/x.png", "set/a/.hidden.png", "__MACOSX/a/b.png"))
    assert (source.classes, len(source)) == (("a", "b"), 10)


def test_a_killed_import_leaves_nothing_that_counts_as_a_set(tmp_path: Path, cache: Path) -> None:
    for name in ("tmpab12_x9z", ".mine.import-abcdefgh"):
        (cache / "sets" / name / "set" / "a").mkdir(parents=True)
    assert not [line for line in sets.list_sets() if line.state == "imported"]
    sets.import_set("mine", images(tmp_path / "set"))
    assert not (cache / "sets" / ".mine.import-abcdefgh").exists()


def test_a_set_is_replaced_only_when_the_new_one_is_whole(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets.import_set("mine", images(tmp_path / "set"))
    images(tmp_path / "new", 16)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("archduel.data.cache.publish", killed)
        with pytest.raises(KeyboardInterrupt):
            sets.import_set("mine", tmp_path / "new", replace=True)
    assert len(load("mine").train) + len(load("mine").test) + len(load("mine").validation) == 12
    os.rename(cache / "sets" / "mine", cache / "sets" / ".mine.old")  # killed between taking the old away and putting the new
    assert load("mine").n_classes == 2
    sets.import_set("mine", tmp_path / "new", replace=True)
    assert sum(load("mine").facts["n_images"].values()) == 16
    assert not (cache / "sets" / ".mine.old").exists()


def test_a_link_of_a_strangers_folder_copies_no_secret(tmp_path: Path, cache: Path) -> None:
    root = images(tmp_path / "set")
    (tmp_path / "secret").write_text("password")
    (root / "a" / "s.png").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match="leads out of its folder"):
        sets.import_set("theirs", root)
    assert not list((cache / "sets").glob("*theirs/*"))


def test_a_full_disk_is_not_a_damaged_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "f.zip", "a/1.png", "b/1.png")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("archduel.data.download._Meter.copy", full)
    with pytest.raises(DataError, match="cannot be unpacked: No space left on device"):
        unpack(path, tmp_path, lambda name: True)


def test_pickles_of_cifar_cannot_forge_arrays(tmp_path: Path) -> None:
    class Forged:
        def __reduce__(self) -> Any:
            return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)

    for number, value in enumerate(({b"data": np.array([object], object)}, {b"data": Forged()}, {b"data": np.arange(3.0)})):
        (tmp_path / f"{number}").write_bytes(pickle.dumps(value, 4))
    for number in (0, 2):
        with pytest.raises(DataError):
            safe_unpickle(tmp_path / f"{number}")
    assert not isinstance(safe_unpickle(tmp_path / "1")[b"data"], np.dtype)
    (tmp_path / "good").write_bytes(pickle.dumps({b"data": np.arange(6, dtype=np.uint8).reshape(2, 3), b"labels": [1]}, 4))
    np.testing.assert_array_equal(safe_unpickle(tmp_path / "good")[b"data"], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80\x02}r\xff\xff\xff\x0f.",
        b"\x80\x02}" + b")\x85" * 20 + b"N}.",
        b"\x80\x03C\x04dataQ.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00" + b"x" * 9,
    ],
    ids=["memo", "tuples", "persistent", "length"],
)
def test_pickles_of_cifar_take_no_memory_and_say_so_in_one_line(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "batch").write_bytes(raw)
    with pytest.raises(DataError) as caught:
        safe_unpickle(tmp_path / "batch")
    assert "\n" not in str(caught.value)


# -- Tables --------------------------------------------------------------------------------------------------------------


def published(path: Path, tmp_path: Path) -> None:
    import_published(path, ImportPlan(tmp_path / "out.table"))


def nested(depth: int) -> bytes:
    """A pickle whose list holds itself twice, ``depth`` times over: two to the ``depth`` values in a few hundred bytes."""
    value = b"]q\x00"
    for n in range(1, depth):
        value += b"]q" + bytes([n]) + b"(h" + bytes([n - 1]) + b"h" + bytes([n - 1]) + b"e"
    return value


def cell(name: bytes) -> bytes:
    return b"\x80\x02}X\x03\x00\x00\x00200}(X\x08\x00\x00\x00arch_str" + name + b"X\x0b\x00\x00\x00all_results}us."


@pytest.mark.parametrize(
    "made",
    [
        lambda: bz2.compress(cell(nested(27))),
        lambda: bz2.compress(b"\x80\x02" + b"N0" * 20_000_000),  # seconds, which the processes that only collect would need too
        lambda: bz2.compress(b"\x80\x02" + b"(" * 100_000),
        lambda: bz2.compress(cell(b"X\x05\x00\x00\x00|a~0|"))[:-9],
        bytes,
    ],
    ids=["doubling", "nothing", "deep", "cut", "empty"],
)
def test_pickles_that_grow_end_soon(tmp_path: Path, made: Callable[[], bytes]) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "000011.pickle.pbz2").write_bytes(made())
    began = time.process_time()
    with pytest.raises(TableError):
        published(tmp_path / "cells", tmp_path)
    assert time.process_time() - began < 15
    assert not (tmp_path / "out.table").exists()


def workbook(path: Path, sheet: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b'<workbook><sheets><sheet name="a" r:id="1"/></sheets></workbook>')
        archive.writestr("xl/_rels/workbook.xml.rels", b'<r><Relationship Id="1" Target="s.xml"/></r>')
        archive.writestr("xl/s.xml", sheet)
    return path


@pytest.mark.parametrize(
    "sheet", [b"<w><sheetData>" + b"<row>" + b"<c/>" * 700_000, b"<w>" + b" " * (18 << 20) + b"</w>", b"<!DOCTYPE a [<!ENTITY b 'c'>]><w/>"]
)
def test_workbooks_that_grow_end_soon(tmp_path: Path, sheet: bytes) -> None:
    began = time.process_time()
    with pytest.raises(TableError, match=r"a\.xlsx"):
        published(workbook(tmp_path / "a.xlsx", sheet), tmp_path)
    assert time.process_time() - began < 15


CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
OTHER = CELL.replace("skip_connect", "none")


def columns(tmp_path: Path, content: str, *, percent: bool = True) -> Any:
    (tmp_path / "t.csv").write_text(content, encoding="utf-8")
    plan = ImportPlan(tmp_path / "out.table")
    return import_columns(tmp_path / "t.csv", "nasbench201", plan, columns={"arch": "a"}, values={"validation": ["v"]}, percent=percent)


def test_blank_lines_and_units(tmp_path: Path) -> None:
    table = columns(tmp_path, f"a,v\n{CELL},91\n\n{OTHER},90\n\n  \n")
    assert len(table) == 2
    with pytest.raises(TableError, match="look like fractions"):
        columns(tmp_path, f"a,v\n{CELL},91\n{OTHER},0.9\n{OTHER.replace('none', 'avg_pool_3x3')},0.5\n")
    with pytest.raises(TableError):
        columns(tmp_path, f"a,v\n{CELL},\n{OTHER},\n")


def test_table_headers_of_other_kinds(tmp_path: Path) -> None:
    from archduel.tables.file import write_table_file

    table = columns(tmp_path, f"a,v\n{CELL},91\n{OTHER},90\n")
    raw = (tmp_path / "out.table").read_bytes()
    head = json.loads(raw[64 : 64 + int.from_bytes(raw[8:16], "little")])
    for change in ({"fidelities": [{"name": "full", "epochs": 10**400}]}, {"fidelities": [{"name": "full", "epochs": -1}]}, {"splits": [[]]}, {"space_settings": {"a": []}}):
        changed = {key: value for key, value in {**head, **change}.items() if key not in ("arrays", "size", "sha256")}
        write_table_file(tmp_path / "bad.table", changed, {"choices": np.zeros((2, 6), np.uint8)})
        with pytest.raises(TableError):
            open_table(tmp_path / "bad.table")
    assert len(table) == 2


def test_archives_of_cells_with_members_of_strangers(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "cells.tar", "w") as archive:
        for name, kind in (("000001.pickle.pbz2", tarfile.SYMTYPE), ("../000002.pickle.pbz2", tarfile.REGTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member, io.BytesIO())
    with pytest.raises(TableError):
        published(tmp_path / "cells.tar", tmp_path)


def test_a_name_with_a_line_break_in_a_cifar_pickle_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x05dt\nyp\x93.")
    with pytest.raises(DataError, match=r"it asks for numpy\.dt\\nyp, which no CIFAR file needs") as caught:
        safe_unpickle(tmp_path / "data_batch_1")
    assert "\n" not in str(caught.value)

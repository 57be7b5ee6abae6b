"""NAS-Bench-101 from TFRecord, CTNAS's JSON and ReNAS's shards."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_files import SAMPLE, crc32c, frame, masked, record

from archduel.core import Arch
from archduel.errors import TableError
from archduel.spaces.nasbench101.space import NASBench101
from archduel.tables.importing import ImportPlan, import_published
from archduel.tables.readers.nasbench101 import masked_crc32c, read_metrics, read_record, read_records
from archduel.tables.store import open_table

SPACE = NASBench101()


def cells(n: int, seed: int = 0) -> list[Arch]:
    rng = np.random.default_rng(seed)
    return list(dict.fromkeys(SPACE.draw(rng) for _ in range(n)))


def spelled(arch: Arch) -> tuple[str, str]:
    """The adjacency digits and operations of a record."""
    matrix, ops = SPACE.matrix(arch)
    return "".join(str(bit) for row in matrix for bit in row), ",".join(ops)


def accuracy(row: int, epochs: int, run: int, split: int, place: int) -> float:
    """A value that says where it belongs; a float32, as the benchmark's are."""
    return float(np.float32((row + 1) * 1e-4 + run * 1e-2 + split * 0.1 + place * 0.3 + epochs * 1e-3))


def evaluations(row: int, epochs: int, run: int) -> list[tuple[float, ...]]:
    def one(place: int) -> tuple[float, ...]:
        seconds = 10.0 * epochs + run + place
        return (
            epochs * place / 2,
            seconds,
            *(accuracy(row, epochs, run, split, place) for split in range(3)),
        )

    return [(0.0, 0.0, 0.1, 0.1, 0.1), one(1), one(2)]


def write_tfrecord(path: Path, archs: list[Arch], budgets: tuple[int, ...] = (4, 12, 36, 108)) -> list[bytes]:
    records = [
        record(SPACE.fingerprint(arch), epochs, *spelled(arch), evaluations(row, epochs, run), 1000 + row)
        for run in range(3)
        for row, arch in enumerate(archs)
        for epochs in budgets
    ]
    path.write_bytes(b"".join(map(frame, records)))
    return records


# ---------------------------------------------------------------- framing and checksums


def test_checksums_equal_the_published_ones() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert masked_crc32c([(401).to_bytes(8, "little")]).tolist() == [0x9BED2598]


def test_many_checksums_at_once_equal_the_definition() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.bytes(int(n)) for n in [*range(12), *rng.integers(0, 500, 40)]]
    assert [int(crc).to_bytes(4, "little") for crc in masked_crc32c(rows)] == [masked(row) for row in rows]


def test_records_come_back_whole_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [bytes([i]) * (i * 7 % 50) for i in range(100)]
    path = tmp_path / "f.tfrecord"
    path.write_bytes(b"".join(map(frame, rows)))
    assert list(read_records(path)) == rows
    monkeypatch.setattr("archduel.tables.readers.nasbench101.BLOCK", 37)
    assert list(read_records(path)) == rows


@pytest.mark.parametrize("part", [0, 3, 8, 11, 12, 20, -5, -1])
def test_any_changed_byte_is_a_wrong_checksum(tmp_path: Path, part: int) -> None:
    data = bytearray(frame(b"first record, more than four bytes") * 2)
    data[part] ^= 1
    (tmp_path / "f.tfrecord").write_bytes(data)
    with pytest.raises(TableError, match=r"record [01] has a wrong checksum of its (length|data)"):
        list(read_records(tmp_path / "f.tfrecord"))


def test_truncation_and_giant_records_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.tfrecord"
    data = frame(b"x" * 40) + frame(b"y" * 40)
    for length in (1, 11, 12, 30, 57, 70, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(TableError, match="truncated"):
            list(read_records(path))
    length_bytes = struct.pack("<Q", 1 << 40)
    path.write_bytes(length_bytes + masked(length_bytes) + b"z" * 100)
    with pytest.raises(TableError, match="expected at most"):
        list(read_records(path))
    with pytest.raises(TableError, match="cannot be read"):
        list(read_records(tmp_path / "none.tfrecord"))


# ---------------------------------------------------------------- records


def test_the_published_record_is_read_to_the_last_digit() -> None:
    data = record(**SAMPLE)
    assert len(data) == 401, "the length of the original"
    read = read_record(data)
    assert (read.hash, read.epochs, read.params) == (SAMPLE["hash"], 4, 8_555_530)
    assert SPACE.fingerprint(SPACE.from_matrix(*read.cell())) == SAMPLE["hash"]
    half, final = SAMPLE["evaluations"][1:]
    assert (read.halfway.seconds, read.halfway.train, read.halfway.validation, read.halfway.test) == half[1:]
    assert (read.final.seconds, read.final.train, read.final.validation, read.final.test) == final[1:]


def test_protobuf_fields_in_any_order_unknown_ones_and_missing_ones() -> None:
    evaluation = (
        struct.pack("<Bd", 0x21, 0.5)
        + b"\x32\x03abc"
        + b"\x3d\x01\x02\x03\x04"
        + struct.pack("<Bd", 0x29, 0.25)
    )
    message = b"\x10\xac\x02" + b"\x0a" + bytes([len(evaluation)]) + evaluation + b"\x78\x05"
    measured, params = read_metrics(message)
    assert params == 300
    assert (measured[0].validation, measured[0].test, measured[0].train, measured[0].seconds) == (
        0.5,
        0.25,
        0.0,
        0.0,
    )
    for broken in (b"\x0a\x05ab", b"\x10" + b"\xff" * 11, b"\x0b", b"\x19\x00"):
        with pytest.raises((ValueError, IndexError)):
            read_metrics(broken)


@pytest.mark.parametrize("epochs", [(108,), (4, 12, 36, 108)])
def test_a_whole_file_becomes_a_table(tmp_path: Path, epochs: tuple[int, ...]) -> None:
    archs = cells(40)
    write_tfrecord(tmp_path / "nasbench_full.tfrecord", archs, epochs)
    made = import_published(tmp_path / "nasbench_full.tfrecord", ImportPlan(tmp_path / "nb101.table"))
    table = open_table(tmp_path / "nb101.table")
    assert table.archs == made.archs == archs
    assert [f.name for f in table.fidelities] == [str(e) for e in epochs]
    assert table.fidelities[-1].images == 108 * 40_000
    assert table.runs == 3
    for split, number in (("train", 0), ("validation", 1), ("test", 2)):
        for run in range(3):
            expected = [accuracy(row, 108, run, number, 2) for row in range(len(archs))]
            assert table.read(split, run=run).tolist() == expected, "float32 in, float32 out"
    np.testing.assert_array_equal(table.seconds(run=2), np.full(len(archs), 1084.0))
    assert table.column("params").tolist() == [1000 + row for row in range(len(archs))]
    assert table.provenance["source"] == "nasbench_full.tfrecord"
    assert table.provenance["format"] == "tfrecord"


def test_half_time_values_can_be_kept(tmp_path: Path) -> None:
    archs = cells(5)
    write_tfrecord(tmp_path / "f.tfrecord", archs)
    table = import_published(tmp_path / "f.tfrecord", ImportPlan(tmp_path / "t.table"), halfway=True)
    names = ["2/4", "4", "6/12", "12", "18/36", "36", "54/108", "108"]
    assert [f.name for f in table.fidelities] == names
    assert table.validation(fidelity="54/108", run=1)[0] == accuracy(0, 108, 1, 1, 1)
    assert table.validation(fidelity="36", run=1)[0] == accuracy(0, 36, 1, 1, 2)


def test_an_isomorphic_cell_is_found_by_its_hash(tmp_path: Path) -> None:
    archs = cells(100, seed=3)
    write_tfrecord(tmp_path / "f.tfrecord", archs, (108,))
    table = import_published(tmp_path / "f.tfrecord", ImportPlan(tmp_path / "t.table"))
    found = 0
    for row, arch in enumerate(archs):
        matrix, ops = SPACE.matrix(arch)
        n = len(ops)
        for i in range(1, n - 2):  # swap two inner vertices that no edge joins
            order = [*range(i), i + 1, i, *range(i + 2, n)]
            if not matrix[i][i + 1]:
                other = SPACE.from_matrix(
                    [[matrix[a][b] for b in order] for a in order], [ops[a] for a in order]
                )
                assert table.find(other) == row
                found += other != arch
    assert found > 25


def changed(**changes: Any) -> bytes:
    return record(**{**SAMPLE, **changes})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (changed(hash="0" * 32), "its cell has the hash 00005c142e6f48ac74fdcf73e3439874"),
        (changed(epochs=5), "5 epochs, expected one of"),
        (changed(adjacency="01"), "no square"),
        (changed(adjacency="0120"), "no square"),
        (changed(adjacency="0" * 49), "record 0"),
        (changed(ops="input,output"), "record 0"),
        (changed(ops=str(SAMPLE["ops"]).replace("maxpool3x3", "conv9x9")), "conv9x9"),
        (changed(evaluations=[]), "0 evaluations"),
        (b"[1, 2]", "not a list of hash"),
        (b"{}", "not a list of hash"),
        (b"[" * 10_000, "record 0"),
        (b"\xff\xfe", "record 0"),
        (json.dumps([SAMPLE["hash"], 4, SAMPLE["adjacency"], SAMPLE["ops"], "AAAA"]).encode(), "record 0"),
        (changed(evaluations=[(0, 0, 0, 0, 0), (2, 1, 1, 1, 1), (4, 1, 1, 91.2, 1)]), "fractions of 1"),
    ],
)
def test_a_record_that_cannot_be_leaves_no_table(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "f.tfrecord").write_bytes(frame(data))
    with pytest.raises(TableError, match=words):
        import_published(tmp_path / "f.tfrecord", ImportPlan(tmp_path / "t.table"))
    assert [path.name for path in tmp_path.iterdir()] == ["f.tfrecord"]


def test_a_fourth_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.tfrecord").write_bytes(frame(record(**SAMPLE)) * 4)
    with pytest.raises(TableError, match="more than 3 times"):
        import_published(tmp_path / "f.tfrecord", ImportPlan(tmp_path / "t.table"))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.tfrecord").write_bytes(b"")
    with pytest.raises(TableError, match="holds no records"):
        import_published(tmp_path / "f.tfrecord", ImportPlan(tmp_path / "t.table"))


# ---------------------------------------------------------------- CTNAS's nas_bench.json


def entries(archs: list[Arch]) -> list[dict[str, Any]]:
    made = []
    for row, arch in enumerate(archs):
        matrix, ops = SPACE.matrix(arch)
        numbers = {
            "validation_accuracy": 0.9 + row / 1e4,
            "test_accuracy": 0.8,
            "train_accuracy": 1.0,
            "training_time": 1700.5,
        }
        made.append(
            {
                "matrix": matrix,
                "ops": ops,
                "n_params": 5 + row,
                **numbers,
                "hash_": SPACE.fingerprint(arch),
                "rank": None,
            }
        )
    return made


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("chunk", [50, 1 << 20])
def test_ctnas_s_json_is_read_as_a_stream(
    tmp_path: Path, indent: int | None, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archduel.tables.readers.nasbench101.CHUNK", chunk)
    archs = cells(30)
    (tmp_path / "nas_bench.json").write_text(json.dumps(entries(archs), indent=indent))
    table = import_published(tmp_path / "nas_bench.json", ImportPlan(tmp_path / "t.table"))
    assert table.archs == archs
    np.testing.assert_allclose(table.validation(), [0.9 + row / 1e4 for row in range(len(archs))], atol=1e-7)
    assert table.seconds()[0] == 1700.5
    assert table.column("params").tolist() == [5 + row for row in range(len(archs))]
    assert "mean of three runs" in table.provenance["runs"]


def test_damaged_json_leaves_no_table(tmp_path: Path) -> None:
    archs = cells(3)
    text = json.dumps(entries(archs))
    wrong = entries(archs)
    wrong[1]["hash_"] = wrong[0]["hash_"]
    missing = entries(archs)
    del missing[2]["test_accuracy"]
    bad = [
        "",
        "{}",
        "[",
        "[]",
        text[:-1],
        text[: len(text) // 2],
        "[1]",
        "[" * 5000,
        json.dumps(wrong),
        json.dumps(missing),
    ]
    for content in [*bad, text.replace("0.8", '"high"')]:
        (tmp_path / "f.json").write_text(content)
        with pytest.raises(TableError, match=r"f\.json"):
            import_published(tmp_path / "f.json", ImportPlan(tmp_path / "t.table"))
        assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


# ---------------------------------------------------------------- ReNAS's shards

TYPES = {"input": 1, "conv1x1-bn-relu": 2, "conv3x3-bn-relu": 3, "maxpool3x3": 4, "output": 5}


def tensor(arch: Arch, by_column: bool) -> np.ndarray[Any, Any]:
    """The 19 x 7 x 7 tensor as the paper's figure has it; only the type channel is filled."""
    matrix, ops = SPACE.matrix(arch)
    n = len(ops)
    place = [*range(n - 1), 6]
    full = np.zeros((19, 7, 7))
    for a in range(n):
        for b in range(n):
            full[0, place[a], place[b]] = matrix[a][b] * TYPES[ops[b if by_column else a]]
    return full


def write_shards(folder: Path, archs: list[Arch], by_column: bool = True, size: int = 20) -> None:
    folder.mkdir()
    for i in range(0, len(archs), size):
        some = archs[i : i + size]
        np.save(folder / f"data_{i // size}.npy", np.array([tensor(arch, by_column) for arch in some]))
        labels = [[100, 0.5, 0.4, 0.3, 200, 1.0, 0.9, 0.8 + (i + row) / 1e4] for row in range(len(some))]
        np.save(folder / f"label_{i // size}.npy", np.array(labels))


@pytest.mark.parametrize("by_column", [True, False])
def test_cells_are_read_back_from_renas_s_tensors(tmp_path: Path, by_column: bool) -> None:
    archs = cells(50, seed=1)
    write_shards(tmp_path / "shards", archs, by_column)
    table = import_published(tmp_path / "shards", ImportPlan(tmp_path / "t.table"))
    assert table.archs == archs
    assert [f.name for f in table.fidelities] == ["54/108", "108"]
    np.testing.assert_allclose(table.test(), [0.8 + row / 1e4 for row in range(len(archs))], atol=1e-7)
    np.testing.assert_allclose(table.validation(fidelity="54/108"), 0.4, atol=1e-7)
    assert table.seconds(fidelity="54/108")[0] == 100


def test_damaged_shards_are_refused(tmp_path: Path) -> None:
    archs = cells(50, seed=1)
    folder = tmp_path / "shards"
    write_shards(folder, archs)
    keep = {path.name: path.read_bytes() for path in folder.iterdir()}

    def refused(name: str, data: bytes | None, words: str) -> None:
        path = folder / name
        path.unlink() if data is None else path.write_bytes(data)
        with pytest.raises(TableError, match=words):
            import_published(folder, ImportPlan(tmp_path / "t.table"))
        path.write_bytes(keep[name])
        assert not (tmp_path / "t.table").exists()

    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused("data_1.npy", objects.read_bytes(), "holds object")
    refused("data_1.npy", keep["data_1.npy"][:-8], "truncated")
    refused("data_1.npy", keep["label_1.npy"], "expected numbers of shape")
    refused("data_1.npy", None, r"data_1\.npy is missing")
    refused("label_1.npy", None, "cannot be read")
    refused("label_1.npy", b"\x93NUMPY\x01\x00", "cannot be read")
    refused("label_2.npy", keep["label_1.npy"], "has 10 cells")
    refused("data_1.npy", keep["data_0.npy"], "is there twice")
    wrong = np.full((20, 19, 7, 7), 9.0)
    np.save(objects, wrong)
    refused("data_1.npy", objects.read_bytes(), "cell 0")


def test_a_shard_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards", cells(20))
    (tmp_path / "shards" / "label_0.npy").rename(tmp_path / "label.npy")
    (tmp_path / "shards" / "label_0.npy").symlink_to(tmp_path / "label.npy")
    with pytest.raises(TableError, match="leads out of"):
        import_published(tmp_path / "shards", ImportPlan(tmp_path / "t.table"))

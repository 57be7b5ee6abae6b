"""Readers of files against mutated inputs: counts of inputs, of errors that are not ours, of hangs, and the peak of memory.

    nice -n 19 python benchmarks/fuzz_readers.py --seconds 60 --out benchmarks/records/fuzz_readers.json
    python benchmarks/fuzz_readers.py --targets npz,pickle --inputs 2000

A target is a reader and a few good files. Each input is one of them with some mutations: bits, bytes, runs of bytes, lengths, cuts, joins
with another file, numbers that are usual trouble. A reader may answer with a result or with an ``ArchduelError`` of one line; anything
else is a finding and stands in the record with the input's seed, from which the same input is made again. Each target runs in a process
of its own whose memory is limited (a reader that asks for more fails) and whose time for one input is limited by an alarm.
"""

from __future__ import annotations

import argparse
import base64
import bz2
import io
import itertools
import json
import os
import pickle
import random
import resource
import signal
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SLOW = 20  # seconds for one input, after which it counts as a hang
MEMORY = 4 << 30  # bytes that a process may map
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
Reader = Callable[[Path], Any]


def mutated(raw: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Returns ``raw`` with one to six mutations; by Python's generator, which takes a tenth of NumPy's time for one number."""
    data = bytearray(raw)
    for _ in range(next((n for n in range(1, 6) if rng.random() < 0.5), 6)):
        if not data:
            return rng.randbytes(rng.randrange(64))
        at, kind = int(rng.random() * len(data)), int(rng.random() * 9)
        n = min(len(data) - at, 1 + int(rng.random() * min(64, len(data))))
        if kind == 0:
            data[at] ^= 1 << int(rng.random() * 8)
        elif kind == 1:
            data[at] = int(rng.random() * 256)
        elif kind == 2:
            data[at : at + n] = rng.randbytes(n)
        elif kind == 3:
            del data[at : at + n]
        elif kind == 4:
            data[at:at] = data[at : at + n] * (1 + int(rng.random() * 3))
        elif kind == 5:
            width = 1 << int(rng.random() * 4)
            number = NUMBERS[int(rng.random() * len(NUMBERS))] & (256**width - 1)
            data[at : at + width] = number.to_bytes(width, "little" if rng.random() < 0.5 else "big")
        elif kind == 6:
            del data[at:]
        elif kind == 7:
            other = others[int(rng.random() * len(others))]
            data[at:] = other[int(rng.random() * (1 + len(other))) :]
        else:
            data[at : at + n] = bytes(n)
    return bytes(data)


# -- Good files and their readers ----------------------------------------------------------------------------------------


def _pixels(rng: np.random.Generator, mode: str = "RGB") -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)).convert(mode)


def _image_files(rng: np.random.Generator) -> list[bytes]:
    found = []
    for kind, mode, options in (
        ("PNG", "RGB", {}), ("PNG", "P", {}), ("PNG", "L", {}), ("JPEG", "RGB", {}), ("JPEG", "CMYK", {}), ("GIF", "P", {}), ("BMP", "RGB", {}),
        ("TIFF", "RGB", {}), ("TIFF", "L", {"compression": "tiff_lzw"}), ("TIFF", "F", {}), ("WEBP", "RGBA", {}), ("PPM", "RGB", {}), ("ICO", "RGBA", {}),
    ):  # fmt: skip
        buffer = io.BytesIO()
        _pixels(rng, mode).save(buffer, kind, **options)
        found.append(buffer.getvalue())
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 65536, (9, 11)).astype(np.uint16)).save(buffer, "PNG")
    return [*found, buffer.getvalue()]


def read_image(path: Path) -> Any:
    """Reads an image as the loading of a folder does."""
    from archduel.data import Preprocessing, open_image
    from archduel.data.preprocess import apply_preprocessing
    from archduel.errors import DataError, reading

    with reading(path, DataError), open_image(path) as image:  # a folder counts an image that cannot be read, whatever was raised
        return apply_preprocessing(image, Preprocessing(8, "RGB", "crop", (), ()))


def _npz_files(rng: np.random.Generator) -> list[bytes]:
    found = []
    for save in (np.savez, np.savez_compressed):
        for values in (rng.integers(0, 256, (12, 4, 4), dtype=np.uint8), rng.random((12, 4, 4, 3), np.float32), rng.integers(0, 4096, (12, 4, 4)).astype("u2")):
            buffer = io.BytesIO()
            save(buffer, images=values, labels=np.arange(12) % 2, classes=np.array(["a", "b"]))
            found.append(buffer.getvalue())
    return found


def read_npz(path: Path) -> Any:
    """Reads arrays."""
    from archduel.data.npz import from_npz

    source = from_npz(path, path.parent / "converted")
    return [source.read(number).size for number in range(min(3, len(source)))]


def _archive_files(rng: np.random.Generator) -> list[bytes]:
    found, image = [], _image_files(rng)[0]
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as archive:
            for name in ("a/1.png", "b/2.png", "a/deep/3.png"):
                member = tarfile.TarInfo(name)
                member.size = len(image)
                archive.addfile(member, io.BytesIO(image))
        found.append(buffer.getvalue())
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name in ("a/1.png", "b\\2.png"):
                archive.writestr(name, image)
        found.append(buffer.getvalue())
    return found


def read_archive(path: Path) -> Any:
    """Unpacks an archive, and looks whether anything landed elsewhere."""
    from archduel.data.download import unpack

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        inside = Path(folder) / "inside"
        inside.mkdir()
        unpack(path, inside, lambda name: True)
        if [entry.name for entry in Path(folder).iterdir()] != ["inside"] or any(p.is_symlink() for p in inside.rglob("*")):
            raise AssertionError("a member landed elsewhere")


def read_shard(path: Path) -> Any:
    """Lists the images in a tar archive that is read in place."""
    from archduel.data.listing import members

    return list(members(path.parent, [path.name]))


def _cifar_files(rng: np.random.Generator) -> list[bytes]:
    pixels = rng.integers(0, 256, (3, 3072), dtype=np.uint8)
    return [pickle.dumps({b"data": pixels, b"labels": [0, 1, 2]}, protocol) for protocol in (3, 4)]


def read_cifar(path: Path) -> Any:
    """Reads a pickle of CIFAR."""
    from archduel.data.cifar import safe_unpickle

    data = safe_unpickle(path).get(b"data")
    return int(data.sum()) if isinstance(data, np.ndarray) else None


LIST = b"file,label\na.jpg,cat\n\"b.jpg\",dog 1 2 3 4\nval/c.png,cat\nd e.jpg,great white\n"


def read_labels(path: Path) -> Any:
    """Reads a list of labels."""
    from archduel.data.folder import read_list

    return read_list(path, ["a.jpg", "b.jpg", "c.png"], ["cat", "dog", "great white"])


def _entry_files(rng: np.random.Generator) -> list[bytes]:
    arrays = []
    for values in (np.arange(12), rng.integers(0, 256, (12, 16), dtype=np.uint8), rng.integers(0, 256, (12, 3, 4, 4), dtype=np.uint8)):
        buffer = io.BytesIO()
        np.save(buffer, values)
        arrays.append(buffer.getvalue())
    return arrays


def read_entry(path: Path) -> Any:
    """Opens decoded images, each file in turn being the mutated one; nothing of a damaged entry is ever an error."""
    from archduel.data.cache import opened

    folder = path.parent / "entry"
    folder.mkdir(exist_ok=True)
    good = _entry_files(np.random.default_rng(1))
    facts = {"format": 1, "counts": [8, 2, 2], "histogram": np.zeros((3, 256), int).tolist(), "skipped": {}}
    for name, raw in zip(("rows.npy", "digests.npy", "images.npy"), good):
        _fresh(folder / name, path.read_bytes() if path.stat().st_size % 3 == len(name) % 3 else raw)
    _fresh(folder / "entry.json", json.dumps(facts).encode())
    return opened(folder)


def _fresh(path: Path, raw: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(raw)


def _cell(rng: np.random.Generator) -> dict[str, Any]:
    record = {
        "name": "cifar10-valid", "epochs": 12, "params": 1.0, "flop": 2.0, "latency": [0.1], "train_acc1es": {i: 50.0 + i for i in range(12)},
        "train_losses": dict.fromkeys(range(12), 1.0), "eval_acc1es": {f"x-valid@{i}": 40.0 + i for i in range(12)}, "train_times": dict.fromkeys(range(12), 1.0),
        "eval_times": {f"x-valid@{i}": 0.1 for i in range(12)}, "arch_config": {"channel": 16}, "seed": 777,
    }  # fmt: skip
    text = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    return {"12": {"arch_index": 11, "arch_str": text, "all_results": {("cifar10-valid", 777): record}, "dataset_seed": {"cifar10-valid": [777]}}}


def _pickle_files(rng: np.random.Generator) -> list[bytes]:
    return [pickle.dumps(_cell(rng), protocol) for protocol in (2, 4, 5)]


def read_pickle(path: Path) -> Any:
    """Reads a pickle of a benchmark, not compressed, so that mutations reach it."""
    from archduel.tables.readers.nats import ONE_CELL, condense
    from archduel.tables.readers.pickle_names import CONTAINERS, NUMPY, WEIGHTS
    from archduel.tables.readers.pickles import PickleReader

    with open(path, "rb") as file:
        return PickleReader(file.read, {**CONTAINERS, **NUMPY, **WEIGHTS}, on_dict=condense, limits=ONE_CELL, what=str(path)).load()


def _import(path: Path, form: str) -> Any:
    from archduel.tables.importing import ImportPlan, import_published

    return import_published(path, ImportPlan(path.parent / "out.table"), format_=form)


def read_nats(path: Path) -> Any:
    """Imports a folder with one cell."""
    folder = path.parent / "cells"
    folder.mkdir(exist_ok=True)
    _fresh(folder / "000011.pickle.pbz2", path.read_bytes())
    return _import(folder, "nats")


def _text_cell(text: str) -> str:
    return f'<c t="inlineStr"><is><t>{text}</t></is></c>'


def _sheet(*rows: tuple[Any, ...]) -> str:
    cells = ("".join(_text_cell(v) if isinstance(v, str) else f"<c><v>{v}</v></c>" for v in row) for row in rows)
    return f"<worksheet><sheetData>{''.join(f'<row>{row}</row>' for row in cells)}</sheetData></worksheet>"


def _workbooks(rng: np.random.Generator) -> list[bytes]:
    from archduel.spaces.named import named

    sheets = [_sheet((1, named("darts_v2").text, 97.1)), _sheet(("Arch", "Task 1", "Task 2", "Task 3"), (1, 90.5, 91.5, 92.5), ("MeanTime", 1, 2, 3))]
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("xl/workbook.xml", '<workbook xmlns:r="r"><sheets><sheet name="a" r:id="1"/><sheet name="b" r:id="2"/></sheets></workbook>')
            archive.writestr("xl/_rels/workbook.xml.rels", '<R><Relationship Id="1" Target="s1.xml"/><Relationship Id="2" Target="s2.xml"/></R>')
            for number, sheet in enumerate(sheets, 1):
                archive.writestr(f"xl/s{number}.xml", sheet)
        found.append(buffer.getvalue())
    return found


MATRIX, OPS = [[0, 1, 1], [0, 0, 1], [0, 0, 0]], ["input", "conv3x3-bn-relu", "output"]


def _hash() -> str:
    from archduel.spaces import NASBench101

    space = NASBench101()
    return str(space.fingerprint(space.from_matrix(MATRIX, OPS)))


def _ctnas(rng: np.random.Generator) -> list[bytes]:
    numbers = {"validation_accuracy": 0.9, "test_accuracy": 0.8, "train_accuracy": 1.0, "training_time": 100.0, "n_params": 5}
    return [json.dumps([{"matrix": MATRIX, "ops": OPS, "hash_": _hash(), **numbers}]).encode()]


CSV = b"a,v,t\n|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|,91,90\n\n"


def read_csv(path: Path) -> Any:
    """Imports columns."""
    from archduel.tables.importing import ImportPlan, import_columns

    plan = ImportPlan(path.parent / "out.table")
    return import_columns(path, "nasbench201", plan, columns={"arch": "a"}, values={"validation": ["v"]}, percent=True)


def _record() -> bytes:
    one = b"\x0a\x2d" + b"".join(bytes([tag]) + struct.pack("<d", value) for tag, value in zip((9, 17, 25, 33, 41), (1.0, 100.0, 0.9, 0.8, 0.7)))
    metrics = base64.b64encode(one * 3 + b"\x10\x05").decode()
    bits = "".join(str(bit) for row in MATRIX for bit in row)
    return json.dumps([_hash(), 108, bits, ",".join(OPS), metrics]).encode()


def _tfrecords(rng: np.random.Generator) -> list[bytes]:
    from archduel.tables.readers.nasbench101 import masked_crc32c

    body = _record()
    head = len(body).to_bytes(8, "little")
    sums = [int(masked_crc32c([part])[0]).to_bytes(4, "little") for part in (head, body)]
    return [head + sums[0] + body + sums[1]]


def read_record(path: Path) -> Any:
    """Reads one record of NAS-Bench-101 without its frame, so that mutations reach it."""
    from archduel.errors import TableError, reading
    from archduel.tables.readers.nasbench101 import read_record as record

    with reading(path, TableError):
        return record(path.read_bytes()).cell()


def _tables(rng: np.random.Generator) -> list[bytes]:
    folder = Path(tempfile.mkdtemp())
    _fresh(folder / "a.csv", CSV)
    read_csv(folder / "a.csv")
    return [(folder / "out.table").read_bytes()]


def read_table(path: Path) -> Any:
    """Opens a table file and reads a value."""
    from archduel.tables import open_table

    target = path.with_suffix(".table")
    _fresh(target, path.read_bytes())
    return open_table(target).best_validation


TARGETS: dict[str, tuple[Callable[[np.random.Generator], list[bytes]], Reader]] = {
    "image": (_image_files, read_image),
    "npz": (_npz_files, read_npz),
    "archive": (_archive_files, read_archive),
    "shard": (lambda rng: _archive_files(rng)[:1], read_shard),
    "cifar": (_cifar_files, read_cifar),
    "labels": (lambda rng: [LIST, LIST.replace(b",", b"\t"), b"a.jpg cat\nb dog\nc.png cat\n"], read_labels),
    "cache": (_entry_files, read_entry),
    "pickle": (_pickle_files, read_pickle),
    "nats": (lambda rng: [bz2.compress(raw) for raw in _pickle_files(rng)], read_nats),
    "workbook": (_workbooks, lambda path: _import(path, "bpe")),
    "ctnas": (_ctnas, lambda path: _import(path, "ctnas")),
    "tfrecord": (_tfrecords, lambda path: _import(path, "tfrecord")),
    "record": (lambda rng: [_record()], read_record),
    "csv": (lambda rng: [CSV, CSV.replace(b"\n", b"\r\n")], read_csv),
    "table": (_tables, read_table),
}
"""Name -> (good files, reader)."""


class _TooLongError(BaseException):
    """An input that took longer than SLOW; no reader's `except Exception` may swallow it."""


def _alarm(*_: Any) -> None:
    raise _TooLongError


def fuzz(name: str, seconds: float, inputs: int, seed: int) -> dict[str, Any]:
    """Returns the record of one target, measured in this process."""
    from archduel.errors import ArchduelError

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _alarm)
    make, read = TARGETS[name]
    good = make(np.random.default_rng(0))
    counts: Counter[str] = Counter()
    findings: dict[str, dict[str, Any]] = {}
    slowest, began, done, rng = 0.0, time.process_time(), 0, random.Random()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        os.environ["ARCHDUEL_CACHE"] = folder
        path = Path(folder) / "input.bin"
        while done < inputs and time.process_time() - began < seconds:
            rng.seed(f"{seed}/{done}")
            _fresh(path, mutated(good[int(rng.random() * len(good))], good, rng))
            start = time.process_time()
            signal.alarm(SLOW)
            try:
                read(path)
                counts["read"] += 1
            except ArchduelError as error:
                counts["refused"] += 1
                if "\n" in str(error):
                    findings.setdefault("a message of several lines", {"seed": [seed, done], "text": str(error)[:200]})
            except (Exception, _TooLongError) as error:
                counts["hang" if isinstance(error, _TooLongError) else "raw"] += 1
                place = traceback.extract_tb(error.__traceback__)[-1]
                key = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
                findings.setdefault(key, {"seed": [seed, done], "text": str(error)[:200]})
            finally:
                signal.alarm(0)
            slowest, done = max(slowest, time.process_time() - start), done + 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "target": name, "inputs": done, **{key: counts[key] for key in ("read", "refused", "raw", "hang")}, "slowest_seconds": round(slowest, 3),
        "cpu_seconds": round(time.process_time() - began, 1), "peak_mb": round(peak, 1), "findings": findings,
    }  # fmt: skip


def in_a_process(name: str, seconds: float, inputs: int, seed: int) -> dict[str, Any]:
    """Returns the record of a target measured in a process of its own; one that crashed says so."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(write, json.dumps(fuzz(name, seconds, inputs, seed)).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        raw = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(raw) if raw else {"target": name, "inputs": 0, "crash": status, "findings": {}}


def summed(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns one record a target: counts added, peaks and the slowest as they were, all findings."""
    joined: dict[str, dict[str, Any]] = {}
    for record in records:
        before = joined.get(record["target"])
        if before is None:
            joined[record["target"]] = dict(record)
            continue
        for key, value in record.items():
            if key in ("slowest_seconds", "peak_mb"):
                before[key] = max(before.get(key, 0), value)
            elif key == "findings":
                before[key] = {**value, **before.get(key, {})}
            elif key != "target":
                before[key] = round(before.get(key, 0) + value, 1)
    return list(joined.values())


def main() -> None:
    """Fuzzes the targets one after the other and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60.0, help="processor seconds a target")
    parser.add_argument("--inputs", type=int, default=10**9, help="inputs a target at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--passes", type=int, default=1, help="over all targets, with one seed after the other")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    records = []
    for turn, name in itertools.product(range(chosen.passes), chosen.targets.split(",")):
        records.append(in_a_process(name, chosen.seconds, chosen.inputs, chosen.seed + turn))
        print(json.dumps(records[-1]), flush=True)
        if chosen.out:
            total = {key: sum(record.get(key, 0) for record in records) for key in ("inputs", "read", "refused", "raw", "hang")}
            crashes = sum("crash" in record for record in records)
            facts = {"command": " ".join(sys.argv), "memory_limit_mb": MEMORY >> 20, "slow_seconds": SLOW}
            content = {**facts, "total": {**total, "crashes": crashes}, "targets": summed(records)}
            chosen.out.write_text(json.dumps(content, indent=1) + "\n")
    if chosen.out:
        # imports PyTorch, which every later process would have begun with
        from archduel.core.storage import environment

        chosen.out.write_text(json.dumps({**content, "environment": environment()}, indent=1) + "\n")


if __name__ == "__main__":
    main()

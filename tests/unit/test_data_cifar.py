"""CIFAR archives in miniature: python and binary form, checksums, hostile and damaged files."""

from __future__ import annotations

import io
import os
import pickle
import struct
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from archduel.commands.data.sets import fetch, import_set
from archduel.data import load
from archduel.data.cifar import FORMS, Form, from_cifar, read_form, safe_unpickle
from archduel.data.download import checksum
from archduel.data.load import locate
from archduel.errors import DataError

N = 20  # images a file
BY_NAME = {form.archive: form for form in FORMS}


class OldPickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes texts as Python 2 did, as the original files are."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_old_text(self, value: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_old_text


def old_pickle(value: Any) -> bytes:
    buffer = io.BytesIO()
    OldPickler(buffer, 2).dump(value)
    return buffer.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def pixels(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (N, 3072), dtype=np.uint8)


def contents(form: Form) -> dict[str, bytes]:
    """Returns file name -> bytes of a miniature archive; both forms of a set hold the same images."""
    names = [f"class{i}" for i in range(form.n_classes)]
    files: dict[str, bytes] = {}
    for seed, name in enumerate((*form.train, form.test)):
        per_file = 100 if form.n_classes == 100 and name == form.train[0] else N
        data = np.random.default_rng(seed).integers(
            0, 256, (per_file * 3 if per_file > N else N, 3072), dtype=np.uint8
        )
        labels = [i % form.n_classes for i in range(len(data))]
        if form.label_bytes:
            coarse = [[label // 5, label][2 - form.label_bytes :] for label in labels]
            files[name] = b"".join(bytes(label) + row.tobytes() for label, row in zip(coarse, data))
        elif form.n_classes == 10:
            files[name] = old_pickle(
                {b"batch_label": b"x", b"labels": labels, b"data": data, b"filenames": [b"f"]}
            )
        else:
            coarse_labels = [label // 5 for label in labels]
            files[name] = old_pickle({b"fine_labels": labels, b"coarse_labels": coarse_labels, b"data": data})
    key = b"label_names" if form.n_classes == 10 else b"fine_label_names"
    files[form.meta] = (
        "\n".join(names).encode() + b"\n\n"
        if form.label_bytes
        else old_pickle({key: [name.encode() for name in names]})
    )
    return files


def pack(form: Form, to: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(to / form.archive, "w:gz") as archive:
        for name, raw in sorted(files.items(), reverse=True):
            member = tarfile.TarInfo(f"{form.folder}/{name}")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return to / form.archive


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ARCHDUEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def believed(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Makes the miniature archive the published one."""
    changed = tuple(replace(f, sha256=checksum(path), md5=()) if f.archive == path.name else f for f in FORMS)
    for user in ("archduel.data.cifar", "archduel.data.load", "archduel.commands.data.sets"):
        monkeypatch.setattr(sys.modules[user], "FORMS", changed)  # `archduel.data.load` is also a function


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_every_archive_packed_and_unpacked_gives_the_same_images(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = BY_NAME[name]
    files = contents(form)
    path = pack(form, tmp_path, files)
    believed(monkeypatch, path)
    packed = load(path)
    assert packed.classes == tuple(f"class{i}" for i in range(form.n_classes))
    assert len(packed.test) == N
    assert packed.facts["splits"]["test"] == "given"
    folder = tmp_path / form.folder
    folder.mkdir()
    for file, raw in files.items():
        (folder / file).write_bytes(raw)
    assert load(folder).fingerprint == packed.fingerprint
    other = next(f for f in FORMS if f.data == form.data and f.archive != name)
    sibling = tmp_path / other.archive
    pack(other, tmp_path, contents(other))
    believed(monkeypatch, sibling)
    assert load(sibling).fingerprint == packed.fingerprint


def test_rows_are_red_green_and_blue_planes(tmp_path: Path) -> None:
    form = BY_NAME["cifar-10-binary.tar.gz"]
    files = contents(form)
    for file, raw in files.items():
        (tmp_path / file).write_bytes(raw)
    image, label, split = next(iter(read_form(form, tmp_path)))
    row = pixels(0)[0]
    assert np.asarray(image)[0, 0].tolist() == [row[0], row[1024], row[2048]]
    assert np.asarray(image)[0, 1, 0] == row[1]
    assert np.asarray(image)[1, 0, 0] == row[32]
    assert (label, split) == (0, 0)


def test_an_archive_in_the_download_folder_is_found_by_name(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = BY_NAME["cifar-10-python.tar.gz"]
    with pytest.raises(
        DataError, match=r"cifar10 is not here.*https://www\.cs\.toronto\.edu/~kriz/cifar-10-binary"
    ) as refused:
        load("cifar10")
    place = cache / "downloads" / "cifar10"
    assert str(place) in str(refused.value)
    place.mkdir(parents=True)
    path = pack(form, place, contents(form))
    believed(monkeypatch, path)
    first = load("cifar10")
    path.unlink()  # read once, kept as arrays
    assert load("cifar10").fingerprint == first.fingerprint


def test_an_archive_with_another_checksum_is_refused(tmp_path: Path) -> None:
    form = BY_NAME["cifar-10-binary.tar.gz"]
    with pytest.raises(DataError, match=f"SHA-256 .*published .* has {form.sha256}"):
        load(pack(form, tmp_path, contents(form)))


def test_an_unpacked_folder_with_other_checksums_is_refused(tmp_path: Path) -> None:
    form = BY_NAME["cifar-10-python.tar.gz"]
    for file, raw in contents(form).items():
        (tmp_path / file).write_bytes(raw)
    with pytest.raises(DataError, match="data_batch_1 has the MD5"):
        load(tmp_path)


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["EVIL_FOLDER"],)


def test_nothing_in_a_pickle_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVIL_FOLDER", str(tmp_path / "owned"))
    (tmp_path / "batch").write_bytes(pickle.dumps({"data": Evil()}, 2))
    with pytest.raises(DataError, match=r"mkdir, which no CIFAR file needs"):
        safe_unpickle(tmp_path / "batch")
    assert not (tmp_path / "owned").exists()
    pickle.loads(pickle.dumps(Evil()))  # the plain reader would have
    assert (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "raw", [b"", b"\x80\x02", b"garbage", pickle.dumps([1], 2)[:-3], pickle.dumps([1], 2)]
)
def test_damaged_pickles_are_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "batch").write_bytes(raw)
    with pytest.raises(DataError, match=r"batch (is damaged|holds list)"):
        safe_unpickle(tmp_path / "batch")


def damaged(form: Form, folder: Path, name: str, raw: bytes) -> None:
    for file, content in (contents(form) | {name: raw}).items():
        (folder / file).write_bytes(content)


@pytest.mark.parametrize(
    ("archive", "name", "raw", "message"),
    [
        ("cifar-10-binary.tar.gz", "test_batch.bin", bytes(3072), "multiple of 3073"),
        ("cifar-10-binary.tar.gz", "test_batch.bin", b"", "multiple of 3073"),
        ("cifar-10-binary.tar.gz", "test_batch.bin", b"\x0b" * 3073, r"labels 11\.\.11, expected 0\.\.9"),
        ("cifar-10-binary.tar.gz", "batches.meta.txt", b"a\nb\n", "names 2 classes, expected 10"),
        ("cifar-10-python.tar.gz", "test_batch", old_pickle({b"data": [1]}), "must hold 'data'"),
        (
            "cifar-10-python.tar.gz",
            "test_batch",
            old_pickle({b"data": pixels(0), b"labels": [1]}),
            "one integer label",
        ),
        ("cifar-100-python.tar.gz", "meta", old_pickle({b"fine_label_names": [b"a"]}), "names 1 classes"),
    ],
)
def test_damaged_files_say_what_is_wrong(
    archive: str, name: str, raw: bytes, message: str, tmp_path: Path
) -> None:
    form = BY_NAME[archive]
    (tmp_path / "unpacked").mkdir()
    damaged(form, tmp_path / "unpacked", name, raw)
    with pytest.raises(DataError, match=message):
        from_cifar(form, tmp_path / "unpacked", tmp_path / "sets", verify=False)
    assert list((tmp_path / "sets").glob("c*")) == []


def test_an_archive_that_lacks_a_file_says_which(tmp_path: Path) -> None:
    form = BY_NAME["cifar-10-binary.tar.gz"]
    files = contents(form)
    del files["data_batch_4.bin"]
    path = pack(form, tmp_path, files)
    with pytest.raises(DataError, match=r"lacks cifar-10-batches-bin/data_batch_4\.bin"):
        from_cifar(form, path, tmp_path / "sets", verify=False)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match="is damaged or no archive"):
        from_cifar(form, path, tmp_path / "sets", verify=False)


def test_a_renamed_archive_is_imported_by_its_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = BY_NAME["cifar-100-binary.tar.gz"]
    path = pack(form, tmp_path, contents(form))
    believed(monkeypatch, path)
    renamed = path.rename(tmp_path / "download (1).tar.gz")
    assert len(import_set("cifar100", renamed).classes) == 100
    assert load("cifar100").n_classes == 100
    altered = tmp_path / form.archive
    altered.write_bytes(renamed.read_bytes() + b"x")
    with pytest.raises(DataError, match="incomplete or altered"):
        import_set("cifar100", altered, replace=True)
    assert load("cifar100").n_classes == 100  # the old one stays


def test_the_class_folder_form_is_imported_under_the_same_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, n in (("train", 9), ("test", 3)):
        for label in range(10):
            (tmp_path / "c10" / part / f"class{label}").mkdir(parents=True)
            for i in range(n):
                pixels_ = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels_).save(tmp_path / "c10" / part / f"class{label}" / f"{i}.png")
    import_set("cifar10", tmp_path / "c10")
    data = load("cifar10")
    assert data.facts["splits"] == {"train": "given", "validation": "made", "test": "given"}
    assert len(data.test) == 30


def test_fetch_downloads_checks_and_keeps(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = BY_NAME["cifar-10-binary.tar.gz"]
    path = pack(form, tmp_path, contents(form))
    believed(monkeypatch, path)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        monkeypatch.setattr(
            Form, "url", property(lambda self: f"http://127.0.0.1:{server.server_port}/{self.archive}")
        )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        seen: list[tuple[int, int]] = []
        assert fetch("cifar10", progress=lambda *done: seen.append(done)) == cache / "sets" / "cifar10"
        server.shutdown()
        thread.join()
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)
    assert load("cifar10").n_classes == 10


@pytest.mark.data
def test_the_real_pixels_in_binary_form(tmp_path: Path, cache: Path) -> None:
    """Packs real CIFAR-10 test images as the binary form and reads them back."""
    root = os.environ.get("ARCHDUEL_DATA")
    if not root:
        pytest.skip("set ARCHDUEL_DATA to the folder of the public data")
    with np.load(Path(root) / "cifar10" / "test.npz") as found:
        data, ends, labels = found["data"], found["offsets"], found["labels"][:120]
        names = [str(name) for name in found["classes"]]
    images = [np.asarray(Image.open(io.BytesIO(data[a:b].tobytes()))) for a, b in pairwise(ends[:121])]
    rows = [
        bytes([label]) + image.transpose(2, 0, 1).tobytes() for label, image in zip(labels.tolist(), images)
    ]
    form = BY_NAME["cifar-10-binary.tar.gz"]
    for i, file in enumerate((*form.train, form.test)):
        (tmp_path / file).write_bytes(b"".join(rows[20 * i : 20 * i + 20]))
    (tmp_path / form.meta).write_text("\n".join(names))
    source = locate(str(tmp_path), cache)
    assert source.classes == tuple(names)
    assert len(source) == 120
    for number in range(120):
        with source.read(number) as image:
            np.testing.assert_array_equal(np.asarray(image), images[number])

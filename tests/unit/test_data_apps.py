"""List, show, fetch, import, clear, writing folders, remembering: what a notebook and the command line call."""

from __future__ import annotations

import http.server
import io
import os
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from archduel.commands import app
from archduel.commands.data import sets as apps
from archduel.data import load, remember
from archduel.data.download import checksum, download, take_members, unpack
from archduel.errors import DataError

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ARCHDUEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def tarred(path: Path, files: dict[str, bytes], *extra: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, raw in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
        for member in extra:
            archive.addfile(member)
    return path


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in files.items():
            archive.writestr(name, raw)
    return path


def flowers(prefix: str = "") -> dict[str, bytes]:
    return {f"{prefix}{label}/{i}.png": png() for label in ("rose", "tulip") for i in range(12)}


def inside(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} if folder.is_dir() else set()


# importing


@pytest.mark.parametrize("pack", [tarred, zipped])
@pytest.mark.parametrize("prefix", ["", "flowers-1.0/", "./deep/flowers/train/"])
def test_an_archive_of_class_folders_is_imported(pack: Any, prefix: str, tmp_path: Path) -> None:
    extra = {f"{prefix}rose/run.py": b"raise SystemExit", "__MACOSX/rose/._0.png": b"x"}
    archive = pack(tmp_path / ("f.zip" if pack is zipped else "f.tar.gz"), flowers(prefix) | extra)
    apps.import_set("flowers", archive)
    found = load("flowers")
    assert found.classes == ("rose", "tulip")
    assert sum(found.facts["n_images"].values()) == 24
    assert not list((tmp_path / "cache").rglob("*.py"))


def test_folders_and_npz_are_imported_and_listed(tmp_path: Path) -> None:
    for name, raw in flowers().items():
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(raw)
    assert len(apps.import_set("garden", tmp_path / "raw")) == 24
    np.savez(tmp_path / "a.npz", images=np.arange(750, dtype=np.uint8).reshape(30, 5, 5), labels=np.arange(30) % 3)
    assert len(apps.import_set("blank", tmp_path / "a.npz").classes) == 3
    lines = {line.name: line.state for line in apps.list_sets()}
    assert lines["garden"] == lines["blank"] == "imported"
    assert lines["digits"] == "here"
    assert lines["cifar10"] == "not fetched"
    with pytest.raises(DataError, match="already"):
        apps.import_set("garden", tmp_path / "raw")
    apps.import_set("garden", tmp_path / "a.npz", replace=True)
    assert load("garden").n_classes == 3


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "digits", "a b"])
def test_names_that_are_no_plain_words_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"plain name|is taken"):
        apps.import_set(name, tmp_path)


ESCAPES = [
    "../evil.png",
    "a/../../evil.png",
    "/tmp/archduel-evil.png",
    "C:/evil.png",
    "..\\evil.png",
    "a/\\..\\evil.png",
]


@pytest.mark.parametrize("pack", [tarred, zipped])
@pytest.mark.parametrize("name", ESCAPES)
def test_no_member_escapes_its_folder_and_nothing_is_left_behind(
    pack: Any, name: str, tmp_path: Path
) -> None:
    archive = pack(tmp_path / ("f.zip" if pack is zipped else "f.tar.gz"), flowers() | {name: png()})
    before = inside(tmp_path)
    if pack is zipped and "\\" in name and os.sep == "/":  # zipfile itself keeps the name as it is
        assert "\\" in zipfile.ZipFile(archive).namelist()[-1]
    with pytest.raises(DataError, match="outside the folder"):
        apps.import_set("flowers", archive)
    left = {path for path in inside(tmp_path) - before if not path.endswith(".lock")}
    assert left <= {"cache", os.path.join("cache", "sets")}
    assert not Path("/tmp/archduel-evil.png").exists()


def link(kind: bytes, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo("rose/link.png")
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="link or a device"):
        apps.import_set("flowers", tarred(tmp_path / "f.tgz", flowers(), link(kind, "/etc/passwd")))


def test_links_in_zip_files_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        member = zipfile.ZipInfo("rose/link.png")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(DataError, match="is a link"):
        apps.import_set("flowers", tmp_path / "f.zip")


@pytest.mark.parametrize("pack", [tarred, zipped])
def test_a_bomb_is_stopped(pack: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archduel.data.download.FREE", 1 << 20)
    archive = pack(tmp_path / ("f.zip" if pack is zipped else "f.tar.gz"), {"rose/a.png": bytes(32 << 20)})
    with pytest.raises(DataError, match="unpacks to more than 200 times"):
        apps.import_set("flowers", archive)


@pytest.mark.parametrize("pack", [tarred, zipped])
def test_damaged_archives_and_members_at_odds(pack: Any, tmp_path: Path) -> None:
    path = tmp_path / ("f.zip" if pack is zipped else "f.tar.gz")
    pack(path, flowers())
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(DataError, match="is damaged or no archive"):
        apps.import_set("flowers", path)
    pack(path, {"rose.png": png(), "rose.png/a.png": png()})
    with pytest.raises(DataError, match="both a file and a folder"):
        apps.import_set("flowers", path)
    pack(path, {"readme.txt": b"x"})
    with pytest.raises(DataError, match="holds no images"):
        apps.import_set("flowers", path)
    (tmp_path / "note.txt").write_text("x")
    with pytest.raises(DataError, match="neither a folder nor an archive"):
        apps.import_set("flowers", tmp_path / "note.txt")
    with pytest.raises(DataError, match="data import NAME"):
        load(path)


def test_take_members_writes_only_the_names_that_were_asked_for(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "a.tgz", {"../evil": b"e", "x/../c/data": b"d", "c/other": b"o"})
    (tmp_path / "to").mkdir()
    take_members(archive, ["c/data"], tmp_path / "to")
    assert inside(tmp_path / "to") == {"data"}
    assert unpack(tarred(tmp_path / "b.tgz", {"c/data": b"d"}), tmp_path / "two", lambda name: False) == 0


# fetching


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one content with resume; can break off, or ignore ranges."""

    content: ClassVar[bytes] = b""
    breaks: ClassVar[list[int]] = []
    ranges: ClassVar[bool] = True
    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.split("=")[1].rstrip("-")) if wanted and self.ranges else 0
        if self.path == "/missing":
            self.send_error(404)
            return
        if start >= len(self.content) > 0:
            self.send_error(416)
            return
        body = self.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.breaks.pop(0)] if self.breaks else body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    Server.content, Server.breaks, Server.ranges, Server.asked = RNG.bytes(3_000_000), [], True, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def sha() -> str:
    import hashlib

    return hashlib.sha256(Server.content).hexdigest()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_breaks_off_is_resumed(server: str, ranges: bool, tmp_path: Path) -> None:
    Server.breaks, Server.ranges = [1_000_000, 700_000], ranges
    seen: list[tuple[int, int]] = []
    to = download(f"{server}/a", tmp_path / "a", sha256=sha(), progress=lambda *p: seen.append(p), pause=0)
    assert to.read_bytes() == Server.content
    assert seen[-1] == (3_000_000, 3_000_000)
    assert Server.asked == [None, "bytes=1000000-", "bytes=1700000-" if ranges else "bytes=700000-"]
    assert not (tmp_path / "a.part").exists()
    download(f"{server}/a", tmp_path / "a", sha256=sha())
    assert len(Server.asked) == 3  # it was there


def test_a_later_call_continues_an_earlier_one(server: str, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(Server.content[:2_500_000])
    download(f"{server}/a", tmp_path / "a", sha256=sha())
    assert Server.asked == ["bytes=2500000-"]
    (tmp_path / "b.part").write_bytes(Server.content)  # whole, but not yet checked
    assert download(f"{server}/b", tmp_path / "b", sha256=sha()).read_bytes() == Server.content


def test_another_checksum_is_refused_and_removed(server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"SHA-256 {sha()}, expected 00"):
        download(f"{server}/a", tmp_path / "a", sha256="00")
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "a.part").exists()


def test_without_a_network_the_message_names_address_and_place(server: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=rf"{server}/missing cannot be fetched .*404.*put it at {tmp_path / 'x'}"
    ):
        download(f"{server}/missing", tmp_path / "x", sha256="00", pause=0)
    assert len(Server.asked) == 1  # asking again would not help
    with pytest.raises(DataError, match=r"http://127.0.0.1:9/a cannot be fetched"):
        download("http://127.0.0.1:9/a", tmp_path / "x", sha256="00", pause=0)


def test_only_sets_with_an_address_are_fetched() -> None:
    with pytest.raises(DataError, match="embedded"):
        apps.fetch("digits")
    with pytest.raises(DataError, match="cifar10, cifar100"):
        apps.fetch("imagenet")


# writing folders, remembering


def test_a_data_set_written_as_a_folder_is_read_back_the_same(tmp_path: Path) -> None:
    digits = load("digits", max_images=300)
    assert apps.write_folder(digits, tmp_path / "out") == 300
    again = load(tmp_path / "out")
    assert again.facts["splits"] == dict.fromkeys(("train", "validation", "test"), "given")
    assert again.preprocessing == digits.preprocessing
    for name in ("train", "validation", "test"):
        pairs = [
            sorted((label, p.tobytes()) for label, p in zip(split.labels.tolist(), split.images))
            for split in (getattr(digits, name), getattr(again, name))
        ]
        assert pairs[0] == pairs[1]
    with pytest.raises(DataError, match="there already"):
        apps.write_folder(digits, tmp_path / "out")


def test_class_names_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    images, labels = np.zeros((9, 4, 4), np.uint8), np.array(["../up", "a/b", "", ] * 3)  # fmt: skip
    assert apps.write_folder((images, labels), tmp_path / "out") == 9
    assert len(list((tmp_path / "out").iterdir())) == 3
    assert not (tmp_path / "up").exists()


class Mixed:
    """Images of several sizes and modes."""

    modes = ("RGB", "L", "CMYK", "RGBA", "F")

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        rng = np.random.default_rng(index)
        pixels = rng.integers(0, 256, (10 + index % 4, 12, 3), dtype=np.uint8)
        return Image.fromarray(pixels).convert("RGB").convert(
            self.modes[index % 5] if index % 5 != 4 else "L"
        ), index % 2


@pytest.mark.parametrize("kind", ["arrays", "dataset"])
def test_remembered_data_is_the_same_in_another_process(kind: str, tmp_path: Path) -> None:
    data: Any = Mixed()
    if kind == "arrays":
        data = (
            RNG.integers(0, 256, (60, 9, 9, 3), dtype=np.uint8),
            np.array(["b", "a", "c"])[np.arange(60) % 3],
        )
    name = remember(data)
    assert name == remember(data)
    assert name.startswith("arrays:")
    code = "import sys, archduel.data as d; print(d.load(sys.argv[1]).fingerprint)"
    answer = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == load(data).fingerprint
    assert name in {line.name for line in apps.list_sets()}


# commands


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["data", *words], catch_exceptions=True)


def test_the_commands(tmp_path: Path) -> None:
    assert "cifar100" in run("list").stdout
    shown = run("show", "digits").stdout
    assert "1,079 images (made)" in shown
    assert "mirroring  no" in shown
    archive = zipped(tmp_path / "f.zip", flowers())
    assert "24 images, 2 classes" in run("import", "flowers", str(archive)).stdout
    assert "rose 12, tulip 12" in run("show", "flowers").stdout
    assert run("show", "nothing").exit_code == 1
    assert isinstance(run("import", "flowers", str(archive)).exception, DataError)
    assert "MB freed" in run("clear").stdout
    assert "flowers" in run("list").stdout
    run("clear", "--all")
    assert "flowers" not in run("list").stdout


def test_progress_when_piped_is_a_line_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    from archduel.commands.progress import Meter

    meter = Meter("images", "decoding")
    for done in range(1001):
        meter(done, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[-1] == "decoding: 1,000 of 1,000 images (100 %)"


def test_loading_needs_no_torch() -> None:
    code = "import sys, archduel.data, archduel.commands.data.sets; archduel.data.load('digits'); print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_the_checksum_is_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert checksum(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

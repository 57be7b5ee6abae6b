"""Text from outside is made printable in one place; no stream ends a job."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from archduel.commands.progress import Meter, Progress
from archduel.text import composed, is_terminal, print_line, printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ant", "ant"),
        ("日本 café ñ 🐈", "日本 café ñ 🐈"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("a\x1b]0;owned\x07", r"a\x1b]0;owned\x07"),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("right\u202eleft", r"right\u202eleft"),
        ("half \ud83d", r"half \ud83d"),
        ("line\u2028break\u2029", r"line\u2028break\u2029"),
        ("\x7f\x9b\u200b\ufeff\U000e0001", r"\x7f\x9b\u200b\ufeff\U000e0001"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("wide\u3000space\u00a0kept", "wide\u3000space\u00a0kept"),
        (3, "3"),
        (b"bytes", "b'bytes'"),
    ],
)
def test_what_a_terminal_would_obey_or_utf8_cannot_hold_is_escaped(text: object, expected: str) -> None:
    assert printable(text) == expected
    printable(text).encode("utf-8")
    assert printable(printable(text)) == printable(text)


def test_lines_may_stay_lines_and_accents_are_composed() -> None:
    assert printable("a\nb\x1b", lines=True) == "a\nb\\x1b"
    assert composed("cafe\u0301") == "café" == composed("café")


class Lost(io.StringIO):
    """A stream that cannot be written: a pipe whose reader is gone, a full disk."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("kind", ["none", "latin-1", "closed", "lost"])
def test_no_stream_ends_a_job(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    streams = {"none": None, "latin-1": io.TextIOWrapper(raw, encoding="latin-1"), "closed": io.StringIO(), "lost": Lost()}
    stream = streams[kind]
    if kind == "closed":
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    assert not is_terminal(stream)
    progress = Progress()
    progress.say("日本 é")
    progress.stage("label", 3)
    progress.advance(3, "日本")
    progress.end()
    Meter("images")(1, 1)
    print_line("日本", error=True)
    if kind == "latin-1":
        assert raw.getvalue().decode("latin-1").splitlines()[0] == r"\u65e5\u672c é"


def command(*arguments: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    line = f'"{sys.executable}" -m archduel {" ".join(arguments)} {shell}'
    return subprocess.run(["sh", "-c", line], capture_output=True, env={**os.environ, **environment}, check=False)


def test_a_command_with_a_stream_that_lacks_a_letter_or_is_closed(tmp_path: object) -> None:
    answer = command("data", "show", "nichts/日本", PYTHONIOENCODING="latin-1")
    assert answer.returncode == 2
    assert rb"nichts/\u65e5\u672c" in answer.stderr
    assert b"Traceback" not in answer.stderr
    assert command("data", "list", shell=">&- 2>&-").returncode == 0

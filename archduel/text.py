"""Text from outside (file names, labels, messages of others) made fit to be printed and written; lines that no stream refuses.

A file name is bytes, a label may come from a stranger's file, and a terminal may lack a letter, be closed or full. What is read is made
printable once, where it is read (:class:`archduel.data.dataset.Source`), so that whatever writes it later (JSON, TOML, HTML, Markdown, a
terminal) needs no care of its own.
"""

from __future__ import annotations

import os
import shlex
import sys
import unicodedata
from contextlib import suppress
from typing import TextIO

__all__ = ["composed", "is_terminal", "print_line", "printable", "settle_streams", "typed"]

# control, surrogate, format (which turns the direction of text or hides it), and the two separators that end a line
_STRANGE = frozenset(("Cc", "Cs", "Cf", "Zl", "Zp"))
# Persian, Hindi and composed emoji are spelled with these two
_JOINERS = "\u200c\u200d"
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(value: object, *, lines: bool = False) -> str:
    r"""Returns the text of ``value`` with everything escaped that a terminal would obey or UTF-8 cannot hold.

    A byte of a file name that is no UTF-8 becomes ``\xe9``, a control character ``\x1b`` or ``\n``. Text without such characters
    comes back as it is, in any language.

    Args:
        value: anything with a text.
        lines: leave line breaks as they are.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(char if _plain(char) or (lines and char == "\n") else _escaped(char) for char in text)


def _plain(char: str) -> bool:
    return char.isprintable() or char in _JOINERS or unicodedata.category(char) not in _STRANGE


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # how Python spells a byte of a file name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    short = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return _SHORT.get(char, short)


def typed(path: object) -> str:
    """Returns a path as a command takes it that a message tells people to type: in quotes where a shell would read something else in it."""
    return shlex.quote(str(path))


def composed(text: str) -> str:
    """Returns text with accents as one character each: two file systems spell the same name differently, people mean one."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


# -- Lines for people: whatever the stream is, a job does not end because of them ---------------------------------------


def is_terminal(stream: TextIO | None) -> bool:
    """Returns whether somebody watches ``stream``; one that is closed or not there is watched by nobody."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def print_line(text: str = "", *, end: str = "\n", error: bool = False) -> None:
    """Prints progress to standard output (or ``error``): a stream that lacks a letter gets an escape, a lost one gets nothing.

    For what is said beside the work. A command whose output is its result prints so that a full disk is noticed.
    """
    stream = sys.stderr if error else sys.stdout
    if stream is None:
        return
    with suppress(OSError, ValueError):  # a broken pipe, a full disk, a closed stream
        try:
            stream.write(text + end)
        except UnicodeEncodeError:
            code = getattr(stream, "encoding", None) or "ascii"
            stream.write((text + end).encode(code, "backslashreplace").decode(code))
        stream.flush()


def settle_streams() -> None:
    """Makes the streams of a command such that printing cannot fail for a letter, nor for a stream that is not there.

    A closed descriptor 0, 1 or 2 is opened on the null device: the next file to be opened would take its number, and whatever
    prints would write into that file.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process lives
        elif hasattr(stream, "reconfigure"):
            with suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")

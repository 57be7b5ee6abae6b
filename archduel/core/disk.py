"""What lies on disk is whole or not there, belongs to one process at a time, and is never somebody else's file behind a link."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from archduel.errors import DamagedError, MachineError, RunError, in_one_line
from archduel.text import print_line

__all__ = ["HARMLESS", "TEMPORARY", "Held", "clear_temporaries", "flush_folder", "lacking", "lock", "read_json", "read_toml", "user_folder", "write_atomic"]

# -- One process at a time: a second one is refused while the first holds the lock -------------------------------------


class Held:
    """A lock that is held until ``release``, or until the process ends, however it ends.

    Attributes:
        sure: false where the file system has no locks, so that a second process would not be noticed.
    """

    def __init__(self, close: Callable[[], None], sure: bool = True) -> None:
        self._close, self.sure = close, sure

    def release(self) -> None:
        """Lets others in; the file stays. A second time does nothing: the number of the descriptor may be another file's by then."""
        close, self._close = self._close, _nothing
        close()


def _nothing() -> None:
    """Nothing is left to close."""


def lock(path: Path, what: Path, *, wait: bool = False) -> Held:
    """Returns the held lock in the file ``path``.

    Args:
        path: of the lock, which holds the number of the process and stays when the lock is released.
        what: what is locked, for the message.
        wait: for another process that holds it, instead of an error.

    Raises:
        OSError: if the file cannot be written.
        RunError: if another process holds it, naming which; or ``path`` is no lock file but a link or something else, which is left as it is.
    """
    _check_lock(path)
    try:
        import fcntl
    except ImportError:
        return _lock_without_fcntl(path, what, wait)
    # A folder may come from somebody else: neither a link is followed, nor is anything cut off, before the lock is ours.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    sure = True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise _in_use(what, holder) from error
    except OSError:  # a file system without locks, such as some network drives: better no second look than no run at all
        sure = False
    # who holds it is for the message alone
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return Held(lambda: os.close(descriptor), sure)


def _check_lock(path: Path) -> None:
    """Refuses what a lock of ours never is: its content would be lost."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_size <= 20
    if not plain:
        raise RunError(f"{path} is a link or holds something else, and no lock of archduel; remove it if you know what it is")


def _in_use(what: Path, holder: str) -> RunError:
    return RunError(f"{what} is in use by process {holder or 'unknown'}; wait for it or stop it")


def _lock_without_fcntl(path: Path, what: Path, wait: bool) -> Held:
    from filelock import FileLock, Timeout

    # not of a thread: a job may be closed by another one than opened it
    lock_file = FileLock(path, thread_local=False)
    try:
        lock_file.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise _in_use(what, "") from error
    return Held(lock_file.release)


# -- Writing ------------------------------------------------------------------------------------------------------------


def write_atomic(path: Path, data: bytes | Iterable[bytes | memoryview], *, durable: bool = True) -> None:
    """Writes ``data`` (whole, or in pieces) to ``path`` so that a reader, or a killed writer, sees the old file or the new one, whole.

    Nothing else is touched: a link at ``path`` is replaced and not followed, and what could not be written to its end is taken away.

    Args:
        path: of the file; its folder is made.
        data: its content.
        durable: let it survive a power cut too; without, a cut may leave an empty file.

    Raises:
        OSError: if it cannot be written, with ``path`` as its file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, since a rename is atomic only within a file system; a name that nobody can foresee, and that must not be there
    # yet, because a folder may come from somebody who put links into it.
    temporary = path.with_name(f".{path.name[:150]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        _write_new(temporary, data, durable=durable)
        os.replace(temporary, path)
    except BaseException as error:
        # on a full disk it would keep the disk full
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):  # a full disk names no file, others one that nobody knows
            error.filename, error.filename2 = str(path), None
        raise
    if durable:
        flush_folder(path.parent)


def _write_new(path: Path, data: bytes | Iterable[bytes | memoryview], *, durable: bool) -> None:
    """Writes a file that must not be there yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0), 0o666)
    with open(descriptor, "wb") as file:
        file.writelines([data] if isinstance(data, bytes) else data)
        file.flush()
        # without it, a power cut may keep the rename and lose the content
        if durable:
            os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Lets what was renamed in ``folder`` survive a power cut, where the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<process>\d{1,10})(-[0-9a-f]{8})?\.tmp")
"""Names of half-written files and folders: what they are of, and which process writes them."""


HARMLESS = {".lock", ".DS_Store", "._.DS_Store", ".gitkeep", ".gitignore", ".keep", "lost+found", "Thumbs.db", "desktop.ini", "@eaDir", ".directory", ".nfs"}
"""What systems, file servers and tools put into a folder that nobody has used."""


def clear_temporaries(folder: Path, of: str = "") -> None:
    """Removes what processes that were killed have left half-written in ``folder`` (of one name only, if given); that of living ones stays."""
    import shutil

    for entry in list(folder.iterdir()) if folder.is_dir() else ():
        match = TEMPORARY.fullmatch(entry.name)
        if match is None or (of and match["name"] != of) or is_alive(int(match["process"])):
            continue
        with contextlib.suppress(OSError):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def is_alive(process: int) -> bool:
    """Returns whether a process of that number is there, somebody else's included; True where it cannot be asked."""
    if os.name == "nt":
        return True  # signal 0 is Ctrl-C there: better a left-over file than a stopped neighbour
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def user_folder(variable: str, below: str, instead: str) -> Path:
    """Returns the user's folder for a kind of files.

    Args:
        variable: of the environment, which names it (``XDG_CACHE_HOME``).
        below: where it lies in the home folder.
        instead: variable that names another place for ours, for the message.

    Raises:
        MachineError: where there is no home folder, and what lies in its place among the temporary files is somebody else's.
    """
    given = os.environ.get(variable)
    if given and os.path.isabs(given):
        return Path(given)
    try:
        return Path.home() / below
    except RuntimeError:  # a user without an entry and without HOME, as containers have
        return _without_home(instead)


def _without_home(instead: str) -> Path:
    """Returns a folder among the temporary files that is this user's own; says so the first time."""
    path = Path(tempfile.gettempdir()) / f"archduel-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        status = os.lstat(path)
        # anybody may make a folder of that name there, and what is read from a cache decides results
        own = stat.S_ISDIR(status.st_mode) and (not hasattr(os, "getuid") or status.st_uid == os.getuid()) and not status.st_mode & 0o022
    except OSError:
        own = False
    if not own:
        raise MachineError(f"there is no home folder, and {path} cannot be used in its place; set {instead} to a folder of your own")
    if str(path) not in _MENTIONED:
        _MENTIONED.add(str(path))
        print_line(f"note: there is no home folder; files that are kept lie in {path} ({instead} names another place)", error=True)
    return path


_MENTIONED: set[str] = set()
"""Folders that this process has spoken of."""

# -- Reading ------------------------------------------------------------------------------------------------------------


def read_json(path: Path, needed: Mapping[str, type | tuple[type, ...]] | None = None, *, remedy: str = "") -> dict[str, Any]:
    """Returns the object in a JSON file.

    Args:
        path: of the file.
        needed: keys that must be there, with the types that their values may have.
        remedy: what to do where it is damaged, for the message.

    Raises:
        DamagedError: if it cannot be read, is no JSON object, or lacks something, in one line that names the file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    # a deeply nested text ends in RecursionError
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged ({in_one_line(error)}){remedy and '; '}{remedy}") from None
    if reason := lacking(content, needed or {}):
        raise DamagedError(f"{path} is damaged ({reason}){remedy and '; '}{remedy}")
    return dict(content)


def lacking(content: Any, needed: Mapping[str, type | tuple[type, ...]]) -> str:
    """Returns what is wrong with the value of a JSON text that should be an object with ``needed`` keys; empty for nothing."""
    if not isinstance(content, dict):
        return f"expected an object, got {_brief(content)}"
    for key, types in needed.items():
        value = content.get(key, ...)
        if value is ...:
            return f"{key!r} is missing"
        allowed = types if isinstance(types, tuple) else (types,)
        # JSON has no whole numbers of its own, and in Python true is one
        fine = isinstance(value, allowed) and not (isinstance(value, bool) and bool not in allowed)
        if not fine and not (isinstance(value, int) and not isinstance(value, bool) and float in allowed):
            return f"{key!r} is {_brief(value)}"
    return ""


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]} ..."


def read_toml(path: Path) -> dict[str, Any]:
    """Returns the content of a TOML file.

    Raises:
        RunError: if it cannot be read, or is no TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    # a deeply nested text ends in RecursionError
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {in_one_line(error)}") from None

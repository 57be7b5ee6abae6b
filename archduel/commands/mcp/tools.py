"""What a program may have archduel do, each by the command that a person would type: in a process of its own, paths inside one folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from archduel import registry
from archduel.core.disk import read_json
from archduel.core.job import RUN
from archduel.errors import RunError, SettingError, unknown

__all__ = ["Tools"]

NAMED = ("digits", "cifar10", "cifar100")
"""Images that have a name; all others are paths."""
BEGINS = 60.0
"""Seconds in which a search has begun, or ended with what is wrong."""
LOOKS = 0.1
LONGEST = 3600.0
"""Seconds that a tool other than a search may take."""


class Tools:
    """The tools of a server.

    Args:
        root: folder outside which nothing is read or written.

    Raises:
        SettingError: if there is no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise SettingError(f"--root {root} is no folder")
        self.root = root.resolve()
        self._searches: dict[Path, subprocess.Popen[bytes]] = {}

    def path(self, text: str, *, there: bool = True) -> Path:
        """Returns the path inside the root that a text names, absolute and without links.

        Args:
            text: relative to the root, or absolute.
            there: whether something must be at it.

        Raises:
            SettingError: for a path that leads out of the root, or to nothing where something must be.
        """
        try:
            found = (self.root / text).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise SettingError(f"{text!r} is no path: {error}") from error
        if not text or not found.is_relative_to(self.root):
            raise SettingError(f"{text!r} is not inside {self.root}, the folder that this server was started for")
        if there and not found.exists():
            raise SettingError(f"there is nothing at {text!r} in {self.root}")
        return found

    def shown(self, path: Path) -> str:
        """Returns a path as it is named from the root."""
        return path.relative_to(self.root).as_posix()

    # -- Searches, which go on by themselves -------------------------------------------------------------------------------

    def search(self, data: str, out: str, limits: dict[str, Any]) -> dict[str, Any]:
        """Starts a search, or goes on with one, and returns its folder and state.

        Args:
            data: images: a path inside the root, or a name.
            out: folder of the run; empty = a new one in ``runs``.
            limits: options of `archduel search`, as texts or numbers; None = not given.

        Raises:
            RunError: if it ends before it begins.
            SettingError: for a path outside the root, or a strategy that is not on the menu.
        """
        what = data if data in NAMED else str(self.path(data))
        strategy = limits.get("strategy")
        if strategy is not None and strategy not in registry.names("strategy"):
            raise SettingError(str(unknown("strategy", str(strategy), registry.names("strategy"))))
        folder = self.path(out, there=False) if out else self._free(Path(what).stem)
        # one word an option, so that no value is ever taken for an option
        words = [f"--{name.replace('_', '-')}={value}" for name, value in limits.items() if value is not None and value is not False and value is not True]
        words += [f"--{name.replace('_', '-')}" for name, value in limits.items() if value is True]
        folder.parent.mkdir(parents=True, exist_ok=True)
        log = folder.with_name(f"{folder.name}.log")
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "archduel", "search", f"--out={folder}", "--quiet", *words, "--", what],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, cwd=self.root, start_new_session=True,
            )  # fmt: skip
        self._searches[folder] = process
        until = time.monotonic() + BEGINS
        while time.monotonic() < until and process.poll() is None and not (folder / RUN.file).is_file():
            time.sleep(LOOKS)
        if process.poll():
            raise RunError(_reason(log.read_text(errors="replace"), "the search ended before it began"))
        return {"run": self.shown(folder), "state": "running" if process.poll() is None else "finished", "log": self.shown(log)}

    def _free(self, name: str) -> Path:
        taken = self.root / "runs"
        number = next(n for n in range(1, 1_000_000) if not (taken / f"{name}-{n}").exists())
        return taken / f"{name}-{number}"

    def stop(self, run: str) -> dict[str, Any]:
        """Stops a search that this server started, as Ctrl-C does, and returns its state.

        Raises:
            RunError: for one that it did not start, or that has ended.
        """
        folder = self.path(run)
        process = self._searches.get(folder)
        if process is None or process.poll() is not None:
            raise RunError(f"{run} is not a running search of this server; `status` says who works on it")
        process.send_signal(signal.SIGINT if os.name != "nt" else signal.SIGTERM)
        process.wait(BEGINS)
        return self.status(run)

    # -- What is asked of runs and networks --------------------------------------------------------------------------------

    def status(self, run: str) -> dict[str, Any]:
        """Returns how far a run is, as `archduel status --json` says it; of a search that this server started and that failed also why."""
        folder = self.path(run)
        (state,) = self._asked(["status", str(folder), "--json"])
        process, log = self._searches.get(folder), folder.with_name(f"{folder.name}.log")
        failed = process is not None and process.poll() and log.is_file() and state["state"] == "stopped"
        return {**state, "folder": self.shown(folder), **({"error": _reason(log.read_text(errors="replace"), "the search failed")} if failed else {})}

    def runs(self, folder: str) -> list[dict[str, Any]]:
        """Returns the runs below a folder, as `archduel ls --json` says them."""
        states = self._asked(["ls", str(self.path(folder)), "--json"])
        return [{**state, "folder": self.shown(Path(state["folder"]))} for state in states]

    def report(self, run: str) -> dict[str, Any]:
        """Writes the report of a run and returns where it is, and of a finished search what it says of its networks."""
        folder = self.path(run)
        self._asked(["report", str(folder)], lines=False)
        result = folder / "result.json"
        facts = read_json(result) if result.is_file() else {}
        kept = {name: facts[name] for name in ("networks", "conclusion", "sentence", "warnings") if name in facts}
        return {"report": self.shown(folder / "report.html"), **self.status(run), "details": kept}

    def compare(self, first: str, second: str) -> dict[str, Any]:
        """Returns how two networks that were trained alike differ, as `archduel compare --json` says it."""
        (record,) = self._asked(["compare", str(self.path(first)), str(self.path(second)), "--json"])
        return dict(record)

    def predict(self, run: str, images: Sequence[str], top: int) -> list[dict[str, Any]]:
        """Returns what a network sees in images, as `archduel predict --json` says it."""
        paths = [self.path(image) for image in images]
        if not paths:
            raise SettingError("predict needs at least one image")
        answers = self._asked(["predict", str(self.path(run)), *map(str, paths), f"--top={top}", "--json"], fine=(0, 1))
        return [{**answer, "file": self.shown(path)} for answer, path in zip(answers, paths)]

    def export(self, run: str, to: str) -> dict[str, Any]:
        """Writes a network as a folder that needs nothing of archduel and returns its files."""
        folder = self.path(to, there=False)
        self._asked(["export", str(self.path(run)), f"--to={folder}"], lines=False, fine=(0, 3))
        return {"folder": self.shown(folder), "files": sorted(self.shown(path) for path in folder.rglob("*") if path.is_file())}

    def _asked(self, words: Sequence[str], *, lines: bool = True, fine: Sequence[int] = (0,)) -> list[Any]:
        """Returns the JSON documents that a command prints, a line each.

        Raises:
            RunError: with what the command says where its exit code is none of ``fine``.
        """
        done = subprocess.run(
            [sys.executable, "-m", "archduel", *words], stdin=subprocess.DEVNULL, capture_output=True, cwd=self.root, timeout=LONGEST, check=False
        )
        if done.returncode not in fine:
            raise RunError(_reason(done.stderr.decode(errors="replace"), f"archduel {words[0]} ended with exit code {done.returncode}"))
        return [json.loads(line) for line in done.stdout.decode().splitlines()] if lines else []


def _reason(text: str, otherwise: str) -> str:
    """Returns the last error that a command wrote."""
    said = [line.removeprefix("error: ") for line in text.splitlines() if line.startswith("error: ")]
    return said[-1] if said else f"{otherwise}: {text.strip()[-500:]}" if text.strip() else otherwise

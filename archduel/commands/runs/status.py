"""How far a search or a training is, read from its folder without touching it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from archduel.commands.journals import FOLDERS, Place, going_on, winner_facts
from archduel.core.disk import read_toml
from archduel.core.job import JOURNAL, RUN, TRAINING, read_result
from archduel.core.storage import read_journal
from archduel.errors import ArchduelError, RunError, in_one_line
from archduel.reporting.text import drawn, duration
from archduel.text import printable, typed

__all__ = ["found", "line_of", "lines_of", "state_of"]

KINDS = {name: FOLDERS[name] for name in (RUN.file, TRAINING.file)}
"""File that a folder is known by -> what it is."""


def found(folder: Path) -> Iterator[Path]:
    """Yields the folders of searches and trainings in ``folder`` and in what it holds, by name.

    Raises:
        RunError: if there is no such folder.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder; say where the runs lie: `archduel ls FOLDER`")
    for path in sorted({folder, *folder.glob("*"), *folder.glob("*/*")}):
        if any((path / name).is_file() for name in KINDS):
            yield path


def state_of(folder: Path) -> dict[str, Any]:
    """Returns what is known of a search or a training.

    Returns:
        ``folder``, ``kind``, ``state`` (finished, running, stopped, damaged), ``data``, ``clock`` and ``seconds`` of the budget, ``records`` in
        the journal, ``command`` and, once there is one, ``result``.

    Raises:
        RunError: if there is none.
    """
    name = next((name for name in KINDS if (folder / name).is_file()), None)
    if name is None:
        raise RunError(f"{folder} holds neither a search nor a training (no {' and no '.join(KINDS)}); `archduel ls` lists those that there are")
    state: dict[str, Any] = {"folder": str(folder), "kind": KINDS[name], "state": "stopped"}
    try:
        settings = read_toml(folder / name)
        records = read_journal(folder / JOURNAL) if (folder / JOURNAL).is_file() else []
        result = read_result(folder) if KINDS[name] == "search" else None
    except ArchduelError as error:
        return {**state, "state": "damaged", "note": in_one_line(error)}
    section = settings.get("run" if KINDS[name] == "search" else "data", {})
    data = section.get("data" if KINDS[name] == "search" else "name")
    state |= {
        "command": settings.get("command"), "data": data, "seconds": section.get("seconds"), "records": len(records),
        "clock": max((float(r["clock"]) for r in records if isinstance(r.get("clock"), (int, float))), default=0.0),
    }  # fmt: skip
    more = [r for r in records if r.get("event") == "more"]
    if result is not None and more and state["seconds"] is not None:
        state["seconds"] += sum(r["seconds"] for r in more)
    over = result is not None or (folder / "model.json").is_file()
    if over:
        state["result"] = winner_facts(result)
    if over and going_on(records) is None:
        state["state"] = "finished"
    elif (holder := Place(folder, KINDS[name], folder / JOURNAL, folder / name).holder()) is not None:
        state |= {"state": "running", "process": holder}
    return state


def _tested(result: Mapping[str, Any]) -> str:
    """Returns which test images a run read, where it had no time for all."""
    return f"{drawn(result['test_images'], result['test_of'])} test images" if "test_of" in result else "the test images"


def line_of(state: Mapping[str, Any]) -> str:
    """Returns a state as one line."""
    told = ""
    if state.get("result"):
        result = state["result"]
        told = f"{result['test_accuracy']:.1%} of {_tested(result)}, {result['params']:,} parameters" if "test_accuracy" in result else ""
    elif state["state"] != "damaged":
        told = f"{duration(state['clock'])}{' of ' + duration(state['seconds']) if state.get('seconds') else ''}"
    return printable(f"{state['state']:10}{state['kind']:10}{state['folder']:36}  {state.get('data') or '':24}  {told or state.get('note', '')}".rstrip())


def lines_of(state: Mapping[str, Any]) -> list[str]:
    """Returns a state as lines: how far, by whom, what came out, what to do."""
    lines = [f"{state['folder']}: {state['kind']}, {state['state']}{' (process ' + str(state['process']) + ')' if 'process' in state else ''}"]
    if state["state"] == "damaged":
        return [printable(line) for line in [*lines, f"  {state['note']}"]]
    budget = f" of {duration(state['seconds'])}" if state.get("seconds") else ""
    lines += [f"  data     {state['data']}", f"  clock    {duration(state['clock'])}{budget}, {state['records']:,} records in the journal"]
    if state.get("command"):
        lines.append(f"  command  {state['command']}")
    result = state.get("result") or {}
    if "test_accuracy" in result:
        lines.append(f"  result   {result.get('text', result.get('arch'))}: {result['test_accuracy']:.2%} of {_tested(result)}, {result['params']:,} parameters")
    if state["state"] == "stopped":
        again = f"archduel resume {typed(state['folder'])}"
        lines.append(f"  next     {again} goes on")
    return [printable(line) for line in lines]

"""One dialect of all commands: former spellings are read as today's, help stands in panels, `--device auto` is this machine's best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, ClassVar

from typer.core import TyperCommand, TyperGroup

from archduel.commands.mistakes import UsageError
from archduel.errors import SettingError

__all__ = ["PANELS", "Command", "Group", "modern", "usable_device"]

PANELS: Mapping[str, str] = {
    **dict.fromkeys(("time", "evaluations", "audit", "queries", "runs", "splits", "passes", "rounds", "steps"), "Budget"),
    **dict.fromkeys(("max_params", "max_macs", "max_latency_ms", "latency_batch", "device_latency", "max_ram", "max_flash", "int8"), "Limits"),
    **dict.fromkeys(("data", "image_size", "max_images", "flip", "metric", "labels", "table"), "Data"),
    **dict.fromkeys(("device", "workers", "threads", "fused", "cores", "executor", "window", "cpus_per_task", "gpus_per_task"), "Hardware"),
    **dict.fromkeys(("out", "as_json", "quiet", "figure", "csv", "plan", "config", "track", "help"), "Run and output"),
}
"""Name of an option -> the panel of `--help` in which it stands; all others are about the method."""
METHOD = "Method"
ORDER = ("Budget", "Limits", "Data", METHOD, "Hardware", "Run and output")
MANY = 12
"""Options from which on a help page has panels."""
WAS_A_FILE = {"--json"}
"""Flags that took the name of a file before: ``--json out.json`` is ``--out out.json``."""


def modern(words: Sequence[str], former: Mapping[str, str]) -> list[str]:
    """Returns the words of a command line with today's names of options.

    Args:
        words: as somebody wrote them.
        former: option of before -> today's.
    """
    new: list[str] = []
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name not in former or "--" in words[:i] or (name in WAS_A_FILE and not (_is_file(value) if equals else i + 1 < len(words) and _is_file(words[i + 1]))):
            new.append(word)
        else:
            new.append(f"{former[name]}{equals}{value}")
    return new


def _is_file(word: str) -> bool:
    """Whether a word names a file and is neither an option nor something else that may follow a flag."""
    return not word.startswith("-") and bool(PurePath(word).suffix)


class Command(TyperCommand):
    """A command that knows former spellings and shows many options in panels."""

    former: ClassVar[Mapping[str, str]] = {}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the arguments."""
        try:
            rest: list[str] = super().parse_args(ctx, modern(args, self.former))
        except UsageError as error:
            error.ctx = getattr(error, "ctx", None) or ctx  # some do not say which command they are about
            raise
        return rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes arguments and options; those of a command with many in panels."""
        arguments: list[tuple[str, str]] = []
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if parameter.param_type_name == "argument":
                arguments.append(record)
            else:
                panels.setdefault(PANELS.get(str(parameter.name), METHOD), []).append(record)
        if sum(map(len, panels.values())) < MANY:
            panels = {"Options": [record for panel in ORDER for record in panels.get(panel, [])]}
        for title, records in (("Arguments", arguments), *((title, panels.get(title, [])) for title in ("Options", *ORDER))):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Group(TyperGroup):
    """Commands, listed with what they do in a whole sentence."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes every command with the whole first sentence of its help: half a sentence says nothing."""
        shown = [(name, command) for name in self.list_commands(ctx) if (command := self.get_command(ctx, name)) is not None and not command.hidden]
        with formatter.section("Commands"):
            formatter.write_dl([(name, " ".join((command.help or "").partition("\n\n")[0].split())) for name, command in shown])


def usable_device(device: str) -> str:
    """Returns the device that ``auto`` means here: cuda where torch can use it, else cpu; any other name as it is.

    Raises:
        SettingError: for an empty name.
    """
    if not device:
        raise SettingError("--device is empty, expected auto, cpu, cuda or cuda:1")
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

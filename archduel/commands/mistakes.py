"""Wrong words on the command line, as one line that says what was got, what was expected and what to do."""

from __future__ import annotations

from typing import Any

import typer

from archduel.errors import unknown
from archduel.text import print_line, printable

__all__ = ["UsageError", "in_our_words", "sentence"]

UsageError: Any = typer.BadParameter.__base__
"""What typer raises for wrong words, whichever copy of click it comes with."""


def in_our_words(error: Any) -> Any:
    """Returns the error, which shows itself as one line from now on; asking for help by giving nothing stays as it is."""
    if type(error).__name__ != "NoArgsIsHelpError":
        error.show = lambda file=None: print_line(printable(f"error: {sentence(error)}", lines=True), error=True)
    return error


def sentence(error: Any) -> str:
    """Returns what is wrong with a command line."""
    context, message = getattr(error, "ctx", None), str(error.message).removeprefix("Value error, ").rstrip(".")
    message = message if message.startswith("No such command") else message[:1].lower() + message[1:]
    path = _path(context)
    pages = f"{path} -h"
    option, parameter = getattr(error, "option_name", None), getattr(error, "param", None)
    if context is not None and option is not None and hasattr(error, "possibilities"):
        known = [name for each in context.command.params for name in (*each.opts, *each.secondary_opts) if name.startswith("--")]
        return str(unknown(f"{path}: option", str(option), known, command=pages))
    if parameter is not None:
        name = parameter.opts[0] if parameter.param_type_name == "option" else str(parameter.name).upper()
        meaning = getattr(parameter, "help", None)
        missing = f"{path} needs {name}{f': {meaning}' if meaning else ''}"
        return f"{missing if hasattr(error, 'param_type') else f'{name}: {message}'}; `{pages}` shows all"
    if context is not None and message.startswith("No such command"):
        names = [name for name, command in context.command.commands.items() if not command.hidden]
        return str(unknown(f"{path}: command", message.partition("'")[2].partition("'")[0], names, command=pages))
    return f"{path}: {message}; `{pages}` shows all"


def _path(context: Any) -> str:
    """Returns the words that lead to a command, however the program was started."""
    words: list[str] = []
    while context is not None and context.parent is not None:
        words.insert(0, str(context.info_name))
        context = context.parent
    return " ".join(["archduel", *words])

"""The whole command line as data, for programs: commands, options, defaults, choices, exit codes, and a JSON schema of what each prints with ``--json``."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from archduel import registry
from archduel.commands.choices import MENUS
from archduel.commands.dialect import METHOD, PANELS
from archduel.commands.schemas import OUTPUTS
from archduel.version import __version__

__all__ = ["EXIT_CODES", "interface"]

EXIT_CODES: Mapping[int, str] = {
    0: "done",
    1: "done, but not for all that was named: `predict` could not read an image, `doctor` found something broken; or a mistake of archduel's own, with its traceback",
    2: "not done, and one line says why: wrong options, data, settings, limits that nothing meets, a full disk; repeat the command once that is mended",
    3: "done, but a part is missing that should be there: `export` without `model.onnx` although the packages for it are installed",
    130: "stopped by Ctrl-C; the same command continues",
}
"""What the exit codes of every command mean."""
TYPES = {"int": "integer", "integer": "integer", "float": "number", "path": "path", "posixpath": "path", "bool": "flag", "boolean": "flag"}
"""Word for a type, of typer's newer or older kind of parameter, or of Python -> ours; all others are text."""


def interface(root: Any) -> dict[str, Any]:
    """Returns the whole command line.

    Args:
        root: the command that has all others, as typer made it.
    """
    return {
        "archduel": __version__,
        "exit_codes": {str(code): meaning for code, meaning in EXIT_CODES.items()},
        "errors": "one line on the error stream, beginning with `error: `; results go to the output stream",
        "options": [_option(parameter) for parameter in root.params],
        "commands": [_command(name, command) for name, command in _walk(root, ())],
    }


def _walk(group: Any, before: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Yields the commands below a group with their whole names, groups left out."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from _walk(command, (*before, name))
        else:
            yield " ".join((*before, name)), command


def _command(name: str, command: Any) -> dict[str, Any]:
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    arguments = [parameter for parameter in shown if parameter.param_type_name == "argument"]
    said = {"name": name, "help": (command.help or "").strip(), "arguments": [_argument(parameter) for parameter in arguments]}
    said["options"] = [_option(parameter) for parameter in shown if parameter not in arguments]
    if name in OUTPUTS:
        said["json"] = {"flag": "--json", "documents": OUTPUTS[name].documents, "schema": OUTPUTS[name].schema}
    return said


def _argument(parameter: Any) -> dict[str, Any]:
    return {"name": parameter.name, "help": parameter.help or "", "type": _type(parameter), "required": bool(parameter.required), "several": parameter.nargs == -1}


def _option(parameter: Any) -> dict[str, Any]:
    said: dict[str, Any] = {
        "names": [*parameter.opts, *parameter.secondary_opts], "help": parameter.help or "", "type": _type(parameter), "required": bool(parameter.required),
        "several": bool(parameter.multiple), "default": _plain(parameter.default), "panel": PANELS.get(str(parameter.name), METHOD),
    }  # fmt: skip
    annotation, older = _annotation(parameter), getattr(parameter, "type", None)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        said["choices"] = [_plain(choice) for choice in annotation]
    elif older is not None and hasattr(older, "choices"):
        said["choices"] = list(older.choices)
    elif parameter.name in MENUS:
        said["menu"] = registry.names(MENUS[parameter.name])
    ends = {end: getattr(parameter, end, None) if older is None else getattr(older, end, None) for end in ("min", "max")}
    return said | {end: value for end, value in ends.items() if value is not None}


def _annotation(parameter: Any) -> Any:
    """Returns the Python type of a parameter, that of its items where it takes several; None where typer is older and has its own kinds."""
    found = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    inner = [part for part in get_args(found) if part is not type(None)]
    return inner[0] if inner else found


def _type(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return "flag"
    annotation = _annotation(parameter)
    name = parameter.type.name.split()[0] if annotation is None else getattr(annotation, "__name__", "text")
    return TYPES.get(str(name).lower(), "text")


def _plain(value: Any) -> Any:
    """Returns a default as JSON has it, None where there is none or it is found when the command runs."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Path):
        return value.as_posix()
    return value if isinstance(value, (str, int, float, bool)) else [_plain(item) for item in value] if isinstance(value, (list, tuple)) else None

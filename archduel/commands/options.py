"""Options that several commands have, declared once, and the one reader of what people write into them."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_type_hints

import typer
from typer.models import ParameterInfo

from archduel.commands.choices import OneOf, plain, shown
from archduel.commands.dialect import Command, usable_device
from archduel.errors import SettingError, as_number, brief

__all__ = [
    "SPACE_SETTINGS",
    "AsJson",
    "BatchSize",
    "CheckedData",
    "Device",
    "FieldsOf",
    "FlatLabels",
    "Fused",
    "ImageSize",
    "Images",
    "JobFolder",
    "MaxImages",
    "Metric",
    "NoProgress",
    "Quiet",
    "RecipeChanges",
    "RecordFile",
    "ResumableFile",
    "Seed",
    "SpaceName",
    "TableName",
    "TextSpace",
    "Track",
    "TrainingOptions",
    "Workers",
    "add_command",
    "assignment",
    "assignments",
    "command_line",
    "given",
    "json_or_text",
    "names",
    "numbers",
    "parse_bytes",
    "parse_count",
    "parse_seconds",
    "plain_value",
    "read_entries",
    "running_for",
]  # fmt: skip

# -- Options of several commands ----------------------------------------------------------------------------------------

Images = Annotated[str, typer.Argument(help="what `archduel search` takes: a folder, .npz, digits ...")]
JobFolder = Annotated[Path, typer.Option("--out", help="folder of the job; the same command continues it")]
TableName = Annotated[str, typer.Option(help="name (`archduel table list`) or file of a table")]
SpaceName = Annotated[str, typer.Option(help="`archduel list spaces`")]
TextSpace = Annotated[str, typer.Option(help="`archduel list spaces`; not needed where a text says its space")]
SPACE_SETTINGS = "NAME=VALUE of the space, such as preset=ctnas; repeat for more"
RecipeChanges = Annotated[
    list[str] | None, typer.Option("--set", help="NAME=VALUE of the recipe, such as --set epochs=4; repeat for more")
]
CheckedData = Annotated[str | None, typer.Option(help="test images; default: the test split of the training's own data")]
FlatLabels = Annotated[Path | None, typer.Option(help="flat folder of images: file with NAME CLASS lines")]
BatchSize = Annotated[int, typer.Option(help="images a forward pass")]
MaxImages = Annotated[int | None, typer.Option(help="use at most so many images")]
ImageSize = Annotated[int | None, typer.Option(help="side in pixels; default chosen from the images")]
Metric = Annotated[str, typer.Option(help="what counts as good"), OneOf("accuracy", "balanced_accuracy", "macro_f1")]
Seed = Annotated[int, typer.Option(help="seed of everything random")]
Device = Annotated[str, typer.Option(callback=usable_device, help="auto (cuda where it is, else cpu), cpu, cuda:1")]
Workers = Annotated[int, typer.Option(min=1, help="trainings at a time")]
Fused = Annotated[str, typer.Option(help="networks trained at once in one process: a number, auto (measured) or off")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of lines")]
RecordFile = Annotated[Path | None, typer.Option("--out", help="write the records to this JSON file")]
ResumableFile = Annotated[Path | None, typer.Option("--out", help="write the records to this JSON file; what is finished is kept beside it")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="print nothing")]
Track = Annotated[str, typer.Option(help="also tell a tracker: tensorboard, mlflow, wandb, optuna (`archduel list trackers`), or package.module:Class")]
NoProgress = Annotated[bool, typer.Option("--quiet", "-q", help="print no progress")]


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """Who trains, where, on which part of the data: options of every job of cheap trainings."""

    max_images: MaxImages = None
    image_size: ImageSize = None
    metric: Metric = "accuracy"
    seed: Seed = 0
    device: Device = "auto"
    workers: Workers = 1
    fused: Fused = "off"
    quiet: Quiet = False


# -- Options that are the fields of a class -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class FieldsOf:
    """Marks a parameter ``Annotated[dict[str, Any], FieldsOf(...)]``: it becomes one option a field of a class.

    A field's default is the option's; its help is the ``typer.Option`` in its annotation or its pydantic description. The
    command gets all of them as one mapping.

    Attributes:
        target: ``package.module:Class``, a dataclass or a pydantic model. It is imported when the command's options are
            needed, so that ``archduel --help`` pays for none of it.
        without: fields that are no options.
        texts: fields that people write as texts (``500k``), which the class reads.
        decided: fields without a default on the command line: something decides where none was given.
        flags: options that are not called like their field, as (field, ``--flag``).
    """

    target: str
    without: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    decided: tuple[str, ...] = ()
    flags: tuple[tuple[str, str], ...] = ()

    def parameters(self) -> list[inspect.Parameter]:
        """Returns one keyword parameter a field, annotated for typer."""
        module, _, name = self.target.partition(":")
        fields = _fields(getattr(import_module(module), name))
        return [self._parameter(*field) for field in fields if field[0] not in self.without]

    def _parameter(self, name: str, annotation: Any, info: ParameterInfo, default: Any) -> inspect.Parameter:
        if name in self.texts:
            annotation = str | None
        if name in self.decided:
            annotation, default = annotation | None, None
        flag = dict(self.flags).get(name)
        described = Annotated[annotation, info if flag is None else typer.Option(flag, help=info.help)]
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=described)


def _fields(cls: type) -> Iterator[tuple[str, Any, ParameterInfo, Any]]:
    """Yields name, plain type, option and default of each field of a dataclass or a pydantic model."""
    if dataclasses.is_dataclass(cls):
        hints = get_type_hints(cls, include_extras=True)
        for field in dataclasses.fields(cls):
            annotation, *metadata = get_args(hints[field.name])
            choices = [mark for mark in metadata if isinstance(mark, OneOf)]
            yield field.name, Annotated[(annotation, *choices)] if choices else annotation, _option(metadata, ""), field.default
        return
    model: Any = cls
    for name, field in model.model_fields.items():
        words = get_args(field.annotation)
        # typer 0.18 knows no Literal
        annotation = Annotated[str, OneOf(*words)] if words and all(isinstance(word, str) for word in words) else field.annotation
        if field.is_required():
            yield name, annotation, typer.Argument(help=field.description), inspect.Parameter.empty
        else:
            yield name, annotation, _option(field.metadata, field.description), field.default


def _option(metadata: Sequence[Any], description: str | None) -> ParameterInfo:
    declared = next((entry for entry in metadata if isinstance(entry, ParameterInfo)), None)
    option: ParameterInfo = declared or typer.Option(help=description)
    return option


def _sources(function: Callable[..., Any]) -> dict[str, FieldsOf]:
    hints = get_type_hints(function, include_extras=True)
    marks = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {name: mark for name, found in marks.items() for mark in found if isinstance(mark, FieldsOf)}


def _spelled_out(function: Callable[..., None]) -> Callable[..., None]:
    """Returns ``function`` with one keyword parameter a field where it has a parameter marked :class:`FieldsOf`, and with its choices."""
    sources = {name: source.parameters() for name, source in _sources(function).items()}
    hints = get_type_hints(function, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for own in inspect.signature(function).parameters.values():
        alone = own.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[own.name])
        parameters += map(shown, sources.get(own.name, [alone]))

    def call(**values: Any) -> None:
        values = plain(values)
        for name, fields in sources.items():
            values[name] = {field.name: values.pop(field.name) for field in fields}
        function(**values)

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call


class _LateCommand(Command):
    """A command whose options are made when somebody asks for them, not when the menu of commands is printed."""

    build: ClassVar[Callable[[], Any]]
    bare: ClassVar[Mapping[str, str]] = {}

    @property
    def params(self) -> list[Any]:
        """The options and arguments, made now."""
        parameters: list[Any] = type(self).build().params
        return parameters

    @params.setter
    def params(self, parameters: list[Any]) -> None:
        """Ignores those of the stub that stands for the command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the arguments; options that may stand alone get their value first."""
        full: list[str] = []
        for i, word in enumerate(args):
            full.append(word)
            if word in self.bare and (i + 1 == len(args) or args[i + 1].startswith("-")):
                full.append(self.bare[word])
        rest: list[str] = super().parse_args(ctx, full)
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that was built."""
        return type(self).build().invoke(ctx)


def add_command(
    group: typer.Typer, function: Callable[..., None], name: str = "", *, bare: Mapping[str, str] | None = None,
    former: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Adds ``function`` to ``group`` as the command ``name`` (or its own name), with :class:`FieldsOf` spelled out.

    Args:
        group: of commands.
        function: does it.
        name: of the command.
        bare: option whose value may be left out -> the value it then has; for functions with :class:`FieldsOf`.
        former: name of an option that was -> its name today; written in scripts, shown nowhere.
    """
    name = name or function.__name__
    if not _sources(function):
        group.command(name, cls=type("PlainCommand", (Command,), {"former": dict(former or {})}))(_spelled_out(function))
        return

    @cache
    def build() -> Any:
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(name)(_spelled_out(function))
        return typer.main.get_command(alone)

    def stub() -> None:
        """Stands for the command in menus."""

    stub.__doc__ = function.__doc__
    late = type("LateCommand", (_LateCommand,), {"build": staticmethod(build), "bare": dict(bare or {}), "former": dict(former or {})})
    group.command(name, cls=late)(stub)


# -- What people write --------------------------------------------------------------------------------------------------

_TIME = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}
LONGEST_NUMBER = 100
"""Characters of a number or a time at most."""
LONGEST_TIME = 3.2e9
"""Seconds of a time at most, a hundred years."""
Number = TypeVar("Number", int, float)


def json_or_text(text: str) -> Any:
    """Returns the value of ``text`` where it is JSON (``3``, ``true``, ``[1, 2]``), otherwise the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text.strip()


def _written(option: str, example: str) -> str:
    return f"{option} {example}" if option.startswith("--") else example


def assignment(text: str, option: str = "--set", example: str = "epochs=2", *, form: str = "NAME=VALUE") -> tuple[str, str]:
    """Returns name and value of ``NAME=VALUE``, the value as it was written.

    Args:
        text: what somebody wrote.
        option: the option it was given to, or what it is a setting of; for the message.
        example: right text, for the message.
        form: of the text, for the message.

    Raises:
        SettingError: for text without an equals sign or a name.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise SettingError(f"{option} {text}: expected {form}, such as {_written(option, example)}")
    return name.strip(), value


def assignments(
    texts: Sequence[str] | None, option: str = "--set", example: str = "epochs=2", *, form: str = "NAME=VALUE"
) -> dict[str, Any]:
    """Returns ``{"epochs": 2}`` of ``["epochs=2"]``; see :func:`json_or_text` and :func:`assignment`."""
    pairs = (assignment(text, option, example, form=form) for text in texts or ())
    return {name: json_or_text(value) for name, value in pairs}


def names(text: str) -> list[str]:
    """Returns the parts of ``text`` between commas, without blanks."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(text: str, option: str, kind: Callable[[str], Number], *, example: str = "50,100,150") -> list[Number]:
    """Returns the numbers of ``50,100,150``.

    Args:
        text: what somebody wrote.
        option: the option it was given to, for the message.
        kind: int or float.
        example: right text, for the message.

    Raises:
        SettingError: if a part is no such number.
    """
    try:
        return [kind(part) for part in names(text)]
    except ValueError as error:
        wanted = "whole numbers" if kind is int else "numbers"
        raise SettingError(f"{option} {text}: expected {wanted} separated by commas, such as {_written(option, example)}") from error


def given(**options: Any) -> dict[str, Any]:
    """Returns the options that are not None: those that somebody gave."""
    return {name: value for name, value in options.items() if value is not None}


def command_line() -> str:
    """Returns the command that is running, quoted so that it can be pasted into a shell."""
    return shlex.join(["archduel", *sys.argv[1:]])


def running_for() -> float:
    """Returns the seconds since this process began where it was started as the command, whose user waits from then on; else 0."""
    program = Path(sys.argv[0])
    if program.stem != "archduel" and program.parts[-2:] != ("archduel", "__main__.py"):
        return 0.0  # a notebook or a script may have run for hours
    computed = time.process_time()
    try:
        # the text before the last bracket is the program's name, which may hold anything; field 22 is when it began
        began = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - began
    except (OSError, AttributeError, ValueError, IndexError):
        return computed  # no Linux: at least what was computed
    return age if computed <= age < computed + MOST_STARTING else computed


MOST_STARTING = 300.0
"""Seconds of waiting for a disk or for other programs after which the age of a process is taken to be read wrongly."""


def parse_seconds(text: str | float | timedelta, option: str = "") -> float:
    """Returns seconds of ``90``, ``90s``, ``20m``, ``2h``, ``1h30m`` or a duration; ``option`` is where it was written, for the message.

    Raises:
        SettingError: for any other text or a time that is not above 0.
    """
    if isinstance(text, timedelta):
        seconds = text.total_seconds()
    elif not isinstance(text, str):
        seconds = as_number(option or "a time", text)
    elif len(text) < LONGEST_NUMBER and re.fullmatch(r"(\d+(\.\d+)?[smhd])+|\d+(\.\d+)?", text.strip().lower(), re.ASCII):
        parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip().lower())
        seconds = sum(float(number) * _TIME[unit or "s"] for number, unit in parts)
    else:
        raise SettingError(f"{option} {brief(text)} is not a time; write 90s, 20m, 2h or 1h30m".lstrip())
    if not 0 < seconds < LONGEST_TIME:
        raise SettingError(f"{option or 'a time'} must be above 0 and below {LONGEST_TIME / 86400:,.0f} days, got {brief(text)}")
    return seconds


def parse_count(text: str | float | int, option: str = "") -> int:
    """Returns the number in ``500000``, ``500k``, ``1.5M`` or ``2G``; ``option`` is where it was written, for the message.

    Raises:
        SettingError: for any other text or a number that is not above 0.
    """
    if not isinstance(text, str):
        number = as_number(option or "a limit", text)
    else:
        match = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d{1,2})?)\s*([kmgb]?)", text.strip().lower(), re.ASCII) if len(text) < LONGEST_NUMBER else None
        if not match:
            raise SettingError(f"{option} {brief(text)} is not a number; write 500000, 500k, 1.5M or 2G".lstrip())
        number = float(match[1]) * _SIZE[match[2]]
    if not 0 < number < 2**63:
        raise SettingError(f"{option or 'a limit'} must be above 0 and below 2**63, got {brief(text)}")
    return round(number)


_BYTES = {"": 1, "B": 1, "kB": 1000, "KB": 1000, "MB": 10**6, "GB": 10**9, "KiB": 1024, "kiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def parse_bytes(text: str | float | int, option: str = "") -> int:
    """Returns the bytes in ``65536``, ``64kB`` (64,000), ``0.5MB`` or ``64KiB`` (65,536); ``option`` is where it was written.

    Raises:
        SettingError: for any other text, ``64kb`` among them, which are bits, or a number that is not above 0.
    """
    if not isinstance(text, str):
        number = as_number(option or "a limit", text)
    else:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip(), re.ASCII) if len(text) < LONGEST_NUMBER else None
        if not match or match[2] not in _BYTES:
            raise SettingError(f"{option} {brief(text)} is no number of bytes; write 65536, 64kB (1,000 bytes each), 64KiB (1,024 each) or 0.5MB".lstrip())
        number = float(match[1]) * _BYTES[match[2]]
    if not 1 <= number < 2**63:
        raise SettingError(f"{option or 'a limit'} must be at least 1 byte and below 2**63, got {brief(text)}")
    return round(number)


def plain_value(value: Any) -> Any:
    """Returns a setting given in Python as JSON has it: scalars of NumPy and torch, fractions, durations (seconds), paths.

    Raises:
        SettingError: for an object that is no such value, a number that is not finite, or text that is no UTF-8.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, (Decimal, Fraction)):
        value = float(value)
    if type(value).__module__.partition(".")[0] in ("numpy", "torch") and hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {plain_value(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingError(f"{value} is no setting; leave it out where there is no limit")
    if value is not None and not isinstance(value, (str, int, float)):
        raise SettingError(f"{brief(value)} is no setting: expected a number, a text, true or false, or lists and mappings of them")
    if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
        raise SettingError(f"{brief(value)} has bytes that are no UTF-8, which no settings file can hold; rename it")
    return value


def read_entries(text: str, role: str, *, example: str, menu: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields each entry of ``best,nac[epochs=500;antisymmetric=false]`` as written, its name and its settings.

    Args:
        text: entries between commas.
        role: what they are, for messages.
        example: an entry with a setting, for messages.
        menu: the command that shows the names.

    Raises:
        SettingError: for text of another form, an entry that is named twice, or none.
    """
    seen: set[str] = set()
    for title in _split(text):
        name, bracket, rest = title.partition("[")
        if bracket and not rest.endswith("]"):
            raise SettingError(f"{role} {title!r}: settings end with ']', such as {example}")
        parts = [part for part in rest[:-1].split(";") if part.strip()]
        yield title, name, assignments(parts, f"{role} {title!r}:", example)
        # the caller knows the menu: an unknown name is reported before a repeated one
        if title in seen:
            raise SettingError(f"{role} {title!r} is named twice; give each once, or other settings")
        seen.add(title)
    if not seen:
        raise SettingError(f"no {role} was named; `{menu}` shows them")


def _split(text: str) -> list[str]:
    """Returns the parts between commas that stand in no brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]

"""How commands name menu entries with settings: ``best,nac[epochs=500;antisymmetric=false]``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from archduel.errors import SettingError

__all__ = ["parse_count", "parse_seconds", "read_entries", "settings_of"]


def settings_of(texts: Sequence[str]) -> dict[str, Any]:
    """Returns the settings of ``KEY=VALUE`` texts; a value is JSON where it can be, otherwise a text.

    Raises:
        SettingError: for another form.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise SettingError(f"{text!r} is not KEY=VALUE")
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    return settings


def _assignments(values: list[str]) -> dict[str, Any]:
    """Returns ``{"strategy.lr": 0.0001}`` of ``["strategy.lr=1e-4"]``; values are JSON where they can be."""
    found: dict[str, Any] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals:
            raise SettingError(f"--set {value}: expected SECTION.NAME=VALUE, such as --set strategy.lr=1e-4")
        try:
            found[key.strip()] = json.loads(text)
        except ValueError:
            found[key.strip()] = text
    return found


_TIME = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}


def parse_seconds(text: str | float | int) -> float:
    """Returns seconds of ``90``, ``90s``, ``20m``, ``2h`` or ``1h30m``.

    Raises:
        SettingError: for any other text or a time that is not above 0.
    """
    if isinstance(text, (int, float)):
        seconds = float(text)
    elif re.fullmatch(r"(\d+(\.\d+)?[smhd])+|\d+(\.\d+)?", text.strip().lower()):
        parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip().lower())
        seconds = sum(float(number) * _TIME[unit or "s"] for number, unit in parts)
    else:
        raise SettingError(f"{text!r} is not a time; write 90s, 20m, 2h or 1h30m")
    if not seconds > 0:
        raise SettingError(f"a time must be above 0, got {text!r}")
    return seconds


def parse_count(text: str | float | int) -> int:
    """Returns the number in ``500000``, ``500k``, ``1.5M`` or ``2G``.

    Raises:
        SettingError: for any other text or a number that is not above 0.
    """
    if isinstance(text, (int, float)):
        number = float(text)
    else:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgb]?)", text.strip().lower())
        if not match:
            raise SettingError(f"{text!r} is not a number; write 500000, 500k, 1.5M or 2G")
        number = float(match[1]) * _SIZE[match[2]]
    if not number > 0:
        raise SettingError(f"a limit must be above 0, got {text!r}")
    return round(number)


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise SettingError(f"{option} {text}: expected NAME=VALUE, such as {option} epochs=2")
    return name.strip(), value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _changes(texts: list[str], option: str = "--set") -> dict[str, Any]:
    return {name: _value(value) for name, value in (_pair(text, option) for text in texts)}


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise SettingError(f"--queries {text}: expected numbers separated by commas, such as 50,100,150") from error


def _settings(values: list[str]) -> dict[str, dict[str, Any]]:
    """Returns ``{"evolution": {"population": 50}}`` of ``["evolution.population=50"]``; values are JSON where they can be."""
    found: dict[str, dict[str, Any]] = {}
    for value in values:
        key, equals, text = value.partition("=")
        strategy, dot, name = key.strip().partition(".")
        if not equals or not dot:
            raise SettingError(f"--set {value}: expected STRATEGY.NAME=VALUE, such as --set evolution.population=50")
        try:
            found.setdefault(strategy, {})[name] = json.loads(text)
        except ValueError:
            found.setdefault(strategy, {})[name] = text
    return found


def _progress(done: int, all_: int) -> None:
    """Tells how far it is: one line that changes on a terminal, twenty lines elsewhere."""
    live = sys.stderr.isatty()
    if live or done == all_ or done % max(1, all_ // 20) == 0:
        end = "\n" if done == all_ or not live else ""
        print(f"{chr(13) if live else ''}{done} of {all_} searches", file=sys.stderr, end=end, flush=True)


def read_entries(text: str, role: str, *, example: str, menu: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields each entry as it was written, its name and its settings (JSON where they can be, else text).

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
        settings = dict(_setting(role, title, part) for part in rest[:-1].split(";") if part.strip())
        yield title, name, settings  # the caller knows the menu: an unknown name is said before a repeated one
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


def _setting(role: str, title: str, text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise SettingError(f"{role} {title!r}: {text!r} should be NAME=VALUE")
    try:
        return key.strip(), json.loads(value)
    except ValueError:
        return key.strip(), value.strip()

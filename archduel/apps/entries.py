"""How commands name menu entries with settings: ``best,nac[epochs=500;antisymmetric=false]``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from archduel.errors import SettingError

__all__ = ["read_entries"]


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

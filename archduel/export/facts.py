"""Facts about a network as Markdown lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["fact_lines"]


def fact_lines(facts: Mapping[str, Any]) -> list[str]:
    """Returns one bullet a fact, names readable, nested mappings in one line."""
    return [f"- {_name(name)}: {_text(value)}" for name, value in facts.items()]


def _name(name: str) -> str:
    known = {"params": "parameters", "macs": "multiply-adds for one picture"}
    return known.get(name, name.replace("_", " "))


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{_name(str(name))} {_text(part)}" for name, part in value.items())
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not known"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_text, value))
    return str(value)

"""What ``model.json`` may say. The file may come from a stranger: nothing of it is built, shown or run before it was looked at."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from archduel.core import Scale
from archduel.core.disk import lacking
from archduel.data import Preprocessing
from archduel.errors import RunError

__all__ = ["NEEDED", "check_facts"]

NEEDED = ("arch", "scale", "classes", "preprocessing")
MOST = {"channels": 8192, "depth": 1000, "image_size": 8192, "in_channels": 64, "n_classes": 1_000_000}
"""Far above any network of the spaces, and far below what fills a machine's memory before weights could be compared."""
RULES = ("crop", "inner", "letterbox", "none")
CHANNELS = {"RGB": 3, "L": 1}
LONGEST_TEXT = 200_000  # letters; the longest text of an architecture has two thousand


def check_facts(facts: Mapping[str, Any], where: str) -> None:
    """Returns nothing where the facts of a network can be used.

    Raises:
        RunError: naming ``where``, what was got and what was expected.
    """
    reason = _fault(facts)
    if reason:
        raise RunError(f"{where} {reason}; train or fetch the network again")


def _fault(facts: Mapping[str, Any]) -> str:
    """Returns what is wrong, empty for nothing."""
    if absent := [name for name in NEEDED if name not in facts]:
        return f"lacks {', '.join(absent)}"
    text = (str, type(None))
    kinds = {"arch": text, "scale": dict, "classes": list, "preprocessing": dict}
    optional = {"text": text, "options": (dict, type(None)), "sha256": str, "name": text, "data": (dict, type(None)), "test": (dict, type(None))}
    reason = lacking(facts, {**kinds, **{name: kind for name, kind in optional.items() if name in facts}})  # type: ignore[dict-item,misc]
    if reason:
        return f"is damaged ({reason})"
    words = facts["arch"] or facts.get("text")
    if not words or len(str(words)) > LONGEST_TEXT:
        return "names no architecture (arch or text), or one of endless length"
    wrong = _wrong_scale(facts["scale"]) or _wrong_look(facts["preprocessing"], facts["scale"]) or _wrong_classes(facts)
    return f"is damaged ({wrong})" if wrong else ""


def _wrong_scale(scale: Mapping[str, Any]) -> str:
    needed = {field.name for field in fields(Scale)}
    if strange := [name for name in scale if name not in needed]:
        return f"scale has {strange[0]!r}, expected {', '.join(sorted(needed))}"
    missing = {field.name for field in fields(Scale) if field.default is MISSING and field.name not in scale}
    if missing:
        return f"scale lacks {', '.join(sorted(missing))}"
    for name, value in scale.items():
        most = MOST.get(name, 1_000_000)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            return f"scale's {name} is {_brief(value)}, expected a whole number from 1 to {most:,}"
    return ""


def _wrong_look(look: Mapping[str, Any], scale: Mapping[str, Any]) -> str:
    """Returns what is wrong with the preprocessing of a network of ``scale``."""
    known = {field.name for field in fields(Preprocessing)}
    if strange := [name for name in look if name not in known]:
        return f"preprocessing has {_brief(strange[0])}, which this version of archduel does not know"
    if missing := [field.name for field in fields(Preprocessing) if field.name not in look and field.default is MISSING]:
        return f"preprocessing lacks {', '.join(missing)}"
    if look["mode"] not in CHANNELS or look["rule"] not in RULES:
        return f"preprocessing has mode {_brief(look['mode'])} and rule {_brief(look['rule'])}, expected RGB or L and one of {', '.join(RULES)}"
    size, channels = look["size"], scale.get("in_channels", 3)
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MOST["image_size"]:
        return f"preprocessing's size is {_brief(size)}, expected a number of pixels"
    for name in ("mean", "std"):
        values = look[name]
        fine = isinstance(values, list) and len(values) == channels == CHANNELS[look["mode"]] and all(_is_number(value) for value in values)
        if not fine or (name == "std" and min(values) <= 0):
            return f"preprocessing's {name} is {_brief(values)}, expected {channels} numbers{' above 0' if name == 'std' else ''}, one a channel"
    return ""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _wrong_classes(facts: Mapping[str, Any]) -> str:
    classes, outputs = facts["classes"], facts["scale"].get("n_classes")
    if not all(isinstance(name, str) for name in classes):
        return "classes are not all texts"
    if outputs is not None and len(classes) != outputs:
        return f"{len(classes)} classes are named, the network has {outputs} outputs"
    options = facts.get("options") or {}
    plain = (str, int, float, bool, type(None), list, dict)
    if not all(isinstance(value, plain) for value in options.values()):
        return "options are no plain values"
    return ""


def _brief(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:56]} ..."

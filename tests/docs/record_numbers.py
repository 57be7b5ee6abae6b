"""The numbers that a record says, each with the words by which it is called there.

Those are its own numbers, the numbers in its texts, and what is usually said of a list of numbers: mean, median, least, largest, sum,
count, standard deviation and half of the 95 % interval, of all rows and of the rows that agree in a text.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterator
from functools import cache
from typing import Any

from figures import RECORDS
from scipy.stats import t as student

NUMBER = re.compile(r"(\d[\d,]*(?:\.\d+)?(?:e-?\d+)?)(?:([kM])\b)?")
SUFFIX = {"k": 1e3, "M": 1e6, "": 1.0}


@cache
def load(name: str) -> Any:
    """Returns the content of a record; lines become a list."""
    text = (RECORDS / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()] if name.endswith("l") else json.loads(text)


@cache
def numbers(name: str) -> dict[str, tuple[float, frozenset[str]]]:
    """Returns name of the number -> its value and the words that stand around it in the record."""
    result: dict[str, tuple[float, frozenset[str]]] = {}
    for path, value, words in _numbers(load(name), "", frozenset()):
        if math.isfinite(value):
            result.setdefault(path, (value, words))
    return result


def words(text: str) -> frozenset[str]:
    """Returns the words and numbers of a text, names with underscores and camel case taken apart."""
    return frozenset(re.findall(r"\d+(?:\.\d+)?|[a-z]+", re.sub(r"(?<=\d),(?=\d{3})", "", text).replace("_", " ").lower()))


def _numbers(node: Any, path: str, around: frozenset[str]) -> Iterator[tuple[str, float, frozenset[str]]]:
    if node is None or isinstance(node, bool):
        return
    if isinstance(node, (int, float)):
        yield path, float(node), around
    elif isinstance(node, str):
        for i, (number, suffix) in enumerate(NUMBER.findall(node[:4000])):
            yield f"{path} ~{i}", float(number.replace(",", "")) * SUFFIX[suffix], around
    else:
        yield from _inside(node, path, around)


def _inside(node: Any, path: str, around: frozenset[str]) -> Iterator[tuple[str, float, frozenset[str]]]:
    pairs = list(node.items()) if isinstance(node, dict) else list(enumerate(node))
    yield f"{path} entries", float(len(pairs)), around
    rows = [value for _, value in pairs]
    if len(rows) > 1:
        for name, column, level in _columns(rows):
            yield from ((f"{path}[*]{name} {how}", value, around | words(f"{name} {how}") | level) for how, value in _summaries(column))
    if isinstance(node, dict):
        yield from _intervals(node, path, around)
    beside = around | (words(" ".join(str(v) for v in node.values() if isinstance(v, (str, int))) [:300]) if isinstance(node, dict) else frozenset())
    for key, value in pairs:
        yield from _numbers(value, f"{path}[{key}]" if isinstance(node, list) else f"{path}.{key}".lstrip("."), beside | words(str(key)))


def _intervals(node: dict[str, Any], path: str, around: frozenset[str]) -> Iterator[tuple[str, float, frozenset[str]]]:
    """Yields half of each interval that is given by its ends."""
    for key, low in node.items():
        high = node.get(key[: -len("low")] + "high") if key.endswith("low") else None
        if isinstance(low, float) and isinstance(high, float):
            yield f"{path}.{key[:-3]}half".lstrip("."), (high - low) / 2, around | words(key)


def _columns(rows: list[Any]) -> Iterator[tuple[str, list[float], frozenset[str]]]:
    """Yields the lists of numbers that stand at one place of all rows, together and for each value of each text."""
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in rows):
        yield "", [float(v) for v in rows], frozenset()
        return
    if not all(isinstance(row, dict) for row in rows):
        return
    flat = [dict(_flat(row)) for row in rows]
    texts = {key for row in flat for key, value in row.items() if isinstance(value, (str, bool))}
    keys = sorted({key for row in flat for key, value in row.items() if isinstance(value, float)})
    groups = [("", frozenset(), flat)]
    for key in sorted(texts):
        levels = sorted({str(row[key]) for row in flat if key in row})
        if 1 < len(levels) <= 20:
            groups += [(f" of {key}={level[:60]}", words(level), [row for row in flat if str(row.get(key)) == level]) for level in levels]
    for name, level, group in groups:
        for key in keys:
            column = [row[key] for row in group if isinstance(row.get(key), float)]
            if len(column) > 1:
                yield f".{key}{name}", column, level


def _flat(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, (bool, str)):
            yield prefix + key, value
        elif isinstance(value, (int, float)):
            yield prefix + key, float(value)


def _summaries(column: list[float]) -> Iterator[tuple[str, float]]:
    column = [value for value in column if math.isfinite(value)]
    if column:
        yield from (("mean", statistics.fmean(column)), ("median", statistics.median(column)), ("min", min(column)), ("max", max(column)), ("sum", math.fsum(column)), ("count", float(len(column))))
    if len(column) > 1:
        deviation = statistics.stdev(column)
        yield "deviation", deviation
        yield "half interval", float(student.ppf(0.975, len(column) - 1)) * deviation / math.sqrt(len(column))

"""What each command prints with ``--json``, as JSON Schema (draft 2020-12). Fields may be added; none of these goes or changes its kind without a new version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["OUTPUTS", "Output"]

Schema = dict[str, Any]


@dataclass(frozen=True)
class Output:
    """What a command prints with ``--json``.

    Attributes:
        documents: ``one``, or ``lines``: one JSON document a line, none or many.
        schema: of each document.
    """

    documents: str
    schema: Schema


KINDS: Mapping[str, Schema] = {
    "text": {"type": "string"}, "number": {"type": "number"}, "count": {"type": "integer", "minimum": 0}, "whole": {"type": "integer"}, "share": {"type": "number", "minimum": 0, "maximum": 1},
    "flag": {"type": "boolean"}, "map": {"type": "object"}, "list": {"type": "array"}, "texts": {"type": "array", "items": {"type": "string"}},
    "maps": {"type": "array", "items": {"type": "object"}}, "numbers": {"type": "array", "items": {"type": "number"}}, "any": {},
}  # fmt: skip
"""Word -> schema; a question mark behind the word: or null."""


def _of(kind: str) -> Schema:
    schema = KINDS[kind.removesuffix("?")]
    return {"anyOf": [schema, {"type": "null"}]} if kind.endswith("?") else dict(schema)


def _record(needs: str, may: str = "", **nested: Schema) -> Schema:
    """Returns the schema of an object: ``name:kind`` of fields that are always there and of those that may be, and schemas of fields that are objects."""
    fields = {name: _of(kind) for name, _, kind in (word.partition(":") for word in f"{needs} {may}".split())}
    required = [word.partition(":")[0] for word in needs.split()]
    return {"type": "object", "properties": {**fields, **nested}, "required": required}


def _lines(schema: Schema) -> Output:
    return Output("lines", schema)


def _list(schema: Schema) -> Output:
    return Output("one", {"type": "array", "items": schema})


_STATE = _record(
    "folder:text kind:text state:text", "command:text? data:text? seconds:number? records:count clock:number process:text note:text",
    state={"enum": ["finished", "running", "stopped", "damaged"]}, kind={"enum": ["search", "training"]},
    result=_record("", "arch:text text:text params:count macs:count latency_ms:number test_accuracy:share test_images:count test_of:count"),
)  # fmt: skip
_SIDE = _record("from:text name:text params:count macs:count")
_DEVICE = _record("device:text kit:map median_ms:map iqr_ms:map facts:map missing:list", "digest:text")
_ARCH = _record("arch:text fingerprint:text", "text:text params:count macs:count")
_SPACE = _record("space:text size:any kinds:map", "features:count graphs:flag about:text example:text")
_RECIPE = _record("name:text settings:map", "about:text source:text deviations:texts spaces:texts options:map")
_NETWORK = _record("name:text source:text", "space:text? arch:text? fingerprint:text? text:text? weights:any params:count macs:count")
_SEARCHED = "strategy:text queries:count runs:count facts:map"
_TESTED = " ".join(
    f"{name}:number?" for name in ("mean_test", "median_test", "std_test", "best_test", "mean_validation", "mean_regret", "mean_regret_area", "share_best", "mean_to_best", "median_to_best", "lower_to_best", "upper_to_best", "seconds", "paid_queries", "cpu_seconds", "p_wilcoxon", "p_holm")
)

OUTPUTS: Mapping[str, Output] = {
    "ls": _lines(_STATE),
    "status": Output("one", _STATE),
    "doctor": _lines(_record("what:text state:text note:text", state={"enum": ["ok", "missing", "warning", "broken"]})),
    "eval": Output("one", _record(
        "top1:share loss:number per_class:maps", "top1_interval:numbers top5:share? balanced_accuracy:share macro_f1:share ece:share calibration:maps notes:texts",
        network=_record("from:text", "arch:text? params:count macs:count"), data=_record("name:text split:text pictures:count"),
    )),
    "predict": _lines({"anyOf": [
        _record("file:text classes:map", classes={"type": "object", "additionalProperties": KINDS["share"]}), _record("file:text error:text"),
    ]}),
    "compare": Output("one", _record(
        "p:share? sentence:text test:text data:text split:text pairs:maps", first=_SIDE, second=_SIDE,
        difference=_record("value:number n:count", "low:number? high:number?"),
    )),
    "latency": _lines(_record("network:text median_ms:number iqr_ms:number n:count batch:count device:text", "image_size:count channels:count depth:count images_per_second:number")),
    "describe": _lines({"anyOf": [_ARCH, _SPACE]}),
    "show": Output("one", {"anyOf": [
        _NETWORK, _SPACE, _RECIPE, {"type": "object", "properties": {"architecture": _NETWORK, "space": _SPACE, "recipe": _RECIPE}, "minProperties": 2},
    ]}),
    "zoo list": _lines(_record("name:text space:text params:count weights:texts source:text")),
    "zoo show": Output("one", _NETWORK),
    "backbones list": _lines(_record("name:text params:count macs:count resolution:count licence:text here:text?", "top1:share? package:text? file:text? address:text?")),
    "device add": Output("one", _DEVICE),
    "device list": _lines(_record("device:text digest:text networks:count", "machine:text")),
    "device show": Output("one", _DEVICE),
    "bench search": _list({"anyOf": [_record(_SEARCHED, _TESTED), _record("strategy:text queries:count runs:count")]}),
    "bench rank": _list(_record("ranker:text labels:count splits:count kendall_tau:number?", "table:text settings:map judged:count spearman:number? kendall_taus:list fit_seconds:number")),
    "bench fused": Output("one", _record("command:text records:maps ratio:map", "hardware:map versions:map load_average:number?")),
    "bench oneshot": Output("one", _record("command:text facts:map effects:any records:maps")),
}  # fmt: skip
"""Command -> what it prints with ``--json``."""

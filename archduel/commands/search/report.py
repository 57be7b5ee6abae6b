"""From a run folder to report.html: reads what the run wrote, nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archduel.commands.progress import duration
from archduel.commands.search.settings import read_settings
from archduel.commands.search.words import (
    all_tests,
    compared_rung,
    guessing_sentence,
    images_read,
    latency_words,
    look_words,
    ranking_sentence,
    start_sentences,
    warnings_of,
)
from archduel.core.disk import read_toml, write_atomic
from archduel.core.job import JOURNAL, RESULT
from archduel.core.storage import read_journal
from archduel.errors import ArchduelError, DamagedError, in_one_line
from archduel.reporting.run_report import report_html
from archduel.reporting.statistics import mean_interval, share_interval
from archduel.reporting.text import compact, percent

__all__ = ["KINDS", "cells_over_time", "entered", "one_shot_cost", "one_shot_curves", "reached_rungs", "report_data", "write_report"]

# -- What a report shows of a one-shot stage: how policy or population changed, its cells over time, and its cost -------


MEASURES = {
    "entropy": "entropy of the policy (nats)",
    "diversity": "diversity of the population",
    "skips": "share of edges led by skip",
    "reward": "reward: accuracy on validation batches",
    "score": "best score with shared weights (accuracy)",
    "loss": "loss with shared weights",
    "gap": "difference of losses in a pair",
}
"""Metric of a step -> axis of its chart."""
POINTS = 200  # of a curve: more cannot be seen
DRAWN = 4
Records = Sequence[Mapping[str, Any]]


def _steps(records: Records) -> list[Mapping[str, Any]]:
    return [record for record in records if record["event"] == "one-shot step"]


def one_shot_cost(records: Records) -> list[dict[str, Any]]:
    """Returns the row of the one-shot stage in the table of costs, none for other runs."""
    steps = _steps(records)
    if not steps:
        return []
    seconds, images = (sum(step[name] for step in steps) for name in ("seconds", "images"))
    return [{"stage": "one-shot", "seconds": seconds, "images": images}]


def one_shot_curves(records: Records) -> list[dict[str, Any]]:
    """Returns a curve for each metric that the steps have, thinned to what can be seen."""
    curves = []
    for name, measure in MEASURES.items():
        known = [(s["number"], s["metrics"][name]) for s in _steps(records) if math.isfinite(s["metrics"].get(name, math.nan))]
        known = known[:: max(1, len(known) // POINTS)]
        if len(known) > 1:
            x, values = zip(*known)
            curves.append({"name": name, "measure": measure, "x_label": "step", "x": list(x), "values": list(values)})
    return curves


def cells_over_time(records: Records) -> list[dict[str, str]]:
    """Returns drawings of the cells that led during the search, evenly spread over its steps, repetitions left out."""
    from archduel.core import parse
    from archduel.spaces.drawing import draw
    from archduel.spaces.lookup import open_space

    steps = _steps(records)
    drawn: dict[str, dict[str, str]] = {}
    for part in range(DRAWN if steps else 0):
        step = steps[round(part * (len(steps) - 1) / (DRAWN - 1))]
        arch = parse(step["leader"])
        if step["leader"] not in drawn:
            title = f"Leading after step {step['number']} of {len(steps)}"
            drawn[step["leader"]] = {"title": title, "svg": draw(open_space(arch.space), arch), "text": step["leader"]}
    return list(drawn.values())


AUDITED = {"handed over": "as handed over", "search": "best searched", "random": "random search", "standard": "best standard"}
KINDS = {"start": "the space's start", "search": "searched", "random": "random search", "standard": "standard networks", "tuned": "plain fine-tuning", "earlier": "the earlier run's"}
ROLES = {"search": "the search", "random": "random search", "standard": "standard ResNet"}


def write_report(folder: Path, to: Path | None = None) -> Path:
    """Writes the report of a finished or unfinished run to ``to``, None = ``report.html`` in its folder, and returns its path.

    Raises:
        RunError: if ``folder`` holds no run.
    """
    path = to or folder / "report.html"
    try:
        page = report_html(report_data(folder))
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        if isinstance(error, ArchduelError):
            raise
        # a page is a function of these files, and they may have been changed, or sent by somebody
        what = f"{folder / RESULT}, mistakes.json or {JOURNAL}"
        raise DamagedError(f"{what} is damaged: no report can be made of it ({in_one_line(error)}); the run's command writes the first two again") from error
    write_atomic(path, page.encode())
    return path


def report_data(folder: Path, records: Records | None = None) -> dict[str, Any]:
    """Returns the data of the report (see ``reporting.schema``).

    Args:
        folder: of the run.
        records: of its journal, where the caller has read them already.
    """
    settings = read_settings(folder)
    records = read_journal(folder / JOURNAL) if records is None else records
    result = json.loads(path.read_text(encoding="utf-8")) if (path := folder / "result.json").is_file() else None
    toml = read_toml(folder / "run.toml")
    data: dict[str, Any] = {
        "title": _title(settings.data, toml),
        "command": toml["command"],
        "settings": (folder / "run.toml").read_text(encoding="utf-8"),
        "environment": {**toml["versions"], **{k: str(v) for k, v in toml["hardware"].items()}, "device": settings.device,
                        "workers": str(settings.workers), "threads each": str(settings.threads)},
        "metric": f"validation {settings.metric.replace('_', ' ')}",
        **({"label_metric": "validation likelihood"} if settings.rank_by == "likelihood" else {}),
        "failures": _failures(records),
        "costs": _costs(records),
        "arms": _arms(records, settings.strategy),
        "points": [*_points(records), *_race_points(records)],
        "curves": [*one_shot_curves(records), *_race_curves(records), *_curves(records, result)],
    }  # fmt: skip
    if settings.seconds is not None:
        data["budget_seconds"] = settings.seconds + sum(r["seconds"] for r in records if r["event"] == "more")
    noted = next((r for r in records if r["event"] == "data"), None)
    if noted is not None:
        data |= {"skipped": noted["skipped"], "warnings": warnings_of(noted["warnings"], settings.metric)}
    if result is None:
        data["unfinished"] = _how_far(records)
        return data
    return data | _finished(folder, result, records)


def _title(data: str, toml: Mapping[str, Any]) -> str:
    """Returns what the images are called: a folder's name, also where it was `.` or `..` when the run began."""
    if ":" in data:
        return data
    if (name := Path(data).name) not in ("", ".."):
        return name
    place = toml.get("place")
    return Path(str(place.get("path", data))).name if isinstance(place, Mapping) else data


def _how_far(records: Records) -> str:
    """Returns how far an unfinished run has come."""
    rows = _costs(records)
    stages = [f"{r['evaluations']} x {r['stage']}" if "evaluations" in r else f"{r['images']:,} images {r['stage']}" for r in rows]
    clock = duration(float(records[-1].get("clock", 0.0))) if records else "no time"
    done = f"trainings so far: {', '.join(stages)}" if stages else "nothing is trained yet"
    return f"This run is not finished ({clock}; {done}). The same command continues it."


def _finished(folder: Path, result: Mapping[str, Any], records: Records) -> dict[str, Any]:
    """Returns the parts that only a finished run has."""
    data = result["data"]
    splits, networks = data["splits"], result["networks"]
    mistakes = json.loads(path.read_text(encoding="utf-8")) if (path := folder / "mistakes.json").is_file() else []
    colour = "grey" if data["preprocessing"]["mode"] == "L" else "colour"
    size = data["preprocessing"]["size"]
    audited = json.loads(path.read_text(encoding="utf-8")) if (path := folder / "audit.json").is_file() else None
    gains = [*((audited or {}).get("gain", {}).values()), *result["gain"].values()]
    known = [*([audited["conditions"]] if audited else []), *(gain["sentence"] for gain in gains), *start_sentences(result)]
    whole = all_tests(data)
    of = f" of {sum(splits.values()) - splits['test'] + whole:,}" if whole else ""
    return {
        "subtitle": f"{len(data['classes'])} classes, {sum(splits.values()):,}{of} images, {size} x {size} {colour}, "
        f"{look_words(data['preprocessing']['rule'])}",
        "headline": _headline(result),
        "standings": _standings(result),
        "known": known or ["Nothing was trained to compare with, so nothing is known of the gain."],
        "key_figures": _key_figures(result),
        "n_test": splits["test"],
        "clock_seconds": result["clock"],
        "finals": _finals(result, audited),
        "agreement": [{k: row[k] for k in ("first", "second", "tau", "low", "high", "n")} for row in result["agreement"]],
        **({"wins": {"names": result["comparator"]["archs"], "prob": result["comparator"]["probabilities"]}} if result["comparator"] else {}),
        "cells": [*_cells(networks["search"]), *cells_over_time(records)],
        "confusion": {
            "classes": data["classes"], "counts": networks["search"]["confusion"], "network": "The network that is handed over",
            "split": "test",
        },
        "mistakes": mistakes,
        "balance": _balance(data),
        **({"front": {**result["front"], "metric": f"validation {result['metric'].replace('_', ' ')}"}} if "front" in result else {}),
        "warnings": list(filter(None, [guessing_sentence(result), *warnings_of(data["warnings"], result["metric"]), ranking_sentence(result)])),
        "skipped": data["skipped"],
    }  # fmt: skip


def _finals(result: Mapping[str, Any], audited: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Returns the networks whose test scores are compared: those of the run, and those that an audit trained alike."""
    metric, raced = result["metric"], "race" in result
    rows = [
        {"name": "handed over" if raced else ROLES[role], "arch": n["text"], "params": n["params"], "macs": n["macs"], "test": n["test"][metric], **({"latency_ms": n["latency_ms"]} if "latency_ms" in n else {})}
        for role, n in result["networks"].items()
    ]
    for n in audited["networks"] if audited else ():
        rows.append({"name": f"audit: {AUDITED[n['role']]}", "arch": n["text"], "params": n["params"], "macs": n["macs"], "test": n["test"]})
    return rows


def _headline(result: Mapping[str, Any]) -> str:
    """Returns what a person gets, in one sentence."""
    winner, n = result["networks"]["search"], images_read(result["data"])
    accuracies = winner["test"]["accuracy"]
    right = sum(accuracies) / len(accuracies)
    size = compact(winner["params"]).replace(" ", "\u00a0")
    return f"A network that gets {percent(right)} of {n} test images right: {size} parameters{latency_words(winner)}."


def _standings(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the best of each kind at the rung of a race that compares most kinds, none for other runs."""
    rows = result.get("race", {}).get("standings", [])
    rung = compared_rung(rows)
    return [
        {"name": KINDS[row["role"]], "value": row["accuracy"], "low": row["low"], "high": row["high"], "n": row["n"]}
        for row in rows if row["rung"] == rung
    ]  # fmt: skip


def _key_figures(result: Mapping[str, Any]) -> list[dict[str, str]]:
    winner, metric = result["networks"]["search"], result["metric"]
    scores = winner["test"][metric]
    interval = mean_interval(scores)
    spread = f" ± {100 * interval.half_width:.2f}" if interval.known else ""
    n = result["data"]["splits"]["test"]
    if len(scores) == 1 and metric == "accuracy":
        share = share_interval(round(scores[0] * n), n)
        note = f"{images_read(result['data'])} images read once; 95 % interval {100 * share.low:.1f} to {100 * share.high:.1f}"
    else:
        note = f"{_trainings(len(scores))}, {images_read(result['data'])} images"
    latency = [{"label": "latency", "value": f"{winner['latency_ms']:.2g} ms", "note": "one image, one thread, measured here"}] if "latency_ms" in winner else []
    there = winner.get("device_latency")
    if there is not None:
        interval_there = f"one image, foretold; 90 % interval {there['low']:.3g} to {there['high']:.3g} ms"
        latency.append({"label": f"latency on {there['device']}", "value": f"{there['ms']:.3g} ms", "note": interval_there})
    return [
        {"label": f"test {metric.replace('_', ' ')}", "value": f"{100 * interval.value:.2f}{spread} %",
         "note": note},
        {"label": "parameters", "value": f"{winner['params']:,}", "note": "trainable"},
        {"label": "multiply-adds", "value": f"{winner['macs']:,}", "note": "one image"},
        *latency, *_footprint(winner), *_time_share(result),
        {"label": "time", "value": duration(result["clock"]), "note": "wall clock, up to the export"},
    ]  # fmt: skip


def _footprint(winner: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns RAM and flash on a device; nothing for runs of a version that did not say it."""
    need = winner.get("footprint")
    if not need:
        return []
    note = f"{'int8' if need['int8'] else 'float32'}, estimated"
    labels = {"ram": "RAM for activations", "flash": "flash"}
    return [{"label": label, "value": f"{need[name] / 1000:,.1f} kB", "note": note} for name, label in labels.items()]


def _time_share(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns what share of a race's time trained the network that is handed over, and where the rest went."""
    race = result.get("race", {})
    if "time_share" not in race:
        return []
    number, ours, trained = len(race["candidates"]), race["time_share"], race["shares"]["handed over"]
    others = ours / trained * race["shares"]["others"] if trained else 0.0
    note = f"of all time; {percent(others, 0)} trained {number - 1} other network{'s' * (number != 2)}" if number > 1 else "of all time"
    return [{"label": "time in this network", "value": percent(ours, 0), "note": f"{note}, the rest is start, choice, test and export"}]


def _trainings(number: int) -> str:
    return "one training" if number == 1 else f"mean of {number} trainings, 95 % interval"


def _estimates(records: Records, *stages: str) -> list[Mapping[str, Any]]:
    return [r for r in records if r["event"] == "estimate" and r["stage"] in stages]


def _failures(records: Records) -> list[dict[str, Any]]:
    failed = [r for r in records if r["event"] == "estimate" and r["reason"]]
    return [{"arch": r["arch"], "stage": r["stage"], "reason": r["reason"]} for r in failed]


def _costs(records: Records) -> list[dict[str, Any]]:
    rows = [*one_shot_cost(records), *_race_costs(records)]
    for stage in ("label", "confirm", "check", "random", "reevaluate", "final"):
        found = _estimates(records, stage)
        if found:
            rows.append({
                "stage": stage, "seconds": sum(r["seconds"] for r in found), "evaluations": len(found),
                "images": sum(r["images"] for r in found),
            })  # fmt: skip
    return rows


def _race_costs(records: Records) -> list[dict[str, Any]]:
    """Returns the rows of a race: until it chose, a teacher, the last training, and with ``--time +30m`` what was trained on; none for other runs."""
    rungs = [r for r in records if r["event"] == "rung"]
    until = {r["number"]: r["seconds"] for r in rungs}  # of all of its training; costs are in epochs where a race repeats exactly
    ends = [r for r in records if r["event"] in ("trained", "member") and "seconds" in r]
    parts: dict[str, list[float]] = {
        "race": [*until.values()],
        "teacher": [r["seconds"] for r in records if r["event"] == "lesson"],
        "last training": [max(0.0, r["seconds"] - until.get(r["number"], 0.0)) for r in ends],
        "trained on": [*{r["number"]: r["done"] for r in records if r["event"] == "saved"}.values()],
    }
    numbers = {"race": len(rungs)}
    return [{"stage": stage, "seconds": sum(part), "evaluations": numbers.get(stage, len(part))} for stage, part in parts.items() if part]


def entered(records: Records) -> dict[int, Mapping[str, Any]]:
    """Returns what entered a race, by number."""
    return {r["number"]: r for r in records if r["event"] == "enter"}


def reached_rungs(records: Records) -> dict[int, list[Mapping[str, Any]]]:
    """Returns the scored rungs of each network of a race, by its number."""
    reached: dict[int, list[Mapping[str, Any]]] = {}
    for record in records:
        if record["event"] == "rung" and record["point"]:
            reached.setdefault(record["number"], []).append(record)
    return reached


def _race_points(records: Records) -> list[dict[str, Any]]:
    """Returns the networks of a race by cost and validation accuracy at the first rung, where all were trained alike."""
    networks = entered(records)
    return [
        {
            "arch": networks[number]["arch"], "params": networks[number]["counts"][0], "macs": networks[number]["counts"][1],
            "score": rungs[0]["point"]["accuracy"], "kind": KINDS[networks[number]["role"]], "front": True,
        }
        for number, rungs in reached_rungs(records).items()
    ]  # fmt: skip


def _race_curves(records: Records) -> list[dict[str, Any]]:
    """Returns the validation accuracies of those networks of a race that went on, by seconds of training."""
    networks = entered(records)
    return [
        {
            "name": networks[number]["arch"], "measure": "validation accuracy (race)", "x_label": "seconds of training",
            "x": [r["point"]["seconds"] for r in rungs], "values": [r["point"]["accuracy"] for r in rungs],
        }
        for number, rungs in reached_rungs(records).items() if len(rungs) > 1
    ]  # fmt: skip


def _arms(records: Records, strategy: str) -> list[dict[str, Any]]:
    """Returns both arms' evaluations with a running total of what each paid; shared labels count for both."""
    label, confirm, check, random = (_estimates(records, stage) for stage in ("label", "confirm", "check", "random"))
    ours, theirs = [*label, *confirm], [*label, *check, *random]
    if not ours:  # a one-shot search: its scores and those of trainings are not of one kind
        return []
    arms = [_arm(f"search ({strategy})", ours)]
    return [*arms, _arm("random search", theirs)] if random else arms


def _arm(name: str, records: Records) -> dict[str, Any]:
    total, seconds = 0.0, []
    for record in records:
        total += record["seconds"]
        seconds.append(total)
    return {"name": name, "seconds": seconds, "scores": [r["score"] for r in records]}


def _points(records: Records) -> list[dict[str, Any]]:
    kinds = {"label": "labelled", "check": "random search", "confirm": "proposed by the comparator", "random": "random search", "reevaluate": "re-evaluated"}
    return [
        {
            "arch": r["arch"], "params": r["values"].get("params", 0), "macs": r["values"].get("macs", 0),
            "score": r["values"].get("val_metric", r["score"]), "kind": kinds[r["stage"]], "front": r["stage"] != "reevaluate",
        }
        for r in _estimates(records, *kinds) if r["score"] is not None
    ]  # fmt: skip


def _curves(records: Records, result: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Returns validation curves of the re-evaluated networks and training losses of the final ones (mean of seeds)."""
    curves: list[dict[str, Any]] = []
    for record in _estimates(records, "reevaluate"):
        history = [e for e in record["values"].get("history", []) if "val_accuracy" in e]
        if len(history) > 1:
            curves.append({
                "name": record["arch"], "measure": "validation accuracy (re-evaluation)", "x_label": "epoch",
                "x": [e["epoch"] for e in history], "values": [e["val_accuracy"] for e in history],
            })  # fmt: skip
    for role, network in (result["networks"] if result and "race" not in result else {}).items():
        runs = [[e["train_loss"] for e in history] for history in network["history"]]
        length = min(map(len, runs))
        columns = [[run[i] for run in runs] for i in range(length)]
        curves.append({
            "name": ROLES[role], "measure": "training loss (final networks)", "x_label": "epoch",
            "x": [e["epoch"] for e in network["history"][0][:length]],
            "values": [_finite(sum(c) / len(c)) for c in columns],
            "low": [min(c) for c in columns], "high": [max(c) for c in columns],
        })  # fmt: skip
    return curves


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cells(winner: Mapping[str, Any]) -> list[dict[str, str]]:
    from archduel.core import parse
    from archduel.spaces.drawing import draw
    from archduel.spaces.lookup import open_space

    arch = parse(winner["arch"])
    return [{"title": "The winner's cell", "svg": draw(open_space(arch.space), arch), "text": winner["text"]}]


def _balance(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    counts = data["facts"].get("per_class", {})
    return [{"name": name, **counts[name]} for name in data["classes"] if name in counts]

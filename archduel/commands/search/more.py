"""`archduel search DATA --out RUN --time +30m`: the network of a finished race is trained on, from the weights it has."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from archduel.commands.journals import going_on
from archduel.commands.options import parse_seconds
from archduel.commands.progress import Progress, duration
from archduel.commands.search.after import reserve
from archduel.commands.search.final import SCORES, mistakes_of
from archduel.commands.search.fronts import refuse_front
from archduel.commands.search.race import recipe_for
from archduel.commands.search.settings import Settings, load_arguments, make_settings
from archduel.core import Scale, parse
from archduel.core.disk import read_json
from archduel.core.job import RESULT, Job
from archduel.core.storage import if_whole
from archduel.data import Dataset, load
from archduel.errors import BudgetError, DataError, RunError
from archduel.networks.trained import read_facts, save_trained
from archduel.race import Stretch, train_alone
from archduel.race.sides import Tuned
from archduel.race.teaching import LESSON, learns_from, taught
from archduel.race.training import Anytime
from archduel.spaces.family import build, recipe_changes
from archduel.training.images import Pixels, side_by_side
from archduel.training.metrics import Evaluation, calibration_error, final_scores
from archduel.training.recipe import Recipe
from archduel.training.runtime import keep_freed_memory, mix_seed

__all__ = ["as_before", "asked", "begin", "end", "is_more", "trained_on"]

LEAST_PEAK = 0.1
"""The learning rate rises to the recipe's again only where the training is at least doubled, and at least to this share."""
SLOWER = 1.5  # times that export and report may take longer than they took before
LEAST_SECONDS = 5.0


def is_more(time: Any) -> bool:
    """Returns whether a time is one that is added to a finished run: ``+30m``."""
    return isinstance(time, str) and time.strip().startswith("+")


def as_before(before: Settings, given: Mapping[str, Any]) -> None:
    """Raises RunError where what was given is not what the run began with; what is left at its default is not compared."""
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    changed = [name for name, value in given.items() if value is not None and value != defaults.get(name) and value != {}]
    now = make_settings(data=before.data, **given)
    lines = [
        f"  {name}: the run has {getattr(before, name)!r}, the command says {getattr(now, name)!r}"
        for name in changed if getattr(before, name) != getattr(now, name)
    ]  # fmt: skip
    if lines:
        raise RunError("a run goes on as it began:\n" + "\n".join(lines) + "\nleave these out, or begin a new run with another --out")


def asked(folder: Job, time: str) -> dict[str, Any]:
    """Returns the record of an interrupted continuation, or that of a new one, which is not noted before it trains.

    Raises:
        RunError: for a run that is not finished, is no race, or is in the middle of another continuation.
    """
    seconds = parse_seconds(time.strip().removeprefix("+"), "--time")
    if folder.result is None:
        raise RunError(f"{folder.path} is not finished, so its network cannot be trained on yet; finish it with the command it began with")
    refuse_front(folder.result, f"--time +{time.strip('+ ')}")
    if "race" not in folder.result:
        raise RunError(f"{folder.path} is no race; only a race's network is trained on with --time +{time.strip('+ ')}")
    last, more = folder.noted("more"), going_on(folder.journal.records)
    if more is not None:
        if more["seconds"] != seconds:
            raise RunError(f"{folder.path} is in the middle of --time +{more['seconds']:g}s; finish that first with the same command")
        return more
    return {"number": 1 if last is None else int(last["number"]) + 1, "seconds": seconds, "began": round(folder.called, 3)}


def begin(folder: Job, more: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the record of a continuation, noted; the result of before a new one is put aside as ``result-1.json``."""
    if _noted(more):
        return more
    folder.write(f"result-{more['number']}.json", folder.result)
    return folder.note("more", **more)


def _noted(more: Mapping[str, Any]) -> bool:
    """Returns whether a continuation has begun; what refuses it before leaves the run as it is: finished, with its clock."""
    return "event" in more


def end(folder: Job, more: Mapping[str, Any], reason: str = "") -> None:
    """Notes that a continuation is over."""
    folder.note("more ends", number=more["number"], reason=reason)


def trained_on(folder: Job, settings: Settings, more: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Trains the handed-over network on and returns the new content of result.json; its weights and mistakes are on disk.

    The continuation begins once nothing stands in its way: neither its time nor its images nor what it goes on from.

    Raises:
        BudgetError: for too little time.
        DataError: for images that have changed since.
        RunError: where the state of the training is missing, or the training diverges.
    """
    keep_freed_memory()
    needed = {"networks": dict, "race": dict, "data": dict}
    before = read_json(folder.path / (f"result-{more['number']}.json" if _noted(more) else RESULT), needed)
    if not _state(folder.path, more["number"]).is_file():
        _left(folder, more, 0.0)  # said before images are read, which may take minutes
    chosen = (folder.noted("time") or {}).get("seconds", settings.seconds)
    loading = load_arguments(settings.model_copy(update={"seconds": chosen}), folder.noted("data"))
    dataset = load(settings.data, progress=progress.reading, **loading)
    progress.end()
    if dataset.fingerprint != before["data"]["fingerprint"]:
        raise DataError(f"{dataset.name} has changed since the run, or is another data set; a network cannot be trained on with other images, make a new run")
    trainer, done = _open(folder, settings, dataset, before, more)
    _left(folder, more, done)
    more = begin(folder, more)
    _train(folder, settings, trainer, done, before, more, progress)
    model: nn.Module = trainer.model.to("cpu").eval()
    look = dataset.preprocessing
    images = Pixels(dataset.test.images, dataset.test.labels, look.mean, look.std).resized(trainer.recipe.image_size)
    found = final_scores(model, images, "cpu")
    folder.note("test", role="search", arch=_winner(before)["arch"], accuracy=found.accuracy, more=more["number"])
    folder.write("mistakes.json", mistakes_of(found, dataset))
    home = folder.path / before["networks"]["search"]["folders"][0]
    result = _result(before, trainer, found, more, clock=folder.clock)
    test = result["networks"]["search"]["test"]
    facts = read_facts(home)
    recipe = {**(facts.get("recipe") or {}), "passes": round(trainer.passes, 2)}
    save_trained(home, model, {**facts, "recipe": recipe, "test": {name: test[name][0] for name in SCORES}})
    return result


def _winner(result: Mapping[str, Any]) -> dict[str, Any]:
    return dict(result["race"]["candidates"][result["race"]["winner"]])


def _open(
    folder: Job, settings: Settings, dataset: Dataset, before: Mapping[str, Any], more: Mapping[str, Any]
) -> tuple[Anytime, float]:
    """Returns the training where it stands, and the seconds of this continuation that are done."""
    winner, data, look = _winner(before), dataset, dataset.preprocessing
    images = side_by_side(data.train.images, data.validation.images)
    both = Pixels(images, np.concatenate([data.train.labels, data.validation.labels]), look.mean, look.std, settings.device)
    both = both.resized(int(winner["scale"]["image_size"]))
    seed = mix_seed(settings.seed, "training", winner["number"])
    model = build(parse(winner["arch"]), Scale(**winner["scale"]))
    recipe = recipe_for(settings, dataset, both.image_size).with_(**recipe_changes(parse(winner["arch"])))
    if isinstance(model, Tuned):
        model.tune()
        recipe = Recipe(**before["plan"]["recipe"])
    lesson = taught(folder.path / "checkpoints" / LESSON, len(both)) if before["race"].get("lesson") else None
    trainer = learns_from(Anytime(model, both, recipe, seed=seed, device=settings.device), lesson)
    own, earlier = _state(folder.path, more["number"]), _state(folder.path, _last_done(folder, more["number"]), winner["number"])
    saved = if_whole(own, lambda path: trainer.load(path, both))
    if saved is not None:
        return trainer, saved["done"]
    if if_whole(earlier, lambda path: trainer.load(path, both)) is None:
        raise RunError(f"{earlier} is missing or damaged, and with it what the network is trained on from; a new run is needed")
    return trainer, 0.0


def _last_done(folder: Job, number: int) -> int:
    """Returns the continuation before ``number`` that trained the network, 0 for none: one that was too short or diverged left nothing."""
    ended = {r["number"]: r["reason"] for r in folder.journal.records if r["event"] == "more ends"}
    return max((n for n, reason in ended.items() if n < number and not reason), default=0)


def _state(folder: Path, number: int, winner: int = 0) -> Path:
    """Returns the file of a continuation's training; number 0 is the race's last training."""
    return folder / "checkpoints" / (f"more-{number}.safetensors" if number else f"last-{winner}.safetensors")


def _train(
    folder: Job, settings: Settings, trainer: Anytime, done: float, before: Mapping[str, Any], more: Mapping[str, Any], progress: Progress
) -> None:
    """Trains until the added time is used up, but for what test, export and report need."""
    winner, left = _winner(before), _left(folder, more, done)
    peak = max(LEAST_PEAK, min(1.0, more["seconds"] / winner["seconds"]))
    threads = settings.threads * (settings.workers if settings.device == "cpu" else 1)
    path = _state(folder.path, more["number"])

    def save(seconds: float) -> None:
        trainer.save(path, done=seconds, seconds=winner["seconds"] + seconds)
        folder.note("saved", number=more["number"], done=round(seconds, 3))  # so that the clock goes on from here

    progress.say(f"{winner['name']} is trained on for {duration(max(left, 0.0))}, from epoch {trainer.passes:.0f}")
    try:
        train_alone(trainer, Stretch(done + max(left, 0.0), done, winner["seconds"], peak, threads), save=save)
    except RunError as error:
        end(folder, more, str(error))
        path.unlink(missing_ok=True)
        raise RunError(f"{error}; the network of before is still the one that is handed over") from error


def _left(folder: Job, more: Mapping[str, Any], done: float) -> float:
    """Returns the seconds that are left to train in, of which ``done`` were before.

    Raises:
        BudgetError: if that is too little, which ends a continuation that has begun.
    """
    gone = folder.clock - _began(more) - done
    left = float(more["seconds"]) - _after(folder, more["seconds"]) - gone - done
    if left + done < LEAST_SECONDS:
        # what is kept for the end grows with the time
        needed = next(seconds for seconds in count(math.ceil(gone + LEAST_SECONDS)) if seconds - _after(folder, seconds) - gone >= LEAST_SECONDS)
        if _noted(more):
            end(folder, more, "too short")
        raise BudgetError(f"--time +{more['seconds']:g}s is too short to train on; give at least +{needed}s", needed)
    return left


def _began(more: Mapping[str, Any]) -> float:
    """Returns the time on the run's clock from which a continuation counts: the start of its program."""
    return float(more["began"] if "began" in more else more["clock"])


def _after(folder: Job, seconds: float) -> float:
    """Returns the seconds that are needed after the training, from what handing over took before."""
    clocks = {r["event"]: r["clock"] for r in folder.journal.records if r["event"] in ("finished", "handed over")}
    took = max(0.0, clocks.get("handed over", 0.0) - clocks.get("finished", 0.0))
    return max(min(SLOWER * took, 0.3 * seconds), reserve(seconds))


def _result(
    before: Mapping[str, Any], trainer: Anytime, found: Evaluation, more: Mapping[str, Any], *, clock: float
) -> dict[str, Any]:
    """Returns result.json after a continuation: what the race knows stays, the network's scores and training are new."""
    result: dict[str, Any] = copy.deepcopy(dict(before))
    network, race = result["networks"]["search"], result["race"]
    winner = race["candidates"][race["winner"]]
    old = {name: network["test"][name][0] for name in SCORES}
    network["test"] = {
        "accuracy": [found.accuracy], "balanced_accuracy": [found.score("balanced_accuracy")], "macro_f1": [found.score("macro_f1")],
        "ece": [calibration_error(found.probabilities, found.labels)],
    }  # fmt: skip
    network["confusion"] = found.confusion.tolist()
    seconds = clock - _began(more)
    spent = sum(c["seconds"] for c in race["candidates"])
    total = spent / max(1e-9, 1 - race["shares"]["strategy"])
    winner["seconds"] = round(winner["seconds"] + seconds, 3)
    winner["passes"], winner["steps"] = round(trainer.passes, 3), trainer.steps
    ours, strategy = winner["seconds"], race["shares"]["strategy"] * total
    total += seconds
    race["shares"] = {"handed over": ours / total, "others": 1 - (ours + strategy) / total, "strategy": strategy / total}
    race["time_share"] = round(ours / clock, 4)
    result["continued"] = [*before.get("continued", []), {
        "number": more["number"], "seconds": more["seconds"], "passes": winner["passes"], "test_before": old,
    }]  # fmt: skip
    result["core_seconds"] = {"race": round(spent + seconds, 3)}
    result["clock"] = round(clock, 2)
    return result

"""The main job as a race: the search's networks, random and standard ones compete, and the winner gets most of the time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from archduel.assemble import declaration
from archduel.commands.progress import Progress
from archduel.commands.search.after import kept_for, rehearsed
from archduel.commands.search.beside import side_beside
from archduel.commands.search.earlier import Earlier, taken_over
from archduel.commands.search.final import SCORES, images_facts, mistakes_of, text_of
from archduel.commands.search.fronts import front_fields, front_sentence, objectives_for, tradeoff_of
from archduel.commands.search.known import (
    Start,
    check_weights,
    choose_start,
    handed_look,
    record,
    scratch_side,
)
from archduel.commands.search.latency import latency_at, latency_facts, latency_limit
from archduel.commands.search.plan import Plan, whole_number
from archduel.commands.search.result import data_fields
from archduel.commands.search.settings import Settings
from archduel.commands.search.strategy import closed_form_costs, make_strategy
from archduel.commands.search.words import compared_rung
from archduel.core import Arch, Constraint, Scale, Space, Strategy
from archduel.core.job import Job
from archduel.data import Dataset
from archduel.errors import SettingError, unknown
from archduel.networks.trained import save_trained
from archduel.race import Candidate, RaceResult, race_recipe, run_race
from archduel.race.plan import timed_plan
from archduel.race.sizes import depths, sides_of, widths
from archduel.race.training import best_precision
from archduel.spaces.family import family
from archduel.spaces.limits import Limits, constraint_for
from archduel.spaces.memory import network_footprint
from archduel.training.images import Pixels
from archduel.training.metrics import Evaluation, calibration_error, final_scores
from archduel.training.recipe import Recipe
from archduel.training.runtime import keep_freed_memory, visible_devices
from archduel.version import __version__

__all__ = ["constraint_of", "further_limit", "race_sentence", "raced", "recipe_for"]

STAGE = "race"
HANDED_OVER = "networks/search-0"
"""Where in the run folder the network is kept, in the form of every trained network."""
LEAST_SIDE = 12  # pixels; in fewer there is little to see
LABEL_SHARE = 0.6
"""Part of the newcomers that a strategy labels before it compares; the others it proposes."""


def raced(
    folder: Job, settings: Settings, space: Space, dataset: Dataset, progress: Progress, earlier: Earlier
) -> dict[str, Any]:
    """Returns the content of result.json: races, keeps the winner's weights and reads the test images once."""
    keep_freed_memory()  # a published network learns 1.09 times as fast, at 128 px on one core
    looking = _precision(settings, progress)
    after = rehearsed(folder, settings.seconds, dataset)
    kept = kept_for(after, folder, settings.seconds)
    newcomers = _newcomers(settings, folder, kept)
    further = further_limit(settings)

    def searching(other: Space, limit: Constraint | None) -> tuple[Strategy, int]:
        return _strategy(settings, other, dataset, recipe_for(settings, dataset), newcomers, limit, earlier)

    start = choose_start(settings, dataset, searching, further, looking, progress.say)
    together = None if settings.beside is None else f"spaces {space.name} and {settings.beside} side by side; --space takes one"
    for line in filter(None, (together, start.sentence)):
        progress.say(line)
    side = scratch_side(settings, dataset)
    recipe = recipe_for(settings, dataset, side)
    constraint = _within_limits(folder, settings, space, dataset, side, start)
    within = partial(constraint_of, settings, dataset=dataset, side=side)
    sides = [*(side_beside(settings, dataset, within, searching, progress) if start.scratch else ()), *start.known]
    _say_earlier(earlier, settings, space, [*([space.name] if start.scratch else []), *(side.asker.space.name for side in sides)], progress)
    strategy, random_first = _strategy(settings, space, dataset, recipe, newcomers, constraint, earlier)
    race = run_race(
        dataset, space, strategy, folder=folder.path, seconds=settings.seconds,
        evaluations=None if settings.seconds is not None else settings.evaluations, gone=folder.clock, reserve=kept, after=after, tradeoff=tradeoff_of(settings),
        max_params=settings.max_params, max_macs=settings.max_macs, allowed=further, constraint=constraint, scratch=start.scratch, known=sides,
        scratch_side=side, smaller_sides=smaller_sides(settings, side), earlier=earlier.winners,
        random_first=random_first, standards=settings.baselines and not family(space.name).own_weights, recipe=recipe, metric=settings.metric,
        by_likelihood=settings.rank_by == "likelihood", **_epochs(settings), seed=settings.seed, device=settings.device,
        threads=settings.threads * (settings.workers if settings.device == "cpu" else 1), journal=folder.part(STAGE), say=progress.say,
    )  # fmt: skip
    test = _tested(folder, dataset, race)
    spaces = {"": space, **{side.asker.space.name: side.asker.space for side in sides}}
    network = _network(spaces.get(race.winner.entry.arch.space, space), race, test)
    network |= {**latency_facts(settings, race.winner.entry.arch, race.winner.entry.scale), "footprint": _footprint(settings, race)}
    save_trained(folder.path / HANDED_OVER, race.network, _facts(settings, dataset, race, network))
    found = {**_result(folder, settings, dataset, race, network), "start": record(start)}
    if race.members:
        others = [_member(folder, settings, dataset, race, place, spaces) for place in range(1, len(race.members))]
        found |= _front(folder, settings, dataset, race, [_brief(network), *others], found["gain"])
    return found


def _say_earlier(earlier: Earlier, settings: Settings, space: Space, sides: Sequence[str], progress: Progress) -> None:
    for line in taken_over(earlier, settings, space, sides):
        progress.say(line)


def _within_limits(folder: Job, settings: Settings, space: Space, dataset: Dataset, side: int, start: Start) -> Constraint | None:
    """Returns the limits as a constraint on untrained networks, None where none take part; raises where a new race could train nothing."""
    if not start.known and folder.noted("size", stage=STAGE) is None:
        check_latency(settings, space, dataset, side)
    return constraint_of(settings, space, dataset, side) if start.scratch else None


def _precision(settings: Settings, progress: Progress) -> str:
    """Returns what pretrained networks are looked at in; says where a race trains, if that is not everywhere."""
    if (devices := visible_devices(settings.device)) > 1:
        progress.say(f"a race trains one network after the other, on the first of {devices} GPUs; --no-race or --evaluations take all of them")
    return best_precision(settings.device)


def _front(
    folder: Job, settings: Settings, dataset: Dataset, race: RaceResult, tests: Sequence[Mapping[str, Any]], gain: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns what a result says of a front, in place of the sentence about one network."""
    found = front_fields(settings, race.members, tests, folder.part(STAGE).records)
    sentence = f"{front_sentence(found, race.judged)} {UNKNOWN_OF_FRONT}"  # no audit is of a front
    return {"front": found, "gain": {**gain, "race": {**gain["race"], "sentence": sentence}}}


def _member(folder: Job, settings: Settings, dataset: Dataset, race: RaceResult, place: int, spaces: Mapping[str, Space]) -> dict[str, Any]:
    """Returns what a further member of the front says of the test images, read once, and keeps its network."""
    member = race.members[place]
    alone = replace(race, network=member.network, winner=member.candidate, recipe=member.recipe, members=())
    test = final_scores(member.network, _test_images(dataset, alone), "cpu")
    arch = member.candidate.entry.arch
    folder.note("test", role="member", arch=str(arch), accuracy=test.accuracy)
    network = _network(spaces.get(arch.space, spaces[""]), alone, test, f"networks/front-{place}")
    network |= latency_facts(settings, arch, member.candidate.entry.scale)
    save_trained(folder.path / network["folders"][0], member.network, _facts(settings, dataset, alone, network))
    return _brief(network)


def _brief(network: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is kept of a member's network beside its facts."""
    return {"text": network["text"], "test": network["test"], "folder": network["folders"][0], "latency_ms": network["latency_ms"]}


USED = ("space", "strategy", "ranker", "policy", "plan", "final", "race")
"""Sections of ``--set`` that a race has a use for: it trains nothing cheaply first and nothing again."""
DECIDED = {"channels", "depth", "epochs", "schedule"}
"""Settings of a recipe that the race decides itself: sizes are part of the choice, lengths follow from the time."""


def check_settings_of_race(settings: Settings) -> None:
    """Refuses what was asked for and a race would not do.

    Raises:
        DataError: for weights that were asked for and are not here.
        SettingError: naming the setting and what to do instead.
    """
    for key in settings.set:
        section, _, name = key.partition(".")
        if section not in USED:
            raise SettingError(f"--set {key}: a race has no use for {section!r}, it takes {', '.join(USED)}; --no-race trains in that order")
        if section == "final" and name in DECIDED:
            raise SettingError(f"--set {key}: a race decides sizes, and lengths by the time; with --evaluations, race.last_epochs is the length")
        if section == "final" and name not in Recipe.__dataclass_fields__:
            raise SettingError(str(unknown("setting of a recipe", name, set(Recipe.__dataclass_fields__) - DECIDED)))
        if section == "plan" and name not in ("labels", "iterations"):
            raise SettingError(f"--set {key}: the plan of a race has labels and iterations")
    if settings.final_seeds != Settings.model_fields["final_seeds"].default:
        raise SettingError(
            f"--final-seeds {settings.final_seeds}: a race trains one network to the end; `archduel audit RUN` trains with several "
            "seeds, --no-race trains all of them in the run"
        )
    check_weights(settings)


def recipe_for(settings: Settings, dataset: Dataset, side: int | None = None) -> Recipe:
    """Returns the race's recipe with what ``--set final.NAME=VALUE`` changes."""
    return race_recipe(dataset, settings.device, side=side, **settings.section("final"))


def _epochs(settings: Settings) -> dict[str, Any]:
    """Returns the lengths of a race in epochs that ``--set race.NAME=VALUE`` gives."""
    given = settings.section("race")
    names = ("first_epochs", "last_epochs")
    for name, value in given.items():
        if name not in names or isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise SettingError(f"--set race.{name}: expected {' or '.join(names)} with a number above 0, got {value!r}")
    return {name: float(value) for name, value in given.items()}


def _newcomers(settings: Settings, folder: Job, kept: float) -> int:
    """Returns how many networks will enter, for strategies that plan their questions; noted, for it must not change."""
    noted = folder.noted("newcomers")
    if noted is not None:
        return int(noted["number"])
    if settings.seconds is None:
        assert settings.evaluations is not None
        number = settings.evaluations
    else:
        rungs = timed_plan(settings.seconds, gone=folder.clock, reserve=kept).rungs
        number = max(2, round(rungs.level / rungs.first))
    folder.note("newcomers", number=number)
    return number


def constraint_of(settings: Settings, space: Space, dataset: Dataset, side: int | None = None) -> Constraint | None:
    """Returns which architectures are small enough at the smallest size at which they are built."""
    limits = _least_limits(settings, space, dataset, side)
    return constraint_for(space, limits, np.random.default_rng([settings.seed, 3]), advice="")  # no network is built smaller


def _least_limits(settings: Settings, space: Space, dataset: Dataset, side: int | None) -> Limits:
    """Returns the limits that need no building, at the smallest size at which networks are built."""
    whole = side or dataset.image_size
    smallest = sides_of(space.name, whole, smaller_sides(settings, whole))[-1]
    scale = Scale(widths(space)[0], depths(space)[0], smallest, dataset.in_channels, dataset.n_classes)
    return Limits(scale, max_params=settings.max_params, max_macs=settings.max_macs, device=settings.device_limit, resized=True)


def check_latency(settings: Settings, space: Space, dataset: Dataset, side: int | None = None) -> None:
    """Raises InfeasibleError where not even small networks are fast enough; else a race would measure one after the other until its time is over."""
    if settings.max_latency_ms is not None:
        limits = _least_limits(settings, space, dataset, side)
        measured = Limits(
            limits.scale, max_params=settings.max_params, max_macs=settings.max_macs, max_latency_ms=settings.max_latency_ms,
            latency=latency_at(settings, limits.scale),
        )  # fmt: skip
        constraint_for(space, measured, np.random.default_rng([settings.seed, 3]), advice="")


def smaller_sides(settings: Settings, side: int) -> tuple[int, ...]:
    """Returns further sides in pixels at which networks may see images of ``side``: half and a quarter, where RAM is limited and nobody chose one."""
    if settings.max_ram is None or settings.image_size is not None:
        return ()
    return tuple(side // part for part in (2, 4) if side // part >= LEAST_SIDE)


def _strategy(
    settings: Settings, space: Space, dataset: Dataset, recipe: Recipe, newcomers: int, constraint: Constraint | None, earlier: Earlier
) -> tuple[Strategy, int]:
    """Returns the run's strategy, and how many of its first questions are random architectures."""
    given = settings.section("plan")
    labels = whole_number("plan.labels", given.get("labels", max(2, round(LABEL_SHARE * newcomers))), 2)
    iterations = whole_number("plan.iterations", given.get("iterations", 100), 1)
    channels, depth = (family(space.name).ladder or ((16, 1),))[-1]
    final = recipe.with_(channels=channels, depth=depth)
    plan = Plan(
        labels=labels, confirm=max(1, newcomers - labels), shortlist=1, iterations=iterations, label=recipe, reevaluate=recipe,
        final=final, seconds={},
    )  # fmt: skip
    objectives = objectives_for(settings, space, recipe.image_size or dataset.image_size, dataset.in_channels, dataset.n_classes)
    strategy = make_strategy(
        settings, plan, space, constraint, costs=closed_form_costs(plan, dataset), sources=earlier.of(space), objectives=objectives
    )
    return strategy, labels if declaration(settings.strategy).kind == "labels-first" else 0


def further_limit(settings: Settings) -> Any:
    """Returns the limits of RAM, flash and latency as a function of architecture and scale; None without one."""
    device, latency = settings.device_limit, latency_limit(settings)
    if not device and latency is None:
        return None

    @lru_cache(10_000)
    def allowed(arch: Arch, scale: Scale) -> bool:
        """Whether a network fits on its device and is fast enough."""
        return bool(device(arch, scale)) and (latency is None or latency(arch, scale))

    return allowed


def _footprint(settings: Settings, race: RaceResult) -> dict[str, Any]:
    """Returns RAM and flash of the network that is handed over, in bytes, with the numbers that its device has."""
    scale = race.winner.entry.scale
    need = network_footprint(race.network, (scale.in_channels, scale.image_size, scale.image_size), int8=settings.int8)
    return {**need._asdict(), "int8": settings.int8}


def _tested(folder: Job, dataset: Dataset, race: RaceResult) -> Evaluation:
    """Returns what the handed-over network says about the test images, and notes it; nothing is chosen afterwards."""
    found = final_scores(race.network, _test_images(dataset, race), "cpu")
    folder.write("mistakes.json", mistakes_of(found, dataset))
    folder.note("test", role="search", arch=str(race.winner.entry.arch), accuracy=found.accuracy)
    return found


def _test_images(dataset: Dataset, race: RaceResult) -> Pixels:
    look = dataset.preprocessing
    return Pixels(dataset.test.images, dataset.test.labels, look.mean, look.std).resized(race.winner.entry.scale.image_size)


def _facts(settings: Settings, dataset: Dataset, race: RaceResult, network: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what ``model.json`` says of the network that is handed over."""
    return {
        "arch": network["arch"], "text": network["text"], "scale": race.winner.entry.scale, "options": {},
        "classes": list(dataset.classes), "preprocessing": handed_look(dataset, race.winner.entry.scale.image_size),
        "data": images_facts(settings, dataset),
        "params": network["params"], "macs": network["macs"], "recipe": _told(race), "seed": settings.seed,
        "test": {name: network["test"][name][0] for name in SCORES},
        "search": {"role": race.winner.role, "strategy": settings.strategy, "archduel": __version__},
    }  # fmt: skip


def _told(race: RaceResult) -> dict[str, Any]:
    """Returns what ``model.json`` says of the training: without what a recipe says of sizes and lengths, which the race decided."""
    kept = {name: value for name, value in asdict(race.recipe).items() if name not in DECIDED}
    return {"name": STAGE, "passes": round(race.winner.passes, 2), **kept}


def _result(
    folder: Job, settings: Settings, dataset: Dataset, race: RaceResult, network: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the content of result.json; its keys are those of a run that compares trained networks, and ``race``."""
    searched = [c for c in race.candidates if c.curve]
    return {
        "metric": settings.metric,
        "networks": {"search": dict(network)},
        "gain": {"race": {"differences": [], "interval": None, "sentence": _sentence(settings, dataset, race)}},
        "agreement": [],
        "search": [[str(c.entry.arch), _finite(c.curve[0]["score"])] for c in searched if c.role != "random"],
        "random": [[str(c.entry.arch), _finite(c.curve[0]["score"])] for c in searched if c.role == "random"],
        "reevaluated": {str(c.entry.arch): _finite(c.curve[-1]["score"]) for c in searched if len(c.curve) > 1},
        "shortlists": [], "steps": [], "comparator": None,
        "race": {
            "winner": race.winner.number, "candidates": [c.record() for c in race.candidates], "standings": race.standings,
            "shares": dict(race.shares), "seconds": round(race.seconds, 2), "lesson": dict(race.lesson),
            "time_share": round(race.winner.seconds / max(settings.seconds or folder.clock, folder.clock), 4),
        },
        "core_seconds": {"race": round(sum(c.seconds for c in race.candidates), 3)},
        "clock": round(folder.clock, 2),
        "scale": race.winner.record()["scale"],
        "fidelity": STAGE,
        "plan": {"recipe": asdict(race.recipe)},
        "data": data_fields(dataset),
    }  # fmt: skip


def _sentence(settings: Settings, dataset: Dataset, race: RaceResult) -> str:
    timed = settings.seconds is not None
    sentence = race_sentence(race.winner, race.standings, race.judged, timed=timed, metric=settings.metric)
    return sentence.replace(UNKNOWN_GAIN, UNKNOWN_TO_TUNING) if race.recipe.frozen_norms else sentence


def _network(space: Space, race: RaceResult, test: Evaluation, place: str = HANDED_OVER) -> dict[str, Any]:
    winner = race.winner
    arch = winner.entry.arch
    return {
        "arch": str(arch),
        "text": text_of(space, arch),
        "role": winner.role,
        "params": winner.params,
        "macs": winner.entry.counts.macs,
        "seeds": [winner.number],
        "test": {
            "accuracy": [test.accuracy], "balanced_accuracy": [test.score("balanced_accuracy")], "macro_f1": [test.score("macro_f1")],
            "ece": [calibration_error(test.probabilities, test.labels)],
        },
        "confusion": test.confusion.tolist(),
        "folders": [place],
        "history": [
            [{"epoch": p["passes"], "train_loss": p["train_loss"], "val_loss": p["loss"], "val_accuracy": p["accuracy"]} for p in winner.curve]
        ],
    }  # fmt: skip


def _finite(score: float) -> float | None:
    return score if math.isfinite(score) else None


NAMES = {"start": "the space's first network", "search": "the search's best", "random": "the best random one", "standard": "the best standard one", "tuned": "plain fine-tuning of a pretrained network", "earlier": "that of the earlier run"}
UNKNOWN_OF_FRONT = "What a search gains over chance is not known from one race."
UNKNOWN_TO_TUNING = "What a search gains over plain fine-tuning is not known from one race."
UNKNOWN_GAIN = "What a search gains over chance is not known from one race; `archduel audit` measures it."


def race_sentence(
    winner: Candidate, standings: Sequence[Mapping[str, Any]], n_validation: int, *, timed: bool = True, metric: str = "accuracy"
) -> str:
    """Returns what the race says of search, random and standard networks at equal cost, with intervals; it is no measured gain.

    Args:
        winner: the network that is handed over.
        standings: the best of each kind at each rung, see :class:`archduel.race.RaceResult`.
        n_validation: images that an accuracy counts.
        timed: whether a rung is a number of seconds; else of epochs.
        metric: what is shown of the networks.
    """
    rung = compared_rung(standings)
    if rung is None:
        return f"There is nothing to compare: {winner.name} is the only network that the race could train and score."
    rows = [row for row in standings if row["rung"] == rung]
    parts, seen = [], set()
    for row in rows:
        share = f"{100 * row['accuracy']:.1f} % ({100 * row['low']:.1f} to {100 * row['high']:.1f}, best of {row['n']})"
        same = f"is the same network (best of {row['n']})"
        parts.append(f"{NAMES[row['role']]} {same if row['number'] in seen else share}")
        seen.add(row["number"])
    if winner.number not in seen and len(winner.curve) > rung:
        parts.append(f"{winner.name}, the one that was chosen later, {100 * winner.curve[rung]['accuracy']:.1f} %")
    passes = max(row["passes"] for row in rows)
    each = f"{max(row['seconds'] for row in rows):.0f} s" if timed else f"{passes:g} epoch{'s' * (passes != 1)}"
    absent = [role for role in ("random", "standard") if role not in {row["role"] for row in rows}]
    return " ".join([
        f"At equal training, about {each} for each network, {metric.replace('_', ' ')} on {n_validation:,} validation images was: {'; '.join(parts)}.",
        _apart(rows), *([f"No {' or '.join(absent)} network got that far."] if absent else []),
        f"{winner.name} {_led(winner, standings)}, and was trained on.", UNKNOWN_GAIN,
    ])  # fmt: skip


def _led(winner: Candidate, standings: Sequence[Mapping[str, Any]]) -> str:
    """Returns why a network was chosen."""
    last = max(row["rung"] for row in standings)
    if 0 < len(winner.curve) <= last:
        return "was ahead after less training than another had"
    there = [row for row in standings if row["rung"] == last]
    best = max(there, key=lambda row: (row.get("score", row["accuracy"]), row["number"] == winner.number))
    if best["number"] == winner.number or winner.number not in {row["number"] for row in there}:
        return "led where the race trained longest"
    return f"was behind {best['name']} where the race trained longest, by less than further training makes good"


def _apart(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns whether the best kind is ahead of the others by more than the validation images leave open."""
    best = max(rows, key=lambda row: row["accuracy"])
    behind = [row for row in rows if row["number"] != best["number"]]
    close = [NAMES[row["role"]] for row in behind if row["high"] >= best["low"]]
    if not close:
        name = NAMES[best["role"]]
        return f"{name[0].upper()}{name[1:]} is ahead of the others by more than the 95 % intervals."
    return f"The 95 % intervals of {NAMES[best['role']]} and {' and '.join(close)} overlap: these images do not tell them apart."

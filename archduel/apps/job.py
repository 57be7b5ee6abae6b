"""The order of events of a run: data, limits, plan, stages, result, export, report."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from archduel import registry
from archduel.apps import final
from archduel.apps.arms import check_settings
from archduel.apps.assemble import begins_with_labels, shares_weights
from archduel.apps.devices import check_device, latency_of
from archduel.apps.feasible import Limits, constraint_for, sizes
from archduel.apps.folder import RunFolder
from archduel.apps.judge import JudgeFactory, joined, scale_of
from archduel.apps.one_shot import CHECKED, OneShotPipeline, check_space
from archduel.apps.outcome import gain, result_of
from archduel.apps.pipeline import Pipeline
from archduel.apps.plan import (
    LADDERS,
    Plan,
    default_seconds,
    fixed_plan,
    longer_plan,
    timed_plan,
    whole_number,
)
from archduel.apps.progress import Progress, duration
from archduel.apps.settings import Settings
from archduel.apps.spaces import open_space
from archduel.apps.stopwatch import Stopwatch
from archduel.core import Estimate, Scale, Space
from archduel.data import Dataset, load
from archduel.data.load import source_of
from archduel.errors import DataError, SettingError
from archduel.execution.processes import Processes
from archduel.training.pixels import Pixels

__all__ = ["hand_over", "load_arguments", "work"]

Trainings = dict[tuple[str, int], Estimate]
"""(role, seed) -> how the training of that final network went."""


def load_arguments(settings: Settings) -> dict[str, Any]:
    """Returns the keyword arguments with which a run, and each of its workers, loads the images."""
    values = {name: getattr(settings, name) for name in ("image_size", "seed", "max_images", "flip", "seconds")}
    if settings.seconds is not None and settings.device.startswith("cuda"):
        values["pixels_per_second"] = 2e8
    return {key: value for key, value in values.items() if value is not None}


def work(folder: RunFolder, settings: Settings, progress: Progress) -> None:
    """Does all that is left of a run."""
    check_device(settings.device)
    variant = settings.section("space")  # such as preset=cnas
    space = open_space(settings.space, **variant) if variant else registry.make("space", settings.space)
    one_shot = shares_weights(settings.strategy)
    if one_shot:
        check_space(settings.space)
    check_settings(settings)
    free = settings.seconds is None and settings.evaluations is None  # the tool chooses the time
    settings = _with_budget(settings)
    dataset = load(settings.data, progress=progress.reading, **load_arguments(settings))
    progress.end()
    _same_data(folder, dataset)
    _introduce(progress, settings, dataset)
    stopwatch = Stopwatch(settings, space, dataset)
    settings, plan, limits = _plan(folder, settings, space, dataset, stopwatch, progress, free)
    constraint = constraint_for(space, limits, np.random.default_rng([settings.seed, 3]))
    _announce(progress, settings, plan, dataset)
    executor = _executor(folder, settings, plan, dataset)
    before = torch.get_num_threads()
    torch.set_num_threads(settings.threads)  # comparators are small: more threads make them slower
    try:
        stages = OneShotPipeline if one_shot else Pipeline
        pipeline = stages(
            folder, settings, plan, space, dataset, executor, stopwatch,
            constraint=constraint, progress=progress,
        )
        networks, fidelity, trained = _trained(pipeline)
    finally:
        executor.close()
        torch.set_num_threads(before)
    progress.end()
    result = _tested(pipeline, networks, fidelity, trained)
    folder.write_json("result.json", result)
    folder.note("finished", seconds=round(folder.clock, 2))
    hand_over(folder, result, progress)


def _trained(pipeline: Pipeline) -> tuple[list[final.FinalNetwork], str, Trainings]:
    """Runs all stages that train; returns the final networks, the name of their fidelity and their trainings."""
    pipeline.label_and_compare()
    pipeline.confirm()
    pipeline.random_arm()
    pipeline.reevaluate()
    networks = final.networks(pipeline)
    fidelity = final.final_fidelity(pipeline, networks)
    return networks, fidelity, final.train_networks(pipeline, networks, fidelity)


def _tested(
    pipeline: Pipeline, networks: list[final.FinalNetwork], fidelity: str, trained: Trainings
) -> dict[str, Any]:
    """Reads the test images, once for each final network that was trained, and returns the result of the run."""
    networks = final.survivors(pipeline, networks, trained)
    values = {key: estimate.values for key, estimate in trained.items()}
    tests = final.test_networks(pipeline, networks, fidelity)
    return result_of(pipeline, networks, fidelity, values, tests)


def _same_data(folder: RunFolder, dataset: Dataset) -> None:
    """Refuses to continue on other images, and notes which ones a new run uses."""
    noted = folder.noted("data")
    if noted is None:
        folder.note("data", fingerprint=dataset.fingerprint, warnings=list(dataset.warnings), skipped=dict(dataset.skipped))
    elif noted["fingerprint"] != dataset.fingerprint:
        raise DataError(
            f"{dataset.name} has changed since the run began (fingerprint {dataset.fingerprint[:12]}, was "
            f"{noted['fingerprint'][:12]}); start a new run with another --out"
        )


def _with_budget(settings: Settings) -> Settings:
    """Returns the settings with a time, chosen before the pictures are decoded because it limits their resolution."""
    if settings.seconds is not None or settings.evaluations is not None:
        return settings
    n = len(source_of(settings.data))
    return settings.model_copy(update={"seconds": default_seconds(min(n, settings.max_images or n))})


def _introduce(progress: Progress, settings: Settings, dataset: Dataset) -> None:
    splits = f"{len(dataset.train):,} train, {len(dataset.validation):,} validation, {len(dataset.test):,} test"
    rule = "as they are" if dataset.preprocessing.rule == "none" else dataset.preprocessing.rule
    progress.say(f"{dataset.name}: {dataset.n_classes} classes, {splits}; {dataset.image_size} px, {rule}")
    for warning in dataset.warnings:
        progress.say(f"warning: {warning}")


def _plan(
    folder: RunFolder,
    settings: Settings,
    space: Space,
    dataset: Dataset,
    stopwatch: Stopwatch,
    progress: Progress,
    free: bool,
) -> tuple[Settings, Plan, Limits]:
    """Returns the plan, made once and then read from the journal, and the limits at its final scale.

    Where the tool chose the time (``free``) and this machine is too slow for it, the settings get more.
    """
    ladder = _ladder(settings)
    noted = folder.noted("plan")
    if noted is not None:
        plan = Plan.from_json(noted["plan"])
        settings = settings.model_copy(update={"seconds": noted.get("time", settings.seconds)})
    elif settings.seconds is None:
        plan = fixed_plan(settings, dataset, _within(settings, ladder, space, dataset))
    else:
        progress.say("measuring how long one training step takes here ...")
        fitting = _within(settings, ladder, space, dataset)
        given = settings.seconds
        if free:
            settings, plan = longer_plan(settings, dataset, fitting, stopwatch.seconds_per_image)
        else:
            plan = timed_plan(settings, dataset, fitting, stopwatch.seconds_per_image)
        if settings.seconds != given:
            progress.say(f"{duration(given)}, the usual time, is too short for these images here; instead:")
    if noted is None:
        folder.note("plan", plan=plan.to_json(), time=settings.seconds)
    return settings, plan, _limits(settings, scale_of(plan.final, dataset))


def _ladder(settings: Settings) -> tuple[tuple[int, int], ...]:
    given = settings.section("plan")
    if "channels" in given or "depth" in given:
        default = LADDERS.get(settings.space, ((16, 5),))[-1]
        channels, depth = (whole_number(f"plan.{n}", given.get(n, d), 1) for n, d in zip(("channels", "depth"), default))
        return ((channels, depth),)
    if settings.space not in LADDERS:
        raise SettingError(
            f"how wide and deep networks of space {settings.space!r} should be is not known; say it: "
            "--set plan.channels=16 --set plan.depth=5"
        )
    return LADDERS[settings.space]


def _limits(settings: Settings, scale: Scale) -> Limits:
    measure = None
    if settings.max_latency_ms is not None:
        measure = latency_of(scale, batch_size=settings.latency_batch, device=settings.device)
    return Limits(
        scale,
        max_params=settings.max_params,
        max_macs=settings.max_macs,
        max_latency_ms=settings.max_latency_ms,
        latency=measure,
    )


def _within(
    settings: Settings, ladder: tuple[tuple[int, int], ...], space: Space, dataset: Dataset
) -> list[tuple[int, int]]:
    """Returns the sizes at which at least half of the random architectures satisfy the limits (the smallest always)."""
    rng = np.random.default_rng([settings.seed, 2])
    fitting = [ladder[0]]
    for channels, depth in ladder[1:]:
        scale = Scale(channels, depth, dataset.image_size, dataset.in_channels, dataset.n_classes)
        limits = _limits(settings, scale)
        n = 40 if settings.max_latency_ms is None else 5
        if sum(limits(arch) for arch, _ in sizes(space, limits, rng, n)) * 2 >= n:
            fitting.append((channels, depth))
    return fitting


def _announce(progress: Progress, settings: Settings, plan: Plan, dataset: Dataset) -> None:
    """Prints what fits into the budget before anything is trained."""
    size = f"{plan.final.channels} channels, depth {plan.final.depth}"
    cheap = f"{plan.label.channels} channels, depth {plan.label.depth}, {plan.label.epochs:g} epochs"
    if plan.label.data_fraction < 1:
        cheap += f" on {plan.label.data_fraction:.0%} of the images"
    budget = f"{settings.evaluations} evaluations" if settings.seconds is None else duration(settings.seconds)
    progress.say(f"plan for {budget} on {settings.device}, {settings.workers} at a time:")
    each = f", about {plan.seconds_per_label:.1f} s each" if plan.seconds_per_label else ""
    if shares_weights(settings.strategy):
        checked = min(CHECKED, settings.evaluations or CHECKED) if settings.seconds is None else CHECKED
        progress.say(f"  check      {checked} random architectures of {settings.space} trained alone with a cheap recipe ({cheap}){each}")
    elif begins_with_labels(settings.strategy):
        progress.say(f"  label      {plan.labels} architectures of {settings.space} with a cheap recipe ({cheap}){each}")
        progress.say(f"  compare    {settings.strategy} proposes {plan.confirm} more")
    else:
        number = plan.labels + plan.confirm
        progress.say(f"  label      {number} architectures of {settings.space} that {settings.strategy} asks for ({cheap}){each}")
    arms = "the search and random search at equal cost" if settings.baselines else "the search"
    progress.say(f"  reevaluate {plan.shortlist} each for {arms}, {plan.reevaluate.epochs:g} epochs at {size}")
    nets = "3 networks (search, random search, a standard ResNet)" if settings.baselines else "the winner"
    progress.say(f"  final      {nets} x {settings.final_seeds} seeds, about {plan.final.epochs:g} epochs at {size}")


def _executor(folder: RunFolder, settings: Settings, plan: Plan, dataset: Dataset) -> Processes:
    mean, std = dataset.preprocessing.mean, dataset.preprocessing.std
    train, validation = dataset.train, dataset.validation
    both = joined(train.images, validation.images), np.concatenate([train.labels, validation.labels])
    parts = ((train.images, train.labels), (validation.images, validation.labels), both)
    pixels = [Pixels(images, labels, mean, std, device=settings.device) for images, labels in parts]
    factory = JudgeFactory(
        train=pixels[0],
        validation=pixels[1],
        both=pixels[2],
        recipes={"label": plan.label, "reevaluate": plan.reevaluate, "final": plan.final},
        n_classes=dataset.n_classes,
        run_seed=settings.seed,
        metric=settings.metric,
        device=settings.device,
        threads=settings.threads,
        folder=folder.path.resolve(),
        rank_by=settings.rank_by,
    )
    return Processes(factory, workers=settings.workers, run_seed=settings.seed, threads=settings.threads)


def hand_over(folder: RunFolder, result: dict[str, Any], progress: Progress) -> None:
    """Exports, writes the report and says in plain words what came out; noted, so that a killed run does it again."""
    from archduel.apps.handover import export_run
    from archduel.apps.report import write_report

    progress.say("exporting ...")
    export_run(folder.path, result, folder.path / "export", progress=progress)
    write_report(folder.path)
    folder.note("handed over")
    progress.say("")
    for line in gain(result):
        progress.say(line)
    progress.say(f"report  {folder.path / 'report.html'}")
    progress.say(f"export  {folder.path / 'export'}")

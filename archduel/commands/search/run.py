"""The main job: from a folder of images to a trained, exported network and an honest report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from archduel.assemble import declaration
from archduel.commands.journals import going_on
from archduel.commands.options import parse_bytes, parse_count, parse_seconds
from archduel.commands.progress import Progress, duration
from archduel.commands.search import final, same
from archduel.commands.search.after import check_time
from archduel.commands.search.announce import announce, say_images
from archduel.commands.search.audit import audited, check_audit
from archduel.commands.search.earlier import read_earlier
from archduel.commands.search.executors import about_run, executor_for, judge_for
from archduel.commands.search.finished import Run
from archduel.commands.search.fronts import front_lines
from archduel.commands.search.latency import latency_at
from archduel.commands.search.more import as_before, asked, end, is_more, trained_on
from archduel.commands.search.one_shot import check_space, prepare, select_by_shared_weights
from archduel.commands.search.own import check_importable, check_not_loading, exported, for_data, space_asked
from archduel.commands.search.pace import Pace
from archduel.commands.search.paper import introduce, say_cost
from archduel.commands.search.plan import (
    LABEL,
    Plan,
    default_seconds,
    fixed_plan,
    fused_labels,
    ladder_for,
    longer_plan,
    timed_plan,
    with_groups,
)
from archduel.commands.search.race import check_settings_of_race, raced
from archduel.commands.search.result import gain, result_of
from archduel.commands.search.settings import (
    Settings,
    default_settings,
    load_arguments,
    make_settings,
    read_settings,
)
from archduel.commands.search.stages import Context, Selection, core_seconds, select_by_training
from archduel.commands.search.strategy import check_settings, closed_form_costs, make_strategy
from archduel.commands.tracking import following
from archduel.core import Executor, Local, Scale, Space, Strategy, sample
from archduel.core.blas import one_blas_thread
from archduel.core.job import RUN, Job, read_result
from archduel.core.places import same_place
from archduel.data import Dataset, load
from archduel.data.load import source_of
from archduel.errors import ArchduelError, SettingError, as_path
from archduel.estimators.judges import Groups, scale_of
from archduel.estimators.timing import Stopwatch, check_device
from archduel.spaces.family import target_of
from archduel.spaces.limits import Limits, constraint_for, sizes
from archduel.text import printable, typed
from archduel.training.images import Pixels
from archduel.training.runtime import visible_devices

__all__ = ["Run", "finish", "hand_over", "load_arguments", "planned_without_race", "races", "search", "with_budget", "work"]

# -- The order of events of a run: data, limits, plan, stages, result, export, report -----------------------------------


def work(folder: Job, settings: Settings, progress: Progress) -> None:
    """Does all that is left of a run."""
    race, given = races(settings), settings
    # the clock decides how a timed race goes, not the number of threads it began with
    settings = settings if race and settings.evaluations is None else same.as_begun(folder, settings)
    check_device(settings.device)
    space = space_asked(settings)
    one_shot = declaration(settings.strategy).kind == "one-shot"
    if one_shot:
        check_space(settings.space)
    check_settings(settings)
    if race:
        check_settings_of_race(settings)
    earlier = read_earlier(folder, settings, space)
    free = settings.seconds is None and settings.evaluations is None  # the tool chooses the time
    settings = with_budget(settings)
    check_time(settings.seconds if race and folder.noted("newcomers") is None else None, folder.clock)
    loading = load_arguments(settings, folder.noted("data"))
    dataset = load(settings.data, progress=progress.reading, **loading)
    progress.end()
    same.check_images(folder, dataset, loading)
    say_images(progress, settings, dataset)
    space = for_data(space, dataset, progress)
    if race:
        settings = _with_first_time(folder, settings)
        finish(folder, raced(folder, settings, space, dataset, progress, earlier), progress)
        return
    stopwatch = Stopwatch(
        space, _pixels(settings, dataset), dataset.n_classes, device=settings.device, threads=settings.threads
    )
    settings, plan, limits = _plan(folder, settings, space, dataset, stopwatch, progress, free)
    check_importable(settings)
    constraint = constraint_for(space, limits, np.random.default_rng([settings.seed, 3]))
    executor = _executor(folder, settings, plan, dataset, space, given, progress)
    plan = _with_groups(folder, settings, plan)
    announce(progress, settings, plan, dataset)
    introduce(settings, dataset, progress.say)
    context = Context(
        folder, settings, plan, space, dataset, executor, constraint, closed_form_costs(plan, dataset), Pace(folder, settings, plan),
        progress, earlier.of(space),
    )  # fmt: skip
    finish(folder, _compared(context, stopwatch), progress)


def _with_groups(folder: Job, settings: Settings, plan: Plan) -> Plan:
    """Returns the plan with the labels that fit in groups; a run that began with fewer keeps them."""
    begun = folder.noted("estimate") is not None and folder.noted("grouped plan") is None
    if begun or settings.seconds is None:
        return plan
    measured = folder.noted("fused") or {"at_once": 1}
    return Plan.from_json(folder.once("grouped plan", lambda: {"plan": with_groups(settings, plan, measured).to_json()})["plan"])


def _compared(context: Context, stopwatch: Stopwatch) -> dict[str, Any]:
    """Returns the result of a run that trains the choices of search and baselines alike: chooses, trains, then tests."""
    folder, settings, plan, say = context.job, context.settings, context.plan, context.progress.say
    before = torch.get_num_threads()
    # comparators are small: more threads make them slower
    torch.set_num_threads(settings.threads)
    try:
        strategy, selection = _selected(context, stopwatch)
        scale = scale_of(plan.final, context.dataset)
        networks = final.final_networks(selection, settings, context.space, scale, say)
        fidelity = final.final_fidelity(context, networks, stopwatch.seconds_per_image)
        trainings = final.train_networks(context, networks, fidelity)
    finally:
        context.executor.close()
        torch.set_num_threads(before)
    context.progress.end()
    networks = final.survivors(networks, trainings, say)
    # after all trainings: no choice is left that a test could lead
    tests = final.test_networks(context, networks, fidelity)
    return result_of(
        selection, final.FinalStage(networks, fidelity, trainings, tests, core_seconds(folder, "final")), settings=settings, plan=plan,
        space=context.space, dataset=context.dataset, strategy=strategy, clock=folder.clock,
    )  # fmt: skip


def _selected(context: Context, stopwatch: Stopwatch) -> tuple[Strategy, Selection]:
    """Runs the stages before the final training; returns the strategy, which has learned, and what they came to."""
    settings, plan = context.settings, context.plan
    if declaration(settings.strategy).kind == "one-shot":
        one_shot = prepare(context)
        say_cost(context, one_shot, stopwatch.seconds_per_image)
        return one_shot.strategy, select_by_shared_weights(context, one_shot)
    strategy = make_strategy(settings, plan, context.space, context.constraint, costs=context.costs, sources=context.sources)
    return strategy, select_by_training(context, strategy)


def races(settings: Settings) -> bool:
    """Whether a run is a race for the hand-over; else networks are trained alike and compared."""
    one_shot = declaration(settings.strategy).kind == "one-shot"
    if settings.race is None:
        return settings.evaluations is None and not one_shot
    if settings.race and one_shot:
        raise SettingError(f"strategy {settings.strategy!r} works on shared weights, which do not race; leave --race out")
    return settings.race


def _with_first_time(folder: Job, settings: Settings) -> Settings:
    """Returns the settings with the time that the run began with, where the tool chose it."""
    return settings.model_copy(update={"seconds": folder.once("time", lambda: {"seconds": settings.seconds})["seconds"]})


def finish(folder: Job, result: dict[str, Any], progress: Progress) -> None:
    """Writes the result of a run and hands over."""
    folder.write("result.json", result)
    final.remove_checkpoints(folder.path)
    folder.note("finished", seconds=round(folder.clock, 2))
    hand_over(folder, result, progress)


def _pixels(settings: Settings, dataset: Dataset) -> Pixels:
    """Returns the training images on the run's device."""
    mean, std = dataset.preprocessing.mean, dataset.preprocessing.std
    return Pixels(dataset.train.images, dataset.train.labels, mean, std, device=settings.device)


def with_budget(settings: Settings) -> Settings:
    """Returns the settings with a time, chosen before the images are decoded because it limits their resolution."""
    if settings.seconds is not None or settings.evaluations is not None:
        return settings
    n = len(source_of(settings.data))
    return settings.model_copy(update={"seconds": default_seconds(min(n, settings.max_images or n))})


def _plan(
    folder: Job,
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
    ladder = ladder_for(settings)
    record = folder.noted("plan")
    if record is not None:
        plan = Plan.from_json(record["plan"])
        settings = settings.model_copy(update={"seconds": record.get("time", settings.seconds)})
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
    if record is None:
        folder.note("plan", plan=plan.to_json(), time=settings.seconds)
    return settings, plan, _limits(settings, scale_of(plan.final, dataset))


def planned_without_race(folder: Path, settings: Settings, dataset: Dataset, progress: Progress) -> None:
    """Says the plan of a run that compares trained networks; training steps are timed in ``folder``, which is not the run's."""
    check_settings(settings)
    space = for_data(space_asked(settings), dataset, progress)
    stopwatch = Stopwatch(space, _pixels(settings, dataset), dataset.n_classes, device=settings.device, threads=settings.threads)
    with Job(folder, RUN, {"run": settings.model_dump()}, command="plan", defaults={"run": default_settings()}) as job:
        settings, plan, limits = _plan(job, settings, space, dataset, stopwatch, progress, free=False)
        constraint = constraint_for(space, limits, np.random.default_rng([settings.seed, 3]))
        announce(progress, settings, plan, dataset)
        introduce(settings, dataset, progress.say)
        if declaration(settings.strategy).kind == "one-shot":
            check_space(settings.space)
            context = Context(
                job, settings, plan, space, dataset, Local(lambda queries: []), constraint, closed_form_costs(plan, dataset), Pace(job, settings, plan), progress
            )  # fmt: skip
            say_cost(context, prepare(context), stopwatch.seconds_per_image)


def _limits(settings: Settings, scale: Scale) -> Limits:
    measure = None
    if settings.max_latency_ms is not None:
        measure = latency_at(settings, scale)
    return Limits(
        scale, max_params=settings.max_params, max_macs=settings.max_macs, device=settings.device_limit,
        max_latency_ms=settings.max_latency_ms, latency=measure,
    )  # fmt: skip


def _within(
    settings: Settings, ladder: tuple[tuple[int, int], ...], space: Space, dataset: Dataset
) -> list[tuple[int, int]]:
    """Returns the sizes at which at least half of the random architectures satisfy the limits (the smallest always)."""
    rng = np.random.default_rng([settings.seed, 2])
    fitting = [ladder[0]]
    for channels, depth in ladder[1:]:
        scale = Scale(channels, depth, dataset.image_size, dataset.in_channels, dataset.n_classes)
        limits = _limits(settings, scale)
        n = 5 if limits.slow else 40
        if sum(limits(arch) for arch, _ in sizes(space, limits, rng, n)) * 2 >= n:
            fitting.append((channels, depth))
    return fitting


def _executor(folder: Job, settings: Settings, plan: Plan, dataset: Dataset, space: Space, given: Settings, progress: Progress) -> Executor:
    """Returns what trains, here or elsewhere as ``given`` today; cheap trainings in groups where that was measured to be faster."""
    judge = judge_for(folder.path.resolve(), settings, plan, dataset)

    def grouping() -> dict[str, Any]:
        """Returns how many are trained at once, measured where that can pay."""
        rng = np.random.default_rng([settings.seed, 4])
        each = -(-(plan.labels + plan.confirm) // settings.workers)
        sharing = -(-settings.workers // visible_devices(settings.device))
        archs = [sample(space, rng) for _ in range(8)]
        return fused_labels(settings, plan, lambda: judge.plan(archs, LABEL, each, sharing))

    # a run that began before groups were written down goes on as it began
    older = folder.noted("fused") is None and folder.noted("estimate") is not None
    at_once = 1 if older else int(folder.once("fused", grouping)["at_once"])
    groups = Groups(at_once, judge, fidelities=(LABEL,))
    groups.remember(folder, progress.say)
    elsewhere = given.model_copy(update={"seed": settings.seed, "threads": settings.threads})
    return executor_for(folder, elsewhere, judge, groups, lambda: about_run(plan, dataset, load_arguments(with_budget(given))), progress.say)


def hand_over(folder: Job, result: dict[str, Any], progress: Progress) -> None:
    """Exports, writes the report and says in plain words what came out; noted, so that a killed run does it again."""
    from archduel.commands.search.report import write_report

    progress.say("exporting ...")
    progress.say(f"  {exported(folder.path, int8=read_settings(folder.path).int8)}")
    write_report(folder.path)
    folder.note("handed over")
    progress.say("")
    for line in [*gain(result), *front_lines(result)]:
        progress.say(line)
    progress.say(f"report  {folder.path / 'report.html'}")
    progress.say(f"export  {folder.path / 'export'}")


def search(
    data: Any,
    *,
    time: str | float | None = None,
    evaluations: int | None = None,
    max_params: str | int | None = None,
    max_macs: str | int | None = None,
    max_latency_ms: float | None = None,
    max_ram: str | int | None = None,
    max_flash: str | int | None = None,
    space: Any = None,
    out: str | Path | None = None,
    audit: str | float | None = None,
    track: str = "",
    quiet: bool | None = None,
    command: str | None = None,
    gone: float = 0.0,
    **settings: Any,
) -> Run:
    """Searches, trains, tests and exports a network for ``data``; the same call continues an interrupted run.

    Args:
        data: a folder of images (one subfolder a class), ``digits``, ``cifar10``, an ``.npz`` file, a pair of arrays
            (images, labels) or a ``torch.utils.data.Dataset`` of (image, label).
        time: wall-clock budget such as ``"2h"``; None chooses by the number of images unless ``evaluations`` is given;
            ``"+30m"`` trains the network of the finished race in ``out`` on.
        evaluations: number of cheap trainings instead of (or within) a time budget; alone it makes runs repeatable exactly.
        max_params: limit on parameters, such as ``"1M"``.
        max_macs: limit on multiply-adds for one image.
        max_latency_ms: limit on the measured latency of one batch on this device.
        max_ram: limit on the memory of activations on the device the network is for, such as ``"64kB"``; with ``int8=True`` at one
            byte a number, else four (:func:`archduel.spaces.memory`).
        max_flash: limit on the network's file there.
        space: where is searched: a name (`archduel list spaces`), ``module:Name`` or ``file.py:Name``, a person's own class with choices in
            its constructor, or :func:`archduel.space_of` it.
        out: the run's folder; None derives one from the data and the settings under ``runs/``.
        audit: further time such as ``"30m"`` (or ``"half"`` of the run's) that is spent on what the search gained, see
            :func:`archduel.commands.search.audit.audit`.
        track: a tracker that is told too, such as ``"mlflow"`` (`archduel list trackers`).
        quiet: print nothing; None = print where a person watches, in a terminal or a notebook.
        command: how the run was started, for the record.
        gone: seconds that have passed since it was started, and count.
        **settings: other fields of :class:`archduel.commands.search.settings.Settings`, such as ``strategy="evolution"``.

    Raises:
        ArchduelError: one of its kinds for data, settings, limits or a folder that cannot be used.
    """
    check_not_loading()
    counts, sizes_ = {"max_params": max_params, "max_macs": max_macs}, {"max_ram": max_ram, "max_flash": max_flash}
    limits = {name: None if value is None else parse_count(value) for name, value in counts.items()}
    limits |= {name: None if value is None else parse_bytes(value) for name, value in sizes_.items()}
    settings |= {} if space is None else {"space": target_of(space)}
    if is_more(time):
        given = {"evaluations": evaluations, "max_latency_ms": max_latency_ms, **settings}
        return _more(data, str(time), out, {**given, **limits}, audit=audit, quiet=quiet, command=command, gone=gone)
    if settings.get("device") in (None, "auto"):
        settings["device"] = same.usual_device(out)
    checked = make_settings(
        data=same.data_text(data),
        seconds=None if time is None else parse_seconds(time),
        evaluations=evaluations,
        max_latency_ms=max_latency_ms,
        **limits,
        **settings,
    )
    progress = Progress(quiet=quiet)
    check_audit(audit, checked, race=races(checked), say=progress.say)
    path = Path(as_path("out", out)) if out is not None else same.place_for(checked)
    line = printable(command or " ".join(sys.argv) or "archduel.search(...)")
    folder = same.opened(path, checked, line, gone)
    try:
        with following(track, path, progress.say), one_blas_thread():
            _go_on(folder, checked, progress)
    except KeyboardInterrupt:
        progress.end()
        progress.say(f"stopped after {duration(folder.clock)}; the same command continues {path}")
        raise
    except ArchduelError:
        same.forgotten(folder)
        raise
    finally:
        progress.end()
        folder.close()
    if audit is not None:
        audited(path, audit, progress, quiet=quiet, command=line)
    return Run(path)


def _go_on(folder: Job, settings: Settings, progress: Progress) -> None:
    """Does what is left of a run: all, the hand-over, or nothing where it is finished and whole."""
    result = folder.result
    if result is not None and not same.same_words(folder, settings):
        loading = load_arguments(with_budget(settings), folder.noted("data"))
        same.check_images(folder, load(settings.data, progress=progress.reading, **loading), loading)
    if result is None or not same.has_network(folder):
        work(folder, settings, progress)
    elif not same.has_export(folder):  # it was stopped between the result and the export, or something of it is gone
        hand_over(folder, result, progress)
    else:
        more = going_on(folder.journal.records)
        told = "nothing to do (another --out starts a new run)" if more is None else f"`archduel resume {typed(folder.path)}` goes on with --time +{more['seconds']:g}s"
        progress.say(f"{folder.path} is finished; {told}")


def _more(
    data: Any, time: str, out: str | Path | None, given: dict[str, Any], *, audit: str | float | None, quiet: bool | None, command: str | None,
    gone: float,
) -> Run:  # fmt: skip
    """Trains the network of a finished race on, and hands over again."""
    if out is None:
        raise SettingError(f"--time {time} goes on with a finished run; say which one: --out FOLDER")
    path, progress, line = Path(as_path("out", out)), Progress(quiet=quiet), command or " ".join(sys.argv) or "archduel.search(...)"
    before = read_settings(path)
    check_audit(audit, before, race=races(before), result=read_result(path))
    text = same.data_text(data)
    as_before(before, given)
    before = before if same_place(before.data, text, {}, path) else before.model_copy(update={"data": text})  # its images are compared
    with Job(path, RUN, {"run": before.model_dump()}, command=line, defaults={"run": default_settings()}, gone=gone) as folder:
        try:
            more = asked(folder, time)
            finish(folder, trained_on(folder, before, more, progress), progress)
            end(folder, more)
        except KeyboardInterrupt:
            progress.end()
            progress.say(f"stopped after {duration(folder.clock)}; the same command continues {path}")
            raise
        finally:
            progress.end()
    if audit is not None:
        audited(path, audit, progress, quiet=quiet, command=line)
    return Run(path)

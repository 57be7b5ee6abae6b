"""One call for a race: from images and a budget to a trained network and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from archduel.core import Arch, Constraint, Counts, Journal, Scale, Space, Strategy
from archduel.core.space import TextSpace
from archduel.core.storage import Records
from archduel.errors import InfeasibleError, SettingError
from archduel.race.candidates import Candidate
from archduel.race.clock import Clock, Stopwatch, Wall
from archduel.race.fronts import FrontRace, Member, Tradeoff
from archduel.race.newcomers import Asker, Entry
from archduel.race.plan import (
    LAST_SHARE,
    LEAST_TRAINING,
    Plan,
    enough_passes,
    epochs_plan,
    meet_at_last,
    timed_plan,
)
from archduel.race.race import Race
from archduel.race.sets import ImageSet, Sets, sets_of
from archduel.race.settings import RaceSettings
from archduel.race.sides import Begun, Side
from archduel.race.sizes import Bounds, Sizes, depths, fitting_scale, standard_ladder, widths
from archduel.race.training import Anytime, best_precision
from archduel.spaces.family import build, count, enters_elsewhere, family
from archduel.spaces.mobilenetv3.space import MobileNetV3, Spec
from archduel.spaces.resnet.space import BLOCKS, WIDTHS, ResNet
from archduel.training.recipe import Recipe

__all__ = ["ImageSet", "RaceResult", "race_recipe", "run_race"]

ONE_CHANGE, ONE_CHANGE_IMAGES = 0.5, 5_000
"""Strength of one more random change for each photograph, and of how many training images at most: more are shown too few times for it to pay, in a race of any
length. Test loss and accuracy of the space's start without and with it (``benchmarks/records/one_change.jsonl``, last weights): 1,000 images of twenty classes 1.81, 49.8 % and 1.69,
51.8 % after 170 passes (a second seed 1.85, 46.5 % and 1.72, 50.3 %); 475 stamps 1.41, 52.8 % and 1.39, 53.2 % after 500; 10,000 images of CIFAR-100 1.74, 54.2 % and 1.72, 53.7 % after 42;
8,100 drawings 1.09, 68.2 % and 1.17, 65.4 % after 53. Fine-tuning of published networks makes fewer passes and is without it.
"""


@dataclass(frozen=True)
class RaceResult:
    """What a race came to.

    Attributes:
        network: the network that is handed over, trained, in evaluation mode, channels first, on the CPU.
        winner: what is known of it; its validation accuracy is from before it was trained on the validation images too.
        candidates: all that took part, in the order of entering.
        shares: of the time used: ``handed over`` (all training of the winner), ``others``, ``strategy``.
        standings: where the best of each role stood at each rung, with its interval and how many of its kind got there.
        recipe: how the winner was trained.
        seconds: of the budget's clock when training ended.
        judged: validation images that candidates were scored with.
        lesson: of which network above the limits the winner learned (``name``), and the ``seconds`` that took; empty where it did not.
        members: of a race for a front its members, trained and validated, the network that is handed over first; else none.
    """

    network: nn.Module
    winner: Candidate
    candidates: list[Candidate]
    shares: Mapping[str, float]
    standings: list[dict[str, Any]]
    recipe: Recipe
    seconds: float
    judged: int
    lesson: Mapping[str, Any] = field(default_factory=dict)
    members: tuple[Member, ...] = ()


def race_recipe(data: ImageSet, device: str = "cpu", *, side: int | None = None, **changes: Any) -> Recipe:
    """Returns how the networks of a race are trained: what measured best in little time (``benchmarks/records/race_recipe.json``).

    The smoothed labels matter most where a thousand images are shown a hundred times and the network would end certain of all of them.
    """
    n, side = len(data.train.labels), side or data.image_size
    photographs = data.flip and side >= 16
    recipe = Recipe(
        batch_size=128 if n >= 1024 else 64, lr=0.1, momentum=0.9, nesterov=True, weight_decay=2e-3, label_smoothing=0.1, flip=data.flip,
        crop_pad=max(1, round(side / 8)), precision=best_precision(device), channels_last=True,
        image_size=side, grad_clip=5.0, cutout=round(side * 3 / 8) if photographs else 0, one_change=ONE_CHANGE if photographs and n <= ONE_CHANGE_IMAGES else 0.0,
    )  # fmt: skip
    return recipe.with_(**changes)


def run_race(
    data: ImageSet,
    space: Space,
    strategy: Strategy,
    *,
    folder: Path,
    seconds: float | None = None,
    evaluations: int | None = None,
    gone: float = 0.0,
    reserve: float = 0.0,
    after: Callable[..., float] | None = None,
    tradeoff: Tradeoff | None = None,
    first_epochs: float = 1.0,
    last_epochs: float = 20.0,
    max_params: int | None = None,
    max_macs: int | None = None,
    allowed: Callable[[Arch, Scale], bool] | None = None,
    constraint: Constraint | None = None,
    random_first: int = 0,
    standards: bool = True,
    scratch: bool = True,
    scratch_side: int | None = None,
    smaller_sides: Sequence[int] = (),
    known: Sequence[Side] = (),
    earlier: Sequence[Arch] = (),
    random_only: bool = False,
    last_training: bool = True,
    recipe: Recipe | None = None,
    metric: str = "accuracy",
    by_likelihood: bool = True,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    clock: Clock | None = None,
    journal: Records | None = None,
    say: Callable[[str], None] | None = None,
) -> RaceResult:
    """Lets networks compete for the time and returns the trained winner; the same call continues an interrupted race.

    Args:
        data: training and validation images.
        space: where the strategy searches.
        strategy: asks for architectures and is told their scores at the first rung.
        folder: for checkpoints, and the journal unless one is given.
        seconds: the budget on ``clock``, from its beginning to the hand-over.
        evaluations: newcomers, in place of ``seconds``: the race then repeats exactly.
        gone: seconds that are used up already.
        reserve: processor seconds that are needed afterwards (test, export, report), as far as is known before.
        after: says what they are for the network that is handed over (and how many there are, of a front).
        tradeoff: what is weighed against accuracy; the outcome is then a front.
        first_epochs: passes up to the first rung, without ``seconds``.
        last_epochs: passes of the network that is handed over, without ``seconds``.
        max_params: limit of parameters.
        max_macs: limit of multiply-adds for one image.
        allowed: a further limit, such as of latency.
        constraint: which architectures of ``space`` are drawn at all.
        random_first: how many of the strategy's first questions are random architectures.
        standards: whether standard networks take part.
        scratch: whether networks that begin untrained take part.
        scratch_side: pixels at which those see the images; None = as they are.
        smaller_sides: further sides at which they may see them, where RAM is limited.
        known: further sources of newcomers: networks that know something before the race (:class:`archduel.race.sides.Opener`), or, without
            an opener, a further space, whose own start is then the one that is favoured.
        earlier: architectures that earlier races handed over; they enter first, untrained or with a backbone's weights.
        random_only: random search: all newcomers are drawn at random, and the strategy is not asked.
        last_training: whether the chosen network is trained to the end; without it the race is all, and takes its share of the time.
        recipe: how networks are trained; None = :func:`race_recipe`.
        metric: what is shown of networks.
        by_likelihood: whether they are compared by the likelihood of the right classes instead.
        seed: of everything.
        device: of torch.
        threads: of torch while training.
        clock: what the budget is measured by; None = the wall clock.
        journal: where decisions are recorded; None = ``race.jsonl`` in ``folder``.
        say: takes messages for people.

    Raises:
        SettingError: unless one of ``seconds`` and ``evaluations`` is given, or for too few images.
        BudgetError: for too little time.
        InfeasibleError: where the limits leave no standard network.
        RunError: where no network can be trained.
    """
    if (seconds is None) == (evaluations is None):
        raise SettingError("a race needs either seconds or evaluations, and not both")
    made = Journal(folder / "race.jsonl") if journal is None else None
    journal = journal or made
    assert journal is not None
    watch = Stopwatch(clock or Wall(), max([gone, *_clocks(journal, folder)]))
    recipe = recipe or race_recipe(data, device, side=scratch_side)
    sets = sets_of(data, device, seconds)
    sizes = Sizes(
        scratch_side or data.image_size, data.in_channels, data.n_classes, lru_cache(100_000)(count),
        Bounds(max_params, max_macs).and_also(allowed), depths(space), widths(space),
        tuple(smaller_sides),
    )  # fmt: skip
    before = torch.get_num_threads()
    torch.set_num_threads(1 if seconds is not None else threads)
    try:
        prepared = [_prepared(side, number, journal, sets, None if seconds is None else seconds - reserve, watch) for number, side in enumerate(known)]
        gone = _gone(watch, seconds, reserve) if any(prepared) else watch.before
        plan = _plan(seconds, evaluations, _begun(journal, gone), reserve, (first_epochs, last_epochs), last_training=last_training)
        start = space.start() if isinstance(space, Begun) else None
        macs = _affordable_macs(journal, plan, sizes, sets, recipe, device, watch.clock, start, gone=gone, timed=seconds is not None and scratch)
        settings = RaceSettings(recipe, metric, by_likelihood, seed, device, seconds is not None, macs, threads, reserve)
        own = Side(
            Asker(strategy, space, constraint), _standards(sizes, macs) if standards and not random_only and scratch else [],
            random_first=random_first, random_only=random_only, favours=all(side.opener is not None for side in known),
        )  # fmt: skip
        _propose(earlier, own, known)
        race = (Race if tradeoff is None else FrontRace)(
            settings, plan, sets, sizes, [*([own] if scratch or not known else []), *known], stopwatch=watch, journal=journal, folder=folder,
            named=_namer(space, *(side.asker.space for side in known)), say=say or (lambda text: None), after=after,
        )  # fmt: skip
        winner, network, members = _raced(race, tradeoff, last_training=last_training)
    finally:
        torch.set_num_threads(before)
        if made is not None:
            made.close()
    lesson = next((record for record in journal.records if record["event"] == "lesson"), {})
    shares = _shares(race.candidates, winner, race.strategy_seconds, lesson.get("seconds", 0.0))
    standings = _standings(race.candidates, random_first)
    return RaceResult(network, winner, race.candidates, shares, standings, race.recipe(winner), watch.seconds, len(sets.validation), lesson, members)


def _raced(race: Race, tradeoff: Tradeoff | None, *, last_training: bool) -> tuple[Candidate, nn.Module, tuple[Member, ...]]:
    """Returns the winner, its network, and the members of a front where one is searched for; networks on the CPU, channels first."""
    members: list[Member] = []
    if isinstance(race, FrontRace) and tradeoff is not None:
        race.tradeoff = tradeoff
        members = race.members()
        winner, network = members[0].candidate, members[0].network
    else:
        winner, network = race.run(last_training)
    for trained in (network, *(member.network for member in members)):
        trained.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    return winner, network, tuple(members)


def _prepared(side: Side, number: int, journal: Records, sets: Sets, end: float | None, watch: Stopwatch) -> bool:
    """Lets the networks of a side be looked at before a race that is over at ``end``, and notes what was seen; once."""
    if side.opener is None:
        return False
    noted = next((record["facts"] for record in journal.records if record["event"] == "prepared" and record["side"] == number), None)
    seconds = None if end is None else max(end - watch.seconds, LEAST_TRAINING)
    facts = side.opener.prepare(sets.train, sets.validation, seconds, noted, watch.clock.now, meet=seconds is None or meet_at_last(seconds))
    if noted is None:
        journal.append({"event": "prepared", "side": number, "facts": facts})
    return True


def _gone(watch: Stopwatch, seconds: float | None, reserve: float) -> float:
    """Returns what is gone of the time after a look at the images; rather late than nothing where that took longer than it was given."""
    return watch.seconds if seconds is None else max(watch.before, min(watch.seconds, seconds - reserve - LEAST_TRAINING))


def _clocks(journal: Records, folder: Path) -> list[float]:
    """Returns what the clock said at the last record and at each checkpoint of an interrupted race."""
    from archduel.core.storage import if_whole, load_state

    if not any("clock" in record for record in journal.records):
        return []
    paths = (folder / "checkpoints").glob("*-*.safetensors")
    states = [if_whole(path, load_state) for path in paths]
    saved = [state.get("progress", {}).get("clock", 0.0) for state in states if state is not None]
    return [float(record.get("clock", 0.0)) for record in journal.records[-1:]] + saved


def _begun(journal: Records, gone: float) -> float:
    """Returns when a race began on the clock of its budget, which its plan starts from also where it is continued."""
    noted = next((record for record in journal.records if record["event"] == "size"), {})
    return float(noted.get("gone", gone))


def _plan(
    seconds: float | None, evaluations: int | None, gone: float, reserve: float, epochs: tuple[float, float], *, last_training: bool
) -> Plan:
    """Returns the plan of a race."""
    if seconds is not None:
        return timed_plan(seconds, gone=gone, reserve=reserve, last_share=LAST_SHARE if last_training else 0.0)
    assert evaluations is not None
    return epochs_plan(evaluations, first=epochs[0], last=epochs[1])


def _usual(sizes: Sizes) -> tuple[Arch, Scale, Counts]:
    """Returns the network whose speed stands for that of all before any was trained: ResNet-8 with 16 channels."""
    arch, scale = Arch(ResNet.name, (BLOCKS.index(1), WIDTHS.index(16))), sizes.scale(16, 1)
    return arch, scale, sizes.count(arch, scale)


def _affordable_macs(
    journal: Records, plan: Plan, sizes: Sizes, sets: Sets, recipe: Recipe, device: str, clock: Clock, start: Arch | None, *, gone: float, timed: bool
) -> float:
    """Returns the multiply-adds of a network that the last training can show all images to often enough; measured once.

    A small network of usual speed says at which size the space's own first one is timed: a second of it does two to three times as many multiply-adds
    (the first network of 10 minutes of CIFAR-10 got 32 channels and made 140 passes where it was meant to make 60).
    """
    noted = next((record for record in journal.records if record["event"] == "size"), None)
    if noted is not None:
        return float(noted["macs"])
    usual = _usual(sizes)
    macs = float(usual[2].macs)
    if timed:

        def affordable(arch: Arch, scale: Scale, counts: Counts) -> float:
            a_second = counts.macs * _images_a_second(arch, scale, sets.at(scale), recipe, device, clock)
            return a_second * plan.last / (enough_passes(len(sets.both)) * len(sets.both))

        macs = affordable(*usual)
        found = None if start is None else fitting_scale(start, macs, sizes, np.random.default_rng(0))
        if start is not None and found is not None:
            macs = affordable(start, *found)
    journal.append({"event": "size", "macs": macs, "gone": gone})
    return macs


def _images_a_second(
    arch: Arch, scale: Scale, sets: Sets, recipe: Recipe, device: str, clock: Clock, steps: int = 3
) -> float:
    """Returns how many images a network trains on in a second of the budget with one thread; corrected while the race runs."""
    trainer = Anytime(build(arch, scale, generator=torch.Generator().manual_seed(0)), sets.train, recipe, seed=0, device=device)
    left = [1]

    def rate() -> float | None:
        left[0] -= 1
        return 0.0 if left[0] >= 0 else None

    trainer.run(rate)  # the first step allocates
    left[0], began, images = steps, clock.now(), trainer.images
    trainer.run(rate)
    return (trainer.images - images) / max(clock.now() - began, 1e-9)


def _propose(earlier: Sequence[Arch], own: Side, known: Sequence[Side]) -> None:
    """Lets the networks of earlier races enter first, each on the side that has its kind; one that no side can open stays out."""
    for arch in earlier:
        otherwise = own if enters_elsewhere(arch.space, own.asker.space.name) else None
        home = next((side for side in (own, *known) if side.asker.space.name == arch.space), otherwise)
        if home is not None:
            home.proposed.append(Entry("earlier", arch, Scale(), Counts(0, 0)))


def _standards(sizes: Sizes, macs: float) -> list[Entry]:
    """Returns the standard networks that take part, near the size that the time supports.

    Residual ones of one, two, three and five blocks a stage, and in the third place the smallest once-for-all MobileNetV3, whose
    depthwise convolutions take about four times as long for a multiply-add on a CPU.
    """
    named = [Arch(ResNet.name, (b, w)) for b in range(4) for w in range(len(WIDTHS))]
    try:
        entries = [Entry("standard", *found) for found in standard_ladder(named, macs, sizes, lambda arch: arch.choices[0])]
    except InfeasibleError:
        entries = []  # the limits are for other networks; the strategy's may be small enough
    mobile = MobileNetV3()
    units, depth = 5, 2
    slots = tuple(3 if slot < depth else 0 for slot in range(4)) * units
    arch = mobile.from_spec(Spec((depth,) * units, slots, slots))
    found = fitting_scale(arch, macs / 4, replace(sizes, depths=(1,)), np.random.default_rng(0))
    return entries if found is None else [*entries[:2], Entry("standard", arch, *found), *entries[2:]]


def _namer(space: Space, *others: Space) -> Callable[[Arch], str]:
    """Returns a function that names architectures for people."""
    mobile = MobileNetV3()
    homes = {home.name: home for home in (space, *others)}

    def named(arch: Arch) -> str:
        if arch.space == mobile.name:
            return "MobileNetV3 of the least depth"
        home = homes[arch.space] if arch.space in homes else family(arch.space)()
        return str(home.write(arch)) if isinstance(home, TextSpace) else str(arch)

    return named


def _shares(candidates: Sequence[Candidate], winner: Candidate, strategy: float, lesson: float = 0.0) -> dict[str, float]:
    others = sum(c.seconds for c in candidates if c is not winner) + lesson
    total = max(winner.seconds + others + strategy, 1e-9)
    return {"handed over": winner.seconds / total, "others": others / total, "strategy": strategy / total}


def _standings(candidates: Sequence[Candidate], random_first: int) -> list[dict[str, Any]]:
    """Returns the best of each role at each rung; the strategy's first, random questions count for random search too."""
    rows = []
    asked = [c for c in candidates if c.entry.asked]
    groups = {role: [c for c in candidates if c.role == role] for role in ("start", "search", "random", "standard", "tuned", "earlier")}
    groups["random"] = groups["random"] + asked[:random_first]
    for rung in range(max((len(c.curve) for c in candidates), default=0)):
        for role, members in groups.items():
            there = [c for c in members if len(c.curve) > rung]
            if there:
                best = max(there, key=lambda c: c.curve[rung]["score"])
                point = best.curve[rung]
                rows.append({"rung": rung, "role": role, "number": best.number, "name": best.name, "n": len(there), **point})
    return rows

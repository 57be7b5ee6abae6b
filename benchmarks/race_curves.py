"""Whole learning curves of networks of a race, from which rules of races are replayed without training anything again.

    python benchmarks/race_curves.py --out benchmarks/records/race_curves.jsonl                  # trains, one line a network
    python benchmarks/race_curves.py --out benchmarks/records/race_curves.jsonl --replay benchmarks/records/race_replay.json

Each network of space ``stages`` (its start, every network that differs from the start in one answer, random ones, the start at half
and twice the size, a ResNet) is trained as a race trains: at a constant rate for 60 % of ``--seconds`` processor seconds, scored on the
way with the average of its weights, then with a rate that falls to zero. Images: ``twenty`` of ``against_plain.py`` (800 to train,
200 to score), and for the final quality its 400 test images and the 1,000 training images of these classes that ``twenty`` leaves out.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recording import write_record
from scipy.stats import kendalltau

from archduel.core.storage import environment

ROW = "twenty"
MACS = 6e6
"""Multiply-adds of a network that 60 s of one core support there, as the race itself measured."""
GRID = [0.4 * 1.25**i for i in range(18)]
"""Processor seconds at which a network is scored."""
CONSTANT = 0.6


def members() -> list[tuple[str, str, float]]:
    """Returns (group, architecture as text, multiply-adds) of the networks."""
    from archduel.core import Arch, sample
    from archduel.spaces.stages.space import Stages

    space, start = Stages(), Stages().start()
    listed = [("start", str(start), MACS), ("start", str(start), MACS / 2), ("start", str(start), 2 * MACS)]
    for place, choice in enumerate(start.choices):
        others = (c for c in space.decision(start.choices[:place]).options if c != choice)  # type: ignore[union-attr]
        for other in others:
            choices = (*start.choices[:place], other, *start.choices[place + 1 :])
            if place not in (5, 6) or other == 1:  # growth: one step only
                listed.append(("neighbour", str(Arch(space.name, choices)), MACS))
    rng = np.random.default_rng(7)
    listed += [("random", str(sample(space, rng)), MACS) for _ in range(6)]
    listed.append(("standard", "resnet:0.2", MACS))
    return [*listed[:3], listed[-1], *_in_turn(listed[3:-1])]


def _in_turn(listed: list[tuple[str, str, float]]) -> list[tuple[str, str, float]]:
    """Returns neighbours and random networks in turn, so that a part of them is a sample of both."""
    near = [member for member in listed if member[0] == "neighbour"]
    far = [member for member in listed if member[0] == "random"]
    mixed = [member for pair in zip(far, near) for member in pair]
    return mixed + near[len(far) :] + far[len(near) :]


def unseen() -> tuple[np.ndarray, np.ndarray]:
    """Returns the 1,000 training images of the twenty classes that ``twenty`` leaves out, (N, 3, 32, 32) uint8, and their labels."""
    from against_plain import decoded

    images, labels = decoded(Path(os.environ["ARCHDUEL_DATA"]) / "cifar100_subset" / "train.npz")
    images, labels = images[labels % 5 == 0], labels[labels % 5 == 0] // 5
    rest = np.concatenate([np.flatnonzero(labels == label)[50:] for label in range(20)])
    return images[rest].transpose(0, 3, 1, 2), labels[rest]


def curve(arch_text: str, macs: float, seconds: float, seed: int) -> dict[str, Any]:
    """Trains one network and returns its scores on the way and its quality at the end."""
    from against_plain import source

    from archduel.core import parse
    from archduel.data import load
    from archduel.race.run import race_recipe
    from archduel.race.sets import sets_of
    from archduel.race.sizes import Sizes, fitting_scale
    from archduel.race.training import Anytime
    from archduel.spaces.family import build, count
    from archduel.training.images import Pixels
    from archduel.training.metrics import evaluate

    data = load(source(ROW), seconds=60)
    sets, recipe, arch = sets_of(data, "cpu", None), race_recipe(data), parse(arch_text)
    sizes = Sizes(data.image_size, data.in_channels, data.n_classes, count, lambda arch, scale, counts: True)
    found = fitting_scale(arch, macs, Sizes(**{**vars(sizes), "depths": (1,)}), np.random.default_rng(0))
    assert found is not None
    scale, counts = found
    if arch.space == "resnet":
        scale, counts = sizes.scale(16, 1), count(arch, sizes.scale(16, 1))
    trainer = Anytime(build(arch, scale, generator=torch.Generator().manual_seed(seed)), sets.train, recipe, seed=seed)
    spent, points = 0.0, []
    for goal in [*(t for t in GRID if t < CONSTANT * seconds), seconds]:
        began, before, steps = time.process_time(), spent, trainer.steps

        def rate(goal: float = goal, before: float = before, began: float = began, steps: int = steps) -> float | None:
            nonlocal spent
            spent = before + time.process_time() - began
            if spent + (spent - before) / max(1, trainer.steps - steps) / 2 >= goal:
                return None
            fall = min(1.0, (seconds - spent) / ((1 - CONSTANT) * seconds))
            return recipe.lr * fall * min(1.0, max((trainer.steps + 1) / 100, spent / (0.25 * 0.85)))

        if not trainer.run(rate):  # asked within this turn alone
            return {"arch": arch_text, "params": counts.params, "macs": counts.macs, "points": points, "diverged": True}
        if goal < seconds:
            with trainer.averaged() as model:
                at = evaluate(model, sets.validation)
            points.append({
                "seconds": round(spent, 3), "passes": round(trainer.passes, 2), "score": at.likelihood(), "accuracy": at.accuracy,
                "loss": at.loss, "train_loss": trainer.loss,
            })  # fmt: skip
    images, labels = unseen()
    look = data.preprocessing
    test = Pixels(np.concatenate([data.test.images, images]), np.concatenate([data.test.labels, labels]), look.mean, look.std)
    end, check = evaluate(trainer.model.eval(), test), evaluate(trainer.model, sets.validation)
    return {
        "arch": arch_text, "channels": scale.channels, "params": counts.params, "macs": counts.macs, "points": points, "passes": trainer.passes,
        "test": end.accuracy, "test_loss": end.loss, "test_score": end.likelihood(), "validation": check.accuracy, "n_test": len(labels) + len(data.test.labels),
    }  # fmt: skip


def work(path: Path, seconds: float, seeds: int, only: str) -> None:
    """Trains what ``path`` has no line of; with ``only`` those architectures at the usual size."""
    have = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(r["arch"], r["size"], r["seed"]) for r in have}
    for seed in range(seeds):
        for group, arch, macs in members():
            if (arch, macs, seed) in done or (only and (arch not in only.split(",") or macs != MACS)):
                continue
            record = {"group": group, "size": macs, "seed": seed, "seconds": seconds, **curve(arch, macs, seconds, seed)}
            record |= {"load_average": os.getloadavg()[0], "command": shlex.join(["python", *sys.argv])}
            with path.open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(group, arch, f"{macs:.0f}", seed, record.get("test"), record.get("test_loss"), flush=True)


# -- Replays ------------------------------------------------------------------------------------------------------------

Curve = dict[str, Any]
USABLE = 55.0
"""Seconds of a race of a minute, start and hand-over left out; networks compete in 38 % of it."""


@dataclass(frozen=True)
class Rule:
    """How a race goes.

    Attributes:
        first: seconds up to the first rung.
        levels: how many rungs.
        order: groups of the newcomers after the start, repeated.
        favoured: whether the start goes up to the highest rung anyway.
        share: of the time in which networks compete.
    """

    first: float = 0.85
    levels: int = 3
    order: tuple[str, ...] = ("standard", "random", "random", "standard", "random", "neighbour", "random")
    favoured: bool = True
    share: float = 0.38


RULES = {
    "start alone": Rule(order=()),
    "as before: a neighbour in three": Rule(order=("standard", "random", "neighbour", "standard", "random", "neighbour", "random")),
    "neighbours only": Rule(order=("neighbour",)),
    "random ones only": Rule(order=("random",)),
    "random ones only, start not favoured": Rule(order=("random",), favoured=False),
    "neighbours, start not favoured": Rule(order=("neighbour",), favoured=False),
    "neighbours, first rung twice as far, two rungs": Rule(first=2.6, levels=2, order=("neighbour",)),
    "neighbours, every one to 7.7 s": Rule(first=7.7, levels=1, order=("neighbour",)),
    "neighbours, half as many to 14 s": Rule(first=1.6, levels=3, order=("neighbour",)),
    "neighbours, 60 % of the time": Rule(order=("neighbour",), share=0.6),
}


def score_at(curve: Curve, seconds: float) -> float:
    """Returns the score at a time, between the measured ones on a scale of log time."""
    points = curve["points"]
    return float(np.interp(np.log(seconds), np.log([p["seconds"] for p in points]), [p["score"] for p in points]))


def replayed(rule: Rule, curves: list[Curve], rng: np.random.Generator) -> Curve:
    """Returns the network that a race by these rules hands over."""
    from archduel.race.rungs import Enter, Rungs, Standing

    budget = rule.share * USABLE
    rungs = Rungs(rule.first, budget / (rule.levels + 1), levels=rule.levels)
    pools = {group: list(rng.permutation([i for i, c in enumerate(curves) if c["group"] == group])) for group in ("standard", "random", "neighbour")}
    there, standings, spent, used = [0], {0: Standing(favoured=rule.favoured)}, [0.0] * rule.levels, 0.0
    move: Any = None
    while True:
        fresh = [rule.order[(len(there) - 1 + i) % len(rule.order)] for i in range(len(rule.order))] if rule.order else []
        group = next((g for g in fresh if pools[g]), None)
        if standings[0].rung == 0:
            number = 0
        else:
            move = rungs.next_move(standings, spent, newcomers=group is not None)
            if move is None or used >= budget:
                break
            if isinstance(move, Enter):
                assert group is not None
                there.append(int(pools[group].pop()))
                standings[len(there) - 1] = Standing()
                number = len(there) - 1
            else:
                number = move.number
        rung = standings[number].rung
        cost = rungs.extra(rung)
        spent[rung], used = spent[rung] + cost, used + cost
        standings[number].scores.append(score_at(curves[there[number]], rungs.amount(rung)))
    leader = rungs.leader(standings)
    assert leader is not None
    return curves[there[leader]]


def replay(path: Path, races: int) -> dict[str, Any]:
    """Replays every rule and returns mean quality of what is handed over, how often a searched network is, and the correlations."""
    curves = [r for r in map(json.loads, path.read_text().splitlines()) if r["seed"] == 0 and "test" in r]
    at_one_size = [c for c in curves if c["size"] == MACS]
    found: dict[str, Any] = {"networks": len(at_one_size), "races": races}
    loss = np.array([c["test_loss"] for c in at_one_size])
    for seconds in (0.85, 2.6, 7.7, 14.0, 22.0):
        scores = np.array([score_at(c, seconds) for c in at_one_size])
        found[f"kendall_tau_{seconds:g}s"] = round(float(kendalltau(scores, -loss).statistic), 3)
    for name, rule in RULES.items():
        won = [replayed(rule, at_one_size, np.random.default_rng([9, i])) for i in range(races)]
        found[name] = {
            "test": round(float(np.mean([c["test"] for c in won])), 4), "test_loss": round(float(np.mean([c["test_loss"] for c in won])), 4),
            "searched": round(float(np.mean([c["group"] in ("neighbour", "random") for c in won])), 3),
        }  # fmt: skip
    for seconds in (0.85, 2.6, 7.7, 22.0):
        won = max((c for c in at_one_size if c["group"] != "standard"), key=lambda c: score_at(c, seconds))
        found[f"all scored at {seconds:g} s, the best is chosen"] = {name: won[name] for name in ("arch", "test", "test_loss")}
    for group in ("start", "neighbour", "random", "standard"):
        members = [c for c in at_one_size if c["group"] == group]
        found[f"mean of {group}"] = {"n": len(members), **{name: round(float(np.mean([c[name] for c in members])), 4) for name in ("test", "test_loss")}}
    found["best"] = {"test": max(c["test"] for c in at_one_size), "test_loss": float(loss.min())}
    return found


def main() -> None:
    """Parses the command line and works."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/records/race_curves.jsonl"))
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="", help="architectures with commas")
    parser.add_argument("--replay", type=Path, help="train nothing, replay rules and write what came of them here")
    parser.add_argument("--races", type=int, default=500)
    arguments = parser.parse_args()
    if arguments.replay:
        found = replay(arguments.out, arguments.races)
        print(json.dumps(found, indent=1))
        write_record(arguments.replay, {**found, "command": shlex.join(["python", *sys.argv]), **environment()})
        return
    torch.set_num_threads(1)
    work(arguments.out, arguments.seconds, arguments.seeds, arguments.only)


if __name__ == "__main__":
    main()

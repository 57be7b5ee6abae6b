"""The trusted recipe of a proxy search: given by name or file, or as large as its share of the time allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from archduel import registry
from archduel.apps.plan import LADDERS, base_recipe
from archduel.apps.proxy_bench import Bench
from archduel.apps.proxy_recipes import changed, fitted, read_recipe
from archduel.apps.settings import make_settings
from archduel.apps.stopwatch import Stopwatch
from archduel.core import Arch, Space, sample
from archduel.data import Dataset
from archduel.errors import BudgetError, InfeasibleError, SettingError
from archduel.training.recipe import Recipe

__all__ = ["TRUTH_SHARE", "check_truth", "random_archs", "reference_recipe", "trusted_recipe"]

TRUTH_SHARE = 0.45
"""Share of the time that the architectures' trusted trainings may take."""
MOST_EPOCHS, FEWEST_EPOCHS = 40, 4
UNTIMED = 20
FEWEST_ARCHS = 5


def check_truth(n: int) -> None:
    """Raises SettingError for fewer trusted architectures than say anything about a ranking."""
    if n < FEWEST_ARCHS:
        raise SettingError(f"truth must be at least {FEWEST_ARCHS} architectures, got {n}")


def trusted_recipe(
    bench: Bench, dataset: Dataset, settings: Mapping[str, Any], seconds: float | None, device: str, notes: Sequence[str] = ()
) -> Recipe:
    """Returns the trusted recipe of a job, chosen once and from then on read from its journal; says what a person should know.

    Args:
        bench: the job's folder.
        dataset: the images.
        settings: of the job: ``reference``, ``changes``, ``space``, ``truth``.
        seconds: core seconds for all trusted trainings; None = not timed.
        device: where they are trained.
        notes: what else there is to say, before.

    Raises:
        BudgetError: if not even the smallest networks fit.
    """

    def chosen() -> dict[str, Any]:
        """Chooses it and times networks for that, which a continued job does not do again."""
        recipe, said = reference_recipe(
            settings["reference"], settings["changes"], dataset, settings["space"],
            seconds=seconds, truth=settings["truth"], device=device,
        )  # fmt: skip
        return {"recipe": asdict(recipe), "notes": said}

    noted = bench.note("reference", chosen)
    for line in [*notes, *noted["notes"]]:
        bench.progress.say(line)
    return Recipe(**noted["recipe"])


def random_archs(space: Space, n: int, seed: int) -> list[Arch]:
    """Returns ``n`` random architectures of different fingerprints; a larger number begins with the same ones.

    Raises:
        InfeasibleError: if the space seems to have fewer.
    """
    rng = np.random.default_rng([seed, 61])
    found: dict[str, Arch] = {}
    for _ in range(1_000 + 100 * n):
        if len(found) == n:
            break
        arch = sample(space, rng)
        found.setdefault(space.fingerprint(arch), arch)
    if len(found) < n:
        raise InfeasibleError(f"{space.name} gave only {len(found)} different architectures, {n} were asked for")
    return list(found.values())


def reference_recipe(
    name: str,
    changes: Mapping[str, Any],
    dataset: Dataset,
    space: str,
    *,
    seconds: float | None,
    truth: int,
    device: str = "cpu",
) -> tuple[Recipe, list[str]]:
    """Returns the trusted recipe and what a person should know about the choice.

    Args:
        name: of the menu or a file; ``auto`` = the main job's settings at the largest size and number of epochs (4 to 40) that
            fit, or at a middling size for 20 epochs where there is no time or the epochs are given.
        changes: settings that differ.
        dataset: the images.
        space: the networks' space.
        seconds: core seconds for all trusted trainings.
        truth: how many there are.
        device: where they are trained.

    Raises:
        BudgetError: if not even the smallest networks fit.
    """
    if name != "auto":
        return fitted(changed(read_recipe(name, space), changes), dataset)
    base = base_recipe(dataset, space)
    ladder = LADDERS.get(space, ((16, 1),))
    if seconds is None or "epochs" in changes:
        channels, depth = ladder[min(2 if dataset.image_size <= 16 else 3, len(ladder) - 1)]
        chosen = changed(base.with_(channels=channels, depth=depth, epochs=UNTIMED), changes)
    else:
        chosen = changed(_timed(base, ladder, dataset, space, seconds / truth, device), changes)
    return chosen, [f"reference: {chosen.channels} channels, depth {chosen.depth}, {chosen.epochs:g} epochs"]


def _timed(
    base: Recipe, ladder: Sequence[tuple[int, int]], dataset: Dataset, space: str, seconds: float, device: str
) -> Recipe:
    """Returns the largest size of which at least eight epochs fit into ``seconds``, with as many epochs as fit.

    Raises:
        BudgetError: if four epochs of the smallest do not fit.
    """
    settings = make_settings(data=dataset.name, space=space, device=device)
    stopwatch = Stopwatch(settings, registry.make("space", space), dataset)
    best: Recipe | None = None
    for channels, depth in ladder:
        sized = base.with_(channels=channels, depth=depth)
        epochs = seconds / (len(dataset.train) * stopwatch.seconds_per_image(sized))
        if epochs < FEWEST_EPOCHS and best is None:
            raise BudgetError(
                f"the smallest networks could be trained for {epochs:.1f} epochs only, {FEWEST_EPOCHS} are needed; give more "
                f"--time (about {FEWEST_EPOCHS / max(epochs, 1e-9):.1f} times as much), a smaller --truth or --max-images"
            )
        if best is not None and epochs < 2 * FEWEST_EPOCHS:
            break
        best = sized.with_(epochs=min(MOST_EPOCHS, int(epochs)))
    assert best is not None
    return best

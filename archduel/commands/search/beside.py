"""A further space whose untrained networks race beside those of the run's own."""

from __future__ import annotations

from collections.abc import Callable

from archduel import registry
from archduel.commands.progress import Progress
from archduel.commands.search.own import for_data
from archduel.commands.search.settings import Settings
from archduel.core import Constraint, Space, Strategy
from archduel.data import Dataset
from archduel.errors import InfeasibleError
from archduel.race.newcomers import Asker
from archduel.race.sides import Side

__all__ = ["side_beside"]


def side_beside(
    settings: Settings, dataset: Dataset, within: Callable[[Space], Constraint | None],
    make: Callable[[Space, Constraint | None], tuple[Strategy, int]], progress: Progress,
) -> list[Side]:  # fmt: skip
    """Returns the further space as a source of newcomers with a strategy of its own; none where nobody asked, or nothing of it fits.

    Args:
        settings: of the run.
        dataset: its images.
        within: the limits as a constraint on a space.
        make: makes the strategy that searches in a space under a constraint, and says how many of its first questions are random.
        progress: takes messages for people.
    """
    if settings.beside is None:
        return []
    space = for_data(registry.make("space", settings.beside), dataset, progress)
    try:
        constraint = within(space)
    except InfeasibleError as error:
        progress.say(f"space {space.name} takes no part: {error}")
        return []
    strategy, random_first = make(space, constraint)
    return [Side(Asker(strategy, space, constraint), random_first=random_first)]

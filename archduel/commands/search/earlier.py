"""`--from`: what an earlier run knows, for a new one: labels for the ranker, and the network that it handed over as the first candidate.

Architectures and labels are taken over, weights are not: the earlier run may have trained on images that are validation or test images
now. What was read is kept in the new run's journal, so that a continued run does not depend on the other folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archduel.assemble import accepted_partners
from archduel.commands.priors import SEPARATOR, read_source, winner_of_run
from archduel.commands.search.settings import Settings
from archduel.core import Arch, Space, parse
from archduel.core.job import Job
from archduel.errors import ArchduelError, RunError
from archduel.rankers.warm import Source
from archduel.spaces.family import enters_elsewhere
from archduel.text import printable

__all__ = ["Earlier", "check_earlier", "read_earlier", "taken_over"]


@dataclass(frozen=True)
class Earlier:
    """What earlier runs and tables know.

    Attributes:
        sources: labels, of one space each.
        winners: the architectures that earlier runs handed over.
    """

    sources: Sequence[Source] = ()
    winners: Sequence[Arch] = ()

    def of(self, space: Space) -> list[Source]:
        """Returns the labels of architectures of ``space``."""
        return [source for source in self.sources if source.archs[0].space == space.name]


def check_earlier(settings: Settings, space: Space) -> None:
    """Raises what :func:`read_earlier` raises where ``--from`` names nothing that a search can begin with."""
    if settings.prior is not None:
        _read(settings.prior, space, settings.seed)


def read_earlier(folder: Job, settings: Settings, space: Space) -> Earlier:
    """Returns what ``--from`` names; read once, then noted.

    Args:
        folder: of the new run.
        settings: of the new run.
        space: where it searches.

    Raises:
        RunError: for a folder that is no finished run.
        ArchduelError: for a table that cannot be read or is of another space.
    """
    if settings.prior is None:
        return Earlier()
    noted = folder.once("prior", lambda: _read(str(settings.prior), space, settings.seed))
    sources = [
        Source(each["name"], [parse(arch) for arch in each["archs"]], each["scores"], each.get("foretells", False)) for each in noted["sources"]
    ]
    return Earlier(sources, [parse(arch) for arch in noted["winners"]])


def taken_over(earlier: Earlier, settings: Settings, space: Space, sides: Sequence[str]) -> list[str]:
    """Returns what a race begins with of what earlier runs know, and what of it takes no part, as lines for people.

    Args:
        earlier: what they know.
        settings: of the race.
        space: where it searches.
        sides: spaces of which networks take part.
    """
    labels, ranker = earlier.of(space), "ranker" in accepted_partners(settings.strategy)
    lines = [f"from {printable(source.name)}: scores of {len(source.archs):,} networks of {space.name}" for source in labels if ranker]
    if labels and not ranker:
        lines.append(f"--from: strategy {settings.strategy} has no ranker that could learn the earlier scores")
    for arch in earlier.winners:
        if arch.space in sides or (space.name in sides and enters_elsewhere(arch.space, space.name)):
            lines.append(f"--from: a network of {arch.space} that was handed over enters first, without the weights that it got then")
        else:
            lines.append(f"--from: a network of {arch.space} was handed over, and none of {arch.space} takes part here")
    return lines


def _read(text: str, space: Space, seed: int) -> dict[str, Any]:
    sources, winners = [], []
    for part in (part.strip() for part in text.split(SEPARATOR)):
        run = Path(part).is_dir()
        if run:
            winners.append(str(winner_of_run(Path(part))))
        try:
            source = read_source(part, space, seed)
        except ArchduelError as error:
            if run:
                continue  # a run in another space: its network takes part, its labels say nothing here
            raise RunError(f"--from {part}: neither the folder of a finished run nor labels of space {space.name!r}: {error}") from error
        labels = {"archs": [str(arch) for arch in source.archs], "scores": [float(score) for score in source.scores]}
        sources.append({"name": part, **labels, "foretells": source.foretells})
    return {"sources": sources, "winners": winners}

"""Published architectures by name: what is known of them, what they cost, how they look."""

from __future__ import annotations

from typing import Any

from archduel.apps.spaces import open_space, parse, resolve
from archduel.core import Counts, Scale
from archduel.nets import count
from archduel.nets.counts_darts import count_genotype
from archduel.spaces.drawing import draw, draw_genotype
from archduel.spaces.genotype_text import read_genotype
from archduel.spaces.named import NAMED, Named, find, named

__all__ = ["counts_of_named", "drawing", "show", "summaries"]


def counts_of_named(item: Named, scale: Scale) -> Counts:
    """Returns the cost of a named architecture with its network's options."""
    if item.space not in ("", "darts"):
        return count(parse(open_space(item.space), item.text), scale, **item.options)
    return count_genotype(read_genotype(item.text), scale, **item.options)


def show(name: str) -> dict[str, Any]:
    """Returns all that is known of a named architecture, with our counts for the settings it was published in.

    Raises:
        UnknownNameError: for a name that there is not.
    """
    item = named(name)
    shown: dict[str, Any] = {"name": item.name, "space": item.space or "none"}
    if item.space:
        space = open_space(item.space)
        arch = parse(space, item.text)
        shown |= {"arch": str(arch), "fingerprint": space.fingerprint(arch)}
    shown |= {"text": item.text, "source": item.source, "reported": dict(item.reported)}
    shown["counts"] = {label: counts_of_named(item, scale)._asdict() for label, scale in item.scales}
    return {**shown, "note": item.note}


def summaries() -> list[str]:
    """Returns one line for each named architecture: name, space, source."""
    return [f"{item.name:20}{item.space or '-':14}{item.source}" for item in NAMED.values()]


def drawing(text: str, space_name: str = "", *, columns: int = 2) -> str:
    """Returns an SVG file of a named architecture or of an architecture's text.

    Raises:
        InvalidArchError: for a text that is none.
        UnknownNameError: for an unknown space.
    """
    item = find(text)
    if item and not item.space:
        return draw_genotype(read_genotype(item.text), item.name, columns=columns, standalone=True)
    space, arch = resolve(text, space_name)
    return draw(space, arch, columns=columns, standalone=True)

"""Says for every figure of README and docs which number of which record it is: `python tests/docs/bind_figures.py` writes `figures.txt`.

Where a figure has no source yet, the number of the block's records that agrees with it at the digits shown and shares most words with
the figure's row, column and sentence is proposed, printed and written down. From then on that number is the only one that the figure may be
(`test_figures.py`): another figure, or a record made anew, is noticed. Look at what it prints: a wrong figure may have a match by chance.
"""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path

from figures import PAGES, Block, Figure, blocks
from record_numbers import numbers, words

FILE = Path(__file__).with_name("figures.txt")
SCALES: dict[str, tuple[float, ...]] = {
    "%": (100, 1), "points": (100, 1), "point": (100, 1), "k": (1e-3,), "M": (1e-6,), "ms": (1e3, 1, 1e-3), "s": (1, 1e-3), "microseconds": (1e6, 1e3, 1), "µs": (1e6, 1e3, 1),
    "min": (1 / 60, 1), "h": (1 / 3600, 1), "kB": (1e-3, 1), "KiB": (1 / 1024, 1), "MB": (1e-6, 1), "MiB": (2**-20, 1), "GB": (1e-9, 1e-6, 1e-3, 1), "GiB": (2**-30, 1),
}  # fmt: skip
NOTE = re.compile(r"([-\d][\d.,]*(?:(?:, | and )[-\d][\d.,]*)*) (=|in|is|are) (.+)", re.DOTALL)
FREE = (1, 100, 1e3, 1e-3, 1e-6)  # where the unit stands in the head of a table


def agree(figure: Figure, value: float) -> bool:
    """Returns whether the number is the figure at the digits shown, in one of its unit's scales."""
    return any(abs(value * scale - figure.value) <= figure.half for scale in SCALES.get(figure.unit, FREE))


def explained(figure: Figure, block: Block) -> list[tuple[str, str]]:
    """Returns what comments say of where the figure comes from: "=" and a formula, "in" and a list, "is" or "are" and a reason."""
    said = [match.groups() for match in (NOTE.match(note) for note in block.notes) if match]
    return [(verb, source) for texts, verb, source in said if figure.text in texts.replace(" and ", ", ").split(", ")]


def read() -> dict[str, list[tuple[str, str]]]:
    """Returns page -> (figure as shown, its source) in the order of the page."""
    result: dict[str, list[tuple[str, str]]] = {}
    for line in FILE.read_text(encoding="utf-8").splitlines() if FILE.exists() else []:
        page, shown, source = line.split("\t")
        result.setdefault(page, []).append((shown, source))
    return result


def sourced(page: Path, known: dict[str, list[tuple[str, str]]]) -> list[tuple[Block, Figure, str | None]]:
    """Returns the figures of a page that a record has to say, each with the source that is written down for it."""
    shown = [(block, figure) for block in blocks(page) for figure in block.figures() if not explained(figure, block)]
    sources = align([figure.shown for _, figure in shown], known.get(shown[0][1].page, []) if shown else [])
    return [(block, figure, source) for (block, figure), source in zip(shown, sources, strict=True)]


def align(shown: list[str], written: list[tuple[str, str]]) -> list[str | None]:
    """Returns for each figure in order what is written down for it, where the two lists go together."""
    sources: list[str | None] = [None] * len(shown)
    for match in difflib.SequenceMatcher(a=shown, b=[text for text, _ in written], autojunk=False).get_matching_blocks():
        sources[match.a : match.a + match.size] = [source for _, source in written[match.b : match.b + match.size]]
    return sources


@cache
def _rarity(record: str) -> dict[str, float]:
    counts = Counter(word for _, around in numbers(record).values() for word in around)
    return {word: math.log(1 + len(numbers(record)) / n) for word, n in counts.items()}


def propose(figure: Figure, block: Block) -> str | None:
    """Returns the number of the block's records that the figure most likely is, or None where none agrees."""
    near, around = words(figure.near), words(figure.around)
    best, source = -math.inf, None
    for record in dict.fromkeys(block.records):
        rarity = _rarity(record)
        for name, (value, said) in numbers(record).items():
            if agree(figure, value):
                likeness = sum(rarity[word] for word in said & near) + 0.3 * sum(rarity[word] for word in said & around)
                likeness -= 0.5 * ("[*]" in name) + 3 * ("~" in name or name.endswith("entries")) + 0.02 * len(said)
                if likeness > best:
                    best, source = likeness, f"{record} {name}"
    return source


def main() -> int:
    """Writes the sources of all figures; returns 1 where a figure has none."""
    known, lines, missing = read(), [], 0
    for page in PAGES:
        for block, figure, source in sourced(page, known):
            if source is None:
                source = propose(figure, block)
                print(f"{figure.page}:{figure.line}: {figure.shown}  <-  {source or 'NO NUMBER of ' + ', '.join(block.records[:4])}")
            if source is None:
                missing += 1
            else:
                lines.append(f"{figure.page}\t{figure.shown}\t{source}\n")
    FILE.write_text("".join(lines), encoding="utf-8")
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())

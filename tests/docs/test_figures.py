"""Figures of README and docs are what the records say that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bind_figures
import pytest
from bind_figures import agree, align, explained, read, sourced
from figures import NAMED, PAGES, RECORDS, ROOT, Block, Figure, blocks
from record_numbers import load, numbers

pytestmark = pytest.mark.skipif(not RECORDS.is_dir(), reason="needs benchmarks/records, which are in the repository and not in an sdist")
HOW = "python tests/docs/bind_figures.py proposes one"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_figures_are_what_their_records_say(page: Path) -> None:
    wrong = []
    for block, figure, source in sourced(page, read()):
        at = f"{figure.page}:{figure.line}: {figure.shown}"
        record, _, name = (source or "").partition(" ")
        if source is None:
            wrong.append(f"{at} has no source in {', '.join(block.records)}; {HOW}")
        elif record not in block.records or name not in numbers(record):
            wrong.append(f"{at}: there is no {source} any more; take its line out of figures.txt; {HOW}")
        elif not agree(figure, numbers(record)[name][0]):
            wrong.append(f"{at}, but {source} is {numbers(record)[name][0]:.6g}")
    assert not wrong, "\n".join(wrong)


def test_comments_on_figures_hold() -> None:
    wrong = []
    for page in PAGES:
        for block in blocks(page):
            for figure in block.figures():
                sources = explained(figure, block)
                if sources and not any(_holds(figure, verb, source, block) for verb, source in sources):
                    wrong.append(f"{figure.page}:{figure.line}: {figure.shown} is not what its comment says: {sources}")
    assert not wrong, "\n".join(wrong)


def test_every_comment_speaks_of_a_figure_and_is_read() -> None:
    for page in PAGES:
        for block in blocks(page):
            shown = {figure.text for figure in block.figures()}
            for note in block.notes:
                match = bind_figures.NOTE.fullmatch(note)
                assert match, f"{block.page}:{block.line}: {note!r} is not FIGURES = FORMULA, FIGURES in LIST, FIGURES is REASON"
                missing = set(match[1].replace(" and ", ", ").split(", ")) - shown
                assert not missing, f"{block.page}:{block.line}: comment on {sorted(missing)}, which the block does not show"


def test_no_source_is_left_over() -> None:
    used = {(figure.page, figure.shown, source) for page in PAGES for _, figure, source in sourced(page, read())}
    left = [(page, *entry) for page, entries in read().items() for entry in entries if (page, *entry) not in used]
    assert not left


def test_a_changed_digit_is_noticed() -> None:
    """Raises one figure of a page after the other by its last digit: none may keep a source that agrees with it."""
    page, known = ROOT / "docs" / "rankers.md", read()
    figures = [figure for _, figure, _ in sourced(page, known)]
    assert len(figures) > 200
    for i in range(0, len(figures), 5):
        changed = Figure(_next(figures[i].text), *(getattr(figures[i], name) for name in ("unit", "page", "line", "near", "around")))
        shown = [figure.shown for figure in figures]
        source = align([*shown[:i], changed.shown, *shown[i + 1 :]], known[changed.page])[i]
        assert source is None or not agree(changed, numbers(source.partition(" ")[0])[source.partition(" ")[2]][0]), changed


def test_records_that_are_named_exist() -> None:
    names = {path.name for path in RECORDS.iterdir()}
    for page in PAGES:
        for name in NAMED.findall(page.read_text(encoding="utf-8")):
            text = f"benchmarks/records/{name}"
            assert "*" in name or name in names or text not in page.read_text(encoding="utf-8"), f"{page.name} names {text}, which is not there"


def _next(text: str) -> str:
    return text[:-1] + str((int(text[-1]) + 1) % 10)


def _holds(figure: Figure, verb: str, source: str, block: Block) -> bool:
    if verb in ("is", "are"):
        return len(source.split()) > 1 or source == "published"
    names: dict[str, Any] = {"rec": load(block.records[0]), "recs": {name: load(name) for name in block.records}}
    value = eval(source, names)
    return any(agree(figure, v) for v in (value if verb == "in" else [value]))

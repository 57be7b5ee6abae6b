"""Links of README, docs and the other pages lead to files and headings that exist; those to the outside are not followed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|(?:href|src)=\"([^\"]+)\"")


def anchors(page: Path) -> set[str]:
    """Returns the anchors that a page's headings have, on GitHub and in the site alike."""
    result: set[str] = set()
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for heading in re.findall(r"^#{1,6} (.+?)\s*$", text, flags=re.M):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        result |= {slug, re.sub(r"-+", "-", slug)} | ({f"{slug}_{n}" for n in range(1, 9)} if slug in result else set())
    return result


def links(page: Path) -> list[str]:
    """Returns the targets of a page's links, code left out."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [first or second for first, second in LINK.findall(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            assert not path.startswith("http:"), f"{page.name}: {target} is not encrypted"
            continue
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            dead.append(target)
    assert not dead, f"{page.relative_to(ROOT)}: {dead} lead nowhere"


def test_a_dead_link_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A heading, `code`\n\n[here](#a-heading-code) [gone](gone.md) [no](#other)\n", encoding="utf-8")
    assert anchors(page) == {"a-heading-code"}
    assert links(page) == ["#a-heading-code", "gone.md", "#other"]

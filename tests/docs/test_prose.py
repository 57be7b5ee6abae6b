"""README is made of sentences that one reads once: at most 25 words, in paragraphs, lists and cells of tables alike."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MOST = 25


def sentences(text: str) -> list[str]:
    """Returns the sentences of a page; code counts as one word, headings and comments are left out."""
    text = re.sub(r"^```.*?^```|<!--.*?-->|^#.*?$|!\[[^\]]*\]\([^)]*\)", "\n\n", text, flags=re.M | re.S)
    text = re.sub(r"`[^`]*`", "CODE", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text))
    parts = [cell for block in re.split(r"\n\s*\n|\n(?=- |\|)", text) for cell in (block.split("|") if block.lstrip().startswith("|") else [block])]
    return [s.strip() for part in parts for s in re.split(r"(?<=[.!?:;])\s+(?=[\"'(*A-Z0-9])|(?<=:)\s", " ".join(part.split())) if s.strip()]


def words(sentence: str) -> int:
    return len(re.findall(r"[\w][\w'’.,%/+-]*", sentence))


def test_sentences_of_the_readme_are_short() -> None:
    said = sentences((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(said) > 100
    long = [(words(s), s) for s in said if words(s) > MOST]
    assert not long, "\n".join(f"{n} words: {s}" for n, s in long)


def test_what_is_long_is_noticed() -> None:
    assert [words(s) for s in sentences("One two three. " + "Word " * 30 + "end.")] == [3, 31]

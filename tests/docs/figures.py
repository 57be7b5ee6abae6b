"""Reads the figures of a page: measured-looking numbers in the blocks of Markdown that name a record.

A block is a paragraph, a list item or a table. It is held to the records in `benchmarks/records` that it names; a table that names none
to those of the paragraph before or after it. `<!-- records: X.json -->` below a block adds records that its text does not name, and
`<!-- figures: 15 = rec["plain"] / rec["quick"]; 0.905 is published -->` says where figures come from that no record says as they stand:
`rec` is the first record of the block, `recs["X.json"]` any of them, and without "=" a reason has to stand.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "benchmarks" / "records"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

NAMED = re.compile(r"`(?:benchmarks/records/)?([\w*]+\.jsonl?)`")
COMMENT = re.compile(r"<!-- (figures|records): (.*?) -->", re.DOTALL)
UNITS = r"%|points?|k|M|ms|microseconds|µs|s|min|h|kB|KiB|MB|MiB|GB|GiB|times"
FIGURE = re.compile(rf"(?<![\w.,\-/@])([-−]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?)(?![\w.,]*\d)(?:\s?({UNITS})(?!\w))?")
# What has digits and is no measurement: code, links, names, sizes of kernels and images, intervals' levels, p values, years.
NAMES = re.compile(
    r"`[^`]*`|\]\([^)]*\)|NAS-Bench-\d+|CIFAR-\d+|ResNet-\d+|\btorch \d[\d.]*|Python \d[\d.]*(?: to \d[\d.]*)?|\b\w*[A-Za-z]\w*\d[\w.]*|\d+ x \d+(?: x \d+)*|\d+x\d+"
    r"|\d+ px|\b\d+(?:-\d+)+\b|\bp \d[\d.e-]*|95 %|\b(?:19|20)\d\d\b|\d+(?:st|nd|rd|th)\b"
)


@dataclass(frozen=True)
class Figure:
    """A number as a page shows it, with the words around it."""

    text: str
    unit: str
    page: str
    line: int
    near: str
    around: str

    @property
    def value(self) -> float:
        return float(self.text.replace(",", ""))

    @property
    def half(self) -> float:
        """Returns half a unit of the last digit shown."""
        mantissa, _, exponent = self.text.replace(",", "").partition("e")
        decimals = len(mantissa.partition(".")[2])
        return 0.5 * 10.0 ** (int(exponent or 0) - decimals) + 1e-9 * abs(self.value)

    @property
    def shown(self) -> str:
        return f"{self.text} {self.unit}".strip()


@dataclass
class Block:
    """One paragraph, list item or table, the records that it is held to and what comments say of its figures."""

    page: str
    line: int
    text: str
    records: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def table(self) -> bool:
        return self.text.lstrip().startswith("|")

    def figures(self) -> list[Figure]:
        """Returns the numbers with a unit, with decimals or of two digits and more."""
        plain = NAMES.sub(lambda match: " " * len(match[0]), self.text)
        lines, header = self.text.split("\n"), self.text.strip().split("\n")[0]
        result = []
        for match in FIGURE.finditer(plain):
            text, unit = match[1].replace("−", "-").rstrip(","), match[2] or ""
            if not (unit or "." in text or abs(float(text.replace(",", ""))) >= 10):
                continue
            at = self.text.count("\n", 0, match.start())
            near = lines[at] + " " + _header(header, lines[at], match.start() - sum(len(x) + 1 for x in lines[:at])) if self.table else self.text[max(0, match.start() - 120) : match.end() + 60]
            result.append(Figure(text, unit, self.page, self.line + at, near, self.text if not self.table else header))
        return result


def _header(header: str, row: str, column: int) -> str:
    cells, at = header.strip().strip("|").split("|"), row[:column].count("|") - 1
    return cells[at] if 0 <= at < len(cells) else ""


def blocks(page: Path) -> list[Block]:
    """Returns the blocks of a page that are held to records, in order; code is left out."""
    text = re.sub(r"^```.*?^```", lambda match: "\n" * match[0].count("\n"), page.read_text(encoding="utf-8"), flags=re.M | re.S)
    result: list[Block | None] = []
    line = 1
    for part in re.split(r"(\n\s*\n|\n(?=<!--|- |\d+\. ))", text):
        comment = COMMENT.match(part.strip())
        if part.lstrip().startswith("#"):
            result.append(None)  # a heading separates
        elif comment and result and result[-1]:
            for kind, said in COMMENT.findall(part):
                if kind == "records":
                    result[-1].records += [name for word in said.split() for name in _existing(word)]
                else:
                    result[-1].notes += [entry.strip() for entry in said.split(";") if entry.strip()]
        elif part.strip():
            result.append(Block(str(page.relative_to(ROOT)), line, part, [name for word in NAMED.findall(part) for name in _existing(word)]))
        line += part.count("\n")
    for i, block in enumerate(result):
        if block and block.table and not block.records:
            beside = [result[j] for j in (i - 1, i + 1) if 0 <= j < len(result)]
            block.records = next((list(b.records) for b in beside if b and b.records and not b.table), [])
    return [block for block in result if block and block.records]


def _existing(name: str) -> list[str]:
    return [path.name for path in sorted(RECORDS.glob("*")) if fnmatch.fnmatch(path.name, name)]

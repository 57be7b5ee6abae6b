"""BPE's workbooks: 100 DARTS architectures, their full accuracy, and their accuracy under each cheap training setting.

Source: Zheng et al., "Rethinking Performance Estimation in Neural Architecture Search", CVPR 2020:
``Search_Hyperparameters_Results.xlsx`` (32 settings, "Task k") and ``experimantal_stastics.xlsx`` (37 settings, "testk" and
others). Sheets are found by what they hold, not by their names: one has a genotype a row, another has a column a setting and a
row an architecture (and rows such as ``Epoch`` or ``MeanTime(GPU Hours)``).
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from archduel.core import Arch
from archduel.errors import InvalidArchError, TableError
from archduel.tables.build import Labels
from archduel.tables.file import Fidelity

__all__ = ["FULL_EPOCHS", "Cell", "Sheet", "read_bpe_workbook", "read_workbook"]

# -- Worksheets of an xlsx workbook as rows of cells, with the standard library; bounded, and no entity is ever expanded 


Cell = str | float | None
Sheet = list[list[Cell]]
PART = 1 << 26
"""Bytes of the largest part of a workbook after decompression."""
ELEMENTS = 1 << 19
"""Elements of a part: each takes a hundred times the memory of its text."""
LEAST, MOST_RATIO = 1 << 24, 200
"""Bytes that any workbook may unpack to, and those for one packed byte, above which it is taken for a bomb."""
CELLS = 1 << 20
WIDEST = 1 << 10


class _Parser:
    """Feeds XML to a tree builder; a document type, with which entity bombs begin, ends the reading."""

    def __init__(self) -> None:
        self._builder, self._n = ElementTree.TreeBuilder(), 0
        self._expat = expat.ParserCreate()
        self._expat.StartDoctypeDeclHandler = self._refuse
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = lambda tag: self._builder.end(_local(tag))
        self._expat.CharacterDataHandler = self._builder.data
        self._expat.buffer_text = True

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._n += 1
        if self._n > ELEMENTS:
            raise ValueError(f"a part has more than {ELEMENTS} elements")
        self._builder.start(_local(tag), attributes)

    @staticmethod
    def _refuse(*_: object) -> None:
        raise ValueError("it declares a document type, which no workbook does")

    def read(self, file: IO[bytes]) -> ElementTree.Element:
        """Returns the root of a document."""
        size = 0
        while chunk := file.read(1 << 16):
            size += len(chunk)
            if size > PART:
                raise ValueError(f"a part has more than {PART} bytes")
            self._expat.Parse(chunk, False)
        self._expat.Parse(b"", True)
        return self._builder.close()


def _local(tag: str) -> str:
    """Returns a tag without its prefix."""
    return tag.rpartition(":")[2]


def _root(archive: zipfile.ZipFile, name: str) -> ElementTree.Element:
    with archive.open(name) as file:
        return _Parser().read(file)


def _text(element: ElementTree.Element) -> str:
    """Returns the text of a cell or shared string: its runs joined, phonetic hints left out."""
    runs = [
        t
        for part in element
        if part.tag in ("t", "r")
        for t in ([part] if part.tag == "t" else part.findall("t"))
    ]
    return "".join(run.text or "" for run in runs)


def _shared(archive: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    return [_text(item) for item in _root(archive, "xl/sharedStrings.xml").findall("si")]


def _column(reference: str) -> int:
    """Returns the number of a column from 0: A1 -> 0, AB7 -> 27."""
    match = re.fullmatch(r"([A-Z]{1,3})\d{1,7}", reference)
    if match is None:
        raise ValueError(f"cell reference {reference[:20]!r}")
    number = 0
    for letter in match[1]:
        number = 26 * number + ord(letter) - 64
    return number - 1


def _value(cell: ElementTree.Element, shared: list[str]) -> Cell:
    kind, value = cell.get("t", "n"), cell.find("v")
    if kind == "inlineStr":
        inline = cell.find("is")
        return "" if inline is None else _text(inline)
    if value is None or value.text is None:
        return None
    if kind == "s":
        return shared[int(value.text)]
    return value.text if kind in ("str", "e", "d") else float(value.text)


def _rows(root: ElementTree.Element, shared: list[str]) -> Iterator[list[Cell]]:
    """Yields the rows; empty cells in between are None."""
    for row in root.iterfind("sheetData/row"):
        cells: list[Cell] = []
        for cell in row.findall("c"):
            place = _column(cell.get("r", "")) if cell.get("r") else len(cells)
            if place >= WIDEST:
                raise ValueError(f"a row of more than {WIDEST} columns")
            cells += [None] * (place + 1 - len(cells))
            cells[place] = _value(cell, shared)
        yield cells


def _sheet_files(archive: zipfile.ZipFile) -> dict[str, str]:
    """Returns sheet name -> part of the archive, in the workbook's order."""
    relations = {
        item.get("Id"): item.get("Target", "")
        for item in _root(archive, "xl/_rels/workbook.xml.rels").iter("Relationship")
    }
    found = {}
    for sheet in _root(archive, "xl/workbook.xml").iterfind("sheets/sheet"):
        key = next((value for name, value in sheet.attrib.items() if _local(name) == "id"), None)
        target = relations.get(key, "").lstrip("/")
        found[sheet.get("name", "")] = target if target.startswith("xl/") else f"xl/{target}"
    return found


def read_workbook(path: Path) -> dict[str, Sheet]:
    """Returns sheet name -> rows of cells: texts, numbers, or None where a cell is empty.

    Raises:
        TableError: if the file is not a workbook, is damaged, or is far larger inside than a table of results can be.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > LEAST + MOST_RATIO * path.stat().st_size:
                raise ValueError(f"it unpacks to more than {MOST_RATIO} times its size")
            shared = _shared(archive)
            sheets: dict[str, Sheet] = {}
            n_cells = 0
            for name, part in _sheet_files(archive).items():
                sheets[name] = list(_rows(_root(archive, part), shared))
                n_cells += sum(map(len, sheets[name]))
                if n_cells > CELLS:
                    raise ValueError(f"more than {CELLS} cells")
            return sheets
    except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
        raise TableError(f"{path} cannot be read as an xlsx workbook: {error}") from error
    except (
        KeyError,
        IndexError,
        ValueError,
        ElementTree.ParseError,
        expat.ExpatError,
        AssertionError,
    ) as error:
        raise TableError(f"{path} is not a whole xlsx workbook: {str(error)[:150]}") from error


FULL_EPOCHS = 600
SETTING = re.compile(r"(?:task|test)[ _]?(\d+)", re.IGNORECASE)
NUMBERED = re.compile(r"\s*(?:arch(?:itecture)?s?)?[ _#.]*(\d+)(?:\.0)?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class _Settings:
    """A sheet of settings: name -> architecture number -> accuracy in percent; epochs and seconds of a training by name."""

    accuracy: Mapping[str, Mapping[int, float]]
    epochs: Mapping[str, float]
    seconds: Mapping[str, float]


def _word(cell: Cell) -> str:
    return cell.strip() if isinstance(cell, str) else ""


def _number(cell: Cell) -> float | None:
    if isinstance(cell, float):
        return cell
    try:
        return float(_word(cell))
    except ValueError:
        return None


def _arch_number(cell: Cell) -> int | None:
    """Returns the number of an architecture in ``7``, ``Arch 7`` or ``arch_7``."""
    match = NUMBERED.fullmatch(cell if isinstance(cell, str) else f"{cell}")
    return int(match[1]) if match else None


def _truth(sheet: Sheet) -> dict[int, tuple[str, float]]:
    """Returns number -> (genotype, accuracy in percent) of the first column of percentages of a sheet of genotypes."""
    found: dict[int, tuple[str, float]] = {}
    for row in sheet:
        text = next((_word(cell) for cell in row if _word(cell).startswith("Genotype(")), None)
        if text is None:
            continue
        numbers = [n for cell in row[1:] if (n := _number(cell)) is not None and 50 < n <= 100]
        label = _arch_number(row[0])
        number = len(found) + 1 if label is None else label
        if numbers and number not in found:
            found[number] = (text, numbers[0])
    return found


def _setting_name(cell: Cell) -> str:
    """Returns the name of a setting: ``Task 5`` and ``test5`` are the same one."""
    match = SETTING.fullmatch(_word(cell))
    return f"test{match[1]}" if match else _word(cell)


def _settings(sheet: Sheet) -> _Settings | None:
    """Returns the settings of a sheet that has some in its columns, else None."""
    head = next(
        (i for i, row in enumerate(sheet) if sum(bool(SETTING.fullmatch(_word(c))) for c in row) >= 3), None
    )
    if head is None:
        return None
    columns = {
        place: name for place, cell in enumerate(sheet[head]) if place and (name := _setting_name(cell))
    }
    accuracy: dict[str, dict[int, float]] = {name: {} for name in columns.values()}
    facts: dict[str, dict[str, float]] = {"epoch": {}, "time": {}}
    for row in sheet[head + 1 :]:
        number = _arch_number(row[0]) if row else None
        kind = next(
            (kind for kind in facts if row and _word(row[0]).lower().startswith((kind, f"mean{kind}"))), None
        )
        for place, name in columns.items():
            value = _number(row[place]) if place < len(row) else None
            if value is not None and number is not None:
                accuracy[name][number] = value
            elif value is not None and kind is not None:
                facts[kind][name] = value
    filled = {name: values for name, values in accuracy.items() if values}
    return _Settings(filled, facts["epoch"], {name: 3600 * hours for name, hours in facts["time"].items()})


def _find(path: Path) -> tuple[dict[int, tuple[str, float]], _Settings]:
    sheets = read_workbook(path).values()
    truth = max(map(_truth, sheets), key=len, default={})
    settings = max(filter(None, map(_settings, sheets)), key=lambda found: len(found.accuracy), default=None)
    if not truth or settings is None:
        what = "a row with a genotype and an accuracy" if not truth else "columns such as 'Task 1' or 'test1'"
        raise TableError(f"{path}: no sheet has {what}; expected one of BPE's two workbooks")
    return truth, settings


def read_bpe_workbook(path: Path, read_arch: Callable[[str], Arch]) -> Labels:
    """Returns one fidelity a cheap setting, and ``full``, the accuracy after full training.

    All are accuracies on CIFAR-10's test images: the workbooks have no others. So ``validation`` is what the settings and the
    full training gave, and ``test`` is the full training's.

    Args:
        path: one of the two workbooks.
        read_arch: makes an architecture of a genotype.

    Raises:
        TableError: if the file is damaged or is not such a workbook.
    """
    truth, settings = _find(path)
    shared = [n for n in sorted(truth) if any(n in values for values in settings.accuracy.values())]
    if not shared:
        raise TableError(f"{path}: no architecture has both a genotype and an accuracy under a setting")
    try:
        archs = [read_arch(truth[n][0]) for n in shared]
    except InvalidArchError as error:
        raise TableError(f"{path}: {error}") from error
    names = [*sorted(settings.accuracy, key=lambda name: settings.seconds.get(name, 0.0)), "full"]
    shape = (len(names), 1, len(archs))
    validation, test, seconds = (np.full(shape, np.nan) for _ in range(3))
    for place, name in enumerate(names[:-1]):
        validation[place, 0] = [settings.accuracy[name].get(n, np.nan) / 100 for n in shared]
        seconds[place, 0] = settings.seconds.get(name, np.nan)
    validation[-1, 0] = test[-1, 0] = [truth[n][1] / 100 for n in shared]
    fidelities = [Fidelity(name, settings.epochs.get(name, 0.0)) for name in names[:-1]]
    return Labels(
        archs,
        {"validation": validation, "test": test, "seconds": seconds},
        [*fidelities, Fidelity("full", FULL_EPOCHS)],
        facts={
            "dataset": "cifar10",
            "note": "all accuracies are on test images",
            "seconds": "GPU hours of the setting",
        },
    )

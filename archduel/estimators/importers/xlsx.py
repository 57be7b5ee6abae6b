"""Worksheets of an xlsx workbook as rows of cells, with the standard library; bounded, and no entity is ever expanded."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from xml.etree import ElementTree
from xml.parsers import expat

from archduel.errors import TableError

__all__ = ["Cell", "Sheet", "read_workbook"]

Cell = str | float | None
Sheet = list[list[Cell]]
PART = 1 << 26
"""Bytes of the largest part of a workbook after decompression."""
CELLS = 1 << 20
WIDEST = 1 << 10


class _Parser:
    """Feeds XML to a tree builder; a document type, with which entity bombs begin, ends the reading."""

    def __init__(self) -> None:
        self._builder = ElementTree.TreeBuilder()
        self._expat = expat.ParserCreate()
        self._expat.StartDoctypeDeclHandler = self._refuse
        self._expat.StartElementHandler = lambda tag, attributes: self._builder.start(_local(tag), attributes)
        self._expat.EndElementHandler = lambda tag: self._builder.end(_local(tag))
        self._expat.CharacterDataHandler = self._builder.data
        self._expat.buffer_text = True

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

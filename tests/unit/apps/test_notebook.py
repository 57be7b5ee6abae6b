"""Notebooks: runs, studies and architectures show themselves; nothing from outside becomes markup."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from watch import long_race

import archduel
from archduel.commands.notebook import HOME, drawn, register
from archduel.commands.progress import Progress, in_notebook
from archduel.reporting.notebook import MOST_CLASSES, run_card

HOSTILE = "<script>alert(1)</script>"


def test_an_unfinished_run_says_how_far_it_is(tmp_path: Path) -> None:
    long_race(tmp_path / "race", 12).close()
    html = archduel.Run(tmp_path / "race")._repr_html_()
    assert "This run is not finished" in html
    assert str(tmp_path / "race") in html


def test_a_card_has_headline_figures_classes_and_cell_and_no_script() -> None:
    data: dict[str, Any] = {
        "title": HOSTILE, "headline": f"Right {HOSTILE}", "known": [HOSTILE, "b", "c", "left out"],
        "key_figures": [{"label": HOSTILE, "value": "3", "note": ""}],
        "confusion": {"classes": [f"c{i}" for i in range(30)], "counts": [[5 if i == j else int(j == 0) * i for j in range(30)] for i in range(30)]},
        "cells": [{"title": "cell", "svg": "<svg></svg>", "text": HOSTILE}, {"title": "other", "svg": "<svg></svg>", "text": ""}],
    }  # fmt: skip
    html = str(run_card(data, "folder"))
    assert HOSTILE not in html
    assert html.count("<svg>") == 1
    assert "left out" not in html
    assert html.count("<tr>") == 2 + MOST_CLASSES
    assert html.index("c29") < html.index("c28")  # weakest first
    assert f"The {MOST_CLASSES} weakest of 30 classes." in html
    assert "14.7 %" in html  # 5 of 34


def test_an_architecture_is_drawn_where_its_space_is_known() -> None:
    html = drawn(archduel.parse("nasbench201:1.0.4.2.2.3"))
    assert html is not None
    assert "<svg" in html
    assert "nasbench201:1.0.4.2.2.3" in html
    assert drawn(archduel.parse("nowhere:1.2")) is None
    assert drawn(archduel.parse("nasbench201:9.9")) is None


def test_a_study_shows_its_best_answers() -> None:
    study = archduel.search_space(archduel.space({"depth": [1, 2, 3]}), lambda made: made["depth"] / 3, evaluations=3, strategy="random", quiet=True)
    html = study._repr_html_()
    assert "The best score is 1" in html
    assert "depth" in html


def test_a_shell_is_told_by_name_and_a_terminal_is_left_alone() -> None:
    given: list[Any] = []
    formatter = SimpleNamespace(for_type_by_name=lambda *names: given.append(names))
    register(SimpleNamespace(display_formatter=SimpleNamespace(formatters={"text/html": formatter})))
    assert given == [(*HOME, drawn)]
    assert archduel.Arch.__module__ == HOME[0]
    register(SimpleNamespace(display_formatter=None))
    register(SimpleNamespace())


def test_a_notebook_is_known_by_its_shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert not in_notebook()
    Progress(quiet=None).say("nobody watches")
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert in_notebook()
    Progress(quiet=None).say("somebody watches")
    assert capsys.readouterr().out == "somebody watches\n"

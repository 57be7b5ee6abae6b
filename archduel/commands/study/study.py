"""A study: what was tried, how good it was, what is best; read from its journal, which runs no code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archduel.commands.study.judging import weights_at
from archduel.core import Arch, parse
from archduel.core.disk import read_toml, write_atomic
from archduel.core.job import JOURNAL, STUDY
from archduel.core.storage import load_state, read_journal
from archduel.errors import RunError, SettingError
from archduel.reporting.rows import Rows

__all__ = ["FILE", "Evaluation", "Study"]

FILE = STUDY.file


@dataclass(frozen=True)
class Evaluation:
    """One thing that was tried.

    Attributes:
        ordinal: from 0, in the order of asking.
        arch: the architecture.
        answers: name of each decision -> the option that was taken.
        score: higher is better; nan where it failed.
        measures: whatever else the evaluation returned.
        seconds: it took.
        reason: why it failed, empty otherwise.
    """

    ordinal: int
    arch: Arch
    answers: Mapping[str, Any]
    score: float
    measures: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    reason: str = ""

    @property
    def failed(self) -> bool:
        """Whether there is no score."""
        return math.isnan(self.score)

    def row(self) -> dict[str, Any]:
        """Returns all of it as one row of a table; decisions and measures are columns of their own."""
        plain = {"ordinal": self.ordinal, "arch": str(self.arch), "score": self.score, **self.measures, "seconds": self.seconds}
        return {**plain, **self.answers, **({"reason": self.reason} if self.reason else {})}


class Study:
    """What :func:`archduel.search_space` tried.

    Args:
        folder: of the study; None for one that was kept in memory alone.
        space: needed for :meth:`model` alone.
        records: of a study without a folder.

    Raises:
        RunError: for a folder that holds no study.
    """

    def __init__(self, folder: str | Path | None, space: Any = None, *, records: Sequence[Mapping[str, Any]] = ()) -> None:
        self.folder = None if folder is None else Path(folder)
        self.space = space
        if self.folder is not None:
            if not (self.folder / FILE).is_file():
                raise RunError(f"{self.folder} holds no study (no {FILE}); archduel.search_space(space, evaluate, out={str(self.folder)!r}) starts one")
            records = read_journal(self.folder / JOURNAL)
        self.evaluations = [_evaluation(record) for record in records if record.get("event") == "estimate"]

    def __repr__(self) -> str:
        done = [evaluation for evaluation in self.evaluations if not evaluation.failed]
        best = f", best {self.best.score:.4g}" if done else ""
        return f"Study({str(self.folder or 'in memory')!r}: {len(self.evaluations)} evaluations, {len(self.evaluations) - len(done)} failed{best})"

    def _repr_html_(self) -> str:
        from archduel.reporting.notebook import study_card

        done = [evaluation for evaluation in self.evaluations if not evaluation.failed]
        failed = len(self.evaluations) - len(done)
        sentence = f"{len(self.evaluations)} evaluations{f', {failed} failed' if failed else ''}."
        if done:
            sentence = f"The best score is {self.best.score:.4g}, evaluation {self.best.ordinal}. {sentence}"
        rows = [{"name": name, "value": value} for name, value in (self.best.answers.items() if done else ())]
        where = "in memory" if self.folder is None else f"in {self.folder}"
        return str(study_card(str(self.settings.get("space", getattr(self.space, "name", "study"))), rows, sentence, where))

    @property
    def settings(self) -> dict[str, Any]:
        """What the study was asked to do; empty for one in memory."""
        return {} if self.folder is None else dict(read_toml(self.folder / FILE)["study"])

    @property
    def best(self) -> Evaluation:
        """The evaluation of the highest score, the earliest among equals.

        Raises:
            RunError: if none succeeded.
        """
        done = [evaluation for evaluation in self.evaluations if not evaluation.failed]
        if not done:
            reason = f"; the first one failed: {self.evaluations[0].reason}" if self.evaluations else ""
            raise RunError(f"none of {len(self.evaluations)} evaluations succeeded{reason}")
        return max(done, key=lambda evaluation: evaluation.score)

    def table(self) -> Rows:
        """Returns one row an evaluation, in the order of asking; ``.frame()`` makes a data frame of it."""
        return Rows(evaluation.row() for evaluation in self.evaluations)

    def model(self, evaluation: Evaluation | None = None) -> Any:
        """Returns what the space makes of an evaluation's architecture (the best one's), with the weights that were kept of it, if any.

        Raises:
            SettingError: for a study that was opened without its space.
        """
        if self.space is None:
            raise SettingError("a study that is read from its folder runs no code; give the space to build from: Study(folder, space)")
        chosen = evaluation or self.best
        made = self.space.build(chosen.arch) if hasattr(self.space, "build") else chosen.arch
        path = None if self.folder is None else weights_at(self.folder, chosen.ordinal)
        if path is not None and path.is_file() and hasattr(made, "load_state_dict"):
            made.load_state_dict(load_state(path)["weights"])
        return made

    def report(self) -> Path:
        """Writes ``report.html`` into the folder and returns its path.

        Raises:
            SettingError: for a study without a folder.
        """
        from archduel.reporting.study_report import study_html

        if self.folder is None:
            raise SettingError("this study has no folder to write a report to; give search_space out='runs/mine'")
        title = str(self.settings.get("space", "study"))
        page = study_html(title, [{**e.row(), "answers": dict(e.answers), "measures": dict(e.measures)} for e in self.evaluations], self.settings)
        write_atomic(self.folder / "report.html", page.encode())
        return self.folder / "report.html"


def _evaluation(record: Mapping[str, Any]) -> Evaluation:
    values = dict(record["values"])
    answers, parent = values.pop("answers", {}), values.get("parent")
    measures = {name: value for name, value in values.items() if name != "parent" or parent is not None}
    score = math.nan if record["score"] is None else float(record["score"])
    return Evaluation(int(record["ordinal"]), parse(record["arch"]), answers, score, measures, float(record["seconds"]), record["reason"])

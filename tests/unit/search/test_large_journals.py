"""Journals of very many records: read once, the end found without the rest, no record compared with all before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import archduel
from archduel.commands.study import search as study
from archduel.core import job as jobs
from archduel.core import storage
from archduel.core.job import COMPARISON, RUN, Job
from archduel.core.storage import Journal, append_shared, read_journal


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Counts the reading of journals."""
    seen: list[Path] = []
    read = storage.read_journal

    def counted(path: Path, **settings: Any) -> list[dict[str, Any]]:
        seen.append(path)
        return read(path, **settings)

    monkeypatch.setattr(storage, "read_journal", counted)
    monkeypatch.setattr(jobs, "read_journal", counted)
    return seen


@pytest.mark.parametrize("layout", [RUN, COMPARISON], ids=["folder", "single file"])
def test_a_job_reads_its_journal_once(layout: Any, tmp_path: Path, reads: list[Path]) -> None:
    settings = {"run": {"a": 1}} if layout is RUN else {"a": 1}
    for number in range(3):
        reads.clear()
        with Job(tmp_path / "job", layout, settings) as job:
            assert len(reads) == 1
            assert [r["number"] for r in job.journal.records if r["event"] == "trial"] == list(range(number))
            job.note("trial", number=number)
    again = {"run": {"a": 2}} if layout is RUN else {"a": 2}
    with pytest.raises(archduel.errors.RunError, match="holds another"):
        Job(tmp_path / "job", layout, again)


def test_settings_that_replace_those_of_a_job_that_paid_nothing_begin_an_empty_journal(tmp_path: Path) -> None:
    with Job(tmp_path / "job", RUN, {"run": {"a": 1}}) as job:
        job.note("plan", steps=3)
    with Job(tmp_path / "job", RUN, {"run": {"a": 2}}) as job:
        assert job.journal.records == []
        job.note("plan", steps=4)
    assert [record["steps"] for record in read_journal(tmp_path / "job" / "journal.jsonl")] == [4]


def test_damaged_lines_stay_out_of_a_single_journal_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with Job(path, COMPARISON, {"a": 1}) as job:
        job.note("trial", number=0)
        job.note("trial", number=1)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"0", b"7", 1) + lines[2] + b'{"torn": ')
    with Job(path, COMPARISON, {"a": 1}) as job:
        assert [r["number"] for r in job.journal.records if r["event"] == "trial"] == [1]
        job.note("trial", number=2)
    assert [r["number"] for r in read_journal(path, skip_damaged=True) if r["event"] == "trial"] == [1, 2]


@pytest.mark.parametrize(
    ("content", "whole"),
    [(b"", 0), (b"a", 0), (b"a\n", 2), (b"a\nb", 2), (b"x" * 70_000, 0), (b"a\n" + b"x" * 200_000, 2), (b"x" * 65_535 + b"\n" + b"y" * 65_536, 65_536)],
)
def test_the_last_line_break_is_found_from_the_end(content: bytes, whole: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert storage._whole(tmp_path / "file") == whole


def test_a_torn_end_of_any_length_is_cut_off_by_the_next_record(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    journal.append({"event": "a"})
    journal.close()
    with open(path, "ab") as file:
        file.write(b'{"event": "' + b"x" * 100_000)
    journal = Journal(path)
    journal.append({"event": "b"})
    journal.close()
    assert [record["event"] for record in read_journal(path)] == ["a", "b"]


def test_many_processes_add_to_one_file_without_reading_it(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "shared.jsonl"
    for number in range(5):
        append_shared(path, {"number": number})
    assert reads == []
    with open(path, "ab") as file:
        file.write(b'{"number": 5')
    append_shared(path, {"number": 6})
    assert [record["number"] for record in read_journal(path)] == [0, 1, 2, 3, 4, 6]


class Compared(float):
    """A score that counts how often it is compared."""

    count = 0

    def __lt__(self, other: float) -> bool:
        Compared.count += 1
        return float(self) < float(other)

    def __gt__(self, other: float) -> bool:
        Compared.count += 1
        return float(self) > float(other)


def test_a_study_compares_each_score_with_the_best_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = study.search
    seen: list[float] = []

    def listening(strategy: Any, executor: Any, *, on_told: Any, **rest: Any) -> Any:
        """Hands the scores on as ones that count."""

        def told(one: Any) -> None:
            seen.append(one.estimate.score)
            object.__setattr__(one.estimate, "score", Compared(one.estimate.score))
            on_told(one)

        return made(strategy, executor, on_told=told, **rest)

    monkeypatch.setattr(study, "search", listening)
    Compared.count = 0
    options = {f"c{number}": list(range(8)) for number in range(4)}
    found = archduel.search_space(options, lambda made: sum(made.values()) / 28, strategy="random", evaluations=200, window=20, quiet=True)
    assert found.best.score == max(seen)
    assert len(seen) == 200
    assert Compared.count <= 6 * 200

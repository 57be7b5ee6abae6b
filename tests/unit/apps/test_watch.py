"""`archduel watch`: a journal read as it grows, the page of every kind of job, a server that serves nothing else."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import headless
import pytest
from watch import long_race

from archduel.commands.journals import place_of
from archduel.commands.live import job_live, log_line
from archduel.commands.runs.watch import HOST, Watched, serve
from archduel.commands.search.live import _race_now
from archduel.core.disk import lock
from archduel.core.storage import Journal, Tail
from archduel.errors import RunError, SettingError

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def race(tmp_path: Path) -> Path:
    """Returns the folder of a short race that nobody works on."""
    long_race(tmp_path / "race", 12).close()
    return tmp_path / "race"


@pytest.fixture
def port(race: Path) -> Iterator[int]:
    """Yields the port of a server of the race."""
    server = serve(place_of(race), 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def written(path: Path, *records: dict[str, Any]) -> list[dict[str, Any]]:
    """Appends records to a journal and returns all that it holds."""
    journal = Journal(path)
    for record in records:
        journal.append(record)
    journal.close()
    return journal.records


def ask(port: int, path: str = "/", method: str = "GET", host: str | None = None) -> tuple[int, str, dict[str, str]]:
    """Returns status, body and headers of an answer."""
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    connection.request(method, path, headers={"Host": host or f"{HOST}:{port}"})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body, dict(answer.getheaders())


def test_a_tail_reads_each_record_once_and_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    tail = Tail(path)
    assert tail.read() is False  # there is no file yet
    written(path, {"event": "a", "n": 1})
    assert tail.read() is True
    assert tail.read() is False
    whole = path.read_bytes()
    with open(path, "ab") as file:
        file.write(whole[:20])
    assert tail.read() is False
    with open(path, "ab") as file:
        file.write(whole[20:] + b"no record\n")
    assert tail.read() is True
    assert [record["n"] for record in tail.records] == [1, 1]
    assert tail.damaged == 1
    assert "crc32" not in tail.records[0]


@pytest.mark.parametrize("longer", [False, True])
def test_a_journal_that_is_made_anew_is_read_from_its_start(tmp_path: Path, longer: bool) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for n in range(5):
        journal.append({"event": "a", "n": n})
    tail = Tail(path)
    tail.read()
    journal.drop(lambda record: record["n"] == 1)
    for n in range(5, 9 if longer else 5):
        journal.append({"event": "a", "n": n})
    assert tail.read() is True
    assert [record["n"] for record in tail.records] == [0, 2, 3, 4, *range(5, 9 if longer else 5)]
    journal.close()
    path.unlink()
    assert tail.read() is True
    assert tail.records == []


def test_a_race_of_one_network_so_far_is_said_as_one() -> None:
    point = {"score": 0.5, "accuracy": 0.5}
    rung = {"event": "rung", "number": 0, "rung": 0, "point": point}
    assert _race_now([rung], {0: {"arch": "stages:1"}}).startswith("1 network races. The best is right on 50")
    assert _race_now([rung], {0: {"arch": "stages:1"}, 1: {"arch": "stages:2"}}).startswith("2 networks race. ")


def test_the_page_says_how_far_a_race_is(race: Path) -> None:
    watched = Watched(place_of(race))
    page = watched.page()
    assert "5 networks race" in page
    assert "nobody works on it" in page
    assert 'id="part-log"' in page
    assert "rung 1" in page
    held = lock(race / ".lock", race)
    try:
        answer = watched.update("")
        assert f"running (process {os.getpid()})" in answer["head"]
    finally:
        held.release()
    (race / "result.json").write_text("{}")
    assert "not everything can be shown" in Watched(place_of(race)).page()


def test_a_free_lock_is_tried_once(race: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (race / ".lock").write_text("1")
    tried: list[str] = []
    place = place_of(race)
    monkeypatch.setattr(type(place), "holder", lambda self: tried.append("") or None)
    watched = Watched(place)
    for _ in range(3):
        watched.update("")
    assert len(tried) == 1
    os.utime(race / ".lock", (9, 9))  # another process took it
    watched.update("")
    assert len(tried) == 2


def test_only_what_is_new_is_sent_and_drawn(race: Path) -> None:
    clock = count(step=10)
    watched = Watched(place_of(race), clock=lambda: float(next(clock)))
    first = watched.update("", "wide")
    assert set(first["parts"]) >= {"race", "candidates", "log", "curves"}
    assert 'class="narrow"' not in first["parts"]["race"]
    assert "parts" not in watched.update(first["version"], "wide")
    assert "parts" in watched.update(first["version"], "narrow")
    written(race / "journal.jsonl", {"event": "choice", "number": 0, "clock": 99.0})
    second = watched.update(first["version"], "wide")
    assert second["version"] != first["version"]
    assert "is trained to the end" in second["head"]
    assert "choice" in second["parts"]["log"]


def test_drawing_takes_a_share_of_the_processor_at_most(race: Path) -> None:
    now, used = [0.0], [0.0]

    def work() -> float:
        """Returns a clock that says that everything takes 0.4 s."""
        used[0] += 0.4
        return used[0]

    watched = Watched(place_of(race), clock=lambda: now[0], used=work)
    versions = []
    for tick in range(40):
        now[0] = tick / 2
        written(race / "journal.jsonl", {"event": "note", "clock": float(tick)})
        versions.append(watched.update("", "wide")["version"])
    assert len(set(versions)) * 0.8 <= 20 * 0.5  # 0.8 s each, in 20 s


def test_what_comes_from_outside_is_escaped(race: Path) -> None:
    settings = (race / "run.toml").read_text().replace('data = "digits"', f'data = "/data/{HOSTILE}"')
    (race / "run.toml").write_text(settings)
    path = race / "journal.jsonl"
    first = written(path, {"event": HOSTILE, "clock": 1.0, "text": HOSTILE})[0]
    written(path, {"event": "data", "clock": 1.0, "fingerprint": "", "warnings": [HOSTILE], "skipped": {HOSTILE: HOSTILE}})
    written(path, {**first, "number": 900, "arch": f"stages:{HOSTILE}"})
    page = Watched(place_of(race)).page()
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;") > 5


def test_the_server_answers_get_of_its_page_to_this_machine_alone(port: int, race: Path) -> None:
    status, body, headers = ask(port)
    assert status == 200
    assert "connect-src 'self'" in body
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert not any(name.startswith("Access-Control") for name in headers)
    status, body, _ = ask(port, "/live?have=&screen=wide")
    assert status == 200
    assert json.loads(body)["parts"]
    for path in ("/run.toml", "/journal.jsonl", "/../race/run.toml", "/%2e%2e/", f"/{race}/run.toml", "/live/"):
        assert ask(port, path)[0] == 404, path
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"):
        assert ask(port, method=method)[0] == 405, method
    for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example", "127.0.0.1.evil.example:80", ":80", "x"):
        assert ask(port, host=host)[0] == 421, host
    for host in ("localhost", f"localhost:{port}", "localhost:9999", "[::1]:80", HOST):
        assert ask(port, host=host)[0] == 200, host


def test_a_taken_port_is_one_sentence(port: int, race: Path) -> None:
    with pytest.raises(SettingError, match=f"port {port} cannot be used"):
        serve(place_of(race), port)


def test_what_is_no_job_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "x.json"):
        with pytest.raises(RunError):
            place_of(path)


def estimate(ordinal: int, score: float | None, **values: Any) -> dict[str, Any]:
    """Returns a record of an evaluation."""
    return {
        "event": "estimate", "ordinal": ordinal, "arch": f"toy:{ordinal}", "fidelity": None, "group": None, "score": score, "seconds": 1.0, "images": 10,
        "values": values, "reason": "" if score is not None else "it broke", "clock": float(ordinal),
    }  # fmt: skip


def folder_with(home: Path, name: str, settings: str, records: list[dict[str, Any]]) -> Path:
    """Returns a folder with settings and a journal."""
    home.mkdir()
    (home / name).write_text(settings)
    written(home / "journal.jsonl", *records)
    return home


def test_a_study_shows_its_answers(tmp_path: Path) -> None:
    records = [estimate(0, 0.5, answers={"depth": 3}), estimate(1, None), estimate(2, 0.75, answers={"depth": 4})]
    folder = folder_with(tmp_path / "s", "study.toml", '[study]\nspace = "mine"\nstrategy = "best"\n', records)
    data = job_live(place_of(folder), records)
    assert data["now"] == "3 evaluations, 1 of them failed. The best score is 0.75."
    assert [row["name"] for row in data["candidates"]] == ["depth=4", "depth=3", "toy:1"]
    assert "depth=4" in Watched(place_of(folder)).page()


def test_a_training_shows_its_curves(tmp_path: Path) -> None:
    settings = """[architecture]
name = "mine"
[recipe]
epochs = 4.0
batch_size = 8
[data]
name = "digits"
[scale]
image_size = 8
n_classes = 10
"""
    records = [{"epoch": float(n), "train_loss": 1 / n, "val_accuracy": n / 10, "lr": 0.1} for n in (1, 2)]
    folder = folder_with(tmp_path / "t", "train.toml", settings, records)
    data = job_live(place_of(folder), records)
    assert data["now"] == "Epoch 2 of 4: validation accuracy 0.2."
    assert (data["done"], data["allowed"], data["unit"]) == (2.0, 4.0, "epochs")
    assert "training loss" in Watched(place_of(folder)).page()


def test_a_comparison_shows_its_contestants(tmp_path: Path) -> None:
    path = tmp_path / "out.trials.jsonl"
    records = written(path, {"event": "settings", "settings": {"table": "mine"}})
    for title, scores in (("a", [0.1, 0.3, 0.2]), ("a", [0.3, 0.1, 0.5]), ("b", [0.9, float("nan"), 0.8])):
        records = written(path, {"event": "trial", "clock": 1.0, "title": title, "queries": 3, "run": 0, "scores": scores, "cpu_seconds": 2.0})
    data = job_live(place_of(tmp_path / "out.json"), records)
    assert [(row["name"], row["score"]) for row in data["candidates"]] == [("b", 0.9), ("a", 0.4)]
    assert data["curves"][0]["values"] == pytest.approx([0.2, 0.3, 0.4])
    assert "3 trials of 2 contestants" in Watched(place_of(path)).page()


def test_a_comparison_of_rankers_shows_tau(tmp_path: Path) -> None:
    path = tmp_path / "r.trials.jsonl"
    shared = {"event": "trial", "clock": 1.0, "ranker": "gp", "fit_cpu_seconds": 1.0}
    records = written(path, *({**shared, "labels": n, "quality": {"kendall_tau": tau}} for n, tau in ((10, 0.2), (10, 0.4), (50, 0.6))))
    data = job_live(place_of(path), records)
    assert data["curves"][0]["x"] == [10, 50]
    assert data["curves"][0]["values"] == pytest.approx([0.3, 0.6])


def test_a_proxy_job_and_a_table_show_evaluations(tmp_path: Path) -> None:
    records = [estimate(0, 0.5), {"event": "epoch", "clock": 2.0, "loss": 0.4, "entropy": float("nan"), "name": "x"}]
    folder = folder_with(tmp_path / "p", "settings.json", '{"settings": {"job": "find"}}', records)
    data = job_live(place_of(folder), records)
    assert [(curve["name"], curve["values"]) for curve in data["curves"]] == [("loss", [0.4]), ("entropy", [None])]
    table = tmp_path / "mine.jsonl"
    written(table, estimate(0, 0.5))
    assert place_of(tmp_path / "mine.table").kind == "table"
    assert "1 evaluations" in Watched(place_of(table)).page()


def test_a_line_of_the_log_is_short_and_printable() -> None:
    line = log_line({"event": "x\x1b[2J", "clock": 3.0, "long": "y" * 5000, "none": None, "score": 0.123456, "crc32": "0"})
    assert line == {"clock": 3.0, "event": "x\\x1b[2J", "text": f"long {'y' * 80} ..., score 0.1235"}


def test_ctrl_c_ends_the_page_and_nothing_else(race: Path) -> None:
    before = {path: path.read_bytes() for path in race.iterdir()}
    command = [sys.executable, "-m", "archduel", "watch", str(race), "--port", "0", "--no-open"]
    # whatever runs the tests in the background may have had Ctrl-C ignored, which would be inherited
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL))
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = int(line.split(f"http://{HOST}:")[1].split("/")[0])
        assert ask(port, "/nothing")[0] == 404
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert "the page has ended" in process.stdout.read()
    finally:
        process.kill()
        process.communicate()
    assert {path: path.read_bytes() for path in race.iterdir()} == before


@pytest.mark.skipif(headless.browser() is None, reason="lacks Chromium")
def test_a_browser_shows_what_is_new(port: int, race: Path, tmp_path: Path) -> None:
    with headless.Page(f"http://{HOST}:{port}/", tmp_path / "browser", 420, 900, dark=True) as page:
        page.wait("document.documentElement.dataset.version")
        assert page.value("document.documentElement.dataset.theme") == "dark"
        assert page.value("document.documentElement.scrollWidth") <= 420
        written(race / "journal.jsonl", {"event": "choice", "number": 0, "clock": 99.0, "note": HOSTILE})
        page.wait("document.getElementById('part-log').textContent.includes('alert(1)')")
        assert "is trained to the end" in page.value("document.getElementById('head').textContent")
        assert page.value("document.scripts.length") == 1
        time.sleep(0.1)
        page.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 5000


def test_a_page_of_a_search_needs_no_torch(tmp_path: Path) -> None:
    """Three times the memory, for a page that only reads."""
    long_race(tmp_path / "race", 9).close()
    code = (
        "import sys; from pathlib import Path; from archduel.commands.journals import place_of; from archduel.commands.runs.watch import Watched;"
        f"page = Watched(place_of(Path({str(tmp_path / 'race')!r}))).page(); sys.exit('torch' in sys.modules or 'not everything' in page)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

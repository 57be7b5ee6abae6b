"""One dialect: former spellings go on working, help stands in panels, and what a search would do can be asked without doing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from archduel.commands import app
from archduel.commands.dialect import modern, usable_device
from archduel.commands.options import parse_count
from archduel.commands.progress import Progress
from archduel.commands.runs.status import state_of
from archduel.commands.search.audit import audit, audited, check_audit
from archduel.commands.search.same import opened, usual_device
from archduel.commands.search.settings import make_settings
from archduel.core.job import RUN, Job
from archduel.errors import RunError, SettingError

run = CliRunner().invoke


def commands() -> dict[str, object]:
    """Returns every command by its words."""
    found: dict[str, object] = {}

    def walk(command: object, words: str) -> None:
        inner = getattr(command, "commands", None)
        if inner is None:
            found[words.strip()] = command
        for name, part in (inner or {}).items():
            walk(part, f"{words} {name}")

    walk(get_command(app), "")
    return found


@pytest.mark.parametrize(
    ("words", "today"),
    [
        (["--json", "out.json", "--runs", "2"], ["--out", "out.json", "--runs", "2"]),
        (["--json=a/b.json"], ["--out=a/b.json"]),
        (["--json", "--runs", "2"], ["--json", "--runs", "2"]),
        (["digits", "--json"], ["digits", "--json"]),
        (["--json", "digits"], ["--json", "digits"]),
        (["--seconds", "2"], ["--time", "2"]),
        (["--", "--seconds"], ["--", "--seconds"]),
    ],
)
def test_former_spellings(words: list[str], today: list[str]) -> None:
    assert modern(words, {"--json": "--out", "--seconds": "--time"}) == today


def test_json_is_a_flag_and_out_a_path_everywhere() -> None:
    for name, command in commands().items():
        for parameter in command.params:  # type: ignore[attr-defined]
            if "--json" in parameter.opts:
                assert parameter.is_flag, name
            if "--out" in parameter.opts:
                assert not parameter.is_flag, name
            assert not {"--space-set", "--supernet"} & set(parameter.opts), name
            if parameter.name == "device" and "--device" in parameter.opts:
                assert parameter.default in (None, "auto"), name


@pytest.mark.parametrize("words", [["-h"], ["search", "-h"], ["bench", "rank", "-h"], ["device", "-h"]])
def test_short_help(words: list[str]) -> None:
    answer = run(app, words)
    assert answer.exit_code == 0
    assert "Usage" in answer.output


def test_many_options_stand_in_panels() -> None:
    page = run(app, ["search", "--help"]).output
    places = [page.index(f"\n{title}:") for title in ("Budget", "Limits", "Data", "Method", "Hardware", "Run and output")]
    assert places == sorted(places)
    assert places[1] < page.index("--max-latency-ms") < places[2]
    assert "Budget" not in run(app, ["export", "--help"]).output


@pytest.mark.parametrize(("text", "number"), [("0.4M", 400_000), ("4e5", 400_000), ("400k", 400_000), ("1.5e6", 1_500_000)])
def test_one_parser_of_sizes(text: str, number: int) -> None:
    assert parse_count(text) == number


def test_sample_takes_sizes_as_a_search_does() -> None:
    first, second = (run(app, ["sample", "nasbench201", "-n", "3", "--max-params", size]) for size in ("0.4M", "400000"))
    assert first.exit_code == 0
    assert first.output == second.output
    assert isinstance(run(app, ["sample", "nasbench201", "--max-params", "much"]).exception, SettingError)


def test_auto_is_a_device_and_a_run_goes_on_where_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_device("cuda:1") == "cuda:1"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert usable_device("auto") == usual_device(tmp_path) == "cuda"
    (tmp_path / "run.toml").write_text('[run]\ndata = "digits"\n')  # of a version whose default was the processor
    assert usual_device(tmp_path) == "cpu"
    (tmp_path / "run.toml").write_text('[run]\ndata = "digits"\ndevice = "cuda:1"\n')
    assert usual_device(tmp_path) == "cuda:1"
    with pytest.raises(SettingError, match="--device is empty"):
        usable_device("")


def test_a_plan_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run(app, ["search", "digits", "--time", "60s", "--max-params", "50k", "--start", "scratch", "--max-images", "200", "--plan"])
    assert answer.exit_code == 0, answer.output
    assert "a race of 1 min on cpu" in answer.output
    assert "at most 50.0 k parameters" in answer.output.replace("\u00a0", " ")
    assert "nothing was trained" in answer.output
    assert list(tmp_path.iterdir()) == []


def test_a_plan_says_every_limit_and_every_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["search", "digits", "--time", "60s", "--max-ram", "64kB", "--max-flash", "0.5MB", "--int8", "--start", "scratch", "--max-images", "200", "--plan"]
    answer = run(app, words)
    assert answer.exit_code == 0, answer.output
    assert "networks of tiny and stages that" in answer.output
    assert "at most 64 kB of RAM in 8 bits, 500 kB of flash in 8 bits" in answer.output


@pytest.mark.parametrize(
    ("words", "strategy", "last"),
    [
        ([], "ctnas", "the network that is handed over"),
        (["--objective", "accuracy", "--objective", "macs"], "best", "all members of the front of accuracy, macs"),
        (["--objective", "accuracy", "--objective", "macs", "--front", "3", "--strategy", "nsga2"], "nsga2", "3 members of the front of accuracy, macs"),
    ],
)
def test_a_front_is_searched_by_the_same_strategy_from_the_command_line_as_from_python(
    words: list[str], strategy: str, last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = run(app, ["search", "digits", "--time", "60s", "--start", "scratch", "--max-images", "200", "--plan", *words])
    assert answer.exit_code == 0, answer.output
    assert f"networks of stages that {strategy} asks for" in answer.output
    assert f"for {last}, then test" in answer.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--audit", "3O"], "--audit '3O' is not a time; write 90s"),
        (["--audit", "5m", "--objective", "accuracy", "--objective", "macs"], "accuracy alone"),
        (["--audit", "5m", "--no-race"], "an audit is of races"),
        (["--audit", "5m", "--start", "pretrained"], "an audit trains from scratch"),
        (["--track", "mlfow"], "tracker 'mlfow' is unknown; did you mean 'mlflow'"),
        (["--start", "pretrained", "--backbones", "efficientnet_lite4"], "there are no weights of efficientnet_lite4 here: download"),
        (["--backbones", "efficientnet_lite9"], "backbone 'efficientnet_lite9' is unknown"),
        (["--from", "runs/nowhere"], "--from runs/nowhere: neither the folder of a finished run nor labels"),
    ],
)
@pytest.mark.parametrize("plan", [["--plan"], []])
def test_what_would_end_a_search_late_is_noticed_before_it_begins(
    words: list[str], told: str, plan: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("archduel.commands.search.run.load", None)  # no image is read for it
    monkeypatch.setattr("archduel.commands.search.dry.load", None)
    answer = run(app, ["search", "digits", "--time", "1h", *words, *plan])
    assert answer.exit_code != 0
    assert told in str(answer.exception)
    assert list(tmp_path.rglob("*.toml")) == []


@pytest.mark.parametrize(
    ("settings", "result"),
    [
        ({"objectives": ["accuracy", "macs"]}, {"front": {}, "race": {"winner": 0, "candidates": [{"arch": "stages:0"}]}}),
        ({"race": False}, {}),
        ({"start": "pretrained"}, {"race": {"winner": 0, "candidates": [{"arch": "pretrained:0"}]}, "start": {"known": ["pretrained"]}}),
    ],
)
def test_a_run_of_which_there_is_no_audit_is_refused_in_the_same_words_before_it_and_after(
    settings: dict[str, Any], result: dict[str, Any], tmp_path: Path
) -> None:
    checked = make_settings(data="digits", seconds=60.0, **settings)
    check_audit(None, checked, race=settings.get("race", True))
    with pytest.raises(SettingError, match="; leave --audit out, or search with ") as before:
        check_audit("30s", checked, race=settings.get("race", True))
    with begun(tmp_path / "run"):
        (tmp_path / "run" / "result.json").write_text(json.dumps(result))
    with pytest.raises(RunError, match="; audit a run with ") as after:
        audit(tmp_path / "run", quiet=True)
    assert str(before.value).partition(";")[0] in str(after.value)
    if "start" in result:  # it will be trained on and stay what it is
        with pytest.raises(SettingError, match="an audit trains from scratch"):
            check_audit("30s", make_settings(data="digits", seconds=60.0), race=True, result=result)
    audited(tmp_path / "run", "30s", Progress(quiet=True), quiet=True, command="")  # after a search there is no error: its result stands


def test_who_asks_for_an_audit_is_told_beforehand_what_it_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    for here in (False, True):
        monkeypatch.setattr("archduel.commands.search.audit.may_know", lambda settings, here=here: here)
        check_audit("30s", make_settings(data="digits", seconds=60.0), race=True, say=said.append)
        check_audit(None, make_settings(data="digits", seconds=60.0), race=True, say=said.append)
        assert len(said) == here
    assert "--start scratch" in said[0]


def begun(folder: Path) -> Job:
    """Returns a search that was begun."""
    return Job(folder, RUN, {"run": {"data": "digits", "seconds": 60.0}}, command="archduel search digits")


def test_status_of_a_running_a_stopped_and_a_damaged_search(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "my first"
    job = begun(folder)
    job.note("data", fingerprint="0")
    assert state_of(folder)["state"] == "running"
    job.close()
    state = state_of(folder)
    assert (state["state"], state["kind"], state["records"], state["data"]) == ("stopped", "search", 1, "digits")
    shown = run(app, ["status", str(folder)])
    assert f"archduel resume '{folder}'" in shown.output  # as a shell takes it
    assert "archduel search digits" in shown.output
    assert json.loads(run(app, ["ls", str(tmp_path / "runs"), "--json"]).output)["state"] == "stopped"
    (folder / "run.toml").write_text("[")
    assert state_of(folder)["state"] == "damaged"
    assert run(app, ["ls", str(tmp_path / "runs")]).exit_code == 0


def test_who_repeats_a_finished_race_with_a_longer_time_is_told_how_to_train_on(tmp_path: Path) -> None:
    folder, settings = tmp_path / "run", make_settings(data="digits", seconds=60.0)
    job = opened(folder, settings, "archduel search digits", 0.0)
    job.note("rung", number=0)  # something is paid for
    job.close()
    longer = settings.model_copy(update={"seconds": 90.0})
    for finished, asked, told in (
        (False, longer, ""), (True, longer, "--time +30s trains the network of this one on"), (True, settings.model_copy(update={"seconds": 30.0}), ""),
        (True, longer.model_copy(update={"seed": 1}), ""),
    ):  # fmt: skip
        if finished:
            (folder / "result.json").write_text(json.dumps({"race": {}}))
        with pytest.raises(RunError, match="holds another run") as refused:
            opened(folder, asked, "archduel search digits", 0.0)
        assert str(refused.value).endswith(f"or the same settings{'; ' * bool(told)}{told}")


def test_folders_without_runs_are_said_to_be_that(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="neither a search nor a training"):
        state_of(tmp_path)
    assert isinstance(run(app, ["ls", str(tmp_path / "none")]).exception, RunError)
    assert "begins one" in run(app, ["ls", str(tmp_path)]).output
    assert isinstance(run(app, ["resume", str(tmp_path)]).exception, RunError)


def test_doctor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARCHDUEL_TABLES", str(tmp_path))
    monkeypatch.setenv("ARCHDUEL_DEVICES", str(tmp_path))
    answer = run(app, ["doctor", "--json"])
    found = {check["what"]: check for check in map(json.loads, answer.output.splitlines())}
    assert answer.exit_code == 0
    assert "torch" in found["packages"]["note"]
    assert found["cache"]["state"] in ("ok", "warning")
    monkeypatch.setattr("archduel.commands.runs.doctor.NEEDED", ("archduel-of-tomorrow",))
    assert run(app, ["doctor"]).exit_code == 1

"""Several devices: one process each, in turn; a race takes one and says so."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import worker_judges
from test_executors import queries

from archduel.commands.search import dry, joining, race
from archduel.commands.search.executors import executor_for
from archduel.commands.search.settings import make_settings
from archduel.core import Estimate
from archduel.errors import SettingError
from archduel.execution import Folder, Processes, join
from archduel.execution.devices import VISIBLE, device_environments
from archduel.execution.workers import crew
from archduel.training.runtime import visible_devices


@pytest.mark.parametrize(
    ("device", "count", "before", "wanted"),
    [
        ("cuda", 3, None, ["0", "1", "2"]),
        ("cuda", 2, "5,7", ["5", "7"]),  # a batch system gave these two
        ("cuda", 2, " GPU-aa , MIG-bb ", ["GPU-aa", "MIG-bb"]),
        ("cuda", 2, "3,4,5", ["3", "4"]),  # the third is one that torch does not see
        ("cuda", 4, "0", None),  # somebody knows better
        ("cuda", 1, None, None),
        ("cuda", 0, "", None),
        ("cuda:1", 4, None, None),
        ("cpu", 4, None, None),
    ],
)
def test_each_process_is_shown_one_device(device: str, count: int, before: str | None, wanted: list[str] | None) -> None:
    found = device_environments(device, count, {} if before is None else {VISIBLE: before})
    assert found == ([{}] if wanted is None else [{VISIBLE: name} for name in wanted])


def test_devices_go_round_among_processes() -> None:
    made = crew(worker_judges.shown_factory, 1, None, None, 5, device_environments("cuda", 2, {}))
    assert [worker.environment[VISIBLE] for worker in made] == ["0", "1", "0", "1", "0"]


def by_process(answers: list[Estimate]) -> dict[int, str]:
    return {answer.values["worker"]: answer.values["shown"] for answer in answers}


def test_processes_find_their_device_before_they_load_anything() -> None:
    with Processes(worker_judges.shown_factory, workers=2, run_seed=0, environments=device_environments("cuda", 2, {})) as executor:
        first = by_process(list(executor.run(queries(1, 2, 3, 4), range(4))))
        assert sorted(first.values()) == ["0", "1"]
        executor.close()  # new processes have the devices of those before
        again = by_process(list(executor.run(queries(1, 2, 3, 4), range(4))))
        assert sorted(again.values()) == ["0", "1"]
        assert not first.keys() & again.keys()


def test_a_worker_that_joins_has_a_process_for_each_device(tmp_path: Path) -> None:
    done: list[int] = []
    place = tmp_path / "work"

    def worker() -> None:
        done.append(join(
            place, lambda about: worker_judges.shown_factory, workers=None, wait=30, finished=(tmp_path / "result.json").exists,
            environments=lambda: device_environments("cuda", 2, {}),
        ))  # fmt: skip

    thread = threading.Thread(target=worker)
    with Folder(place, {"a": 1}, run_seed=0, beat=0.2, lease=5.0) as executor:
        thread.start()
        assert sorted(by_process(list(executor.run(queries(1, 2, 3, 4), range(4)))).values()) == ["0", "1"]
    (tmp_path / "result.json").write_text("{}")
    thread.join(30)
    assert done == [4]


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


@pytest.mark.parametrize(
    ("given", "workers"),
    [
        ({"device": "cuda", "evaluations": 8}, 4),
        ({"device": "cuda", "race": False}, 4),
        ({"device": "cuda", "evaluations": 8, "workers": 2}, 2),
        ({"device": "cuda", "evaluations": 8, "executor": "local"}, 1),
        ({"device": "cuda:1", "evaluations": 8}, 1),
        ({"device": "cuda"}, 1),  # a race
    ],
)
def test_a_search_has_a_process_for_each_gpu_and_a_race_one(given: dict[str, Any], workers: int, four: None) -> None:
    assert make_settings(data="digits", **given).workers == workers


@pytest.mark.usefixtures("four")
def test_a_race_on_several_gpus_is_refused_with_the_words_that_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [visible_devices(name) for name in ("cuda", "cuda:1", "cpu")] == [4, 1, 1]
    with pytest.raises(SettingError, match="on one GPU, got --workers 4 and --device cuda; leave --workers out, or give --no-race"):
        make_settings(data="digits", device="cuda", workers=4)
    assert make_settings(data="digits", device="cpu", workers=4).workers == 4  # threads of a race
    begun = make_settings(data="digits", device="cuda")
    (tmp_path / "run.toml").write_text(f'[run]\ndata = "digits"\ndevice = "cuda"\nworkers = 4\nspace = "{begun.space}"\n')  # of before it was refused
    asked: dict[str, Any] = {}
    monkeypatch.setattr(dry, "search", lambda data, **given: asked.update(given))
    dry.resume(tmp_path, quiet=True)
    assert (asked["workers"], asked["device"]) == (1, "cuda")


@pytest.mark.usefixtures("four")
def test_a_race_says_that_it_takes_one_gpu() -> None:
    said: list[str] = []
    progress: Any = SimpleNamespace(say=said.append)
    for device in ("cpu", "cuda:2"):
        race._precision(make_settings(data="digits", device=device, workers=1), progress)
    assert said == []
    race._precision(make_settings(data="digits", device="cuda"), progress)
    assert said == ["a race trains one network after the other, on the first of 4 GPUs; --no-race or --evaluations take all of them"]


@pytest.mark.usefixtures("four")
def test_the_command_worker_asks_what_the_run_trains_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    (tmp_path / "run.toml").write_text('[run]\ndata = "digits"\ndevice = "cuda"\nevaluations = 8\n')
    asked: dict[str, Any] = {}
    monkeypatch.setattr(joining, "join", lambda folder, prepare, **given: asked.update(given) or 0)
    joining.joined(tmp_path, quiet=True)
    assert asked["workers"] is None
    assert asked["environments"]() == [{VISIBLE: str(number)} for number in range(4)]
    joining.joined(tmp_path, quiet=True, device="cuda:1")
    assert asked["environments"]() == [{}]


@pytest.mark.usefixtures("four")
def test_a_search_binds_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "4,5,6,7")
    nothing: Any = None
    settings = make_settings(data="digits", device="cuda", evaluations=8, workers=6)
    made: Any = executor_for(nothing, settings, nothing, nothing, dict, print)
    assert [worker.environment[VISIBLE] for worker in made._workers] == ["4", "5", "6", "7", "4", "5"]

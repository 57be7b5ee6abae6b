"""What every test gets: a cache of its own, so that nothing is read from or left in a person's home. And what many ask for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARCHDUEL_CACHE", str(folder))
        yield Path(folder)


@pytest.fixture(scope="module")
def no_onnx() -> Iterator[None]:
    """Exports without ``model.onnx``, in a tenth of the time, for tests whose subject is not the export."""
    from archduel.export import folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "missing_packages", lambda: ["onnx"])
        yield


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains tables without worker processes, each of which imports torch; the first test of test_table_train.py has them."""
    from archduel.execution import Sequential

    def here(factory: Any, *, run_seed: int, at_once: Any, **_: Any) -> Any:
        return closing(Sequential(factory(), run_seed=run_seed, at_once=at_once))

    monkeypatch.setattr("archduel.commands.table.train.Processes", here)

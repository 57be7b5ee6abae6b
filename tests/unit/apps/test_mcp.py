"""`archduel mcp`: a real client over stdio searches, asks, predicts and exports; nothing outside the root is named, no value is an option."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from archduel.commands.mcp.tools import Tools
from archduel.errors import RunError, SettingError

NO_SEARCH = {"time": "30s", "max_params": None}


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    """Returns the tools of a folder with something beside it."""
    (tmp_path / "root" / "runs").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    return Tools(tmp_path / "root")


def test_paths_stay_inside_the_root(tools: Tools, tmp_path: Path) -> None:
    (tools.root / "out").symlink_to(tmp_path / "secret")
    for text in ("..", "../secret", "/etc/passwd", "runs/../../secret", "out", "out/new", "", "a\0b", str(tmp_path / "secret")):
        with pytest.raises(SettingError):
            tools.path(text, there=False)
    assert tools.path("runs") == tools.path(str(tools.root / "runs")) == tools.root / "runs"
    with pytest.raises(SettingError, match="nothing at"):
        tools.path("runs/none")
    for call in (lambda: tools.status("../secret"), lambda: tools.export("runs", "../secret/x"), lambda: tools.predict("runs", ["/etc/passwd"], 1), lambda: tools.compare("runs", "out")):
        with pytest.raises(SettingError, match="is not inside"):
            call()
    with pytest.raises(SettingError, match="no folder"):
        Tools(tmp_path / "none")


def test_no_value_becomes_an_option_or_code(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[list[str]] = []

    class Process:
        """A search that ends at once."""

        def __init__(self, words: list[str], **settings: Any) -> None:
            begun.append(words)

        def poll(self) -> int:
            """Says that it has ended well."""
            return 0

    monkeypatch.setattr("archduel.commands.mcp.tools.subprocess.Popen", Process)
    assert tools.search("digits", "", {**NO_SEARCH, "max_params": "--out=/tmp/x", "int8": True, "seed": 0})["run"] == "runs/digits-1"
    words = begun[0][begun[0].index("search") + 1 :]
    assert words == [f"--out={tools.root}/runs/digits-1", "--quiet", "--time=30s", "--max-params=--out=/tmp/x", "--seed=0", "--int8", "--", "digits"]
    (tools.root / "--help").mkdir()
    tools.search("--help", "runs/b", NO_SEARCH)
    assert begun[1][-2:] == ["--", f"{tools.root}/--help"]
    for data in ("mine:Net", "module.py:Net", "imagefolder:../secret", "nothing"):
        with pytest.raises(SettingError):
            tools.search(data, "", NO_SEARCH)
    with pytest.raises(SettingError, match="strategy"):
        tools.search("digits", "", {**NO_SEARCH, "strategy": "mine:Strategy"})
    assert len(begun) == 2


def test_what_a_command_says_is_the_answer(tools: Tools) -> None:
    with pytest.raises(RunError, match="holds neither a search nor a training"):
        tools.status("runs")
    with pytest.raises(RunError, match="is not a time"):
        tools.search("digits", "runs/a", {"time": "soon"})
    with pytest.raises(RunError, match="not a running search of this server"):
        tools.stop("runs")
    assert tools.runs("runs") == []


def talk(root: Path, conversation: Callable[[Any, Callable[..., Any]], Any]) -> None:
    """Lets a client speak with the server of a folder over stdio: it gets the client, and a function that returns a tool's structured answer."""
    mcp = pytest.importorskip("mcp", reason="mcp is not installed (extra 'mcp')")
    kept = {name: os.environ[name] for name in ("PYTHONPATH", "PATH", "HOME", "OMP_NUM_THREADS") if name in os.environ}
    server = mcp.StdioServerParameters(command=sys.executable, args=["-m", "archduel", "mcp", "--root", str(root)], env=kept)

    async def meet() -> None:
        """Begins and ends the conversation."""
        async with mcp.Client(server) as client:

            async def ask(name: str, **words: Any) -> Any:
                """Returns the structured answer of a tool."""
                answer = await client.call_tool(name, words)
                assert not answer.is_error, answer.content
                return answer.structured_content

            await conversation(client, ask)

    asyncio.run(meet())


def test_a_client_sees_the_tools_and_is_told_what_is_wrong(tmp_path: Path) -> None:
    async def conversation(client: Any, ask: Callable[..., Any]) -> None:
        """Lists the tools, and asks for what cannot be."""
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(listed) == {"search", "stop", "status", "runs", "report", "compare", "predict", "export"}
        assert listed["search"].input_schema["required"] == ["data"]
        assert all(tool.description for tool in listed.values())
        for words, reason in (({"run": "/etc"}, "is not inside"), ({"run": "."}, "holds neither a search nor a training")):
            refused = await client.call_tool("status", words)
            assert refused.is_error
            assert reason in refused.content[0].text
        assert (await ask("runs", folder="."))["result"] == []

    talk(tmp_path, conversation)


@pytest.mark.slow
def test_a_client_searches_asks_predicts_and_exports(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "zero.png")

    async def conversation(client: Any, ask: Callable[..., Any]) -> None:
        """Searches, waits, and asks for everything."""
        begun = await ask("search", data="digits", evaluations=4, max_params="20k")
        assert begun["run"] == "runs/digits-1"
        until = time.monotonic() + 600
        while (state := await ask("status", run="runs/digits-1"))["state"] == "running" and time.monotonic() < until:
            await asyncio.sleep(1)
        assert state["state"] == "finished", state
        assert state["result"]["params"] <= 20_000
        (known,) = (await ask("runs"))["result"]
        assert known["folder"] == "runs/digits-1"
        report = await ask("report", run="runs/digits-1")
        assert (tmp_path / report["report"]).is_file()
        assert report["details"]["networks"]["search"]["params"] == state["result"]["params"]
        (seen,) = (await ask("predict", run="runs/digits-1", images=["zero.png"], top=2))["result"]
        assert seen["file"] == "zero.png"
        assert len(seen["classes"]) == 2
        files = (await ask("export", run="runs/digits-1", to="shipped"))["files"]
        assert {"shipped/model.py", "shipped/predict.py"} <= set(files)
        await ask("search", data="digits", time="2m", out="runs/b")
        assert (await ask("stop", run="runs/b"))["state"] == "stopped"

    talk(tmp_path, conversation)

"""The tools as a server of the Model Context Protocol (``pip install 'archduel[mcp]'``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from archduel.commands.mcp.tools import Tools
from archduel.errors import ArchduelError, SettingError
from archduel.version import __version__

__all__ = ["server"]

ABOUT = (
    "archduel finds, trains and exports small networks for folders of images (one subfolder a class). Paths are inside one folder. `search` starts a search that goes on by "
    "itself and returns its folder; ask `status` now and then until it is finished, then `report`, `predict`, `export`. Test images are read once, at the end."
)
Run = Annotated[str, Field(description="folder of a search or a training, such as runs/flowers")]
Size = Annotated[str | None, Field(description="limit such as 500k or 1.5M")]
Bytes = Annotated[str | None, Field(description="limit in bytes such as 64kB")]


def server(root: Path) -> Any:
    """Returns the server, whose ``run("stdio")`` serves.

    Args:
        root: folder outside which nothing is read or written.

    Raises:
        SettingError: if the package mcp is not installed, or there is no such folder.
    """
    try:
        from mcp.server.mcpserver import MCPServer
        from mcp.server.mcpserver.exceptions import ToolError
    except ImportError as error:
        raise SettingError("archduel mcp needs the package mcp, version 2; install it with `pip install 'archduel[mcp]'`") from error

    @contextmanager
    def refused() -> Iterator[None]:
        """Turns deliberate errors into answers."""
        try:
            yield
        except ArchduelError as problem:
            raise ToolError(str(problem)) from problem

    made = MCPServer("archduel", instructions=ABOUT, version=__version__, log_level="WARNING")
    tools = Tools(root)
    for tool in (*_of_searches(tools, refused), *_of_networks(tools, refused)):
        made.tool()(tool)
    return made


def _of_searches(tools: Tools, refused: Callable[[], Any]) -> tuple[Callable[..., Any], ...]:
    def search(
        data: Annotated[str, Field(description="folder of images (one subfolder a class) or .npz file inside the root, or digits, cifar10, cifar100")],
        time: Annotated[str | None, Field(description="wall-clock budget: 90s, 20m, 2h; 10m where neither it nor evaluations is given")] = None,
        evaluations: Annotated[int | None, Field(ge=1, description="in place of a time: so many candidates are trained, which gives the same network again")] = None,
        out: Annotated[str, Field(description="folder of the run; the same call goes on with it; empty = a new one in runs/")] = "",
        max_params: Size = None, max_macs: Size = None, max_ram: Bytes = None, max_flash: Bytes = None,
        int8: Annotated[bool, Field(description="sizes of, and also export, an int8 network")] = False,
        strategy: Annotated[str | None, Field(description="how candidates are chosen; the usual one where it is left out")] = None,
        seed: int = 0,
    ) -> dict[str, Any]:  # fmt: skip
        """Start a search for a network and return its folder at once; it goes on by itself. Returns run, state and log."""
        limits = {"time": time or ("10m" if evaluations is None else None), "evaluations": evaluations, "max_params": max_params, "max_macs": max_macs, "max_ram": max_ram, "max_flash": max_flash, "int8": int8, "strategy": strategy, "seed": seed}
        with refused():
            return tools.search(data, out, limits)

    def stop(run: Run) -> dict[str, Any]:
        """Stop a search that this server started; the same call of search goes on with it."""
        with refused():
            return tools.stop(run)

    def status(run: Run) -> dict[str, Any]:
        """Say how far a search or a training is: state (running, stopped, finished, damaged), clock, budget, result."""
        with refused():
            return tools.status(run)

    def runs(folder: Annotated[str, Field(description="where to look, two folders deep")] = "runs") -> list[dict[str, Any]]:
        """List searches and trainings with their states."""
        with refused():
            return tools.runs(folder)

    return search, stop, status, runs


def _of_networks(tools: Tools, refused: Callable[[], Any]) -> tuple[Callable[..., Any], ...]:
    def report(run: Run) -> dict[str, Any]:
        """Write report.html of a run, finished or not; return where it is and what came out."""
        with refused():
            return tools.report(run)

    def compare(first: Run, second: Run) -> dict[str, Any]:
        """Compare two networks that were trained alike on the same test images, with a test of significance."""
        with refused():
            return tools.compare(first, second)

    def predict(run: Run, images: Annotated[list[str], Field(description="image files inside the root")], top: Annotated[int, Field(ge=1)] = 1) -> list[dict[str, Any]]:
        """Say what a finished network sees in images: classes and probabilities."""
        with refused():
            return tools.predict(run, images, top)

    def export(run: Run, to: Annotated[str, Field(description="folder to write, inside the root")]) -> dict[str, Any]:
        """Write the network of a run as a folder that needs nothing of archduel (PyTorch, ONNX, predict.py)."""
        with refused():
            return tools.export(run, to)

    return report, compare, predict, export

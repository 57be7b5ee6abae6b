"""The command line: parse, call, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import errno
import gc
import sys
import traceback
from importlib import import_module
from typing import Any

import typer

from archduel.commands.dialect import Group
from archduel.commands.mistakes import UsageError, in_our_words
from archduel.commands.progress import by_command
from archduel.errors import ArchduelError, DamagedError, in_one_line, of_the_machine
from archduel.text import print_line, printable, settle_streams

__all__ = ["app", "main"]

class _Commands(Group):
    """All commands; click would say "Aborted!" of an EOFError, which is what a file that ends too soon leads to."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads what stands before the command."""
        try:
            rest: list[str] = super().parse_args(ctx, args)
            return rest
        except UsageError as error:
            raise in_our_words(error) from None

    def invoke(self, ctx: Any) -> Any:
        """Runs a command."""
        try:
            with by_command():
                return super().invoke(ctx)
        except UsageError as error:
            raise in_our_words(error) from None
        except EOFError as error:
            raise DamagedError(f"a file ends too soon: {in_one_line(error)}") from error


app = typer.Typer(
    cls=_Commands,
    name="archduel",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = ("search.command", "runs.command", "report", "network.command", "train.command", "zoo", "backbones.command", "device.command", "bench.command", "data.command", "listing", "proxy.command", "spaces.command", "table.command", "mcp.command")
"""Modules that add their commands, in the order in which `archduel --help` shows them."""
OUTSIDE = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.EIO,
    errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENOMEM, errno.EAGAIN, errno.ESTALE, errno.ETXTBSY, errno.EBUSY,
)  # fmt: skip
"""A full or read-only disk, a missing permission or file, too few descriptors: nothing that a traceback explains."""


_state = {"verbose": False}
"""What options before the command say."""


def _version(wanted: bool) -> None:
    if wanted:
        from archduel.version import __version__

        typer.echo(f"archduel {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", help="print the version", callback=_version, is_eager=True),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="errors with all that led to them"),
) -> None:
    """Neural architecture search by comparison.

    archduel search my_images/ --time 20m

    finds, trains and exports a network for a folder of images, one subfolder a class.
    """
    _state["verbose"] = verbose


for _module in COMMANDS:
    import_module(f"{__name__}.{_module}").register(app)


def _outside(error: Exception) -> str:
    """Returns in words what failed outside of this program, empty for a mistake of its own."""
    if isinstance(error, OSError):
        known = error.errno in OUTSIDE and error.strerror
        return f"{error.strerror}{f': {error.filename}' if error.filename else ''}" if known else ""
    homeless = isinstance(error, RuntimeError) and "home directory" in str(error)  # what `~` leads to for a user who has none
    return in_one_line(error) if homeless or of_the_machine(error) else ""


def main() -> None:
    """Runs the command line; deliberate errors and failures of the machine become one line and exit code 2, Ctrl-C 130."""
    settle_streams()
    try:
        app()
    except ArchduelError as error:
        if _state["verbose"]:
            traceback.print_exc()
        print_line(printable(f"error: {error}", lines=True), error=True)
        sys.exit(2)
    except Exception as error:
        reason = _outside(error)
        if not reason:
            raise  # our own mistake, with its traceback
        print_line(printable(f"error: {reason}; the same command continues once that is mended"), error=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        gc.freeze()  # what ends with the process need not be looked through: a second of waiting once the exporter is loaded

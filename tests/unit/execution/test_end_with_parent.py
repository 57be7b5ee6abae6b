"""Processes of a pool do not outlive the one that started them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from archduel.execution import end_with_parent


def test_a_killed_command_leaves_no_busy_processes_behind() -> None:
    script = Path(__file__).with_name("run_pool.py")
    command = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE)
    assert command.stdout is not None
    assert {command.stdout.read(1), command.stdout.read(1)} == {b"0", b"1"}  # both are at work
    command.kill()
    rest, _ = command.communicate(timeout=120)  # comes back when the last process that holds the pipe has ended
    assert rest == b""


def test_a_process_that_nobody_started_goes_on() -> None:
    end_with_parent()

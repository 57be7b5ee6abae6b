"""A search with what Windows lacks taken away: modules, functions and flags that only POSIX has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WITHOUT = """
import os, signal, sys
import numpy, scipy.stats, sklearn.datasets, torch, torch.utils.data  # theirs is their own business
import PIL.Image, multiprocessing.spawn, multiprocessing.popen_spawn_posix, ssl
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("sched_getaffinity", "getloadavg", "getuid", "geteuid", "fork", "killpg", "setsid", "sync", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "pwrite", "mkfifo"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGQUIT", "SIGPWR", "SIGXCPU", "SIGXFSZ"):
    if hasattr(signal, name):
        delattr(signal, name)
import archduel
run = archduel.search("digits", evaluations=4, race=True, workers=1, quiet=True, max_images=120, max_params=10_000, out="run", set={"race.last_epochs": 10})
assert 0 <= run.result["networks"]["search"]["test"]["accuracy"][0] <= 1
print("done")
"""


def test_a_search_needs_nothing_of_posix(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "done" in done.stdout
    assert (tmp_path / "run" / "result.json").is_file()

"""Gives two processes work that never ends; run by a test that kills it."""

import os
import time

from archduel.execution import as_they_finish


def busy(number: int) -> int:
    """Says that it runs, and does not end."""
    os.write(1, b"%d" % number)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    list(as_they_finish(busy, [(0,), (1,)], workers=2))

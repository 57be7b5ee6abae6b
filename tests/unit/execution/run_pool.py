"""Starts a pool of two processes that wait for each other's work for ever; run by a test that kills it."""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

from archduel.execution.worker import end_with_parent


def busy(number: int) -> int:
    """Says that it runs, and does not end."""
    os.write(1, b"%d" % number)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), end_with_parent) as pool:
        list(pool.map(busy, range(2)))

"""Waits for conditions, with a bound that the load of the machine does not reach."""

import subprocess
import time
from collections.abc import Callable
from typing import IO

__all__ = ["PATIENCE", "next_line", "wait_until"]

PATIENCE = 150.0  #: seconds for anything that has to happen: only a failure takes so long


def wait_until(
    condition: Callable[[], object],
    failure: Callable[[], str] = lambda: "",
    *,
    seconds: float = PATIENCE,
    every: float = 0.02,
) -> None:
    """Waits until the condition is true.

    Args:
        condition: called again and again.
        failure: gives the text of the error.
        seconds: the bound.
        every: seconds between two calls; more for a condition that takes a while to evaluate.

    Raises:
        TimeoutError: it is still false.
    """
    begun = time.monotonic()
    while not condition():
        waited = time.monotonic() - begun
        if waited > seconds:
            raise TimeoutError(f"nothing happened in {seconds} s {failure()}")
        # A look costs CPU time, also of what is looked at: the longer it takes, the less often.
        time.sleep(max(every, min(waited / 50, 0.1)))


def next_line(process: subprocess.Popen[str], wanted: str = "", output: IO[str] | None = None) -> str:
    """Waits for the next line that a program prints with this text in it, and returns it.

    Args:
        process: the program.
        wanted: the text; empty: any line.
        output: where it prints; its error output unless told otherwise.

    Raises:
        AssertionError: it ended before; with its status and everything that it printed meanwhile.
    """
    said = []
    for line in output or process.stderr or ():
        said.append(line)
        if wanted in line:
            return line
    raise AssertionError(f"it ended with {process.wait(PATIENCE)} and did not say {wanted!r}:\n" + "".join(said))

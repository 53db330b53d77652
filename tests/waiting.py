"""Waits for conditions, with a bound that the load of the machine does not reach."""

import time
from collections.abc import Callable

__all__ = ["PATIENCE", "wait_until"]

PATIENCE = 150.0  #: seconds for anything that has to happen: only a failure takes so long


def wait_until(
    condition: Callable[[], object], failure: Callable[[], str] = lambda: "", *, seconds: float = PATIENCE
) -> None:
    """Waits until the condition is true.

    Args:
        condition: called again and again.
        failure: gives the text of the error.
        seconds: the bound.

    Raises:
        TimeoutError: it is still false.
    """
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"nothing happened in {seconds} s {failure()}")
        time.sleep(0.02)

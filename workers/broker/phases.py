"""Phases of tasks in Flower: what a task is doing at the moment, as the state of the task.

An event about a phase is sent like those about begin and end of a task: the worker collects them, and publishes many at
once. The request is kept per thread: a worker of the threads pool accepts a task in the thread that runs it. In other
pools Flower shows no phases.
"""

from collections.abc import Callable
from contextvars import ContextVar

__all__ = ["accepted", "report_phase"]

_send: ContextVar[Callable[[str], None] | None] = ContextVar("send_event", default=None)


def accepted(send: Callable[[str], None]) -> None:
    """This thread begins to run a task.

    Args:
        send: sends an event of a type about that task.
    """
    _send.set(send)


def report_phase(phase: str) -> None:
    """Reports the phase of the task that this thread runs; does nothing outside of a worker."""
    send = _send.get()
    if send is not None:
        send(f"task-{phase}")

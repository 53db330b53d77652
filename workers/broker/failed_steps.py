"""Failed steps in Flower: a task that has ended well for Celery, and that Flower has to show as failed.

A step never raises, because Celery would then count its chord as failed. So its task succeeds, also when the node has
failed. The task notes the failure here, and the request (`workers.broker.consumer`) sends the event `task-failed` in
place of `task-succeeded`. Only the event differs: result, chord, acknowledgement and signals stay those of a success.

The note is kept per thread: a worker of the threads pool sends the event in the thread that ran the task. In other
pools Flower shows the task as succeeded.
"""

from contextvars import ContextVar

__all__ = ["note_failure", "noted_failure"]

_noted: ContextVar[tuple[str, str]] = ContextVar("failed_step", default=("", ""))  #: id of the task, text


def note_failure(task_id: str, text: str) -> None:
    """Notes that the task which this thread runs did its work, and that the work failed.

    Args:
        task_id: Celery's id of the task.
        text: what Flower shows as the exception: without secrets, cleaned, not empty.
    """
    _noted.set((task_id, text))


def noted_failure(task_id: str) -> str:
    """The text that was noted for this task, and forgets it; empty when there is none."""
    noted_id, text = _noted.get()
    _noted.set(("", ""))
    return text if noted_id == task_id else ""

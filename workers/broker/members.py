"""Members of chords that know whether they are the last one: the run store counts them, so Celery need not.

Celery counts the members of a chord in the broker: twelve commands a member, and a member that is delivered twice, or
sent again in another chord, is counted wrong or not at all. The outcomes in the run store are the better count. So a
step notes here whether its turn is complete, and the result backend (`workers.broker.results`) calls the body of the
chord then. Members that note nothing are counted by Celery.

The note is kept per thread: Celery reports the end of a task to its chord in the thread that ran it.
"""

from contextvars import ContextVar

__all__ = ["note_member", "noted_member"]

_noted: ContextVar[tuple[str, bool | None]] = ContextVar("member", default=("", None))  #: id of the task, complete


def note_member(task_id: str, *, complete: bool) -> None:
    """Notes how it stands with the chord of the task that this thread runs.

    Args:
        task_id: Celery's id of the task.
        complete: whether the body of the chord is due. It may be called more than once.
    """
    _noted.set((task_id, complete))


def noted_member(task_id: str) -> bool | None:
    """What was noted for this task, and forgets it; None when nothing was."""
    noted_id, complete = _noted.get()
    _noted.set(("", None))
    return complete if noted_id == task_id else None

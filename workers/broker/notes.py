"""What a task notes for its worker: how its step has failed, and whether the turn of its step is complete.

A step never raises, because Celery would then count its chord as failed. So its task succeeds, also when the node has
failed; the task notes the failure, and the request (`workers.broker.consumer`) sends the event `task-failed` to Flower
in place of `task-succeeded`. Only the event differs: the result, the chord, the acknowledgement and the signals stay
those of a success.

Celery counts the members of a chord in the broker: twelve commands a member, and a member that is delivered twice, or
sent again in another chord, is counted wrong or not at all. The outcomes in the run store are the better count. So a
step notes whether its turn is complete, and the result backend (`workers.broker.results`) calls the body of the chord
then. Members that note nothing are counted by Celery.

A note is kept per thread: a worker of the threads pool ends a task in the thread that ran it. In other pools Flower
shows failed steps as succeeded.
"""

from contextvars import ContextVar
from typing import Generic, TypeVar

__all__ = ["COMPLETE", "FAILURE", "Note"]

V = TypeVar("V")


class Note(Generic[V]):
    """One thing that a task may note.

    Args:
        name: of the note.
        nothing: what stands for a task that has noted nothing.
    """

    def __init__(self, name: str, nothing: V) -> None:
        self._nothing = ("", nothing)
        self._noted: ContextVar[tuple[str, V]] = ContextVar(name, default=self._nothing)

    def write(self, task_id: str, value: V) -> None:
        """Notes it for the task with that id, which this thread runs."""
        self._noted.set((task_id, value))

    def take(self, task_id: str) -> V:
        """What was noted for that task, once."""
        noted_id, value = self._noted.get()
        self._noted.set(self._nothing)
        return value if noted_id == task_id else self._nothing[1]


#: What Flower shows as the exception of a task whose step has failed: without secrets, cleaned.
FAILURE = Note[str]("failure", "")
#: Whether the body of the task's chord is due, which may be called more than once; None lets Celery count.
COMPLETE = Note[bool | None]("complete", None)

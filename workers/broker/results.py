"""Celery's result backend: chords that the run store counts, and names of our own for those that Celery counts.

The result of a task keeps Celery's name (`celery-task-meta-ID`): other programs read the answer to their request with
it, without a setting. Ids are random, so no other application can mean the same key.
"""

from collections.abc import Sequence
from typing import Any

from celery import Signature, maybe_signature
from celery.backends.redis import RedisBackend
from celery.result import AsyncResult

from workers.broker.names import OWN
from workers.broker.notes import COMPLETE
from workers.logger import logger
from workers.redis.connection import KEEPALIVE, READ
from workers.redis.sentinels import Sentinels

__all__ = ["SIZE", "Results"]

SIZE = "members"  #: how many members a chord has, in its body: a chord of one is complete when its member ends

log = logger(__name__)


class Results(RedisBackend):  # type: ignore[misc] # Celery has no types
    """The backend of `make_app`."""

    group_keyprefix = f"{OWN}.group-"
    chord_keyprefix = f"{OWN}.chord-"

    def _get_pool(self, **options: Any) -> Any:  # noqa: ANN401 - of redis, or of its Sentinels
        options |= {"socket_read_size": READ, "socket_keepalive_options": KEEPALIVE}
        sentinels: Sentinels | None = self._transport_options.get("sentinels")
        return sentinels.pool(options) if sentinels else super()._get_pool(**options)

    def mark_as_failure(self, task_id: str, *args: object, **more: object) -> None:
        """Stores a failure, if that is possible.

        Celery calls this also after an error of the server, without a guard: an error here would end the thread of the
        task before its message is settled, and the message would occupy a place in the worker forever. The reconciler
        joins a chord that has lost a member.
        """
        try:
            super().mark_as_failure(task_id, *args, **more)
        except Exception:
            log.exception("a failure could not be stored", id=task_id)

    def apply_chord(self, header_result_args: Sequence[Any], body: Signature, **more: Any) -> None:  # noqa: ANN401 - Celery has no types
        """Called before a chord is sent."""
        super().apply_chord(header_result_args, body, **more)
        body[SIZE] = len(header_result_args[1])

    def on_chord_part_return(self, request: Any, state: str, result: object, *args: object, **more: object) -> None:  # noqa: ANN401 - Celery has no types
        """A member of a chord has ended: calls the body when it is due (`workers.broker.notes`).

        A body that cannot be sent is called by the reconciler.
        """
        complete = COMPLETE.take(request.id)
        if complete is None:
            super().on_chord_part_return(request, state, result, *args, **more)
        elif complete or request.chord.get(SIZE) == 1:
            try:
                maybe_signature(request.chord, app=self.app).delay([])
            except Exception:
                log.exception("the body of a chord could not be sent", id=request.id)

    def on_task_call(self, *args: object) -> None:
        """Subscribes to no result when a task is sent: a worker would collect subscriptions that it never reads.

        A program that waits for a result subscribes when it begins to wait.
        """

    def add_pending_result(self, result: AsyncResult, *args: object, **more: object) -> AsyncResult:
        """The same for the members of a chord that is sent."""
        del args, more
        return result

    def wait_for_pending(self, result: AsyncResult, *args: Any, **more: Any) -> Any:  # noqa: ANN401 - Celery has no types
        """Waits for a result."""
        super().add_pending_result(result)
        return super().wait_for_pending(result, *args, **more)

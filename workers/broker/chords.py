"""Chords of chains as messages, without the copies that Celery makes of every signature before it sends it.

The messages are those of Celery's `chord(chains)(body)`: the first task of each chain, with the rest of its chain; the
last task of each has the body. Celery copies each signature about seven times on the way, which takes several times as
long as sending it.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery import Celery, Signature

from workers.broker.results import SIZE

__all__ = ["Call", "send_chord"]


@dataclass(frozen=True, slots=True)
class Call:
    """One task of a chain.

    Attributes:
        task: its name.
        id: of the call.
        args: of the task; the result of the one before it is not added.
        options: of its message: queue and priority.
    """

    task: str
    id: str
    args: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def signature(self, **more: object) -> dict[str, Any]:
        """The call as it is in the message of the one before it."""
        options = {"task_id": self.id, **self.options, **more}
        return {
            "task": self.task,
            "args": self.args,
            "kwargs": {},
            "options": options,
            "subtask_type": None,
            "immutable": True,
        }


def send_chord(app: Celery, chains: Sequence[Sequence[Call]], body: Signature) -> None:
    """Sends the first task of every chain.

    Args:
        app: with a result backend of `workers.broker.results`.
        chains: the members; each has one task at least.
        body: called when the members say that it is due (`workers.broker.notes`).

    Raises:
        OperationalError: the broker does not accept a message; those before it were sent.
    """
    group = str(uuid.uuid4())
    body.freeze(group, group_id=group)
    body[SIZE] = len(chains)
    app.backend.set_chord_size(group, len(chains))
    with app.producer_or_acquire() as producer:
        for index, (first, *later) in enumerate(chains):
            member = {"group_id": group, "group_index": index, "chord": body}
            rest = [call.signature(**(member if call is later[-1] else {})) for call in reversed(later)]
            options = {"task_id": first.id, "add_to_parent": False, **first.options, **({} if later else member)}
            app.send_task(first.task, args=first.args, chain=rest, producer=producer, **options)

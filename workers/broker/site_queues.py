"""The queues of sites and workers: every process may send to each of them; a worker takes from that of its site.

Which sites there are, only cluster files know, and workers come and go. A queue is known here as soon as its name is
one of them; any other name that is not configured stays an error.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from celery.app import amqp
from kombu.entity import Exchange, Queue

from workers.broker.names import common_queue, is_nodes_queue, own_queue

__all__ = ["AMQP", "queue_of"]


_ID, _IDS = 200, 3  #: characters of an id, and ids of a message, at most


def queue_of(name: str) -> Queue:
    """The queue of that name, with the names that Celery uses for a caller who knows only the queue's name."""
    return Queue(name, Exchange(name, type="direct"), routing_key=name)


class _Queues(amqp.Queues):
    """The configured queues, and those of all sites and workers.

    Attributes:
        holder: the name of this process, if it is a worker with a queue of its own (`workers.broker.own_queues`).
        own: that queue, while this process takes from it.
    """

    holder = ""
    own = ""

    def take_from_own(self) -> None:
        """Adds the own queue of this worker to those that it takes from, if it takes steps at all."""
        common = next((name for name in self.consume_from if is_nodes_queue(name)), "")
        if self.holder and common:
            self.own = own_queue(common, self.holder)
            # Not declared: that would leave a key in the broker for every worker that ever was.
            self.select_add(Queue(self.own, Exchange(self.own, type="direct"), self.own, no_declare=True))

    def __missing__(self, name: str) -> Queue:
        """The queue of a site or of a worker, for sending.

        Raises:
            KeyError: it is no such queue.
        """
        common = common_queue(name)
        if name == own_queue(common):  # of the worker that sends
            name = self.own if common_queue(self.own) == common else common
        return queue_of(name) if is_nodes_queue(name) else super().__missing__(name)


class AMQP(amqp.AMQP):
    """Celery's names of queues, with those of sites."""

    queues_cls = _Queues

    def as_task_v2(self, task_id: str, name: str, *more: Any, **options: Any) -> Any:  # noqa: ANN401 - Celery has no types
        """A task as a message. Ids are displayed as they are: Celery's display of any value takes longer."""
        args, kwargs = [one or () for one in more[:2]] if len(more) > 1 else ((), ("unknown",))
        if options.get("argsrepr") is None and not kwargs and _are_ids(args):
            options |= {"argsrepr": repr(tuple(args)), "kwargsrepr": "{}"}
        return super().as_task_v2(task_id, name, *more, **options)

    def _create_task_sender(self) -> Callable[..., Any]:
        """Without a declaration of the queue in each message: on Redis a queue is a list, and needs none."""
        return partial(super()._create_task_sender(), declare=())


def _are_ids(args: Sequence[object]) -> bool:
    return len(args) <= _IDS and all(isinstance(one, str) and len(one) <= _ID for one in args)

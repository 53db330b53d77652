"""What every way in needs: settings, the run store, secrets, and the Celery app."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from workers.broker.names import CONTROL_QUEUE, nodes_queue
from workers.errors import StoreUnavailable
from workers.masks import hide
from workers.records import RunRecord
from workers.redis.address import BROKER, STORE, verified
from workers.redis.connection import WORKER, Moved, Waits, connect, errors_mapped, stays, with_retries
from workers.remembered import Remembered
from workers.secrets.seal import Seal
from workers.secrets.vault import Vault
from workers.settings import EVERY_SITE, Settings
from workers.store.port import RunStore
from workers.store.redis_store import RedisStore

if TYPE_CHECKING:  # loaded by those that send messages, ask workers or open documents: a list of runs needs none
    from celery import Celery

    from tasks.cluster import Node
    from tasks.documents import Known, RunDocuments
    from workers.broker.own_queues import OwnQueues
    from workers.redis.condition import Remark

__all__ = ["Engine", "connect_engine"]

#: These never wait behind a node: starting, joining and answering take milliseconds.
CONTROL_TASKS = (
    *("esync.begin", "esync.join_and_verify", "esync.rollout", "esync.status"),
    *("esync.pause", "esync.resume", "esync.promote", "esync.cancel"),
)

SERVERS = 20_000  #: servers of runs that this process remembers


class _AllServed(BaseException):
    """Enough workers have answered. Not an error: the consumer of a message sets it aside when it raises one."""


@dataclass(frozen=True)
class Engine:
    """Settings, store, secrets and app for one broker. The app is made at its first use, unless it is given."""

    settings: Settings
    store: RunStore
    vault: Vault
    given: "Celery | None" = None
    waits: Waits = WORKER

    @cached_property
    def known(self) -> "Known":
        """What this process knows of documents."""
        from tasks.documents import Known  # noqa: PLC0415 - see above

        return Known()

    @cached_property
    def servers(self) -> Remembered[tuple[str, ...]]:
        """The servers of runs, by id: they never change."""
        return Remembered(SERVERS)

    @cached_property
    def app(self) -> "Celery":
        """The Celery app; it connects at first use."""
        from workers.celery_app import make_app  # noqa: PLC0415 - see above

        return self.given or make_app(self.settings, CONTROL_TASKS)

    @cached_property
    def own_queues(self) -> "OwnQueues":
        """The own queues of all workers."""
        from workers.broker.own_queues import OwnQueues  # noqa: PLC0415 - see above

        return OwnQueues(connect(self.settings.broker(), BROKER))

    def close(self) -> None:
        """Closes the connections of the Celery app, if it has been used."""
        if "app" in vars(self):
            self.app.close()

    def documents(self, record: RunRecord) -> "RunDocuments":
        """The documents that the steps of a run keep."""
        from tasks.documents import RunDocuments  # noqa: PLC0415 - see above

        return RunDocuments(self.store, self.vault, record.id, self.known)

    def queue_of(self, node: "Node") -> str:
        """The queue of the steps on a node."""
        return nodes_queue("" if self.settings.site == EVERY_SITE else node.site)

    def reach_broker(self) -> None:
        """Checks that the broker answers, and lets this user send messages.

        Raises:
            StoreUnavailable: it does not answer, or does not allow that.
        """
        if self.settings.broker_url:
            from workers.broker.rights import check_rights  # noqa: PLC0415 - see above

            with connect(self.settings.broker_url, BROKER, self.waits) as client:
                with_retries(lambda: check_rights(client), self.waits.repeat)

    def remarks(self) -> "tuple[Remark, ...]":
        """Problems of the broker and the run store, and other programs on their database; each with its remedy.

        Raises:
            InputRefused: no broker is configured.
            StoreUnavailable: one of them does not answer, or refuses the logon.
        """
        from workers.broker.neighbours import neighbours_on  # noqa: PLC0415 - see above
        from workers.redis.condition import Remark, condition_of  # noqa: PLC0415 - see above

        with connect(self.settings.broker(), BROKER, self.waits) as client:
            found = [*condition_of(client), *neighbours_on(client)]
        if self.settings.store_url:
            with connect(self.settings.store_url, STORE, self.waits) as client:
                found += [Remark(f"{STORE}: {what}", remedy) for what, remedy in condition_of(client)]
        return tuple(found)

    def unserved(self, queues: Collection[str], seconds: float) -> frozenset[str]:
        """Which of these queues no worker serves that answers within that time after the answer before it.

        Raises:
            StoreUnavailable: the broker does not answer.
        """
        with connect(self.settings.broker(), BROKER, self.waits) as client, errors_mapped():
            client.ping()  # Celery would wait for a broker that does not answer
        missing = set(queues)

        def hear(answer: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
            missing.difference_update(queue.get("name") for served in answer.values() for queue in served)
            if not missing:
                raise _AllServed

        with _unsent("the broker does not answer"), suppress(_AllServed):
            self.app.control.broadcast("active_queues", reply=True, timeout=seconds, callback=hear)
        return frozenset(missing)

    def ask_to_begin(self, run_id: str) -> None:
        """Sends the message that begins a run.

        Raises:
            StoreUnavailable: it was not sent. The run exists nevertheless, and any worker finds it.
        """
        with _unsent(
            f"run {run_id} was created, but the broker did not accept its first message",
            remedy=f"any worker that reaches the broker begins it; to prevent that: esync cancel {run_id}",
        ):
            self.app.send_task("esync.begin", args=(run_id,), queue=CONTROL_QUEUE, ignore_result=True)


@contextmanager
def _unsent(what: str, remedy: str = "") -> Iterator[None]:
    """Turns the errors of a broker that takes no message into StoreUnavailable."""
    from kombu.exceptions import OperationalError  # noqa: PLC0415 - see above

    try:
        yield
    except (OperationalError, RedisError) as error:
        raise StoreUnavailable(f"{what}: {type(error).__name__}", remedy=remedy) from error


def connect_engine(settings: Settings, waits: Waits = WORKER, moved: Moved = stays) -> Engine:
    """An engine for these settings; it connects at first use.

    Args:
        settings: with a broker.
        waits: how long it waits for the broker and the run store.
        moved: where the broker is when it is not at its address any more, for the run store that it has.

    Raises:
        InputRefused: no broker is configured, or its URL is invalid.
    """
    verified(settings.broker())
    variable, moves = (STORE, stays) if settings.store_url else (BROKER, moved)
    client = connect(settings.store(), variable, waits, moves)
    store = RedisStore(client, Seal(settings.seal_key), patience=waits.repeat)
    folders = (*([settings.clusters] if settings.clusters else []), *settings.secrets)
    vault = Vault(store, settings.seal_key, on_reveal=hide, folders=folders, closed=(settings.state,))
    return Engine(settings=settings, store=store, vault=vault, waits=waits)

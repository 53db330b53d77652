"""What every way in needs: settings, the run store, secrets, and the Celery app."""

from dataclasses import dataclass

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from tasks.documents import RunDocuments
from workers.celery_app import CONTROL_QUEUE, make_app
from workers.errors import StoreUnavailable
from workers.logs import hide
from workers.records import RunRecord
from workers.redis.address import BROKER, STORE
from workers.redis.connection import connect, with_retries
from workers.secrets.seal import Seal
from workers.secrets.vault import Vault
from workers.settings import Settings
from workers.store.port import RunStore
from workers.store.redis_store import RedisStore

__all__ = ["Engine", "connect_engine"]

#: These never wait behind a node: starting, joining and answering take milliseconds.
CONTROL_TASKS = ("esync.begin", "esync.join_and_verify", "esync.rollout", "esync.status")

REACH = 5.0  #: seconds that a broker has to answer before a run is created


@dataclass(frozen=True, slots=True)
class Engine:
    """Settings, store, secrets and app for one broker."""

    settings: Settings
    store: RunStore
    vault: Vault
    app: Celery

    def documents(self, record: RunRecord) -> RunDocuments:
        """The documents that the steps of a run keep."""
        return RunDocuments(self.store, self.vault, record.id)

    def reach_broker(self) -> None:
        """Checks that the broker answers, when it is another server than the run store.

        Raises:
            StoreUnavailable: it does not answer.
        """
        if self.settings.store_url and self.settings.broker_url:
            with connect(self.settings.broker_url, BROKER) as client:
                with_retries(client.ping, REACH)

    def ask_to_begin(self, run_id: str) -> None:
        """Sends the message that begins a run.

        Raises:
            StoreUnavailable: it was not sent. The run exists nevertheless, and any worker finds it.
        """
        try:
            self.app.send_task("esync.begin", args=(run_id,), queue=CONTROL_QUEUE, ignore_result=True)
        except (OperationalError, RedisError) as error:
            raise StoreUnavailable(
                f"run {run_id} was created, but the broker did not accept its first message: {type(error).__name__}",
                remedy=f"any worker that reaches the broker begins it; to prevent that: esync cancel {run_id}",
            ) from error


def connect_engine(settings: Settings) -> Engine:
    """An engine for these settings; it connects at first use.

    Raises:
        InputRefused: no broker is configured.
    """
    client = connect(settings.store(), STORE if settings.store_url else BROKER)
    store = RedisStore(client, Seal(settings.seal_key))
    folders = (*([settings.clusters] if settings.clusters else []), *settings.secrets)
    vault = Vault(store, settings.seal_key, on_reveal=hide, folders=folders, closed=(settings.state,))
    return Engine(settings=settings, store=store, vault=vault, app=make_app(settings, CONTROL_TASKS))

"""What every way in needs: settings, the run store, secrets, and the app that carries messages."""

from dataclasses import dataclass

from celery import Celery

from tasks.material import Material
from workers.celery_app import make_app
from workers.logs import hide
from workers.records import RunRecord
from workers.seal import Seal
from workers.settings import Settings
from workers.store import RedisStore, RunStore, connect
from workers.vault import Vault

__all__ = ["Engine", "connect_engine"]

#: Never behind a node: starting, joining and answering take milliseconds.
CONTROL_TASKS = ("esync.begin", "esync.join_and_verify", "esync.rollout", "esync.status")


@dataclass(frozen=True, slots=True)
class Engine:
    """One broker's worth of esync: the four things that belong together."""

    settings: Settings
    store: RunStore
    vault: Vault
    app: Celery

    def material(self, record: RunRecord) -> Material:
        """What the steps of a run left behind."""
        return Material(self.store, self.vault, record.id)


def connect_engine(settings: Settings) -> Engine:
    """Puts the four together from settings; connects lazily.

    Raises:
        InputRefused: no broker is configured.
    """
    store = RedisStore(connect(settings.store()), Seal(settings.seal_key))
    folders = (*([settings.clusters] if settings.clusters else []), *settings.secrets)
    vault = Vault(store, settings.seal_key, on_reveal=hide, folders=folders, closed=(settings.state,))
    return Engine(settings=settings, store=store, vault=vault, app=make_app(settings, CONTROL_TASKS))

"""The broker and run store of this machine, for commands that only read: they load and start as little as possible."""

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pipelines.engine import Engine, connect_engine
from pipelines.local.state import command_here, machine_secret, require_readable, state_folder
from workers.errors import StoreUnavailable
from workers.redis.connection import PROMPT, WORKER, Waits
from workers.redis.running import running
from workers.secrets.vault import new_seal_key
from workers.settings import EVERY_SITE, Secret, Settings

__all__ = [
    "WORKER_LOG",
    "broker_folder",
    "broker_here",
    "broker_of_up",
    "engine_here",
    "engine_only",
    "seal_key",
    "site_of",
    "start_of_worker",
    "with_broker",
]

WORKER_LOG = "worker.log"
PATIENCE = 5.0  #: seconds to wait for the broker of `esync up`, and for its answer


def start_of_worker(
    settings: Settings, run_id: str, own: Path | None = None, *, stays: bool = False, site: str = ""
) -> str:
    """How a missing worker comes back, as the end of a sentence: the command that starts one, or who restarts it.

    Args:
        settings: of this process, as the environment has them.
        run_id: the run that waits.
        own: the folder of the logs when this command runs the worker.
        stays: whether this command continues: it then keeps the services of this machine from every other command.
        site: of the nodes that wait; empty if any worker will do.
    """
    if site:
        return f"start one there: celery -A pipelines.worker worker --pool threads --site {site}"
    if own is not None:
        return f"this command restarts its worker when it ends; its log: {own / WORKER_LOG}"
    if settings.broker_url is not None:
        return "start one: esync up; or with options of Celery: celery -A pipelines.worker worker --pool threads"
    here = command_here(settings.state)
    if here:
        return f"`esync {here}` restarts it when it ends; its log: {settings.state / 'logs' / WORKER_LOG}"
    if stays:
        return f"end this command, then start one: esync watch {run_id}"
    return f"start one: esync up; or continue only this run: esync watch {run_id}"


def broker_here(settings: Settings) -> Secret | None:
    """The embedded broker that runs here, if one does, whichever command started it.

    Raises:
        StoreUnavailable: that of `esync up` does not answer.
        FileTrouble: this account may not look into the state folder.
    """
    require_readable(settings.state)
    return running(broker_folder(settings)) or broker_of_up(settings)


def broker_of_up(settings: Settings) -> Secret | None:
    """The embedded broker of `esync up`, if that runs here with one; it may need a moment to restart it.

    Raises:
        StoreUnavailable: it does not answer.
    """
    folder, until = broker_folder(settings), time.monotonic() + PATIENCE
    while command_here(settings.state) == "up":
        if (found := running(folder)) is not None:
            return found
        if not (folder / "broker.url").exists():
            break  # `esync up` has a broker elsewhere, or has just ended
        if time.monotonic() > until:
            raise StoreUnavailable(
                "the broker of `esync up` does not answer",
                remedy="read its log, and what `esync up` says; if it has ended or hangs, start `esync up` again",
                file=str(folder / "broker.log"),
            )
        time.sleep(0.2)
    return None


@contextlib.contextmanager
def engine_only(settings: Settings) -> Iterator[Engine]:
    """An engine for reading runs: needs the broker, no worker.

    Raises:
        InputRefused: another command starts or stops its services at this moment.
        FileTrouble: the state folder cannot be used.
        StoreUnavailable: the embedded broker does not start, or does not answer.
    """
    if settings.broker_url is not None:
        yield connect_engine(with_broker(settings, settings.broker_url, seal_key(settings)), PROMPT)
        return
    found = broker_here(settings)
    if found is not None:
        yield engine_here(settings, found, PROMPT)
        return
    from pipelines.local.turns import exclusive  # noqa: PLC0415 - only where no broker runs
    from workers.redis.embedded import EmbeddedBroker  # noqa: PLC0415 - see above

    with exclusive(settings.state, "look"), EmbeddedBroker(broker_folder(settings)) as broker:
        yield connect_engine(with_broker(settings, broker.url, seal_key(settings)), PROMPT)


def engine_here(settings: Settings, url: Secret, waits: Waits = WORKER) -> Engine:
    """An engine for the embedded broker of this machine: it finds the run store again after `esync up` was restarted.

    Args:
        settings: of this process.
        url: where the broker is now.
        waits: how long it waits for answers.
    """
    here = with_broker(settings, url, seal_key(settings))
    return connect_engine(here, waits, partial(running, broker_folder(settings)))


def broker_folder(settings: Settings) -> Path:
    """Where the embedded broker of this machine keeps its data."""
    return settings.state / "broker"


def with_broker(settings: Settings, url: Secret, key: Secret) -> Settings:
    """The settings of this process for that broker."""
    return settings.model_copy(update={"broker_url": url, "seal_key": key, "site": site_of(settings)})


def site_of(settings: Settings) -> str:
    """The site of the workers of this machine: its embedded broker has no workers elsewhere."""
    return settings.site if settings.broker_url else EVERY_SITE


def seal_key(settings: Settings) -> Secret:
    """The configured seal key, or the one that this machine created at its first use."""
    return settings.seal_key or machine_secret(
        state_folder(settings.state) / "seal.key", lambda: new_seal_key().reveal()
    )

"""What has to run for esync to work: a broker, a worker, a window. Found where they run already, else started here.

In this order: the broker that ESYNC_BROKER_URL names (its workers are somebody else's); what `esync up` runs on this
machine; a broker and a worker of our own, for as long as this command lives.
"""

import contextlib
import http
import http.client
import importlib.util
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.coordinator import describe, watch_or_cancel
from pipelines.engine import Engine, connect_engine
from pipelines.local.processes import Child, Shield
from pipelines.local.state import alone, forget, kept, private, remember, who_runs
from pipelines.local.supervisor import Supervisor
from pipelines.rollout import kind_of
from workers.errors import ClusterLocked, RecordRefused, RunUnknown, StoreUnavailable
from workers.records import RunRecord
from workers.redis.embedded import EmbeddedBroker, running
from workers.secrets.vault import new_seal_key
from workers.settings import Secret, Settings

__all__ = ["FlowerAccess", "Running", "looking", "working"]

START_TIMEOUT = 60.0  #: seconds until a worker or Flower answers
DRAIN = 30.0  #: seconds a worker has to finish the steps it is in
FLOWER = "Flower"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class FlowerAccess:
    """Where Flower is and who may look."""

    url: str
    user: str
    password: Secret
    password_file: Path


def _nothing_to_check() -> None:
    """Services of somebody else are looked after by somebody else."""


@dataclass(frozen=True, slots=True)
class Running:
    """What a command may use while it runs.

    Attributes:
        own: the command (`rollout`, `demo`, ...) whose end is the worker's end; empty when the worker stays.
        check: raises ServiceLost when a service of this command died again and again. To be called while waiting.
    """

    engine: Engine
    own: str = ""
    flower: FlowerAccess | None = None
    logs: Path | None = None
    check: Callable[[], None] = _nothing_to_check


@contextlib.contextmanager
def looking(settings: Settings) -> Iterator[Engine]:
    """An engine to look at runs with: needs the broker, no worker.

    Raises:
        InputRefused: another command is starting or stopping its services right now.
        StoreUnavailable: the embedded broker does not start.
    """
    found = settings.broker_url or running(_broker_folder(settings))
    if found is not None:
        yield connect_engine(_with(settings, found, _seal_key(settings)))
        return
    with alone(settings.state, "look"), EmbeddedBroker(_broker_folder(settings)) as broker:
        yield connect_engine(_with(settings, broker.url, _seal_key(settings)))


@contextlib.contextmanager
def working(settings: Settings, say: Say, *, kind: str = "rollout", flower: bool = False) -> Iterator[Running]:
    """An engine whose runs somebody works on.

    Args:
        settings: where to look for it.
        say: told what is started, and when a worker had to be started again.
        kind: the command, for other commands that ask who runs the services here.
        flower: start Flower too, when the services are ours.

    Raises:
        ClusterLocked: a run of another command works here, with services that end with that command.
        InputRefused: another command runs its own services here.
        EsyncError: the worker does not start.
    """
    if settings.broker_url is not None and kind not in {"up", "demo"}:
        yield Running(connect_engine(settings))
        return
    shared = running(_broker_folder(settings)) if kind != "up" and who_runs(settings.state) == "up" else None
    if shared is not None:
        yield Running(connect_engine(_with(settings, shared, _seal_key(settings))))
        return
    _name_who_works_here(settings)
    with alone(settings.state, kind), _own_services(settings, say, kind=kind, flower=flower) as services:
        yield services


def _name_who_works_here(settings: Settings) -> None:
    """A run that changes nodes may take long: whoever comes beside it is told at once, not after a wait."""
    found = running(_broker_folder(settings)) if who_runs(settings.state) not in {"", "up"} else None
    if found is None:
        return
    store = connect_engine(_with(settings, found, _seal_key(settings))).store
    with contextlib.suppress(StoreUnavailable):  # it has just ended
        for run_id in store.active():
            with contextlib.suppress(RunUnknown, RecordRefused):
                _refuse_beside(store.run(run_id))


def _refuse_beside(first: RunRecord) -> None:
    if not kind_of(first.kind, first.id).read_only:
        remedy = f"{watch_or_cancel(first.id)}; `esync up` lets any number of commands work beside each other"
        raise ClusterLocked(f"{describe(first)} works on cluster {first.cluster}", remedy=remedy)


@contextlib.contextmanager
def _own_services(settings: Settings, say: Say, *, kind: str, flower: bool) -> Iterator[Running]:
    """Started in this order, ended in the reverse one, whatever happens in between."""
    with contextlib.ExitStack() as stack:
        shield = stack.enter_context(Shield())
        try:
            stack.callback(forget, settings.state)
            broker = stack.enter_context(EmbeddedBroker(_broker_folder(settings)))
            key = _seal_key(settings)
            engine = connect_engine(_with(settings, broker.url, key))
            stack.callback(engine.app.close)
            access, children = _children(settings, broker.url, key, say, flower=flower)
            supervisor = _start(stack, broker, children, say, lambda: remember(settings.state, kind, children))
            _wait(supervisor, children[0], lambda: _answers(engine))
            if access:
                _wait(supervisor, children[1], lambda: _serves(access.url))
            yield Running(engine, own=kind, flower=access, logs=settings.state / "logs", check=supervisor.check)
        finally:
            # What is ended must be ended wholly: a second Ctrl-C would leave processes behind.
            shield.up()


def _start(
    stack: contextlib.ExitStack, broker: EmbeddedBroker, children: list[Child], say: Say, started: Callable[[], None]
) -> Supervisor:
    """Starts the children and looks after them and the broker until the stack is left, which ends them."""
    for child in children:
        stack.callback(child.stop, DRAIN)
        child.start()
        started()
    supervisor = Supervisor([broker, *children], say, started, spared=[FLOWER])
    supervisor.is_ready(broker)
    stack.callback(supervisor.stop)
    supervisor.start()
    return supervisor


def _children(
    settings: Settings, url: Secret, key: Secret, say: Say, *, flower: bool
) -> tuple[FlowerAccess | None, list[Child]]:
    worker = _worker(settings, url, key)
    if not flower:
        return None, [worker]
    if importlib.util.find_spec("flower") is None:
        say("Flower is not installed, so there is none: pip install 'esync-rollout[embedded]'")
        return None, [worker]
    access, window = _flower(settings, url)
    return access, [worker, window]


def _worker(settings: Settings, url: Secret, key: Secret) -> Child:
    # Without mingle and gossip: there is one worker, and waiting for others costs a second at every start.
    command = ["-m", "celery", "-A", "pipelines.worker", "worker", "--hostname", _worker_name(), "--without-mingle"]
    own = _environment(settings, url, key)
    log = settings.state / "logs" / "worker.log"
    return Child("worker", [*command, "--without-gossip"], folder=settings.state, log=log, own=own)


def _worker_name() -> str:
    return f"esync-{os.getpid()}@{socket.gethostname()}"


def _flower(settings: Settings, url: Secret) -> tuple[FlowerAccess, Child]:
    """Flower behind a password, for looking only. Its options travel in the environment: arguments are public."""
    file = settings.state / "flower.password"
    password = kept(file, lambda: secrets.token_urlsafe(18))
    port = _free_port()
    own = {
        "FLOWER_ADDRESS": "127.0.0.1",
        "FLOWER_PORT": str(port),
        "FLOWER_BASIC_AUTH": f"esync:{password.reveal()}",
    }
    # No seal key: Flower has no business with what is sealed.
    own |= _environment(settings, url, None)
    log = settings.state / "logs" / "flower.log"
    child = Child(FLOWER, ["-m", "pipelines.local.flower"], folder=settings.state, log=log, own=own)
    return FlowerAccess(f"http://127.0.0.1:{port}/", "esync", password, file), child


def _environment(settings: Settings, url: Secret, key: Secret | None) -> dict[str, str]:
    own = {
        "ESYNC_BROKER_URL": url.reveal(),
        "ESYNC_STATE": str(settings.state),
        "ESYNC_CONCURRENCY": str(settings.concurrency),
        # As this command understood them: the child works in another folder.
        "ESYNC_SECRETS": os.pathsep.join(map(str, settings.secrets)),
    }
    own |= {"ESYNC_CLUSTERS": str(settings.clusters)} if settings.clusters else {}
    return own | ({"ESYNC_SEAL_KEY": key.reveal()} if key else {})


def _wait(supervisor: Supervisor, child: Child, ready: Callable[[], bool]) -> None:
    until = time.monotonic() + START_TIMEOUT
    while not ready():
        supervisor.check()
        if time.monotonic() > until:
            raise child.broke()
        time.sleep(0.05)
    supervisor.is_ready(child)


def _answers(engine: Engine) -> bool:
    return bool(engine.app.control.ping(destination=[_worker_name()], timeout=0.5, limit=1))


def _serves(url: str) -> bool:
    # Not urllib: a proxy of the environment must not be asked for a loopback address.
    connection = http.client.HTTPConnection(url.removeprefix("http://").rstrip("/"), timeout=1)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status == http.HTTPStatus.UNAUTHORIZED  # as it should: without a password
    return False


def _broker_folder(settings: Settings) -> Path:
    return settings.state / "broker"


def _with(settings: Settings, url: Secret, key: Secret) -> Settings:
    return settings.model_copy(update={"broker_url": url, "seal_key": key})


def _seal_key(settings: Settings) -> Secret:
    """The key certificate material is sealed with: the configured one, or this machine's, made once."""
    return settings.seal_key or kept(private(settings.state) / "seal.key", lambda: new_seal_key().reveal())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

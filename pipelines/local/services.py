"""The services that a command needs: a broker, a worker, Flower. Running ones are used, missing ones are started.

In this order: the broker that ESYNC_BROKER_URL names, with workers that other people start; what `esync up` runs on
this machine; a broker and a worker of this command, which end with it.
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
from pipelines.local.processes import Child
from pipelines.local.state import (
    command_here,
    exclusive,
    forget_services,
    machine_secret,
    record_services,
    state_folder,
)
from pipelines.local.supervisor import Supervisor
from pipelines.rollout import kind_of
from workers.errors import ClusterLocked, RecordRefused, RunUnknown, StoreUnavailable
from workers.host.processes import interrupts_ignored
from workers.records import RunRecord
from workers.redis.embedded import EmbeddedBroker, running
from workers.secrets.vault import new_seal_key
from workers.settings import Secret, Settings

__all__ = ["FlowerAccess", "Running", "engine_only", "engine_with_worker"]

START_TIMEOUT = 60.0  #: seconds until a worker or Flower answers
DRAIN = 30.0  #: seconds a worker has to finish its present steps
FLOWER = "Flower"

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class FlowerAccess:
    """The address of Flower, and its user and password."""

    url: str
    user: str
    password: Secret
    password_file: Path


def _nothing_to_check() -> None:
    """This command supervises only services that it started."""


@dataclass(frozen=True, slots=True)
class Running:
    """What a command may use while it runs.

    Attributes:
        own: the command (`rollout`, `demo`, ...) that the worker ends with; empty when the worker stays.
        broker_file: contains the address of the broker that this command started, with its password.
        check: raises ServiceLost when a service of this command was given up. Call it while waiting.
    """

    engine: Engine
    own: str = ""
    flower: FlowerAccess | None = None
    logs: Path | None = None
    broker_file: Path | None = None
    check: Callable[[], None] = _nothing_to_check


@contextlib.contextmanager
def engine_only(settings: Settings) -> Iterator[Engine]:
    """An engine for reading runs: needs the broker, no worker.

    Raises:
        InputRefused: another command starts or stops its services at this moment.
        StoreUnavailable: the embedded broker does not start.
    """
    found = settings.broker_url or running(_broker_folder(settings))
    if found is not None:
        yield connect_engine(_with(settings, found, _seal_key(settings)))
        return
    with exclusive(settings.state, "look"), EmbeddedBroker(_broker_folder(settings)) as broker:
        yield connect_engine(_with(settings, broker.url, _seal_key(settings)))


@contextlib.contextmanager
def engine_with_worker(
    settings: Settings, report: Report, *, kind: str = "rollout", flower: bool = False
) -> Iterator[Running]:
    """An engine with at least one worker for its runs.

    Args:
        settings: where the services are.
        report: called with one sentence about what is started, and about each restart.
        kind: the command; other commands that need the services name it in their message.
        flower: whether to start Flower too, when this command starts the services.

    Raises:
        ClusterLocked: a run of another command is active here, on services that end with that command.
        InputRefused: another command runs its own services here.
        EsyncError: the worker does not start.
    """
    if settings.broker_url is not None and kind not in {"up", "demo"}:
        yield Running(connect_engine(settings))
        return
    shared = running(_broker_folder(settings)) if kind != "up" and command_here(settings.state) == "up" else None
    if shared is not None:
        yield Running(connect_engine(_with(settings, shared, _seal_key(settings))))
        return
    _refuse_beside_active_run(settings)
    with exclusive(settings.state, kind), _own_services(settings, report, kind=kind, flower=flower) as services:
        yield services


def _refuse_beside_active_run(settings: Settings) -> None:
    """Refuses at once, without waiting for the lock: a run that changes nodes may take long."""
    broker = running(_broker_folder(settings)) if command_here(settings.state) not in {"", "up"} else None
    if broker is None:
        return
    store = connect_engine(_with(settings, broker, _seal_key(settings))).store
    with contextlib.suppress(StoreUnavailable):  # it has just ended
        for run_id in store.active():
            with contextlib.suppress(RunUnknown, RecordRefused):
                _refuse_beside(store.run(run_id))


def _refuse_beside(first: RunRecord) -> None:
    if not kind_of(first.kind, first.id).read_only:
        remedy = f"{watch_or_cancel(first.id)}; `esync up` lets any number of commands work beside each other"
        raise ClusterLocked(f"{describe(first)} works on cluster {first.cluster}", remedy=remedy)


@contextlib.contextmanager
def _own_services(settings: Settings, report: Report, *, kind: str, flower: bool) -> Iterator[Running]:
    """Starts the services in the order of their dependencies, and ends all of them in the reverse order."""
    stack = contextlib.ExitStack()
    try:
        stack.callback(forget_services, settings.state)
        broker = stack.enter_context(EmbeddedBroker(_broker_folder(settings)))
        key = _seal_key(settings)
        engine = connect_engine(_with(settings, broker.url, key))
        stack.callback(engine.app.close)
        access, children = _children(settings, broker.url, key, report, flower=flower)
        supervisor = _start(stack, broker, children, report, lambda: record_services(settings.state, kind, children))
        _wait(supervisor, children[0], lambda: _answers(engine))
        if access:
            _wait(supervisor, children[1], lambda: _serves(access.url))
        yield Running(
            engine,
            own=kind,
            flower=access,
            logs=settings.state / "logs",
            broker_file=broker.url_file,
            check=supervisor.check,
        )
    finally:
        with interrupts_ignored():
            stack.close()


def _start(
    stack: contextlib.ExitStack,
    broker: EmbeddedBroker,
    children: list[Child],
    report: Report,
    started: Callable[[], None],
) -> Supervisor:
    """Starts the children, and supervises them and the broker until the stack is closed, which ends them."""
    for child in children:
        stack.callback(child.stop, DRAIN)
        child.start()
        started()
    supervisor = Supervisor([broker, *children], report, started, optional=[FLOWER])
    supervisor.is_ready(broker)
    stack.callback(supervisor.stop)
    supervisor.start()
    return supervisor


def _children(
    settings: Settings, url: Secret, key: Secret, report: Report, *, flower: bool
) -> tuple[FlowerAccess | None, list[Child]]:
    worker = _worker(settings, url, key)
    if not flower:
        return None, [worker]
    if importlib.util.find_spec("flower") is None:
        report("Flower is not installed and not started; to install it: pip install 'esync-rollout[embedded]'")
        return None, [worker]
    access, window = _flower(settings, url)
    return access, [worker, window]


def _worker(settings: Settings, url: Secret, key: Secret) -> Child:
    # Without mingle and gossip: there is only one worker, and waiting for others takes a second at every start.
    command = ["-m", "celery", "-A", "pipelines.worker", "worker", "--hostname", _worker_name(), "--without-mingle"]
    own = _environment(settings, url, key)
    log = settings.state / "logs" / "worker.log"
    return Child("worker", [*command, "--without-gossip"], folder=settings.state, log=log, own=own)


def _worker_name() -> str:
    return f"esync-{os.getpid()}@{socket.gethostname()}"


def _flower(settings: Settings, url: Secret) -> tuple[FlowerAccess, Child]:
    """Flower, read-only and with a password. Its options are in the environment, because arguments are public."""
    file = settings.state / "flower.password"
    password = machine_secret(file, lambda: secrets.token_urlsafe(18))
    port = _free_port()
    own = {
        "FLOWER_ADDRESS": "127.0.0.1",
        "FLOWER_PORT": str(port),
        "FLOWER_BASIC_AUTH": f"esync:{password.reveal()}",
    }
    # No seal key: Flower needs nothing that is sealed.
    own |= _environment(settings, url, None)
    log = settings.state / "logs" / "flower.log"
    child = Child(FLOWER, ["-m", "pipelines.local.flower"], folder=settings.state, log=log, own=own)
    return FlowerAccess(f"http://127.0.0.1:{port}/", "esync", password, file), child


def _environment(settings: Settings, url: Secret, key: Secret | None) -> dict[str, str]:
    own = {
        "ESYNC_BROKER_URL": url.reveal(),
        "ESYNC_STATE": str(settings.state),
        "ESYNC_CONCURRENCY": str(settings.concurrency),
        # Absolute paths: the child runs in another folder.
        "ESYNC_SECRETS": os.pathsep.join(map(str, settings.secrets)),
    }
    own |= {"ESYNC_CLUSTERS": str(settings.clusters)} if settings.clusters else {}
    return own | ({"ESYNC_SEAL_KEY": key.reveal()} if key else {})


def _wait(supervisor: Supervisor, child: Child, ready: Callable[[], bool]) -> None:
    until = time.monotonic() + START_TIMEOUT
    while not ready():
        supervisor.check()
        if time.monotonic() > until:
            raise child.start_error()
        time.sleep(0.05)
    supervisor.is_ready(child)


def _answers(engine: Engine) -> bool:
    return bool(engine.app.control.ping(destination=[_worker_name()], timeout=0.5, limit=1))


def _serves(url: str) -> bool:
    # Not urllib: it would send a request for a loopback address to the proxy of the environment.
    connection = http.client.HTTPConnection(url.removeprefix("http://").rstrip("/"), timeout=1)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status == http.HTTPStatus.UNAUTHORIZED  # the request has no password
    return False


def _broker_folder(settings: Settings) -> Path:
    return settings.state / "broker"


def _with(settings: Settings, url: Secret, key: Secret) -> Settings:
    return settings.model_copy(update={"broker_url": url, "seal_key": key})


def _seal_key(settings: Settings) -> Secret:
    """The configured seal key, or the one that this machine created at its first use."""
    return settings.seal_key or machine_secret(
        state_folder(settings.state) / "seal.key", lambda: new_seal_key().reveal()
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

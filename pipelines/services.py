"""What has to run for esync to work: a broker, a worker, a window. Found where they run already, else started here.

In this order: the broker that ESYNC_BROKER_URL names (its workers are somebody else's); what `esync up` runs on this
machine; a broker and a worker of our own, for as long as this command lives.
"""

import contextlib
import http.client
import importlib.util
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.children import Child, Shield
from pipelines.engine import Engine, connect_engine
from pipelines.machine import alone, forget, kept, private, remember, who_runs
from pipelines.rollout import LOOKING, introduced, steering
from workers.embedded import EmbeddedBroker, running
from workers.errors import ClusterLocked, RecordRefused, RunUnknown, StoreUnavailable
from workers.records import RunRecord
from workers.settings import Secret, Settings
from workers.vault import new_seal_key

__all__ = ["FlowerAccess", "Running", "looking", "working"]

START_TIMEOUT = 60.0  #: seconds until a worker or Flower answers
DRAIN = 30.0  #: seconds a worker has to finish the steps it is in
FLOWER_TASKS = 20_000  #: kept in Flower's memory: four steps on 1,000 nodes, five times over
_CALM = 30.0  #: seconds after which a worker that died before counts as well again
_LONGEST_PAUSE = 10.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class FlowerAccess:
    """Where Flower is and who may look."""

    url: str
    user: str
    password: Secret
    password_file: Path


@dataclass(frozen=True, slots=True)
class Running:
    """What a command may use while it runs.

    Attributes:
        own: the command (`rollout`, `demo`, ...) whose end is the worker's end; empty when the worker stays.
    """

    engine: Engine
    own: str = ""
    flower: FlowerAccess | None = None
    logs: Path | None = None


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
    if first.kind not in LOOKING:
        remedy = f"{steering(first.id)}; `esync up` lets any number of commands work beside each other"
        raise ClusterLocked(f"{introduced(first)} works on cluster {first.cluster}", remedy=remedy)


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
            supervisor = _Supervisor(children, say, lambda: remember(settings.state, kind, children))
            stack.callback(supervisor.stop)
            supervisor.start()
            _wait(children[0], lambda: _answers(engine))
            if access:
                _wait(children[1], lambda: _serves(access.url))
            supervisor.watch()
            yield Running(engine, own=kind, flower=access, logs=settings.state / "logs")
        finally:
            # What is ended must be ended wholly: a second Ctrl-C would leave processes behind.
            shield.up()


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


class _Supervisor:
    """Starts children again when they die. Celery's worker ends itself when its broker was away for too long."""

    def __init__(self, children: list[Child], say: Say, started: Callable[[], None]) -> None:
        self._children = children
        self._say = say
        self._started = started
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts all of them."""
        for child in self._children:
            child.start()
            self._started()

    def watch(self) -> None:
        """Begins to look after them."""
        self._thread = threading.Thread(target=self._loop, name="esync-supervisor", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        pause, begun = 0.5, dict.fromkeys(self._children, time.monotonic())
        while not self._end.wait(0.3):
            for child in self._children:
                if child.ended is None:
                    continue
                self._say(
                    f"the {child.name} ended with status {child.ended} and is started again; its log: {child.log}"
                )
                pause = 0.5 if time.monotonic() - begun[child] > _CALM else min(_LONGEST_PAUSE, pause * 2)
                if self._end.wait(pause):
                    return
                child.start()
                begun[child] = time.monotonic()
                self._started()

    def stop(self) -> None:
        """Ends all of them, the last one first. None is started again meanwhile."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        for child in reversed(self._children):
            child.stop(DRAIN)


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
        "FLOWER_READ_ONLY": "true",
        "FLOWER_MAX_TASKS": str(FLOWER_TASKS),
        "FLOWER_PERSISTENT": "false",
    }
    # No seal key: Flower has no business with what is sealed.
    own |= _environment(settings, url, None)
    log = settings.state / "logs" / "flower.log"
    child = Child(
        "Flower", ["-m", "celery", "-A", "pipelines.worker", "flower"], folder=settings.state, log=log, own=own
    )
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


def _wait(child: Child, ready: Callable[[], bool]) -> None:
    until = time.monotonic() + START_TIMEOUT
    while not ready():
        if child.ended is not None or time.monotonic() > until:
            raise child.broke()
        time.sleep(0.05)


def _answers(engine: Engine) -> bool:
    return bool(engine.app.control.ping(destination=[_worker_name()], timeout=0.5, limit=1))


def _serves(url: str) -> bool:
    # Not urllib: a proxy of the environment must not be asked for a loopback address.
    connection = http.client.HTTPConnection(url.removeprefix("http://").rstrip("/"), timeout=1)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status < 500  # noqa: PLR2004 - it answers
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

"""The services that a command needs: a broker, a worker, Flower. Running ones are used, missing ones are started.

In this order: the broker that ESYNC_BROKER_URL names, with workers that other people or `esync up` start; what
`esync up` runs on this machine; a broker and a worker of this command, which end with it.
"""

import contextlib
import http
import http.client
import importlib.util
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pipelines.engine import connect_engine
from pipelines.local.page import PAGE, page_child, page_installed, page_token
from pipelines.local.processes import READY, Child
from pipelines.local.provided import FlowerAccess, PageAccess, Running, nothing
from pipelines.local.reading import broker_folder, broker_of_up, engine_here, seal_key, site_of, with_broker
from pipelines.local.state import command_here, forget_services, machine_secret, record_services
from pipelines.local.supervisor import Supervisor
from pipelines.local.turns import briefly, exclusive
from workers.errors import ClusterLocked, EsyncError, RecordRefused, RunUnknown, ServiceLost, StoreUnavailable
from workers.host.memory import SMALL_CACHES
from workers.host.open_files import possible_limit, shortage
from workers.host.processes import interrupts_ignored
from workers.records import RunRecord
from workers.redis.condition import Remark
from workers.redis.embedded import EmbeddedBroker
from workers.redis.running import running
from workers.secrets.seal import missing_key
from workers.settings import MOST_WORKERS, Secret, Settings

# What decides about runs (`pipelines.rollout`, `pipelines.coordinator`) is loaded only when another command is in the
# way: otherwise it is loaded while the worker starts.

__all__ = ["engine_with_worker", "environment_of", "remarks_here"]

START_TIMEOUT = 180.0  #: seconds until a worker or Flower answers: long, for a very busy machine
DRAIN = 30.0  #: seconds a worker has to finish its present steps
FLOWER = "Flower"
TURN_PATIENCE = 600.0  #: seconds to wait for commands that only look at nodes; each takes some seconds

Report = Callable[[str], None]


def remarks_here(settings: Settings) -> tuple[Remark, ...]:
    """Problems of this machine for the workers that run on it; none when other people start the workers."""
    what, remedy = shortage(settings.concurrency, possible_limit()) if settings.broker_url is None else ("", "")
    return (Remark(what, remedy),) if what else ()


@contextlib.contextmanager
def engine_with_worker(
    settings: Settings,
    report: Report,
    *,
    kind: str = "rollout",
    flower: bool = False,
    meanwhile: Callable[[], object] = nothing,
) -> Iterator[Running]:
    """An engine with at least one worker for its runs.

    Args:
        settings: where the services are.
        report: called with one sentence about what is started, and about each restart.
        kind: the command; other commands that need the services name it in their message. `up` starts workers for the
            broker that the settings name, every other command uses the workers there.
        flower: whether to start Flower too, when this command starts the services.
        meanwhile: called while the services start.

    Raises:
        SecretUnavailable: a worker for the broker of the settings would have no seal key.
        ClusterLocked: a run of another command is active here, on services that end with that command.
        InputRefused: another command runs its own services here.
        StoreUnavailable: the broker of `esync up` does not answer.
        EsyncError: the worker does not start.
    """
    if settings.broker_url is not None and kind not in {"up", "demo"}:
        yield Running(connect_engine(settings))
        return
    shared = broker_of_up(settings) if kind != "up" else None
    if shared is not None:
        yield Running(engine_here(settings, shared))
        return
    _refuse_beside_active_run(settings)
    with (
        exclusive(settings.state, kind, report, _patience) as is_ours,
        _own_services(settings, report, is_ours, kind=kind, flower=flower, meanwhile=meanwhile) as services,
    ):
        yield services


def _patience(command: str) -> float:
    """Seconds to wait for that command to end: one that only looks at nodes ends by itself, others may take long."""
    from pipelines.rollout import KINDS, kind_of  # noqa: PLC0415 - see above

    ends_soon = not command or (command in KINDS and kind_of(command, "").read_only)
    return TURN_PATIENCE if ends_soon else briefly(command)


def _refuse_beside_active_run(settings: Settings) -> None:
    """Refuses at once, without waiting for the lock: a run that changes nodes may take long."""
    broker = running(broker_folder(settings)) if command_here(settings.state) not in {"", "up"} else None
    if broker is None:
        return
    store = connect_engine(with_broker(settings, broker, seal_key(settings))).store
    with contextlib.suppress(StoreUnavailable):  # it has just ended
        for run_id in store.active():
            with contextlib.suppress(RunUnknown, RecordRefused):
                _refuse_beside(store.run(run_id))


def _refuse_beside(first: RunRecord) -> None:
    from pipelines.coordinator import describe, watch_or_cancel  # noqa: PLC0415 - see above
    from pipelines.rollout import kind_of  # noqa: PLC0415 - see above

    if not kind_of(first.kind, first.id).read_only:
        remedy = f"{watch_or_cancel(first.id)}; `esync up` lets any number of commands work beside each other"
        raise ClusterLocked(f"{describe(first)} works on cluster {first.cluster}", remedy=remedy)


@contextlib.contextmanager
def _own_services(
    settings: Settings,
    report: Report,
    is_ours: Callable[[], bool],
    *,
    kind: str,
    flower: bool,
    meanwhile: Callable[[], object],
) -> Iterator[Running]:
    """Starts the services in the order of their dependencies, and ends all of them in the reverse order."""
    stack = contextlib.ExitStack()
    try:
        stack.callback(forget_services, settings.state)
        broker = None if settings.broker_url else stack.enter_context(EmbeddedBroker(broker_folder(settings)))
        key = _common_key(settings) if broker is None else seal_key(settings)
        url = broker.url if broker else settings.broker()
        engine = connect_engine(with_broker(settings, url, key))
        stack.callback(engine.close)
        if broker is None:
            engine.reach_broker()
        workers = [_worker(settings, url, key, number) for number in range(_processes(settings, kind))]
        access, window = _window(stack, settings, url, report) if flower else (None, [])
        page = _page(stack, settings, url, key, report) if flower and kind == "up" else None
        children = [*workers, *window, *([page] if page else [])]
        lost = partial(_removed, settings, is_ours, own_broker=broker is not None)
        started = partial(record_services, settings.state, kind, children)
        supervisor = _start(stack, broker, children, report, started, lost)
        meanwhile()
        if kind != "up":
            _ = engine.app  # the run needs it: loaded while the worker starts
        for worker in workers:
            _wait(supervisor, worker, partial(worker.has_printed, READY))
        for child in window:
            _wait(supervisor, child, lambda: access is not None and _serves(access.url))
        if page is not None:
            _wait(supervisor, page, lambda: bool(page.printed()))
            page_token(engine, settings.state / "page.token")
        yield Running(
            engine,
            own=kind,
            flower=None if any(map(supervisor.gave_up, window)) else access,
            page=PageAccess(page.printed(), settings.state / "page.token") if page else None,
            logs=settings.state / "logs",
            broker_file=broker.url_file if broker else None,
            check=supervisor.check,
        )
    finally:
        with interrupts_ignored():
            stack.close()


def _start(
    stack: contextlib.ExitStack,
    broker: EmbeddedBroker | None,
    children: list[Child],
    report: Report,
    started: Callable[[], None],
    lost: Callable[[], EsyncError | None],
) -> Supervisor:
    """Starts the children, and supervises them and an own broker until the stack is closed, which ends them."""
    stack.callback(_stop, children)
    for child in children:
        child.start()
        started()
    own = [broker] if broker else []
    supervisor = Supervisor([*own, *children], report, started, optional=[FLOWER, PAGE], lost=lost)
    for one in own:
        supervisor.is_ready(one)
    stack.callback(supervisor.stop)
    supervisor.start()
    return supervisor


def _removed(settings: Settings, is_ours: Callable[[], bool], *, own_broker: bool) -> EsyncError | None:
    """The error for a state folder that was removed: other commands find neither these services nor their runs."""
    if is_ours():
        return None
    gone = ", and its runs, tokens and seal key with it" if own_broker else ""
    return ServiceLost(
        f"the state folder was removed or replaced while services ran from it{gone}; they end",
        remedy="start again; keep ESYNC_STATE where nothing clears it up, which a folder for temporary files is not",
        file=str(settings.state),
    )


def _stop(children: Sequence[Child]) -> None:
    """Ends them at the same time: each may need a while for its present steps."""
    with ThreadPoolExecutor(len(children)) as threads:
        list(threads.map(lambda child: child.stop(DRAIN), children))


def _window(
    stack: contextlib.ExitStack, settings: Settings, url: Secret, report: Report
) -> tuple[FlowerAccess | None, list[Child]]:
    """Flower, if it is installed."""
    if importlib.util.find_spec("flower") is None:
        report("Flower is not installed and not started; to install it: pip install 'esync-rollout[embedded]'")
        return None, []
    access, window = _flower(settings, url, _reserved_port(stack))
    return access, [window]


def _page(stack: contextlib.ExitStack, settings: Settings, url: Secret, key: Secret, report: Report) -> Child | None:
    """The server of the page and the API, if it is installed."""
    if not page_installed():
        report("the page is not installed and not started; to install it: pip install 'esync-rollout[serve]'")
        return None
    return page_child(settings, environment_of(settings, url, key), _reserved_port(stack))


def _processes(settings: Settings, kind: str) -> int:
    """How many workers: one interpreter uses one core, and what stays serves many runs."""
    return (settings.workers or min(len(os.sched_getaffinity(0)), MOST_WORKERS)) if kind == "up" else 1


def _worker(settings: Settings, url: Secret, key: Secret, number: int) -> Child:
    """A worker process; the first one has number 0."""
    suffix = f"-{number + 1}" if number else ""
    return Child(
        f"worker{suffix}",
        ["-m", "pipelines.local.celery_worker", f"esync-{os.getpid()}{suffix}@{socket.gethostname()}"],
        folder=settings.state,
        log=settings.state / "logs" / f"worker{suffix}.log",
        own=SMALL_CACHES | environment_of(settings, url, key),
        output=settings.state / f"worker{suffix}.ready",
    )


def _flower(settings: Settings, url: Secret, port: int) -> tuple[FlowerAccess, Child]:
    """Flower, read-only and with a password. Its options are in the environment, because arguments are public."""
    file = settings.state / "flower.password"
    password = machine_secret(file, lambda: secrets.token_urlsafe(18))
    own = {
        "FLOWER_ADDRESS": "127.0.0.1",
        "FLOWER_PORT": str(port),
        "FLOWER_BASIC_AUTH": f"esync:{password.reveal()}",
    }
    # No seal key: Flower needs nothing that is sealed.
    own |= environment_of(settings, url, None)
    log = settings.state / "logs" / "flower.log"
    child = Child(FLOWER, ["-m", "pipelines.local.flower"], folder=settings.state, log=log, own=own)
    return FlowerAccess(f"http://127.0.0.1:{port}/", "esync", password, file), child


def environment_of(settings: Settings, url: Secret, key: Secret | None) -> dict[str, str]:
    """The variables of a process that works with that broker; without a key it opens nothing that is sealed."""
    own = {
        "ESYNC_BROKER_URL": url.reveal(),
        "ESYNC_STATE": str(settings.state),
        "ESYNC_CONCURRENCY": str(settings.concurrency),
        "ESYNC_SITE": site_of(settings),
        # Absolute paths: the child runs in another folder.
        "ESYNC_SECRETS": os.pathsep.join(map(str, settings.secrets)),
    }
    own |= {"ESYNC_CLUSTERS": str(settings.clusters)} if settings.clusters else {}
    own |= {"ESYNC_STORE_URL": settings.store_url.reveal()} if settings.store_url else {}
    return own | ({"ESYNC_SEAL_KEY": key.reveal()} if key else {})


def _wait(supervisor: Supervisor, child: Child, ready: Callable[[], bool]) -> None:
    until = time.monotonic() + START_TIMEOUT
    while not ready() and not supervisor.gave_up(child):
        supervisor.check()
        if time.monotonic() > until:
            raise child.start_error()
        time.sleep(0.02)
    supervisor.is_ready(child)


def _serves(url: str) -> bool:
    # Not urllib: it would send a request for a loopback address to the proxy of the environment.
    connection = http.client.HTTPConnection(url.removeprefix("http://").rstrip("/"), timeout=1)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status == http.HTTPStatus.UNAUTHORIZED  # the request has no password
    return False


def _common_key(settings: Settings) -> Secret:
    """The seal key that all workers and commands of a broker share; none is created for it here."""
    if settings.seal_key is None:
        raise missing_key()
    return settings.seal_key


def _reserved_port(stack: contextlib.ExitStack) -> int:
    """A free port that no other program gets until the stack is closed: it is bound here, and a child listens on it."""
    holder = stack.enter_context(socket.socket())
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # so that the child, which sets it too, can bind it
    holder.bind(("127.0.0.1", 0))
    return int(holder.getsockname()[1])

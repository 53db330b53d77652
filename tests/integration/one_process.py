"""A complete esync and its servers in one process, without network, broker or worker processes.

Real: the lab's machines with product and agent, sessions, steps, the runner, leases, pipelines, Celery's canvas (run on
the spot) and the shipped in-memory store. Not there: sockets, logons, a broker, worker processes. So a test can kill
PowerShell or the worker at every point, and see everything that a machine did.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from typing import Any, cast

import pytest
from celery import Celery
from typing_extensions import override

from lab.machine.network import Network
from pipelines.coordinator import join_and_verify, let_node_begin
from pipelines.engine import Engine
from pipelines.reconcile import begin_or_continue, resume_stalled
from pipelines.rollout import purpose_of
from pipelines.usecases import runs as commands
from pipelines.usecases.runs import RunSummary
from tasks.celery_tasks import register_steps
from tasks.cluster import Cluster
from tasks.ektron.certificates.family import Family
from tasks.execution.leases import LeaseKeeper
from tasks.execution.runner import StepRunner
from tasks.steps.registry import STEPS
from tests.integration.simulated_servers import Server, ServerChannel
from workers.records import Endpoint, RunRecord, RunState, StepOutcome
from workers.secrets.vault import Vault, new_seal_key
from workers.settings import Secret, Settings
from workers.sites.port import Address, OpenSite, Site
from workers.store.memory import MemoryStore
from workers.store.port import RunStore
from workers.winrm.channel import Gate
from workers.winrm.operations import Op, Reply
from workers.winrm.pool import SessionPool
from workers.winrm.session import AgentSession, Way

__all__ = ["PASSWORD", "Esync", "Life", "WorkerDied", "families_known"]

PASSWORD = "ONE_PROCESS_PASSWORD"  # the variable's name
LEASE = 600.0  #: seconds; nothing is renewed while a test runs
WRITES = frozenset(
    {
        "save",
        "flag",
        "record",
        "finish",
        "note",
        "put",
        "begin",
        "claim",
        "renew",
        "release",
        "reap",
        "number",
        "lock_servers",
        "keep",
    }
)


class WorkerDied(BaseException):
    """The worker process ends here, as after kill -9: later calls have no effect."""


class Life:
    """The life of one worker process: the moments at which it can die, and the one at which it dies.

    A moment is just before a request to a node or a write to the store. A death right after one of them has the same
    effect as a death right before the next one.

    Args:
        dies_at: number of that moment, from 0; None: it does not die.
    """

    def __init__(self, dies_at: int | None = None) -> None:
        self.moments: list[str] = []
        self.died_at = 0  #: nanoseconds since 1970; 0: it is alive
        self._dies_at = dies_at

    def moment(self, what: str) -> None:
        """A moment at which it can die.

        Raises:
            WorkerDied: it dies here, or is dead already.
        """
        self.check_alive()
        if len(self.moments) == self._dies_at:
            self.died_at = time.time_ns()
            raise WorkerDied(what)
        self.moments.append(what)

    def check_alive(self) -> None:
        """Does nothing while the process is alive.

        Raises:
            WorkerDied: it is dead.
        """
        if self.died_at:
            raise WorkerDied("it is dead")


class _WorkerStore:
    """The run store, as one worker process uses it."""

    def __init__(self, store: RunStore, life: Life) -> None:
        self._store = store
        self._life = life

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)

        def call(*args: Any, **named: Any) -> Any:  # noqa: ANN401 - passed through
            self._life.check_alive()
            if name not in WRITES:
                return method(*args, **named)
            self._life.moment(f"store.{name}")
            return method(*args, **named)

        return call


class _WorkerSession(AgentSession):
    """A session of one worker process."""

    life = Life()

    @override
    def ask(self, ops: Sequence[Op], **named: Any) -> list[Reply]:
        self.life.moment(", ".join(op.name for op in ops))
        return super().ask(ops, **named)

    @override
    def close(self) -> None:
        if not self.life.died_at:  # the node does not notice a death; its PowerShell waits for input
            super().close()


class _ImmediateApp(Celery):  # type: ignore[misc] # celery has no types
    """An app that runs each task where it is sent, and what follows from it, as the workers do."""

    def producer_or_acquire(self, producer: object = None) -> AbstractContextManager[object]:
        """No producer: nothing is sent. A run is one call within another here; each would keep a place in the pool."""
        return nullcontext(producer)

    def send_task(
        self,
        name: str,
        args: Sequence[str] = (),
        chain: Sequence[Mapping[str, Any]] = (),
        **options: Any,  # noqa: ANN401 - of Celery
    ) -> None:
        """Runs the task and the rest of its chain; after the last member of a chord, its body."""
        self.tasks[name].apply(args)
        for call in reversed(chain):
            self.tasks[call["task"]].apply(call["args"])
            options = call["options"]
        body = options.get("chord")
        if body and options["group_index"] == body["members"] - 1:
            self.tasks[body["task"]].apply(body["args"])


class _Workers:
    """The worker processes of an esync: one that stays alive, and those that die at a node."""

    def __init__(self, hire: Callable[[Life], StepRunner]) -> None:
        self._hire = hire
        self._steady = hire(Life())
        self._doomed: dict[str, tuple[Life, StepRunner]] = {}

    def send(self, node: str, life: Life) -> None:
        """Gives this node's changing steps to a worker with that life; after its death the other worker does them."""
        self._doomed[node] = (life, self._hire(life))

    def run(
        self,
        run: str,
        turn: str,
        node: str,
        step: str,
        report_phase: Callable[[str], None],
        report_end: Callable[[bool], None] = lambda _: None,
    ) -> StepOutcome:
        """As `StepRunner.run`, by the worker of this node."""
        life, runner = self._doomed.get(node, (Life(), self._steady))
        changes = not turn.startswith(("canary", "observe", "families", "verify"))
        chosen = self._steady if life.died_at or not changes else runner
        return chosen.run(run, turn, node, step, report_phase, report_end)


def _no_site(address: Address) -> Site:
    raise AssertionError(f"the site of {address.node} is asked")


class Esync:
    """A cluster of simulated servers, and an esync for it.

    Attributes:
        open_site: opens the web site of a node.
        servers: the machines by node name.
        store: the store of its runs.
        passed: seconds by which the clock was moved without waiting.
    """

    def __init__(self, cluster: Cluster, open_site: OpenSite = _no_site) -> None:
        os.environ[PASSWORD] = "nobody logs on"
        self.open_site = open_site
        self.cluster = cluster
        self.loop = asyncio.new_event_loop()
        self.servers = _installed(cluster)
        self.passed = 0.0
        self.store = MemoryStore(lambda: time.monotonic() + self.passed)
        settings = Settings(seal_key=new_seal_key())
        self.engine = Engine(settings, self.store, Vault(self.store, settings.seal_key), _app())
        self._leases: list[LeaseKeeper] = []
        self.crew = _Workers(self._worker)
        _alive.append(self)

    def _worker(self, life: Life) -> StepRunner:
        """A worker process with its own sessions and claims."""
        store = cast("RunStore", _WorkerStore(self.store, life))

        def opened(
            endpoint: Endpoint, secret: Secret, *, gate: Gate, deadline: float, way: Way, cancelled: Callable[[], bool]
        ) -> AgentSession:
            del secret, cancelled
            life.check_alive()
            gate.admit()
            session = _WorkerSession(ServerChannel(self.servers[endpoint.node], self.loop), endpoint.node, way=way)
            session.life = life
            session.open(deadline=deadline)
            return session

        leases = LeaseKeeper(store, f"worker-{len(self._leases)}", LEASE)
        self._leases.append(leases)
        vault = Vault(store, self.engine.settings.seal_key)
        return StepRunner(
            STEPS,
            purpose_of=purpose_of,
            store=store,
            vault=vault,
            sessions=SessionPool(opened),
            leases=leases,
            max_wait=0,
            open_site=self._site,
            let_begin=lambda *names: let_node_begin(self.engine, *names),
        )

    def _site(self, address: Address) -> Site:
        return self.open_site(address)

    def rollout(self, **asked: Any) -> RunSummary:  # noqa: ANN401 - passed on
        """Does a complete run."""
        return self.ended(commands.start(self.engine, self.cluster, **asked))

    def knows(self, run: str) -> bool:
        """Whether the run is in its store."""
        return any(record.id == run for record in self.store.runs(1000))

    def ended(self, record: RunRecord) -> RunSummary:
        """The summary of a run that has ended."""
        known = commands.summary(self.engine, record.id)
        assert known.record.state is RunState.CONCLUDED
        return known

    def wave_of(self, run: str, node: str) -> None:
        """Does the steps of one node of the current wave, as another worker would at the same time."""
        turn = self.store.run(run).turn
        assert turn is not None
        for step in turn.steps:
            self.crew.run(run, turn.name, node, step, lambda _: None)

    def resume(self, run: str) -> RunSummary:
        """Resumes the run after the claims of a dead worker have expired, until the run has ended."""
        while self.store.run(run).state is not RunState.CONCLUDED:
            self.passed += 2 * LEASE
            with suppress(WorkerDied):
                resume_stalled(self.engine, run)
        return self.ended(self.store.run(run))

    def replace(self, name: str) -> Server:
        """Puts an empty machine in place of a server; the sessions with the old one end with their workers."""
        old = self.servers[name]
        self.servers[name] = Server(name, old.address, old.network)
        self.new_workers()
        return self.servers[name]

    def lose_store(self) -> None:
        """Puts an empty run store in place of the present one, with other workers."""
        self.store = MemoryStore(lambda: time.monotonic() + self.passed)
        settings = self.engine.settings
        self.engine = Engine(settings, self.store, Vault(self.store, settings.seal_key), self.engine.given)
        self.new_workers()

    def new_workers(self) -> None:
        """Starts other workers, which have no session and remember nothing."""
        self.crew = _Workers(self._worker)

    def close(self) -> None:
        """Closes everything."""
        _alive.remove(self)
        for leases in self._leases:
            leases.close()
        waiting = asyncio.all_tasks(self.loop)
        for task in waiting:
            task.cancel()
        if waiting:
            self.loop.run_until_complete(asyncio.wait(waiting))
        self.loop.close()


@contextmanager
def families_known() -> Iterator[None]:
    """Parses each set of six certificate files only once: their keys take most of the time of a run here."""
    known: dict[tuple[object, ...], Family] = {}
    collect = Family.collect

    def collected(node: str, files: Mapping[str, bytes]) -> Family:
        key = (node, *sorted(files.items()))
        known[key] = known.get(key) or collect(node, files)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Family, "collect", collected)
        yield


def _installed(cluster: Cluster) -> dict[str, Server]:
    """The servers of the cluster after installation; the origin has its certificates."""
    network, servers = Network(), {}
    for node in cluster.nodes:
        server = servers[node.name] = Server(node.name, node.host, network)
        server.install(cluster.edition, cluster.site.path, node.pool)
    servers[cluster.node(cluster.origin).name].configure()
    return servers


_alive: list[Esync] = []  #: an app registers its tasks once; the run id of a message tells its esync


@cache
def _app() -> Celery:
    """The app of this process, with the tasks of the product."""
    app = _ImmediateApp("one-process", broker="memory://", backend="cache+memory://")
    app.conf.task_always_eager = True
    register_steps(app, lambda: cast("StepRunner", _RunnerOfRun()))

    @app.task(name="esync.join_and_verify", bind=True, shared=False)  # type: ignore[untyped-decorator]
    def join(_task: object, run: str, turn: str) -> None:
        join_and_verify(_of(run).engine, run, turn)

    @app.task(name="esync.begin", bind=True, shared=False)  # type: ignore[untyped-decorator]
    def first(_task: object, run: str) -> None:
        begin_or_continue(_of(run).engine, run)

    return app


class _RunnerOfRun:
    """The runner of a message: the one of the esync that has its run."""

    def run(
        self,
        run: str,
        turn: str,
        node: str,
        step: str,
        report_phase: Callable[[str], None],
        report_end: Callable[[bool], None] = lambda _: None,
    ) -> StepOutcome:
        """As `StepRunner.run`."""
        return _of(run).crew.run(run, turn, node, step, report_phase, report_end)


def _of(run: str) -> Esync:
    return next(esync for esync in _alive if esync.knows(run))

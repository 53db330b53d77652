"""A broker, workers and nodes in one process, where a test makes every move: for tests of steering.

Real: the rules, the runner, the reconciler, the store of one process, Celery's canvas. Simulated: messages wait in a
list until a test takes one; a worker is a thread that stops at each request to its node until a test continues it.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from celery import Celery

from pipelines.coordinator import let_node_begin
from pipelines.engine import Engine
from pipelines.rollout import purpose_of
from tasks.documents import FamilyDigests
from tasks.execution.leases import LeaseKeeper
from tasks.execution.runner import NodeBusy, NotReady, StepRunner
from tasks.step import Done, Work
from tasks.step_values import Purpose, Step
from tasks.steps.registry import CERT_COPY, CONFIG_EDIT, INSTALL_CHECK, SERVICE_RESTART
from tests.unit.tasks.ektron.joined import FOUR, HASHES, THUMBPRINT, joined_node
from workers.errors import StoreUnavailable
from workers.records import Change, DocumentKind, Endpoint, RunState
from workers.secrets.vault import Vault
from workers.settings import Secret, Settings
from workers.store.memory import MemoryStore
from workers.store.port import RunStore
from workers.winrm.channel import Counters, Gate
from workers.winrm.greeting import Hello
from workers.winrm.operations import Guard, Op, Reply
from workers.winrm.pool import SessionPool
from workers.winrm.session import AgentSession

__all__ = ["LEASE", "PASSWORD", "Message", "Messages", "Site", "Worker"]

LEASE = 60.0
PASSWORD = "STEERED_PASSWORD"  # the name of the variable
_LONGEST = 20.0  #: seconds that a thread may need from one stop to the next


@dataclass(frozen=True)
class Message:
    """A task that was sent, and the tasks after it in its chain."""

    name: str
    args: tuple[str, ...]
    then: tuple[Any, ...] = ()
    priority: int = 0

    def next(self) -> "Message | None":
        """The message that Celery sends when this one is done."""
        if not self.then:
            return None
        *rest, first = self.then
        return Message(first["task"], tuple(first["args"]), tuple(rest), first["options"]["priority"])


class Messages(Celery):  # type: ignore[misc] # celery has no types
    """An app that keeps its messages in a list."""

    def __init__(self) -> None:
        super().__init__("steered", broker="memory://", backend="cache+memory://")
        self.waiting: list[Message] = []

    def send_task(self, name: str, args: Sequence[str] = (), *_: object, **options: Any) -> None:  # noqa: ANN401 - as Celery does
        """Adds the message to the list."""
        self.waiting.append(Message(name, tuple(args), tuple(options.get("chain") or ()), options.get("priority", 0)))


class WorkerDied(BaseException):
    """The process was killed."""


class Worker:
    """One worker process with one message. It stops at every request to its node.

    Attributes:
        asking: `read` or `change` while it is stopped; empty when it has ended.
            back: the message is to go back to the queue.
    """

    def __init__(self, site: "Site", number: int, message: Message) -> None:
        self.message = message
        self.asking = ""
        self.back = False
        self.died = False
        self._site = site
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        store = cast("RunStore", _StoreOf(site.store, self))
        self.leases = LeaseKeeper(store, f"worker-{number}", LEASE)
        pool = SessionPool(self._opened)
        self._runner = StepRunner(
            _STEPS,
            purpose_of=purpose_of,
            store=store,
            vault=Vault(store, None),
            sessions=pool,
            leases=self.leases,
            max_wait=0,
            clock=site.clock,
            let_begin=lambda *names: let_node_begin(site.engine, *names),
        )
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        self._wait()

    def _opened(self, endpoint: Endpoint, secret: Secret, *, gate: Gate, **_: object) -> AgentSession:
        del secret
        gate.admit()
        return cast("AgentSession", _Session(self, self._site, endpoint))

    def proceed(self) -> None:
        """Its node answers; the worker runs to its next request, or to its end."""
        self._go.release()
        self._wait()

    def die(self) -> None:
        """Kills the worker: nothing it does from now on has any effect."""
        self.died = True
        self.proceed()

    def stop(self, asking: str) -> None:
        """Called on the worker's own thread when it sends a request to its node."""
        self.asking = asking
        self._stopped.release()
        if not self._go.acquire(timeout=_LONGEST):
            self.died = True  # its test has ended: nothing that it does reaches the output of another one
        if self.died:
            raise WorkerDied

    def _wait(self) -> None:
        assert self._stopped.acquire(timeout=_LONGEST)

    def _work(self) -> None:
        run, turn, node = self.message.args
        try:
            self._runner.run(run, turn, node, self.message.name.removeprefix("esync."))
        except NodeBusy:
            self.back = True
        except NotReady:
            pass
        except WorkerDied:
            pass
        finally:
            self.asking = ""
            self.leases.close()
            self._stopped.release()


class _StoreOf:
    """The store, as one worker uses it."""

    def __init__(self, store: RunStore, worker: Worker) -> None:
        self._store = store
        self._worker = worker

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)

        def call(*args: Any, **named: Any) -> Any:  # noqa: ANN401 - passed through
            if self._worker.died and name == "renew":  # on the keeper's own thread: it finds no store, and says nothing
                raise StoreUnavailable("the worker is dead")
            if self._worker.died:
                raise WorkerDied
            return method(*args, **named)

        return call


class _Session:
    """A session with a node that answers when the test says so."""

    usable, fresh, way, greeting = True, True, "conversation", None
    counters = Counters()

    def __init__(self, worker: Worker, site: "Site", endpoint: Endpoint) -> None:
        self._worker = worker
        self._site = site
        self._node = endpoint.node

    def ask(
        self, ops: Sequence[Op], *, deadline: float, guard: Guard | None = None, **_: object
    ) -> list[Reply]:  # as AgentSession
        """A change takes effect when it is requested, no matter when its answer arrives."""
        assert deadline > 0
        assert not ops
        if guard is not None:
            self._site.changed(self._worker.message, guard.fence)
        self._worker.stop("read" if guard is None else "change")
        return []

    def hello(self) -> Hello:
        raise AssertionError("not used")

    def close(self) -> None:
        """Nothing to close."""


@dataclass
class Site:
    """The store, the messages, the nodes, and the changes of the nodes.

    Attributes:
    passed: seconds since the start.
    changes: run, node and step of every change, in order.
    wrong: what happened although it must not.
    """

    passed: float = 0.0
    changes: list[tuple[str, str, str]] = field(default_factory=list)
    fences: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    started: int = 0

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        self.app = Messages()
        self.engine = Engine(Settings(stall_after=15, reconcile_every=5), self.store, Vault(self.store, None), self.app)

    def clock(self) -> float:
        """Seconds."""
        return 1000.0 + self.passed

    def pass_by(self, seconds: float) -> None:
        """Time passes; live workers renew their leases."""
        for _ in range(int(seconds // (LEASE / 3)) + 1):
            self.passed += seconds / (int(seconds // (LEASE / 3)) + 1)
            for worker in self.workers:
                if worker.asking and not worker.died:
                    run, _, node = worker.message.args
                    self.store.renew(run, [node], worker.leases.holder, LEASE)

    def take(self, message: Message) -> None:
        """A worker takes a message and runs to its first request; when it is done, the next message follows."""
        self.app.waiting.remove(message)
        self.started += 1
        worker = Worker(self, self.started, message)
        self.workers.append(worker)
        self._done(worker)

    def proceed(self, worker: Worker) -> None:
        """A node answers."""
        worker.proceed()
        self._done(worker)

    def kill(self, worker: Worker) -> None:
        """Kills the worker's process; its message returns when the broker notices, or never."""
        worker.die()
        self.workers.remove(worker)

    def changed(self, message: Message, fence: int) -> None:
        """Records a change of a node; called on the thread of the worker that requests it."""
        run, _, node = message.args
        if fence < self.fences.get(node, 0):
            return
        self.fences[node] = fence
        outcomes = self.store.outcomes(run, message.args[1])
        if not any((o.node, o.step) == (node, INSTALL_CHECK.name) for o in outcomes):
            self.wrong.append(f"{node} was changed by {message.name} before it was checked")
        self.changes.append((run, node, message.name))
        if self.store.run(run).state is RunState.CONCLUDED:
            self.wrong.append(f"{node} was changed by {message.name} after run {run} had ended")

    def _done(self, worker: Worker) -> None:
        if worker.asking:
            return
        self.workers.remove(worker)
        following = worker.message if worker.back else worker.message.next()
        if following is not None:
            self.app.waiting.append(following)


def _looked(work: Work) -> Done:
    work.session.ask([], deadline=5)
    facts = joined_node(work.node.name, FOUR, origin=work.is_origin)
    document = facts.model_dump_json(exclude_defaults=True)
    work.documents._store.put(
        work.run,
        DocumentKind.VERIFIED if work.purpose is Purpose.VERIFY else DocumentKind.OBSERVED,
        work.node.name,
        document,
    )
    family = FamilyDigests(hashes=HASHES, sizes=dict.fromkeys(HASHES, 900), thumbprint=THUMBPRINT)
    work.documents._store.put(work.run, DocumentKind.FAMILY, DocumentKind.FAMILY, family.to_json())
    return Done()


def _changed(work: Work) -> Done:
    work.session.ask([], deadline=5)
    work.report_phase("applying")
    work.session.ask([], deadline=5, guard=Guard(fence=work.fence._claim, file="", folders=()))
    return Done(changes=(Change(what="something"),))


_STEPS: dict[str, Step] = {
    INSTALL_CHECK.name: replace(INSTALL_CHECK, run=_looked),
    **{step.name: replace(step, run=_changed) for step in (CONFIG_EDIT, CERT_COPY, SERVICE_RESTART)},
}

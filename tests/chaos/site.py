"""Servers, a broker and workers with the product's settings; one run with one fault after another."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

from tests.chaos.judge import History, judged, messages_in, stood_still
from tests.chaos.plan import Fault, Round
from tests.integration.harness import Harness, cluster_of, harness_at
from tests.integration.matrix_cluster import MatrixCluster, matrix_cluster
from tests.refusing import refusing
from tests.waiting import wait_until
from tests.warm import WarmProcess
from workers.records import RunState
from workers.redis.connection import connect
from workers.settings import Settings

__all__ = ["Played", "Site", "site_at"]

POLICY = {"waves": "all", "concurrency": 64}  #: with the product's deadlines, however slow this machine is
LIMIT = 300.0  #: seconds for a run, whatever fails
SHELLS = 1000  #: that a server allows: workers die faster here than the shells that they leave behind
SETTLED = 10.0  #: seconds until the messages that were sent twice are gone


@dataclass(frozen=True)
class Played:
    """The result of a round.

    Attributes:
        late: whether the run had ended before the fault came.
        recovery: seconds that the run, or one of its nodes, stood still after the fault.
        seconds: of the whole run.
        wrong: what the judge found.
    """

    round: Round
    late: bool
    recovery: float
    seconds: float
    wrong: list[str] = field(default_factory=list)


@dataclass
class Site:
    """Where rounds are played.

    Attributes:
        fresh: whether a worker is a new interpreter, as in production, and not a fork of one that is warm.
        typical: seconds that a run takes without a fault.
    """

    servers: MatrixCluster
    fresh: bool
    typical: float = 0.0

    @property
    def harness(self) -> Harness:
        """Broker and worker."""
        return self.servers.harness

    def calibrate(self) -> None:
        """Does a run without a fault, to know how long one takes."""
        begun = time.monotonic()
        self.harness.rollout(cluster_of(self.servers.lab, waves="all"))
        self.typical = time.monotonic() - begun
        self._restore()

    def play(self, this: Round) -> Played:
        """Plays a round, from untouched servers to untouched servers."""
        before = {node: len(self.servers.service(node)["history"]) for node in self.servers.nodes}
        begun = time.monotonic()
        run = self.harness.start(cluster_of(self.servers.lab, waves=this.waves, concurrency=this.in_work)).id
        late = self._ends_before(run, begun + this.moment * self.typical)
        if this.fault is Fault.WORKER_KILLED_BETWEEN:
            late = self._ends_before_next_turn(run)
        struck = time.time()
        self._strike(this)
        struck = time.time() if this.fault.passes else struck
        done = self.harness.finished(run, LIMIT)
        seconds = time.monotonic() - begun
        self._settle()
        wrong = list(judged(self.servers, before, done, this.fault.deaths))
        recovery = 0.0 if late else stood_still(History.of(self.harness, run), struck)
        self._restore()
        return Played(this, late, recovery, seconds, wrong)

    def _ends_before(self, run: str, moment: float) -> bool:
        while time.monotonic() < moment:
            time.sleep(0.01)
        return self.harness.engine.store.run(run).state is RunState.CONCLUDED

    def _ends_before_next_turn(self, run: str) -> bool:
        turns = len(self.harness.engine.store.run(run).turns)
        while (record := self.harness.engine.store.run(run)).state is not RunState.CONCLUDED:
            if len(record.turns) > turns:
                return False
        return True

    def _strike(self, this: Round) -> None:
        if this.fault.passes:
            with self._for_a_while(this):
                time.sleep(this.lasts)
            return
        harness, broker, worker = self.harness, self.harness.broker, self.harness.worker
        if this.fault is Fault.WORKER_RESTARTED and worker:
            worker.terminate()
            worker.wait(LIMIT)
        elif this.fault.of_worker:
            harness.kill_worker()
        older = harness.folder / "older"
        if this.fault is Fault.BROKER_OLDER:
            shutil.copytree(broker.folder / "data", older)
            time.sleep(this.away)
        if this.fault.of_broker:
            os.kill(broker.pid, signal.SIGKILL if this.fault.deaths else signal.SIGTERM)
            broker.wait()
            if older.exists():
                shutil.rmtree(broker.folder / "data")
                older.rename(broker.folder / "data")
            else:
                time.sleep(this.away)
            broker.start()
        if this.fault.of_worker:
            harness.start_worker(*_interpreter(self.fresh))
        if this.fault is Fault.WORKER_KILLED_TWICE:
            time.sleep(this.away)
            harness.kill_worker()
            harness.start_worker(*_interpreter(self.fresh))

    @contextmanager
    def _for_a_while(self, this: Round) -> Iterator[None]:
        if this.fault is Fault.NO_WRITES:
            with connect(self.harness.engine.settings.store()) as client, refusing(client, this.why):
                yield
            return
        worker = self.harness.worker
        pid = worker.pid if this.fault is Fault.WORKER_FROZEN and worker else self.harness.broker.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def _settle(self) -> None:
        """Waits until no message is left that was sent twice, for a while."""
        until = time.monotonic() + SETTLED
        with connect(self.harness.engine.settings.store()) as client:
            while messages_in(client) and time.monotonic() < until:
                time.sleep(0.05)

    def _restore(self) -> None:
        for node in self.servers.nodes:
            self.servers.restore(node)


def _interpreter(fresh: bool) -> tuple[str, ...]:  # noqa: FBT001 - the field of Site
    return ("env",) if fresh else ()


def _end(worker: Popen[bytes] | WarmProcess | None) -> None:
    if worker and worker.poll() is None:
        worker.kill()
        worker.wait(LIMIT)


@contextmanager
def site_at(folder: Path, *, nodes: int, fresh: bool, workers: int = 1, **environment: str) -> Iterator[Site]:
    """Untouched servers, a broker, and workers that answer; the last one is the one that the faults hit.

    Args:
        folder: for all of them.
        nodes: how many servers.
        fresh: whether a worker is a new interpreter.
        workers: how many.
        environment: settings of the workers in place of the product's.
    """
    product = {
        f"ESYNC_{name.upper()}": str(Settings.model_fields[name].default)
        for name in ("lease", "stall_after", "reconcile_every", "concurrency")
    }
    with ExitStack() as stack:
        harness = stack.enter_context(harness_at(folder / "esync", worker=False, **{**product, **environment}))
        for _ in range(workers):
            harness.start_worker(*_interpreter(fresh))
            stack.callback(_end, harness.worker)
        wait_until(lambda: len(harness.engine.own_queues.served()) == workers)
        with matrix_cluster(folder / "lab", harness, nodes=nodes - 1, name="chaos", policy=POLICY) as servers:
            for node in servers.nodes:
                servers.lab.break_node(node, shell_quota=SHELLS)
            site = Site(servers, fresh)
            site.calibrate()
            yield site

"""Deaths between the first edit and the restart, and the restarts that a machine recorded.

The points of death come from a run without one: every action of the machine (each file that is put in place,
each line of the manifest, each request to the service), every operation of its agent, and every moment at which a
worker asks the node or writes to the run store.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import cast

from typing_extensions import override

from lab.machine.faults import Faults
from lab.machine.paths import WindowsPath
from lab.machine.services import ServiceState
from lab.product.service import EktronService
from pipelines.usecases import control
from pipelines.usecases.runs import RunSummary
from tasks.cluster import Cluster
from tasks.execution.runner import NodeBusy
from tests.integration.one_process import PASSWORD, Esync, Life, WorkerDied
from tests.integration.simulated_servers import Action, PowerShellDied, Server
from workers.errors import InputRefused
from workers.records import RunRecord, RunState, Status, StepOutcome, Verdict

__all__ = [
    "BEGINNINGS",
    "DEPENDENT",
    "SITE",
    "Boundaries",
    "Healing",
    "a_later_run",
    "a_retry",
    "agent_dies",
    "begun",
    "dependents_run",
    "esync_of",
    "first_run",
    "histories",
    "judged",
    "learnt",
    "machine_dies",
    "resumed",
    "told",
    "worker_dies",
]

SITE = r"C:\inetpub\wwwroot\CMS400"
DEPENDENT = "EktronNeedsIt"  #: a service that depends on the product's service
WHY = re.compile(
    r"(restart owed: process \d+ of the service was running when esync changed what it reads"
    r"|restart owed: \S.* (is|are) not what process \d+ of the service loaded when it started"
    r"|the service was not running [(]\w+[)])"
    r"(; an earlier attempt .*)?"
)
Healing = Callable[[Esync, str], RunSummary]


@contextmanager
def esync_of(edition: str, nodes: int = 2, **policy: object) -> Iterator[Esync]:
    """Untouched servers, the first one is the origin; there is no pause between two attempts."""
    cluster = Cluster.model_validate(
        {
            "name": "deaths",
            "edition": edition,
            "origin": "S1",
            "site": {"path": SITE},
            "connection": {"user": "esync", "secret": f"env:{PASSWORD}"},
            "policy": {
                "waves": "all",
                "whole_pool": True,
                "retry_in_wave": 0,
                "max_failed": nodes,
                "deadlines": {"service": 10, "settle": 0},
                **policy,
            },
            "nodes": [
                {"name": f"S{n}", "host": f"10.7.0.{n}", "role": "staging", "pool": "all"} for n in range(1, nodes + 1)
            ],
        }
    )
    esync = Esync(cluster)
    try:
        yield esync
    finally:
        esync.close()


# -- the cluster before the run with a death ----------------------------------------------------------------------


def _untouched(esync: Esync) -> None:
    """Nothing was done yet."""
    del esync


def _stopped(esync: Esync) -> None:
    """Nothing was done yet, and the services are stopped."""
    for server in esync.servers.values():
        server.service.request_stop()


def _joined(esync: Esync) -> None:
    assert esync.rollout().record.verdict is Verdict.JOINED


def _certificate_gone(esync: Esync) -> None:
    """Joined; then one certificate file was removed everywhere: there is nothing to edit, and one file to copy."""
    _joined(esync)
    for server in esync.servers.values():
        server.disk.remove(server.product.service_folder.child("S2_SyncServer.cer"))


def _flag_reset(esync: Esync) -> None:
    """Joined; then the asset configuration was reset everywhere: there is one file to edit, and nothing to copy."""
    _joined(esync)
    for server in esync.servers.values():
        path = server.product.site.child("AssetManagement.config")
        server.disk.put(path, server.disk.read(path).replace(b'LoadBalanced="1" S', b'LoadBalanced="0" S'))


def _only_owed(esync: Esync) -> None:
    """Joined; then a comment was added to a configuration, with the old time: only the restart is owed."""
    _joined(esync)
    for server in esync.servers.values():
        path = server.product.edition.service_config
        entry = server.disk.stat(path)
        assert entry
        server.disk.put(path, server.disk.read(path) + b"<!-- -->")
        server.disk.touch(path, entry.mtime)


BEGINNINGS: dict[str, Callable[[Esync], None]] = {
    "untouched": _untouched,
    "stopped": _stopped,
    "certificate gone": _certificate_gone,
    "flag reset": _flag_reset,
    "only owed": _only_owed,
}


def dependents_run(esync: Esync) -> None:
    """Adds a running service to each machine that depends on the service of the product."""
    for server in esync.servers.values():
        needs = (server.service.name,)
        server.install_service(DEPENDENT, DEPENDENT, r"C:\needs.exe", depends_on=needs).request_start()


# -- points of death -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Boundaries:
    """For one node: the number of actions of its machine, and the operations and moments of its worker between them."""

    actions: range
    operations: range
    moments: range


class _Recording(Life):
    """A life without a death that records the progress of the machine at each moment."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self.actions: list[int] = []
        self.operations: list[int] = []

    @override
    def moment(self, what: str) -> None:
        super().moment(what)
        self.actions.append(len(self._server.journal))
        self.operations.append(self._server.condition.counters.operations.total())

    def boundaries(self) -> Boundaries:
        """The points from the first exchange that writes to the end of the last step."""
        first = max(place for place, done in enumerate(self.actions) if not done)
        operations = range(self.operations[first], self.operations[-1])
        return Boundaries(range(self.actions[-1]), operations, range(first, len(self.moments)))


def learnt(esync: Esync) -> dict[str, Boundaries]:
    """Does a run without a death; returns the points of each node."""
    lives = {name: _Recording(server) for name, server in esync.servers.items()}
    begun(esync)
    for name, life in lives.items():
        esync.crew.send(name, life)
    _joined(esync)
    return {name: life.boundaries() for name, life in lives.items()}


def begun(esync: Esync) -> None:
    """Clears the journals and counters."""
    for server in esync.servers.values():
        server.journal.clear()
        server.condition.counters.operations.clear()


class _Death:
    """PowerShell dies on a machine before its action of that number; or before that action, while it writes a file."""

    def __init__(self, server: Server, fatal: int | Action) -> None:
        self._server = server
        self._fatal = fatal
        self._done = 0
        self.died_at = 0

    def __call__(self, action: Action) -> None:
        """Counts an action."""
        if self._fatal not in {self._done, action}:
            self._done += 1
            return
        self._server.watch = lambda _: None
        self.died_at = self._server.clock.now()
        self._leave_half(action)
        raise PowerShellDied

    def _leave_half(self, action: Action) -> None:
        path = WindowsPath.of(action.target) if action.what == "put" else None
        if path and "ProgramData" not in path.parts:
            place = path.parent.child(f"{path.name}.esync-{max(self._server.processes)}.tmp")
            self._server.storage.leave(place, b"half of it")


# -- deaths and recovery -------------------------------------------------------------------------------------------


def worker_dies(esync: Esync, node: str, number: int) -> Callable[[], int]:
    """The worker process of that node ends at its moment of that number; returns its time of death."""
    life = Life(number)
    esync.crew.send(node, life)
    return lambda: life.died_at


def machine_dies(esync: Esync, node: str, fatal: int | Action) -> Callable[[], int]:
    """PowerShell on that node ends before the machine's action of that number."""
    death = esync.servers[node].watch = _Death(esync.servers[node], fatal)
    esync.crew.send(node, Life())
    return lambda: death.died_at


def agent_dies(esync: Esync, node: str, number: int) -> Callable[[], int]:
    """PowerShell on that node ends before its operation of that number, by the fault of the lab."""
    esync.servers[node].condition.set(Faults(dies_after_operations=number))
    esync.crew.send(node, Life())
    return lambda: 0


def first_run(esync: Esync, nodes: Iterable[str]) -> RunRecord:
    """Does a run with a death on each of these nodes."""
    with suppress(WorkerDied):
        esync.rollout()
    (record,) = esync.store.runs(1)
    for node in nodes:
        if record.state is not RunState.CONCLUDED:
            with suppress(WorkerDied, NodeBusy):
                esync.wave_of(record.id, node)
    return record


def resumed(esync: Esync, run: str) -> RunSummary:
    """Other workers resume the run."""
    return esync.resume(run)


def a_later_run(esync: Esync, run: str) -> RunSummary:
    """The run is not resumed; it is cancelled, and a new run is started."""
    control.cancel(esync.engine, run, "its worker is dead")
    esync.resume(run)
    return esync.rollout()


def a_retry(esync: Esync, run: str) -> RunSummary:
    """The run is cancelled unless it has ended, and retried; if nothing is left to retry, a new run is started."""
    control.cancel(esync.engine, run, "its worker is dead")
    esync.resume(run)
    with suppress(InputRefused):
        return esync.ended(control.retry(esync.engine, run))
    return esync.rollout()


# -- what the machine shows ----------------------------------------------------------------------------------------


def last_change(server: Server) -> int:
    """The last change of anything that the service reads at its start, in nanoseconds by the machine's clock."""
    folder = server.product.service_folder
    names = [name for name in server.disk.names(folder) if "_Sync" in name and ".esync-" not in name]
    paths = [folder.child(name) for name in names]
    paths += [server.product.edition.service_config, server.product.site.child("AssetManagement.config")]
    return max(entry.ctime for path in paths if (entry := server.disk.stat(path)))


def judged(server: Server, cluster: Cluster) -> int:
    """Asserts that the service started once after the last change and loaded it; returns the time of that start."""
    changed = last_change(server)
    starts = [when for what, when in server.service.history if what == "start" and when > changed]
    assert (1, ServiceState.RUNNING) == (len(starts), server.service.state()), server.service.history
    assert starts[0] == server.service.started
    loaded = cast("EktronService", server.service.program).loaded
    assert loaded is not None
    assert ("1", "1") == (loaded.load_balanced, loaded.asset_load_balanced)
    assert {f"{name}_SyncClient.cer" for name in cluster.node_names} <= loaded.clients.keys()
    assert [] == [name for name in server.disk.names(server.product.service_folder) if ".esync-" in name]
    return starts[0]


def histories(esync: Esync) -> dict[str, list[tuple[str, int]]]:
    """The history of the service of each machine."""
    return {name: list(server.service.history) for name, server in esync.servers.items()}


def told(outcome: StepOutcome, started: int, died_at: int) -> None:
    """The step that started the service after the death gives the reason; any other reports that nothing is owed."""
    if outcome.ended.timestamp() * 1e9 < died_at:
        return
    if started > died_at:
        assert outcome.status is Status.CHANGED
        assert WHY.fullmatch(outcome.message), outcome.message
    else:
        others = {change.what for change in outcome.changes} - {f"service {DEPENDENT} started"}
        assert ("not owed", set()) == (outcome.message[:8], others)

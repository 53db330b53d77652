"""Runs decided by the real rules in an in-memory store, from invented facts about nodes; and their bundles."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from celery import Celery

from pipelines import coordinator
from pipelines.audit.bundle import bundle_of
from pipelines.audit.manifest import MANIFEST, RUN, BundledRun, manifest_of
from pipelines.engine import Engine
from pipelines.usecases import control, runs
from pipelines.usecases.origin import Origin
from tasks.cluster import Cluster
from tasks.documents import FamilyDigests
from tasks.ektron.facts.node import NodeFacts
from tasks.steering import CANCEL, Steering
from tests.unit.tasks.ektron.joined import FOUR, HASHES, NOW, THUMBPRINT, joined_node
from workers.records import Change, DocumentKind, RunRecord, RunState, Status, StepOutcome, Turn
from workers.secrets.vault import Vault
from workers.settings import Settings
from workers.store.memory import MemoryStore

Look = Callable[[NodeFacts], NodeFacts]  #: returns the facts of a node with differences


#: Both servers of a pool in one wave, each failure is final, and no look between the waves.
AT_ONCE = {"whole_pool": True, "retry_in_wave": 0, "judge_waves": False}


def the_cluster(names: Sequence[str] = FOUR, policy: Mapping[str, object] | None = None) -> Cluster:
    """S1 and S2, P1 and P2; or only some of them."""
    nodes = [
        {"name": name, "host": f"{name.lower()}.example.net", "role": role, "pool": role}
        for name, role in zip(FOUR, ("staging", "staging", "production", "production"), strict=True)
        if name in names
    ]
    return Cluster.model_validate(
        {
            "name": "shop",
            "edition": "8.0",
            "origin": "S1",
            "site": {"path": r"C:\inetpub\wwwroot\site"},
            "connection": {"user": r"CORP\svc", "secret": "env:SHOP_PASSWORD"},
            "policy": AT_ONCE if policy is None else policy,
            "nodes": nodes,
        }
    )


class MadeUpRun:
    """A run from its start to its verdict, without nodes and without a broker.

    Args:
        kind: of the run.
        before: node -> what is different about it before the run.
        after: node -> what is different about it in the observation at the end.
        ends: (node, step) or (turn, node, step) -> how the step ends, where it does not end well.
        cancel_in: the turn in which an operator cancels.
        locked: another run has locked the cluster.
        cluster: instead of that of the four servers.
        only: the nodes that it may change; empty for all.
    """

    def __init__(  # noqa: PLR0913 - everything that a run may differ in, by keyword
        self,
        kind: str = "rollout",
        *,
        before: Mapping[str, Look] | None = None,
        after: Mapping[str, Look] | None = None,
        ends: Mapping[tuple[str, ...], Status] | None = None,
        cancel_in: str = "",
        locked: bool = False,
        cluster: Cluster | None = None,
        only: tuple[str, ...] = (),
    ) -> None:
        cluster = cluster or the_cluster()
        self.store = MemoryStore()
        app = Celery(broker="memory://", backend="cache+memory://")
        self.engine = Engine(Settings(), self.store, Vault(self.store, None), app)
        self._looks = {DocumentKind.OBSERVED: before or {}, DocumentKind.VERIFIED: after or {}}
        self._ends = ends or {}
        self.holds: list[str] = []  #: turns before which the run waited for a person, who let them begin
        self._names = cluster.node_names
        self._origin = cluster.origin
        origin: Origin = {"who": "ops", "origin_host": "desk-7", "reason": "new servers"}
        started = runs.start(self.engine, cluster, kind=kind, only=only, **origin)
        self.id = started.id
        self.store.put(self.id, DocumentKind.FAMILY, DocumentKind.FAMILY, self._family().to_json())
        if locked:
            self.store.create(RunRecord(id="another-run", cluster="shop", spec={}))
            self.store.lock_servers(cluster.servers, "another-run", 60)
        coordinator.begin(self.engine, self.id)
        while self.record.state is not RunState.CONCLUDED:
            turn = self.record.turns[-1]
            if turn.name == cancel_in:
                self.store.flag(self.id, CANCEL, "wrong window")
            for node in turn.nodes:
                self._node(turn, node)
            coordinator.join_and_verify(self.engine, self.id, turn.name)
            if held := Steering.of(self.store, self.id).held:
                self.holds.append(held)
                control.promote(self.engine, self.id, "ops")
                coordinator.join_and_verify(self.engine, self.id, turn.name)

    @property
    def record(self) -> RunRecord:
        """The current record of the run."""
        return self.store.run(self.id)

    def bundle(self) -> dict[str, bytes]:
        """Its members."""
        return bundle_of(self.store, runs.summary(self.engine, self.id))

    @staticmethod
    def _family() -> FamilyDigests:
        return FamilyDigests(hashes=HASHES, sizes=dict.fromkeys(HASHES, 900), thumbprint=THUMBPRINT)

    def _node(self, turn: Turn, node: str) -> None:
        ended = False
        for place, step in enumerate(turn.steps):
            fate = self._ends.get((node, step), Status.UNCHANGED)
            status = self._ends.get((turn.name, node, step), fate)
            if turn.stage in {"wave", "retry"} and step == "config_edit" and status is Status.UNCHANGED:
                status = Status.CHANGED
            status = Status.SKIPPED if ended else status
            ended = ended or status.ends_node
            if not ended:
                self._look(turn, node)
            self.store.record(self._outcome(turn, node, step, status, place), 0)

    def _look(self, turn: Turn, node: str) -> None:
        kind = DocumentKind.VERIFIED if turn.stage == "verify" else DocumentKind.OBSERVED
        if turn.stage not in {"wave", "retry", "prove"}:
            facts = joined_node(node, self._names, origin=node == self._origin)
            if node in self._looks[kind]:
                facts = self._looks[kind][node](facts)
            self.store.put(self.id, kind, node, facts.model_dump_json(exclude_defaults=True))

    def _outcome(self, turn: Turn, node: str, step: str, status: Status, place: int) -> StepOutcome:
        begun = NOW + timedelta(seconds=60 * len(self.record.turns) + place)
        changes = (Change(what="LoadBalanced", file="web.config", before="0", after="1"),)
        return StepOutcome(
            run=self.id,
            turn=turn.name,
            node=node,
            step=step,
            status=status,
            message=f"{step} {status}",
            changes=changes if status is Status.CHANGED else (),
            started=begun,
            ended=begun + timedelta(milliseconds=400),
            worker="w1",
        )


def forged(members: Mapping[str, bytes], **changed: bytes) -> dict[str, bytes]:
    """Changed members with an adapted manifest: what an attacker can do who knows the layout."""
    made = {name: data for name, data in {**members, **changed}.items() if name != MANIFEST}
    return {**made, MANIFEST: manifest_of(BundledRun.model_validate_json(made[RUN]), made).to_bytes()}

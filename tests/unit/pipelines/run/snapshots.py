"""Runs as they are in a store, built from a few words: the input of every decision."""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta

from pipelines.run.plan import Plan
from pipelines.run.planning import make_plan
from pipelines.run.snapshot import Reading, Snapshot
from tasks.cluster import Cluster
from tasks.documents import FamilyDigests, RunDocuments
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.service import StartRecord
from tasks.steering import request_cancel
from tests.unit.tasks.ektron.joined import HASHES, NOW, THUMBPRINT, joined_node
from workers.records import DocumentKind, RunRecord, Status, StepOutcome, Turn
from workers.secrets.vault import Vault
from workers.store.memory import MemoryStore

__all__ = [
    "FAMILY",
    "a_cluster",
    "a_plan",
    "a_snapshot",
    "facts_of",
    "needing",
    "numbered",
    "outcome",
    "recorded",
    "turn",
    "unbalanced",
]

FAMILY = FamilyDigests(hashes=HASHES, sizes=dict.fromkeys(HASHES, 900), thumbprint=THUMBPRINT)


def numbered(count: int) -> tuple[str, ...]:
    """That many names of nodes: N1, N2, ..."""
    return tuple(f"N{number}" for number in range(1, count + 1))


def a_cluster(names: Iterable[str], users: Mapping[str, str] | None = None, /, **policy: object) -> Cluster:
    """A cluster of one pool. The first node is the origin; `users` are the nodes with accounts of their own."""
    names = tuple(names)
    nodes = [
        {"name": name, "host": f"{name.lower()}.example.net", "role": "staging", "pool": "one"}
        | ({"connection": {"user": users[name]}} if users and name in users else {})
        for name in names
    ]
    return Cluster.model_validate(
        {
            "name": "shop",
            "edition": "8.0",
            "origin": names[0],
            "site": {"path": r"C:\inetpub\wwwroot\site"},
            "connection": {"user": "svc", "secret": "env:SHOP_PASSWORD"},
            "policy": policy,
            "nodes": nodes,
        }
    )


def turn(name: str, nodes: Iterable[str], steps: tuple[str, ...] = ("install_check",)) -> Turn:
    """A turn; its stage is its name without the number."""
    return Turn(name=name, stage=name.partition("-")[0], steps=steps, nodes=tuple(nodes))


def outcome(
    node: str,
    status: Status = Status.UNCHANGED,
    *,
    turn: str = "canary",
    step: str = "install_check",
    at: float = 0,
    **fields: object,
) -> StepOutcome:
    """What a step did to a node, `at` seconds after the start of the run."""
    moment = NOW + timedelta(seconds=at)
    return StepOutcome.model_validate(
        {"run": "r", "turn": turn, "node": node, "step": step, "status": status, "started": moment, "ended": moment}
        | fields
    )


def unbalanced(facts: NodeFacts) -> NodeFacts:
    """A node of which AssetManagement.config has to be changed."""
    return facts.model_copy(update={"asset": facts.asset.model_copy(update={"load_balanced": "0"})})


def facts_of(
    cluster: Cluster, different: Mapping[str, Callable[[NodeFacts], NodeFacts]] | None = None
) -> dict[str, NodeFacts]:
    """The facts of all nodes of a joined cluster; some of them different."""
    names = cluster.node_names
    facts = {name: joined_node(name, names, origin=cluster.is_origin(name)) for name in names}
    return facts | {name: change(facts[name]) for name, change in (different or {}).items()}


def recorded(facts: NodeFacts) -> NodeFacts:
    """A node with a record of its service's start: a run has nothing to do there."""
    service = facts.service
    record = StartRecord(service=service.name, pid=service.pid, started=service.started, loaded=facts.inputs)
    return facts.model_copy(update={"start_record": record})


def needing(*names: str) -> dict[str, Callable[[NodeFacts], NodeFacts]]:
    """The nodes that have to be changed."""
    return dict.fromkeys(names, unbalanced)


def a_plan(cluster: Cluster, facts: Mapping[str, NodeFacts] | None = None) -> Plan:
    """The plan for these facts; by default every node has to be changed."""
    return make_plan(cluster, facts or facts_of(cluster, needing(*cluster.node_names)), FAMILY)


def a_snapshot(
    cluster: Cluster,
    *outcomes: StepOutcome,
    turns: Iterable[Turn] = (),
    facts: Mapping[DocumentKind, Mapping[str, NodeFacts]] | None = None,
    plan: Plan | None = None,
    family: bool = True,
    cancelled: str = "",
    **record: object,
) -> Snapshot:
    """A run in a store.

    Args:
        cluster: of the run.
        outcomes: recorded so far.
        turns: of the run.
        facts: kind -> node -> facts; by default all nodes of a joined cluster are observed.
        plan: saved in the run.
        family: whether the run has a certificate family.
        cancelled: why the run is cancelled.
        record: other fields of the record.
    """
    store = MemoryStore()
    fields = {"id": "r", "cluster": "shop", "spec": cluster.model_dump(mode="json"), "turns": tuple(turns)}
    made = store.create(RunRecord.model_validate(fields | {"created": NOW} | record))
    for one in outcomes:
        store.record(one, 0)
    documents = RunDocuments(store, Vault(store, None), made.id)
    for kind, of_kind in (facts if facts is not None else {DocumentKind.OBSERVED: facts_of(cluster)}).items():
        for seen in of_kind.values():
            documents.keep_facts(kind, seen)
    if family:
        store.put(made.id, DocumentKind.FAMILY, DocumentKind.FAMILY, FAMILY.to_json())
    if plan is not None:
        store.put(made.id, DocumentKind.PLAN, DocumentKind.PLAN, plan.to_json())
    if cancelled:
        request_cancel(store, made.id, cancelled)
    return Snapshot(made, Reading(store, made.id), documents)

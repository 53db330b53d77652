"""Invented runs with everything about them: for reports and the live view."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.node_results import NodeResult
from pipelines.run.node_state import NodeState
from pipelines.run.plan import NodePlan, Plan
from pipelines.run.summary import RunSummary
from tasks.cluster import Cluster, Connection, Node, Role, Site
from tasks.ektron.rules.findings import Finding, Findings, InvariantState, Severity, ordered
from workers.errors import Failure
from workers.records import Change, DocumentKind, Event, RunRecord, RunState, Status, StepOutcome, Turn, Verdict, now

T0 = datetime(2026, 11, 23, 19, 15, tzinfo=UTC)
WAVE_STEPS = ("install_check", "config_edit", "cert_copy", "service_restart")
FILE = r"C:\inetpub\wwwroot\shop\AssetManagement.config"
READ_ONLY = "the file is read-only"
ABOUT = (
    "P2, Microsoft Windows NT 6.3.9600.0, PowerShell 4.0 Desktop FullLanguage, .NET 4.0.30319.42000, code page 850, "
    "administrator, C: 20480 MiB free, WinRM MaxMemoryPerShellMB 1024, MaxShellsPerUser 30"
)
REMEDY = "clear the read-only attribute, then run the rollout again"


@dataclass(frozen=True, slots=True)
class Sample(RunSummary):
    """A run with everything about it, and its events."""

    events: tuple[Event, ...] = ()


def cluster_of(staging: int = 2, production: int = 2) -> Cluster:
    """A cluster with that many nodes."""
    roles = [(f"S{i}", Role.STAGING, "staging") for i in range(1, staging + 1)]
    roles += [(f"P{i}", Role.PRODUCTION, "live") for i in range(1, production + 1)]
    return Cluster(
        name="shop",
        edition="8.5",
        origin="S1",
        site=Site(path=r"C:\inetpub\wwwroot\shop"),
        connection=Connection(user=r"CORP\svc-esync", secret="env:ESYNC_SHOP_PASSWORD"),
        nodes=tuple(Node(name=n, host=f"{n.lower()}.example.net", role=r, pool=p) for n, r, p in roles),
    )


def sample(
    cluster: Cluster | None = None,
    *,
    failed: Sequence[str] = (),
    unreachable: Sequence[str] = (),
    verdict: Verdict | None = None,
    reason: str = "join the second production pool <before> Friday",
) -> Sample:
    """A rollout that is over. Nodes in `failed` have a read-only file; those in `unreachable` never answered."""
    cluster = cluster or cluster_of()
    if verdict is None:
        verdict = Verdict.FAILED if failed else Verdict.UNREACHABLE if unreachable else Verdict.JOINED
    reached = [n for n in cluster.node_names if n not in unreachable]
    pools = [pool for first in "SP" if (pool := [n for n in reached if n.startswith(first)])]
    turns = [
        Turn(name="canary", stage="canary", steps=("install_check",), nodes=("S1",)),
        Turn(name="observe", stage="observe", steps=("install_check",), nodes=cluster.node_names[1:]),
        *(Turn(name=f"wave-{i + 1}", stage="wave", steps=WAVE_STEPS, nodes=tuple(p)) for i, p in enumerate(pools)),
        Turn(name="verify", stage="verify", steps=("install_check",), nodes=tuple(reached)),
    ]
    turns = [turn for turn in turns if turn.nodes]
    record = RunRecord(
        id="20261123-191500-shop-7f3a2c",
        cluster="shop",
        spec=cluster.model_dump(mode="json"),
        state=RunState.CONCLUDED,
        turns=tuple(turns),
        joined=tuple(t.name for t in turns),
        verdict=verdict,
        summary=_sentence(cluster, failed, unreachable),
        plan_fingerprint="9f" * 32,
        created=T0,
        ended=T0 + timedelta(seconds=48.2),
        who="mkeller",
        origin_host="ops-1",
        reason=reason,
    )
    outcomes = [o for i, turn in enumerate(turns) for o in _turn_outcomes(record, turn, i, failed, unreachable)]
    by_node = _by_node(cluster, outcomes)
    return Sample(
        record=record,
        cluster=cluster,
        outcomes=tuple(outcomes),
        findings=_findings(failed),
        plan=_plan(reached, pools),
        nodes=tuple(_result(name, own) for name, own in by_node.items()),
        kind=kind_of(record.kind),
        events=tuple(_events(record, outcomes)),
    )


def _by_node(cluster: Cluster, outcomes: Sequence[StepOutcome]) -> dict[str, list[StepOutcome]]:
    by_node: dict[str, list[StepOutcome]] = {name: [] for name in cluster.node_names}
    for outcome in outcomes:
        by_node[outcome.node].append(outcome)
    return by_node


def _plan(nodes: Sequence[str], waves: Sequence[Sequence[str]]) -> Plan:
    parts = tuple(NodePlan(node=node, changes=_changes("config_edit"), fingerprint="0" * 64) for node in nodes)
    return Plan(cluster="shop", nodes=parts, waves=tuple(map(tuple, waves)), family={})


def _sentence(cluster: Cluster, failed: Sequence[str], unreachable: Sequence[str]) -> str:
    if failed:
        return f"{len(failed)} of {len(cluster.nodes)} nodes failed"
    return f"{len(unreachable)} nodes did not answer" if unreachable else f"all {len(cluster.nodes)} nodes are joined"


def _turn_outcomes(
    record: RunRecord, turn: Turn, index: int, failed: Sequence[str], unreachable: Sequence[str]
) -> list[StepOutcome]:
    found = []
    for place, node in enumerate(turn.nodes):
        at = T0 + timedelta(seconds=9.3 * index + 0.7 + 0.05 * (place % 8))
        broken = False
        for step in turn.steps:
            took = timedelta(seconds={"service_restart": 6.1, "cert_copy": 1.2}.get(step, 0.4) + place % 3 * 0.11)
            found.append(_outcome(record, turn, node, step, (at, at + took), failed, unreachable, broken=broken))
            broken = broken or found[-1].status.ends_node
            at += took
    return found


def _outcome(  # noqa: PLR0913 - the parts of an invented outcome
    record: RunRecord,
    turn: Turn,
    node: str,
    step: str,
    times: tuple[datetime, datetime],
    failed: Sequence[str],
    unreachable: Sequence[str],
    *,
    broken: bool,
) -> StepOutcome:
    plain = StepOutcome(
        run=record.id, turn=turn.name, node=node, step=step, status=Status.UNCHANGED, started=times[0], ended=times[1],
        round_trips=4, shells=int(step == "install_check"), message="as it should be",
    )  # fmt: skip
    if broken:
        return plain.model_copy(update={"status": Status.SKIPPED, "message": "not tried: config_edit failed"})
    if node in unreachable:
        fields = {
            "status": Status.UNREACHABLE, "slug": "unreachable", "failure": Failure.UNREACHABLE,
            "message": f"{node.lower()}.example.net:5986 refused",
            "remedy": f"check that {node} runs and that its WinRM listener does",
        }  # fmt: skip
        return plain.model_copy(update=fields)
    if node in failed and step == "config_edit":
        fields = {
            "status": Status.FAILED, "slug": "access_denied", "message": f"{READ_ONLY} on {node}", "file": FILE,
            "remedy": REMEDY, "failure": Failure.REFUSED, "about": ABOUT,
        }  # fmt: skip
        return plain.model_copy(update=fields)
    if turn.stage == "wave" and step != "install_check":
        return plain.model_copy(update={"status": Status.CHANGED, "changes": _changes(step), "message": "done"})
    return plain


def _changes(step: str) -> tuple[Change, ...]:
    if step == "service_restart":
        what = "service EktronWindowsServices40 restarted"
        return (Change(what=what, before="process 612, started 04:11:02", after="process 4188, started 19:15:31"),)
    if step == "cert_copy":
        folder = r"C:\Program Files (x86)\Ektron\EktronWindowsService40"
        return (Change(what="24 certificate files of 4 nodes written", file=folder, before="", after="6 contents"),)
    return (
        Change(what="LoadBalanced", file=FILE, before="0", after="1"),
        Change(
            what="publickCertKeys of S2",
            file=r"C:\Program Files (x86)\Ektron\EktronWindowsService40\Ektron.ASM.EktronServices40.exe.config",
            before="",
            after="sha256 4be1...77c0 <script>alert(1)</script>",
        ),
    )


def _result(node: str, own: Sequence[StepOutcome]) -> NodeResult:
    ended = next((o for o in own if o.status.ends_node), None)
    if ended is not None:
        return NodeResult(
            node=node, status=ended.status, problem=ended.problem, step=ended.step,
            state=NodeState.UNTOUCHED, description="untouched: this run changed nothing here",
        )  # fmt: skip
    if not any(o.changes for o in own):
        return NodeResult(node=node, status=Status.UNCHANGED)
    description = "done: all planned changes are made"
    return NodeResult(node=node, status=Status.CHANGED, state=NodeState.DONE, description=description)


def _findings(failed: Sequence[str]) -> Findings:
    names = ["version.same-build", "site.same-path", "keys.complete", "family.complete", "service.running"]
    statement = "Something holds on every node."
    found = [
        Finding(invariant=n, verdict=InvariantState.PROVEN, evidence="on all nodes", statement=statement) for n in names
    ]
    if failed:
        evidence = f"{', '.join(failed)}: LoadBalanced is 0"
        refuted = Finding(
            invariant="config.asset-load-balanced", statement="AssetManagement.config says LoadBalanced on every node.",
            verdict=InvariantState.REFUTED, nodes=tuple(failed), evidence=evidence, remedy=REMEDY,
        )  # fmt: skip
        found.append(refuted)
    weak = Finding(
        invariant="family.weak-key", verdict=InvariantState.REFUTED, severity=Severity.WARNING, evidence="1024 bits"
    )
    found += [
        weak,
        Finding(invariant="site.wspath-answers", verdict=InvariantState.UNKNOWN, evidence="no answer in 10 s"),
    ]
    return ordered(found)


def _events(record: RunRecord, outcomes: Sequence[StepOutcome]) -> list[Event]:
    found = [Event(kind="run.started", at=T0, message="rollout of shop")]
    for turn in record.turns:
        of_turn = [o for o in outcomes if o.turn == turn.name]
        found.append(
            Event(kind="turn.opened", at=of_turn[0].started, turn=turn.name, message=f"{len(turn.nodes)} nodes")
        )
        for o in of_turn:
            fields = {"turn": o.turn, "node": o.node, "step": o.step}
            found.append(Event(kind="step.started", at=o.started, **fields))
            found.append(
                Event(
                    kind="step.ended", at=o.ended, status=o.status, failure=o.failure or "", message=o.message, **fields
                )
            )
    ended = record.ended or T0
    found.append(Event(kind="run.concluded", at=ended, status=record.verdict or "", message=record.summary))
    ordered = sorted(found, key=lambda e: e.at)
    return [e.model_copy(update={"id": f"{n}-0"}) for n, e in enumerate(ordered, 1)]


def keep(engine: Engine, made: Sample, run: str = "", ago: timedelta = timedelta(0), **fields: object) -> str:
    """Puts a run with everything about it into the store; its times end so long ago."""
    shift = now() - ago - (made.record.ended or now())
    record = made.record.model_copy(
        update={
            "id": run or made.record.id,
            "cluster": made.cluster.name,
            "servers": made.cluster.digest,
            "spec": made.cluster.model_dump(mode="json"),
            "created": made.record.created + shift,
            "ended": made.record.ended + shift if made.record.ended else None,
            **fields,
        }
    )
    store = engine.store
    store.create(record)
    for event in (one for one in made.events if one.kind != "step.ended"):  # those come with the outcomes
        store.note(record.id, event.model_copy(update={"id": "", "at": event.at + shift}))
    for outcome in made.outcomes:
        moved = {"run": record.id, "started": outcome.started + shift, "ended": outcome.ended + shift}
        store.record(outcome.model_copy(update=moved), 0)
    if made.plan is not None:
        store.put(record.id, DocumentKind.PLAN, DocumentKind.PLAN, made.plan.to_json())
    if made.findings is not None:
        store.put(record.id, DocumentKind.FINDINGS, "verify", made.findings.model_dump_json())
    return record.id

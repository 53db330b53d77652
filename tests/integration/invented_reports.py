"""Reports that a page has to be able to show: few and many nodes, good and bad ends, long paths and long names."""

from collections.abc import Mapping
from dataclasses import replace

from pipelines.report.build import build
from pipelines.report.rows import Report
from pipelines.rollout import kind_of
from pipelines.run.node_results import WAITING, NodeResult
from pipelines.run.node_state import NodeState
from tasks.ektron.rules.findings import Finding, Findings, InvariantState, Severity, ordered
from tests.unit.pipelines.report.sample_run import ABOUT, T0, Sample, cluster_of, sample
from workers.errors import Failure, Problem
from workers.records import Change, RunState, Status, StepOutcome, Turn, Verdict

__all__ = ["REPORTS"]

DEEP = r"C:\Program Files (x86)\Ektron\CMS400v85\Utilities\EWSUpdates\4.0\Ektron.ASM.EktronServices40.exe.config"
SITE = r"C:\inetpub\wwwroot\shop.example.net-production-2019\web.config"
PARENT = "20261123-181000-shop-0a1b2c"
REFUSES = "start WinRM there (winrm quickconfig -transport:https sets it up), or correct `port`"
HANGS = "service EktronWindowsServices40 did not stop within 90 s, it is still stopping"


def failed_60() -> Report:
    """A rollout on 60 nodes: a service that hangs, a full disk, a file without access, two servers that are gone."""
    made = sample(cluster_of(30, 30), failed=["P4", "P9", "P17"], unreachable=["P11", "P12"])
    nodes = {node.node: node for node in made.nodes}
    nodes["S20"] = _broken("S20", "service_restart", HANGS, "bring EktronWindowsServices40 to a stop on S20")
    nodes["P4"] = _broken("P4", "cert_copy", "disk C: has 0 bytes free, 30.2 MB are needed", "free space on C: of P4")
    return build(replace(made, nodes=tuple(nodes.values()), findings=_findings("P4", "S20", count=12)))


def _broken(node: str, step: str, message: str, remedy: str) -> NodeResult:
    return NodeResult(
        node=node, status=Status.FAILED, step=step, state=NodeState.INTERRUPTED,
        description=f"interrupted during {step}: every file is intact; the first that is missing is {DEEP}",
        problem=Problem(
            failure=Failure.TIMEOUT, slug="timeout", message=message, file=DEEP, remedy=remedy, about=ABOUT
        ),
    )  # fmt: skip


def refuted_verify() -> Report:
    """A verify: one server lacks files, another one does not answer, so that most statements are unknown."""
    made = sample(unreachable=["P1"])
    gone = Problem(failure=Failure.UNREACHABLE, slug="unreachable", message="P1 refused", remedy=REFUSES)
    nodes = tuple(
        NodeResult(node=node.node, status=Status.UNCHANGED)
        if node.node != "P1"
        else NodeResult(node="P1", status=Status.UNREACHABLE, step="install_check", problem=gone)
        for node in made.nodes
    )
    summary = f"keys.complete does not hold: P2: {SITE} lacks the keys of S1, S2 and 58 more"
    done = _of_kind(made, ("verify", Verdict.REFUTED, summary), nodes, stages=("canary", "verify"))
    return build(replace(done, findings=_findings("P1", "P2", count=25)))


def rollback() -> Report:
    """A rollback: one server has a file that was changed since, the others are as before."""
    made = sample()
    steps = {"canary": ("S1",), "observe": ("S2", "P1", "P2"), "rollback": ("S1", "S2", "P1", "P2")}
    turns = tuple(
        Turn(name=stage, stage=stage, steps=("rollback" if stage == "rollback" else "rollback_check",), nodes=names)
        for stage, names in steps.items()
    )
    outcomes = tuple(_undone(turn, node) for turn in turns for node in turn.nodes)
    summary = f"P1 failed: one file was changed after run {PARENT}, so nothing was restored here; 3 of 4 nodes are done"
    record = made.record.model_copy(update={"turns": turns, "parent": PARENT})
    nodes = tuple(_restored(node, outcomes[-2].problem) for node in ("S1", "S2", "P1", "P2"))
    whole = replace(made, record=record, outcomes=outcomes, findings=None, plan=None)
    return build(_of_kind(whole, ("rollback", Verdict.FAILED, summary), nodes))


def _restored(node: str, conflict: Problem) -> NodeResult:
    if node == "P1":
        text = "untouched: this run changed nothing here"
        return NodeResult(
            node=node, status=Status.FAILED, step="rollback", problem=conflict,
            state=NodeState.UNTOUCHED, description=text,
        )  # fmt: skip
    return NodeResult(node=node, status=Status.CHANGED, state=NodeState.DONE, description="restored: as before the run")


def _undone(turn: Turn, node: str) -> StepOutcome:
    plain = StepOutcome(
        run=PARENT, turn=turn.name, node=node, step=turn.steps[0], status=Status.UNCHANGED, started=T0, ended=T0
    )
    if turn.stage != "rollback":
        return plain
    if node != "P1":
        changes = (
            Change(what="removed", file=SITE.rpartition("\\")[0], after="18 certificate files"),
            Change(what="restored", file=DEEP),
            Change(what="service EktronWindowsServices40 restarted", before="process 612", after="process 4188"),
        )
        return plain.model_copy(update={"status": Status.CHANGED, "changes": changes})
    now, then = (f'      <add contract="{"A.Very.Long.Contract" * 9}" clientCertificate="{x}" />' for x in "ab")
    found = (Change(what="changed since the run; restoring would change line 24", file=SITE, before=now, after=then),)
    fields = {
        "status": Status.FAILED, "failure": Failure.CONFLICT, "slug": "conflict", "file": SITE, "changes": found,
        "message": f"P1: one file was changed after run {PARENT}, so nothing was restored here",
        "remedy": "if a later run changed them, roll that one back first; otherwise check the differences",
    }  # fmt: skip
    return plain.model_copy(update=fields)


def nothing_yet() -> Report:
    """A rollout on 60 nodes that was requested a moment ago."""
    made = sample(cluster_of(30, 30))
    waiting = Problem(message=WAITING)
    nodes = tuple(
        NodeResult(node=node.node, status=Status.SKIPPED, problem=waiting, state=NodeState.UNTOUCHED, description="-")
        for node in made.nodes
    )
    fields = {"turns": (), "joined": (), "verdict": None, "ended": None, "summary": "", "state": RunState.RUNNING}
    record = made.record.model_copy(update=fields)
    return build(replace(made, record=record, outcomes=(), findings=None, plan=None, nodes=nodes))


def doctor() -> Report:
    """A doctor that has found nothing."""
    made = sample()
    nodes = tuple(NodeResult(node=node.node, status=Status.UNCHANGED) for node in made.nodes)
    proven = tuple(one for one in _findings(count=0).findings if one.verdict is InvariantState.PROVEN)
    done = _of_kind(made, ("doctor", Verdict.READY, "all 4 nodes are ready"), nodes, stages=("canary",))
    return build(replace(done, findings=Findings(findings=proven), plan=None))


def _of_kind(
    made: Sample, end: tuple[str, Verdict, str], nodes: tuple[NodeResult, ...], stages: tuple[str, ...] = ()
) -> Sample:
    """The same run with another kind, verdict and summary, and with only the turns of these stages."""
    kind, verdict, summary = end
    turns = tuple(turn for turn in made.record.turns if not stages or turn.stage in stages)
    record = made.record.model_copy(update={"kind": kind, "verdict": verdict, "summary": summary, "turns": turns})
    names = {turn.name for turn in turns}
    outcomes = tuple(outcome for outcome in made.outcomes if outcome.turn in names)
    return replace(made, record=record, outcomes=outcomes, nodes=nodes, kind=kind_of(kind))


def _findings(*nodes: str, count: int) -> Findings:
    """One error, two warnings, that many statements that could not be checked, and some that are proven."""
    proven, refuted = InvariantState.PROVEN, InvariantState.REFUTED
    found = [
        Finding(invariant=f"keys.proven-{n}", verdict=proven, evidence="on all nodes", statement="All are equal.")
        for n in range(12)
    ]
    weak = "the client certificate has a key of 1024 bits and is signed with md5, which is insecure"
    found += [
        Finding(invariant=name, verdict=refuted, severity=Severity.WARNING, evidence=weak, remedy="plan a new family")
        for name in ("family.expiry", "family.weak-key")
    ]
    if nodes:
        evidence = f"{nodes[-1]}: {SITE} lacks the keys of S1, S2 and 58 more"
        error = Finding(
            invariant="keys.complete", verdict=refuted, nodes=nodes[-1:], evidence=evidence,
            statement="Every server has a key for every node.", remedy="run a rollout",
        )  # fmt: skip
        found.append(error)
    found += [
        Finding(
            invariant=f"service.unknown-{n}", verdict=InvariantState.UNKNOWN, nodes=nodes[:1],
            evidence=f"{nodes[0]}: not seen: refused the connection", remedy=REFUSES,
        )
        for n in range(count)
    ]  # fmt: skip
    return ordered(found)


#: What the page is tried with.
REPORTS: Mapping[str, Report] = {
    "joined": build(sample()),
    "failed-60": failed_60(),
    "refuted": refuted_verify(),
    "rollback": rollback(),
    "nothing-yet": nothing_yet(),
    "doctor": doctor(),
}

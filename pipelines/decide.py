"""What comes next: who is in the next turn of a stage, and whether a run goes on. Decided by the store alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pipelines.plan import Plan, make_plan
from pipelines.verdict import cluster_facts, verdict_of
from tasks.cluster import Cluster
from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts import NodeFacts
from tasks.ektron.invariants import judge, judge_prerequisites
from tasks.material import OBSERVED, VERIFIED, Material
from tasks.runner import CANCEL, account
from workers.errors import LogonRefused
from workers.records import RunRecord, Status, StepOutcome, Turn, Verdict
from workers.store import RunStore

__all__ = [
    "FINDINGS",
    "PLAN",
    "Go",
    "Stop",
    "View",
    "all_reached",
    "cancelled",
    "fit_and_planned",
    "invariants_hold",
    "logon_accepted",
    "next_wave",
    "not_yet_seen",
    "one_per_account",
    "within_budget",
]

PLAN = "plan"  #: document kind
FINDINGS = "findings"  #: document kind
CANARIES = 5  #: nodes tried one after the other while none answers at all


@dataclass(frozen=True, slots=True)
class Go:
    """The run goes on."""

    plan_fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """The run ends here."""

    verdict: Verdict
    summary: str


@dataclass(frozen=True)
class View:
    """A run as the store has it now."""

    record: RunRecord
    store: RunStore
    material: Material
    cluster: Cluster = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cluster", Cluster.model_validate(self.record.spec))

    @cached_property
    def outcomes(self) -> tuple[StepOutcome, ...]:
        """All outcomes so far."""
        return self.store.outcomes(self.record.id)

    @cached_property
    def plan(self) -> Plan | None:
        """The run's plan, once it is made."""
        document = self.store.document(self.record.id, PLAN, PLAN)
        return Plan.model_validate_json(document) if document else None

    def of_stage(self, stage: str) -> dict[str, StepOutcome]:
        """The last outcome of each node in the turns of a stage."""
        turns = {turn.name for turn in self.record.turns if turn.stage == stage}
        ordered = sorted((o for o in self.outcomes if o.turn in turns), key=lambda o: o.ended)
        return {outcome.node: outcome for outcome in ordered}

    def unfinished(self, turn: Turn) -> dict[str, int]:
        """Nodes of a turn that lack an outcome, and how many of its steps they have."""
        counts = dict.fromkeys(turn.nodes, 0)
        for outcome in self.outcomes:
            if outcome.turn == turn.name and outcome.node in counts:
                counts[outcome.node] += 1
        return {node: count for node, count in counts.items() if count < len(turn.steps)}

    def in_stage(self, stage: str) -> set[str]:
        """Nodes that had their turn in a stage."""
        return {node for turn in self.record.turns if turn.stage == stage for node in turn.nodes}

    def ended(self) -> dict[str, StepOutcome]:
        """Nodes that take no further part, with the outcome that ended them (the first one that did)."""
        ended: dict[str, StepOutcome] = {}
        for outcome in sorted(self.outcomes, key=lambda o: o.ended):
            if outcome.status.ends_node:
                ended.setdefault(outcome.node, outcome)
        return ended


def one_per_account(view: View) -> Sequence[str]:
    """One node for each account that nobody has answered yet; the origin goes first. Wrong passwords cost one logon."""
    tried = view.of_stage("canary")
    by_account: dict[str, list[str]] = {}
    names = sorted(view.cluster.node_names, key=lambda name: not view.cluster.is_origin(name))
    for name in names:
        by_account.setdefault(account(view.cluster.endpoint(name)), []).append(name)
    silent = {node for node, outcome in tried.items() if outcome.status is Status.UNREACHABLE}
    chosen = []
    for members in by_account.values():
        untried = [node for node in members if node not in tried]
        if untried and silent.issuperset(node for node in members if node in tried):
            chosen.append(untried[0])
    return chosen


def logon_accepted(view: View) -> Go | Stop:
    """Stops when the origin's account was refused, or when nobody answers; nothing was written so far."""
    tried = view.of_stage("canary")
    origin_account = account(view.cluster.endpoint(view.cluster.origin))
    for node, outcome in tried.items():
        if outcome.slug == LogonRefused.slug and account(view.cluster.endpoint(node)) == origin_account:
            return Stop(Verdict.FAILED, f"{outcome.message}; no other logon was tried, nothing was written")
    if len(tried) >= CANARIES and all(outcome.status is Status.UNREACHABLE for outcome in tried.values()):
        return Stop(Verdict.UNREACHABLE, f"none of {', '.join(tried)} answers; the others were not tried")
    return Go()


def not_yet_seen(view: View) -> Sequence[str]:
    """Everybody the canary did not look at."""
    seen = view.in_stage("canary") | view.in_stage("observe")
    return [name for name in view.cluster.node_names if name not in seen]


def fit_and_planned(view: View) -> Go | Stop:
    """Assesses the cluster before anything is written, then makes the plan."""
    cluster, ended = view.cluster, view.ended()
    facts = {n: f for n, f in view.material.all_facts(OBSERVED).items() if n not in ended}
    silent = [node for node, outcome in ended.items() if outcome.status is Status.UNREACHABLE]
    if silent and cluster.policy.unreachable == "stop":
        return Stop(Verdict.UNREACHABLE, f"{', '.join(silent)} did not answer and the policy wants every node")
    if cluster.node(cluster.origin).name not in facts:
        return _without_origin(view)
    findings = judge_prerequisites(_whole(view, facts), origin_family_needed=False)
    view.store.put(view.record.id, FINDINGS, "assess", findings.model_dump_json())
    refuted = findings.refuted_errors
    if refuted:
        first = refuted[0]
        return Stop(Verdict.REFUTED, f"{first.invariant}: {first.evidence} Nothing was written. {first.remedy}".strip())
    family = view.material.family()
    if family is None:
        return Stop(Verdict.STOPPED, _gate(cluster, facts[cluster.node(cluster.origin).name]))
    plan = make_plan(cluster, facts, family)
    view.store.put(view.record.id, PLAN, PLAN, plan.to_json())
    return Go(plan.fingerprint)


def next_wave(view: View) -> Sequence[str]:
    """The plan's next wave, without the nodes that have ended meanwhile."""
    done, ended = view.in_stage("wave"), view.ended()
    for wave in view.plan.waves if view.plan else ():
        nodes = [node for node in wave if node not in done and node not in ended]
        if nodes:
            return nodes
    return ()


def within_budget(view: View) -> Go | Stop:
    """Stops after a wave when more nodes have failed than the policy allows."""
    failed = sorted(node for node, outcome in view.ended().items() if outcome.status is Status.FAILED)
    allowed = view.cluster.policy.max_failed
    if allowed is None:
        allowed = max(1, math.floor(len(view.cluster.nodes) / 3))
    if len(failed) > allowed and next_wave(view):
        names = ", ".join(failed)
        return Stop(Verdict.STOPPED, f"{len(failed)} nodes failed ({names}), the policy allows {allowed}")
    return Go()


def all_reached(view: View) -> Sequence[str]:
    """Everybody who answered at some time: a node that failed is looked at too, its state matters most."""
    seen = view.in_stage("verify")
    refused = {n for n, o in view.ended().items() if o.status is Status.UNREACHABLE or o.slug == LogonRefused.slug}
    return [name for name in view.cluster.node_names if name not in seen and name not in refused]


def invariants_hold(view: View) -> Stop:
    """The verdict over the whole cluster, by every invariant."""
    facts = view.material.all_facts(VERIFIED)
    findings = judge(_whole(view, facts))
    view.store.put(view.record.id, FINDINGS, "verify", findings.model_dump_json())
    return Stop(*verdict_of(view.cluster.node_names, view.ended(), findings))


def cancelled(view: View) -> Stop | None:
    """Stops a run that an operator asked to stop."""
    why = view.store.flags(view.record.id).get(CANCEL)
    return None if why is None else Stop(Verdict.CANCELLED, f"cancelled: {why}")


def _whole(view: View, facts: Mapping[str, NodeFacts]) -> ClusterFacts:
    reasons = {node: outcome.message for node, outcome in view.ended().items()}
    return cluster_facts(view.cluster, facts, reasons, view.material.family())


def _without_origin(view: View) -> Stop:
    """Nothing can be planned without the origin: its certificates go to everybody."""
    origin = view.cluster.origin
    outcome = view.ended().get(view.cluster.node(origin).name)
    silent = outcome is not None and outcome.status is Status.UNREACHABLE
    why = f": {outcome.message}" if outcome else ""
    return Stop(
        Verdict.UNREACHABLE if silent else Verdict.FAILED,
        f"the origin {origin} could not be looked at{why}. Nothing was written anywhere",
    )


def _gate(cluster: Cluster, origin: NodeFacts) -> str:
    """What a person has to do first: the Security Configurator has no command line (ektron-facts 3.3)."""
    menu = f"Start > All programs > Ektron > CMS400 v{cluster.edition.replace('.', '')[:2]} > Utilities"
    return (
        f"{origin.node} has no certificate family: {origin.origin_problem or 'no files were found'}. Nothing was written. "
        f"On {origin.node} open {menu} > Security Configurator, choose Generate Certificates, click OK, then run again "
        "(or set policy.generate_certificates)"
    )

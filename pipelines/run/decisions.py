"""What comes next: the nodes of the next turn of a stage, and whether the run continues. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines.run.attested import confirmations_of
from pipelines.run.budget import exceeded, too_many_away
from pipelines.run.decisions_pools import owed, pool_notes
from pipelines.run.evidence import judged_kind
from pipelines.run.plan import Plan
from pipelines.run.pool_risk import pool_left_alone
from pipelines.run.selection import besides, findings_about
from pipelines.run.snapshot import ABANDONED, WAVE_STAGE, Document, Go, Snapshot, Stop
from pipelines.run.verdict import cluster_facts, failures, verdict_of
from tasks.ektron.wording import differing, named
from workers.errors import LogonRefused, NotEditable
from workers.records import DocumentKind, Status, StepOutcome, Verdict
from workers.texts import cleaned

if TYPE_CHECKING:  # loaded by what judges: what shows runs takes the names of stages from here, and decides nothing
    from tasks.cluster import Cluster
    from tasks.documents import FamilyDigests
    from tasks.ektron.cluster_facts import ClusterFacts
    from tasks.ektron.facts.node import NodeFacts
    from tasks.ektron.rules.findings import Findings

__all__ = [
    "all_reachable",
    "cancelled",
    "configurator_menu",
    "facts_of_cluster",
    "fit_and_planned",
    "invariants_hold",
    "logon_accepted",
    "make_family_first",
    "not_yet_observed",
    "one_per_account",
    "out_of_reach",
    "plan_only",
    "refused_too_often",
    "seen_completely",
    "selected_hold",
]

_NOTE = 600  #: characters of a note of a plan
CANARIES = 5  #: how many nodes are tried one after the other while none answers


def one_per_account(snapshot: Snapshot, among: Collection[str] = ()) -> Sequence[str]:
    """One node for each account that is not tried yet, the origin first: a wrong password costs one logon."""
    tried = snapshot.of_stage("canary")
    by_account: dict[str, list[str]] = {}
    names = sorted(among or snapshot.cluster.node_names, key=lambda name: not snapshot.cluster.is_origin(name))
    for name in names:
        by_account.setdefault(snapshot.cluster.endpoint(name).account, []).append(name)
    unreachable = {node for node, outcome in tried.items() if outcome.status is Status.UNREACHABLE}
    chosen = []
    for members in by_account.values():
        untried = [node for node in members if node not in tried]
        if untried and unreachable.issuperset(node for node in members if node in tried):
            chosen.append(untried[0])
    return chosen


def logon_accepted(snapshot: Snapshot) -> Go | Stop:
    """Stops when the origin's account was refused, or when no node answers; nothing was written so far."""
    tried = snapshot.of_stage("canary")
    origin_account = snapshot.cluster.endpoint(snapshot.cluster.origin).account
    for node, outcome in tried.items():
        if outcome.slug == LogonRefused.slug and snapshot.cluster.endpoint(node).account == origin_account:
            return Stop(Verdict.FAILED, f"{outcome.message}; no other node was tried, nothing was written")
    if len(tried) >= CANARIES and all(outcome.status is Status.UNREACHABLE for outcome in tried.values()):
        return Stop(Verdict.UNREACHABLE, f"none of {', '.join(tried)} answered; the other nodes were not tried")
    return Go()


def refused_too_often(snapshot: Snapshot) -> Stop | None:
    """Stops when nodes were left out because an account that other nodes accept was refused max_refused times."""
    endpoints = {outcome.node: snapshot.cluster.endpoint(outcome.node) for outcome in snapshot.outcomes}
    accounts = {node: endpoint.account for node, endpoint in endpoints.items()}
    refusals = [outcome for outcome in snapshot.outcomes if outcome.slug == LogonRefused.slug]
    skipped = {outcome.node for outcome in refusals if outcome.status is Status.SKIPPED}
    accepted = {accounts[outcome.node] for outcome in snapshot.outcomes if not outcome.status.ends_node}
    locked = accepted & {accounts[node] for node in skipped}
    if not locked:
        return None
    nodes = {outcome.node for outcome in refusals if accounts[outcome.node] == min(locked)}
    return Stop(
        Verdict.STOPPED,
        f"{endpoints[min(nodes)].user} was refused by {named(sorted(nodes - skipped))}; policy.max_refused allows no "
        f"more (accounts get locked); not tried: {named(sorted(nodes & skipped))}",
    )


def not_yet_observed(snapshot: Snapshot) -> Sequence[str]:
    """Every node that was not observed yet."""
    seen = snapshot.in_stage("canary") | snapshot.in_stage("observe")
    return [name for name in snapshot.cluster.node_names if name not in seen]


def fit_and_planned(snapshot: Snapshot, *, applies: bool = True) -> Go | Stop:
    """Checks the prerequisites before anything is written; then makes the plan, or checks that a saved plan fits.

    Args:
        snapshot: the run.
        applies: whether the plan will be applied by this run, and not only shown.
    """
    locking = refused_too_often(snapshot)
    if locking is not None:
        return locking
    ended = snapshot.ended()
    facts = {
        node: observed
        for node, observed in snapshot.documents.all_facts(DocumentKind.OBSERVED).items()
        if node not in ended
    }
    family = snapshot.documents.family_digests()
    unfit = _unfit(snapshot, facts)
    if unfit is not None:
        return unfit
    from tasks.ektron.rules.invariants import judge_prerequisites  # noqa: PLC0415 - see above

    cluster = facts_of_cluster(snapshot, facts)
    findings = judge_prerequisites(cluster, origin_family_needed=False)
    assessed = (Document(DocumentKind.FINDINGS, "assess", findings.model_dump_json()),)
    refused = _prerequisites_hold(findings) or (_too_few(snapshot, cluster) if applies else None)
    decision = refused or _planned(snapshot, facts, family)
    if applies and isinstance(decision, Go) and (over := pool_left_alone(snapshot.after(decision))):
        decision = Stop(Verdict.STOPPED, f"{over}. Nothing was written anywhere")
    return replace(decision, documents=(*assessed, *decision.documents))


def _planned(snapshot: Snapshot, facts: "Mapping[str, NodeFacts]", family: "FamilyDigests | None") -> Go | Stop:
    """The plan; or why there is none, or why a saved plan no longer fits."""
    if family is None:
        origin = snapshot.cluster.node(snapshot.cluster.origin).name
        return Stop(Verdict.STOPPED, make_family_first(snapshot.cluster, facts[origin]))
    from pipelines.run.planning import make_plan, obstacle  # noqa: PLC0415 - see above
    from tasks.ektron.rules.shared import consequences  # noqa: PLC0415 - see above

    options = snapshot.record.options
    plan = _restricted(snapshot, make_plan(snapshot.cluster, facts, family, options))
    unselected = facts.keys() - snapshot.selected
    others = consequences(facts_of_cluster(snapshot, facts), _silent(snapshot), unselected)
    over = _over_budget(snapshot) or pool_left_alone(snapshot.after(Go(plan)))
    stops = (f"a rollout would stop now, before it writes anything: {over}",) if over else ()
    notes = (*stops, *others, *pool_notes(snapshot.cluster, plan.wave_numbers()))
    plan = plan.model_copy(update={"notes": tuple(cleaned(note, _NOTE) for note in notes)})
    if why := obstacle(snapshot.cluster, plan, facts, family, options):
        return Stop(Verdict.FAILED, f"{why}. Nothing was written anywhere")
    if snapshot.record.plan_fingerprint:
        return _still_fits(snapshot, plan)
    return Go(plan, (Document(DocumentKind.PLAN, DocumentKind.PLAN, plan.to_json()),))


def _unfit(snapshot: Snapshot, facts: "Mapping[str, NodeFacts]") -> Stop | None:
    """Why nothing may be written: a required node is unreachable, no origin, a file that cannot be edited."""
    ended, silent = snapshot.ended(), _silent(snapshot)
    if silent and snapshot.cluster.policy.unreachable == "stop":
        return Stop(Verdict.UNREACHABLE, f"{named(silent)} did not answer, and policy.unreachable is `stop`")
    if snapshot.cluster.node(snapshot.cluster.origin).name not in facts:
        return _without_origin(snapshot, facts)
    refused = [
        node for node, outcome in ended.items() if outcome.slug == NotEditable.slug and node in snapshot.selected
    ]
    if refused:
        return Stop(Verdict.FAILED, f"{failures(refused, ended)}. Nothing was written anywhere")
    return None


def _silent(snapshot: Snapshot) -> list[str]:
    return [node for node, outcome in snapshot.ended().items() if outcome.status is Status.UNREACHABLE]


def _too_few(snapshot: Snapshot, cluster: "ClusterFacts") -> Stop | None:
    """Stops before anything is written when more nodes are away, or failed, than the policy allows."""
    if stop := _cuts_off(snapshot, cluster):
        return stop
    over = _over_budget(snapshot)
    return Stop(Verdict.STOPPED, f"{over}. Nothing was written anywhere") if over else None


def _over_budget(snapshot: Snapshot) -> str:
    """Why no wave may begin, for people; empty if one may."""
    return exceeded(snapshot) if snapshot.cluster.policy.judge_waves else too_many_away(snapshot)


def _cuts_off(snapshot: Snapshot, cluster: "ClusterFacts") -> Stop | None:
    """Stops before a family is replaced that nodes without an answer keep, unless the policy says `continue`."""
    if snapshot.cluster.policy.unreachable == "continue":
        return None
    from tasks.ektron.rules.shared import cut_off  # noqa: PLC0415 - see above

    cut = cut_off(cluster, _silent(snapshot))
    if not cut:
        return None
    pairs = "; ".join(f"{node} and {named(others)}" for node, others in cut.items())
    return Stop(
        Verdict.UNREACHABLE,
        f"{named(list(cut))} did not answer, and this run replaces the certificates: afterwards these would refuse "
        f"each other: {pairs}. Nothing was written. Bring {named(list(cut))} back, or set policy.unreachable to "
        "`continue` and retry what was left out later",
    )


def _prerequisites_hold(findings: "Findings") -> Stop | None:
    for finding in findings.refuted_errors:
        summary = f"{finding.invariant}: {finding.evidence} Nothing was written. {finding.remedy}"
        return Stop(Verdict.REFUTED, summary.strip())
    return None


def _still_fits(snapshot: Snapshot, plan: Plan) -> Go | Stop:
    stale = _stale(snapshot, plan)
    if stale and snapshot.cluster.policy.stale == "stop":
        return Stop(Verdict.STALE, f"the plan is stale, nothing was written: {'; '.join(stale)}. Make a new plan")
    return Go()


def plan_only(snapshot: Snapshot) -> Stop:
    """Ends a run of kind `plan` where a rollout would begin to write."""
    decision = fit_and_planned(snapshot, applies=False)
    if isinstance(decision, Stop):
        return decision
    plan = decision.plan or snapshot.plan
    totals = plan.totals if plan else "no node answered"
    ended = {node: outcome for node, outcome in snapshot.ended().items() if node in snapshot.selected}
    pending = plan is not None and not plan.empty
    stop = _left_out(ended, totals) or Stop(Verdict.CHANGES_PENDING if pending else Verdict.NOTHING_TO_DO, totals)
    return replace(stop, documents=decision.documents)


def _left_out(ended: Mapping[str, StepOutcome], totals: str) -> Stop | None:
    """The verdict of a plan when some nodes are not in it: what they need is not known."""
    if not ended:
        return None
    silent = all(outcome.status is Status.UNREACHABLE for outcome in ended.values())
    why = f"{named(list(ended))} did not answer" if silent else failures(list(ended), ended, "could not be checked")
    return Stop(
        Verdict.UNREACHABLE if silent else Verdict.INCONCLUSIVE,
        f"{why}. What they need is not known. The other nodes: {totals.partition('; not checked')[0]}",
    )


def _restricted(snapshot: Snapshot, plan: Plan) -> Plan:
    """The plan without the nodes that this run must not change: a retry changes only some."""
    selected = snapshot.selected
    waves = (tuple(node for node in wave if node in selected) for wave in plan.waves)
    return plan.model_copy(
        update={
            "nodes": tuple(part for part in plan.nodes if part.node in selected),
            "waves": tuple(wave for wave in waves if wave),
            "unseen": tuple(node for node in plan.unseen if node in selected),
        }
    )


def _stale(snapshot: Snapshot, current: Plan) -> list[str]:
    """Which nodes have changed since the saved plan was made, and what has changed on them."""
    if snapshot.plan is None:
        return []
    if snapshot.plan.family != current.family:
        return [f"the certificate family on {snapshot.cluster.origin} has changed"]
    observed, planned = (
        snapshot.documents.all_facts(DocumentKind.OBSERVED),
        snapshot.documents.all_facts(DocumentKind.PLANNED),
    )
    changed: dict[str, list[str]] = {}
    busy, now = snapshot.plan.wave_numbers(), current.parts()
    for part in snapshot.plan.nodes:
        seen = observed.get(part.node)
        if seen is not None and part.node in planned and seen.fingerprint() != part.fingerprint:
            changed.setdefault(differing(planned[part.node], seen) or "unknown facts", []).append(part.node)
        elif part.node in now and not now[part.node].empty and part.node not in busy:
            changed.setdefault(now[part.node].restart or "the site has to be recycled", []).append(part.node)
    return [f"{named(nodes)} changed: {what}" for what, nodes in changed.items()]


def all_reachable(snapshot: Snapshot) -> Sequence[str]:
    """Every node that can be observed, including the failed ones: their state matters most."""
    gone = snapshot.in_stage("verify") | out_of_reach(snapshot)
    return [name for name in snapshot.cluster.node_names if name not in gone]


def out_of_reach(snapshot: Snapshot) -> set[str]:
    """Nodes that cannot be observed: unreachable, logon refused, or a step still hangs there."""
    slugs = {LogonRefused.slug, ABANDONED}
    return {n for n, o in snapshot.ended().items() if o.status is Status.UNREACHABLE or o.slug in slugs}


def seen_completely(snapshot: Snapshot) -> bool:
    """Whether all nodes were observed completely before the plan, and none was changed: that is the evidence."""
    if snapshot.in_stage(WAVE_STAGE):
        return False
    facts = snapshot.documents.all_facts(DocumentKind.OBSERVED)
    return all(node in facts and facts[node].probes.tested for node in all_reachable(snapshot))


def invariants_hold(snapshot: Snapshot) -> Stop:
    """The verdict on the whole cluster, by every invariant."""
    facts = snapshot.documents.all_facts(judged_kind(snapshot.record))
    findings = _judged(snapshot, facts)
    verdict, summary = verdict_of(snapshot.cluster.node_names, snapshot.ended(), findings)
    return Stop(verdict, summary, (Document(DocumentKind.FINDINGS, "verify", findings.model_dump_json()),))


def selected_hold(snapshot: Snapshot) -> Stop:
    """The verdict by every invariant, judged over the whole cluster, as far as it concerns the selected nodes."""
    facts = snapshot.documents.all_facts(DocumentKind.VERIFIED)
    findings = findings_about(_judged(snapshot, facts), snapshot.selected)
    ended = {node: outcome for node, outcome in snapshot.ended().items() if node in snapshot.selected}
    verdict, summary = verdict_of(tuple(snapshot.selected), ended, findings)
    document = Document(DocumentKind.FINDINGS, "verify", findings.model_dump_json())
    return Stop(verdict, summary + besides(snapshot), (document,))


def _judged(snapshot: Snapshot, facts: "Mapping[str, NodeFacts]") -> "Findings":
    """Every invariant; what is unknown may be confirmed by a person on the day on which the run was requested."""
    from tasks.ektron.rules.confirmations import with_confirmations  # noqa: PLC0415 - see above
    from tasks.ektron.rules.invariants import judge  # noqa: PLC0415 - see above

    cluster, record = facts_of_cluster(snapshot, facts), snapshot.record
    return with_confirmations(judge(cluster), cluster, confirmations_of(snapshot.store, record), record.created.date())


def cancelled(snapshot: Snapshot) -> Stop | None:
    """Stops a run that was cancelled."""
    why = snapshot.steering.cancelled
    return Stop(Verdict.CANCELLED, f"cancelled: {why}") if why else None


def facts_of_cluster(snapshot: Snapshot, facts: "Mapping[str, NodeFacts]") -> "ClusterFacts":
    """The input of the rules: the facts of all nodes, with the reason for each node without facts."""
    reasons = {node: outcome.message for node, outcome in snapshot.ended().items()}
    family = snapshot.documents.family_digests()
    return replace(cluster_facts(snapshot.cluster, facts, reasons, family), drained=owed(snapshot))


def _without_origin(snapshot: Snapshot, facts: "Mapping[str, NodeFacts]") -> Stop:
    """Nothing can be planned without the origin, because every node gets its certificates. Names who could replace it.

    A node that holds the whole family in its service folder can hand it out (ektron-facts 3.4).
    """
    from tasks.ektron.rules.origins import possible_origins  # noqa: PLC0415 - see above

    origin = snapshot.cluster.origin
    outcome = snapshot.ended().get(snapshot.cluster.node(origin).name)
    silent = outcome is not None and outcome.status is Status.UNREACHABLE
    why = f": {outcome.message}" if outcome else ""
    holders = possible_origins(facts)
    heirs = [name for name in snapshot.cluster.node_names if name in holders]
    if outcome is not None and outcome.file:
        remedy = f". {outcome.remedy[:1].upper()}{outcome.remedy[1:]}" if outcome.remedy else ""  # nothing is lost
    elif heirs:
        hold = "holds" if len(heirs) == 1 else "hold"
        remedy = (
            f". If it is lost for good: {named(heirs)} {hold} the whole certificate family; "
            f"write `origin: {heirs[0]}` into the cluster file, and take {origin} out or replace it"
        )
    else:
        remedy = ". No other node that answered holds the whole certificate family"
    return Stop(
        Verdict.UNREACHABLE if silent else Verdict.FAILED,
        f"the origin {origin} could not be checked{why}. Nothing was written anywhere{remedy}",
    )


def make_family_first(cluster: "Cluster", origin: "NodeFacts") -> str:
    """What a person has to do first; the Security Configurator has no command line (ektron-facts 3.3)."""
    return (
        f"{origin.node} has no certificate family: {origin.origin_problem or 'no files were found'}. "
        "Nothing was written. "
        f"On {origin.node} open {configurator_menu(cluster)}, choose Generate Certificates, click OK, then run again "
        "(or set policy.generate_certificates)"
    )


def configurator_menu(cluster: "Cluster") -> str:
    """Where the Security Configurator is in the Start menu (procedure step 1)."""
    version = cluster.edition.replace(".", "")[:2]
    return f"Start > All programs > Ektron > CMS400 v{version} > Utilities > Security Configurator"

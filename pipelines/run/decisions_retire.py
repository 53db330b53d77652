"""What comes next when nodes leave their cluster. Pure, like `decisions`."""

from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines.run.selection import not_done
from pipelines.run.snapshot import Document, Go, Snapshot, Stop
from tasks.documents import FORCE, NO_FAMILY
from tasks.ektron.wording import named
from workers.records import DocumentKind, Verdict

if TYPE_CHECKING:  # loaded by what judges: what shows runs decides nothing
    from tasks.ektron.facts.node import NodeFacts

__all__ = ["retire_plan_only", "retire_planned", "retired"]


def retire_planned(snapshot: Snapshot) -> Go | Stop:
    """The plan of what the nodes lose; or why nothing may be written. A saved plan has to fit."""
    if stop := not_done(snapshot):
        return replace(stop, summary=f"{stop.summary}. Nothing was written anywhere")
    facts = _facts(snapshot, DocumentKind.OBSERVED)
    if stop := _shared(snapshot, facts):
        return stop
    from pipelines.run.planning import make_plan, obstacle  # noqa: PLC0415 - see above

    options = snapshot.record.options
    plan = make_plan(snapshot.cluster, facts, NO_FAMILY, options).model_copy(update={"unseen": ()})
    if why := obstacle(snapshot.cluster, plan, facts, NO_FAMILY, options):
        return Stop(Verdict.FAILED, f"{why}. Nothing was written anywhere")
    if snapshot.record.plan_fingerprint:
        saved = {part.node: part.fingerprint for part in snapshot.plan.nodes} if snapshot.plan else {}
        stale = [part.node for part in plan.nodes if saved.get(part.node, part.fingerprint) != part.fingerprint]
        why = f"the plan is stale, nothing was written: {named(stale)} changed. Make a new plan"
        return Stop(Verdict.STALE, why) if stale else Go()
    return Go(plan, (Document(DocumentKind.PLAN, DocumentKind.PLAN, plan.to_json()),))


def retire_plan_only(snapshot: Snapshot) -> Stop:
    """Ends where a node would begin to lose its rights."""
    decision = retire_planned(snapshot)
    if isinstance(decision, Stop):
        return decision
    plan = decision.plan or snapshot.plan
    pending = plan is not None and not plan.empty
    verdict = Verdict.CHANGES_PENDING if pending else Verdict.NOTHING_TO_DO
    return Stop(verdict, plan.totals if plan else "no node answered", decision.documents)


def retired(snapshot: Snapshot) -> Stop:
    """Retired when each selected node, observed again, lacks everything that it had to lose."""
    if stop := not_done(snapshot):
        return stop
    from pipelines.run.planning import make_plan  # noqa: PLC0415 - see above

    facts = _facts(snapshot, DocumentKind.VERIFIED)
    plan = make_plan(snapshot.cluster, facts, NO_FAMILY, snapshot.record.options)
    left = [part.node for part in plan.nodes if part.changes]
    if left:
        first = next(part for part in plan.nodes if part.changes).changes[0]
        return Stop(Verdict.REFUTED, f"{named(left)}: not everything is gone: {first.what} in {first.file}")
    names = named(list(snapshot.selected))
    stopped = all(one.service.state == "stopped" for one in facts.values())
    return Stop(
        Verdict.RETIRED,
        f"{names} has no certificates and no keys of the cluster any more, and its service "
        f"{'is stopped' if stopped else 'was restarted'}. The other "
        f"nodes still hold keys of {names}: take it out of the cluster file, then run esync rollout FILE --prune",
    )


def _shared(snapshot: Snapshot, facts: "dict[str, NodeFacts]") -> Stop | None:
    """All sites of a server share its certificates (ektron-facts 10): they would lose them, too."""
    from tasks.ektron.rules.shared import other_sites  # noqa: PLC0415 - see above

    shared = {node: other_sites(one) for node, one in facts.items()}
    shared = {node: sites for node, sites in shared.items() if sites}
    if not shared or FORCE in snapshot.record.options:
        return None
    node, sites = next(iter(shared.items()))
    return Stop(
        Verdict.STOPPED,
        f"{node} also serves {named(sites)}, and all sites of a server share its certificates: retiring it would end "
        "their eSync, too. Nothing was written. Move or remove these sites first, or use --force",
    )


def _facts(snapshot: Snapshot, kind: DocumentKind) -> "dict[str, NodeFacts]":
    seen = snapshot.documents.all_facts(kind)
    return {node: seen[node] for node in snapshot.selected if node in seen}

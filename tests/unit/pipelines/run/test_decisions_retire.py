"""What follows the turns of a run that takes a node out of its cluster."""

from collections.abc import Mapping

import pytest

from pipelines.run import decisions_retire as decisions
from pipelines.run.plan import Plan
from pipelines.run.planning import make_plan
from pipelines.run.snapshot import Go, Snapshot, Stop
from tasks.documents import NO_FAMILY, RETIRE
from tasks.ektron.facts.node import NodeFacts
from tests.unit.pipelines.run.snapshots import a_cluster, a_snapshot, facts_of, numbered, outcome, turn
from tests.unit.tasks.ektron.joined import changed, generated_site
from workers.records import DocumentKind, Status, StepOutcome, Verdict

CLUSTER = a_cluster(numbered(4))
JOINED = facts_of(CLUSTER)["N3"]
CONFIG = JOINED.web.file.path


def gone(facts: NodeFacts) -> NodeFacts:
    """The node without anything of the cluster."""
    return changed(
        facts,
        asset__load_balanced="0",
        service_config__load_balanced="0",
        service_config__keys={},
        service_config__server_certificates=["EktronSyncServer.pfx"],
        web__encoded_value="",
        web__endpoints=[{"contract": "a", "client_certificate": "EktronSyncClient.pfx"}],
        service_family={},
        web_root_family={},
        staging_files=[],
        staging_family={},
    )


def leaving(
    *outcomes: StepOutcome,
    facts: Mapping[DocumentKind, NodeFacts] | None = None,
    plan: Plan | None = None,
    options: tuple[str, ...] = (RETIRE,),
) -> Snapshot:
    """A run that takes N3 out of four nodes."""
    seen = facts if facts is not None else {DocumentKind.OBSERVED: JOINED}
    return a_snapshot(
        CLUSTER,
        *outcomes,
        turns=[turn("canary", ["N3"])],
        facts={kind: {"N3": one} for kind, one in seen.items()},
        plan=plan,
        family=False,
        kind="retire",
        only=("N3",),
        options=options,
        plan_fingerprint=plan.fingerprint if plan else "",
    )


def test_the_plan_is_of_the_leaving_node_alone() -> None:
    """It needs no certificate family; the other nodes are not looked at."""
    decision = decisions.retire_planned(leaving())
    assert isinstance(decision, Go)
    assert decision.plan is not None
    assert [part.node for part in decision.plan.nodes] == ["N3"]
    assert decision.plan.waves == (("N3",),)
    assert decision.plan.totals.endswith("1 service restart, about 13 messages")
    planned = decisions.retire_plan_only(leaving())
    assert (planned.verdict, planned.documents) == (Verdict.CHANGES_PENDING, decision.documents)


def test_a_node_that_has_left_needs_nothing() -> None:
    """The plan is empty."""
    assert decisions.retire_plan_only(leaving(facts={DocumentKind.OBSERVED: gone(JOINED)})).verdict is (
        Verdict.NOTHING_TO_DO
    )


@pytest.mark.parametrize(
    ("status", "verdict"), [(Status.UNREACHABLE, Verdict.UNREACHABLE), (Status.FAILED, Verdict.FAILED)]
)
def test_a_node_that_cannot_be_seen_is_not_retired(status: Status, verdict: Verdict) -> None:
    """Neither before the changes nor after them."""
    for decide in (decisions.retire_planned, decisions.retire_plan_only, decisions.retired):
        stop = decide(leaving(outcome("N3", status, message="N3: no"), facts={}))
        assert isinstance(stop, Stop)
        assert stop.verdict is verdict


def test_a_saved_plan_has_to_fit() -> None:
    """It is applied while the node is as it was seen then; otherwise nothing is written."""
    plan = make_plan(CLUSTER, {"N3": JOINED}, NO_FAMILY, (RETIRE,))
    assert decisions.retire_planned(leaving(plan=plan)) == Go()
    seen = {DocumentKind.OBSERVED: changed(JOINED, asset__load_balanced="0")}
    stop = decisions.retire_planned(leaving(facts=seen, plan=plan))
    assert isinstance(stop, Stop)
    assert (stop.verdict, "N3 changed" in stop.summary) == (Verdict.STALE, True)


def test_a_server_of_other_sites_is_not_retired_unless_forced() -> None:
    """Their eSync would end, too: the certificates are the server's."""
    sites = [
        generated_site("N3", CONFIG.rpartition("\\")[0]).model_dump(),
        generated_site("N3", r"D:\other").model_dump(),
    ]
    facts = {DocumentKind.OBSERVED: changed(JOINED, generated__sitedb__sites=sites)}
    stop = decisions.retire_planned(leaving(facts=facts))
    assert isinstance(stop, Stop)
    assert stop.verdict is Verdict.STOPPED
    assert r"N3 also serves site (D:\other)" in stop.summary
    assert isinstance(decisions.retire_planned(leaving(facts=facts, options=(RETIRE, "force"))), Go)


def test_a_read_only_file_stops_it_early() -> None:
    """Before anything is written."""
    stop = decisions.retire_planned(leaving(facts={DocumentKind.OBSERVED: changed(JOINED, web__file__readonly=True)}))
    assert isinstance(stop, Stop)
    assert (stop.verdict, "Nothing was written" in stop.summary) == (Verdict.FAILED, True)


def test_it_is_retired_when_everything_is_gone() -> None:
    """Judged by a new look at the node; the summary says what is left to do on the others."""
    done = decisions.retired(leaving(facts={DocumentKind.VERIFIED: gone(JOINED)}))
    assert done.verdict is Verdict.RETIRED
    assert "rollout FILE --prune" in done.summary
    not_yet = decisions.retired(leaving(facts={DocumentKind.VERIFIED: changed(gone(JOINED), asset__load_balanced="1")}))
    assert not_yet.verdict is Verdict.REFUTED
    assert "LoadBalanced" in not_yet.summary

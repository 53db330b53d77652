"""Each decision of a rollout, at both sides of its border, and beside neighbours that must not count."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from pipelines.run import decisions
from pipelines.run.decisions import CANARIES
from pipelines.run.plan import Plan
from pipelines.run.snapshot import ABANDONED, Go, Snapshot, Stop
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.values import Spread
from tasks.ektron.rules.findings import Findings
from tests.unit.pipelines.run.snapshots import (
    a_cluster,
    a_plan,
    a_snapshot,
    facts_of,
    needing,
    numbered,
    outcome,
    recorded,
    turn,
    unbalanced,
)
from tests.unit.tasks.ektron.joined import changed
from workers.errors import LogonRefused, NotEditable
from workers.records import DocumentKind, Status, StepOutcome, Verdict

THREE = numbered(3)


def refused_logon(node: str, status: Status = Status.FAILED, turn: str = "canary") -> StepOutcome:
    """The node has refused the logon; or it was skipped because other nodes have."""
    return outcome(node, status, turn=turn, slug=LogonRefused.slug, message="refused the logon")


def stopped(decision: Go | Stop) -> Stop:
    """The decision, which has to be a stop."""
    assert isinstance(decision, Stop)
    return decision


def unreachable(*nodes: str, turn: str = "canary") -> Iterator[StepOutcome]:
    """These nodes did not answer, one after the other."""
    for place, node in enumerate(nodes):
        yield outcome(node, Status.UNREACHABLE, turn=turn, at=place, slug="unreachable", message=f"{node} is down")


# -- canary


def tried(*outcomes: StepOutcome, names: tuple[str, ...] = THREE, users: dict[str, str] | None = None) -> Snapshot:
    """A run whose canary stage has these outcomes."""
    nodes = dict.fromkeys(one.node for one in outcomes)
    return a_snapshot(a_cluster(names, users), *outcomes, turns=[turn("canary", nodes)])


def test_one_node_of_each_account_is_tried_first_the_origin_first() -> None:
    """A second account gets a canary of its own; the origin comes first, wherever it is in the file."""
    cluster = a_cluster(("N1", "N2", "N3", "N4"), {"N2": "other", "N4": "other"})
    moved = cluster.model_copy(update={"origin": "N4"})
    assert ["N1", "N2"] == decisions.one_per_account(a_snapshot(cluster))
    assert ["N4", "N1"] == decisions.one_per_account(a_snapshot(moved, facts={}))
    assert ["N3"] == decisions.one_per_account(a_snapshot(cluster, facts={}), among=["N3"])


def test_the_next_node_of_an_account_is_tried_only_while_none_answers() -> None:
    """After an unreachable node, not after one that answered, even if it failed; and none when all were tried."""
    assert ["N2"] == decisions.one_per_account(tried(*unreachable("N1")))
    assert ["N3"] == decisions.one_per_account(tried(*unreachable("N1", "N2")))
    assert [] == decisions.one_per_account(tried(*unreachable("N1"), outcome("N2", at=9)))
    assert [] == decisions.one_per_account(tried(outcome("N1", Status.FAILED)))
    assert [] == decisions.one_per_account(tried(*unreachable(*THREE)))


def test_an_outcome_of_another_stage_is_no_canary() -> None:
    """Only outcomes of the canary's own turns count as tried."""
    cluster = a_cluster(THREE)
    later = a_snapshot(cluster, *unreachable("N1", turn="observe"), turns=[turn("observe", ["N1"])])
    assert ["N1"] == decisions.one_per_account(later)


@pytest.mark.parametrize("silent", range(1, CANARIES + 1))
def test_the_run_stops_only_when_five_canaries_are_silent(silent: int) -> None:
    """Four silent nodes are not enough, five are; the summary names them."""
    names = numbered(CANARIES + 2)
    decision = decisions.logon_accepted(tried(*unreachable(*names[:silent]), names=names))
    if silent < CANARIES:
        assert Go() == decision
        return
    stop = stopped(decision)
    assert Verdict.UNREACHABLE is stop.verdict
    assert "none of N1, N2, N3, N4, N5 answered; the other nodes were not tried" == stop.summary


@pytest.mark.parametrize("answering", numbered(CANARIES))
def test_one_answer_among_five_canaries_lets_the_run_continue(answering: str) -> None:
    """Whichever of the five it is."""
    names = numbered(CANARIES)
    outcomes = [one for one in unreachable(*names) if one.node != answering]
    assert Go() == decisions.logon_accepted(tried(*outcomes, outcome(answering), names=names))


def test_one_silent_canary_of_five_does_not_stop_the_run() -> None:
    """Four answered."""
    names = numbered(CANARIES)
    outcomes = [outcome(node) for node in names[1:]]
    assert Go() == decisions.logon_accepted(tried(*unreachable("N1"), *outcomes, names=names))


def test_a_refused_account_of_the_origin_stops_the_run() -> None:
    """Nothing can be planned without the origin; a refused account of another node concerns that node alone."""
    own = tried(refused_logon("N1"))
    stop = stopped(decisions.logon_accepted(own))
    assert (Verdict.FAILED, "refused the logon; no other node was tried, nothing was written") == (
        stop.verdict,
        stop.summary,
    )
    other = tried(outcome("N1"), refused_logon("N2"), users={"N2": "other"})
    assert Go() == decisions.logon_accepted(other)
    failed = tried(outcome("N1", Status.FAILED, slug="other"))
    assert Go() == decisions.logon_accepted(failed)


# -- refused accounts


def observed(*outcomes: StepOutcome, users: dict[str, str] | None = None) -> Snapshot:
    """A run of six nodes that has observed them."""
    return a_snapshot(a_cluster(numbered(6), users), *outcomes, turns=[turn("observe", numbered(6))])


def test_an_account_that_was_refused_too_often_stops_the_run() -> None:
    """The refusing nodes and the nodes that were not tried are named apart."""
    stop = decisions.refused_too_often(
        observed(
            outcome("N1"),
            refused_logon("N2"),
            refused_logon("N3"),
            refused_logon("N4", Status.SKIPPED),
            outcome("N5", Status.SKIPPED, slug="other"),
        )
    )
    assert stop is not None
    assert Verdict.STOPPED is stop.verdict
    assert stop.summary.startswith("svc was refused by N2, N3; policy.max_refused")
    assert stop.summary.endswith("not tried: N4")


@pytest.mark.parametrize(
    "outcomes",
    [
        [outcome("N1"), refused_logon("N2")],
        [refused_logon("N1"), refused_logon("N2", Status.SKIPPED)],
        [outcome("N1"), refused_logon("N6"), refused_logon("N6", Status.SKIPPED, turn="x")],
    ],
    ids=["nobody was skipped", "no node accepts the account", "another account"],
)
def test_refusals_that_do_not_stop_a_run(outcomes: list[StepOutcome]) -> None:
    """Only nodes that were left out of an account that works elsewhere do."""
    assert decisions.refused_too_often(observed(*outcomes, users={"N6": "other"})) is None


def test_two_locked_accounts_are_not_mixed() -> None:
    """The summary is about one of them."""
    nodes = {"svc": ("N1", "N2", "N3"), "other": ("N4", "N5", "N6")}
    outcomes = []
    for accepted, refused, skipped in nodes.values():
        outcomes += [outcome(accepted), refused_logon(refused)]
        outcomes += [refused_logon(skipped, Status.SKIPPED)]
    stop = decisions.refused_too_often(observed(*outcomes, users=dict.fromkeys(nodes["other"], "other")))
    assert stop is not None
    user = stop.summary.partition(" ")[0]
    assert set(nodes[user][1:]) == {name for name in numbered(6) if name in stop.summary}


def test_nothing_is_planned_when_an_account_was_refused_too_often() -> None:
    """The run stops before anything is written."""
    snapshot = observed(outcome("N1"), refused_logon("N2"), refused_logon("N3", Status.SKIPPED))
    stop = stopped(decisions.fit_and_planned(snapshot))
    assert (Verdict.STOPPED, ()) == (stop.verdict, stop.documents)


# -- observation and plan


def test_nodes_that_had_a_turn_are_not_observed_again() -> None:
    """Neither in the canary stage nor in the stage itself."""
    turns = [turn("canary", ["N1"]), turn("observe", ["N2"]), turn("wave-1", ["N3"])]
    assert ["N3", "N4"] == decisions.not_yet_observed(a_snapshot(a_cluster(numbered(4)), turns=turns, facts={}))


def test_the_prerequisites_and_the_plan_are_documents_of_the_decision() -> None:
    """The plan is returned and saved; the findings are saved too."""
    cluster = a_cluster(THREE)
    facts = facts_of(cluster, needing("N2"))
    decision = decisions.fit_and_planned(a_snapshot(cluster, facts={DocumentKind.OBSERVED: facts}))
    assert isinstance(decision, Go)
    assert decision.plan == a_plan(cluster, facts)
    findings, plan = decision.documents
    assert (DocumentKind.FINDINGS, "assess") == (findings.kind, findings.name)
    assert Findings.model_validate_json(findings.text).refuted_errors == ()
    assert (DocumentKind.PLAN, DocumentKind.PLAN, decision.plan.to_json()) == (plan.kind, plan.name, plan.text)


def refuted(facts: NodeFacts) -> NodeFacts:
    """A node with another build."""
    return facts.model_copy(update={"web": facts.web.model_copy(update={"builds": {"ek_buildNumber": "8.0.0.1"}})})


def test_a_refuted_prerequisite_stops_the_run_with_its_findings() -> None:
    """The summary names the invariant, and says that nothing was written."""
    cluster = a_cluster(THREE)
    snapshot = a_snapshot(cluster, facts={DocumentKind.OBSERVED: facts_of(cluster, {"N2": refuted})})
    stop = stopped(decisions.fit_and_planned(snapshot))
    assert Verdict.REFUTED is stop.verdict
    assert "Nothing was written." in stop.summary
    assert stop.summary == stop.summary.strip()
    assert [DocumentKind.FINDINGS] == [document.kind for document in stop.documents]


def test_a_node_that_ended_is_not_in_the_plan() -> None:
    """Its facts may be incomplete."""
    cluster = a_cluster(THREE)
    decision = decisions.fit_and_planned(a_snapshot(cluster, outcome("N2", Status.FAILED, message="no")))
    assert isinstance(decision, Go)
    assert decision.plan is not None
    assert ["N1", "N3"] == [part.node for part in decision.plan.nodes]


@pytest.mark.parametrize("policy", ["stop", "continue"])
@pytest.mark.parametrize("status", [Status.UNREACHABLE, Status.FAILED])
def test_an_unreachable_node_stops_a_run_only_if_the_policy_says_so(policy: str, status: Status) -> None:
    """And a node that failed does not."""
    snapshot = a_snapshot(a_cluster(THREE, unreachable=policy), outcome("N2", status, message="no answer"))
    decision = decisions.fit_and_planned(snapshot)
    if (policy, status) == ("stop", Status.UNREACHABLE):
        stop = stopped(decision)
        assert (Verdict.UNREACHABLE, "N2 did not answer, and policy.unreachable is `stop`") == (
            stop.verdict,
            stop.summary,
        )
    else:
        assert isinstance(decision, Go)


@pytest.mark.parametrize("policy", [None, "continue"])
def test_new_certificates_wait_for_a_silent_node_unless_the_policy_says_continue(policy: str | None) -> None:
    """The run stops and says who would refuse whom; a plan is made, and says it in a note."""
    cluster = a_cluster(THREE, unreachable=policy)
    old = Spread.of(dict.fromkeys(THREE, "0d" * 32), THREE)
    facts = facts_of(cluster, dict.fromkeys(THREE, lambda node: changed(node, service_config__keys=old)))
    facts.pop("N2")
    snapshot = a_snapshot(
        cluster, outcome("N2", Status.UNREACHABLE, message="no answer"), facts={DocumentKind.OBSERVED: facts}
    )
    decision = decisions.fit_and_planned(snapshot)
    if policy is None:
        stop = stopped(decision)
        assert stop.verdict is Verdict.UNREACHABLE
        assert "N2 and N1, N3" in stop.summary
        assert "policy.unreachable" in stop.summary
    else:
        assert isinstance(decision, Go)
    planned = decisions.fit_and_planned(snapshot, applies=False)
    assert isinstance(planned, Go)
    assert planned.plan is not None
    assert "N2 did not answer" in planned.plan.notes[0]


@pytest.mark.parametrize(
    ("status", "verdict"), [(Status.UNREACHABLE, Verdict.UNREACHABLE), (Status.FAILED, Verdict.FAILED)]
)
def test_nothing_is_planned_without_the_origin(status: Status, verdict: Verdict) -> None:
    """The verdict depends on whether it answered; the summary gives its message, and who could replace it."""
    lost = outcome("N1", status, message="why not")
    stop = stopped(decisions.fit_and_planned(a_snapshot(a_cluster(THREE), lost)))
    assert (verdict, "the origin N1 could not be checked: why not. Nothing was written anywhere") == (
        stop.verdict,
        stop.summary.partition(". If")[0],
    )
    assert "N2, N3 hold the whole certificate family; write `origin: N2` into the cluster file" in stop.summary
    never = stopped(decisions.fit_and_planned(a_snapshot(a_cluster(THREE), facts={})))
    assert (Verdict.FAILED, "the origin N1 could not be checked. Nothing was written anywhere") == (
        never.verdict,
        never.summary.partition(". No other")[0],
    )


def test_an_origin_with_a_file_that_cannot_be_used_is_not_to_be_replaced() -> None:
    """The file is what has to be corrected: moving the origin would help nothing."""
    lost = outcome("N1", Status.FAILED, message="web.config is read-only", file="web.config", remedy="remove it")
    stop = stopped(decisions.fit_and_planned(a_snapshot(a_cluster(THREE), lost)))
    assert stop.summary.endswith("Nothing was written anywhere. Remove it")


def without(kind: str) -> Callable[[NodeFacts], NodeFacts]:
    """A node that lacks its own file of that kind in the service folder."""

    def change(facts: NodeFacts) -> NodeFacts:
        spread = facts.service_family[kind]
        lacking = spread.model_copy(update={"missing": (facts.node,)})
        return facts.model_copy(update={"service_family": {**facts.service_family, kind: lacking}})

    return change


def untrusted(facts: NodeFacts) -> NodeFacts:
    """A node whose service does not trust its own certificate."""
    keys = facts.service_config.keys.model_copy(update={"common": "00" * 32})
    config = facts.service_config.model_copy(update={"keys": keys})
    return facts.model_copy(update={"service_config": config})


def of_another_family(facts: NodeFacts) -> NodeFacts:
    """A node with files that the others do not have."""
    other = {kind: spread.model_copy(update={"common": "ff" * 32}) for kind, spread in facts.service_family.items()}
    return facts.model_copy(update={"service_family": other})


@pytest.mark.parametrize("change", [without("SyncServer.pvk"), without("SyncClient.cer"), untrusted, of_another_family])
def test_only_a_holder_of_the_whole_living_family_could_be_the_origin(
    change: Callable[[NodeFacts], NodeFacts],
) -> None:
    """All six files, equal to those of most nodes, with a key that the service trusts."""
    cluster = a_cluster(numbered(4))
    facts = {DocumentKind.OBSERVED: facts_of(cluster, {"N2": change})}
    lost = outcome("N1", Status.UNREACHABLE, message="no answer")
    stop = stopped(decisions.fit_and_planned(a_snapshot(cluster, lost, facts=facts)))
    assert "N3, N4 hold the whole certificate family; write `origin: N3`" in stop.summary
    alone = {DocumentKind.OBSERVED: {"N2": change(facts_of(cluster)["N2"])}}
    nobody = stopped(decisions.fit_and_planned(a_snapshot(cluster, lost, facts=alone)))
    assert change is of_another_family or "No other node that answered holds" in nobody.summary


@pytest.mark.parametrize(("only", "stops"), [((), True), (("N2",), True), (("N3",), False)])
def test_a_file_that_cannot_be_edited_stops_the_run_if_the_node_is_selected(only: tuple[str, ...], stops: bool) -> None:  # noqa: FBT001 - a parameter
    """A retry of other nodes is not stopped by it; nor is any run by a node that failed for another reason."""
    failed = outcome("N2", Status.FAILED, slug=NotEditable.slug, message="N2: not editable")
    decision = decisions.fit_and_planned(a_snapshot(a_cluster(THREE), failed, only=only))
    if stops:
        stop = stopped(decision)
        assert (Verdict.FAILED, "N2 failed: not editable. Nothing was written anywhere") == (stop.verdict, stop.summary)
    else:
        assert isinstance(decision, Go)


def test_a_read_only_file_stops_the_run_before_anything_is_written() -> None:
    """It is found in the plan."""

    def read_only(facts: NodeFacts) -> NodeFacts:
        changed = unbalanced(facts)
        file = changed.asset.file.model_copy(update={"readonly": True})
        return changed.model_copy(update={"asset": changed.asset.model_copy(update={"file": file})})

    cluster = a_cluster(THREE)
    snapshot = a_snapshot(cluster, facts={DocumentKind.OBSERVED: facts_of(cluster, {"N3": read_only})})
    stop = stopped(decisions.fit_and_planned(snapshot))
    assert Verdict.FAILED is stop.verdict
    assert "N3" in stop.summary
    assert stop.summary.endswith(". Nothing was written anywhere")


def test_without_a_family_a_person_has_to_generate_one() -> None:
    """The run stops and names the program that does it, as the menu of that version has it."""
    stop = stopped(decisions.fit_and_planned(a_snapshot(a_cluster(THREE), family=False)))
    assert Verdict.STOPPED is stop.verdict
    assert "Start > All programs > Ektron > CMS400 v80 > Utilities > Security Configurator" in stop.summary
    assert stop.summary.startswith("N1 has no certificate family: no files were found. Nothing was written.")
    cluster = a_cluster(THREE)
    origin = facts_of(cluster)["N1"].model_copy(update={"origin_problem": "3 of 6 files"})
    assert "certificate family: 3 of 6 files." in decisions.make_family_first(cluster, origin)


def test_a_retry_plans_only_its_nodes() -> None:
    """In the file's order, without empty waves."""
    cluster = a_cluster(numbered(4), waves=(1,))
    facts = facts_of(cluster, needing(*numbered(4)))
    decision = decisions.fit_and_planned(a_snapshot(cluster, facts={DocumentKind.OBSERVED: facts}, only=("N4", "N2")))
    assert isinstance(decision, Go)
    assert decision.plan is not None
    assert (["N2", "N4"], (("N2",), ("N4",))) == ([part.node for part in decision.plan.nodes], decision.plan.waves)


# -- a saved plan


def with_saved_plan(now: dict[str, Callable[[NodeFacts], NodeFacts]], **policy: object) -> Snapshot:
    """A run that applies a saved plan to a cluster in which some nodes are different by now."""
    cluster = a_cluster(THREE, **policy)
    planned = facts_of(cluster, {"N1": recorded, "N3": recorded} | needing("N2"))
    plan = a_plan(cluster, planned)
    facts = {DocumentKind.PLANNED: planned, DocumentKind.OBSERVED: facts_of(cluster, needing("N2") | now)}
    return a_snapshot(cluster, facts=facts, plan=plan, plan_fingerprint=plan.fingerprint)


def test_a_saved_plan_that_fits_is_applied_as_it_is() -> None:
    """No new plan is made."""
    decision = decisions.fit_and_planned(with_saved_plan({}))
    assert isinstance(decision, Go)
    assert decision.plan is None
    assert [DocumentKind.FINDINGS] == [document.kind for document in decision.documents]


@pytest.mark.parametrize("policy", ["stop", "continue"])
def test_a_stale_plan_stops_the_run_if_the_policy_says_so(policy: str) -> None:
    """The summary names the nodes that have changed, and nothing else."""
    decision = decisions.fit_and_planned(with_saved_plan({"N3": unbalanced}, stale=policy))
    if policy == "continue":
        assert isinstance(decision, Go)
        return
    stop = stopped(decision)
    assert Verdict.STALE is stop.verdict
    assert "the plan is stale, nothing was written: N3 changed: AssetManagement.config" in stop.summary
    assert not {"N1", "N2"} & {name for name in THREE if name in stop.summary}


def test_a_node_that_needed_nothing_and_now_needs_a_restart_makes_a_plan_stale() -> None:
    """It is in no wave of the saved plan; on a node that is in one, the step sees it by itself."""

    def stopped_service(facts: NodeFacts) -> NodeFacts:
        return changed(facts, service__state="stopped")

    stop = stopped(decisions.fit_and_planned(with_saved_plan({"N3": stopped_service})))
    assert Verdict.STALE is stop.verdict
    assert "nothing was written: N3 changed: the service was not running (stopped)." in stop.summary
    both = {"N2": lambda facts: unbalanced(stopped_service(facts))}
    assert isinstance(decisions.fit_and_planned(with_saved_plan(both)), Go)


def test_another_certificate_family_makes_a_plan_stale() -> None:
    """Whatever the nodes are."""
    snapshot = with_saved_plan({})
    assert snapshot.plan is not None
    other = snapshot.plan.model_copy(update={"family": {**snapshot.plan.family, "SyncClient.pfx": "ff" * 32}})
    stop = stopped(decisions.fit_and_planned(replace(snapshot, decided=other)))
    assert Verdict.STALE is stop.verdict
    assert "the certificate family on N1 has changed" in stop.summary


# -- runs of kind plan


def test_a_plan_ends_with_its_totals() -> None:
    """With changes it is pending; without, there is nothing to do."""
    cluster = a_cluster(THREE)
    pending = decisions.plan_only(a_snapshot(cluster, facts={DocumentKind.OBSERVED: facts_of(cluster, needing("N2"))}))
    assert Verdict.CHANGES_PENDING is pending.verdict
    assert pending.summary.startswith("2 changes on 1 of 3 nodes")
    nothing = decisions.plan_only(a_snapshot(cluster))
    assert (Verdict.NOTHING_TO_DO, "nothing to do: all 3 nodes are as they should be") == (
        nothing.verdict,
        nothing.summary,
    )
    for stop in (pending, nothing):
        assert [DocumentKind.FINDINGS, DocumentKind.PLAN] == [document.kind for document in stop.documents]


@pytest.mark.parametrize(("allowed", "stops"), [(0, True), (1, False)])
def test_a_plan_says_that_a_rollout_would_not_begin(allowed: int, stops: bool) -> None:  # noqa: FBT001 - a parameter
    """The waves are those of a rollout that is allowed to go without the silent nodes."""
    cluster = a_cluster(THREE, max_unreachable=allowed)
    stop = decisions.plan_only(a_snapshot(cluster, outcome("N2", Status.UNREACHABLE)))
    plan = next(Plan.model_validate_json(one.text) for one in stop.documents if one.kind == DocumentKind.PLAN)
    note = "a rollout would stop now, before it writes anything: 1 node did not answer (N2); policy.max_unreachable"
    assert stops == any(said.startswith(note) for said in plan.notes)


@pytest.mark.parametrize(
    ("statuses", "verdict", "begins"),
    [
        (
            {"N2": Status.UNREACHABLE},
            Verdict.UNREACHABLE,
            "N2 did not answer. What they need is not known. The other nodes: nothing to do",
        ),
        ({"N2": Status.FAILED}, Verdict.INCONCLUSIVE, "N2 could not be checked: no. What they need is not known. The"),
        (
            {"N2": Status.UNREACHABLE, "N3": Status.FAILED},
            Verdict.INCONCLUSIVE,
            "1 could not be checked, 1 unreachable; N3: no. What they need",
        ),
    ],
)
def test_an_empty_plan_is_no_success_if_nodes_are_not_in_it(
    statuses: dict[str, Status], verdict: Verdict, begins: str
) -> None:
    """They may need changes."""
    outcomes = [outcome(node, status, message=f"{node}: no") for node, status in statuses.items()]
    stop = decisions.plan_only(a_snapshot(a_cluster(THREE), *outcomes))
    assert verdict is stop.verdict
    assert stop.summary.startswith(begins)


def test_a_plan_with_changes_is_not_complete_if_a_node_is_not_in_it() -> None:
    """What can be done is kept with the plan; the verdict and the plan name the node that may need more."""
    cluster = a_cluster(THREE)
    snapshot = a_snapshot(
        cluster, *unreachable("N3", turn="observe"), facts={DocumentKind.OBSERVED: facts_of(cluster, needing("N2"))}
    )
    stop = decisions.plan_only(snapshot)
    assert Verdict.UNREACHABLE is stop.verdict
    assert "The other nodes: 2 changes on 1 of 2 nodes" in stop.summary
    plan = Plan.model_validate_json(stop.documents[-1].text)
    assert (("N3",), True) == (plan.unseen, plan.totals.endswith("; not checked: N3"))


def test_a_plan_that_cannot_be_made_ends_with_the_reason() -> None:
    """As a rollout would."""
    assert Verdict.STOPPED is decisions.plan_only(a_snapshot(a_cluster(THREE), family=False)).verdict


# -- verification


def test_every_node_that_answers_is_verified_the_failed_ones_too() -> None:
    """Not those that are unreachable, refuse the logon or still hang in a step; and none twice."""
    snapshot = a_snapshot(
        a_cluster(numbered(6)),
        outcome("N1", Status.FAILED, turn="wave-1", slug="other"),
        outcome("N2", Status.UNREACHABLE, turn="wave-1"),
        refused_logon("N3"),
        outcome("N4", Status.FAILED, turn="wave-1", slug=ABANDONED),
        turns=[turn("verify", ["N5"])],
        facts={},
    )
    assert {"N2", "N3", "N4"} == decisions.out_of_reach(snapshot)
    assert ["N1", "N6"] == decisions.all_reachable(snapshot)


def test_the_verdict_follows_from_the_last_observation() -> None:
    """Joined with all facts; not with a node that is different, or was not observed."""
    cluster = a_cluster(THREE)
    stop = decisions.invariants_hold(a_snapshot(cluster, facts={DocumentKind.VERIFIED: facts_of(cluster)}))
    assert (Verdict.JOINED, [(DocumentKind.FINDINGS, "verify")]) == (
        stop.verdict,
        [(one.kind, one.name) for one in stop.documents],
    )
    different = a_snapshot(cluster, facts={DocumentKind.VERIFIED: facts_of(cluster, needing("N2"))})
    assert Verdict.REFUTED is decisions.invariants_hold(different).verdict
    assert Verdict.INCONCLUSIVE is decisions.invariants_hold(a_snapshot(cluster)).verdict


def test_the_reason_why_a_node_was_not_observed_is_in_the_findings() -> None:
    """Its outcome's message."""
    cluster = a_cluster(THREE)
    facts = facts_of(cluster)
    snapshot = a_snapshot(cluster, *unreachable("N3"))
    whole = decisions.facts_of_cluster(snapshot, {name: facts[name] for name in ("N1", "N2")})
    assert "N3 is down" in whole.why_unseen("N3")
    assert whole.family_thumbprint
    assert not decisions.facts_of_cluster(a_snapshot(cluster, family=False), facts).family


def test_a_cancelled_run_stops_with_the_reason() -> None:
    """And only a cancelled one."""
    cluster = a_cluster(THREE)
    assert decisions.cancelled(a_snapshot(cluster)) is None
    stop = decisions.cancelled(a_snapshot(cluster, cancelled="wrong window"))
    assert stop == Stop(Verdict.CANCELLED, "cancelled: wrong window")

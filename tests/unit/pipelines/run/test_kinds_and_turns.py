"""Stages, kinds, and how one turn follows another; snapshots, endings and the evidence of a verdict."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pipelines.rollout import KINDS, STAGES, kind_of, purpose_of
from pipelines.run.abandoned import Ending, missing_steps, outcome_of
from pipelines.run.evidence import EVIDENCE, conclusion, evidence_of
from pipelines.run.kinds import Kind, Stage
from pipelines.run.plan import Plan
from pipelines.run.snapshot import ABANDONED, Document, Go, Snapshot, Stop
from pipelines.run.transitions import Next, after, first
from tasks.step_values import Purpose, Step
from tasks.steps.registry import CONFIG_EDIT, INSTALL_CHECK, SERVICE_RESTART
from tests.unit.pipelines.run.snapshots import a_cluster, a_plan, a_snapshot, numbered, outcome, turn
from workers.errors import Failure, RecordRefused
from workers.records import DocumentKind, RunRecord, Status, Verdict

THREE = numbered(3)
PLAN = a_plan(a_cluster(THREE))
THE_END = Stop(Verdict.JOINED, "the end")


def stage(
    name: str,
    nodes: Sequence[Sequence[str]],
    then: Go | Stop | None = None,
    *,
    step: Step = INSTALL_CHECK,
    heading: str = "",
    numbered: bool = False,
) -> Stage:
    """A stage that takes these nodes in its turns, and then always decides the same; by default to continue."""

    def chosen(snapshot: Snapshot) -> Sequence[str]:
        taken = sum(one.stage == name for one in snapshot.record.turns)
        return nodes[taken] if taken < len(nodes) else ()

    return Stage(
        name=name, nodes=chosen, steps=(step,), then=lambda _: then or Go(), heading=heading, numbered=numbered
    )


def run(*turns: str, cancelled: str = "", joined: tuple[str, ...] = ()) -> Snapshot:
    """A run that has had these turns, each with N1."""
    opened = [turn(name, ["N1"]) for name in turns]
    return a_snapshot(a_cluster(THREE), turns=opened, facts={}, cancelled=cancelled, joined=joined)


def step_of(decision: Next | Stop) -> tuple[str, tuple[str, ...]]:
    """The turn that comes next, with its nodes."""
    assert isinstance(decision, Next)
    return decision.turn.name, decision.turn.nodes


# -- transitions


def test_a_stage_takes_turns_until_it_has_no_nodes_left() -> None:
    """The first turn has no number, unless the stage is numbered; then the next stage begins."""
    kind = Kind(name="k", stages=(stage("a", [["N1"], ["N2"]]), stage("b", [["N3"]], numbered=True)))
    assert ("a", ("N1",)) == step_of(first(kind, run()))
    assert ("a-2", ("N2",)) == step_of(after(kind, run("a"), turn("a", ["N1"])))
    assert ("b-1", ("N3",)) == step_of(after(kind, run("a", "a-2"), turn("a-2", ["N1"])))


def test_the_join_is_recorded_in_the_snapshot_of_the_next_turn() -> None:
    """With the turn that was joined, and no other."""
    kind = Kind(name="k", stages=(stage("a", [["N1"], ["N2"], ["N3"]]),))
    decision = after(kind, run("a", joined=("z",)), turn("a", ["N1"]))
    assert isinstance(decision, Next)
    assert ("z", "a") == decision.snapshot.record.joined
    begin = first(kind, run())
    assert isinstance(begin, Next)
    assert () == begin.snapshot.record.joined


def test_a_stage_that_never_had_a_node_decides_too() -> None:
    """And one that had a turn does not decide a second time when it is left."""
    kind = Kind(name="k", stages=(stage("a", []), stage("b", [], THE_END)))
    assert first(kind, run()) == THE_END
    once = Kind(name="k", stages=(stage("a", [["N1"]], Go(PLAN)), stage("b", [["N2"]])))
    left = after(once, run("a"), turn("a", ["N1"]))
    assert isinstance(left, Next)
    assert left.snapshot.plan == PLAN
    begun = [Go(documents=(Document("d", "skipped", ""),)), Go(documents=(Document("d", "asked", ""),))]
    skipped = Kind(name="k", stages=(stage("a", [], begun[0]), stage("b", [["N1"], ["N2"]], begun[1])))
    opened = first(skipped, run())
    assert isinstance(opened, Next)
    assert ["skipped"] == [document.name for document in opened.documents]


def test_documents_of_all_decisions_on_the_way_are_saved() -> None:
    """Those of the turn's decision and those of stages without nodes, also when the run ends."""
    one, two = Document("d", "1", "one"), Document("d", "2", "two")
    stages = (
        stage("a", [["N1"]], Go(documents=(one,))),
        stage("b", [], Stop(Verdict.CLEAN, "end", (two,))),
    )
    decision = after(Kind(name="k", stages=stages), run("a"), turn("a", ["N1"]))
    assert Stop(Verdict.CLEAN, "end", (one, two)) == decision


def test_a_plan_made_on_the_way_is_seen_by_the_next_stage() -> None:
    """Before it is saved; its fingerprint is in the record."""
    kind = Kind(name="k", stages=(stage("a", [], Go(PLAN)), stage("b", [["N2"]])))
    decision = first(kind, run())
    assert isinstance(decision, Next)
    assert (PLAN, PLAN.fingerprint) == (decision.snapshot.plan, decision.snapshot.record.plan_fingerprint)


def test_a_cancel_and_a_stop_end_the_run() -> None:
    """A cancel comes before the decision of the stage."""
    kind = Kind(name="k", stages=(stage("a", [["N1"], ["N2"]], THE_END),))
    assert after(kind, run("a"), turn("a", ["N1"])) == THE_END
    cancelled = after(kind, run("a", cancelled="why"), turn("a", ["N1"]))
    assert cancelled == Stop(Verdict.CANCELLED, "cancelled: why")


def test_a_last_stage_that_does_not_stop_is_an_error() -> None:
    """Every kind ends with a verdict."""
    with pytest.raises(AssertionError, match="the last stage of a k"):
        first(Kind(name="k", stages=(stage("a", []),)), run())


# -- kinds and stages


def test_a_kind_answers_what_other_code_asks() -> None:
    """Columns once each and in order, steps by name, the stage of a turn."""
    rollout = KINDS["rollout"]
    assert ("look", "config", "certs", "restart", "verify") == rollout.columns
    steps = ["install_check", "undrain", "drain", "config_edit", "cert_copy", "service_restart"]
    assert steps == list(rollout.steps())
    assert rollout.stage_of(turn("wave-2", ["N1"])) is STAGES[3]
    assert rollout.stage("nothing") is None
    assert [True, False] == [KINDS[name].ends_with_plan for name in ("plan", "rollout")]
    assert Purpose.CONFIRM is purpose_of(run("wave-1").record, turn("wave-1", ["N1"]))


def test_the_kinds_that_read_verify_and_ask() -> None:
    """A kind has a property only if it says so."""
    kinds = KINDS.values()
    assert {"verify", "plan", "doctor", "retire-plan", "sync-status"} == {kind.name for kind in kinds if kind.read_only}
    assert {"rollout", "verify", "renew"} == {kind.name for kind in kinds if kind.verifies}
    assert {"rollout", "verify", "doctor", "renew"} == {kind.name for kind in kinds if kind.asks}
    assert {"rollout", "renew", "sync-prove"} == {kind.name for kind in kinds if not kind.retry}
    assert {"renew", "sync-prove"} == {kind.name for kind in kinds if kind.whole}
    assert {"retries", "undoes", "after", "continues"} == {kind.parent for kind in kinds}


def test_turns_that_can_change_nodes_are_found() -> None:
    """A stage counts when any of its steps changes nodes."""
    record = run("canary", "wave-1", "verify").record
    assert ["wave-1"] == [one.name for one in KINDS["rollout"].changing_turns(record)]


def test_a_stage_or_a_kind_of_another_version_is_refused() -> None:
    """With the names that this version knows, and what to do."""
    with pytest.raises(RecordRefused, match="turn drain-1: in this version a rollout has no stage 'drain'") as refused:
        KINDS["rollout"].stage_of(turn("drain-1", ["N1"]))
    assert "(it has canary, observe, undrain, wave, retry, prove, recheck, verify)" in str(refused.value)
    assert "use the version that started the run" == refused.value.remedy
    with pytest.raises(RecordRefused, match="does not know runs of kind 'drain'") as unknown:
        kind_of("drain", "r7")
    assert unknown.value.run == "r7"


def test_columns_and_groups_of_a_stage() -> None:
    """A heading of the stage replaces those of its steps."""
    plain, named = stage("a", [], step=CONFIG_EDIT), stage("a", [], step=CONFIG_EDIT, heading="look")
    assert ("config", "a") == (plain.heading_of(CONFIG_EDIT), plain.group)
    assert ("look", "look") == (named.heading_of(CONFIG_EDIT), named.group)


# -- snapshots


def test_the_last_outcome_of_a_stage_counts() -> None:
    """By time, whatever the order of the records; only of the turns of that stage."""
    snapshot = a_snapshot(
        a_cluster(THREE),
        outcome("N1", Status.CHANGED, turn="wave-2", at=9),
        outcome("N1", Status.UNCHANGED, turn="wave-1", at=3),
        outcome("N1", Status.FAILED, turn="verify", at=12),
        turns=[turn("wave-1", ["N1"]), turn("wave-2", ["N1"]), turn("verify", ["N1"])],
        facts={},
    )
    assert {"N1": Status.CHANGED} == {node: one.status for node, one in snapshot.of_stage("wave").items()}
    assert {} == snapshot.of_stage("canary")


def test_the_first_outcome_that_ends_a_node_counts() -> None:
    """By time; outcomes that do not end it do not."""
    snapshot = a_snapshot(
        a_cluster(THREE),
        outcome("N1", Status.SKIPPED, step="cert_copy", at=5),
        outcome("N1", Status.FAILED, step="config_edit", at=4),
        outcome("N1", at=3),
        outcome("N2", at=1),
        facts={},
    )
    assert {"N1": "config_edit"} == {node: one.step for node, one in snapshot.ended().items()}


def test_unfinished_nodes_are_those_that_lack_an_outcome_in_the_turn() -> None:
    """Outcomes of other turns, and of nodes that are not in the turn, do not count."""
    current = turn("wave-2", ["N1", "N2"], ("install_check", "config_edit"))
    snapshot = a_snapshot(
        a_cluster(THREE),
        outcome("N1", turn="wave-2"),
        outcome("N1", turn="wave-1", step="config_edit"),
        outcome("N2", turn="wave-2"),
        outcome("N2", turn="wave-2", step="config_edit"),
        outcome("N3", turn="wave-2"),
        turns=[current],
        facts={},
    )
    assert {"N1": 1} == snapshot.unfinished(current)


def test_the_plan_is_the_one_just_made_else_the_saved_one() -> None:
    """Else there is none."""
    other = Plan(cluster="other", nodes=(), waves=(), family={})
    saved = a_snapshot(a_cluster(THREE), plan=PLAN, facts={})
    assert saved.plan == PLAN
    assert replace(saved, decided=other).plan == other
    assert run().plan is None
    kept = replace(saved, decided=other).after(Go())
    assert (other, saved.record) == (kept.plan, kept.record)


# -- endings


def test_missing_steps_are_in_order_and_only_of_that_turn() -> None:
    """Nodes that have all their outcomes are left out."""
    steps = ("install_check", "config_edit", "cert_copy")
    current = turn("wave-1", THREE, steps)
    snapshot = a_snapshot(
        a_cluster(THREE),
        outcome("N1", turn="wave-1"),
        outcome("N2", turn="wave-0"),
        *(outcome("N3", turn="wave-1", step=step) for step in steps),
        turns=[current],
        facts={},
    )
    assert {"N1": ["config_edit", "cert_copy"], "N2": list(steps)} == missing_steps(snapshot, current, THREE)
    assert ["N1"] == list(missing_steps(snapshot, current, ["N1"]))


@pytest.mark.parametrize("one", [INSTALL_CHECK, SERVICE_RESTART], ids=lambda one: one.name)
def test_a_step_that_hangs_may_have_touched_its_node(one: Step) -> None:
    """If it can change one; the state is unknown then, and the message says so."""
    snapshot = run("wave-1")
    late = outcome_of(snapshot, turn("wave-1", ["N1"]), "N1", one, Ending.too_late("enough"))
    assert (Status.CANCELLED, ABANDONED, one.changes) == (late.status, late.slug, late.touched)
    assert f"N1: {one.name} did not end in time after the run was cancelled (enough)" == late.message
    assert "its state is unknown: check it with esync verify, then retry" == late.remedy
    stuck = outcome_of(snapshot, turn("wave-1", ["N1"]), "N1", one, Ending.stuck(30))
    assert (Status.FAILED, Failure.TIMEOUT, ABANDONED) == (stuck.status, stuck.failure, stuck.slug)
    assert f"N1: {one.name} exceeded the deadline of a step (30 s)" == stuck.message
    waiting = outcome_of(snapshot, turn("wave-1", ["N1"]), "N1", one, Ending.cancelled("enough"))
    assert (Status.CANCELLED, "", "cancelled: enough", "", False) == (
        waiting.status,
        waiting.slug,
        waiting.message,
        waiting.remedy,
        waiting.touched,
    )
    assert ("r", "wave-1", "N1", one.name, None) == (
        waiting.run,
        waiting.turn,
        waiting.node,
        waiting.step,
        waiting.failure,
    )


@pytest.mark.parametrize(("earlier", "status"), [(Status.CANCELLED, Status.CANCELLED), (Status.FAILED, Status.SKIPPED)])
def test_a_step_after_one_that_ended_the_node_is_not_tried(earlier: Status, status: Status) -> None:
    """Cancelled after a cancelled one, else skipped; it was not given up."""
    ending = Ending.not_tried(outcome("N1", earlier, step="config_edit"))
    assert (status, f"not tried: config_edit {earlier}", False) == (ending.status, ending.message, ending.given_up)


# -- evidence


def test_the_evidence_is_every_document_that_a_decision_reads() -> None:
    """And nothing else; kinds without documents are left out."""
    snapshot = a_snapshot(a_cluster(THREE), plan=PLAN)
    snapshot.store.put("r", "other", "x", "y")
    evidence = evidence_of(snapshot.store, "r")
    assert {"observed", "plan", "family"} == set(evidence)
    assert set(THREE) == set(evidence[DocumentKind.OBSERVED])
    assert DocumentKind.PLANNED in EVIDENCE


def test_the_conclusion_depends_on_every_document_and_field_but_not_on_the_writes() -> None:
    """Names, kinds, texts, and the record without its version."""
    record = RunRecord(id="r", cluster="shop", spec={}, verdict=Verdict.JOINED, created=outcome("N1").started)
    evidence = {"observed": {"N1": "one"}}
    digest = conclusion(record, evidence)
    assert digest == conclusion(record.model_copy(update={"version": 9}), evidence)
    others = (
        conclusion(record.model_copy(update={"summary": "x"}), evidence),
        conclusion(record, {"observed": {"N1": "two"}}),
        conclusion(record, {"observed": {"N2": "one"}}),
        conclusion(record, {"planned": {"N1": "one"}}),
        conclusion(record, {}),
    )
    assert len({digest, *others}) == 6


@pytest.mark.parametrize(
    ("kind", "turns", "purpose"),
    [
        ("rollout", ("canary",), Purpose.PLAN_AND_VERIFY),
        ("rollout", ("canary", "observe"), Purpose.PLAN_AND_VERIFY),
        ("plan", ("canary", "observe"), Purpose.PLAN),
        ("retire", ("canary", "observe"), Purpose.PLAN),
        ("rollout", ("canary", "observe", "verify"), Purpose.COMPLETE),
        ("rollout", ("canary", "observe", "wave-1", "verify"), Purpose.VERIFY),
        ("verify", ("canary",), Purpose.LOOK),
        ("doctor", ("canary",), Purpose.LOOK),
        ("verify", ("canary", "verify"), Purpose.VERIFY),
        ("renew", ("canary", "observe", "forget-1", "verify"), Purpose.VERIFY),
        ("retire", ("canary", "observe", "verify"), Purpose.VERIFY),
        ("rollback", ("canary", "observe", "verify"), Purpose.VERIFY),
    ],
)
def test_a_run_that_had_nothing_to_change_only_completes_its_evidence(
    kind: str, turns: tuple[str, ...], purpose: Purpose
) -> None:
    """It has just observed every node; after a wave, and in a run that did not observe, every node is observed.

    A rollout looks for more before its plan: where nothing is missing, that is the evidence.
    """
    made = run(*turns).record.model_copy(update={"kind": kind})
    assert purpose is purpose_of(made, made.turns[-1])

"""Rollback and cleanup as the decisions make them, and as reports show them: no node, no worker, no broker."""

import io
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from pipelines.audit.replay import replay
from pipelines.cli.picture import draw
from pipelines.report.build import build
from pipelines.report.closing import closing_lines
from pipelines.report.html import to_html
from pipelines.report.text import to_text
from pipelines.rollout import KINDS, kind_of
from pipelines.run.decisions_rollback import ALL_AT_ONCE
from pipelines.run.evidence import evidence_of
from pipelines.run.progress import Progress
from pipelines.run.snapshot import Reading, Snapshot
from pipelines.run.transitions import Next, after, first
from pipelines.usecases.runs import summary_of
from tasks.cluster import Cluster
from tasks.documents import RunDocuments
from tasks.steps.registry import STEPS
from tasks.undo.words import CHANGED_SINCE, OWN_CHANGE
from tests.unit.pipelines.report.sample_run import T0, cluster_of
from tests.unit.tasks.ektron.joined import joined_node
from workers.errors import BundleRefused
from workers.records import Change, DocumentKind, Event, RunRecord, RunState, Status, StepOutcome, Turn, Verdict
from workers.secrets.vault import Vault
from workers.store.memory import MemoryStore

Does = Callable[[str, str], dict[str, object]]  #: (node, step) -> fields of its outcome
#: Of a server whose service does not start after the restore.
FALLEN = {"status": Status.FAILED, "slug": "agent_failed", "touched": True, "message": "P1: it does not start"}
CONFLICT = {
    "status": Status.FAILED,
    "slug": "conflict",
    "message": "P1: one file was changed after run first",
    "changes": (
        Change(
            what=f"{CHANGED_SINCE}; restoring would change line 7",
            file="web.config",
            before="<a x='1' />",
            after="<a />",
        ),
        Change(what=f"{OWN_CHANGE}; restoring would change line 9", file="web.config", before="<b />", after="<c />"),
    ),
}


def well(_node: str, step: str) -> dict[str, object]:
    """Every step succeeds; the steps that can change something do."""
    return {"status": Status.CHANGED if step in {"rollback", "cleanup"} else Status.UNCHANGED, "message": "done"}


def on(node: str, step: str, **fields: object) -> Does:
    """As `well`, but for one step of one node."""
    return lambda there, that: fields if (there, that) == (node, step) else well(there, that)


def keep_seen(documents: RunDocuments, cluster: Cluster, down: Collection[str]) -> None:
    """Keeps what was seen before the plan: all as it should be, but for the services of `down`."""
    for node in cluster.node_names:
        facts = joined_node(node, cluster.node_names)
        service = facts.service.model_copy(update={"state": "stopped" if node in down else "running"})
        documents.keep_facts(DocumentKind.OBSERVED, facts.model_copy(update={"service": service}))


def run_of(
    kind: str,
    does: Does,
    only: tuple[str, ...] = (),
    *,
    down: Collection[str] = (),
    options: tuple[str, ...] = (),
    policy: Mapping[str, object] | None = None,
) -> tuple[Snapshot, tuple[Turn, ...]]:
    """A run through all its turns; `does` gives the outcome of each step. The services of `down` were seen stopped."""
    cluster, store = cluster_of(), MemoryStore()
    cluster = cluster.model_copy(update={"policy": cluster.policy.model_copy(update=policy or {})})
    record = RunRecord(
        id="second",
        kind=kind,
        cluster="shop",
        spec=cluster.model_dump(mode="json"),
        parent="first",
        only=only,
        options=options,
        created=T0,
    )
    store.create(record)
    keep_seen(RunDocuments(store, Vault(store, None), record.id), cluster, down)

    def snapshot() -> Snapshot:
        return Snapshot(record, Reading(store, record.id), RunDocuments(store, Vault(store, None), record.id))

    step = first(kind_of(kind), snapshot())
    while isinstance(step, Next):
        turn = step.turn
        number = len(record.turns)
        record = record.model_copy(update={"turns": (*record.turns, turn)})
        for place, node in enumerate(turn.nodes):
            at = T0 + timedelta(seconds=10 * number + place)
            for name in turn.steps:
                made = StepOutcome.model_validate(
                    {"run": "second", "turn": turn.name, "node": node, "step": name, "started": at, "ended": at}
                    | does(node, name)
                )
                store.record(made, 0)
        step = after(kind_of(kind), snapshot(), turn)
    update = {
        "verdict": step.verdict,
        "summary": step.summary,
        "state": RunState.CONCLUDED,
        "ended": T0 + timedelta(60),
    }
    record = record.model_copy(update=update)
    return snapshot(), record.turns


def names(turns: tuple[Turn, ...]) -> list[tuple[str, tuple[str, ...]]]:
    """The nodes of each turn."""
    return [(turn.name, turn.nodes) for turn in turns]


def test_every_step_of_every_kind_is_registered() -> None:
    """A chord with a step that no worker knows would wait forever."""
    assert {name for kind in KINDS.values() for name in kind.steps()} <= STEPS.keys()
    looking = {kind.name for kind in KINDS.values() if kind.read_only}
    assert looking == {"verify", "plan", "doctor", "retire-plan", "sync-status"}


def test_half_of_every_pool_goes_together_after_one_was_tried() -> None:
    """One logon first; then all nodes are checked, restored by halves of all pools at the same time, and compared."""
    snapshot, turns = run_of("rollback", well)
    assert [
        ("canary", ("S1",)),
        ("observe", ("S2", "P1", "P2")),
        ("rollback-1", ("S1", "P1")),
        ("rollback-2", ("S2", "P2")),
        ("verify", ("S1", "S2", "P1", "P2")),
    ] == names(turns)
    assert (Verdict.RESTORED, 0) == (snapshot.record.verdict, Verdict.RESTORED.exit_code)
    assert "4 nodes are as before run first" in snapshot.record.summary


def test_a_bundle_of_a_version_without_that_number_leads_to_the_same_verdict() -> None:
    """The first wave was called `rollback`; all other names count."""
    snapshot, turns = run_of("rollback", well)
    for older, fits in (("rollback", True), ("rollback-0", False)):
        called = {"rollback-1": older}
        renamed = [one.model_copy(update={"name": called.get(one.name, one.name)}) for one in turns]
        record = snapshot.record.model_copy(update={"turns": tuple(renamed)})
        outcomes = [one.model_copy(update={"turn": called.get(one.turn, one.turn)}) for one in snapshot.outcomes]
        with nullcontext() if fits else pytest.raises(BundleRefused, match="the turn rollback-1 of 2 nodes comes next"):
            assert replay(record, outcomes, evidence_of(snapshot.store, record.id), {}).stop.verdict is Verdict.RESTORED


@pytest.mark.parametrize("fields", [{"options": (ALL_AT_ONCE,)}, {"policy": {"whole_pool": True}}])
def test_all_nodes_go_together_if_someone_wants_that(fields: dict[str, Any]) -> None:
    """By an option of the rollback, or by the policy; a failed server then leaves no other one out."""
    _, turns = run_of("rollback", on("P1", "rollback", **FALLEN), **fields)
    assert ("rollback-1", ("S1", "S2", "P1", "P2")) == names(turns)[2]
    assert ("verify", ("S1", "S2", "P2")) == names(turns)[-1]


def test_servers_that_are_down_need_no_budget() -> None:
    """They all go first, whole pools too, and whatever order the policy has; the rest of their pool waits for them."""
    _, turns = run_of("rollback", well, down=("S1", "S2", "P2"), policy={"waves": (1,), "order": "pool"})
    assert [("rollback-1", ("S1", "S2", "P2")), ("rollback-2", ("P1",))] == names(turns)[2:4]


def test_the_last_server_of_a_pool_that_works_is_not_restarted() -> None:
    """The restart of the other one has failed; other pools are restored, and the verdict says what can be done."""
    snapshot, turns = run_of("rollback", on("P1", "rollback", **FALLEN))
    assert [("rollback-1", ("S1", "P1")), ("rollback-2", ("S2",)), ("verify", ("S1", "S2"))] == names(turns)[2:]
    assert Verdict.FAILED is snapshot.record.verdict
    assert snapshot.record.summary.endswith(
        "2 of 4 nodes are done; P2: not restored: no other server of pool live is known to work. Repair P1, "
        "then run it again: esync rollback first; with --all-at-once P2 goes, too"
    )
    results = {result.node: result for result in summary_of(snapshot, kind_of(snapshot.record.kind)).nodes}
    problem = results["P2"].problem
    assert (Status.SKIPPED, "not restored: no other server of pool live is known to work") == (
        results["P2"].status,
        problem.message,
    )
    screen = closing_lines(build(summary_of(snapshot, kind_of(snapshot.record.kind))), 100)
    assert any("P2  not restored: no other server of pool live is known to work" in line for line in screen)
    assert any("Repair P1, then run it again" in line for line in screen)


@pytest.mark.parametrize("fields", [{"down": ("P2",)}, {"policy": {"judge_waves": False}}])
def test_a_failed_restart_leaves_out_no_server_that_is_down_or_where_the_policy_judges_no_wave(
    fields: dict[str, Any],
) -> None:
    """Nothing can be lost there, or the policy says so."""
    _, turns = run_of("rollback", on("P1", "rollback", **FALLEN), **fields)
    assert {"P1", "P2"} <= {node for turn in turns if turn.stage == "rollback" for node in turn.nodes}


def test_only_the_selected_nodes_are_touched() -> None:
    """A rollback of one node logs on to no other, and the others have an outcome with a reason."""
    snapshot, turns = run_of("rollback", well, only=("P2",))
    assert {"P2"} == {node for turn in turns for node in turn.nodes}
    assert Verdict.RESTORED is snapshot.record.verdict
    results = {result.node: result for result in summary_of(snapshot, kind_of(snapshot.record.kind)).nodes}
    assert (Status.CHANGED, Status.SKIPPED) == (results["P2"].status, results["S1"].status)
    assert results["S1"].problem.message


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (CONFLICT, Verdict.FAILED),
        ({"status": Status.FAILED, "slug": "timeout"}, Verdict.FAILED),
        ({"status": Status.UNREACHABLE, "slug": "unreachable"}, Verdict.UNREACHABLE),
        ({"status": Status.SKIPPED, "slug": "logon_refused"}, Verdict.FAILED),
    ],
)
@pytest.mark.parametrize("step", ["rollback", "rollback_check"])
def test_a_failed_node_does_not_stop_the_others_from_being_restored(
    step: str, fields: dict[str, object], expected: Verdict
) -> None:
    """It is left out from then on and named in the verdict; all others are restored and compared.

    One that stops answering may be down: then the other server of its pool is left alone.
    """
    snapshot, turns = run_of("rollback", on("P1", step, **fields))
    assert expected is snapshot.record.verdict
    assert "P1" in snapshot.record.summary
    alone = step == "rollback" and expected is Verdict.UNREACHABLE
    assert f"{2 if alone else 3} of 4 nodes are done" in snapshot.record.summary
    assert ("P2: not restored: no other server of pool" in snapshot.record.summary) == alone
    assert ("S1", "S2", *(() if alone else ("P2",))) == turns[-1].nodes


def test_a_refused_account_ends_it_at_the_canary() -> None:
    """No other node is tried."""
    snapshot, turns = run_of(
        "rollback", on("S1", "rollback_check", status=Status.FAILED, slug="logon_refused", message="no")
    )
    assert [("canary", ("S1",))] == names(turns)
    assert Verdict.FAILED is snapshot.record.verdict


@pytest.mark.parametrize("kind", ["rollback", "cleanup"])
def test_no_node_answers(kind: str) -> None:
    """Some nodes are tried one after the other, nothing is changed, and the verdict says so."""
    snapshot, turns = run_of(kind, lambda _node, _step: {"status": Status.UNREACHABLE, "slug": "unreachable"})
    assert {"canary"} == {turn.stage for turn in turns}
    assert Verdict.UNREACHABLE is snapshot.record.verdict


def test_cleanup_takes_every_node_once() -> None:
    """One node first, then the others together; clean when each node was checked."""
    snapshot, turns = run_of("cleanup", well)
    assert [("canary", ("S1",)), ("cleanup", ("S2", "P1", "P2"))] == names(turns)
    assert (Verdict.CLEAN, 0) == (snapshot.record.verdict, Verdict.CLEAN.exit_code)
    snapshot, _ = run_of("cleanup", on("S1", "cleanup", status=Status.FAILED, message="S1: still there"))
    assert Verdict.FAILED is snapshot.record.verdict


def test_a_report_shows_the_difference() -> None:
    """Text and page show what was changed since the run: the current content and the one to restore."""
    snapshot, _ = run_of("rollback", on("P1", "rollback", **CONFLICT))
    report = build(summary_of(snapshot, kind_of(snapshot.record.kind)))
    text = to_text(report)
    assert "P1  web.config\n" in text
    assert "  - <a x='1' />\n  + <a />\n  made by the run; restoring would change line 9\n" in text
    assert "<b />" not in text
    assert "&lt;a x=&#39;1&#39; /&gt;" in to_html(report)
    assert all(step in to_html(report) for step in ("rollback_check", ">rollback<"))


@pytest.mark.parametrize(("kind", "expected"), [("rollback", ["look", "restore", "verify"]), ("cleanup", ["clean"])])
def test_the_grid_has_the_columns_of_the_kind(kind: str, expected: list[str]) -> None:
    """Each step that ran has a cell below a heading, and the progress bars are complete at the end."""
    snapshot, turns = run_of(kind, on("P1", kind, status=Status.FAILED, message="no"))
    progress = Progress(snapshot.record, kind_of(kind))
    progress.take(
        snapshot.record,
        [
            Event(kind="step.ended", turn=o.turn, node=o.node, step=o.step, status=o.status, message=o.message)
            for o in snapshot.outcomes
        ],
    )
    assert expected == list(kind_of(kind).columns)
    assert {column for _, column in progress.cells} == set(expected)
    assert {Status.FAILED: 1, Status.CHANGED: 3} == progress.counts()
    assert all(progress.steps(turn) == (len(turn.nodes),) * 2 for turn in turns)
    screen = io.StringIO()
    Console(file=screen, width=120, force_terminal=True, color_system=None).print(
        draw(progress, Console(file=screen, width=120, height=40))
    )
    assert all(heading in screen.getvalue() for heading in expected)

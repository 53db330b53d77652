"""What pages show: pure functions of runs, reports and plans."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.report.build import build
from pipelines.rollout import kind_of
from pipelines.run.plan import NodePlan, Plan
from pipelines.run.progress import Progress
from pipelines.usecases.glance import glance_of
from pipelines.usecases.overview import ClusterOverview
from pipelines.web.pages.buttons import ALL_AT_ONCE, Action, buttons_of, can_apply
from pipelines.web.pages.cluster_view import cluster_values
from pipelines.web.pages.compare_view import Line, compare_values
from pipelines.web.pages.grid import MARKS, PER_PAGE, Show, codes_of, counts_of, grid_of
from pipelines.web.pages.plan_view import plan_values
from pipelines.web.pages.rendering import ago, part, rendered
from pipelines.web.pages.run_view import in_words, panel_values, to_do
from tasks.steering import Steering
from tests.unit.pipelines.report.sample_run import T0, Sample, cluster_of, sample
from workers.records import Change, Event, RunRecord, RunState, Status, Verdict


def progress_of(made: Sample) -> Progress:
    """The progress of an invented run."""
    progress = Progress(made.record, kind_of(made.record.kind))
    progress.take(made.record, made.events)
    return progress


def test_a_node_is_a_letter_for_each_column_and_one_for_itself() -> None:
    """What failed, what was skipped after it, what was not reached, and what is only waiting can be told apart."""
    codes = codes_of(progress_of(sample(failed=["P1"], unreachable=["P2"])))
    columns = kind_of("rollout").columns
    assert {len(columns) + 1} == {len(letters) for letters in codes.values()}
    assert ("look", "config", "certs", "restart", "verify") == columns
    assert {"S1": "edddee"[:4] + "ed", "P1": "efssef", "P2": "u....u"} == {
        node: codes[node] for node in ("S1", "P1", "P2")
    }
    assert [("failed", 1), ("unreachable", 1), ("changed", 2)] == [(mark.word, n) for mark, n in counts_of(codes)]


def test_a_server_that_was_not_reached_is_not_called_refuted() -> None:
    """The final check names it, and its cell says what happened there; a server that was looked at is refuted."""
    record = sample().record.model_copy(update={"kind": "verify", "turns": ()})
    progress = Progress(record, kind_of("verify"))
    ends = [("P1", Status.UNCHANGED), ("P2", Status.UNREACHABLE)]
    told = [Event(kind="step.ended", node=n, turn="verify", step="install_check", status=end) for n, end in ends]
    progress.take(record, told)
    progress.refuted = frozenset({"P1", "P2"})
    codes = codes_of(progress)
    assert (["refuted", "refuted"], ["unreachable", "unreachable"]) == (
        [MARKS[letter].word for letter in codes["P1"]],
        [MARKS[letter].word for letter in codes["P2"]],
    )


TOLD = st.tuples(
    st.sampled_from(["started", "ended"]),
    st.sampled_from(["S1", "S2", "P1"]),
    st.sampled_from(["canary", "wave-1", "verify"]),
    st.sampled_from(["install_check", "cert_copy"]),
    st.sampled_from([*Status]),
)


@given(st.lists(TOLD))
def test_any_events_make_a_grid(events: list[tuple[str, str, str, str, Status]]) -> None:
    """In any order, again and again: each node has all its letters, and each letter is known."""
    made = sample()
    progress = Progress(made.record, kind_of("rollout"))
    told = [
        Event(kind=f"step.{kind}", node=node, turn=turn, step=step, status=status if kind == "ended" else "")
        for kind, node, turn, step, status in events
    ]
    progress.take(made.record, told)
    codes = codes_of(progress)
    assert {6} == {len(letters) for letters in codes.values()}
    assert set("".join(codes.values())) <= MARKS.keys()
    assert 4 == len(grid_of(progress, codes).rows) == len(codes)


def test_nodes_stand_in_their_waves() -> None:
    """The waves in their order, then those without one by pool, each with its counts."""
    grid = grid_of(progress := progress_of(sample(failed=["P1"], unreachable=["P2"])), codes_of(progress))
    assert [("wave-1", "staging"), ("wave-2", "live"), ("live", "")] == [(b.title, b.about) for b in grid.blocks]
    assert [("failed", 1)] == [(mark.word, number) for mark, number in grid.blocks[1].counts]
    assert "read-only" in grid.blocks[1].rows[0].reason


def test_rows_of_a_large_run_are_found() -> None:
    """Those in trouble first; by name, by pattern, by outcome; page after page."""
    progress = progress_of(sample(cluster_of(60, 60), failed=["P4", "P50"]))
    grid = grid_of(progress, codes_of(progress))
    assert grid.many
    assert ["P4", "P50"] == [row.node for row in Show().of(grid)[0]]
    assert ["P50"] == [row.node for row in Show(name="p50").of(grid)[0]]
    assert 10 == Show(name="p1?").of(grid)[1]
    assert 118 == Show("changed").of(grid)[1]
    first, second = Show("all").of(grid)[0], Show("all", page=2).of(grid)[0]
    assert (PER_PAGE, 60, 120) == (len(first), len(second), Show("all").of(grid)[1])
    assert set(first).isdisjoint(second)


def test_the_buttons_follow_from_the_state() -> None:
    """A run that lasts can be paused and cancelled, a paused one resumed, a held one promoted, an ended one retried."""
    made = sample(failed=["P1"])
    ended = build(made)
    lasts = build(replace(made, record=made.record.model_copy(update={"verdict": None, "state": RunState.RUNNING})))

    def actions(steering: Steering) -> list[str]:
        return [button.action.value for button in buttons_of(lasts, steering)]

    assert ["pause", "cancel"] == actions(Steering())
    assert ["resume", "cancel"] == actions(Steering(paused="by ann"))
    assert ["promote", "pause", "cancel"] == actions(Steering(held="wave-2"))
    assert ["pause", "cancel"] == actions(Steering(held="wave-2", unapproved=True))
    assert [] == actions(Steering(cancelled="enough"))
    of_ended = list(buttons_of(ended, Steering()))
    assert [(Action.RETRY, False), (Action.ROLLBACK, True)] == [(button.action, button.typed) for button in of_ended]
    assert [True] == [one.typed for one in buttons_of(lasts, Steering()) if one.action is Action.CANCEL]
    assert [None, ("all_at_once", ALL_AT_ONCE)] == [button.option for button in of_ended]
    assert "half of a pool at a time" in of_ended[1].hint
    _, together = buttons_of(ended, Steering(), whole_pool=True)
    assert (None, True) == (together.option, together.hint.endswith(", all together"))
    at_a_terminal = ended.model_copy(update={"kind": "sync-prove"})
    assert Action.RETRY not in [button.action for button in buttons_of(at_a_terminal, Steering())]


def test_only_a_plan_with_changes_can_be_applied() -> None:
    """Not one that is still being made, is empty, or belongs to a rollout."""
    made = sample()
    plan = made.record.model_copy(update={"kind": "plan", "verdict": Verdict.CHANGES_PENDING})
    assert can_apply(plan, made.plan)
    assert not can_apply(made.record, made.plan)
    assert not can_apply(plan, None)
    assert not can_apply(plan, Plan(cluster="shop", nodes=(), waves=(), family={}))
    assert not can_apply(plan.model_copy(update={"verdict": None}), made.plan)


def test_problems_name_their_nodes_and_their_remedy() -> None:
    """Of many nodes the first ones and their number, so that a page stays short."""
    shown = to_do(build(sample(failed=["P1", "P2"])))
    assert ("P1, P2", "clear the read-only attribute, then run the rollout again") == (shown[0].ranges, shown[0].fix)
    words = in_words([f"N{number}" for number in range(0, 4000, 2)])
    assert len(words) < 200
    assert words.endswith("… (2,000 servers)")


def test_servers_of_a_proven_cluster_are_correct() -> None:
    """What a rollout has changed and proven is correct now; without proof it is only changed."""
    made = sample(verdict=Verdict.JOINED)
    pools = cluster_values(made.cluster, build(replace(made, findings=None)))["pools"]
    assert {"correct"} == {node.mark.word for pool in pools for node in pool.nodes}
    assert {"not looked at"} == {
        node.mark.word for pool in cluster_values(made.cluster, None)["pools"] for node in pool.nodes
    }


def planned(*parts: NodePlan) -> Sample:
    """A run with that plan."""
    plan = Plan(cluster="shop", nodes=parts, waves=(tuple(part.node for part in parts),), family={})
    return replace(sample(), plan=plan)


def test_servers_with_the_same_changes_are_one_entry() -> None:
    """Their own names in file names do not count; a list of all servers does not make them different."""
    parts = [
        NodePlan(
            node=node, fingerprint="0" * 64, restart="the service reads what changes when it starts", files=3, bytes=9,
            changes=(
                Change(what="keys", file="a.config", before="4 missing (S1, S2, P1, P2)", after="one key per node"),
                Change(what="endpoint", file="web.config", before="Ektron.pfx", after=f"{node}_SyncClient.pfx"),
            ),
        )
        for node in ("S1", "S2", "P1")
    ]  # fmt: skip
    values = plan_values(planned(*parts, NodePlan(node="P2", fingerprint="1" * 64)))
    assert [("S1, S2, P1", 3, 2)] == [(group.ranges, group.nodes, group.changes) for group in values["groups"]]
    assert [("S1, S2, P1", "the service reads what changes when it starts")] == values["restarts"]
    assert "P2" == values["right"]
    assert None is plan_values(replace(sample(), plan=None))["plan"]


def test_two_runs_differ_in_servers_statements_and_times() -> None:
    """Only what is different is shown, servers with the same difference together."""
    bad, good = build(sample(failed=["P1", "P2"])), build(sample())
    tables = {title: lines for title, _, lines in compare_values(bad, good)["tables"]}
    assert [Line("P1, P2", "failed", "changed")] == tables["Servers that ended differently"]
    assert [("config.asset-load-balanced", "refuted: P1, P2")] == [
        (line.what, line.first) for line in tables["Statements with another result"]
    ]
    assert "install_check" in {line.what for line in tables["Time of each step"]}


def told(kind: str, verdict: Verdict, hours: float, **fields: object) -> RunRecord:
    """A run of the invented cluster that ended so many hours ago."""
    made = sample()
    ended = T0 - timedelta(hours=hours)
    fields = {"id": f"{kind}-{hours}", "kind": kind, "verdict": verdict, "ended": ended, "created": ended, **fields}
    return made.record.model_copy(update=fields)


def test_drift_is_what_came_after_the_proof() -> None:
    """A check that was refuted, a plan with changes, a cluster file that differs; nothing where all agrees."""
    cluster = cluster_of()
    proof = told("rollout", Verdict.JOINED, 10)
    known = ClusterOverview(name="shop", cluster="shop", proven=proof.ended)

    def drift(*records: RunRecord, refuted: bool = False) -> tuple[str, str]:
        seen = glance_of(known.model_copy(update={"drift": refuted}), cluster, [*records, proof]).drift
        return seen.kind, seen.text

    assert ("none", "none seen") == drift()
    assert ("none", "none seen") == drift(told("verify", Verdict.JOINED, 2))
    assert ("found", "found by verify") == drift(told("verify", Verdict.REFUTED, 2), refuted=True)
    assert ("found", "a plan has changes") == drift(told("plan", Verdict.CHANGES_PENDING, 1))
    assert ("unknown", "not proven since") == drift(told("rollout", Verdict.FAILED, 1))
    assert ("none", "none seen") == drift(told("verify", Verdict.LOCKED, 1))
    larger = glance_of(known, cluster_of(2, 3), [proof]).drift
    assert ("file", "its file has changed since") == (larger.kind, larger.text)
    never = glance_of(ClusterOverview(name="shop", cluster="shop"), cluster, [])
    assert (None, "never proven") == (never.state, never.drift.text)


def test_times_are_told_in_the_largest_unit() -> None:
    """With the exact time as title."""
    texts = [str(ago(T0 - timedelta(seconds=seconds), T0)) for seconds in (5, 300, 7200, 300_000)]
    assert ["just now", "5 min ago", "2 h ago", "3 days ago"] == [
        text.partition(">")[2].partition("<")[0] for text in texts
    ]
    assert 'title="2026-11-23 19:10:00 UTC"' in texts[1]


@settings(max_examples=30)
@given(st.text(max_size=80))
def test_every_text_is_escaped(text: str) -> None:
    """Whatever a server says: the panel of a run has exactly the elements that it has for a harmless text."""

    def shape(message: str) -> tuple[int, int]:
        made = sample(failed=["P1"])
        outcomes = tuple(one.model_copy(update={"message": message}) for one in made.outcomes)
        nodes = tuple(
            node.model_copy(update={"problem": node.problem.model_copy(update={"message": message, "remedy": message})})
            for node in made.nodes
        )
        report = build(replace(made, outcomes=outcomes, nodes=nodes))
        shown = (part("run_parts.html", "panel", panel_values(report)) or "").replace("<wbr>", "")
        return shown.count("<"), shown.count('"')

    assert shape("harmless") == shape(f"x {text}")


def test_a_part_that_a_page_does_not_have_is_no_template() -> None:
    """Only parts that are listed can be asked for."""
    assert None is part("run_parts.html", "cells", {})
    assert None is part("problem.html", "__init__", {})
    assert "Log on" in rendered("logon.html", me=None, at="", problem="", openid="", proxy="")

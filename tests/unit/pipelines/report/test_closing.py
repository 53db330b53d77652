"""The closing screen: one screen for any cluster, the worst first, commands last."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.report.build import build
from pipelines.report.closing import LINES, closing_lines
from pipelines.report.layout import folded
from pipelines.report.rows import QuestionRow, Report
from pipelines.rollout import kind_of
from pipelines.run.node_results import NOT_SELECTED, WAITING, NodeResult
from pipelines.run.node_state import NodeState
from tasks.ektron.rules.attestations import attestations
from tasks.ektron.rules.findings import Finding, Findings, InvariantState, Severity, ordered
from tests.unit.pipelines.report.sample_run import Sample, cluster_of, sample
from workers.errors import Failure, Problem
from workers.records import RunState, Status, Verdict

RUN = "20261123-191500-shop-7f3a2c"
WIDTHS = (80, 120, 200)
PATH = r"C:\Program Files (x86)\Ektron\EktronWindowsService40\Ektron.ASM.EktronServices40.exe.config"


def ended_as(
    node: str,
    status: Status,
    message: str,
    *,
    step: str = "config_edit",
    fix: str = "",
    state: NodeState | None = NodeState.UNTOUCHED,
    slug: str = "some",
) -> NodeResult:
    """A node that is not done."""
    failure = Failure.UNREACHABLE if status is Status.UNREACHABLE else Failure.FAILED
    problem = Problem(failure=failure, slug=slug, message=message, remedy=fix)
    if status in {Status.SKIPPED, Status.CANCELLED}:
        problem = Problem(message=message)
    return NodeResult(node=node, status=status, problem=problem, step=step, state=state, description="some state")


def finding(name: str, verdict: InvariantState, why: Mapping[str, str], remedy: str = "", **more: object) -> Finding:
    """What was found about one statement, with the reason of each node."""
    fields = {"evidence": "; ".join(f"{node}: {text}" for node, text in why.items()), **more}
    return Finding(invariant=name, verdict=verdict, nodes=tuple(why), reasons=dict(why), remedy=remedy, **fields)


def report_of(
    *nodes: NodeResult,
    made: Sample | None = None,
    findings: Findings | None = None,
    kind: str = "rollout",
    verdict: Verdict | None = Verdict.FAILED,
    **record: object,
) -> Report:
    """The report of a run in which these nodes ended like that, and the others as in `made`."""
    made = made or sample()
    ended = {node.node: node for node in nodes}
    state = RunState.CONCLUDED if verdict else RunState.RUNNING
    update = {"kind": kind, "verdict": verdict, "state": state, **record}
    return build(
        replace(
            made,
            record=made.record.model_copy(update=update),
            nodes=tuple(ended.get(node.node, node) for node in made.nodes),
            findings=findings if findings is not None else Findings(),
            kind=kind_of(kind),
        )
    )


def sketch() -> Report:
    """Sixty nodes of which four are not done, as different as they can be."""
    hangs = ended_as(
        "S20",
        Status.FAILED,
        "S20: the service EktronWindowsServices40 did not stop within 60 s",
        step="service_restart",
        fix="bring EktronWindowsServices40 to a stop on S20",
        state=NodeState.INTERRUPTED,
    )
    full = ended_as("S5", Status.FAILED, "disk C: is full", step="cert_copy", fix="free space on C:")
    refused = "check the server and its WinRM listener"
    gone = [
        ended_as(f"P{n}", Status.UNREACHABLE, f"p{n}.example.net:5986 refused the connection", fix=refused)
        for n in (10, 11)
    ]
    proven, refuted, unknown = InvariantState.PROVEN, InvariantState.REFUTED, InvariantState.UNKNOWN
    found = ordered(
        [
            finding("version.same-build", proven, {}),
            finding("keys.complete", refuted, {"S5": "no key of P1"}, "run a rollout"),
            finding("network.reach-8732-all-pairs", refuted, {"P10": "S1 cannot reach its port"}, "open TCP 8732"),
            finding("disk.free", unknown, {"P10": "not seen", "P11": "not seen"}),
            finding("family.expiry", refuted, {"S1": "certificates expired 2019-01-01"}, severity=Severity.WARNING),
            finding("family.weak-key", refuted, {"S1": "a" * 50}, severity=Severity.WARNING),
        ]
    )
    return report_of(hangs, full, *gone, made=sample(cluster_of(20, 40)), findings=found)


def test_the_screen_of_a_failed_run() -> None:
    """The worst first, each cause once with state and fix; what is safe; warnings and consequences; commands last."""
    assert closing_lines(sketch(), 80) == [
        "FAILED  60 nodes: 56 done, 2 failed, 2 not reached     48.2 s",
        "  S20       service_restart: the service EktronWindowsServices40 did not stop",
        "            within 60 s; files in place, restart owed, the service may be down",
        "            Fix: bring EktronWindowsServices40 to a stop on S20",
        "  S5        cert_copy: disk C: is full; untouched  Fix: free space on C:",
        "  P10, P11  not reached: port 5986 refused the connection; untouched",
        "            Fix: check the server and its WinRM listener",
        "Safe?  nothing half-written; S20's service may be down until it is restarted",
        "Also:  2 warnings (certificates expired 2019-01-01; family.weak-key), 3",
        "       consequences of the above",
        "Done:  180 files, 60 restarts, 1 of 6 statements proven, 360 steps in 48.2 s",
        f"Next:  esync retry {RUN}",
        f"       esync report {RUN} -o report.html",
        f"       esync rollback {RUN}",
    ]


@cache
def made_of(nodes: int) -> Sample:
    """A run of that many nodes."""
    return sample(cluster_of((nodes + 1) // 2, nodes // 2))


@pytest.mark.parametrize("nodes", [1, 4, 60, 300])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("failing", ["none", "one", "all alike", "all different"])
def test_every_run_fits_on_one_screen(nodes: int, width: int, failing: str) -> None:
    """At most 24 lines; a line is wider than the terminal only for a path or a command."""
    made = made_of(nodes)
    names = [node.node for node in made.nodes]
    chosen = {"none": [], "one": names[:1]}.get(failing, names)
    long = f"the agent could not write {PATH}, because another program holds it open and does not give it up"
    texts = {node: f"{long} ({node[::-1]})" if failing == "all different" else long for node in chosen}
    ended = [ended_as(node, Status.FAILED, text, fix=f"close {text}") for node, text in texts.items()]
    lines = closing_lines(report_of(*ended, made=made, verdict=Verdict.FAILED if chosen else Verdict.JOINED), width)
    assert len(lines) <= LINES
    for line in lines:
        words = line.replace(PATH, "path")
        assert len(line) <= width or line.lstrip().startswith("esync ") or len(words) <= width, line
    assert lines[-1].strip().startswith("esync ")
    assert chosen or 5 <= len(lines) <= 8


def test_problems_without_room_are_counted() -> None:
    """Sixty different causes: the first ones are shown, the others are one line."""
    made = sample(cluster_of(20, 40))
    ended = [ended_as(node.node, Status.FAILED, f"reason {node.node[::-1]} is new") for node in made.nodes]
    lines = closing_lines(report_of(*ended, made=made), 80)
    assert len(lines) == LINES
    (more,) = [line for line in lines if "more problems" in line]
    shown = sum(" config_edit: " in line for line in lines)
    assert more == f"  and {60 - shown} more problems on {60 - shown} nodes: see the report"


def test_failed_not_reached_and_not_tried_are_apart() -> None:
    """Of 300 nodes with one refused logon: one failed, one was not reached, 298 were not tried."""
    made = sample(cluster_of(100, 200))
    why = "not tried: the same account was refused at S1; another refusal could lock it"
    ended = [ended_as(node.node, Status.SKIPPED, why) for node in made.nodes[2:]]
    refused = ended_as("S1", Status.FAILED, "S1 refused the logon", step="install_check", fix="check the password")
    gone = ended_as("S2", Status.UNREACHABLE, "S2: no answer")
    head, *lines = closing_lines(report_of(refused, gone, *ended, made=made), 120)
    assert head.startswith("FAILED  300 nodes: 1 failed, 1 not reached, 298 not tried")
    assert ["S1", "S2", "S3..S100, P1..P200"] == [re.split(r"  +", line)[1] for line in lines[:3]]
    assert "Safe?  nothing was written" in lines


def test_waiting_and_unselected_nodes_are_no_problems() -> None:
    """Of a run that has not ended; the command to follow it is the next one."""
    waits = ended_as("P1", Status.SKIPPED, WAITING)
    other = ended_as("P2", Status.SKIPPED, NOT_SELECTED)
    lines = closing_lines(report_of(waits, other, verdict=None, ended=None, summary=""), 80)
    assert lines[0].startswith("RUNNING  4 nodes: 2 done, 1 waiting, 1 not selected")
    assert not any("P1" in line or "P2" in line for line in lines)
    early = report_of(
        waits,
        made=replace(sample(), outcomes=()),
        turns=(),
        findings=ordered([finding("a", InvariantState.PROVEN, {})]),
    )
    assert any(line.startswith("Done:") and "1 of 1 prerequisites hold" in line for line in closing_lines(early, 120))
    assert lines[-1] == f"Next:  esync watch {RUN}"


@pytest.mark.parametrize(
    ("state", "step", "sentence"),
    [
        (NodeState.RESTART_OWED, "service_restart", "P2 runs with the earlier configuration until it is restarted"),
        (NodeState.PARTLY, "cert_copy", "partly changed: P2"),
        (NodeState.INTERRUPTED, "cert_copy", "partly changed: P2"),
        (NodeState.INTERRUPTED, "service_restart", "P2's service may be down until it is restarted"),
        (NodeState.UNTOUCHED, "config_edit", "nothing half-written"),
    ],
)
def test_what_is_safe_follows_from_the_states(state: NodeState, step: str, sentence: str) -> None:
    """Which service may be down, owes a restart, or has only some of its changes."""
    lines = closing_lines(report_of(ended_as("P2", Status.FAILED, "no", step=step, state=state)), 120)
    (safe,) = [line for line in lines if line.startswith("Safe?")]
    assert safe.endswith(sentence)


def test_a_service_that_does_not_run_is_named_as_down() -> None:
    """By the last check of the cluster, which is better evidence than the state of the node."""
    stopped = ordered([finding("service.running", InvariantState.REFUTED, {"P2": "stopped"})])
    failed = ended_as("P2", Status.FAILED, "no", step="service_restart", state=NodeState.INTERRUPTED)
    lines = closing_lines(report_of(failed, findings=stopped), 120)
    assert "Safe?  nothing half-written; P2's service is down until it is started" in lines


def test_a_rollback_with_a_conflict_says_that_the_cluster_is_split() -> None:
    """It names the nodes of both kinds; then how to see the differences, to restore all, or to join all again."""
    conflict = ended_as("S2", Status.FAILED, "S2: one file was changed since the run", step="rollback")
    conflict = conflict.model_copy(
        update={"problem": conflict.problem.model_copy(update={"failure": Failure.CONFLICT})}
    )
    report = report_of(conflict, kind="rollback", parent="r-0", turns=(), made=replace(sample(), outcomes=()))
    lines = closing_lines(report, 120)
    assert any(line.endswith("the cluster is split: as before the run S1, P1, P2, not so S2") for line in lines)
    assert [line[7:].partition("    #")[0] for line in lines[-3:]] == [
        f"esync report {RUN} -o report.html",
        "esync rollback r-0 --node S2 --force",
        "esync rollout FILE",
    ]


def test_a_rollback_that_did_not_reach_a_node_is_started_again_for_it() -> None:
    """Nothing is forced where nothing was changed by others."""
    away = ended_as("S2", Status.UNREACHABLE, "no answer", step="rollback_check")
    report = report_of(away, kind="rollback", parent="r-0", turns=(), verdict=Verdict.UNREACHABLE)
    lines = closing_lines(report, 120)
    assert "Next:  esync rollback r-0 --node S2" in lines
    assert not any(line.endswith(f"rollback {RUN}") for line in lines)


def test_a_verify_names_refuted_nodes_and_explains_one() -> None:
    """A refuted node is not correct; statements that a rollout fixes are one problem; unknown ones come last."""
    refuted, unknown = InvariantState.REFUTED, InvariantState.UNKNOWN
    found = ordered(
        [
            finding("keys.complete", refuted, {"P1": "no key"}, "run a rollout"),
            finding("keys.match-cer", refuted, {"P1": "other key"}, "run a rollout, or edit it"),
            finding("clock.skew", refuted, {"S2": "600 s ahead"}, "set the clock"),
            finding("site.wspath", unknown, {"P2": "no answer in 10 s"}),
        ]
    )
    nodes = [NodeResult(node=node.node, status=Status.UNCHANGED) for node in sample().nodes]
    report = report_of(*nodes, findings=found, kind="verify", verdict=Verdict.REFUTED, turns=())
    head, *lines = closing_lines(report, 120)
    assert head.startswith("REFUTED  4 nodes: 2 refuted, 2 correct")
    assert lines[:4] == [
        "  S2  600 s ahead (clock.skew)  Fix: set the clock",
        "  P1  2 statements do not hold, first no key (keys.complete)  Fix: run a rollout",
        "  P2  could not be checked: no answer in 10 s (site.wspath)",
        "Safe?  nothing was written",
    ]
    assert f"Next:  esync explain S2 {RUN}" in lines
    assert not any("retry" in line or "rollback" in line for line in lines)


def test_what_follows_from_a_stopped_service_is_counted() -> None:
    """That it does not listen there and that no node reaches it; the same on a node whose service runs is a problem."""
    refuted = InvariantState.REFUTED
    found = [finding("service.running", refuted, {"S2": "stopped"})]
    found += [finding("network.reach-8732-all-pairs", refuted, {"S2": "no node reaches it"})]
    found += [finding("service.listening-8732", refuted, {"S2": "no", "P1": "no"})]
    nodes = [NodeResult(node=node.node, status=Status.UNCHANGED) for node in sample().nodes]
    report = report_of(*nodes, findings=ordered(found), kind="verify", verdict=Verdict.REFUTED, turns=())
    text = "\n".join(closing_lines(report, 120))
    assert "(service.listening-8732)" in text
    assert "network.reach" not in text
    assert "1 consequence of the above" in text


def test_what_is_unknown_because_a_file_cannot_be_read_is_counted() -> None:
    """Its remedies would help nothing; what is unknown on another node, too, is a problem of its own."""
    unknown = InvariantState.UNKNOWN
    found = [finding("config.files-usable", InvariantState.REFUTED, {"S2": "web.config: cut off"}, "repair it")]
    found += [finding("version.same-build", unknown, {"S2": "site build unknown"}, "install the same version")]
    found += [finding("site.wspath-answers", unknown, {"S2": "no WSPath", "P1": "not tested"}, "repair the site")]
    nodes = [NodeResult(node=node.node, status=Status.UNCHANGED) for node in sample().nodes]
    report = report_of(*nodes, findings=ordered(found), kind="verify", verdict=Verdict.REFUTED, turns=())
    text = "\n".join(closing_lines(report, 120))
    assert ("repair it" in text, "repair the site" in text, "install" in text) == (True, True, False), text
    assert "1 consequence of the above" in text


def test_checks_by_hand_are_counted() -> None:
    """Eleven questions are one part of one line."""
    report = report_of(kind="verify", verdict=Verdict.JOINED, turns=())
    questions = [QuestionRow(**dict(one)) for one in attestations(nodes=4, staging=2, production=2)]
    report = report.model_copy(update={"attestations": tuple(questions)})
    (also,) = [line for line in closing_lines(report, 120) if line.startswith("Also:")]
    assert f"{len(questions)} questions that only a person can answer" in also


@pytest.mark.parametrize("verdict", [Verdict.STOPPED, Verdict.CANCELLED, Verdict.STALE, Verdict.FAILED])
def test_the_summary_is_shown_where_no_problem_says_it(verdict: Verdict) -> None:
    """A run that stopped for another reason than a node says why."""
    lines = closing_lines(report_of(verdict=verdict, summary="enough for today"), 80)
    assert lines[1] == "  enough for today"


@given(
    st.lists(st.sampled_from([PATH, "esync retry -y", "esync report last -o a.html", "a", "word", "S1, S2;"])),
    st.integers(10, 120),
)
def test_paths_and_commands_are_never_broken(words: list[str], width: int) -> None:
    """Nothing is lost, and each path and command is on one line."""
    lines = folded(" ".join(words), width, "  ", "    ")
    assert " ".join(" ".join(lines).split()) == " ".join(" ".join(words).split())
    for word in {PATH, "esync retry -y", "esync report last -o a.html"}.intersection(words):
        assert sum(line.count(word) for line in lines) == words.count(word)


def test_a_node_that_is_being_changed_is_not_done() -> None:
    """Some of its steps have changed it; as soon as the last one has ended, it counts."""
    begun = NodeResult(node="P1", status=Status.CHANGED, state=NodeState.UNDER_WAY)
    assert ", 1 running" in closing_lines(report_of(begun, verdict=None), 100)[0]
    done = begun.model_copy(update={"state": NodeState.DONE})
    assert "running" not in closing_lines(report_of(done, verdict=None), 100)[0].partition("  ")[2]


def test_a_summary_without_room_ends_in_dots() -> None:
    """Four lines have room: who holds the servers, and both commands."""
    summary = "; ".join(f"esync verb-{number} 20261128-003611-four-servers-54e4adcc_4_0000" for number in range(4))
    shown = closing_lines(report_of(verdict=Verdict.LOCKED, summary=summary), 70)
    assert "esync verb-3 20261128-003611-four-servers-54e4adcc_4_0000" in "".join(shown[:5])
    shown = closing_lines(report_of(verdict=Verdict.LOCKED, summary=f"{summary}; {summary}"), 70)
    assert shown[4].endswith(" ...")


def test_after_a_stale_plan_comes_a_new_one() -> None:
    """A retry would change the servers without showing what."""
    made = sample()
    nodes = [NodeResult(node=node.node, status=Status.SKIPPED) for node in made.nodes]
    for verdict, follows in ((Verdict.STALE, "esync plan FILE"), (Verdict.STOPPED, f"esync retry {made.record.id}")):
        lines = closing_lines(report_of(*nodes, verdict=verdict, turns=()), 120)
        (first,) = [line for line in lines if line.startswith("Next:")]
        assert first.startswith(f"Next:  {follows}")
        assert any("esync retry" in line for line in lines) is (verdict is Verdict.STOPPED)


def test_a_run_that_ended_before_its_proof_is_followed_by_one() -> None:
    """All nodes are done, so there is nothing to retry; it is not known yet whether they are joined."""
    made = sample()
    without_proof = report_of(made=made, verdict=Verdict.CANCELLED, turns=made.record.turns[:-1])
    proof = "Next:  esync verify FILE    # all nodes are done; the run ended before it proved that they are joined"
    assert proof in closing_lines(without_proof, 120)
    assert not any("esync verify" in line for line in closing_lines(report_of(made=made, verdict=Verdict.JOINED), 120))

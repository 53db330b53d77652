"""One planner: a run does exactly what the plan shows, on generated clusters.

Judged by the machines' own journals: every file put in place, every folder made, every request to the service.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, example, given, note, settings

from lab.control.remote import LabProcess
from pipelines.run.plan import NodePlan, Plan
from pipelines.usecases import runs
from pipelines.usecases.runs import RunSummary
from tests.integration.generated_clusters import REFUSED, Shape, made, shapes
from tests.integration.harness import Harness, cluster_of, four_servers, on_disk, steps_of
from tests.integration.one_process import Esync, families_known
from tests.integration.simulated_servers import Action, Server
from tests.integration.test_rollout import SERVICE
from tests.sampling import examples
from workers.records import Change, Status, Verdict

EXAMPLES = int(os.environ.get("GENERATED_CLUSTERS", examples(whole=50, sample=12)))
BEYOND = {"keys.no-duplicates"}  #: rules that a run does not repair: a person has to do it
CHANGING = ("write", "spread", "mkdir", "remove", "touch")
SITE = r"C:\inetpub\wwwroot\CMS400"
OURS = "c:\\programdata\\esync-rollout"


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with families_known():
        yield


@pytest.mark.timeout(max(180, 4 * EXAMPLES))
@settings(
    max_examples=EXAMPLES,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],  # the phase `explain` takes minutes here
)
@given(shape=shapes())
@example(
    shape=Shape("8.0", SITE, ("S1", "0", "00"), 0, "pools", joined=True, wounds=((), (), ("key twice", "key empty")))
)
@example(
    shape=Shape(
        "8.0", SITE, ("S1", "0", "00"), 0, (1,), joined=True, wounds=(("asset flag 0",), (), ("key twice", "key empty"))
    )
)
def test_what_is_planned_is_done_and_then_nothing(shape: Shape) -> None:
    """Planning writes nothing; a run does exactly what the plan shows on each node; then the plan is empty."""
    plan_is_apply(shape)


def plan_is_apply(shape: Shape) -> None:
    """Plans, applies, plans again, and applies nothing."""
    esync = made(shape)
    try:
        planned = esync.rollout(kind="plan")
        assert {} == actions_of(esync)
        if planned.record.verdict not in {Verdict.CHANGES_PENDING, Verdict.NOTHING_TO_DO}:
            note(f"no plan: {planned.record.summary}")
            assert planned.record.verdict is esync.rollout().record.verdict
            assert {} == actions_of(esync)
            return
        assert planned.plan is not None
        applied_as_planned(esync, planned.plan, esync.rollout())
        nothing_is_left(esync)
    finally:
        esync.close()


def applied_as_planned(esync: Esync, plan: Plan, done: RunSummary) -> None:
    """The outcomes of the run and the journal of each machine agree with the plan."""
    assert stands(done), done.record.summary
    assert plan == done.plan
    for part in plan.nodes:
        server, steps = esync.servers[part.node], steps_of(done, part.node)
        made = [change for outcome in steps.values() for change in outcome.changes]
        edits = [change for change in part.changes if is_edit(change)]
        assert edits == [change for change in made if is_edit(change)], "the plan's own values"
        assert {place(change) for change in part.changes} == {place(change) for change in made} - {"restart"}
        assert bool(part.restart) == ("restart" in {place(change) for change in made})
        machine_did(server, part)
    for server in esync.servers.values():
        server.journal.clear()


def stands(done: RunSummary) -> bool:
    """Whether the run ended joined, or only rules are refuted that no run repairs."""
    refuted = {finding.invariant for finding in done.findings.refuted_errors} if done.findings else set()
    return done.record.verdict is (Verdict.REFUTED if refuted else Verdict.JOINED) and refuted <= BEYOND


def machine_did(server: Server, part: NodePlan) -> None:
    """The machine wrote exactly the planned files, and started the service as often as planned."""
    actions = [action for action in server.journal if not action.target.casefold().startswith(OURS)]
    if part.empty:
        assert [] == server.journal
    asked = [action.what for action in actions if action.what in {"start", "stop"}]
    assert bool(part.restart) == ("start" in asked)
    assert len(asked) == len(set(asked)), "at most one stop and one start"
    files = [action for action in actions if action.what in {"put", "delete", "touch"}]
    assert part.files == sum(1 for action in files if action.what == "put" and "_Sync" in action.target)
    assert set() == {action.target.casefold() for action in files} - announced(part, files)


def announced(part: NodePlan, files: Iterable[Action]) -> set[str]:
    """The files that the plan names, or whose folder it names."""
    places = {change.file.casefold() for change in part.changes}
    found = {action.target.casefold() for action in files}
    recycled = {path for path in found if path.endswith("web.config") and any(_is_asset(place) for place in places)}
    return recycled | {path for path in found if path in places or path.rpartition("\\")[0] in places}


def _is_asset(path: str) -> bool:
    """Whether a change of this file recycles the site, by touching its web.config."""
    return path.endswith("assetmanagement.config")


def nothing_is_left(esync: Esync) -> None:
    """The next plan is empty, and a run on top of it changes no file, no time, and no service."""
    started = {name: (server.service.pid, server.service.started) for name, server in esync.servers.items()}
    again = esync.rollout(kind="plan")
    assert (Verdict.NOTHING_TO_DO, {}) == (again.record.verdict, actions_of(esync)), again.plan
    assert again.record.summary.startswith("nothing to do")
    done = esync.rollout()
    assert (True, {}) == (stands(done), actions_of(esync)), done.record.summary
    others = ["observe"] if len(esync.servers) > 1 else []  # the canary has seen the only node
    assert ["canary", *others, "verify"] == [turn.name for turn in done.record.turns], "no turn that changes nodes"
    assert {Status.UNCHANGED} == {node.status for node in done.nodes}
    assert started == {name: (server.service.pid, server.service.started) for name, server in esync.servers.items()}


def actions_of(esync: Esync) -> dict[str, list[Action]]:
    """The actions of each machine that did something."""
    return {name: list(server.journal) for name, server in esync.servers.items() if server.journal}


def is_edit(change: Change) -> bool:
    """Whether it is a change of a configuration file, which the plan and the step describe alike."""
    return change.file.casefold().endswith(".config")


def place(change: Change) -> str:
    """What is changed, and where. Of certificate files the step tells how many it wrote, and each that it removed."""
    if change.what.startswith("service "):
        return "restart"
    if change.what == "security files of others":
        return f"removed from {change.file}"
    if change.what.startswith("removed"):
        return f"removed from {change.file.rpartition(chr(92))[0]}"
    return f"{change.what} {change.file}"


def looked_at(lab: LabProcess, node: str) -> dict[str, tuple[int, bytes]]:
    """Every file and folder on the disk of a node, with its time."""
    paths = lab.disk(node).rglob("*")
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in paths}


@pytest.mark.integration
def test_over_a_real_wire_a_node_whose_plan_is_empty_is_left_alone(harness: Harness, tmp_path: Path) -> None:
    """With real sessions, workers and store no byte and no time changes there, and no change is requested."""
    with four_servers(tmp_path / "lab") as lab:
        assert harness.rollout(cluster_of(lab)).record.verdict is Verdict.JOINED
        on_disk(lab, "S2", rf"{SERVICE}\P1_SyncClient.pvk").unlink()
        lab.agent("P2", {"op": "service", "name": "EktronWindowsServices30", "action": "stop"})
        made_plan = harness.rollout(cluster_of(lab), kind="plan")
        saved = runs.saved_plan(harness.engine, made_plan.record.id)
        assert ["S1", "P1"] == [part.node for part in saved.plan.nodes if part.empty]
        disks = {node: looked_at(lab, node) for node in ("S1", "P1")}
        reports = {node: lab.report(node) for node in disks}
        done = harness.rollout(saved.spec, plan=saved)
        assert done.record.verdict is Verdict.JOINED
        assert {"S2", "P2"} == {node for turn in done.record.turns if turn.stage == "wave" for node in turn.nodes}
        restarted = {node for node in ("S2", "P2") if steps_of(done, node)["service_restart"].changes}
        assert {"S2", "P2"} == restarted == {part.node for part in saved.plan.nodes if part.restart}
        for node, report in reports.items():
            assert disks[node] == looked_at(lab, node)
            assert report["service"] == lab.report(node)["service"]
            asked = {name: lab.report(node)["operations"].get(name, 0) for name in CHANGING}
            assert asked == {name: report["operations"].get(name, 0) for name in CHANGING}
        assert harness.rollout(cluster_of(lab), kind="plan").record.verdict is Verdict.NOTHING_TO_DO


def test_a_plan_says_that_the_site_is_recycled() -> None:
    """If only the asset configuration changes, web.config is touched, and the plan shows it."""
    esync = made(Shape("8.0", SITE, ("S1",), 0, "all", joined=True, wounds=(("asset flag 0",),)))
    try:
        plan = esync.rollout(kind="plan").plan
        assert plan is not None
        assert rf"{SITE}\web.config" in {change.file for change in plan.nodes[0].changes}
    finally:
        esync.close()


@pytest.mark.parametrize("elsewhere", [(), ("asset flag 0",)])
@pytest.mark.parametrize("wound", sorted(REFUSED))
def test_a_plan_foresees_what_cannot_be_edited(wound: str, elsewhere: tuple[str, ...]) -> None:
    """If a file cannot be edited, planning refuses it, and a rollout writes nothing on any server."""
    esync = made(Shape("8.0", SITE, ("S1", "P1"), 0, "all", joined=True, wounds=(elsewhere, (wound,))))
    try:
        planned, done = esync.rollout(kind="plan"), esync.rollout()
        assert [Verdict.FAILED] * 2 == [planned.record.verdict, done.record.verdict]
        assert planned.record.summary == done.record.summary
        assert "Nothing was written anywhere" in planned.record.summary
        assert "P1" in planned.record.summary
        assert {} == actions_of(esync), "nothing was written before it was refused"
        assert Status.FAILED is next(node.status for node in planned.nodes if node.node == "P1")
    finally:
        esync.close()

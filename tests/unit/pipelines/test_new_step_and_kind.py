"""One new step and one new kind of run are two values; all code that shows or steers runs then supports them."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from pipelines.cli.picture import draw
from pipelines.report.build import build
from pipelines.report.html import to_html
from pipelines.report.text import to_text
from pipelines.rollout import CANARY, KINDS, WAVE, kind_of
from pipelines.run.elapsed import Stopwatch
from pipelines.run.kinds import Kind, Stage
from pipelines.run.progress import Progress
from pipelines.run.snapshot import Snapshot, Stop
from pipelines.usecases import control, rollback, runs
from tasks.step import Done, Work
from tasks.step_values import Step
from tasks.steps.registry import CONFIG_EDIT, STEPS
from tests.unit.pipelines import steered_workers
from tests.unit.pipelines.audit.bundled_run import MadeUpRun
from tests.unit.pipelines.steered_workers import PASSWORD, Site
from tests.unit.pipelines.test_steered_runs import drained, in_the_wave, watched
from tests.unit.tasks.ektron.joined import FOUR
from workers.errors import NodeRefused
from workers.records import Status, Verdict


def _drained(work: Work) -> Done:
    return Done(message=f"{work.node.name} takes no new requests")


DRAIN = Step(name="divert", run=_drained, heading="divert", changes=True, keeps_backups=True, completed="drained")


def _not_drained(snapshot: Snapshot) -> list[str]:
    gone = snapshot.in_stage("maintenance") | snapshot.ended().keys()
    return [name for name in snapshot.cluster.node_names if name not in gone]


def _all_drained(snapshot: Snapshot) -> Stop:
    failed = [node for node, outcome in snapshot.ended().items() if outcome.status is Status.FAILED]
    return Stop(Verdict.FAILED if failed else Verdict.CLEAN, f"{len(failed)} nodes could not be drained")


MAINTENANCE = Kind(
    name="maintenance",
    stages=(CANARY, Stage(name="maintenance", nodes=_not_drained, steps=(DRAIN,), then=_all_drained)),
    parent="repeats",
    retry="",
)
WITHOUT_DRAIN = KINDS["rollout"]
WITH_DRAIN = replace(
    WITHOUT_DRAIN,
    stages=tuple(
        replace(stage, steps=(DRAIN, *stage.steps)) if stage is WAVE else stage for stage in WITHOUT_DRAIN.stages
    ),
)


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only two places that change."""
    monkeypatch.setitem(STEPS, DRAIN.name, DRAIN)
    monkeypatch.setitem(KINDS, MAINTENANCE.name, MAINTENANCE)
    monkeypatch.setitem(KINDS, WITH_DRAIN.name, WITH_DRAIN)


def shown_live(made: MadeUpRun) -> str:
    """The live view of a run at its end."""
    progress = Progress(made.record, kind_of(made.record.kind))
    progress.take(made.record, made.store.events(made.id))
    screen = io.StringIO()
    console = Console(file=screen, width=160, height=40)
    console.print(draw(progress, console))
    return screen.getvalue()


@pytest.mark.parametrize("kind", ["maintenance", "rollout"])
def test_the_step_is_shown_wherever_a_run_is_shown(kind: str) -> None:
    """Live view, report as text and as page, and status name the step, its column and its failure."""
    made = MadeUpRun(kind, ends={("P1", "divert"): Status.FAILED, ("P2", "divert"): Status.CHANGED})
    known = runs.summary(made.engine, made.id)
    assert "divert" in kind_of(kind).columns
    header = shown_live(made).splitlines()[1].split()
    assert header[-len(kind_of(kind).columns) :] == list(kind_of(kind).columns)
    report = build(known)
    assert "divert" in to_text(report)
    assert ">divert<" in to_html(report)
    status = runs.status(made.engine, made.id)
    assert ("divert", Status.FAILED) == (status.nodes["P1"].step, status.nodes["P1"].status)


def test_the_node_state_follows_from_the_step() -> None:
    """The sentence about a node that the step has changed is the step's own."""
    made = MadeUpRun("maintenance", ends={("P2", "divert"): Status.CHANGED})
    now = {result.node: result.description for result in runs.summary(made.engine, made.id).nodes}
    assert now["P2"] == "drained"
    assert made.record.verdict is Verdict.CLEAN


def test_the_plan_counts_the_step() -> None:
    """The kind of run that plans ends before the first turn that can change a node, with or without the new step."""
    made = MadeUpRun("plan")
    assert made.record.verdict is Verdict.NOTHING_TO_DO
    assert {"look"} == set(kind_of("plan").columns)


def test_a_run_of_the_kind_can_be_retried() -> None:
    """A retry is a run of the same kind, on the nodes that failed in the new step."""
    made = MadeUpRun("maintenance", ends={("P1", "divert"): Status.FAILED})
    again = control.retry(made.engine, made.id)
    assert ("maintenance", ("P1",), made.id) == (again.kind, again.only, again.parent)


def test_a_run_of_the_kind_can_be_rolled_back() -> None:
    """Because the step keeps backups; the nodes are those that had their turn."""
    made = MadeUpRun("maintenance", ends={("S1", "divert"): Status.CHANGED})
    undone = rollback.rollback(made.engine, made.id)
    assert ("rollback", FOUR, made.id) == (undone.kind, undone.only, undone.parent)


def _undrained(work: Work) -> Done:
    work.session.ask([], deadline=5)
    return Done(message="takes requests again")


UNDRAIN = Step(name="revert", run=_undrained, heading="revert", changes=True, always=True)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    """Four nodes, and a rollout whose waves end with a step that always runs."""
    monkeypatch.setenv(PASSWORD, "no node checks it")
    wave = replace(WAVE, steps=(*WAVE.steps, UNDRAIN))
    stages = tuple(wave if stage is WAVE else stage for stage in WITHOUT_DRAIN.stages)
    monkeypatch.setitem(KINDS, "rollout", replace(WITHOUT_DRAIN, stages=stages))
    for steps in (STEPS, steered_workers._STEPS):
        monkeypatch.setitem(steps, UNDRAIN.name, UNDRAIN)
    return Site()


def ends_of(site: Site, run: str) -> dict[str, set[Status]]:
    """Each step of the first wave, with how it ended on the nodes."""
    ends: dict[str, set[Status]] = {}
    for outcome in site.store.outcomes(run, "wave-1"):
        ends.setdefault(outcome.step, set()).add(outcome.status)
    return ends


def test_a_step_that_always_runs_does_so_after_a_failure(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps between the failure and it are skipped."""

    def failing(_: Work) -> Done:
        raise NodeRefused("no")

    monkeypatch.setitem(steered_workers._STEPS, CONFIG_EDIT.name, replace(CONFIG_EDIT, run=failing))
    run = in_the_wave(site)
    drained(site, until="esync.join_and_verify")
    assert ends_of(site, run) == {
        "install_check": {Status.UNCHANGED},
        "config_edit": {Status.FAILED},
        "cert_copy": {Status.SKIPPED},
        "service_restart": {Status.SKIPPED},
        "revert": {Status.UNCHANGED},
    }


def test_a_step_that_always_runs_does_so_after_a_cancel(site: Site) -> None:
    """The run ends only when it has been done, also where its messages were lost and no worker holds the node."""
    run = in_the_wave(site)
    site.app.waiting.clear()
    control.cancel(site.engine, run, "wrong window")
    watch = Stopwatch(1, site.clock)
    watched(site, run, watch, 1)
    assert ends_of(site, run)["config_edit"] == {Status.CANCELLED}
    assert "revert" not in ends_of(site, run)
    for _ in range(30):
        watched(site, run, watch, 1)
        drained(site)
    assert ends_of(site, run)["revert"] == {Status.UNCHANGED}
    assert site.store.run(run).verdict is Verdict.CANCELLED

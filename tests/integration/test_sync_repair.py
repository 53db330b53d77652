"""The gate of a proof whose first sync has failed: a person repairs search, and the sync is proven once more."""

from collections.abc import Iterator
from contextlib import suppress
from io import StringIO

import pytest
from rich.console import Console

from pipelines.audit.replay import replay
from pipelines.cli.picture import draw
from pipelines.cli.results import report_of
from pipelines.coordinator import snapshot_of
from pipelines.reconcile import resume_stalled
from pipelines.report.sync_rows import build_sync
from pipelines.run.elapsed import Stopwatch
from pipelines.run.evidence import evidence_of
from pipelines.usecases import control
from pipelines.usecases import sync as syncs
from pipelines.usecases.runs import RunSummary
from pipelines.usecases.updates import progress_of
from pipelines.web.pages.buttons import Action, buttons_of
from pipelines.web.pages.run_view import head_values
from tasks.steering import Steering
from tasks.sync_settings import SyncStart
from tasks.syncing.options import SyncOptions
from tests.integration.one_process import Esync, Life, WorkerDied, families_known
from tests.integration.sync_world import SITE_PASSWORD, SITE_SECRET, Deed, World, a_sync_cluster
from workers.records import RunRecord, RunState, Verdict
from workers.sites.memory import Asked, Page


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Four servers; a sync stops at search before it reaches the second production server."""
    monkeypatch.setenv(SITE_PASSWORD, SITE_SECRET)
    made = Esync(a_sync_cluster())
    with families_known():
        yield World(made, script=stopped)
    made.close()


def stopped(world: World) -> list[Deed]:
    """A sync that fails at the search catalogs."""
    failed = world.note("SyncUpdatingSearchCatalogsFailed", "search catalogs: not found")
    return [world.note("SyncStarted"), world.copied("S1", "S2"), world.copied("S1", "P1"), failed, world.done]


def proof(world: World, *, repair: bool = True, start: SyncStart = "http") -> RunRecord:
    """A proof as it is when nothing more happens by itself."""
    asked = SyncOptions(node="S1", profile="Nightly", start=start, repair=repair)
    return world.esync.store.run(syncs.begin(world.esync.engine, world.esync.cluster, syncs.PROVE, asked).id)


def at_the_gate(world: World, start: SyncStart = "http") -> RunRecord:
    """A proof that waits there, and says what to do."""
    record = proof(world, start=start)
    assert RunState.RUNNING is record.state, record.summary
    assert "retry" == Steering.of(world.esync.store, record.id).held
    (said,) = [event.message for event in world.esync.store.events(record.id) if event.kind == "run.held"]
    for what in ("Search Config", "CMS400 v80", r"C:\inetpub\wwwroot\CMS400", "P2", f"esync promote {record.id}"):
        assert what in said
    page = StringIO()
    shown = Console(width=80, file=page)
    shown.print(draw(progress_of(world.esync.store, record), shown))
    assert said in " ".join(page.getvalue().split())
    steering, report = Steering.of(world.esync.store, record.id), report_of(world.esync.engine, record)
    head = head_values(progress_of(world.esync.store, record), {}, steering, report)
    assert f"It waits for a person: {said}" == head["summary"]
    assert ["Prove again"] == [one.text for one in buttons_of(report, steering) if one.action is Action.PROMOTE]
    return record


def ended(world: World, record: RunRecord) -> RunSummary:
    """The end of the run: no server has a canary, and its evidence leads to the same end."""
    known = world.esync.ended(record)
    assert {} == world.canaries()
    store, run = world.esync.store, known.record
    again = replay(run, store.outcomes(run.id), evidence_of(store, run.id), store.flags(run.id))
    assert (run.verdict, run.summary) == (again.stop.verdict, again.stop.summary)
    return known


def test_what_a_person_repairs_at_the_gate_is_proven_by_a_second_sync(world: World) -> None:
    """The second sync has to bring the file only to the server that lacks it."""
    record = at_the_gate(world)
    world.script = lambda it: it.usual(("P2",))
    control.promote(world.esync.engine, record.id, "ann")
    known = ended(world, record)
    assert (Verdict.PROVEN, 2) == (known.record.verdict, world.syncs), known.record.summary
    found = build_sync(snapshot_of(world.esync.engine, known.record))
    assert ("ended", "") == (found.state, found.gate)
    assert [True] * 4 == [server.arrived for server in found.servers]


def test_a_person_who_starts_syncs_starts_the_second_too(world: World) -> None:
    """What the status still shows of the first sync is no sign of the second."""
    answer, waits = world.answer, [9, 10_000]

    def clicked(asked: Asked) -> Page:
        if "SyncStatusHandler" in asked.path and not world.running and len(waits) > world.syncs:
            waits[world.syncs] -= 1
            if not waits[world.syncs]:
                world.start()
        return answer(asked)

    world.answer = clicked  # type: ignore[method-assign]
    record = at_the_gate(world, start="gate")
    waits[1], world.script = 9, lambda it: it.usual(("P2",))
    control.promote(world.esync.engine, record.id, "ann")
    known = ended(world, record)
    assert (Verdict.PROVEN, 2) == (known.record.verdict, world.syncs), known.record.summary
    kinds = [event.kind for event in world.esync.store.events(record.id)]
    assert 2 == kinds.count("sync.gate")


def test_a_second_sync_that_fails_refutes_the_proof_with_its_cause(world: World) -> None:
    """There is no third one."""
    record = at_the_gate(world)
    control.promote(world.esync.engine, record.id, "ann")
    known = ended(world, record)
    assert (Verdict.REFUTED, 2) == (known.record.verdict, world.syncs), known.record.summary
    assert "P2 (1 of 4 servers): " in known.record.summary
    assert "Search Config" in build_sync(snapshot_of(world.esync.engine, known.record)).gate


def test_a_gate_to_which_no_person_comes_closes(world: World) -> None:
    """After `sync.begins` seconds the run ends as it does without a gate: nothing is started."""
    record, now = at_the_gate(world), [0.0]
    watch = Stopwatch(5, lambda: now[0])
    resume_stalled(world.esync.engine, record.id, watch)
    now[0] += 2
    resume_stalled(world.esync.engine, record.id, watch)
    known = ended(world, record)
    assert (Verdict.REFUTED, 1) == (known.record.verdict, world.syncs), known.record.summary
    said = [event.message for event in world.esync.store.events(record.id) if event.kind == "run.promoted"]
    assert ["1 s have passed (sync.begins)"] == said


def test_a_proof_cancelled_at_the_gate_leaves_nothing(world: World) -> None:
    """The canaries are removed although no person let the run continue."""
    record = at_the_gate(world)
    control.cancel(world.esync.engine, record.id, "wrong window")
    resume_stalled(world.esync.engine, record.id)
    assert Verdict.CANCELLED is ended(world, record).record.verdict


def test_without_a_terminal_no_gate_waits(world: World) -> None:
    """The run ends at once, and the report names what to do."""
    known = ended(world, proof(world, repair=False))
    assert (Verdict.REFUTED, 1) == (known.record.verdict, world.syncs), known.record.summary
    assert "Search Config" in build_sync(snapshot_of(world.esync.engine, known.record)).gate


def test_a_profile_that_has_synced_before_opens_no_gate(world: World) -> None:
    """Search is damaged by a first sync only."""
    for deed in (world.note("SyncStarted"), world.note("SyncEnded")):
        deed()
    assert (Verdict.REFUTED, 1) == (ended(world, proof(world)).record.verdict, world.syncs)


#: Moments of the worker on S1 at which it dies -> the syncs that were started by then.
DEATHS = {"while the first sync is forgotten": (2, 1), "after the second request": (10, 2)}


@pytest.mark.parametrize(("moment", "started"), DEATHS.values(), ids=DEATHS)
def test_a_death_after_the_gate_neither_loses_nor_repeats_the_second_sync(
    world: World, moment: int, started: int
) -> None:
    """The next worker continues, and the run does not wait again."""
    record, life = at_the_gate(world), Life(moment)
    world.script = lambda it: it.usual(("P2",))
    world.esync.crew.send("S1", life)
    with suppress(WorkerDied):
        control.promote(world.esync.engine, record.id, "ann")
    assert life.died_at
    assert started == world.syncs
    world.esync.resume(record.id)
    assert (Verdict.PROVEN, 2) == (ended(world, record).record.verdict, world.syncs)

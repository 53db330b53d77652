"""`esync sync` from its request to its verdict, in one process: judged by the disks, the requests and the history."""

import copy
import html
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from jsonschema import validate

from lab.machine.paths import WindowsPath
from pipelines.coordinator import snapshot_of
from pipelines.report.schemas import schema
from pipelines.report.sync_rows import SyncReport, build_sync
from pipelines.report.sync_text import sync_lines
from pipelines.usecases import control
from pipelines.usecases import sync as syncs
from pipelines.usecases.rollback import cleanup, rollback
from pipelines.usecases.runs import RunSummary
from pipelines.web.pages.rendering import part
from pipelines.web.pages.run_view import panel_values
from pipelines.web.pages.scene import Scene
from tasks.cluster import Cluster
from tasks.syncing.options import SyncOptions
from tests.haproxy import BACKEND, haproxy
from tests.integration.one_process import Esync, Life, WorkerDied, families_known
from tests.integration.sync_world import FOLDER, SITE_PASSWORD, SITE_SECRET, Deed, World, a_sync_cluster
from workers.errors import InputRefused
from workers.records import Verdict


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The password of the site user."""
    monkeypatch.setenv(SITE_PASSWORD, SITE_SECRET)


@pytest.fixture
def world() -> Iterator[World]:
    """Four servers with the product, and their sites."""
    made = Esync(a_sync_cluster())
    with families_known():
        yield World(made)
    made.close()


def run(world: World, kind: str, node: str = "S1", profile: str = "Nightly", start: str = "http") -> RunSummary:
    """A whole run."""
    options = SyncOptions(node=node, profile=profile, start="http" if start == "http" else "gate")
    asked = SyncOptions() if kind in {syncs.STATUS, syncs.CLEAR} else options
    record = syncs.begin(world.esync.engine, world.esync.cluster, kind, asked)
    return world.esync.ended(record)


def report(world: World, known: RunSummary) -> SyncReport:
    """Its report."""
    return build_sync(snapshot_of(world.esync.engine, known.record))


def test_status_shows_every_server_and_changes_nothing(world: World) -> None:
    """Service, profiles, what runs, load balancing: asked of each node itself."""
    before = {name: list(server.journal) for name, server in world.esync.servers.items()}
    known = run(world, syncs.STATUS)
    assert known.record.verdict is Verdict.ANSWERED, known.record.summary
    found = report(world, known)
    assert ["S1", "S2", "P1", "P2"] == [server.node for server in found.servers]
    assert {"Nightly"} == {profile.name for server in found.servers for profile in server.profiles}
    assert {"", None} >= {server.running for server in found.servers}
    assert {"S1", "S2", "P1", "P2"} == {node for node, _, _ in world.requests}
    assert before == {name: list(server.journal) for name, server in world.esync.servers.items()}
    text = "\n".join(sync_lines(found))
    assert "profile Nightly: Upload" in text
    scene = Scene(world.esync.engine, known.record.id).refresh()
    shown = part("run_parts.html", "panel", panel_values(scene.report(), scene.answer))
    assert text in html.unescape(shown or "")


def test_a_proof_reaches_every_server_and_leaves_nothing(world: World) -> None:
    """The file arrives with the same bytes, the times are shown, and no disk has it afterwards."""
    known = run(world, syncs.PROVE)
    assert known.record.verdict is Verdict.PROVEN, known.record.summary
    assert {} == world.canaries()
    found = report(world, known)
    assert [True] * 4 == [server.arrived for server in found.servers]
    assert all(server.seconds is not None for server in found.servers)
    assert ("ended", "Upload", 1) == (found.state, found.direction, world.syncs)
    assert {"yes"} == {server.procedure for server in found.servers}
    phases = [event.message for event in world.esync.store.events(known.record.id) if event.kind == "sync.phase"]
    assert phases == ["begun", "UploadedFiles: begun", "UploadedFiles: done", "ended"]


def test_a_server_that_is_not_reached_is_named_with_its_cause(world: World) -> None:
    """The proof fails for exactly that server; the procedure's answer differs; nothing is left."""
    world.script = lambda it: it.usual(("S2", "P1"))
    known = run(world, syncs.PROVE)
    assert known.record.verdict is Verdict.REFUTED, known.record.summary
    assert {} == world.canaries()
    found = report(world, known)
    assert {"P2"} == {server.node for server in found.servers if not server.arrived}
    missing = found.servers[3]
    assert missing.cause is not None
    assert missing.difference
    assert "failure table" in "\n".join(sync_lines(found))


def test_a_sync_that_stops_at_a_failure_ends(world: World) -> None:
    """It never reports complete: the poller has its own rule. What the sync said is the cause."""
    world.script = lambda it: [
        it.note("SyncStarted"),
        it.note("SyncUploadedFilesFailed", "P1: not enough space on the disk"),
        it.done,
    ]
    known = run(world, syncs.PROVE)
    assert known.record.verdict is Verdict.REFUTED, known.record.summary
    assert {} == world.canaries()
    assert report(world, known).state == "failed"


def test_a_start_follows_the_sync_to_its_end(world: World) -> None:
    """One request, and the verdict of the status."""
    known = run(world, syncs.START)
    assert known.record.verdict is Verdict.SYNCED, known.record.summary
    assert 1 == world.syncs
    assert "ended" == report(world, known).state


def test_no_sync_is_started_while_another_one_runs(world: World) -> None:
    """It is named, and nothing is requested."""
    world.running = "9"
    known = run(world, syncs.START)
    assert known.record.verdict is Verdict.STOPPED, known.record.summary
    assert 0 == world.syncs


def test_a_refused_start_is_told_with_the_reason(world: World) -> None:
    """And nothing of the proof is left."""
    world.refuse = ["The relationship is not initialized."]
    known = run(world, syncs.PROVE)
    assert known.record.verdict is Verdict.FAILED
    assert "not initialized" in known.record.summary
    assert {} == world.canaries()


def test_a_login_lost_during_the_sync_is_renewed(world: World) -> None:
    """The first sync replaces the users of the database (row 47)."""
    world.script = lambda it: [it.note("SyncStarted"), lambda: setattr(it, "logged_out", 2), *it.usual()]
    known = run(world, syncs.PROVE)
    assert known.record.verdict is Verdict.PROVEN, known.record.summary


def test_a_refused_user_is_tried_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accounts get locked: after one refusal no other node is tried."""
    monkeypatch.setenv(SITE_PASSWORD, "wrong")
    known = run(world, syncs.STATUS)
    assert known.record.verdict is Verdict.ANSWERED
    posted = [path for _, path, values in world.requests if "ctl00$password" in values]
    assert 1 == len(posted)
    assert all("refused" in server.login for server in report(world, known).servers)


def test_null_means_not_authorised(world: World) -> None:
    """The role is missing: the message names it (row 48)."""
    world.roles = False
    found = report(world, run(world, syncs.STATUS))
    assert "lacks the role" in found.servers[0].profiles_problem


def test_a_person_at_the_gate_starts_the_sync(world: World) -> None:
    """The run says what to click, sees the first sign, and continues."""
    polls = 0
    answer = world.answer

    def clicked(asked: object) -> object:
        nonlocal polls
        polls += "SyncStatusHandler" in str(getattr(asked, "path", ""))
        if polls == 9:
            world.start()
        return answer(asked)  # type: ignore[arg-type]

    world.answer = clicked  # type: ignore[method-assign, assignment]
    known = run(world, syncs.PROVE, start="gate")
    assert known.record.verdict is Verdict.PROVEN, known.record.summary
    kinds = [event.kind for event in world.esync.store.events(known.record.id)]
    assert 1 == kinds.count("sync.gate")
    assert not [values for _, _, values in world.requests if values.get("action") == "Sync"]


def test_the_password_of_the_site_is_nowhere(world: World) -> None:
    """Not in the run, its history, its documents or its report."""
    known = run(world, syncs.PROVE)
    store = world.esync.store
    texts = [known.record.to_json(), *(event.to_json() for event in store.events(known.record.id))]
    texts += [one for kind in ("sync", "syncmark") for one in store.documents(known.record.id, kind).values()]
    texts += [report(world, known).model_dump_json(), *(outcome.to_json() for outcome in known.outcomes)]
    assert any(SITE_SECRET in str(values) for _, _, values in world.requests)
    assert [] == [text for text in texts if SITE_SECRET in text]


#: Moments of the worker on S1 at which it dies: each is the write to the store that does not happen any more.
DEATHS = {
    "after the mark, before the request": "store.note",
    "after the request, before it is kept": "store.put",
    "before the end of the sync is kept": "store.put",
    "after the removal": "store.finish",
}


def moments(life: Life) -> dict[str, int]:
    """The number of each of these moments."""
    mark = life.moments.index("store.note")
    removal = len(life.moments) - 1 - life.moments[::-1].index("remove")
    end = max(place for place, what in enumerate(life.moments[:removal]) if what == "store.finish") - 2
    return dict(zip(DEATHS, (mark, mark + 1, end, len(life.moments) - 1), strict=True))


@pytest.fixture(scope="module")
def learnt() -> Iterator[dict[str, int]]:
    """The moments of a proof without a death."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SITE_PASSWORD, SITE_SECRET)
        made = Esync(a_sync_cluster())
        life = Life()
        made.crew.send("S1", life)
        run(World(made), syncs.PROVE)
        yield moments(life)
        made.close()


@pytest.mark.parametrize("moment", DEATHS)
def test_a_death_neither_loses_nor_repeats_the_sync(world: World, learnt: dict[str, int], moment: str) -> None:
    """The next worker continues: one sync, the same verdict, and nothing is left on any disk."""
    life = Life(learnt[moment])
    world.esync.crew.send("S1", life)
    asked = SyncOptions(node="S1", profile="Nightly", start="http")
    with suppress(WorkerDied):
        syncs.begin(world.esync.engine, world.esync.cluster, syncs.PROVE, asked)
    assert life.died_at
    known = world.esync.resume(world.esync.store.names(1)[0])
    assert (Verdict.PROVEN, 1, {}) == (known.record.verdict, world.syncs, world.canaries()), known.record.summary


def as_it_was(world: World) -> Callable[[], None]:
    """What puts the store of the present moment back, as a broker that has lost what came since."""
    kept = copy.deepcopy(world.esync.store._runs)

    def put_back() -> None:
        world.esync.store._runs.clear()
        world.esync.store._runs.update(kept)
        world.esync.new_workers()

    return put_back


@pytest.mark.parametrize("reached", [("S2", "P1", "P2"), ("S2", "P1")])
def test_a_proof_whose_store_forgets_the_removal_is_not_refuted(world: World, reached: tuple[str, ...]) -> None:
    """The node tells that this run has changed it since: then it is not known any more whether the file had arrived."""
    forgotten: list[Callable[[], None]] = []
    world.script = lambda it: [lambda: forgotten.append(as_it_was(it)), *it.usual(reached)]
    first = run(world, syncs.PROVE)
    assert first.record.verdict is (Verdict.PROVEN if len(reached) == 3 else Verdict.REFUTED), first.record.summary
    forgotten[0]()
    known = world.esync.resume(first.record.id)
    assert (known.record.verdict, world.syncs) == (Verdict.INCONCLUSIVE, 1), known.record.summary
    assert "the store" in known.record.summary
    assert {} == world.canaries()
    found = {server.node: server for server in report(world, known).servers}
    assert (found["S1"].arrived, found["P1"].arrived) == (True, None)
    assert "proven again" in "\n".join(sync_lines(report(world, known)))
    world.script = lambda it: it.usual()
    again = world.esync.ended(control.retry(world.esync.engine, known.record.id))
    assert again.record.verdict is Verdict.PROVEN, again.record.summary


def test_a_canary_that_somebody_takes_away_at_the_start_refutes_nothing(world: World) -> None:
    """What was not there to be sent says nothing about the sync: the summary names the server where it is gone."""
    folder = world.esync.servers["S1"].disk

    def take_away() -> None:
        for name in world.canaries()["S1"]:
            folder.remove(WindowsPath.of(rf"{FOLDER}\{name}"))

    world.script = lambda it: [take_away, *it.usual()]
    known = run(world, syncs.PROVE)
    assert known.record.verdict is Verdict.INCONCLUSIVE, known.record.summary
    assert "no longer on S1" in known.record.summary


def test_a_canary_that_a_run_could_not_remove_is_removed_later(world: World) -> None:
    """By its name, without any memory of the run; a file of another name stays."""
    server = world.esync.servers["P2"]
    for name in ("esync-canary-20260101-101010-four-0a1b2c.txt", "esync-canary-mine.txt"):
        server.disk.put(WindowsPath.of(rf"{FOLDER}\{name}"), b"anything")
    found = report(world, run(world, syncs.STATUS))
    assert ("esync-canary-20260101-101010-four-0a1b2c.txt",) == found.servers[3].canaries
    done = world.esync.ended(cleanup(world.esync.engine, world.esync.cluster))
    assert done.record.verdict is Verdict.CLEAN, done.record.summary
    assert {"P2": ["esync-canary-mine.txt"]} == world.canaries()


def test_a_failed_proof_can_be_retried(world: World) -> None:
    """The retry proves again, on all servers."""
    world.script = lambda it: it.usual(("S2", "P1"))
    first = run(world, syncs.PROVE)
    world.script = lambda it: it.usual()
    again = world.esync.ended(control.retry(world.esync.engine, first.record.id))
    assert (Verdict.PROVEN, "sync-prove", first.record.id) == (
        again.record.verdict,
        again.record.kind,
        again.record.parent,
    ), again.record.summary
    assert {} == world.canaries()
    with pytest.raises(InputRefused, match="nothing to retry"):
        control.retry(world.esync.engine, again.record.id)


STALE = r"C:\inetpub\wwwroot\CMS400\EktSyncStatus\LoadBalance_P1.xml"


def starts(world: World) -> dict[str, int]:
    """Node -> how often its service was started."""
    return {
        name: sum(action.what == "start asked" for action in server.journal)
        for name, server in world.esync.servers.items()
    }


def test_status_files_of_a_crash_are_moved_aside(world: World) -> None:
    """The services of their pool are restarted before and after; the bytes are kept, a rollback brings them back."""
    assert world.esync.rollout().record.verdict is Verdict.JOINED
    disk = world.esync.servers["P2"].disk
    path = WindowsPath.of(STALE)
    disk.make_folder(path.parent)
    disk.put(path, b"<crashed/>")
    before = starts(world)
    known = run(world, syncs.CLEAR)
    assert known.record.verdict is Verdict.CLEAN, known.record.summary
    assert [] == disk.names(path.parent)
    assert {"S1": 0, "S2": 0, "P1": 2, "P2": 2} == {name: count - before[name] for name, count in starts(world).items()}
    undone = world.esync.ended(rollback(world.esync.engine, known.record.id))
    assert undone.record.verdict is Verdict.RESTORED, undone.record.summary
    assert b"<crashed/>" == disk.read(path)


def test_status_files_of_a_sync_in_progress_stay(world: World) -> None:
    """They are no leftovers."""
    disk = world.esync.servers["P2"].disk
    disk.make_folder(WindowsPath.of(STALE).parent)
    disk.put(WindowsPath.of(STALE), b"<running/>")
    world.running = "7"
    known = run(world, syncs.CLEAR)
    assert known.record.verdict is Verdict.STOPPED, known.record.summary
    assert b"<running/>" == disk.read(WindowsPath.of(STALE))


@pytest.mark.parametrize(
    ("kind", "script", "verdict"),
    [
        (syncs.PROVE, "reaches all", Verdict.PROVEN),
        (syncs.PROVE, "is refused", Verdict.FAILED),
        (syncs.START, "reaches all", Verdict.SYNCED),
        (syncs.START, "is cancelled", Verdict.CANCELLED),
    ],
)
def test_a_clustered_staging_server_is_out_of_its_balancer_during_the_sync(
    tmp_path: Path, kind: str, script: str, verdict: Verdict
) -> None:
    """One other server than that on which the sync starts; it is always put back."""
    with haproxy(tmp_path, {"S1": "127.0.0.1:1", "S2": "127.0.0.1:2"}) as pool, families_known():
        balancer = {"kind": "haproxy", "address": str(pool.socket), "backend": BACKEND, "drained_within": 1}
        made = Esync(a_sync_cluster({"staging": {**balancer, "noticed_after": 0, "healthy_within": 1}}))
        world, out = World(made), []

        def seen(it: World) -> list[Deed]:
            out.append({"S1", "S2"} - pool.balancer.healthy(["S1", "S2"]))
            if script == "is cancelled":
                control.cancel(made.engine, made.store.names(1)[0], "wrong window")
            return it.usual()

        world.script = seen
        world.refuse = ["not initialized"] if script == "is refused" else []
        known = run(world, kind)
        assert known.record.verdict is verdict, known.record.summary
        assert [{"S2"}] * (script != "is refused") == out
        assert {"S1", "S2"} == pool.balancer.healthy(["S1", "S2"])
        assert "left out" not in known.record.summary
        assert {} == world.canaries()
        made.close()


def test_a_gate_needs_no_site_user() -> None:
    """Then the arrival of the file is the sign, and the status is not followed."""
    made = Esync(Cluster.model_validate(a_sync_cluster().model_dump() | {"site_login": None}))
    world, done = World(made), threading.Event()

    def click() -> None:
        while not world.canaries() and not done.wait(0.02):
            pass
        for target in ("S2", "P1", "P2"):
            world.copied("S1", target)()

    person = threading.Thread(target=click, daemon=True)
    person.start()
    try:
        with families_known():
            known = run(world, syncs.PROVE, start="gate")
    finally:
        done.set()
        person.join()
    assert (Verdict.PROVEN, {}) == (known.record.verdict, world.canaries()), known.record.summary
    assert "" == report(world, known).state
    assert [] == [path for _, path, asked in world.requests if "login" in path or asked.get("action") == "Sync"]
    made.close()


def test_the_json_is_the_documented_one(world: World) -> None:
    """Of a look, and of a proof that failed."""
    world.script = lambda it: it.usual(("S2",))
    for kind in (syncs.STATUS, syncs.PROVE):
        validate(report(world, run(world, kind)).model_dump(mode="json"), schema("sync"))

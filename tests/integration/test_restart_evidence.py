"""Situations in which times lie about what a service has loaded: restarted when it is owed, once, and never without.

The judge is the machine: how often its service started, and what its process loaded. test_loaded.py has the decisions.
"""

from collections.abc import Iterator
from typing import cast

import pytest

from lab.machine.paths import WindowsPath
from lab.product.service import EktronService
from pipelines.usecases import rollback
from pipelines.usecases.runs import RunSummary
from tasks.ektron.rules.findings import InvariantState
from tests.integration.harness import steps_of
from tests.integration.one_process import Esync, families_known
from tests.integration.restart_deaths import esync_of, machine_dies
from tests.integration.simulated_servers import Action, Server
from workers.records import Status, Verdict

RULE = "service.started-after-last-change"
HOUR = 3600 * 10**9
OWN = WindowsPath.of(r"C:\ProgramData\esync-rollout\service-start")


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    with families_known():
        yield


@pytest.fixture
def esync() -> Iterator[Esync]:
    """Two joined servers."""
    with esync_of("8.5", retries={"unreachable": 1, "backoff": 0}) as made:
        assert made.rollout().record.verdict is Verdict.JOINED
        yield made


def starts(server: Server) -> int:
    """How often the service has started."""
    return server.service.count("start")


def forget(server: Server) -> None:
    """As on a server that was joined by hand: there is no record."""
    server.disk.remove(OWN)


def verified(esync: Esync) -> tuple[Verdict | None, InvariantState, str]:
    """The verdict of a verify run, and what it found about the last change."""
    run = esync.rollout(kind="verify")
    assert run.findings is not None
    finding = run.findings.of(RULE)
    return run.record.verdict, finding.verdict, finding.evidence


def restarted(esync: Esync, node: str = "S2") -> RunSummary:
    """A rollout that starts that service once, and another one that starts nothing."""
    server, others = esync.servers[node], [s for name, s in esync.servers.items() if name != node]
    before, still = starts(server), [starts(other) for other in others]
    run = esync.rollout()
    assert (Verdict.JOINED, before + 1) == (run.record.verdict, starts(server)), run.record.summary
    assert esync.rollout().record.verdict is Verdict.JOINED
    assert (before + 1, still) == (starts(server), [starts(other) for other in others])
    assert verified(esync)[:2] == (Verdict.JOINED, InvariantState.PROVEN)
    return run


def waves(run: RunSummary) -> list[str]:
    """The nodes that had a wave."""
    return [node for turn in run.record.turns if turn.stage == "wave" for node in turn.nodes]


def replaced(server: Server, path: WindowsPath, *, mtime: int) -> None:
    """Another content, with the modification time that the copying program keeps."""
    server.disk.put(path, server.disk.read(path) + b"<!-- right -->")
    server.disk.touch(path, mtime)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_file_copied_over_with_its_old_time(esync: Esync, *, recorded: bool) -> None:
    """The service still has the other file in memory: not joined, and one restart."""
    server = esync.servers["S2"]
    if not recorded:
        forget(server)
    replaced(server, server.product.edition.service_config, mtime=server.service.started - HOUR)
    wanted = InvariantState.REFUTED if recorded else InvariantState.UNKNOWN
    assert wanted is verified(esync)[1]
    message = steps_of(restarted(esync), "S2")["service_restart"].message
    assert "restart owed: " in message if recorded else "it is not known what the service has loaded" in message


def test_an_included_file_that_changed_since_the_start(esync: Esync) -> None:
    """The service reads the files that its configuration includes, too: the last change there owes one restart."""
    server = esync.servers["S2"]
    config = server.product.edition.service_config
    included = config.parent.child("local.config")
    server.disk.put(included, b'<appSettings><add key="Other" value="1"/></appSettings>')
    text = server.disk.read(config).replace(b"<appSettings>", b'<appSettings file="local.config">', 1)
    server.disk.put(config, text)
    restarted(esync)
    server.disk.put(included, b'<appSettings><add key="Other" value="2"/></appSettings>')
    server.disk.touch(included, server.service.started - HOUR)
    verdict, state, evidence = verified(esync)
    assert (Verdict.REFUTED, InvariantState.REFUTED) == (verdict, state)
    assert "local.config is not what process" in evidence
    restarted(esync)


@pytest.mark.parametrize("keeps_change_times", [True, False])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_modification_time_in_the_future(esync: Esync, *, recorded: bool, keeps_change_times: bool) -> None:
    """A healthy service is joined; where nothing proves it, it is restarted once, and never again for this time."""
    server = esync.servers["S2"]
    config = server.product.edition.service_config
    entry = server.disk.stat(config)
    assert entry
    server.disk.keeps_change_times = keeps_change_times
    server.disk.touch(config, server.clock.now() + 24 * HOUR)
    if not recorded:
        forget(server)
        server.service.request_stop()
        server.service.request_start()
    if recorded or keeps_change_times:
        before = starts(server)
        assert (Verdict.JOINED, InvariantState.PROVEN) == verified(esync)[:2]
        assert (Verdict.JOINED, before) == (esync.rollout().record.verdict, starts(server))
    else:
        assert (Verdict.INCONCLUSIVE, InvariantState.UNKNOWN) == verified(esync)[:2]
        restarted(esync)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("dies", [True, False])
def test_a_service_that_started_while_the_clock_was_ahead(esync: Esync, *, recorded: bool, dies: bool) -> None:
    """Then the clock is set right and this program edits: the restart is done, also after a death before it."""
    server = esync.servers["S2"]
    server.clock.skew = 3600
    server.service.request_stop()
    server.service.request_start()
    server.clock.skew = 0
    if not recorded:
        forget(server)
    warned = esync.rollout(kind="verify").findings
    assert warned is not None
    assert ("S2",) == warned.of("service.started-in-the-past").nodes
    asset = server.product.site.child("AssetManagement.config")
    server.disk.put(asset, server.disk.read(asset).replace(b'LoadBalanced="1" S', b'LoadBalanced="0" S'))
    server.service.request_stop()
    server.clock.skew = 3600
    server.service.request_start()
    server.clock.skew = 0
    if dies:
        machine_dies(esync, "S2", Action("stop", server.service.name))
        assert esync.rollout().record.verdict is not Verdict.JOINED
    restarted(esync)
    loaded = cast("EktronService", server.service.program).loaded
    assert loaded is not None
    assert loaded.asset_load_balanced == "1"


def test_a_cluster_without_change_times(esync: Esync) -> None:
    """Joined by hand, all modification times before the start: unknown; a rollout restarts each service once."""
    for server in esync.servers.values():
        server.disk.keeps_change_times = False
        forget(server)
    verdict, state, evidence = verified(esync)
    assert (Verdict.INCONCLUSIVE, InvariantState.UNKNOWN) == (verdict, state)
    assert "only modification times are known" in evidence
    before = {name: starts(server) for name, server in esync.servers.items()}
    assert esync.rollout().record.verdict is Verdict.JOINED
    assert {name: count + 1 for name, count in before.items()} == {n: starts(s) for n, s in esync.servers.items()}
    assert verified(esync)[2].endswith("by the record of the start")


def test_an_untouched_cluster(esync: Esync) -> None:
    """Joined by hand, with change times: joined, by change times, and a rollout does nothing."""
    for server in esync.servers.values():
        forget(server)
    assert verified(esync) == (Verdict.JOINED, InvariantState.PROVEN, "on all 2 nodes: by change times")
    before = {name: starts(server) for name, server in esync.servers.items()}
    assert esync.rollout().record.verdict is Verdict.JOINED
    assert before == {name: starts(server) for name, server in esync.servers.items()}


def test_a_start_that_was_only_seen_is_recorded(esync: Esync) -> None:
    """An operator restarts the service; after the next rollout a right file copied over with an old time is found."""
    server = esync.servers["S2"]
    server.service.request_stop()
    server.service.request_start()
    before = starts(server)
    old = server.disk.read(OWN)
    for kind in ("verify", "plan", "doctor"):
        esync.rollout(kind=kind)
    assert old == server.disk.read(OWN)
    run = esync.rollout()
    assert (Verdict.JOINED, before) == (run.record.verdict, starts(server))
    assert "this start is recorded now" in steps_of(run, "S2")["service_restart"].message
    assert verified(esync) == (Verdict.JOINED, InvariantState.PROVEN, "on all 2 nodes: by the record of the start")
    server.disk.touch(server.product.edition.service_config, server.service.started - HOUR)
    assert verified(esync)[:2] == (Verdict.JOINED, InvariantState.PROVEN)
    replaced(server, server.product.edition.service_config, mtime=server.service.started - HOUR)
    verdict, state, evidence = verified(esync)
    assert (Verdict.REFUTED, InvariantState.REFUTED) == (verdict, state)
    assert "is not what process" in evidence
    restarted(esync)


def test_a_node_that_needs_nothing_takes_no_turn(esync: Esync) -> None:
    """It is unchanged all the same, and judged with the others by a look at the end; only S2 had a wave."""
    forget(esync.servers["S2"])
    for server in esync.servers.values():
        server.journal.clear()
    run = esync.rollout()
    assert (Verdict.JOINED, ["S2"]) == (run.record.verdict, waves(run))
    assert [(Status.UNCHANGED, "correct: nothing had to change")] * 2 == [
        (node.status, node.description) for node in run.nodes
    ]
    assert ([], [OWN.text]) == tuple(
        [action.target for action in server.journal if not action.target.endswith("fence")]
        for server in esync.servers.values()
    )
    again = esync.rollout()
    assert (Verdict.JOINED, []) == (again.record.verdict, waves(again))
    assert {"unchanged"} == {str(node.status) for node in again.nodes}


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xfe", b'{"service": 1}', b"[" * 50_000, b"x" * 100_000])
def test_a_record_that_is_none(esync: Esync, data: bytes) -> None:
    """Whatever is in the file, times are the evidence then; the next start replaces it."""
    server = esync.servers["S2"]
    server.disk.put(OWN, data)
    assert verified(esync)[:2] == (Verdict.JOINED, InvariantState.PROVEN)
    replaced(server, server.product.edition.service_config, mtime=server.service.started - HOUR)
    restarted(esync)


def settling(**faults: object) -> tuple[RunSummary, Esync]:
    """A rollout on untouched servers, one of which has this service, with a settling time of half a second."""
    with esync_of("8.5", deadlines={"service": 1, "settle": 0.5}, retries={"failed": 1, "backoff": 0}) as esync:
        for name, value in faults.items():
            setattr(esync.servers["S2"].service, name, value)
        return esync.rollout(), esync


def test_a_service_that_ends_shortly_after_its_start() -> None:
    """It is a failure, with the time for which it was watched and the system's number."""
    outcome = steps_of(settling(dies_after=0.3)[0], "S2")["service_restart"]
    assert outcome.status is Status.FAILED
    assert "started and ended again within" in outcome.message
    assert "(exit code 1067)" in outcome.message
    assert "read the event logs" in outcome.problem.remedy


def test_a_service_that_never_listens() -> None:
    """It is a failure, and the restart stays owed."""
    run, esync = settling(never_listens=True)
    outcome = steps_of(run, "S2")["service_restart"]
    assert (Status.FAILED, True) == (outcome.status, "nothing listens on port 8732, watched for" in outcome.message)
    assert b'"loaded": null' in esync.servers["S2"].disk.read(OWN)


def test_it_is_said_how_long_a_service_was_watched() -> None:
    """At least the settling time."""
    message = steps_of(settling()[0], "S2")["service_restart"].message
    assert "; then it listened for 0.5 s as the same process" in message


def test_the_restart_of_a_rollback_is_watched_too() -> None:
    """A service that ends within the settling time is a failure there as well; it need not listen."""
    with esync_of("8.5", deadlines={"service": 1, "settle": 0.5}, retries={"failed": 1, "backoff": 0}) as esync:
        done = esync.rollout()
        esync.servers["S1"].service.never_listens = True
        esync.servers["S2"].service.dies_after = 0.3
        undone = esync.ended(rollback.rollback(esync.engine, done.record.id))
    restored = {outcome.node: outcome for outcome in undone.outcomes if outcome.step == "rollback"}
    kept, lost = restored["S1"], restored["S2"]
    assert (Status.CHANGED, True) == (kept.status, "; then it ran for 0.5 s as the same process" in kept.message)
    assert (Status.FAILED, True) == (lost.status, "started and ended again within" in lost.message)


@pytest.mark.parametrize(
    ("code", "words", "remedy"),
    [
        (2, "does not exist", "program of the service is missing"),
        (5, "denied", "use an administrator"),
        (1053, "in time", ".NET runtime"),
        (1068, "did not start", "start that one first"),
        (1069, "logon", "password of the service's account"),
        (9999, "Unknown", "event log"),
    ],
)
def test_the_reason_of_a_failed_start_reaches_the_operator(code: int, words: str, remedy: str) -> None:
    """The system's words and number, and what to do about it; in the outcome and in the closing summary."""
    run, _ = settling(start_error=code)
    outcome = steps_of(run, "S2")["service_restart"]
    assert (Status.FAILED, True) == (outcome.status, words in outcome.message)
    assert f"(error {code})" in outcome.message
    assert remedy in outcome.problem.remedy
    assert f"(error {code})" in next(node for node in run.nodes if node.node == "S2").problem.message


def test_a_disabled_service_that_runs_is_not_stopped() -> None:
    """Windows would not start it again: nothing is written anywhere, and the command that helps is named."""
    with esync_of("8.5", retries={"failed": 1, "backoff": 0}) as esync:
        disable(esync.servers["S2"])
        done: list[Action] = []
        for server in esync.servers.values():
            server.watch = done.append
        run = esync.rollout()
    assert (Verdict.FAILED, []) == (run.record.verdict, done)
    assert "S2: the service EktronWindowsServices40 is disabled" in run.record.summary
    assert "sc config" in run.record.summary


def test_a_service_that_is_disabled_meanwhile_is_not_stopped() -> None:
    """It was not when the plan was made: the step sees it before it stops anything."""
    with esync_of("8.5", retries={"failed": 1, "backoff": 0}) as esync:
        esync.servers["S2"].watch = lambda _: disable(esync.servers["S2"])
        outcome = steps_of(esync.rollout(), "S2")["service_restart"]
        assert (Status.FAILED, 0) == (outcome.status, esync.servers["S2"].service.count("stop"))
    assert "is disabled" in outcome.message
    assert "sc config" in outcome.problem.remedy


def disable(server: Server) -> None:
    """As `sc config NAME start= disabled` does: a process that runs is not ended by it."""
    server.service.start_type = type(server.service.start_type).DISABLED

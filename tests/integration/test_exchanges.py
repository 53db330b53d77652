"""How often a node is asked: what was seen a moment ago is used, and nothing that is older.

The judge is the machine: what its agent was asked, and what is on its disk.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from lab.machine.paths import WindowsPath
from pipelines.usecases.runs import RunSummary
from tasks.documents import RunDocuments
from tasks.ektron.editions import SYNC_PORT
from tasks.ektron.rules.findings import InvariantState
from tasks.observe import look
from tests.integration.harness import steps_of
from tests.integration.one_process import Esync, families_known
from tests.integration.restart_deaths import SITE, esync_of
from workers.records import StepOutcome, Verdict
from workers.winrm.operations import Op, Reply
from workers.winrm.session import AgentSession

WEB = WindowsPath.of(rf"{SITE}\web.config")
COMMENT = b"<!-- by hand -->"
JOIN = 5  #: the look, the edits, the copies, the restart, the last look


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    with families_known():
        yield


@pytest.fixture
def esync() -> Iterator[Esync]:
    """Two servers that are not joined."""
    with esync_of("8.5", retries={"unreachable": 1, "backoff": 0}) as made:
        yield made


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The node of each exchange."""
    nodes: list[str] = []
    ask = AgentSession.ask

    def counted(self: AgentSession, ops: Sequence[Op], **named: Any) -> list[Reply]:  # noqa: ANN401 - passed on
        nodes.append(self._node)
        return ask(self, ops, **named)

    monkeypatch.setattr(AgentSession, "ask", counted)
    return nodes


def test_a_join_takes_five_exchanges(esync: Esync, asked: list[str]) -> None:
    """The wave begins at once after the plan, so its check looks no second time."""
    run = esync.rollout()
    assert (Verdict.JOINED, JOIN, JOIN) == (run.record.verdict, asked.count("S1"), asked.count("S2"))
    assert run.plan is not None
    assert [3 + 2 * JOIN] * 2 == [part.messages for part in run.plan.nodes], "what the plan announces, with 3 to begin"


def changed_before_its_wave(esync: Esync, node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person adds a comment to web.config between the plan and the wave."""
    run: Callable[..., StepOutcome] = esync.crew.run
    disk = esync.servers[node].disk

    def changing(run_id: str, turn: str, name: str, step: str, *reports: Callable[..., None]) -> StepOutcome:
        if (name, step) == (node, "install_check") and turn.startswith("wave"):
            disk.put(WEB, disk.read(WEB) + COMMENT)
        return run(run_id, turn, name, step, *reports)

    monkeypatch.setattr(esync.crew, "run", changing)


def test_a_file_that_changes_after_the_look_is_read_again_before_it_is_edited(
    esync: Esync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node refuses to write over what was not seen; nothing of another writer is lost."""
    changed_before_its_wave(esync, "S2", monkeypatch)
    run = esync.rollout()
    assert run.record.verdict is Verdict.JOINED
    assert 2 == steps_of(run, "S2")["config_edit"].attempt
    assert COMMENT in esync.servers["S2"].disk.read(WEB)


def test_a_wave_that_begins_later_looks_again(esync: Esync, monkeypatch: pytest.MonkeyPatch) -> None:
    """And refuses a node that is not as it was when the plan was made."""
    monkeypatch.setattr(look, "FRESH", -1.0)
    changed_before_its_wave(esync, "S2", monkeypatch)
    run = esync.rollout()
    assert "stale" == steps_of(run, "S2")["install_check"].slug
    assert esync.servers["S2"].disk.read(WEB).endswith(COMMENT)


def looked(esync: Esync, asked: list[str]) -> tuple[RunSummary, list[str]]:
    """A rollout, and the nodes that were asked for it, in new sessions."""
    esync.new_workers()
    asked.clear()
    return esync.rollout(), sorted(asked)


def judged(run: RunSummary) -> list[tuple[str, InvariantState]]:
    """The statement about each invariant."""
    return [(one.invariant, one.verdict) for one in run.findings.findings] if run.findings else []


def test_servers_that_need_nothing_are_asked_once(esync: Esync, asked: list[str]) -> None:
    """What was seen before the plan is the evidence: the last turn has no steps, and its findings are complete."""
    esync.rollout()
    run, nodes = looked(esync, asked)
    assert (Verdict.JOINED, ["S1", "S2"]) == (run.record.verdict, nodes)
    assert [("canary", 1), ("observe", 1), ("verify", 0)] == [(t.name, len(t.steps)) for t in run.record.turns]
    again, nodes = looked(esync, asked)
    assert (Verdict.JOINED, ["S1", "S2"]) == (again.record.verdict, nodes)
    verified = esync.rollout(kind="verify")
    assert judged(verified) == judged(run) == judged(again)


def test_without_an_earlier_run_the_network_is_tested_once_nothing_is_found_missing(
    esync: Esync, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second exchange in the same step, and no second step."""
    esync.rollout()
    monkeypatch.setattr(RunDocuments, "facts_when_joined", lambda *_: None)
    run, nodes = looked(esync, asked)
    assert (Verdict.JOINED, ["S1", "S1", "S2", "S2"]) == (run.record.verdict, nodes)
    assert () == run.record.turns[-1].steps


def test_what_an_earlier_run_saw_is_no_evidence(esync: Esync, asked: list[str]) -> None:
    """A server that was changed since is found, repaired and verified; the others are verified again."""
    esync.rollout()
    disk = esync.servers["S2"].disk
    disk.put(WEB, disk.read(WEB).replace(b"S2_SyncClient.pfx", b"EktronSyncClient.pfx"))
    run, nodes = looked(esync, asked)
    assert (Verdict.JOINED, ["S2"]) == (run.record.verdict, list(run.record.turns[2].nodes))
    assert {"install_check"} == set(run.record.turns[-1].steps)
    assert 2 == nodes.count("S1")


def test_a_service_that_does_not_listen_is_found_without_a_last_look(esync: Esync) -> None:
    """As a verify finds it."""
    esync.rollout()
    esync.servers["S2"].network.close(esync.servers["S2"].address, SYNC_PORT)
    found = esync.rollout()
    assert (Verdict.REFUTED, ()) == (found.record.verdict, found.record.turns[-1].steps)
    assert "service.listening-8732" in found.record.summary

"""A run with nodes that attack: the other nodes are joined as usual, and everything ends in time."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lab.control.remote import LabProcess
from pipelines.usecases import control
from tasks.cluster import Cluster
from tests.hostile.node import PASSWORD, Asked, HostileNode, http
from tests.integration.harness import Harness, cluster_of, four_servers, harness_at
from tests.integration.test_rollout import nothing_half_written
from tests.waiting import wait_until
from workers.records import Status, Verdict

pytestmark = pytest.mark.integration
STEP = 4.0  #: limit of a step in seconds
RUN = 120.0  #: limit of a run in seconds; an attack lasts forever


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """A broker and a worker."""
    with harness_at(tmp_path_factory.mktemp("harness"), ESYNC_SECRETS=str(tmp_path_factory.getbasetemp())) as running:
        running.wait_for_worker()
        yield running


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Four untouched servers."""
    with four_servers(tmp_path / "lab") as running:
        yield running


def _always(what: str, data: Callable[[HostileNode, Asked], Iterator[bytes]]) -> Callable[[HostileNode], None]:
    def arm(node: HostileNode) -> None:
        node.play = lambda asked: data(node, asked) if asked.what == what else None

    return arm


def _said(text: str) -> Callable[[HostileNode], None]:
    def twist(reply: dict[str, Any]) -> bytes:
        results = [{**one, "ok": False, "error": "failed", "message": text, "path": text} for one in reply["results"]]
        return json.dumps({**reply, "results": results}).encode() + b"\n"

    def arm(node: HostileNode) -> None:
        node.twist = twist

    return arm


ATTACKS: dict[str, Callable[[HostileNode], None]] = {
    "A1": _always("connect", lambda node, _: node.silently()),
    "A2": _always("Receive", lambda node, asked: node.slowly(asked.healthy)),
    "A3": _always("Create", lambda node, asked: node.slowly(asked.healthy)),
    "A4": _always("Receive", lambda node, _: node.endlessly(b"HTTP/1.1 200 X\r\n\r\n", b"<a/>" * 9999)),
    "A5": _said("half \ud800\x1b]0;title\x07 and\nJOINED: all"),
    "A6": _said("x" * 3_000_000),
    "A7": _always("Create", lambda *_: iter([http(b"", 307, Location="http://127.0.0.1:1/wsman")])),
}


def with_attackers(lab: LabProcess, nodes: dict[str, HostileNode], folder: Path) -> Cluster:
    """The lab's cluster with the attackers in its production pool."""
    (folder / "hostile").write_text(PASSWORD)
    (folder / "hostile").chmod(0o600)
    data = cluster_of(lab, max_failed=len(nodes), deadlines={"step": STEP, "run": RUN}, retries={}).model_dump()
    data["nodes"] = list(data["nodes"])
    for name, node in nodes.items():
        at = node.endpoint
        own = {"secret": f"file:{folder / 'hostile'}", "ca_file": at.ca_file, "port": at.port}
        data["nodes"].append({**data["nodes"][-1], "name": name, "host": at.host, "connection": own})
    return Cluster.model_validate(data)


@pytest.fixture
def attackers(tmp_path: Path) -> Iterator[dict[str, HostileNode]]:
    """One node for each attack."""
    with ExitStack() as stack:
        started = {}
        for name, arm in ATTACKS.items():
            (tmp_path / name).mkdir()
            started[name] = stack.enter_context(HostileNode(tmp_path / name))
            arm(started[name])
        yield started


def test_nodes_that_attack_harm_no_other(
    harness: Harness, lab: LabProcess, attackers: dict[str, HostileNode], tmp_path: Path
) -> None:
    """All attacks at once: each attacker is failed or unreachable with a printable sentence, the others are joined."""
    started = time.monotonic()
    done = harness.rollout(with_attackers(lab, attackers, tmp_path))
    assert time.monotonic() - started < RUN
    assert done.record.verdict is Verdict.FAILED
    ended = {node.node: node for node in done.nodes}
    assert {Status.CHANGED} == {ended[name].status for name in ("S1", "S2", "P1", "P2")}
    assert {ended[name].status for name in ATTACKS} <= {Status.FAILED, Status.UNREACHABLE}
    assert all(node.seen for node in attackers.values())
    for outcome in done.outcomes:
        assert outcome.message.isprintable()
        assert len(outcome.message) < 3000
    nothing_half_written(lab)


def test_a_cancel_ends_a_run_that_a_node_holds(
    harness: Harness, lab: LabProcess, attackers: dict[str, HostileNode], tmp_path: Path
) -> None:
    """A cancel takes seconds, although the deadline of the step is far away; the cluster is released."""
    cluster = with_attackers(lab, {"A2": attackers["A2"]}, tmp_path)
    patient = {"deadlines": {"step": 3000, "run": 6000}}
    slow = cluster.model_copy(update={"policy": type(cluster.policy)(**(cluster.policy.model_dump() | patient))})
    run = harness.start(slow)
    wait_until(lambda: attackers["A2"].seen.get("Receive"))
    control.cancel(harness.engine, run.id)
    assert harness.finished(run.id).record.verdict is Verdict.CANCELLED
    assert harness.rollout(cluster_of(lab)).record.verdict is Verdict.JOINED

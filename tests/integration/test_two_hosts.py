"""Two hosts with a worker each; one is cut off from the broker in mid-run, and still reaches the servers.

Each worker has a state folder of its own, and its own cable to the broker.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from lab.control.remote import LabProcess
from tests.integration.harness import SITE, Harness, cluster_of, four_servers, harness_at, on_disk
from tests.relay import Relay
from tests.sampling import in_turn
from tests.waiting import wait_until
from workers.records import Verdict

pytestmark = pytest.mark.integration

ASSET = rf"{SITE}\AssetManagement.config"
SOON = 45.0  #: seconds; without an own check of its wait for messages it took 90
UNDER_WAY = 9.0  #: seconds for which the server keeps the request of the worker that is cut off


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """Four untouched servers."""
    with four_servers(tmp_path / "lab") as running:
        yield running


class Host:
    """A host with one worker, and its cable to the broker."""

    def __init__(self, harness: Harness, folder: Path, stack: ExitStack) -> None:
        port = int(harness.environment["ESYNC_BROKER_URL"].rpartition(":")[2].partition("/")[0])
        self.cable = stack.enter_context(Relay(port))
        own = {
            "ESYNC_BROKER_URL": harness.environment["ESYNC_BROKER_URL"].replace(f":{port}/", f":{self.cable.port}/"),
            "ESYNC_STATE": str(folder / "state"),
        }
        folder.mkdir()
        self.esync = replace(harness, environment={**harness.environment, **own}, folder=folder, worker=None)
        stack.callback(self.esync.kill_worker)
        stack.callback(self.cable.join)
        self.esync.start_worker()

    def holds(self, run: str, node: str) -> bool:
        """Whether its worker works on that node."""
        assert self.esync.worker is not None
        return f":{self.esync.worker.pid}:" in self.esync.engine.store.leases(run).get(node, "")


def under_way(lab: LabProcess, node: str) -> None:
    """The server will take its time for the next write of that file: the request has arrived, and nothing is done."""
    slow = {"at": {"operation": "write", "target": ASSET}, "faults": {"operation_ms": UNDER_WAY * 1000}}
    lab.break_node(node, later=[slow])


def starts(lab: LabProcess, node: str) -> int:
    """How often the service has started."""
    return sum(what == "start" for what, _ in lab.report(node)["service"]["history"])


@in_turn(0, 4, "dead connections")  # waits for half a minute; `tests/unit/workers` checks the settings
def test_a_worker_whose_connections_are_dead_makes_new_ones(tmp_path: Path, lab: LabProcess) -> None:
    """A firewall has forgotten them while it was idle: no error says so, and no answer comes."""
    with ExitStack() as stack:
        harness = stack.enter_context(harness_at(tmp_path / "harness", worker=False))
        host = Host(harness, tmp_path / "host", stack)
        wait_until(harness.engine.own_queues.served)
        host.cable.forget()
        begun = time.monotonic()
        done = harness.finished(harness.start(cluster_of(lab, waves="all")).id)
        assert Verdict.JOINED is done.record.verdict
        assert time.monotonic() < begun + SOON, host.esync.log()


def test_a_worker_that_is_cut_off_is_replaced_and_writes_nothing_more(tmp_path: Path, lab: LabProcess) -> None:
    """Its lease lapses, the other one does its work, and the server refuses what the first one had still sent."""
    asset, before = on_disk(lab, "P2", ASSET), on_disk(lab, "P2", ASSET).read_bytes()
    started = {node: starts(lab, node) for node in lab.nodes}
    under_way(lab, "P2")
    with ExitStack() as stack:
        harness = stack.enter_context(harness_at(tmp_path / "harness", worker=False))
        hosts = [Host(harness, tmp_path / name, stack) for name in ("host-1", "host-2")]
        run = harness.start(cluster_of(lab, waves="all")).id
        wait_until(lambda: lab.report("P2")["begun"])
        arrived = time.monotonic()
        (cut_off,) = [host for host in hosts if host.holds(run, "P2")]
        cut_off.cable.cut()
        lab.heal("P2")
        done = harness.finished(run)
        assert Verdict.JOINED is done.record.verdict
        assert {started[node] + 1 for node in lab.nodes} == {starts(lab, node) for node in lab.nodes}
        assert before != asset.read_bytes()
        # The late request finds the file as it was read: only the fence can refuse it.
        asset.write_bytes(before)
        cut_off.cable.join()
        wait_until(lambda: time.monotonic() > arrived + UNDER_WAY + 1, cut_off.esync.log)
        assert before == asset.read_bytes()
        again = harness.rollout(cluster_of(lab, waves="all"))
        assert Verdict.JOINED is again.record.verdict
        assert before != asset.read_bytes()
        assert {node: started[node] + 1 + (node == "P2") for node in lab.nodes} == {
            node: starts(lab, node) for node in lab.nodes
        }
        assert {} == harness.engine.store.leases(run) | harness.engine.store.leases(again.record.id)

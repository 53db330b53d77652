"""Servers behind a real HAProxy, with real workers, WinRM and broker: several are changed at the same time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from lab.control.remote import LabProcess
from pipelines.usecases import control
from tasks.cluster import Cluster
from tests.haproxy import BACKEND, Running, haproxy
from tests.integration.harness import Harness, cluster_of, four_servers, harness_at, on_disk
from tests.integration.test_pools import steady_requests
from tests.waiting import wait_until
from workers.records import DocumentKind, Verdict
from workers.store.kept import DRAINED

EIGHT = tuple(f"P{number}" for number in range(1, 9))
POOL, FLOOR = EIGHT[:4], 2
FOLDER = r"C:\Program Files\Ektron\EktronWindowsService30"


def _behind(cluster: Cluster, pool: Running, floor: int | str = FLOOR) -> Cluster:
    """The cluster with a balancer in front of its production servers."""
    balancer = {
        "kind": "haproxy",
        "address": str(pool.socket),
        "backend": BACKEND,
        "noticed_after": 0,
        "probe": {"url": pool.url, "every": 0.1},
    }
    data = cluster.model_dump()
    data["balancers"] = {"production": balancer}
    data["policy"]["pools"] = {"production": {"min_healthy": floor}}
    return Cluster.model_validate(data)


@contextmanager
def _fewest(pool: Running) -> Iterator[list[int]]:
    """How many servers got requests at least, while the block ran."""
    counts, over = [len(POOL)], Event()

    def look() -> None:
        while not over.wait(0.02):
            counts.append(len(pool.balancer.healthy(POOL)))

    thread = Thread(target=look)
    thread.start()
    try:
        yield counts
    finally:
        over.set()
        thread.join()


def _restart_owed(lab: LabProcess, names: Sequence[str] = POOL) -> None:
    """Each of these servers lacks a certificate file: it is written again, and its service has to restart."""
    for name in names:
        on_disk(lab, name, rf"{FOLDER}\S2_SyncServer.cer").unlink()


def _killed_while_one_is_out(esync: Harness, pool: Running, run: str) -> None:
    """After the page was asked for a second: nothing of it was kept before."""
    store = esync.engine.store
    wait_until(lambda: store.documents(run, DocumentKind.AVAILABILITY))
    wait_until(lambda: store.all_kept(DRAINED) and len(pool.balancer.healthy(POOL)) < len(POOL))
    esync.kill_worker()
    esync.start_worker()


def test_a_rollout_of_a_live_pool_loses_no_request_although_its_worker_is_killed(tmp_path: Path) -> None:
    """All servers are in one wave and compete for their turn; at the end all get requests, and no mark is left."""
    with (
        four_servers(tmp_path / "lab", lab="disk: folder", more=POOL[2:]) as lab,
        harness_at(tmp_path) as esync,
    ):
        cluster = cluster_of(lab, waves="all")
        assert esync.rollout(cluster).record.verdict is Verdict.JOINED
        servers = {name: f"{cluster.node(name).host}:8732" for name in POOL}
        with haproxy(tmp_path, servers) as pool:
            _restart_owed(lab)
            with steady_requests(pool.url) as requests, _fewest(pool) as counts:
                for name in POOL:  # else all may be changed before the page was asked often enough
                    lab.break_node(name, latency_ms=200)
                run = esync.start(_behind(cluster, pool)).id
                _killed_while_one_is_out(esync, pool, run)
                for name in POOL:
                    lab.heal(name)
                summary = esync.finished(run)
            assert summary.record.verdict is Verdict.JOINED, summary.record.summary
            assert pool.balancer.healthy(POOL) == set(POOL)
        assert esync.engine.store.all_kept(DRAINED) == {}
        assert FLOOR <= min(counts) < len(POOL)
        assert requests.failures == []
        (measured,) = summary.availability
        assert measured.percent == 100


def test_a_server_that_loses_its_power_while_it_is_out_costs_no_request(tmp_path: Path) -> None:
    """Eight servers, three quarters of them stay in: the dead one is reported, and a retry puts it back."""
    with four_servers(tmp_path / "lab", lab="disk: folder", more=EIGHT[2:]) as lab, harness_at(tmp_path) as esync:
        cluster = cluster_of(lab, waves=(2, "100%"))
        assert esync.rollout(cluster).record.verdict is Verdict.JOINED
        servers = {name: f"{cluster.node(name).host}:8732" for name in EIGHT}
        with haproxy(tmp_path, servers) as pool:
            _restart_owed(lab, EIGHT)
            lab.break_node("P5", later=[{"at": {"operation": "spread"}, "faults": {"power_cut": True}}])
            with steady_requests(pool.url) as requests:
                summary = esync.rollout(_behind(cluster, pool, "75%"))
                assert summary.record.verdict is Verdict.UNREACHABLE, summary.record.summary
                assert "P5 is left out of the balancer" in summary.record.summary
                assert set(pool.balancer.healthy(EIGHT)) == set(EIGHT) - {"P5"}
                lab.heal("P5")
                healed = esync.finished(control.retry(esync.engine, summary.record.id).id)
            assert healed.record.verdict is Verdict.JOINED, healed.record.summary
            assert set(pool.balancer.healthy(EIGHT)) == set(EIGHT)
        assert esync.engine.store.all_kept(DRAINED) == {}
        assert requests.failures == []

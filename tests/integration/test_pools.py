"""Servers behind a real HAProxy: taken out before their services restart, put back, and never forgotten.

The tests judge HAProxy by its own runtime API, and the order of events by what the machines and HAProxy did.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from typing_extensions import override

from lab.machine.errors import Refusal, Slug
from lab.machine.services import ServiceState
from pipelines.usecases import control, rollback, runs
from pipelines.usecases.runs import RunSummary
from tasks.cluster import Cluster
from tasks.execution import claims
from tasks.marks import read_marks
from tests.claiming import claim
from tests.haproxy import BACKEND, Running, free_port, haproxy
from tests.integration.one_process import LEASE, PASSWORD, Esync, Life, WorkerDied, families_known
from tests.integration.simulated_servers import Action, Server
from tests.integration.test_other_addresses import at_hosts
from tests.sampling import EXHAUSTIVE
from tests.waiting import wait_until
from workers.records import Event, RunState, Status, StepOutcome, Verdict
from workers.store.kept import DRAINED

SITE = r"C:\inetpub\wwwroot\CMS400"
HEALTH = {"url": "http://{host}/WorkArea/ServerControlWS.asmx", "text": "Web Service"}
QUICK = {"room_within": 0.3, "drained_within": 2, "noticed_after": 0, "healthy_within": 0.3}


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with families_known():
        yield


@contextmanager
def sites_of(esync: Esync, addresses: Mapping[str, int]) -> Iterator[None]:
    """A real site for each server, which answers only while the service of the machine runs."""
    with ExitStack() as stack:
        for name, server in esync.servers.items():

            class Site(BaseHTTPRequestHandler):
                service = server.service

                def do_GET(self) -> None:
                    """Answers 503 while the service does not run."""
                    self.send_response(200 if self.service.state() is ServiceState.RUNNING else 503)
                    self.end_headers()

                @override
                def log_message(self, format: str, *args: object) -> None:
                    """Is quiet."""

            served = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", addresses[name]), Site))
            Thread(target=served.serve_forever, daemon=True).start()
            stack.callback(served.shutdown)
        yield


class _Requests:
    """Requests from another process.

    Attributes:
        asked: how many there were.
        failures: how each failed one failed.
    """

    asked = 0
    failures: Sequence[str] = ()


@contextmanager
def steady_requests(url: str) -> Iterator[_Requests]:
    """Asks all the while in the block; the counts are there after it."""
    counted = _Requests()
    script = Path(__file__).parents[1] / "steady_requests.py"
    with subprocess.Popen([sys.executable, str(script), url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        try:
            yield counted
        finally:  # also after an assertion that failed: it would ask forever
            process.terminate()
            told = json.loads(process.stdout.readline())
    counted.asked, counted.failures = told["asked"], told["failures"]


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Running]:
    """An HAProxy with four servers, S1 to S4. Nothing is sent through it."""
    with haproxy(tmp_path, {f"S{number}": f"127.0.0.1:{number}" for number in range(1, 5)}) as running:
        yield running


@contextmanager
def esync_behind(balancer: Mapping[str, object], nodes: int = 4, **policy: object) -> Iterator[Esync]:
    """Untouched servers of one pool behind that balancer; there is no pause between two attempts."""
    cluster = Cluster.model_validate(
        {
            "name": "pools",
            "edition": "8.0",
            "origin": "S1",
            "site": {"path": SITE},
            "connection": {"user": "esync", "secret": f"env:{PASSWORD}"},
            "balancers": {"all": {"health": HEALTH, **QUICK, **balancer}},
            "policy": {
                "retry_in_wave": 0,
                "max_failed": nodes,
                "deadlines": {"service": 10, "settle": 0},
                "retries": {"backoff": 0},
                **policy,
            },
            "nodes": [
                {"name": f"S{n}", "host": f"10.7.0.{n}", "role": "staging", "pool": "all"} for n in range(1, nodes + 1)
            ],
        }
    )
    esync = Esync(cluster)
    try:
        yield esync
    finally:
        esync.close()


def behind(pool: Running) -> dict[str, object]:
    """The balancer of a cluster file."""
    return {"kind": "haproxy", "address": str(pool.socket), "backend": BACKEND}


def out_of(pool: Running) -> set[str]:
    """The servers that HAProxy sends nothing."""
    names = [f"S{number}" for number in range(1, 5)]
    return set(names) - pool.balancer.healthy(names)


def steps(summary: RunSummary, node: str) -> dict[str, StepOutcome]:
    """The last outcome of each step of a node."""
    return {one.step: one for one in summary.outcomes if one.node == node and not one.turn.startswith("verify")}


def test_every_server_is_out_while_its_service_restarts(pool: Running) -> None:
    """Out of HAProxy at each action on its service, in again at the end; never more are out than the floor allows."""
    with esync_behind(behind(pool), pools={"all": {"min_healthy": 3}}) as esync:
        seen: dict[str, set[str]] = {}
        for name, server in esync.servers.items():
            server.watch = _watching(name, lambda: seen, pool)
        summary = esync.rollout()
        assert summary.record.verdict is Verdict.JOINED, summary.record.summary
        assert summary.plan is not None
        assert "and 3 other servers or more get requests meanwhile" in summary.plan.notes[-1]
        assert seen.keys() == esync.servers.keys()
        assert all(out == {name} for name, out in seen.items()), seen
        assert out_of(pool) == set()
        assert esync.store.all_kept(DRAINED) == {}
        again = esync.rollout()
        assert again.record.verdict is Verdict.JOINED
        assert not [turn for turn in again.record.turns if "drain" in turn.steps], "nothing to do, nobody is taken out"


def _watching(name: str, seen: Callable[[], dict[str, set[str]]], pool: Running) -> Callable[[Action], None]:
    def watch(action: Action) -> None:
        if action.what in {"stop", "start"}:
            seen()[name] = seen().get(name, set()) | out_of(pool)

    return watch


@pytest.mark.parametrize("host", ["10.7.0.1", "vm-1.cloud.example"])
def test_the_mark_says_that_a_server_listened_which_then_has_to_listen_again(pool: Running, host: str) -> None:
    """Also one whose host in the cluster file leads only esync to it, as a port of a tunnel does, and not itself."""
    health = {**HEALTH, "url": "http://{node}/WorkArea/ServerControlWS.asmx"}
    with esync_behind({**behind(pool), "health": health}, nodes=1) as esync:
        at_hosts(esync, lambda _: host)
        listened: list[bool] = []

        def watch(action: Action) -> None:
            if action.what == "stop":
                listened.extend(mark.listened for mark in read_marks(esync.store.all_kept(DRAINED)).values())

        first = esync.rollout()
        esync.servers["S1"].watch = watch
        undone = esync.ended(rollback.rollback(esync.engine, first.record.id))
        assert undone.record.verdict is Verdict.RESTORED, undone.record.summary
        assert listened == [True]


def test_a_rollback_takes_servers_out_too(pool: Running) -> None:
    """It restarts services as well."""
    with esync_behind(behind(pool)) as esync:
        first = esync.rollout()
        assert first.record.verdict is Verdict.JOINED
        seen: dict[str, set[str]] = {}
        for name, server in esync.servers.items():
            server.watch = _watching(name, lambda: seen, pool)
        undone = esync.ended(rollback.rollback(esync.engine, first.record.id))
        assert undone.record.verdict is Verdict.RESTORED, undone.record.summary
        assert seen
        assert all(name in out for name, out in seen.items())
        assert out_of(pool) == set()


def test_a_server_that_an_operator_took_out_stays_out(pool: Running) -> None:
    """It is changed like the others, and is not ours to put back."""
    pool.balancer.drain("S2")
    with esync_behind(behind(pool)) as esync:
        summary = esync.rollout()
        assert summary.record.verdict is Verdict.JOINED, summary.record.summary
        assert "someone else" in steps(summary, "S2")["drain"].message
        assert out_of(pool) == {"S2"}


def test_below_the_floor_the_run_waits_and_stops(pool: Running) -> None:
    """By the balancer's own state: two servers are out for other reasons. Nothing is changed on the next one."""
    pool.balancer.drain("S3")
    pool.tell(f"set server {BACKEND}/S4 state maint")
    with esync_behind(behind(pool), pools={"all": {"min_healthy": "50%"}}, waves=(1,)) as esync:
        summary = esync.rollout()
        assert summary.record.verdict is Verdict.STOPPED
        assert (
            "only 1 other server gets requests, and policy.pools.all.min_healthy asks for 2" in summary.record.summary
        )
        assert out_of(pool) == {"S3", "S4"}
        assert esync.store.all_kept(DRAINED) == {}
        assert steps(summary, "S1")["config_edit"].status is Status.SKIPPED


def test_a_step_that_has_lost_its_node_does_not_wait_on(pool: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that has lost its last moments gave the node to another step, which waits for this one."""
    monkeypatch.setattr(claims, "ASKED_EVERY", 0.1)
    pool.balancer.drain("S3")
    pool.tell(f"set server {BACKEND}/S4 state maint")
    balancer = {**behind(pool), "room_within": 20}
    with esync_behind(balancer, pools={"all": {"min_healthy": "50%"}}, waves=(1,)) as esync:

        def take_over() -> None:
            wait_until(lambda: any(one.step == "drain" for one in begun_steps(esync)))
            (record,) = esync.store.runs(1)
            holder = esync.store.leases(record.id)["S1"]
            esync.store.release(record.id, "S1", holder)
            assert claim(esync.store, record.id, "S1", "another worker", LEASE)

        thread, began = Thread(target=take_over), time.monotonic()
        thread.start()
        runs.start(esync.engine, esync.cluster)
        assert time.monotonic() - began < 10  # and not as long as it may wait for room
        thread.join()
        assert [one.step for one in begun_steps(esync)] == ["install_check", "drain"]


def begun_steps(esync: Esync) -> list[Event]:
    """Those of the first wave of the only run."""
    events = (one for run in esync.store.runs(1) for one in esync.store.events(run.id))
    return [one for one in events if (one.kind, one.turn) == ("step.started", "wave-1")]


def test_a_server_that_does_not_work_is_left_out_and_reported(pool: Running) -> None:
    """The run fails, a verification refutes, and a retry puts it back when it works."""
    with esync_behind(behind(pool), nodes=2) as esync:
        server = esync.servers["S2"]
        page = server.product.site.below(r"WorkArea\ServerControlWS.asmx")
        content = server.disk.read(page)
        server.disk.remove(page)
        summary = esync.rollout()
        assert summary.record.verdict is Verdict.FAILED
        assert "S2 is left out of the balancer" in summary.record.summary
        assert f"esync retry {summary.record.id} puts it back" in summary.record.summary
        assert steps(summary, "S2")["undrain"].slug == "left_drained"
        assert out_of(pool) == {"S2"}
        judged = esync.rollout(kind="verify")
        assert judged.record.verdict is Verdict.REFUTED
        assert "pool.none-left-drained" in judged.record.summary
        pool.balancer.undrain("S2")
        by_hand = esync.rollout(kind="verify")
        assert "pool.none-left-drained" not in by_hand.record.summary, "it was put back by hand"
        pool.balancer.drain("S2")
        server.disk.put(page, content)
        healed = esync.ended(control.retry(esync.engine, summary.record.id))
        assert healed.record.verdict is Verdict.JOINED, healed.record.summary
        assert out_of(pool) == set()


def test_a_failed_step_does_not_keep_a_working_server_out(pool: Running) -> None:
    """It is put back with what it has, and tried again by a retry."""
    with esync_behind(behind(pool), nodes=2) as esync:
        life = _Failing()
        esync.servers["S2"].watch = life
        summary = esync.rollout()
        assert summary.record.verdict is Verdict.FAILED
        assert steps(summary, "S2")["undrain"].status is Status.CHANGED
        assert out_of(pool) == set()


class _Failing:
    """Refuses to write below the service's folder."""

    def __call__(self, action: Action) -> None:
        if action.what == "put" and "EktronWindowsService" in action.target:
            raise Refusal(Slug.ACCESS_DENIED, "the file is read-only", action.target)


class _Moments(Life):
    """A life that dies at one of its moments after the server was taken out."""

    def __init__(self, after: int | None = None) -> None:
        super().__init__()
        self._after = after
        self.since = -1

    @override
    def moment(self, what: str) -> None:
        if what == "store.keep" or self.since >= 0:
            self.since += 1
        if self.since == self._after:
            self._dies_at = len(self.moments)
        super().moment(what)


def _boundaries(pool: Running) -> int:
    """How many moments a worker has between the mark and the removal of the mark."""
    with esync_behind(behind(pool), nodes=2) as esync:
        life = _Moments()
        esync.crew.send("S2", life)
        assert esync.rollout().record.verdict is Verdict.JOINED
        return life.since + 1


def resumed(esync: Esync, run: str) -> RunSummary:
    """Other workers resume the run."""
    return esync.resume(run)


def cancelled_and_retried(esync: Esync, run: str) -> RunSummary:
    """The run is cancelled and retried; if nothing is left to retry, a new one is started."""
    control.cancel(esync.engine, run, "its worker is dead")
    ended = esync.resume(run)
    assert ended.record.state is RunState.CONCLUDED
    return (
        esync.rollout() if not control.unfinished(esync.engine, run) else esync.ended(control.retry(esync.engine, run))
    )


@pytest.mark.parametrize("healing", [resumed, cancelled_and_retried])
def test_no_death_leaves_a_server_out(pool: Running, healing: Callable[[Esync, str], RunSummary]) -> None:
    """The worker dies at each moment from the mark to its removal: whatever comes next puts the server back.

    `make test` plays every second moment, the others the other way of healing.
    """
    boundaries = _boundaries(pool)
    assert boundaries > 10
    for after in range(0 if healing is resumed else 1, boundaries, 1 if EXHAUSTIVE else 2):
        with esync_behind(behind(pool), nodes=2) as esync:
            life = _Moments(after)
            esync.crew.send("S2", life)
            with suppress(WorkerDied):
                esync.rollout()
            (record,) = esync.store.runs(1)
            assert life.died_at, after
            healed = healing(esync, record.id)
            assert healed.record.verdict is Verdict.JOINED, (after, healed.record.summary)
            assert out_of(pool) == set(), after
            assert esync.store.all_kept(DRAINED) == {}, after


def mark_lost(esync: Esync, run: str) -> RunSummary:
    """The store has come back without its last moments."""
    for place in esync.store.all_kept(DRAINED):
        esync.store.keep(DRAINED, place, "")
    return esync.resume(run)


def store_lost(esync: Esync, run: str) -> RunSummary:
    """The store has come back empty; a verification says who is out, and another rollout puts the server back."""
    del run
    esync.lose_store()
    assert "S2 is left out of the balancer" in esync.rollout(kind="verify").record.summary
    return esync.rollout()


@pytest.mark.parametrize("loss", [mark_lost, store_lost])
def test_no_lost_mark_leaves_a_server_out(pool: Running, loss: Callable[[Esync, str], RunSummary]) -> None:
    """The worker dies while its server is out, and the store has lost who took it out: the server itself knows."""
    boundaries = _boundaries(pool)
    for after in (boundaries // 2, boundaries - 4):  # before its changes, and when it needs nothing any more
        with esync_behind(behind(pool), nodes=2) as esync:
            life = _Moments(after)
            esync.crew.send("S2", life)
            with suppress(WorkerDied):
                esync.rollout()
            assert out_of(pool) == {"S2"}, after
            (record,) = esync.store.runs(1)
            healed = loss(esync, record.id)
            assert healed.record.verdict is Verdict.JOINED, (after, healed.record.summary)
            assert out_of(pool) == set(), after
            assert esync.store.all_kept(DRAINED) == {}, after
            pool.balancer.drain("S2")
            assert esync.rollout().record.verdict is Verdict.JOINED
            assert out_of(pool) == {"S2"}, "no note is left: a person took it out now"
            pool.balancer.undrain("S2")


def test_a_cancelled_run_puts_its_servers_back(pool: Running) -> None:
    """Cancelled while its server is out."""
    with esync_behind(behind(pool), nodes=2) as esync:

        def cancel(action: Action) -> None:
            if action.what == "stop" and out_of(pool) == {"S2"}:
                (record,) = esync.store.runs(1)
                control.cancel(esync.engine, record.id, "by a test")

        esync.servers["S2"].watch = cancel
        summary = esync.rollout()
        assert summary.record.verdict is Verdict.CANCELLED
        assert out_of(pool) == set()
        assert "left out" not in summary.record.summary


def test_a_health_file_is_renamed_and_renamed_back() -> None:
    """While the service restarts the file has another name; at the end it is as it was, and nothing is beside it."""
    file = rf"{SITE}\up.htm"
    with esync_behind({"kind": "file", "file": file}, nodes=2) as esync:
        names: dict[str, list[str]] = {}
        for name, server in esync.servers.items():
            server.disk.put(server.product.site.child("up.htm"), b"up")

            def watch(action: Action, name: str = name) -> None:
                if action.what == "stop":
                    site = esync.servers[name].product.site
                    names[name] = [one for one in esync.servers[name].disk.names(site) if one.startswith("up.htm")]

            server.watch = watch
        summary = esync.rollout()
        assert summary.record.verdict is Verdict.JOINED, summary.record.summary
        assert names == {"S1": ["up.htm.drained"], "S2": ["up.htm.drained"]}
        for server in esync.servers.values():
            assert server.disk.read(server.product.site.child("up.htm")) == b"up"
            assert "up.htm.drained" not in server.disk.names(server.product.site)


EIGHT = [f"S{number}" for number in range(1, 9)]


@pytest.mark.parametrize("killed", [False, True], ids=["healthy", "worker killed"])
def test_no_request_fails_during_a_whole_rollout(tmp_path: Path, *, killed: bool) -> None:
    """Eight servers that answer nothing while their service restarts; also when a worker dies while one is out."""
    ports = {name: free_port() for name in EIGHT}
    with (
        haproxy(tmp_path, {name: f"127.0.0.1:{port}" for name, port in ports.items()}) as pool,
        esync_behind(behind(pool), nodes=8, pools={"all": {"min_healthy": "75%"}}) as esync,
        sites_of(esync, ports),
        steady_requests(pool.url) as requests,
    ):
        fewest = 8
        for server in esync.servers.values():
            server.service.start_seconds = 0.1

            def watch(action: Action) -> None:
                nonlocal fewest
                if action.what == "stop":
                    fewest = min(fewest, len(pool.balancer.healthy(EIGHT)))

            server.watch = watch
        if killed:
            esync.crew.send("S5", _Moments(6))
        with suppress(WorkerDied):
            esync.rollout()
        (record,) = esync.store.runs(1)
        if killed:
            assert pool.balancer.healthy(EIGHT) == set(EIGHT) - {"S5"}, "it died while its server was out"
        assert esync.resume(record.id).record.verdict is Verdict.JOINED
        assert pool.balancer.healthy(EIGHT) == set(EIGHT)
        assert fewest >= 6
    assert requests.asked > 50
    assert requests.failures == []


def test_no_request_fails_when_a_server_dies_while_it_is_out(tmp_path: Path) -> None:
    """It stays out of the balancer and is reported; the others are changed, and a retry puts it back when it works."""
    ports = {name: free_port() for name in EIGHT}
    with (
        haproxy(tmp_path, {name: f"127.0.0.1:{port}" for name, port in ports.items()}) as pool,
        esync_behind(behind(pool), nodes=8, pools={"all": {"min_healthy": "75%"}}) as esync,
        sites_of(esync, ports),
        steady_requests(pool.url) as requests,
    ):
        dies = esync.servers["S5"]
        dies.watch = _SiteLost(dies)
        summary = esync.rollout()
        assert summary.record.verdict is Verdict.FAILED
        assert "S5 is left out of the balancer" in summary.record.summary
        assert steps(summary, "S5")["undrain"].slug == "left_drained"
        assert pool.balancer.healthy(EIGHT) == set(EIGHT) - {"S5"}
        dies.watch.repair()
        healed = esync.ended(control.retry(esync.engine, summary.record.id))
        assert healed.record.verdict is Verdict.JOINED, healed.record.summary
        assert pool.balancer.healthy(EIGHT) == set(EIGHT)
    assert requests.asked > 50
    assert requests.failures == []


class _SiteLost:
    """The site of a server loses its pages when its service stops."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._page = server.product.site.below(r"WorkArea\ServerControlWS.asmx")
        self._content = server.disk.read(self._page)

    def __call__(self, action: Action) -> None:
        if action.what == "stop" and self._server.disk.stat(self._page):
            self._server.disk.remove(self._page)

    def repair(self) -> None:
        """It has them again."""
        self._server.watch = lambda _: None
        self._server.disk.put(self._page, self._content)


def test_without_a_balancer_requests_fail(tmp_path: Path) -> None:
    """The test above would see it: the same rollout, the same sites, no server is taken out."""
    ports = {name: free_port() for name in EIGHT[:2]}
    with (
        haproxy(tmp_path, {name: f"127.0.0.1:{port}" for name, port in ports.items()}) as pool,
        esync_behind(behind(pool), nodes=2) as behind_it,
        sites_of(behind_it, ports),
        steady_requests(pool.url) as requests,
    ):
        for server in behind_it.servers.values():
            server.service.start_seconds = 0.3
        behind_it.cluster = behind_it.cluster.model_copy(update={"balancers": {}})
        assert behind_it.rollout().record.verdict is Verdict.JOINED
    assert requests.failures


class _StatusPage(BaseHTTPRequestHandler):
    """Shows whether a server is enabled; a person enables and disables it."""

    enabled: dict[str, bool]

    def do_GET(self) -> None:
        """Answers for the server at the end of the path."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"enabled" if self.enabled[self.path[1:]] else b"disabled")

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Is quiet."""


def test_a_person_is_asked_and_the_run_continues_by_itself() -> None:
    """The request is an event of the run, which `esync watch` shows; the status page closes the gate."""
    enabled = {"S1": True, "S2": True}
    page = type("Page", (_StatusPage,), {"enabled": enabled})
    with ThreadingHTTPServer(("127.0.0.1", 0), page) as served:
        Thread(target=served.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{served.server_address[1]}/{{server}}"
        manual = {"kind": "manual", "status": url, "shows": "enabled", "drained_within": 20, "healthy_within": 20}
        with esync_behind(manual, nodes=2) as esync:
            asked: list[str] = []
            person = Thread(target=_clicks, args=(esync, enabled, asked), daemon=True)
            person.start()
            summary = esync.rollout()
            assert summary.record.verdict is Verdict.JOINED, summary.record.summary
            person.join(20)
        served.shutdown()
    assert [text[: text.index(" the balancer")] for text in asked] == [
        "take S1 out of",
        "put S1 back into",
        "take S2 out of",
        "put S2 back into",
    ]


def _clicks(esync: Esync, enabled: dict[str, bool], asked: list[str]) -> None:
    """A person who does what the events of the run ask for."""
    while len(asked) < 4:
        for record in esync.store.runs(1):
            events = [event for event in esync.store.events(record.id) if event.kind == "step.waits"]
            for event in events[len(asked) :]:
                asked.append(event.message)
                enabled[event.node] = event.message.startswith("put ")
        time.sleep(0.02)


PROGRAM = """#!{python}
import json, os, pathlib, sys
known = pathlib.Path(sys.argv[1], sys.argv[2])
assert os.environ["TOKEN"] == "t0ken-of-the-balancer"
print(os.environ["TOKEN"], file=sys.stderr)
if sys.argv[3] == "state":
    print(json.dumps({{"state": "draining" if known.exists() else "ready", "sessions": 0}}))
elif sys.argv[3] == "drain" and {works}:
    known.touch()
elif sys.argv[3] == "undrain":
    known.unlink()
else:
    sys.exit("no: " + os.environ["TOKEN"])
"""


@pytest.mark.parametrize("works", [True, False])
def test_a_program_operates_the_balancer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, works: bool) -> None:
    """By server and verb; its token is in no outcome and no event. When it fails, nothing is changed on the node."""
    monkeypatch.setenv("LB_TOKEN", "t0ken-of-the-balancer")
    program = tmp_path / "lb"
    program.write_text(PROGRAM.format(python=sys.executable, works=works))
    program.chmod(0o700)
    command = {"kind": "command", "program": [str(program), str(tmp_path)], "env": {"TOKEN": "env:LB_TOKEN"}}
    with esync_behind(command, nodes=1) as esync:
        esync.cluster = esync.cluster.model_copy(update={"folder": str(tmp_path)})
        summary = esync.rollout()
        outcomes = steps(summary, "S1")
        if works:
            assert summary.record.verdict is Verdict.JOINED, summary.record.summary
            assert outcomes["drain"].status is outcomes["undrain"].status is Status.CHANGED
        else:
            assert outcomes["drain"].message == "lb S1 drain: it ended with status 1: ***"
            assert outcomes["config_edit"].status is Status.SKIPPED
        texts = [one.to_json() for one in (*summary.outcomes, *esync.store.events(summary.record.id))]
        assert not [text for text in texts if "t0ken" in text]
        assert list(tmp_path.iterdir()) == [program]


def test_a_program_outside_the_allowed_folders_is_not_run(tmp_path: Path) -> None:
    """A cluster file cannot start any program of the worker's machine."""
    command = {"kind": "command", "program": ["/usr/bin/touch", str(tmp_path / "harm")]}
    with esync_behind(command, nodes=1) as esync:
        summary = esync.rollout()
        assert "the file is in none of the allowed folders" in steps(summary, "S1")["drain"].message
        assert list(tmp_path.iterdir()) == []


def test_doctor_asks_the_balancer(pool: Running) -> None:
    """Before the first rollout: one that does not know a server is found then, and not during the rollout."""
    with esync_behind(behind(pool), nodes=4) as esync:
        ready = esync.rollout(kind="doctor")
        assert "its balancer says ready, 0 sessions" in steps(ready, "S2")["pool_check"].message
    with esync_behind(behind(pool) | {"servers": {"S2": "web2"}}, nodes=4) as esync:
        found = esync.rollout(kind="doctor")
        assert "backend www has no server web2" in found.record.summary
        assert steps(found, "S2")["pool_check"].slug == "balancer_failed"

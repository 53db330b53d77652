"""One suite for every balancer: a real HAProxy, a program, a health file on a server, a person, the one in memory."""

import asyncio
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from typing_extensions import override

from lab.machine.network import Network
from lab.machine.paths import WindowsPath
from tests.haproxy import BACKEND, Running, free_port, haproxy
from tests.integration.simulated_servers import Server, ServerChannel
from tests.places import DOCS
from tests.waiting import wait_until
from workers.balancers.haproxy import HAProxy
from workers.balancers.health_file import HealthFile
from workers.balancers.manual import Manual
from workers.balancers.memory import MemoryBalancer
from workers.balancers.pages import NoAnswer, get
from workers.balancers.port import Balancer, Seen, ServerState
from workers.balancers.program import Program
from workers.errors import BalancerFailed
from workers.winrm.operations import Guard
from workers.winrm.session import AgentSession

SERVERS = ("S1", "S2", "S3")
HEALTH = r"C:\inetpub\wwwroot\up.htm"


@dataclass
class Judged:
    """A balancer, and how the test looks at what it has done, without the adapter."""

    balancer: Balancer
    is_out: Callable[[str], bool]
    others_are_known: bool = True


@contextmanager
def _memory(_: Path) -> Iterator[Judged]:
    balancer = MemoryBalancer(SERVERS)
    yield Judged(balancer, lambda name: balancer.seen[name].state is ServerState.DRAINING)


@contextmanager
def _haproxy(folder: Path, *, tcp: bool = False) -> Iterator[Judged]:
    servers = {name: f"127.0.0.1:{free_port()}" for name in SERVERS}
    with haproxy(folder, servers) as running:
        balancer = HAProxy(running.admin, BACKEND, 5) if tcp else running.balancer
        yield Judged(balancer, lambda name: f",{name}," in _drained(running))


def _drained(running: Running) -> str:
    return "".join(f"{line}\n" for line in running.tell("show stat").splitlines() if ",DRAIN," in line)


@contextmanager
def _tcp(folder: Path) -> Iterator[Judged]:
    with _haproxy(folder, tcp=True) as judged:
        yield judged


PROGRAM = """
import json, os, pathlib, sys
folder, server, verb = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
known = json.loads((folder / "known").read_text())
if server not in known:
    sys.exit(f"no server {server} (token {os.environ['LB_TOKEN']})")
if verb == "state":
    print(json.dumps({"state": known[server], "sessions": 0}))
else:
    known[server] = {"drain": "draining", "undrain": "ready"}[verb]
    (folder / "known").write_text(json.dumps(known))
"""


@contextmanager
def _program(folder: Path) -> Iterator[Judged]:
    (folder / "lb.py").write_text(PROGRAM)
    (folder / "known").write_text(json.dumps(dict.fromkeys(SERVERS, "ready")))
    argv = [sys.executable, str(folder / "lb.py"), str(folder)]
    is_out = lambda name: json.loads((folder / "known").read_text())[name] == "draining"  # noqa: E731
    yield Judged(Program(argv, {"LB_TOKEN": "s3cret-token"}, 20), is_out)


@contextmanager
def _nginx(folder: Path) -> Iterator[Judged]:
    """The shipped example, with a program in place of `sudo` that reloads nothing."""
    for name in SERVERS:
        (folder / f"{name}.conf").write_text(f"server 10.0.0.{name[1]}:80 weight=2;\n")
    (folder / "sudo").write_text("#!/bin/sh\nexit 0\n")
    (folder / "sudo").chmod(0o700)
    before = (folder / "S1.conf").read_text()
    argv = [sys.executable, str(DOCS / "examples" / "nginx.py"), str(folder)]
    is_out = lambda name: " down;" in (folder / f"{name}.conf").read_text()  # noqa: E731
    yield Judged(Program(argv, {"PATH": str(folder)}, 20), is_out)
    assert (folder / "S1.conf").read_text() == before


@contextmanager
def _health_file(_: Path) -> Iterator[Judged]:
    """Each server has its own file; this is the balancer of S1, and the others are asked otherwise."""
    loop = asyncio.new_event_loop()
    server = Server("S1", "10.7.0.1", Network())
    file = WindowsPath.of(HEALTH)
    server.disk.make_folder(file.parent)
    server.disk.put(file, b"up")
    session = AgentSession(ServerChannel(server, loop), "S1")
    session.open(deadline=20)
    guard = Guard(1, r"C:\ProgramData\esync-rollout\fence", (r"C:\inetpub\wwwroot",), run="r1", claim=1)
    balancer = HealthFile(
        HEALTH,
        lambda ops: session.ask(ops, deadline=20),
        lambda ops: session.ask(ops, deadline=20, guard=guard),
        lambda names: frozenset(set(names) - {"S1"}) | ({"S1"} if server.disk.stat(file) else set()),
    )
    yield Judged(balancer, lambda _: server.disk.stat(file) is None, others_are_known=False)
    assert {"up.htm", "up.htm.drained"} > set(server.disk.names(file.parent)), "the content is in one place"
    session.close()
    loop.close()


class _StatusPage(BaseHTTPRequestHandler):
    """Shows whether a server is enabled."""

    enabled: dict[str, bool]

    def do_GET(self) -> None:
        """Answers 404 for an unknown server."""
        name = self.path.rpartition("=")[2]
        known = self.enabled.get(name)
        self.send_response(404 if known is None else 200)
        self.end_headers()
        self.wfile.write(b"state: enabled" if known else b"state: disabled")

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Is quiet."""


@contextmanager
def _manual(_: Path) -> Iterator[Judged]:
    """The person does at once what the run asks for."""
    enabled = dict.fromkeys(SERVERS, True)
    page = type("Page", (_StatusPage,), {"enabled": enabled})
    with ThreadingHTTPServer(("127.0.0.1", 0), page) as served:
        Thread(target=served.serve_forever, daemon=True).start()

        def told(text: str) -> None:
            server = next(name for name in SERVERS if f" {name} " in text)
            enabled[server] = text.startswith("put ")

        url = f"http://127.0.0.1:{served.server_address[1]}/status?server={{server}}"
        yield Judged(Manual(url, "state: enabled", 5, told), lambda name: not enabled[name])
        served.shutdown()


KINDS: dict[str, Callable[[Path], AbstractContextManager[Judged]]] = {
    "memory": _memory,
    "haproxy": _haproxy,
    "haproxy over tcp": _tcp,
    "command": _program,
    "nginx example": _nginx,
    "file": _health_file,
    "manual": _manual,
}


@pytest.fixture(params=KINDS)
def judged(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Judged]:
    """A balancer of each kind, with three servers that get requests."""
    with KINDS[request.param](tmp_path) as one:
        yield one


def test_a_server_is_taken_out_and_put_back(judged: Judged) -> None:
    """Each request has its effect once, however often it is made, and on no other server."""
    balancer = judged.balancer
    assert balancer.state("S1").state is ServerState.READY
    assert balancer.healthy(SERVERS) == frozenset(SERVERS)
    for _ in range(2):
        balancer.drain("S1")
        assert judged.is_out("S1")
        assert balancer.state("S1").state is ServerState.DRAINING
        assert balancer.healthy(SERVERS) == {"S2", "S3"}
    if judged.others_are_known:
        assert not judged.is_out("S2")
    for _ in range(2):
        balancer.undrain("S1")
        assert not judged.is_out("S1")
        assert balancer.state("S1").state is ServerState.READY
    assert balancer.healthy(["S1"]) == {"S1"}


def test_a_server_that_it_does_not_know_is_an_error(tmp_path: Path) -> None:
    """And the error shows no secret."""
    for kind in ("memory", "haproxy", "command"):
        folder = tmp_path / kind
        folder.mkdir()
        with KINDS[kind](folder) as judged:
            for ask in (judged.balancer.state, judged.balancer.drain, judged.balancer.undrain):
                with pytest.raises(BalancerFailed):
                    ask("S9")


@pytest.mark.parametrize("name", ["S1 state ready;shutdown sessions server www/S2", "S1\nshow info", "", "S1/x"])
def test_no_name_becomes_another_command_of_haproxy(name: str) -> None:
    """Its runtime API takes several commands in a line."""
    with pytest.raises(BalancerFailed, match="no name such as"):
        HAProxy("/nowhere", BACKEND, 1).drain(name)


def test_haproxy_tells_drained_from_down_and_from_maintenance(tmp_path: Path) -> None:
    """A server whose check fails is down; once drained it is drained, although its check still fails."""
    with haproxy(tmp_path, {"S1": f"127.0.0.1:{free_port()}"}, "check inter 50ms fall 1") as running:
        down = lambda: running.balancer.state("S1").state is ServerState.DOWN  # noqa: E731
        wait_until(down)
        assert running.balancer.healthy(["S1"]) == frozenset()
        running.balancer.drain("S1")
        assert running.balancer.state("S1").state is ServerState.DRAINING
        running.balancer.undrain("S1")
        running.tell(f"set server {BACKEND}/S1 state maint")
        assert running.balancer.state("S1").state is ServerState.DRAINING


def test_a_balancer_that_does_not_answer_has_a_deadline(tmp_path: Path) -> None:
    """Nothing listens; or the listener never answers; or the program never ends, or writes without end."""
    with pytest.raises(BalancerFailed, match="HAProxy at"):
        HAProxy(str(tmp_path / "none"), BACKEND, 1).state("S1")
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(BalancerFailed):
        HAProxy(f"127.0.0.1:{silent.getsockname()[1]}", BACKEND, 0.2).state("S1")
    for body in ("import time; time.sleep(60)", "while True: print('x' * 1000)"):
        with pytest.raises(BalancerFailed, match="did not end within"):
            Program([sys.executable, "-c", body], {}, 1).drain("S1")


def test_a_program_that_has_written_all_has_only_what_is_left_of_its_deadline() -> None:
    """It closes its output shortly before the deadline, and does not end."""
    body = "import os, time; time.sleep(1); os.close(1); os.close(2); time.sleep(60)"
    began = time.monotonic()
    with pytest.raises(BalancerFailed, match="did not end within 2 s"):
        Program([sys.executable, "-c", body], {}, 2).drain("S1")
    assert time.monotonic() - began < 2.9


@pytest.mark.parametrize(
    "printed",
    ["", "ready", "[]", "{}", '{"state": "up"}', '{"state": "ready", "sessions": "x"}', "[" * 5000, '{"state": 1}'],
)
def test_a_program_that_prints_something_else_is_an_error(printed: str) -> None:
    """Whatever it prints, only the documented JSON counts."""
    program = Program([sys.executable, "-c", f"print({printed!r})"], {}, 20)
    with pytest.raises(BalancerFailed, match="did not print JSON"):
        program.state("S1")


def test_a_program_gets_server_and_verb_as_arguments_and_only_its_own_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No shell reads them, and no secret of the worker is in its environment."""
    monkeypatch.setenv("ESYNC_SEAL_KEY", "worker-secret")
    body = "import json, os, sys; print(json.dumps({'state': 'ready', 'sessions': len(os.environ)}), file=sys.stdout);"
    body += "sys.exit(0 if sys.argv[1:] == ['$(id);S1', 'state'] and 'ESYNC_SEAL_KEY' not in os.environ else 3)"
    seen = Program([sys.executable, "-c", body], {"LB": "1"}, 20).state("$(id);S1")
    assert seen == Seen(ServerState.READY, seen.sessions)
    assert seen.sessions in {3, 4}  # PATH, LANG, LB; Python may add one


def test_a_page_that_is_no_page_is_no_answer() -> None:
    """Wrong URLs, closed ports."""
    for url in ("ftp://x/", "http://[", "file:///etc/passwd", f"http://127.0.0.1:{free_port()}/"):
        with pytest.raises(NoAnswer):
            get(url, 1)

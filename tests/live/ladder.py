"""The ladder on a Windows host: reach it, log on, the agent's cases, a rollout into a scratch folder."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Literal

from tests.live.host import environment_of
from tests.live.scratch import EDITION, WEB_PORT, Occupied, Scratch, compiled, scratch_on
from tests.places import ROOT
from tests.waiting import PATIENCE, wait_until
from workers.errors import EsyncError
from workers.records import Endpoint
from workers.settings import Secret
from workers.texts import cleaned
from workers.winrm import operations as ops
from workers.winrm.session import AgentSession, Way, open_session
from workers.winrm.tls import fetch_certificate

__all__ = ["Ladder", "Rung"]

_TOOLS = r"C:\ProgramData\esync-live-tools"
_CASES = ("tests/live", "tests/contract/test_agent_protocol.py")
_ALL_CASES = "[host or left_as_it_was_found or test_live"
_SOME_CASES = (
    "test_live or ((host-envelope or host-hello or host-clock or host-read or host-write or host-mkdir or host-remove "
    "or host-service or host-registry) and not (pwsh or wine or lab))"
)
_CA = "ca.pem"  #: beside the cluster file
_ESYNC = str(Path(sys.executable).parent / "esync")
_LINES = 12  #: of what a command said, in the report
State = Literal["passed", "failed", "skipped"]


@dataclass
class Rung:
    """One step of the ladder, with what was seen there."""

    name: str
    state: State = "passed"
    seconds: float = 0.0
    seen: list[str] = field(default_factory=list)


class Ladder:
    """Climbs; a rung that the next ones need ends it when it fails.

    Args:
        endpoint, secret: address, account and password.
        practice: path of a practice service's program on the host; by default one is compiled there.
        cases: which of the agent's cases are run.
        tell: called with each line about the progress.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        secret: Secret,
        *,
        practice: str = "",
        cases: Literal["all", "some", "none"] = "some",
        tell: Callable[[str], None] = print,
    ) -> None:
        self._at = endpoint
        self._secret = secret
        self._practice = practice
        self._cases = cases
        self._tell = tell
        self.rungs: list[Rung] = []

    def climb(self) -> bool:
        """Runs all rungs; whether none has failed."""
        for name, act, needed in (
            ("reach", self._reach, True),
            ("log on: conversation", lambda rung: self._log_on(rung, "conversation"), True),
            ("log on: batch", lambda rung: self._log_on(rung, "batch"), False),
            ("stand-in service", self._stand_in, False),
            ("agent's cases", self._agent_cases, False),
            ("rollout into a scratch folder", self._rollout, False),
        ):
            rung = Rung(name)
            self.rungs.append(rung)
            self._run(rung, act)
            if needed and rung.state == "failed":
                break
        return all(rung.state != "failed" for rung in self.rungs)

    def _run(self, rung: Rung, act: Callable[[Rung], None]) -> None:
        self._tell(f"{rung.name} ...")
        begun = time.monotonic()
        try:
            act(rung)
        except EsyncError as error:
            rung.state = "failed"
            rung.seen += [f"{type(error).__name__}: {error}", *([f"Fix: {error.remedy}"] if error.remedy else [])]
        except Exception as error:  # noqa: BLE001 - whatever happens on a rung belongs into the report
            rung.state = "failed"
            rung.seen.append(f"{type(error).__name__}: {error}")
        rung.seconds = round(time.monotonic() - begun, 1)
        self._tell(f"  {rung.state} after {rung.seconds:g} s")

    def _reach(self, rung: Rung) -> None:
        if self._at.scheme == "http":
            rung.seen.append("http: there is no certificate")
            return
        begun = time.monotonic()
        certificate = fetch_certificate(self._at.host, self._at.port, self._at.connect_timeout)
        rung.seen.append(f"TLS after {time.monotonic() - begun:.2f} s, certificate of {len(certificate)} bytes")

    def _log_on(self, rung: Rung, way: Way) -> None:
        with self._session(way) as session:
            rung.seen.append(str(session.hello()))
            begun = time.monotonic()
            (clock,) = session.ask([ops.clock()], deadline=60)
            skew = ops.time_of(clock["now"]).timestamp() - time.time()
            rung.seen.append(f"a request takes {time.monotonic() - begun:.2f} s; its clock is {skew:+.0f} s from ours")

    @contextmanager
    def _session(self, way: Way = "auto") -> Iterator[AgentSession]:
        with closing(open_session(self._at, self._secret, way=way, deadline=120)) as session:
            yield session

    def _stand_in(self, rung: Rung) -> None:
        if self._practice:
            rung.seen.append("its program was given")
            return
        with self._session() as session:
            self._practice = compiled(session, _TOOLS)
        if not self._practice:
            rung.state = "skipped"
            rung.seen.append("it could not be compiled there; name a program: --service-program")

    def _agent_cases(self, rung: Rung) -> None:
        if self._cases == "none":
            rung.state = "skipped"
            return
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder, "results.xml")
            chosen = _ALL_CASES if self._cases == "all" else _SOME_CASES
            command = [sys.executable, "-m", "pytest", *_CASES, "-q", "-n", "0", "-p", "no:cacheprovider"]
            subprocess.run(
                [*command, "-k", chosen, f"--junitxml={results}"],
                cwd=ROOT,
                env={**os.environ, **environment_of(self._at, self._secret, self._practice)},
                capture_output=True,
                check=False,
            )
            count, failures = _results(results)
        rung.seen = [f"{count} cases, {len(failures)} failed", *failures]
        rung.state = "failed" if failures or not count else "passed"

    def _rollout(self, rung: Rung) -> None:
        if not self._practice:
            rung.state = "skipped"
            rung.seen.append("there is no stand-in service")
            return
        address = self._own_address()
        try:
            with (
                self._session() as session,
                _web_site(address),
                scratch_on(session, address, self._practice) as scratch,
            ):
                self._rolled_out(rung, session, scratch)
        except Occupied as why:
            rung.state = "skipped"
            rung.seen.append(f"{why}: use a host without the product")

    def _own_address(self) -> str:
        """The host's own address where it is on this machine's loopback; otherwise every address of the host."""
        try:
            return self._at.host if ip_address(self._at.host).is_loopback else "0.0.0.0"  # noqa: S104 - on the host
        except ValueError:
            return "0.0.0.0"  # noqa: S104 - on the host

    def _rolled_out(self, rung: Rung, session: AgentSession, scratch: Scratch) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "cluster.yaml")
            if self._at.ca_file:  # a cluster file may name files beside it
                shutil.copy(self._at.ca_file, Path(folder, _CA))
            file.write_text(_cluster(self._at, session.hello().computer, scratch))
            esync = _Esync(Path(folder), environment_of(self._at, self._secret, ""))
            with esync.kept_up():
                if not _all_run(esync, rung, str(file)):
                    return
            if changed := scratch.differences(session):
                rung.state = "failed"
                rung.seen.append(f"after the rollback these files differ: {', '.join(changed)}")


def _all_run(esync: "_Esync", rung: Rung, file: str) -> bool:
    """Every command, in the order of a change; whether something has to be undone."""
    for expected, *arguments in (
        (0, "check", file),
        (2, "plan", file),
        (0, "rollout", file, "-y"),
        (0, "plan", file),
        (0, "verify", file),
        (0, "rollback", "last", "-y"),
        (0, "cleanup", file, "--all", "-y"),
    ):
        status, said = esync.run(*arguments)
        wrong = "" if status == expected else f", expected {expected}"
        rung.seen.append(f"esync {arguments[0]}: exit {status}{wrong}")
        if wrong:
            rung.state = "failed"
            rung.seen += [f"  {line}" for line in said[-_LINES:]]
            if not any("esync rollout" in line for line in rung.seen):  # nothing has to be undone yet
                return False
    return True


@dataclass(frozen=True)
class _Esync:
    """The command, with a state folder, a broker and a worker of its own."""

    folder: Path
    variables: Mapping[str, str]

    def run(self, *arguments: str) -> tuple[int, list[str]]:
        """Exit status, and what was printed for people."""
        done = subprocess.run(
            [_ESYNC, *arguments], cwd=ROOT, env=self._environment(), capture_output=True, text=True, check=False
        )
        return done.returncode, [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]

    @contextmanager
    def kept_up(self) -> Iterator[None]:
        """With `esync up` meanwhile: the commands share its worker, which keeps its session with the host."""
        log = self.folder / "up.log"
        with log.open("w") as output:
            up = subprocess.Popen([_ESYNC, "up"], cwd=ROOT, env=self._environment(), stdout=output, stderr=output)
        try:
            wait_until(lambda: up.poll() is not None or "Ctrl-C" in log.read_text(), log.read_text)
            yield
        finally:
            up.terminate()
            up.wait(PATIENCE)

    def _environment(self) -> dict[str, str]:
        own = {"ESYNC_STATE": str(self.folder / "state"), "ESYNC_WORKERS": "1", "PYTHONWARNINGS": "ignore"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ESYNC_")}
        return {**kept, **self.variables, **own}


def _cluster(at: Endpoint, computer: str, scratch: Scratch) -> str:
    """A cluster file for this one host, as JSON, which is YAML."""
    given = at.model_dump(mode="json", exclude_defaults=True, exclude={"node", "host", "connect_timeout"})
    if "ca_file" in given:
        given["ca_file"] = _CA
    return json.dumps(
        {
            "name": "live",
            "edition": EDITION,
            "origin": computer,
            "site": {
                "path": scratch.site,
                "service_folder": scratch.service_folder,
                "product_folder": scratch.product_folder,
            },
            "connection": given,
            "policy": {"deadlines": {"settle": 2}},
            "nodes": [{"name": computer, "host": at.host, "role": "staging", "pool": "live"}],
        }
    )


def _results(file: Path) -> tuple[int, list[str]]:
    """The number of cases that ran, and a line for each that failed."""
    if not file.exists():
        return 0, ["pytest wrote no results"]
    cases = ET.parse(file).getroot().iter("testcase")  # noqa: S314 - written by our own child
    ran = [case for case in cases if case.find("skipped") is None]
    failed: list[str] = []
    for case in ran:
        found = case.find("failure")
        found = case.find("error") if found is None else found
        if found is not None:
            failed.append(f"{case.get('name')}: {cleaned(found.get('message') or '', 300)}")
    return len(ran), failed


_SERVICES = ("/contentws.asmx", "/servercontrolws.asmx")


class _Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answers as the site's web service would, and as a site without the page to everything else."""
        self.send_response(200 if self.path.lower().endswith(_SERVICES) else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Prints nothing."""


@contextmanager
def _web_site(address: str) -> Iterator[None]:
    """A web service for a host on this machine's loopback, unless its stand-in service has one."""
    try:
        server = ThreadingHTTPServer((address, WEB_PORT), _Answering) if address != "0.0.0.0" else None  # noqa: S104
    except OSError:
        server = None
    if server is None:
        yield
        return
    with server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()

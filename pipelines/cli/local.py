"""Everything on one machine: services that stay (`up`), simulated servers (`lab`), and both with a run (`demo`)."""

import contextlib
import json
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines.cli.follow import attend, say, write_report
from pipelines.cluster_file.loader import load_cluster
from pipelines.local.processes import Child
from pipelines.local.services import FlowerAccess, engine_with_worker
from pipelines.report.rows import Report
from workers.errors import InputRefused
from workers.host.private import make_folder
from workers.settings import Settings

__all__ = ["demo", "lab", "up"]

WINRM_PORT = 5986
LAB_START = 60.0  #: seconds until a lab of a few hundred nodes listens


def up(settings: Settings, people: Console) -> None:
    """Runs broker, worker and Flower until it is interrupted."""
    if settings.broker_url is not None:
        raise InputRefused(
            "ESYNC_BROKER_URL names a broker, and `esync up` brings its own",
            remedy="unset it; or start a worker for that broker: celery -A pipelines.worker worker",
        )
    with engine_with_worker(settings, lambda text: say(people, text), kind="up", flower=True) as services:
        say(people, f"broker and worker run; logs: {services.logs}")
        if services.flower:
            say(people, f"Flower: {services.flower.url} (user {services.flower.user}, password in a file)")
            say(people, f"password file: {services.flower.password_file}")
        say(people, "every esync command on this machine uses them now; Ctrl-C ends them", "bold")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                services.check()
                time.sleep(0.3)
        say(people, "\nending")


def lab(folder: Path, options: Mapping[str, str], people: Console) -> Iterator[dict[str, Any]]:
    """Starts a lab that stays: gives what it says once all its nodes listen, then waits for its end or Ctrl-C.

    The lab shares no code with us: it is another program that writes a cluster file and speaks WinRM.
    """
    with _lab(folder, options) as (ready, child):
        yield ready
        say(people, f"{len(ready['nodes'])} simulated servers run; cluster file: {ready['cluster']}")
        say(people, f"try: esync rollout {ready['cluster']}", "bold")
        with contextlib.suppress(KeyboardInterrupt):
            while child.exit_status is None:
                time.sleep(0.3)
            raise child.start_error()


@contextlib.contextmanager
def _lab(folder: Path, options: Mapping[str, str]) -> Iterator[tuple[dict[str, Any], Child]]:
    folder = make_folder(folder.resolve())
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    arguments = ["-m", "lab", "--dir", str(folder), *given]
    with Child("lab", arguments, folder=folder, log=folder / "lab.log", output=folder / "lab.ready") as child:
        yield _ready(child, folder / "lab.ready"), child


def _ready(child: Child, output: Path) -> dict[str, Any]:
    """The line of JSON that the lab prints when all its nodes listen."""
    until = time.monotonic() + LAB_START
    while time.monotonic() < until:
        text = output.read_text("utf-8", "replace") if output.exists() else ""
        if text.endswith("\n"):
            said = json.loads(text)
            if isinstance(said, dict):
                return said
        if child.exit_status is not None:
            raise child.start_error()
        time.sleep(0.02)
    raise child.start_error()


def demo(settings: Settings, people: Console, *, keep: bool = False) -> Report:
    """Four simulated servers, from untouched to joined: everything real but the servers.

    Args:
        settings: only its concurrency is used; broker, worker and Flower are the demo's own.
        people: told everything.
        keep: leave the folder with the servers' disks, the logs and the broker's data.
    """
    folder = Path(tempfile.mkdtemp(prefix="esync-demo-"))
    try:
        return _demo_in(folder, settings, people)
    finally:
        if keep:
            say(people, f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _demo_in(folder: Path, settings: Settings, people: Console) -> Report:
    own = settings.model_copy(update={"state": folder / "state", "broker_url": None, "store_url": None})
    say(people, "starting four simulated Windows servers, a broker, a worker and Flower ...")
    with _lab(folder / "lab", _addresses()) as (ready, _):
        with engine_with_worker(own, lambda text: say(people, text), kind="demo", flower=True) as services:
            if services.flower:
                _show_flower(services.flower, people)
            report = attend(services, load_cluster(ready["cluster"]), people, reason="demo")
        page = write_report(report, _writable(Path.cwd()))
    say(people, f"report: {page}")
    return report


def _addresses() -> dict[str, str]:
    """Options for a lab that disturbs no other: the shipped four servers, or four made up where nobody is."""
    if _is_free("127.0.77"):
        return {}
    spare = next((base for base in (f"127.0.{n}" for n in range(78, 250)) if _is_free(base)), "127.0.78")
    return {"nodes": "4", "address": f"{spare}.0/24"}


def _is_free(base: str) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((f"{base}.11", WINRM_PORT))
        return True
    return False


def _show_flower(flower: FlowerAccess, people: Console) -> None:
    # A throw-away password of a window that closes with the demo: shown on the terminal and nowhere else.
    say(people, f"watch it in Flower, too: {flower.url} user {flower.user} password {flower.password.reveal()}", "bold")


def _writable(folder: Path) -> Path:
    """That folder, or a new temporary one where nothing may be written."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="esync-report-"))

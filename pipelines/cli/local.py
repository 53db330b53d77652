"""The verbs that run things on this machine: services that stay (`up`), simulated servers (`lab`), both (`demo`)."""

import contextlib
import shlex
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict

from pipelines.cli.console import AsJson, notify, print_json, stderr_console
from pipelines.cli.follow import finish, start_and_follow, workers_for, write_report
from pipelines.cluster_file.loader import load_cluster
from pipelines.local import lab_faults
from pipelines.local.processes import Child
from pipelines.local.services import FlowerAccess, engine_with_worker
from pipelines.report.rows import Report
from workers.errors import InputRefused
from workers.host.private import make_folder
from workers.settings import load_settings

__all__ = ["VERBS"]

WINRM_PORT = 5986
LAB_START = 60.0  #: seconds until a lab of a few hundred nodes listens
_POLL = 0.3  #: seconds between two checks of a process that stays


class LabReady(BaseModel):
    """The line of JSON that the lab prints when all its nodes listen. It has more fields than are used here."""

    model_config = ConfigDict(frozen=True, extra="allow")

    cluster: str  #: the cluster file that the lab has written
    nodes: tuple[str, ...]


def up() -> None:
    """Run broker, worker and Flower on this machine until Ctrl-C."""
    settings = load_settings()
    if settings.broker_url is not None:
        raise InputRefused(
            "ESYNC_BROKER_URL names a broker, but `esync up` starts its own",
            remedy="unset it; or start a worker for that broker: celery -A pipelines.worker worker",
        )
    with workers_for("up", flower=True) as services:
        notify(f"broker and worker are running; logs: {services.logs}")
        if services.flower:
            notify(f"Flower: {services.flower.url} (user {services.flower.user}, password in a file)")
            notify(f"password file: {services.flower.password_file}")
        if services.broker_file:
            notify("broker for other programs; this prints its address, which has its password in it:")
            notify(f"  cat {shlex.quote(str(services.broker_file))}")
            notify(_triggers(settings.clusters))
        notify("all esync commands on this machine now use them; Ctrl-C stops them", "bold")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                services.check()
                time.sleep(_POLL)
        notify("\nstopping")


def _triggers(clusters: Path | None) -> str:
    """Which clusters other programs may start runs of."""
    if clusters is None:
        return "other programs cannot start runs: ESYNC_CLUSTERS, the folder of their cluster files, is not set"
    return f"other programs can start runs of the cluster files in {clusters}"


def lab(  # noqa: PLR0913 - a command's options
    *,
    folder: Annotated[Path, typer.Option("--dir", help="The lab's folder; kept between starts.")] = Path(".lab"),
    nodes: Annotated[int | None, typer.Option(min=1, max=5000, help="Create this number of nodes.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A lab file (YAML).")] = None,
    edition: Annotated[str, typer.Option(help="The product's edition: 8.0, 8.5 or 9.1.")] = "",
    address: Annotated[str, typer.Option(metavar="RANGE", help="Loopback addresses for created nodes.")] = "",
    fault: Annotated[
        list[str] | None, typer.Option(metavar="NODE:FAULT", help="Break a node of the running lab; repeatable.")
    ] = None,
    heal: Annotated[
        list[str] | None, typer.Option(metavar="NODE", help="Heal a node of the running lab, or `all`.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run simulated Windows servers until Ctrl-C; or break and heal servers of a running lab."""
    if fault or heal:
        faults = lab_faults.change(folder, heal or (), fault or ())
        print_json(faults) if as_json else notify(lab_faults.sentence(faults))
        return
    given = {"nodes": nodes, "config": config and config.resolve(), "edition": edition, "address": address}
    options = {name: str(value) for name, value in given.items() if value}
    with _lab(folder, options) as (ready, child):
        if as_json:
            print_json(ready.model_dump())
        notify(f"{len(ready.nodes)} simulated servers are running; cluster file: {ready.cluster}")
        notify(f"try: esync rollout {ready.cluster}", "bold")
        with contextlib.suppress(KeyboardInterrupt):
            while child.exit_status is None:
                time.sleep(_POLL)
            raise child.start_error()


@contextlib.contextmanager
def _lab(folder: Path, options: Mapping[str, str]) -> Iterator[tuple[LabReady, Child]]:
    """A lab that runs. It shares no code with us: another program that writes a cluster file and speaks WinRM."""
    folder = make_folder(folder.resolve())
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    arguments = ["-m", "lab", "--dir", str(folder), *given]
    with Child("lab", arguments, folder=folder, log=folder / "lab.log", output=folder / "lab.ready") as child:
        yield _ready(child, folder / "lab.ready"), child


def _ready(child: Child, output: Path) -> LabReady:
    until = time.monotonic() + LAB_START
    while time.monotonic() < until:
        text = output.read_text("utf-8", "replace") if output.exists() else ""
        if text.endswith("\n"):
            return LabReady.model_validate_json(text)
        if child.exit_status is not None:
            raise child.start_error()
        time.sleep(0.02)
    raise child.start_error()


def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the demo's folder: disks, logs, data.")] = False,
    as_json: AsJson = False,
) -> None:
    """Roll eSync out on four simulated servers, from untouched to joined. Everything but the servers is real."""
    folder = Path(tempfile.mkdtemp(prefix="esync-demo-"))
    try:
        report = _demo(folder)
    finally:
        if keep:
            notify(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    finish(report, as_json=as_json)


def _demo(folder: Path) -> Report:
    """A rollout with its own broker, worker and Flower; of the settings only the concurrency is used."""
    own = {"state": folder / "state", "broker_url": None, "store_url": None}
    settings = load_settings().model_copy(update=own)
    notify("starting four simulated Windows servers, a broker, a worker and Flower ...")
    with _lab(folder / "lab", _addresses()) as (ready, _):
        with engine_with_worker(settings, notify, kind="demo", flower=True) as services:
            if services.flower:
                _show_flower(services.flower)
            report = start_and_follow(services, load_cluster(ready.cluster), stderr_console(), reason="demo")
        page = write_report(report, _writable(Path.cwd()))
    notify(f"report: {page}")
    return report


def _addresses() -> dict[str, str]:
    """Options for a lab that disturbs no other lab: the shipped four servers, or four created at free addresses."""
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


def _show_flower(flower: FlowerAccess) -> None:
    # A throw-away password of a page that closes with the demo: shown on the terminal and nowhere else.
    notify(f"also in Flower: {flower.url} user {flower.user} password {flower.password.reveal()}", "bold")


def _writable(folder: Path) -> Path:
    """That folder, or a new temporary one if it cannot be written to."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="esync-report-"))


#: In the order of `esync --help`.
VERBS: tuple[Callable[..., None], ...] = (up, lab, demo)

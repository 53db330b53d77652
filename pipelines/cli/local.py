"""The verbs that run things on this machine: services that stay (`up`), simulated servers (`lab`), both (`demo`)."""

import contextlib
import shlex
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import BaseModel, ConfigDict

from pipelines.cli.console import AsJson, Verbose, notify, print_json, stderr_console
from pipelines.cli.follow import followed
from pipelines.cli.picture import draw
from pipelines.cli.results import finish, print_result, write_report
from pipelines.cluster_file.loader import load_cluster
from pipelines.local import lab_faults
from pipelines.local.page import require_clusters
from pipelines.local.processes import Child
from pipelines.local.provided import FlowerAccess
from pipelines.local.services import engine_with_worker, remarks_here
from pipelines.report.rows import Report
from pipelines.usecases import runs
from pipelines.usecases.updates import progress_of
from workers.errors import EsyncError, InputRefused
from workers.host.private import make_folder
from workers.settings import load_settings

__all__ = ["demo", "lab", "up"]

WINRM_PORT = 5986
LAB_START = 180.0  #: seconds until a lab of a few hundred nodes listens, also on a very busy machine
_POLL = 0.3  #: seconds between two checks of a process that stays


class LabReady(BaseModel):
    """The line of JSON that the lab prints when all its nodes listen. It has more fields than are used here."""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    cluster: str  #: the cluster file that the lab has written
    nodes: tuple[str, ...]


def up(
    *,
    clusters: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder of the cluster files that the page and other programs may name.",
            exists=True,
            file_okay=False,
            resolve_path=True,
        ),
    ] = None,
) -> None:
    """Run workers, the page and Flower on this machine until Ctrl-C: with ESYNC_BROKER_URL, or an own broker.

    No browser is opened: the address of the page, and a file with a token to log on with, are printed.
    """
    settings = load_settings()
    if clusters is not None:
        settings = settings.model_copy(update={"clusters": clusters})
    require_clusters(settings.clusters)
    with engine_with_worker(settings, notify, kind="up", flower=True) as services:
        outer = settings.broker_url is not None
        running = "a worker for the broker of ESYNC_BROKER_URL is" if outer else "broker and worker are"
        notify(f"{running} running; logs: {services.logs}")
        if services.page:
            notify(f"page: {services.page.url} (log on with the token in {services.page.token_file})", "bold")
        if services.flower:
            notify(f"Flower: {services.flower.url} (user {services.flower.user}, password in a file)")
            notify(f"password file: {services.flower.password_file}")
        if services.broker_file:
            notify("broker for other programs; this prints its address, which has its password in it:")
            notify(f"  cat {shlex.quote(str(services.broker_file))}")
        notify(_triggers(settings.clusters))
        for remark in (*services.engine.remarks(), *remarks_here(settings)):
            notify(f"warning: {remark}", "magenta")
        users = "with that broker use the worker" if outer else "on this machine now use them"
        notify(f"all esync commands {users}; Ctrl-C stops them{', not the broker' if outer else ''}", "bold")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                services.check()
                time.sleep(_POLL)
        notify("\nstopping")


def _triggers(clusters: Path | None) -> str:
    """Which clusters other programs may start runs of."""
    if clusters is None:
        return "the page and other programs cannot start runs: --clusters or ESYNC_CLUSTERS, a folder, is not set"
    return f"the page and other programs can start runs of the cluster files in {clusters}"


def lab(  # noqa: PLR0913 - a command's options
    *,
    folder: Annotated[Path, typer.Option("--dir", help="The lab's folder; kept between starts.")] = Path(".lab"),
    nodes: Annotated[int | None, typer.Option(min=1, max=5000, help="Create this number of nodes.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A lab file (YAML).", readable=False)] = None,
    edition: Annotated[Literal["8.0", "8.5", "9.1"] | None, typer.Option(help="The product's edition.")] = None,
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
            raise _not_started(child)
        time.sleep(0.02)
    raise child.start_error()


def _not_started(child: Child) -> EsyncError:
    """The error for a lab that ended at once: the reason that it gave, if it gave one."""
    said, refused, why = child.last_log_line().partition("lab: ")
    if said or not refused:
        return child.start_error()
    return InputRefused(
        f"the lab cannot start: {why}",
        remedy="correct the option or the lab file; esync lab --help and docs/lab.md have what is allowed",
    )


def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the demo's folder: disks, logs, data.")] = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Roll eSync out on four simulated servers, from untouched to joined. Everything but the servers is real."""
    folder = Path(tempfile.mkdtemp(prefix="esync-demo-"))
    try:
        report = _demo(folder, verbose=verbose)
    finally:
        if keep:
            notify(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    finish(report, as_json=as_json)


def _demo(folder: Path, *, verbose: bool) -> Report:
    """A rollout with its own broker, worker and Flower; of the settings only the concurrency is used."""
    own = {"state": folder / "state", "broker_url": None, "store_url": None}
    settings = load_settings().model_copy(update=own)
    people = stderr_console()
    for line in _DEMO:
        notify(line)
    with _lab(folder / "lab", _addresses()) as (ready, _):
        with engine_with_worker(settings, notify, kind="demo", flower=True) as services:
            if services.flower:
                _show_flower(services.flower)
            record = runs.start(services.engine, load_cluster(ready.cluster), kind="rollout", reason="demo")
            report = followed(services, record, people, verbose=verbose)
            if not people.is_terminal:
                people.print()
                people.print(draw(progress_of(services.engine.store, record), people))
        page = write_report(report, _writable(Path.cwd()))
    print_result(report, people, verbose=verbose, commands=_after_the_demo())
    notify(f"report: {page}")
    return report


#: What the demo does.
_DEMO = (
    "demo: sets eSync up on four simulated Windows servers; broker, worker, WinRM and Flower are real",
    "  1  looks at all four servers and makes the plan; nothing is written before",
    "  2  changes staging, then production, one server of a pool at a time: configuration, certificates, restart",
    "  3  looks again and verifies every statement about a joined cluster",
    "starting ...",
)


def _after_the_demo() -> list[str]:
    """What a newcomer tries next, in this order: the demo's servers and its run are gone."""
    found, activate = shutil.which("esync"), Path(sys.prefix) / "bin" / "activate"
    if Path.cwd() in activate.parents:
        activate = activate.relative_to(Path.cwd())
    here = found is not None and Path(found).parent == Path(sys.prefix) / "bin"
    return [
        *([] if here or not activate.exists() else [f". {shlex.quote(str(activate))}"]),
        "esync lab                        # four servers; keep them running",
        "esync plan .lab/cluster.yaml     # in a second terminal: the changes",
        "esync rollout .lab/cluster.yaml  # shows the plan, asks, applies, proves",
        "esync report -o report.html      # that run as a page",
        "esync up --clusters .lab         # workers, and a page to do it by mouse",
    ]


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
    notify(f"also in Flower: {flower.url} user {flower.user} password {flower.password.reveal()}")


def _writable(folder: Path) -> Path:
    """That folder, or a new temporary one if it cannot be written to."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="esync-report-"))

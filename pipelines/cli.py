"""The `esync` command: thin. stdout is data, stderr is for people, the exit status follows from the verdict."""

import contextlib
import json
import os
import signal
import sys
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console

from pipelines import commands, one_machine
from pipelines.attend import attend, conclude, say, watch, write_report
from pipelines.engine import Engine
from pipelines.inventory import ClusterRefused, load_cluster
from pipelines.report import build
from pipelines.report_html import to_html
from pipelines.report_rows import Report
from pipelines.report_text import duration, to_text
from pipelines.services import Running, looking, working
from tasks.cluster import Cluster
from workers.errors import EsyncError, InputRefused, RunUnknown
from workers.logs import configure
from workers.records import RunRecord, RunState, now
from workers.settings import load_settings

__all__ = ["app", "main", "run"]

app = typer.Typer(
    help="Set Ektron eSync up on every server of a load-balanced cluster, in parallel, and prove that it is joined.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ClusterFile = Annotated[Path, typer.Argument(metavar="FILE", help="The cluster file (YAML).", show_default=False)]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or `last`.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout, and nothing else there.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")]
Key = Annotated[str, typer.Option("--key", metavar="TEXT", help="Idempotency key: the same key twice is one run.")]
ReportFolder = Annotated[
    Path | None, typer.Option("--report", metavar="DIR", help="Write the report (HTML, JSON) into this folder.")
]


class Ended(Exception):
    """A command is over, with this exit status. Not an error."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def main() -> NoReturn:
    """Entry point of `esync`."""
    for name in ("SIGTERM", "SIGHUP"):
        with contextlib.suppress(AttributeError, ValueError):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), _terminated)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """One command. Its exit status: 0 done, 1 usage or internal error, 2 to 7 and 130 by error or verdict."""
    try:
        app(arguments, prog_name="esync")
    except Ended as ended:
        return ended.status
    except EsyncError as error:
        return _refused(error, as_json="--json" in arguments)
    except SystemExit as stopped:
        return _by_typer(stopped.code)
    except Exception as error:  # noqa: BLE001 - the one border: people get a sentence, not a traceback
        return _broken(error)
    return 0


@app.callback(invoke_without_command=True)
def _every(
    *, show: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False
) -> None:
    if show:
        typer.echo(f"esync {version('esync-rollout')}")
        raise Ended(0)
    configure("WARNING")


@app.command()
def check(file: ClusterFile, *, as_json: AsJson = False) -> None:
    """Read a cluster file and name every mistake in it. Contacts nobody."""
    try:
        cluster = load_cluster(file)
    except ClusterRefused as refused:
        if as_json:
            problems = [problem.model_dump() for problem in refused.problems]
            _data({"ok": False, "cluster": None, "nodes": 0, "problems": problems})
            raise Ended(refused.exit_code) from None
        raise
    if as_json:
        _data({"ok": True, "cluster": cluster.name, "nodes": len(cluster.nodes), "problems": []})
    else:
        typer.echo(f"{file}: cluster {_described(cluster)}: no mistakes")


@app.command()
def rollout(
    file: ClusterFile,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    reason: Reason = "",
    key: Key = "",
    report: ReportFolder = None,
    as_json: AsJson = False,
) -> None:
    """Set eSync up on every node of a cluster, and prove it."""
    cluster = load_cluster(file)
    say(_people(), f"rollout of cluster {_described(cluster)}")
    if not yes and sys.stdin.isatty() and sys.stderr.isatty() and not typer.confirm("go on?", err=True):
        raise Ended(130)
    _run_on(cluster, "rollout", reason=reason, key=key, folder=report, as_json=as_json)


@app.command()
def verify(file: ClusterFile, *, reason: Reason = "", report: ReportFolder = None, as_json: AsJson = False) -> None:
    """Check every invariant of a cluster on its nodes. Changes nothing."""
    cluster = load_cluster(file)
    say(_people(), f"verify cluster {_described(cluster)}")
    _run_on(cluster, "verify", reason=reason, folder=report, as_json=as_json)


@app.command()
def status(
    run: RunId = "last",
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Watch until it ends; exit by its verdict.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show where a run stands."""
    with looking(load_settings()) as engine:
        record = _run_named(engine, run)
        if follow and record.state is not RunState.CONCLUDED:
            shown = watch(Running(engine), record, _people())
        else:
            shown = _report_of(engine, record)
            if not as_json:
                conclude(shown, Console(highlight=False))
        if as_json:
            _data(commands.status(engine, record.id))
    raise Ended(_status(shown) if follow else 0)


@app.command()
def runs(
    *, limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 20, as_json: AsJson = False
) -> None:
    """List the newest runs, newest first."""
    with looking(load_settings()) as engine:
        records = engine.store.runs(limit)
    if as_json:
        _data([_row(record) for record in records])
        return
    for record in records:
        took = duration(((record.ended or now()) - record.created).total_seconds())
        state = record.verdict.value if record.verdict else record.state.value
        typer.echo(f"{record.id}  {record.kind:<8} {state:<12} {took:>12}  {record.who}: {record.reason or '-'}")
    if not records:
        say(_people(), "no runs yet")


@app.command()
def report(
    run: RunId = "last",
    *,
    form: Annotated[Literal["text", "json", "html"], typer.Option("--format", help="What to write.")] = "text",
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Instead of stdout.")] = None,
) -> None:
    """Write the report of a run."""
    with looking(load_settings()) as engine:
        shown = _report_of(engine, _run_named(engine, run))
    text = {"text": to_text, "json": _pretty, "html": to_html}[form](shown)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise InputRefused(f"the report cannot be written: {error.strerror}", file=str(output)) from None
    say(_people(), f"report: {output}")


@app.command()
def cancel(run: RunId, *, reason: Reason = "") -> None:
    """Ask a run to stop at the next safe point. Nodes finish the step they are in."""
    with looking(load_settings()) as engine:
        record = _run_named(engine, run)
        commands.cancel(engine, record.id, reason)
    over = record.state is RunState.CONCLUDED
    say(_people(), f"run {record.id} has ended already" if over else f"run {record.id} was asked to stop")


@app.command()
def up() -> None:
    """Run broker, worker and Flower on this machine until Ctrl-C."""
    one_machine.up(load_settings(), _people())


@app.command()
def lab(
    *,
    folder: Annotated[Path, typer.Option("--dir", help="Where its files go; kept between starts.")] = Path(".lab"),
    nodes: Annotated[int | None, typer.Option(min=1, max=5000, help="Make up that many nodes.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A lab file (YAML).")] = None,
    edition: Annotated[str, typer.Option(help="The product's edition: 8.0, 8.5 or 9.1.")] = "",
    as_json: AsJson = False,
) -> None:
    """Run simulated Windows servers until Ctrl-C."""
    given = {"nodes": nodes, "config": config and config.resolve(), "edition": edition}
    options = {name: str(value) for name, value in given.items() if value}
    for ready in one_machine.lab(folder, options, _people()):
        if as_json:
            _data(ready)


@app.command()
def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the demo's folder: disks, logs, data.")] = False,
    as_json: AsJson = False,
) -> None:
    """Roll eSync out on four simulated servers, from untouched to joined."""
    shown = one_machine.demo(load_settings(), _people(), keep=keep)
    if as_json:
        typer.echo(_pretty(shown), nl=False)
    raise Ended(_status(shown))


def _run_on(cluster: Cluster, kind: str, *, reason: str, key: str = "", folder: Path | None, as_json: bool) -> NoReturn:
    people = _people()
    with working(load_settings(), lambda text: say(people, text), kind=kind) as services:
        shown = attend(services, cluster, people, kind=kind, reason=reason, key=key)
    if folder is not None:
        say(people, f"report: {write_report(shown, folder)}")
    if as_json:
        typer.echo(_pretty(shown), nl=False)
    raise Ended(_status(shown))


def _people() -> Console:
    """Made when needed: stderr may have been replaced since this module was imported."""
    return Console(stderr=True, highlight=False)


def _data(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _pretty(shown: Report) -> str:
    return shown.model_dump_json(indent=2) + "\n"


def _status(shown: Report) -> int:
    return 6 if shown.exit_code is None else shown.exit_code  # not concluded: inconclusive


def _described(cluster: Cluster) -> str:
    pools: dict[str, int] = {}
    for node in cluster.nodes:
        pools[node.pool] = pools.get(node.pool, 0) + 1
    listed = ", ".join(f"{count} in {pool}" for pool, count in pools.items())
    count = "1 node" if len(cluster.nodes) == 1 else f"{len(cluster.nodes)} nodes"
    return f"{cluster.name} (edition {cluster.edition}, origin {cluster.origin}), {count}: {listed}"


def _run_named(engine: Engine, name: str) -> RunRecord:
    if name != "last":
        return engine.store.run(name)
    newest = engine.store.runs(1)
    if not newest:
        raise RunUnknown("there is no run yet", remedy="start one: esync rollout FILE")
    return newest[0]


def _report_of(engine: Engine, record: RunRecord) -> Report:
    return build(commands.summary(engine, record.id))


def _row(record: RunRecord) -> dict[str, object]:
    kept = {"id", "kind", "cluster", "state", "verdict", "summary", "created", "ended", "who", "origin_host", "reason"}
    row = record.model_dump(mode="json", include=kept)
    return {"run": row.pop("id"), **row, "exit_code": record.verdict.exit_code if record.verdict else None}


def _terminated(number: int, frame: object) -> NoReturn:
    del frame
    raise SystemExit(128 + number)


def _by_typer(code: object) -> int:
    """Typer ends by itself: help with 0, Ctrl-C with 130, a usage error with 2, which here would mean failed nodes."""
    return 1 if code == 2 or not isinstance(code, int) else code  # noqa: PLR2004 - click's usage error


def _refused(error: EsyncError, *, as_json: bool) -> int:
    """What, where, remedy: one block."""
    people = _people()
    say(people, f"error: {error}", "bold red")
    if error.remedy:
        say(people, f"  do: {error.remedy}")
    if as_json:
        _data({"error": error.slug, "message": error.message, "file": error.file, "remedy": error.remedy})
    _trace(error)
    return error.exit_code


def _broken(error: Exception) -> int:
    say(_people(), f"internal error: {type(error).__name__}", "bold red")
    say(_people(), "  do: run it again with ESYNC_DEBUG=1 to see where, and report that")
    _trace(error)
    return 1


def _trace(error: Exception) -> None:
    if os.environ.get("ESYNC_DEBUG"):
        traceback.print_exception(error)

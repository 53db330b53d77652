"""The `esync` command: thin. stdout is data, stderr is for people, the exit status follows from the verdict."""

import contextlib
import os
import signal
import sys
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console

from pipelines.cli import bundle as cli_bundle
from pipelines.cli import knowledge, local, steer, undo
from pipelines.cli.console import (
    AsJson,
    ClusterFile,
    Ended,
    Key,
    Reason,
    ReportFolder,
    RolloutFile,
    RunId,
    Yes,
    confirm,
    data,
    described,
    people_console,
    pretty,
    report_of,
    run_named,
    run_on,
    status_of,
)
from pipelines.cli.follow import conclude, say, watch
from pipelines.cli.output import BundleFile, OutputFile, end_streams, outlive_readers
from pipelines.cluster_file.loader import ClusterRefused, load_cluster
from pipelines.local import lab_faults
from pipelines.local.services import Running, engine_only
from pipelines.report.html import to_html
from pipelines.report.styles import printable
from pipelines.report.text import duration, to_text
from pipelines.rollout import kind_of
from pipelines.usecases import runs as commands
from pipelines.usecases.plan_file import is_plan, load_plan
from pipelines.usecases.status import row_of
from tasks.ektron.wording import counted
from workers.errors import EsyncError, RecordRefused
from workers.host.private import FILE_ERRORS, file_trouble, write_private
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


def main() -> NoReturn:
    """Entry point of `esync`."""
    for name in ("SIGTERM", "SIGHUP"):
        with contextlib.suppress(AttributeError, ValueError):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), _terminated)
    outlive_readers()
    try:
        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:  # while it was ending
        sys.exit(130)
    finally:
        end_streams()


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
        return _broken(error, as_json="--json" in arguments)
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
            data({"ok": False, "cluster": None, "nodes": 0, "problems": problems})
            raise Ended(refused.exit_code) from None
        raise
    if as_json:
        data({"ok": True, "cluster": cluster.name, "nodes": len(cluster.nodes), "problems": []})
    else:
        typer.echo(f"{file}: cluster {described(cluster)}: no mistakes")


@app.command()
def rollout(
    file: RolloutFile,
    *,
    yes: Yes = False,
    reason: Reason = "",
    key: Key = "",
    report: ReportFolder = None,
    as_json: AsJson = False,
) -> None:
    """Set eSync up on every node, and prove it: shows the plan, asks, applies. With a saved plan: exactly that."""
    saved = load_plan(file) if is_plan(file) else None
    cluster = saved.spec if saved else load_cluster(file)
    say(people_console(), f"rollout of cluster {described(cluster)}")
    if saved:
        say(people_console(), f"exactly the plan of {saved.made:%Y-%m-%d %H:%M} UTC: {saved.plan.totals}")
        confirm(yes=yes)
    run_on(cluster, "rollout", yes=yes, reason=reason, key=key, folder=report, as_json=as_json, plan=saved)


@app.command()
def verify(file: ClusterFile, *, reason: Reason = "", report: ReportFolder = None, as_json: AsJson = False) -> None:
    """Check every invariant of a cluster on its nodes. Changes nothing."""
    cluster = load_cluster(file)
    say(people_console(), f"verify cluster {described(cluster)}")
    run_on(cluster, "verify", reason=reason, folder=report, as_json=as_json)


@app.command()
def status(
    run: RunId = "last",
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Watch until it ends; exit by its verdict.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show where a run stands."""
    with engine_only(load_settings()) as engine:
        record = run_named(engine, run)
        if follow and record.state is not RunState.CONCLUDED:
            shown = watch(Running(engine), record, people_console())
        else:
            shown = report_of(engine, record)
            if not as_json:
                conclude(shown, Console(highlight=False))
        stands = commands.status(engine, record.id)
    if as_json:
        data(stands.model_dump(mode="json"))
    elif stands.paused:
        say(Console(highlight=False), f"PAUSED: {stands.paused}; go on: esync resume {stands.run}", "yellow")
    elif stands.cancelling:
        say(Console(highlight=False), f"asked to stop: {stands.cancelling}", "yellow")
    raise Ended(status_of(shown) if follow else 0)


@app.command()
def runs(
    *, limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 20, as_json: AsJson = False
) -> None:
    """List the newest runs, newest first."""
    refused: list[RecordRefused] = []
    with engine_only(load_settings()) as engine:
        records = engine.store.runs(limit, refused.append)
    if refused:
        say(people_console(), f"{counted(len(refused), 'run')} cannot be read:", "yellow")
        for error in refused:
            say(people_console(), f"  {error.run}: {error.message}", "yellow")
    if as_json:
        data([row_of(record).model_dump(mode="json") for record in records])
        return
    width = max((len(record.id) for record in records), default=0)
    for record in records:
        took = duration(((record.ended or now()) - record.created).total_seconds())
        state = record.verdict.value if record.verdict else record.state.value
        typer.echo(f"{record.id:<{width}}  {record.kind:<8}  {state:<15}  {took:>11}  {_asked(record)}")
    if not records and not refused:
        say(people_console(), "no runs yet")


@app.command()
def report(
    run: RunId = "last",
    *,
    form: Annotated[Literal["text", "json", "html"], typer.Option("--format", help="What to write.")] = "text",
    output: OutputFile = None,
    bundle: BundleFile = None,
    checked: Annotated[
        Path | None, typer.Option("--check", metavar="FILE", help="Check such an archive; asks nobody. Exit 0 or 5.")
    ] = None,
) -> None:
    """Write the report of a run, or all there is about it as a bundle; or check a bundle."""
    if checked is not None:
        cli_bundle.check_bundle(checked, as_json=form == "json")
        return
    if bundle is not None:
        cli_bundle.save_bundle(run, bundle)
        return
    with engine_only(load_settings()) as engine:
        shown = report_of(engine, run_named(engine, run))
    text = {"text": to_text, "json": pretty, "html": to_html}[form](shown)
    if output is None:
        typer.echo(text, nl=False)
        return
    write_private(output, text)
    say(people_console(), f"report: {output}")


@app.command()
def up() -> None:
    """Run broker, worker and Flower on this machine until Ctrl-C."""
    local.up(load_settings(), people_console())


@app.command()
def lab(  # noqa: PLR0913 - a command's options
    *,
    folder: Annotated[Path, typer.Option("--dir", help="Where its files go; kept between starts.")] = Path(".lab"),
    nodes: Annotated[int | None, typer.Option(min=1, max=5000, help="Make up that many nodes.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A lab file (YAML).")] = None,
    edition: Annotated[str, typer.Option(help="The product's edition: 8.0, 8.5 or 9.1.")] = "",
    address: Annotated[str, typer.Option(metavar="RANGE", help="Loopback addresses for made-up nodes.")] = "",
    fault: Annotated[
        list[str] | None, typer.Option(metavar="NODE:FAULT", help="Break a node of the lab that runs; may be repeated.")
    ] = None,
    heal: Annotated[
        list[str] | None, typer.Option(metavar="NODE", help="Heal a node of the lab that runs, or `all`.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run simulated Windows servers until Ctrl-C; or break and heal those that run."""
    if fault or heal:
        held = lab_faults.change(folder, heal or (), fault or ())
        data(held) if as_json else say(people_console(), lab_faults.sentence(held))
        return
    given = {"nodes": nodes, "config": config and config.resolve(), "edition": edition, "address": address}
    options = {name: str(value) for name, value in given.items() if value}
    for ready in local.lab(folder, options, people_console()):
        if as_json:
            data(ready)


@app.command()
def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the demo's folder: disks, logs, data.")] = False,
    as_json: AsJson = False,
) -> None:
    """Roll eSync out on four simulated servers, from untouched to joined."""
    shown = local.demo(load_settings(), people_console(), keep=keep)
    if as_json:
        typer.echo(pretty(shown), nl=False)
    raise Ended(status_of(shown))


for verb in (*steer.VERBS, *undo.VERBS, *knowledge.VERBS):
    app.command()(verb)
app.add_typer(knowledge.certs, name="certs")


def _asked(record: RunRecord) -> str:
    """By whom, why, and what for."""
    why = f": {record.reason}" if record.reason else ""
    what = f" [{kind_of(record.kind, record.id).parent} {record.parent}]" if record.parent else ""
    return printable(f"{record.who or '?'}{why}{what}")


def _terminated(number: int, frame: object) -> NoReturn:
    del frame
    raise SystemExit(128 + number)


def _by_typer(code: object) -> int:
    """Typer ends by itself: help with 0, Ctrl-C with 130, a usage error with 2, which here would mean failed nodes."""
    return 1 if code == 2 or not isinstance(code, int) else code  # noqa: PLR2004 - click's usage error


def _refused(error: EsyncError, *, as_json: bool) -> int:
    """What, where, remedy: one block."""
    people = people_console()
    say(people, f"error: {error}", "bold red")
    if error.remedy:
        say(people, f"  do: {error.remedy}")
    if as_json:
        with contextlib.suppress(OSError):  # a full disk behind stdout may be the very error
            data({"error": error.slug, "message": error.message, "file": error.file, "remedy": error.remedy})
    _trace(error)
    return error.exit_code


def _broken(error: Exception, *, as_json: bool) -> int:
    if isinstance(error, OSError) and error.errno in FILE_ERRORS:
        return _refused(file_trouble(error), as_json=as_json)
    say(people_console(), f"internal error: {type(error).__name__}", "bold red")
    say(people_console(), "  do: run it again with ESYNC_DEBUG=1 to see where, and report that")
    _trace(error)
    return 1


def _trace(error: Exception) -> None:
    if os.environ.get("ESYNC_DEBUG"):
        traceback.print_exception(error)

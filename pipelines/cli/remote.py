"""The verbs with ESYNC_SERVER: they ask a server, and need neither a broker nor a cluster file here. Thin."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pipelines.cli import steering
from pipelines.cli.console import (
    AsJson,
    CommandExit,
    Key,
    Reason,
    RunId,
    RunIds,
    RunOrGroup,
    Verbose,
    Yes,
    confirm,
    notify,
    print_json,
    print_text,
    require_consent,
    stdout_console,
    stdout_width,
)
from pipelines.cli.files import AtMost, refuse_for_many
from pipelines.cli.many_results import Asked
from pipelines.cli.nodes import AllAtOnce, Failed, NodeNames, NotStarted, Overwrite, Prune, Unreachable, pruning
from pipelines.cli.output import BundleFile, OutputFile, ReportFolder
from pipelines.cli.picture import draw
from pipelines.cli.remote_many import run_many_there
from pipelines.cli.report import FORMS, Form, form_of, print_report, require_one_result
from pipelines.cli.results import exit_status, finish, has_plan, print_result
from pipelines.cli.runs import ClusterFiles, Limit, clusters_of, no_runs
from pipelines.cli.server import ServersFile, ServersFiles, connected, followed, progress_on
from pipelines.cli.server_runs import ServerRuns, found, runs_of
from pipelines.cli.several import Chosen, Follow, chosen, show_several, watch_several
from pipelines.report.plan_text import plan_lines
from pipelines.report.runs_text import run_lines
from pipelines.run.groups import AT_MOST
from pipelines.usecases.control import RETRIABLE
from pipelines.usecases.listing import RunRow
from pipelines.usecases.naming import LAST
from pipelines.web.client import EsyncClient
from workers.host.private import write_private
from workers.records import RunRecord, now

__all__ = [
    "approve",
    "cancel",
    "cleanup",
    "doctor",
    "pause",
    "plan",
    "promote",
    "report",
    "resume",
    "retry",
    "rollback",
    "rollout",
    "runs",
    "status",
    "verify",
    "watch",
]

# Look


def runs(files: ClusterFiles = None, *, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the newest runs, newest first."""
    clusters = clusters_of(files) if files else ()
    with connected() as client:
        rows = runs_of(client, clusters, limit) if files else list(client.runs(limit=limit))
    if as_json:
        print_json([row.model_dump(mode="json") for row in rows])
        return
    doing = {row.run: row.doing for row in rows if row.doing}
    for line in run_lines([_record_of(row) for row in rows], now(), doing, stdout_width()):
        typer.echo(line)
    for row in rows:
        if row.waiting:
            notify(f"run {row.run}: {row.waiting}", "magenta")
    if not rows:
        notify(no_runs(of_clusters=bool(files)))


def _record_of(row: RunRow) -> RunRecord:
    """As much of a run's record as a list has."""
    known = row.model_dump(exclude={"run", "exit_code", "waiting", "doing"})
    return RunRecord(id=row.run, spec={}, **known)


def status(
    run: RunIds = None,
    *,
    until_end: Annotated[bool, typer.Option("--follow", "-f", help="Follow to the end; exit by the verdict.")] = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Show the state of a run; of several a line each, failures first."""
    targets = run or [LAST]
    with connected() as client:
        if several := chosen(ServerRuns(client), targets):
            if until_end:
                _watch_several(client, several, verbose=verbose, as_json=as_json)
            show_several(ServerRuns(client), several, as_json=as_json)
            return
        record = found(client, targets[0], any_cluster=True)
        shown = followed(client, record, verbose=verbose) if until_end else client.report(record.id)
        if not until_end and not as_json:
            print_text(stdout_console(), f"run {record.id}")
            stdout_console().print(draw(progress_on(client, record), stdout_console()))
            print_result(shown, stdout_console(), verbose=verbose)
        if not until_end and not as_json and (waiting := client.status(record.id).waiting):
            print_text(stdout_console(), waiting, "magenta")
        if as_json:
            print_json(client.status(record.id).model_dump(mode="json"))
    raise CommandExit(exit_status(shown) if until_end else 0)


def watch(run: RunIds = None, *, verbose: Verbose = False, as_json: AsJson = False) -> None:
    """Follow runs to their end; exit by the worst verdict."""
    targets = run or [LAST]
    with connected() as client:
        if several := chosen(ServerRuns(client), targets):
            _watch_several(client, several, verbose=verbose, as_json=as_json)
        shown = followed(client, found(client, targets[0], any_cluster=True), verbose=verbose)
    finish(shown, as_json=as_json)


def _watch_several(client: EsyncClient, several: Sequence[Chosen], *, verbose: bool, as_json: bool) -> NoReturn:
    runs = ServerRuns(client)
    watch_several(runs, several, Follow(runs.shown, runs.continues), verbose=verbose, as_json=as_json)


def report(
    run: RunId = LAST,
    *,
    form: Annotated[Form | None, typer.Option("--format", help="The format; otherwise by the file's ending.")] = None,
    output: OutputFile = None,
    bundle: BundleFile = None,
) -> None:
    """Write the report of a run, or everything about the run as a bundle."""
    require_one_result(form, {"--output": output, "--bundle": bundle})
    chosen = form or form_of(output)
    with connected() as client:
        record = found(client, run, any_cluster=True)
        if bundle is not None:
            write_private(bundle, client.bundle(record.id))
            notify(f"bundle: {bundle}")
            return
        shown = client.report(record.id)
    if output is None:
        print_report(shown, chosen)
        return
    write_private(output, FORMS[chosen](shown))
    notify(f"report: {output}")


# Start


def verify(
    files: ServersFiles,
    *,
    node: NodeNames = None,
    at_most: AtMost = AT_MOST,
    reason: Reason = "",
    report: ReportFolder = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Check every invariant of a cluster on its nodes. Changes nothing."""
    if len(files) > 1:
        refuse_for_many(node=node)
        _several("verify", files, Asked(at_most, reason, folder=report, as_json=as_json, verbose=verbose))
    _run(files[0], "verify", folder=report, as_json=as_json, verbose=verbose, nodes=tuple(node or ()), reason=reason)


def doctor(
    files: ServersFiles,
    *,
    node: NodeNames = None,
    at_most: AtMost = AT_MOST,
    reason: Reason = "",
    report: ReportFolder = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Check whether a rollout can start. Changes nothing."""
    if len(files) > 1:
        refuse_for_many(node=node)
        _several("doctor", files, Asked(at_most, reason, folder=report, as_json=as_json, verbose=verbose))
    _run(files[0], "doctor", folder=report, as_json=as_json, verbose=verbose, nodes=tuple(node or ()), reason=reason)


def plan(  # noqa: PLR0913 - a command's options
    files: ServersFiles,
    *,
    node: NodeNames = None,
    at_most: AtMost = AT_MOST,
    prune: Prune = False,
    output: OutputFile = None,
    reason: Reason = "",
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Show what a rollout would change on each node. Exit 0: nothing; 2: changes; 4, 6: not all nodes were checked."""
    if len(files) > 1:
        refuse_for_many(node=node, output=output)
        asked = Asked(at_most, reason, options=pruning(prune=prune), as_json=as_json, verbose=verbose)
        _several("plan", files, asked)
    with connected() as client:
        run = client.start(files[0], kind="plan", nodes=tuple(node or ()), prune=prune, reason=reason)
        shown = followed(client, client.record(run.run), verbose=verbose)
        saved = client.plan(run.run) if has_plan(shown) else None
    if saved is not None and output is not None:
        write_private(output, saved.model_dump_json() + "\n")
    if saved is not None and as_json:
        print_json(saved.model_dump(mode="json"))
    elif saved is not None:
        print_text(stdout_console(), "\n".join(plan_lines(saved.spec, saved.plan, saved.only)))
    raise CommandExit(exit_status(shown))


def rollout(  # noqa: PLR0913 - a command's options
    files: ServersFiles,
    *,
    node: NodeNames = None,
    at_most: AtMost = AT_MOST,
    prune: Prune = False,
    yes: Yes = False,
    reason: Reason = "",
    key: Key = "",
    report: ReportFolder = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Set eSync up on every node and prove it: show the plan, ask, apply."""
    if len(files) > 1:
        refuse_for_many(node=node, key=key)
        asked = Asked(at_most, reason, "", pruning(prune=prune), report, as_json, verbose)
        _several("rollout", files, asked, yes=yes)
    require_consent(yes=yes)
    file, nodes = files[0], tuple(node or ())
    with connected() as client:
        planned = "" if yes else _confirmed(client, file, nodes, prune=prune, reason=reason)
        if planned:
            run = client.start(file, plan=planned, reason=reason, key=key)
        else:
            run = client.start(file, nodes=nodes, prune=prune, reason=reason, key=key)
        shown = followed(client, client.record(run.run), verbose=verbose)
    finish(shown, report, as_json=as_json)


def _confirmed(client: EsyncClient, file: str, nodes: tuple[str, ...], *, prune: bool, reason: str) -> str:
    """The run whose plan was shown to the operator and confirmed."""
    notify("making the plan first; nothing is changed before you confirm it")
    run = client.start(file, kind="plan", nodes=nodes, prune=prune, reason=reason)
    planned = followed(client, client.record(run.run), verbose=False)
    if not has_plan(planned):
        raise CommandExit(exit_status(planned))
    saved = client.plan(run.run)
    notify("\n" + "\n".join(plan_lines(saved.spec, saved.plan, saved.only)))
    confirm(yes=saved.plan.empty)
    return run.run


def cleanup(
    file: ServersFile,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Remove all backups: no rollback after that.")] = False,
    yes: Yes = False,
    reason: Reason = "",
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Remove expired backups and leftover temporary files from the nodes, and prove that they are gone."""
    require_consent(yes=yes)
    notify(f"cleanup ({'all backups' if everything else 'expired backups'}) of cluster {file}")
    confirm(yes=yes)
    _run(file, "cleanup", as_json=as_json, verbose=verbose, everything=everything, reason=reason)


def retry(  # noqa: PLR0913 - a command's options
    run: RunId,
    *,
    failed: Failed = False,
    unreachable: Unreachable = False,
    not_started: NotStarted = False,
    yes: Yes = False,
    reason: Reason = "",
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Finish the unfinished nodes of a run, and only those, with the same certificates. By default all three kinds."""
    require_consent(yes=yes)
    options = {"failed": failed, "unreachable": unreachable, "not_started": not_started}
    which = [name for name, chosen in options.items() if chosen] or sorted(RETRIABLE)
    with connected() as client:
        parent = found(client, run)
        words = ", ".join(kind.replace("_", " ") for kind in which)
        notify(f"retry of run {parent.id} ({parent.kind} of {parent.cluster}), on its nodes that are: {words}")
        confirm(yes=yes)
        begun = client.retry(parent.id, which, reason=reason)
        shown = followed(client, client.record(begun.run), verbose=verbose)
    finish(shown, as_json=as_json)


def rollback(  # noqa: PLR0913 - a command's options
    run: RunId,
    *,
    node: NodeNames = None,
    force: Overwrite = False,
    all_at_once: AllAtOnce = False,
    yes: Yes = False,
    reason: Reason = "",
    key: Key = "",
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Undo a run: restore bytes, names and service state from before it."""
    require_consent(yes=yes)
    with connected() as client:
        parent, options = found(client, run), {"force": force, "all_at_once": all_at_once}
        on = f"on {', '.join(node)}" if node else "on all nodes that it changed"
        together = all_at_once or parent.spec.get("policy", {}).get("whole_pool")
        how = "all at once" if together else "at most half of a pool at a time, servers that are down first"
        forced = ", also files that were changed after the run" if force else ""
        notify(f"rollback of run {parent.id} ({parent.kind} of {parent.cluster}), {on}{forced}: {how}")
        confirm(yes=yes)
        begun = client.rollback(parent.id, node or (), **options, reason=reason, key=key)
        shown = followed(client, client.record(begun.run), verbose=verbose)
    finish(shown, as_json=as_json)


# Steer


def pause(run: RunOrGroup, *, reason: Reason = "") -> None:
    """Start no further step of a run. Running steps finish."""
    with connected() as client:
        steering.pause(ServerRuns(client), run, reason)


def resume(run: RunOrGroup) -> None:
    """Continue a paused run."""
    with connected() as client:
        steering.resume(ServerRuns(client), run)


def promote(run: RunOrGroup) -> None:
    """Let a held run begin its next wave (policy.hold)."""
    with connected() as client:
        steering.promote(ServerRuns(client), run, "")


def approve(run: RunId, *, yes: Yes = False) -> None:
    """Approve the plan of a run that another person requested (policy.approval)."""
    with connected() as client:
        record = found(client, run, active=True)
        saved = client.plan(record.id)
        print_text(stdout_console(), "\n".join(plan_lines(saved.spec, saved.plan, saved.only)))
        confirm(yes=yes, what="lets a run change servers")
        client.approve(record.id, saved.fingerprint)
    notify(f"run {record.id} begins to change servers")


def cancel(run: RunOrGroup, *, reason: Reason = "") -> None:
    """Stop a run at the next safe point. Nodes finish their current step."""
    with connected() as client:
        steering.cancel(ServerRuns(client), run, reason)


def _several(kind: str, files: Sequence[str], asked: Asked, *, yes: bool = True) -> NoReturn:
    with connected() as client:
        runs = ServerRuns(client)
        run_many_there(client, Follow(runs.shown, runs.continues), kind, files, asked, yes=yes)


def _run(  # noqa: PLR0913 - options that commands share
    file: str,
    kind: str,
    *,
    folder: Path | None = None,
    as_json: bool,
    verbose: bool,
    nodes: tuple[str, ...] = (),
    everything: bool = False,
    reason: str = "",
) -> NoReturn:
    with connected() as client:
        run = client.start(file, kind=kind, nodes=nodes, everything=everything, reason=reason)
        shown = followed(client, client.record(run.run), verbose=verbose)
    finish(shown, folder, as_json=as_json)

"""The verbs that plan and start runs: plan, rollout, retry. Thin."""

from pipelines.cli.console import (
    AsJson,
    CommandExit,
    Key,
    Reason,
    RunId,
    Verbose,
    Yes,
    confirm,
    describe,
    notify,
    print_json,
    print_text,
    require_consent,
    stderr_console,
    stdout_console,
)
from pipelines.cli.files import AtMost, ClusterFiles, RolloutFiles, are_many, load_all, load_usable, refuse_for_many
from pipelines.cli.follow import finish_left, follow, run_and_exit, start_and_follow, workers_for
from pipelines.cli.many import run_many
from pipelines.cli.many_results import Asked
from pipelines.cli.nodes import Failed, NodeNames, NotStarted, Prune, Unreachable, for_nodes, pruning
from pipelines.cli.output import OutputFile, ReportFolder
from pipelines.cli.results import exit_status, find_run, finish, has_plan
from pipelines.cluster_file.loader import load_cluster
from pipelines.report.layout import name_ranges
from pipelines.report.plan_text import plan_lines
from pipelines.report.rows import Report
from pipelines.rollout import kind_of
from pipelines.run.groups import AT_MOST
from pipelines.usecases import control, runs
from pipelines.usecases.naming import selected_nodes
from pipelines.usecases.plan_file import is_plan, load_plan
from workers.errors import Misused
from workers.host.private import write_private
from workers.records import Verdict

__all__ = ["plan", "retry", "rollout"]


def plan(  # noqa: PLR0913 - a command's options
    files: ClusterFiles,
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
    if are_many(files):
        refuse_for_many(node=node, output=output)
        asked = Asked(at_most, reason, options=pruning(prune=prune), as_json=as_json, verbose=verbose)
        run_many("plan", load_usable(files), asked)
    cluster = load_cluster(files[0])
    only = selected_nodes(cluster, node or ())
    notify(f"plan for cluster {describe(cluster)}{for_nodes(only)}")
    options = pruning(prune=prune)
    with workers_for("plan") as services:
        people = stderr_console()
        report = start_and_follow(
            services, cluster, people, kind="plan", reason=reason, only=only, options=options, verbose=verbose
        )
        if not has_plan(report):
            raise CommandExit(_without_plan(report, as_json=as_json))
        saved = runs.saved_plan(services.engine, report.run)
    if output is not None:
        write_private(output, saved.model_dump_json() + "\n")
    if as_json:
        print_json(saved.model_dump(mode="json"))
    else:
        lines = plan_lines(cluster, saved.plan, saved.only)
        # On a terminal the end of the run has just shown the totals.
        totals = [] if stdout_console().is_terminal else [f"plan: {saved.plan.totals}"]
        print_text(stdout_console(), "\n".join([*lines, *totals]))
    if output is not None:
        notify(f"to apply exactly this plan: esync rollout {output}")
    raise CommandExit(exit_status(report))


def _without_plan(report: Report, *, as_json: bool) -> int:
    """No plan was made; prints why. The status is not 2, which says that changes are pending."""
    if as_json:
        print_json({"error": "no_plan", "message": report.summary, "file": "", "remedy": "", "run": report.run})
    return Verdict.INCONCLUSIVE.exit_code if report.verdict == Verdict.FAILED else exit_status(report)


def rollout(  # noqa: PLR0913 - a command's options
    files: RolloutFiles,
    *,
    node: NodeNames = None,
    prune: Prune = False,
    at_most: AtMost = AT_MOST,
    yes: Yes = False,
    reason: Reason = "",
    key: Key = "",
    report: ReportFolder = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Set eSync up on every node and prove it: show the plan, ask, apply. A saved plan is applied exactly."""
    if are_many(files):
        refuse_for_many(node=node)
        asked = Asked(at_most, reason, key, pruning(prune=prune), report, as_json, verbose)
        run_many("rollout", load_all(files, plans=True), asked, yes=yes)
    file = files[0]
    saved = load_plan(file) if is_plan(file) else None
    cluster = saved.spec if saved else load_cluster(file)
    if saved and (node or prune):
        chosen = " ".join([*(f"--node {one}" for one in node or ()), *(["--prune"] if prune else [])])
        raise Misused(
            f"{chosen.split()[0]} cannot be combined with a saved plan, which is applied exactly; "
            "no server was contacted",
            remedy=f"make such a plan: esync plan CLUSTER {chosen} -o FILE",
        )
    only = saved.only if saved else selected_nodes(cluster, node or ())
    notify(f"rollout of cluster {describe(cluster)}{for_nodes(only)}")
    if saved:
        notify(f"exactly the plan of {saved.made:%Y-%m-%d %H:%M} UTC: {saved.plan.totals}")
        confirm(yes=yes)
    run_and_exit(
        cluster,
        "rollout",
        yes=yes,
        reason=reason,
        key=key,
        folder=report,
        as_json=as_json,
        plan=saved,
        only=only,
        options=pruning(prune=prune),
        verbose=verbose,
    )


def retry(  # noqa: PLR0913 - a command's options
    run: RunId = "last",
    *,
    failed: Failed = False,
    unreachable: Unreachable = False,
    not_started: NotStarted = False,
    yes: Yes = False,
    reason: Reason = "",
    report: ReportFolder = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Finish the unfinished nodes of a run, and only those, with the same certificates. By default all three kinds."""
    require_consent(yes=yes)
    options = {"failed": failed, "unreachable": unreachable, "not_started": not_started}
    kinds = {name for name, chosen in options.items() if chosen} or control.RETRIABLE
    people = stderr_console()
    with workers_for("rollout") as services:
        parent = find_run(services.engine, run, lambda record: not kind_of(record.kind, record.id).retry, "rollout")
        shown = finish_left(services, parent, people)
        if shown is None or control.unfinished(services.engine, parent.id):
            nodes = name_ranges(control.nodes_to_retry(services.engine, parent.id, kinds))
            notify(f"retry of run {parent.id} ({parent.kind} of {parent.cluster}), on {nodes}")
            confirm(yes=yes)
            record = control.retry(services.engine, parent.id, kinds, reason=reason)
            notify(f"run {record.id}")
            shown = follow(services, record, people, verbose=verbose)
    finish(shown, report, as_json=as_json)

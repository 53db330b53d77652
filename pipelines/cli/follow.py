"""Runs that a verb starts, or follows to their end. What starts one is loaded by those that do."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console

from pipelines.cli.console import (
    CommandExit,
    confirm,
    notify,
    print_last,
    print_text,
    require_consent,
    stderr_console,
)
from pipelines.cli.exits import INTERRUPTED
from pipelines.cli.live import show_run
from pipelines.cli.results import exit_status, finish, has_plan, is_active, print_result, report_of
from pipelines.local.provided import Running
from pipelines.local.reading import start_of_worker
from pipelines.report.rows import Report
from pipelines.rollout import kind_of
from pipelines.usecases.updates import RunUpdate, updates_of
from pipelines.usecases.waiting import Attendance, has_work, missing_workers, waiting_text
from tasks.steering import Steering
from workers.errors import ServiceLost, StoreUnavailable
from workers.records import RunRecord
from workers.settings import load_settings

if TYPE_CHECKING:
    from pipelines.usecases.plan_file import SavedPlan
    from tasks.cluster import Cluster

__all__ = ["finish_left", "follow", "follow_progress", "followed", "run_and_exit", "start_and_follow", "workers_for"]


def workers_for(kind: str, *, flower: bool = False) -> AbstractContextManager[Running]:
    """An engine with workers, for a command of that kind. See `engine_with_worker` for the errors."""
    from pipelines.local.services import engine_with_worker  # noqa: PLC0415 - see above

    return engine_with_worker(load_settings(), notify, kind=kind, flower=flower)


def run_and_exit(  # noqa: PLR0913 - options that commands share
    cluster: "Cluster",
    kind: str,
    *,
    yes: bool = True,
    reason: str = "",
    key: str = "",
    folder: Path | None = None,
    as_json: bool = False,
    plan: "SavedPlan | None" = None,
    only: tuple[str, ...] = (),
    options: tuple[str, ...] = (),
    verbose: bool = False,
) -> NoReturn:
    """Starts a run, follows it to its end, and ends the command with its exit status.

    Without `yes` and without a plan, a plan is made and shown first, and the operator must confirm it.

    Raises:
        InputRefused: there is no terminal to ask on.
    """
    asks = plan is None and not yes
    if asks:
        require_consent(yes=False)
    people = stderr_console()
    with workers_for(kind) as services:
        _finish_what_is_left(services, cluster, people, kind)
        if asks:
            plan = _confirmed_plan(services, cluster, people, kind_of(kind).plan, reason, only, options)
        report = start_and_follow(
            services,
            cluster,
            people,
            kind=kind,
            reason=reason,
            key=key,
            plan=plan,
            only=only,
            options=options,
            verbose=verbose,
        )
    finish(report, folder, as_json=as_json)


def _finish_what_is_left(services: Running, cluster: "Cluster", people: Console, kind: str) -> None:
    """Finishes the runs that would keep a new one from the servers of the cluster: it would only be refused."""
    if not services.own or kind_of(kind).read_only:
        return
    from pipelines.usecases.admission import changing  # noqa: PLC0415 - see above

    for record in changing(services.engine, cluster):
        finish_left(services, record, people)


def finish_left(services: Running, record: RunRecord, people: Console) -> Report | None:
    """Finishes a run whose own worker stopped with its command, with the worker of this one; not one that is paused."""
    if not services.own or not is_active(record) or Steering.of(services.engine.store, record.id).paused:
        return None
    notify(f"the worker of run {record.id} is gone; a new worker finishes that run first")
    return follow(services, record, people)


def _confirmed_plan(
    services: Running,
    cluster: "Cluster",
    people: Console,
    kind: str,
    reason: str,
    only: tuple[str, ...],
    options: tuple[str, ...],
) -> "SavedPlan":
    """The plan that was shown to the operator and confirmed."""
    from pipelines.report.plan_text import plan_lines  # noqa: PLC0415 - see above
    from pipelines.usecases.runs import saved_plan  # noqa: PLC0415 - see above

    notify("making the plan first; nothing is changed before you confirm it")
    planned = start_and_follow(services, cluster, people, kind=kind, reason=reason, only=only, options=options)
    if not has_plan(planned):
        raise CommandExit(exit_status(planned))
    saved = saved_plan(services.engine, planned.run)
    notify("\n" + "\n".join(plan_lines(cluster, saved.plan, saved.only)))
    confirm(yes=saved.plan.empty)
    return saved


def start_and_follow(  # noqa: PLR0913 - options that commands share
    services: Running,
    cluster: "Cluster",
    people: Console,
    *,
    kind: str = "rollout",
    reason: str = "",
    key: str = "",
    plan: "SavedPlan | None" = None,
    only: tuple[str, ...] = (),
    options: tuple[str, ...] = (),
    verbose: bool = False,
) -> Report:
    """Starts a run and follows it to its end. See `follow` for the errors."""
    from pipelines.usecases.runs import start  # noqa: PLC0415 - see above

    record = start(services.engine, cluster, plan=plan, kind=kind, reason=reason, key=key, only=only, options=options)
    print_text(people, f"run {record.id}")
    return follow(services, record, people, verbose=verbose)


def follow(services: Running, record: RunRecord, people: Console, *, verbose: bool = False) -> Report:
    """Follows a run to its end, then prints the result. See `followed` for the errors."""
    report = followed(services, record, people, verbose=verbose)
    print_result(report, people, verbose=verbose)
    return report


def followed(services: Running, record: RunRecord, people: Console, *, verbose: bool = False) -> Report:
    """Follows a run to its end.

    Raises:
        KeyboardInterrupt, SystemExit: the command was asked to end; the effect on the run has been printed.
        ServiceLost: the worker or broker failed again and again; the run is unfinished.
    """
    try:
        follow_progress(services, record, people, verbose=verbose)
    except INTERRUPTED:
        print_last(people, _on_interrupt(services, record.id))
        raise
    return report_of(services.engine, record)


def follow_progress(services: Running, record: RunRecord, people: Console, *, verbose: bool = False) -> None:
    """Shows a run until it has ended, as long as its workers can work.

    Raises:
        ServiceLost: the worker or broker failed again and again; the run is unfinished.
    """
    engine, updates = services.engine, updates_of(services.engine.store, record.id)
    own = services.logs if services.own else None
    last, newest = record.created, record

    def checked(after: str) -> RunUpdate:
        nonlocal last, newest
        services.check()
        update = updates(after)
        newest = update.record
        last = update.events[-1].at if update.events else last
        missing = attendance.missing_since(last)
        if missing is None or not has_work(engine, newest):
            return update
        start = start_of_worker(load_settings(), record.id, own, stays=True, site=missing.site)
        return update._replace(waiting=waiting_text(missing, start))

    try:
        with Attendance(lambda: missing_workers(engine, newest)) as attendance:
            show_run(checked, people, verbose=verbose)
    except ServiceLost as error:
        error.remedy += f"; run {record.id} is unfinished, continue it afterwards: esync watch {record.id}"
        raise
    except StoreUnavailable as error:
        error.remedy += f"; then see what became of run {record.id}: esync watch {record.id}"
        raise


def _on_interrupt(services: Running, run_id: str) -> str:
    if services.own == "demo":
        return "\nstopping the demo"
    if services.own:
        return (
            "\nThe worker stops with this command. Nodes finish their current step; every file stays whole.\n"
            f"To continue the run with a new worker: esync watch {run_id}"
        )
    return (
        "\nThis command stops; the run continues.\n"
        f"To watch it: esync watch {run_id}; to stop it: esync cancel {run_id}"
    )

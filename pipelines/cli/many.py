"""One command for many clusters: a run for each, one view, one question, one exit status, one document."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from pipelines.cli.console import (
    confirm,
    notify,
    print_last,
    require_consent,
    stderr_console,
    terminal_width,
)
from pipelines.cli.exits import INTERRUPTED
from pipelines.cli.files import Source, Unusable
from pipelines.cli.group import follow_all, what_continues
from pipelines.cli.many_results import Asked, end, print_results, result_of, without_verdict
from pipelines.cli.results import print_in_full, report_of, write_report
from pipelines.local.provided import Running
from pipelines.local.services import engine_with_worker
from pipelines.report.many import ClusterResult, plan_table, titles
from pipelines.report.plan_text import plan_lines
from pipelines.usecases import runs
from pipelines.usecases.groups import Member, already_running, start_group
from pipelines.usecases.plan_file import SavedPlan
from pipelines.usecases.updates import seen_run
from tasks.ektron.wording import counted, named
from workers.errors import EsyncError, InputRefused, RecordRefused, RunUnknown
from workers.records import RunRecord
from workers.settings import load_settings

__all__ = ["run_many"]


def run_many(kind: str, files: Sequence[Source | Unusable], asked: Asked, *, yes: bool = True) -> NoReturn:
    """Does a run of that kind for each cluster, and ends the command with the exit status of the worst verdict.

    Without `yes`, plans are made first for the clusters that have none, and the operator confirms all of them at once.
    A file that cannot be used has no run, and counts as inconclusive.

    Raises:
        InputRefused: there is no terminal to ask on.
    """
    if not yes:
        require_consent(yes=False)
    sources = [one for one in files if isinstance(one, Source)]
    done = {one.file: _left_out(one) for one in files if isinstance(one, Unusable)}
    called = _titles(sources)
    at_a_time = f", {asked.at_most} at a time" if asked.at_most < len(sources) else ""
    notify(f"{kind} of {counted(len(sources), 'cluster')}{at_a_time}: {named(list(called.values()))}")
    for file, result in done.items():
        notify(f"without {file.name}: {result.summary}", "magenta")
    with engine_with_worker(load_settings(), notify, kind=kind) as services:
        command = _Command(services, stderr_console(), asked, called)
        if not yes:
            sources, unplanned = command.confirmed(sources)
            done |= unplanned
        if sources:
            done |= command.results(kind, sources)
        results = [done[one.file] for one in files]
    print_results(kind, results, asked, print_in_full, write_report)
    end(results, as_json=asked.as_json)


def _left_out(unusable: Unusable) -> ClusterResult:
    return without_verdict(str(unusable.file), unusable.cluster, unusable.why)


class _Command:
    """The runs of one command."""

    def __init__(self, services: Running, people: Console, asked: Asked, called: Mapping[Path, str]) -> None:
        self._services = services
        self._engine = services.engine
        self._people = people
        self._called = called
        self._asked = asked

    def confirmed(self, sources: Sequence[Source]) -> tuple[list[Source], dict[Path, ClusterResult]]:
        """The clusters whose plans the operator confirmed, with their plans; and the results of those without one."""
        notify("making the plans first; nothing is changed before you confirm them")
        going = {source.file for source in sources if self._running("rollout", source)}
        unplanned = [source for source in sources if source.file not in going and source.plan is None]
        planned = self.results("plan", unplanned)
        sources = [_with_plan(source, planned.get(source.file)) for source in sources]
        plans = [source.plan.plan for source in sources if source.plan and source.file not in going]
        self._show_plans(sources, planned, going)
        if plans:
            confirm(yes=all(plan.empty for plan in plans))
        chosen = [source for source in sources if source.plan or source.file in going]
        return chosen, {file: result for file, result in planned.items() if result.plan is None}

    def _show_plans(
        self, sources: Sequence[Source], planned: Mapping[Path, ClusterResult], going: Collection[Path]
    ) -> None:
        rows = []
        for file, _, saved in sources:
            why = "a run is active already and is followed" if file in going else ""
            why = planned[file].summary if file in planned else why
            rows.append((self._called[file], saved.plan if saved and file not in going else None, why))
            if saved and self._asked.verbose:
                notify("\n".join(["", self._called[file], *plan_lines(saved.spec, saved.plan, saved.only)]))
        notify("\n" + "\n".join(plan_table(rows, terminal_width(self._people))))

    def results(self, kind: str, sources: Sequence[Source]) -> dict[Path, ClusterResult]:
        """Starts a run for each cluster, or follows the one that does the same already; until all have ended.

        Raises:
            KeyboardInterrupt, SystemExit: the command was asked to end; the effect on the runs has been printed.
            EsyncError: runs could not be created; those that were created have been named.
        """
        started: dict[Path, RunRecord] = {}
        try:
            self._start(kind, sources, started)
            called = {record.id: self._called[file] for file, record in started.items()}
            follow_all(self._services, list(started.values()), called, self._people)
        except (*INTERRUPTED, EsyncError):
            never = [self._called[source.file] for source in sources if source.file not in started]
            print_last(self._people, what_continues(self._services, list(started.values()), never))
            raise
        return {source.file: self._result(source, started[source.file]) for source in sources}

    def _start(self, kind: str, sources: Sequence[Source], started: dict[Path, RunRecord]) -> None:
        asked, new = self._asked, []
        for source in sources:
            if found := self._running(kind, source):
                notify(f"{self._called[source.file]}: run {found.id} is active already and is followed")
                started[source.file] = found
            else:
                new.append(source)
        if not new:
            return
        created = start_group(
            self._engine,
            [Member(source.cluster, source.plan) for source in new],
            at_most=asked.at_most,
            kind=kind,
            options=asked.options,
            behind=list(started.values()),
            reason=asked.reason,
            key=asked.key,
        )
        for source, record in zip(new, created, strict=True):
            started[source.file] = record

    def _running(self, kind: str, source: Source) -> RunRecord | None:
        return already_running(self._engine, Member(source.cluster, source.plan), kind, self._asked.options)

    def _result(self, source: Source, created: RunRecord) -> ClusterResult:
        try:
            record = seen_run(self._engine.store, created.id)
        except (RecordRefused, RunUnknown) as error:
            why = f"{error.message}; {error.remedy}"
            return without_verdict(str(source.file), source.cluster.name, why, created.id)
        report = report_of(self._engine, record) if self._asked.whole else None
        return result_of(str(source.file), record, report, self._plan_of(record) if record.kind == "plan" else None)

    def _plan_of(self, record: RunRecord) -> SavedPlan | None:
        with suppress(InputRefused):
            return runs.saved_plan(self._engine, record.id)
        return None


def _titles(sources: Sequence[Source]) -> dict[Path, str]:
    called = titles((str(source.file), source.cluster.name) for source in sources)
    return {source.file: called[str(source.file)] for source in sources}


def _with_plan(source: Source, result: ClusterResult | None) -> Source:
    """The cluster with the plan that was made for it, if one was."""
    return source._replace(plan=result.plan) if result and result.plan else source

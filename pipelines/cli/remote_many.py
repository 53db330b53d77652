"""One command for several clusters of a server: as `pipelines.cli.many` does it beside the broker."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NoReturn

from pipelines.cli.console import confirm, notify, print_last, require_consent, stderr_console, terminal_width
from pipelines.cli.exits import INTERRUPTED
from pipelines.cli.many_results import Asked, Follow, end, print_results, result_of, without_verdict
from pipelines.cli.results import print_in_full, write_report
from pipelines.report.many import ClusterResult, plan_table
from pipelines.report.plan_text import plan_lines
from pipelines.usecases.plan_file import SavedPlan
from pipelines.web.client import EsyncClient
from tasks.documents import PRUNE
from tasks.ektron.wording import counted, named
from workers.errors import EsyncError, InputRefused, NotFound, RecordRefused, RunUnknown
from workers.records import RunRecord

__all__ = ["run_many_there"]


def run_many_there(
    client: EsyncClient, follow: Follow, kind: str, names: Sequence[str], asked: Asked, *, yes: bool = True
) -> NoReturn:
    """Does a run of that kind for each cluster file of the server, and ends the command by the worst verdict.

    Without `yes`, plans are made first, and the operator confirms all of them at once.

    Raises:
        InputRefused: there is no terminal to ask on.
    """
    if not yes:
        require_consent(yes=False)
    names = list(dict.fromkeys(names))
    at_a_time = f", {asked.at_most} at a time" if asked.at_most < len(names) else ""
    notify(f"{kind} of {counted(len(names), 'cluster')}{at_a_time}: {named(names)}")
    command = _Command(client, follow, asked)
    plans, done = ({}, {}) if yes else command.confirmed(names)
    left = [name for name in names if name not in done]
    if left:
        done |= command.results(kind, left, plans)
    results = [done[name] for name in names]
    print_results(kind, results, asked, print_in_full, write_report)
    end(results, as_json=asked.as_json)


class _Command:
    """The runs of one command."""

    def __init__(self, client: EsyncClient, follow: Follow, asked: Asked) -> None:
        self._client = client
        self._follow = follow
        self._asked = asked

    def confirmed(self, names: Sequence[str]) -> tuple[dict[str, str], dict[str, ClusterResult]]:
        """The runs whose plans the operator confirmed, by cluster file; and the results of those without a plan."""
        notify("making the plans first; nothing is changed before you confirm them")
        planned = self.results("plan", names)
        plans = {name: result.plan for name, result in planned.items() if result.plan is not None}
        if self._asked.verbose:
            for name, saved in plans.items():
                notify("\n".join(["", name, *plan_lines(saved.spec, saved.plan, saved.only)]))
        rows = [(name, one.plan.plan if one.plan else None, one.summary) for name, one in planned.items()]
        notify("\n" + "\n".join(plan_table(rows, terminal_width(stderr_console()))))
        if plans:
            confirm(yes=all(saved.plan.empty for saved in plans.values()))
        made = {name: planned[name].run for name in plans}
        return made, {name: result for name, result in planned.items() if name not in plans}

    def results(
        self, kind: str, names: Sequence[str], plans: Mapping[str, str] | None = None
    ) -> dict[str, ClusterResult]:
        """Starts a run for each cluster, or follows the one that does the same already; until all have ended.

        Raises:
            KeyboardInterrupt, SystemExit: the command was asked to end; what continues has been printed.
            EsyncError: the server refuses it, or does not answer any more.
        """
        asked = self._asked
        rows = self._client.start_group(
            names,
            kind=kind,
            at_most=min(asked.at_most, len(names)),
            plans=plans,
            prune=PRUNE in asked.options and not plans,
            reason=asked.reason,
        )
        records = [self._client.record(row.run) for row in rows]
        try:
            self._follow.shows(records, {one.id: name for one, name in zip(records, names, strict=True)})
        except (*INTERRUPTED, EsyncError):
            print_last(stderr_console(), self._follow.continues(records))
            raise
        return {name: self._result(name, one) for name, one in zip(names, records, strict=True)}

    def _result(self, name: str, begun: RunRecord) -> ClusterResult:
        try:
            record = self._client.record(begun.id)
            report = self._client.report(record.id) if self._asked.whole else None
        except (RecordRefused, RunUnknown) as error:
            return without_verdict(name, begun.cluster, f"{error.message}; {error.remedy}", begun.id)
        return result_of(name, record, report, self._plan_of(record) if record.kind == "plan" else None)

    def _plan_of(self, record: RunRecord) -> SavedPlan | None:
        with suppress(InputRefused, NotFound):
            return self._client.plan(record.id)
        return None

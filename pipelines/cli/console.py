"""What all commands share: their arguments, where they write, and how they end."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn, TextIO

import typer
from rich.console import Console

from pipelines.cli.follow import attend, say, write_report
from pipelines.cli.output import ReportFolder
from pipelines.engine import Engine
from pipelines.local.services import Running, engine_with_worker
from pipelines.report.build import build
from pipelines.report.plan_text import plan_lines
from pipelines.report.rows import Report
from pipelines.usecases import runs as commands
from pipelines.usecases.plan_file import SavedPlan
from tasks.cluster import Cluster
from tasks.ektron.wording import counted
from workers.errors import InputRefused, RunUnknown
from workers.records import RunRecord, RunState, Verdict
from workers.settings import load_settings

__all__ = [
    "AsJson",
    "ClusterFile",
    "Ended",
    "Key",
    "Reason",
    "ReportFolder",
    "RolloutFile",
    "RunId",
    "Yes",
    "confirm",
    "data",
    "described",
    "goes_on",
    "is_planned",
    "people_console",
    "pretty",
    "report_of",
    "require_consent",
    "run_named",
    "run_on",
    "status_of",
]

RECENT = 200  #: runs among which `last` is looked for

ClusterFile = Annotated[Path, typer.Argument(metavar="FILE", help="The cluster file (YAML).", show_default=False)]
RolloutFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="The cluster file (YAML), or a saved plan.", show_default=False)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Needed where there is no terminal.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or `last`.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout, and nothing else there.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")]
Key = Annotated[str, typer.Option("--key", metavar="TEXT", help="Idempotency key: the same key twice is one run.")]


class Ended(Exception):
    """A command is over, with this exit status. Not an error."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def confirm(*, yes: bool) -> None:
    """Asks whether to go on; anything but yes ends the command.

    Raises:
        InputRefused: there is nobody to ask.
    """
    require_consent(yes=yes)
    try:
        agreed = yes or typer.confirm("go on?", err=True)
    except typer.Abort:  # Ctrl-C, or the end of input
        agreed = False
    if not agreed:
        say(people_console(), "nothing was changed")
        raise Ended(130)


def require_consent(*, yes: bool) -> None:
    """For commands that write: either somebody agreed beforehand, or there is somebody to ask. Nothing was begun yet.

    Raises:
        InputRefused: neither.
    """
    if not yes and not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        raise InputRefused(
            "this command changes servers, and there is no terminal to ask on; nothing was changed",
            remedy="agree beforehand: give the option -y (--yes)",
        )


def _is_terminal(stream: TextIO | None) -> bool:
    """Whether a person is there. A stream that was closed before we started is None."""
    return stream is not None and not stream.closed and stream.isatty()


def run_on(  # noqa: PLR0913 - what commands share
    cluster: Cluster,
    kind: str,
    *,
    yes: bool = True,
    reason: str = "",
    key: str = "",
    folder: Path | None = None,
    as_json: bool = False,
    plan: SavedPlan | None = None,
) -> NoReturn:
    """Starts a run, stays with it to its end, and ends the command with its exit status.

    Where neither `yes` nor a plan is given, the plan is made and shown first, and somebody has to agree to it.

    Raises:
        InputRefused: there is nobody to ask.
    """
    people = people_console()
    asks = plan is None and not yes
    if asks:
        require_consent(yes=False)
    with engine_with_worker(load_settings(), lambda text: say(people, text), kind=kind) as services:
        if asks:
            plan = _agreed(services, cluster, people, reason)
        shown = attend(services, cluster, people, kind=kind, reason=reason, key=key, plan=plan)
    if folder is not None:
        say(people, f"report: {write_report(shown, folder)}")
    if as_json:
        typer.echo(pretty(shown), nl=False)
    raise Ended(status_of(shown))


def _agreed(services: Running, cluster: Cluster, people: Console, reason: str) -> SavedPlan:
    """The plan as it was shown to somebody who said yes to it."""
    say(people, "first the plan; nothing is written before you agree")
    planned = attend(services, cluster, people, kind="plan", reason=reason)
    if not is_planned(planned):
        raise Ended(status_of(planned))
    saved = commands.saved_plan(services.engine, planned.run)
    say(people, "\n" + "\n".join(plan_lines(cluster, saved.plan)))
    confirm(yes=saved.plan.empty)
    return saved


def is_planned(shown: Report) -> bool:
    """Whether a run that plans came to a plan."""
    return shown.verdict in {Verdict.CHANGES_PENDING, Verdict.NOTHING_TO_DO}


def people_console() -> Console:
    """Made when needed: stderr may have been replaced since this module was imported."""
    return Console(stderr=True, highlight=False)


def data(value: object) -> None:
    """Writes JSON to stdout, in ASCII: no character of it can steer a terminal."""
    typer.echo(json.dumps(value, indent=2))


def pretty(shown: Report) -> str:
    """A report as JSON for people who read JSON."""
    return shown.model_dump_json(indent=2) + "\n"


def status_of(shown: Report) -> int:
    """The exit status of a report."""
    return 6 if shown.exit_code is None else shown.exit_code  # not concluded: inconclusive


def described(cluster: Cluster) -> str:
    """A cluster in one line."""
    pools: dict[str, int] = {}
    for node in cluster.nodes:
        pools[node.pool] = pools.get(node.pool, 0) + 1
    listed = ", ".join(f"{count} in {pool}" for pool, count in pools.items())
    count = counted(len(cluster.nodes), "node")
    return f"{cluster.name} (edition {cluster.edition}, origin {cluster.origin}), {count}: {listed}"


def run_named(
    engine: Engine, name: str, fits: Callable[[RunRecord], bool] = lambda _: True, what: str = "run"
) -> RunRecord:
    """The run of that id; or the newest for `last`, never one that was refused because another had the cluster.

    Args:
        engine: where.
        name: an id, or `last`.
        fits: which runs `last` may mean; one that is named by its id need not fit.
        what: a word for those.

    Raises:
        RunUnknown: there is none.
    """
    if name != "last":
        return engine.store.run(name)
    newest = engine.store.runs(RECENT)
    if not newest:
        raise RunUnknown("there is no run yet", remedy="start one: esync rollout FILE")
    found = next((record for record in newest if record.verdict is not Verdict.LOCKED and fits(record)), None)
    if found is None:
        raise RunUnknown(f"none of the newest {len(newest)} runs is a {what}", remedy="see them: esync runs")
    return found


def goes_on(record: RunRecord) -> bool:
    """Whether a run has not ended."""
    return record.state is not RunState.CONCLUDED


def report_of(engine: Engine, record: RunRecord) -> Report:
    """What is known of a run."""
    return build(commands.summary(engine, record.id))

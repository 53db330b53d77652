"""Starting a run, watching it, and saying how it ended: what `rollout`, `verify`, `status` and `demo` share."""

import textwrap
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pipelines.cli.live import Glance, feed_of, follow
from pipelines.local.services import Running
from pipelines.report.build import build
from pipelines.report.html import to_html
from pipelines.report.rows import Report
from pipelines.report.styles import TONES, UNDER_WAY, printable
from pipelines.report.text import (
    attestation_lines,
    batch_lines,
    cause_lines,
    difference_lines,
    finding_lines,
    stand_lines,
    totals_line,
    verdict_line,
)
from pipelines.rollout import kind_of
from pipelines.usecases import runs
from pipelines.usecases.plan_file import SavedPlan
from tasks.cluster import Cluster
from workers.errors import ServiceLost
from workers.host.private import make_folder, write_private
from workers.records import RunRecord, Verdict

__all__ = ["attend", "conclude", "look_on", "say", "watch", "write_report"]

_NARROW = 40  #: columns below which nothing is indented further


def say(people: Console, text: str, style: str = "") -> None:
    """Tells people a line or several. Never markup: what a node said must not be able to style our output."""
    for line in text.splitlines():
        for part in _fitted(printable(line), people):
            people.print(Text(part, style=style), soft_wrap=True)


def _fitted(line: str, people: Console) -> list[str]:
    """On a terminal a line is broken between words, and what follows is indented; elsewhere lines stay whole."""
    if not people.is_terminal or len(line) <= people.width:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    deeper = indent + "  " if people.width > _NARROW else indent
    return textwrap.wrap(
        line, people.width, subsequent_indent=deeper, break_long_words=False, break_on_hyphens=False
    ) or [line]


def attend(
    services: Running,
    cluster: Cluster,
    people: Console,
    *,
    kind: str = "rollout",
    reason: str = "",
    key: str = "",
    plan: SavedPlan | None = None,
) -> Report:
    """Starts a run and stays with it to its end.

    Raises:
        KeyboardInterrupt: the operator left; people were told what that means for the run.
    """
    record = runs.start(services.engine, cluster, plan=plan, kind=kind, reason=reason, key=key)
    say(people, f"run {record.id}")
    return watch(services, record, people)


def watch(services: Running, record: RunRecord, people: Console) -> Report:
    """Follows a run to its end, then says how it came out.

    Raises:
        ServiceLost: what works on it died again and again; the run is unfinished.
    """
    try:
        look_on(services, record, people)
    except KeyboardInterrupt:
        say(people, _left(services, record.id), "yellow")
        raise
    report = build(runs.summary(services.engine, record.id))
    conclude(report, people)
    return report


def look_on(services: Running, record: RunRecord, people: Console) -> None:
    """Shows a run until it is concluded, as long as somebody can work on it.

    Raises:
        ServiceLost: what works on it died again and again; the run is unfinished.
    """
    look = feed_of(services.engine.store, record.id)

    def feed(after: str) -> Glance:
        services.check()
        return look(after)

    try:
        follow(feed, people)
    except ServiceLost as error:
        error.remedy += f"; run {record.id} is unfinished, go on with it then: esync watch {record.id}"
        raise


def _left(services: Running, run_id: str) -> str:
    if services.own == "demo":
        return "\nending the demo"
    if services.own:
        return (
            "\nthe worker stops with this command; nodes finish the step they are in, and nothing is half-done.\n"
            f"a new worker goes on with the run: esync watch {run_id}"
        )
    return f"\nyou left; the run goes on.\nwatch it: esync watch {run_id}; stop it: esync cancel {run_id}"


def conclude(report: Report, people: Console) -> None:
    """What is known about the cluster, failures by cause with their remedies, totals, and the verdict as last line."""
    tone = TONES[Verdict(report.verdict)] if report.verdict else UNDER_WAY
    kind = kind_of(report.kind, report.run)
    asked = attestation_lines(report) if kind.asks and kind.read_only else iter(())
    ends = (cause_lines(report), stand_lines(report), batch_lines(report))
    for lines in (finding_lines(report), asked, difference_lines(report), *ends):
        told = "\n".join(lines)
        if told:
            say(people, f"\n{told}")
    say(people, f"\n{totals_line(report)}")
    say(people, verdict_line(report), tone.colour)


def write_report(report: Report, folder: Path) -> Path:
    """Writes the report as HTML and JSON; returns the HTML file.

    Raises:
        FileTrouble: the folder cannot be written to.
    """
    page = make_folder(folder) / f"esync-report-{report.run}.html"
    write_private(page, to_html(report))
    write_private(page.with_suffix(".json"), report.model_dump_json(indent=2) + "\n")
    return page

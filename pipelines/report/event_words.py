"""One event of a run as one line for people. Pure."""

from pipelines.report.layout import printable
from workers.records import Event, RunRecord, Status

__all__ = ["is_line", "line"]


def is_line(event: Event, *, verbose: bool) -> bool:
    """Whether an event gets a line of its own: of the steps only those that failed, unless all are wanted.

    That the run has ended is shown in another way.
    """
    if event.kind == "run.concluded":
        return verbose
    if event.kind == "step.ended" and not verbose:
        return event.status in {Status.FAILED, Status.UNREACHABLE}
    return event.kind not in {"step.started", "step.postponed"}


def line(record: RunRecord, event: Event) -> str:
    """One event as one line of plain text: `   12.3 s  wave-1  S1  config_edit  changed: 3 files edited`."""
    words = [word for word in (event.turn, event.node, event.step) if word]
    if event.kind not in {"step.ended", "step.started"}:
        words.append(event.kind.replace(".", " ").replace("_", " "))
    status = event.status.replace("_", " ")
    if event.failure not in {"", event.status}:
        status += f" ({event.failure})"
    status += ": " if event.status and event.message else ""
    message = event.message.removeprefix(f"{event.status}: ")
    seconds = (event.at - record.since).total_seconds()
    return printable(f"{max(0.0, seconds):7.1f} s  {'  '.join(words)}  {status}{message}".rstrip())

"""A list of runs as a table: a header, ids that can be copied, dates. Pure."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from pipelines.report.layout import duration, printable
from pipelines.rollout import kind_of
from workers.records import RunRecord

__all__ = ["run_lines"]

_HEADER = ("RUN", "KIND", "STARTED (UTC)", "TOOK", "RESULT", "REQUESTED BY")


def run_lines(records: Sequence[RunRecord], at: datetime) -> Iterator[str]:
    """The runs as lines, the header first; nothing when there are none.

    Args:
        records: in the order of the lines.
        at: now, for runs that have not ended.
    """
    rows = [_HEADER, *(_row(record, at) for record in records)] if records else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    for *cells, last in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), last])


def _row(record: RunRecord, at: datetime) -> tuple[str, ...]:
    took = duration(((record.ended or at) - record.created).total_seconds())
    state = record.verdict.value if record.verdict else record.state.value
    started = f"{record.created.astimezone(UTC):%Y-%m-%d %H:%M}"
    return record.id, record.kind, started, took, state.replace("_", " "), _request(record)


def _request(record: RunRecord) -> str:
    """Who requested a run, why, and which run it continues."""
    why = f": {record.reason}" if record.reason else ""
    parent = f" [{kind_of(record.kind, record.id).parent} {record.parent}]" if record.parent else ""
    return printable(f"{record.who or '?'}{why}{parent}")

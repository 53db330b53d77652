"""Watching a run: a grid that keeps itself up to date on a terminal, plain lines anywhere else.

Everything is written to the console it is given (stderr, for people) and read through a `Feed`, so that neither a
terminal nor a store is needed to see it work.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipelines.report.styles import MARKS, TONES, UNDER_WAY, printable
from pipelines.rollout import kind_of
from pipelines.run.progress import Progress
from workers.errors import StoreUnavailable
from workers.records import Event, RunRecord, RunState, Status, now
from workers.store.port import RunStore

__all__ = ["Feed", "Glance", "draw", "feed_of", "follow", "line"]

INTERVAL = 0.2  #: seconds between two looks
PATIENCE = 60.0  #: seconds to go on when the store does not answer
UNTAKEN = 15.0  #: seconds after which a run that no worker has begun is worth a word
WHOLE_GRID = 30  #: nodes shown each in a row; more are summed up by wave
LISTED = 12  #: of the busy and the failed, when summed up
_FEED_LIMIT = 5000
_NAME = 15  #: letters of a name that are shown; a node's has no more
_REMARK = 8  #: letters for what is said of a node, however narrow the terminal
_SPINNER = "\u280b\u2819\u2839\u2838\u283c\u2834\u2826\u2827\u2807\u280f"


class Glance(NamedTuple):
    """A run as it stands, and its events since the last look."""

    record: RunRecord
    events: tuple[Event, ...]


Feed = Callable[[str], Glance]  #: takes the id of the last event seen, empty at first


def feed_of(store: RunStore, run_id: str) -> Feed:
    """Looks at a run in the store.

    The record is read before the events: when it is concluded, nothing that led to it can be missing.
    """
    return lambda after: Glance(store.run(run_id), store.events(run_id, after, _FEED_LIMIT))


def follow(feed: Feed, console: Console, *, interval: float = INTERVAL) -> RunRecord:
    """Shows a run until it is concluded, from its beginning however late one comes.

    Raises:
        RunUnknown: there is no such run.
        StoreUnavailable: the store has not answered for a minute.
    """
    if console.is_terminal:
        return _on_terminal(feed, console, interval)
    return _as_lines(feed, console, interval)


def _looks(feed: Feed, interval: float, complain: Callable[[str], None]) -> Iterator[Glance]:
    """Glances until the run is concluded and all its events were seen; rides out a store that is away."""
    after, lost, began, told = "", 0.0, time.monotonic(), False
    while True:
        try:
            glance = feed(after)
        except StoreUnavailable as error:
            lost = lost or time.monotonic()
            if time.monotonic() - lost > PATIENCE:
                raise
            complain(f"{error}; trying again")
            time.sleep(interval)
            continue
        lost = 0.0
        yield glance
        if glance.events:
            after = glance.events[-1].id
        elif glance.record.state is RunState.CONCLUDED:
            return
        else:
            if not told and glance.record.state is RunState.CREATED and time.monotonic() - began > UNTAKEN:
                complain("no worker has taken the run yet; is one running on this broker?")
                told = True
            time.sleep(interval)


def _as_lines(feed: Feed, console: Console, interval: float) -> RunRecord:
    said = ""

    def complain(text: str) -> None:
        nonlocal said
        if text != said:
            said = text
            _print(console, text)

    record: RunRecord | None = None
    for glance in _looks(feed, interval, complain):
        record = glance.record
        for event in glance.events:
            if event.kind != "step.started":
                _print(console, line(record, event))
    assert record is not None  # noqa: S101 - there is a glance before the end
    return record


def line(record: RunRecord, event: Event) -> str:
    """One event as one line of plain text: `   12.3 s  wave-1  S1  config_edit  changed: 3 files edited`."""
    words = [word for word in (event.turn, event.node, event.step) if word]
    if event.kind not in {"step.ended", "step.started"}:
        words.append(event.kind.replace(".", " ").replace("_", " "))
    status = event.status
    if event.failure not in {"", event.status}:
        status += f" ({event.failure})"
    status += ": " if event.status and event.message else ""
    said = event.message.removeprefix(f"{event.status}: ")
    seconds = (event.at - record.created).total_seconds()
    return printable(f"{max(0.0, seconds):7.1f} s  {'  '.join(words)}  {status}{said}".rstrip())


def _print(console: Console, text: str) -> None:
    console.print(Text(printable(text)), soft_wrap=True)


def _on_terminal(feed: Feed, console: Console, interval: float) -> RunRecord:
    progress: Progress | None = None
    trouble = ""

    def complain(text: str) -> None:
        nonlocal trouble
        trouble = text

    def picture() -> RenderableType:
        return Text("waiting for the run ...") if progress is None else draw(progress, console, trouble)

    with Live(console=console, get_renderable=picture, refresh_per_second=6, vertical_overflow="crop") as live:
        for glance in _looks(feed, interval, complain):
            trouble = trouble if glance.record.state is RunState.CREATED else ""
            progress = progress or Progress(glance.record, kind_of(glance.record.kind, glance.record.id))
            progress.take(glance.record, glance.events)
        live.refresh()
    assert progress is not None  # noqa: S101 - there is a glance before the end
    return progress.record


def draw(progress: Progress, console: Console, trouble: str = "") -> RenderableType:
    """The picture of a moment: a row a node, or, where they are many, a bar a wave and the nodes that matter."""
    parts: list[RenderableType] = [_headline(progress, console)]
    if len(progress.nodes) <= min(WHOLE_GRID, max(8, console.height - 8)):
        parts.append(_grid(progress, console, list(progress.nodes)))
    else:
        parts += [_bars(progress), _grid(progress, console, _worth_a_row(progress, console))]
    if trouble:
        parts.append(Text(printable(trouble), style="yellow"))
    return Group(*parts)


def _headline(progress: Progress, console: Console) -> Text:
    record = progress.record
    at = now()
    tone = TONES[record.verdict] if record.verdict else UNDER_WAY
    turn = record.turn.name if record.turn else "not begun"
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{record.kind} of {record.cluster}  ", style="bold")
    text.append(f"{tone.title.upper() if record.verdict else turn}  ", style=tone.colour)
    text.append(f"{_clock(progress.seconds(at))}  ")
    for status, count in progress.counts().items():
        text.append(f"{_symbol(status, console)} {count} {MARKS[status].word}  ", style=MARKS[status].colour)
    if not record.verdict:
        text.append(f"{_spin(console, at.timestamp())} {len(progress.running())} busy", style="blue")
    return text


def _grid(progress: Progress, console: Console, nodes: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bright_black", show_edge=False)
    columns = progress.kind.columns
    steps = sum(len(heading) + 2 for heading in columns)
    widths = _widths(progress, nodes, console.width - steps - _REMARK)
    for heading, width in widths.items():
        table.add_column(heading, no_wrap=True, width=width, overflow="ellipsis")
    for heading in columns:
        table.add_column(heading, justify="center", no_wrap=True, width=len(heading))
    taken = steps + sum(width + 2 for width in widths.values())
    table.add_column("", no_wrap=True, overflow="ellipsis", width=max(_REMARK, console.width - taken))
    for node in nodes:
        cells = [_cell(progress, console, node, column) for column in columns]
        named = {"node": node, "pool": progress.nodes[node], "wave": progress.wave(node)}
        table.add_row(*(Text(named[heading]) for heading in widths), *cells, _remark(progress, node))
    return table


def _widths(progress: Progress, nodes: list[str], room: int) -> dict[str, int]:
    """Of the columns that name a node: what is said of it must not squeeze them. Short of room, the last go."""
    texts = {
        "node": nodes,
        "pool": [progress.nodes[node] for node in nodes],
        "wave": [progress.wave(node) for node in nodes],
    }
    widths = {heading: min(_NAME, max(map(len, [heading, *held]))) for heading, held in texts.items()}
    while len(widths) > 1 and sum(width + 2 for width in widths.values()) > room:
        widths.popitem()
    return widths


def _cell(progress: Progress, console: Console, node: str, column: str) -> Text:
    if (node, column) not in progress.cells:
        return Text(".", style="bright_black")
    status = progress.cells[node, column]
    if status is None:
        return Text(_spin(console, now().timestamp()), style="blue")
    return Text(_symbol(status, console), style=MARKS[status].colour)


def _remark(progress: Progress, node: str) -> Text:
    """What was said of a node that is out, else its outcome in a word."""
    status = progress.outcome(node)
    if status is None:
        return Text("")
    said = progress.reasons.get(node)
    return Text(printable(said or MARKS[status].word), style=MARKS[status].colour)


def _bars(progress: Progress) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), show_header=False, show_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(width=40)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for turn in progress.record.turns:
        done = progress.done(turn.nodes, turn.name)
        lost = progress.lost(turn.name).items()
        remark = Text("  ").join(Text(f"{count} {MARKS[s].word}", style=MARKS[s].colour) for s, count in lost)
        bar = ProgressBar(total=max(1, len(turn.nodes)), completed=done, width=40)
        table.add_row(Text(turn.name), bar, Text(f"{done}/{len(turn.nodes)}"), remark)
    return table


def _worth_a_row(progress: Progress, console: Console) -> list[str]:
    """The failed first, then the busy, as many as there is room for."""
    room = max(3, min(2 * LISTED, console.height - 6 - len(progress.record.turns)))
    bad = [node for node in progress.nodes if node in progress.reasons]
    busy = [node for node in progress.running() if node not in progress.reasons]
    return [*bad[: max(LISTED, room - len(busy))], *busy][:room]


def _symbol(status: Status, console: Console) -> str:
    mark = MARKS[status]
    return mark.symbol if console.encoding.lower().startswith("utf") else mark.plain


def _spin(console: Console, at: float) -> str:
    frames = _SPINNER if console.encoding.lower().startswith("utf") else r"-\|/"
    return frames[int(at * 8) % len(frames)]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"  # noqa: PLR2004

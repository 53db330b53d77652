"""Shows a run while it works: a live grid on a terminal, plain lines elsewhere.

Output goes to the given console (stderr, for people), input comes from a `Feed`: neither a terminal nor a store is
needed to try it.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipelines.report.layout import printable
from pipelines.report.styles import IN_PROGRESS, REFUTED, STATUS_STYLES, VERDICT_STYLES, StatusStyle
from pipelines.rollout import kind_of
from pipelines.run.progress import Progress
from pipelines.run.summary import findings_of
from workers.errors import StoreUnavailable
from workers.records import Event, RunRecord, RunState, Status, now
from workers.store.port import RunStore

__all__ = ["Feed", "RunUpdate", "draw", "line", "progress_of", "show_run", "updates_of"]

INTERVAL = 0.2  #: seconds between two reads of the store
PATIENCE = 60.0  #: seconds to continue while the store does not answer
UNTAKEN = 15.0  #: seconds after which a run that no worker has started is reported
WHOLE_GRID = 30  #: nodes that get a row each; more nodes are shown as one bar per turn
LISTED = 12  #: rows for failed and busy nodes below the bars
_FEED_LIMIT = 5000
_NAME = 15  #: letters of a name that are shown; the name of a node has no more
_REMARK = 8  #: letters for the remark on a node, however narrow the terminal
_BAR = 30  #: columns of a bar
_HOUR = 60  #: minutes
_FINE = {Status.UNCHANGED, Status.CHANGED}
_SPINNER = "\u280b\u2819\u2839\u2838\u283c\u2834\u2826\u2827\u2807\u280f"


class RunUpdate(NamedTuple):
    """The current record of a run, its events since the last update, and the nodes that its final check refuted."""

    record: RunRecord
    events: tuple[Event, ...]
    refuted: frozenset[str] = frozenset()


Feed = Callable[[str], RunUpdate]  #: takes the id of the last event received, empty at first


def updates_of(store: RunStore, run_id: str) -> Feed:
    """Reads a run from the store.

    The record is read before the events: when it is concluded, no event that led to it can be missing.
    """

    def update(after: str) -> RunUpdate:
        record = store.run(run_id)
        return RunUpdate(record, store.events(run_id, after, _FEED_LIMIT), _refuted(store, record))

    return update


def _refuted(store: RunStore, record: RunRecord) -> frozenset[str]:
    """The nodes that the final check of a run names in errors; none while the run lasts."""
    early = kind_of(record.kind, record.id).checked_early(turn.stage for turn in record.turns)
    findings = None if early or record.state is not RunState.CONCLUDED else findings_of(store, record.id)
    return frozenset(node for one in findings.refuted_errors for node in one.nodes) if findings else frozenset()


def progress_of(store: RunStore, record: RunRecord) -> Progress:
    """The progress of a run, from all its events so far.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    progress, updates, after = Progress(record, kind_of(record.kind, record.id)), updates_of(store, record.id), ""
    while (update := updates(after)).events:
        _take(progress, update)
        after = update.events[-1].id
    _take(progress, update)
    return progress


def _take(progress: Progress, update: RunUpdate) -> None:
    progress.take(update.record, update.events)
    progress.refuted = update.refuted


def show_run(feed: Feed, console: Console, *, interval: float = INTERVAL) -> None:
    """Shows a run from its beginning until it is concluded.

    Raises:
        RunUnknown: there is no such run.
        StoreUnavailable: the store has not answered for a minute.
    """
    if console.is_terminal:
        _on_terminal(feed, console, interval)
    else:
        _as_lines(feed, console, interval)


def _updates(feed: Feed, interval: float, complain: Callable[[str], None]) -> Iterator[RunUpdate]:
    """Updates until the run is concluded and all its events were received; waits for a store that does not answer."""
    after, lost, began, complained = "", 0.0, time.monotonic(), False
    while True:
        try:
            update = feed(after)
        except StoreUnavailable as error:
            lost = lost or time.monotonic()
            if time.monotonic() - lost > PATIENCE:
                raise
            complain(f"{error}; trying again")
            time.sleep(interval)
            continue
        lost = 0.0
        yield update
        if update.events:
            after = update.events[-1].id
        elif update.record.state is RunState.CONCLUDED:
            return
        else:
            if not complained and update.record.state is RunState.CREATED and time.monotonic() - began > UNTAKEN:
                complain("no worker has started the run yet; check that a worker is running on this broker")
                complained = True
            time.sleep(interval)


def _as_lines(feed: Feed, console: Console, interval: float) -> None:
    last = ""

    def complain(text: str) -> None:
        nonlocal last
        if text != last:
            last = text
            _print(console, text)

    for update in _updates(feed, interval, complain):
        for event in update.events:
            if _is_line(update.record, event):
                _print(console, line(update.record, event))


def _is_line(record: RunRecord, event: Event) -> bool:
    """Whether an event gets a line of its own: in a large cluster of the steps only those that failed."""
    if event.kind == "step.ended" and len(record.spec["nodes"]) > WHOLE_GRID:
        return event.status in {Status.FAILED, Status.UNREACHABLE}
    return event.kind != "step.started"


def line(record: RunRecord, event: Event) -> str:
    """One event as one line of plain text: `   12.3 s  wave-1  S1  config_edit  changed: 3 files edited`."""
    words = [word for word in (event.turn, event.node, event.step) if word]
    if event.kind not in {"step.ended", "step.started"}:
        words.append(event.kind.replace(".", " ").replace("_", " "))
    status = event.status
    if event.failure not in {"", event.status}:
        status += f" ({event.failure})"
    status += ": " if event.status and event.message else ""
    message = event.message.removeprefix(f"{event.status}: ")
    seconds = (event.at - record.created).total_seconds()
    return printable(f"{max(0.0, seconds):7.1f} s  {'  '.join(words)}  {status}{message}".rstrip())


def _print(console: Console, text: str) -> None:
    console.print(Text(printable(text)), soft_wrap=True)


def _on_terminal(feed: Feed, console: Console, interval: float) -> None:
    progress: Progress | None = None
    trouble = ""

    def complain(text: str) -> None:
        nonlocal trouble
        trouble = text

    def picture() -> RenderableType:
        return Text("waiting for the run ...") if progress is None else draw(progress, console, trouble)

    with Live(console=console, get_renderable=picture, refresh_per_second=6, vertical_overflow="crop") as live:
        for update in _updates(feed, interval, complain):
            trouble = trouble if update.record.state is RunState.CREATED else ""
            progress = progress or Progress(update.record, kind_of(update.record.kind, update.record.id))
            _take(progress, update)
        live.refresh()


def draw(progress: Progress, console: Console, trouble: str = "") -> RenderableType:
    """The current picture: one row per node; with many nodes one bar per turn, and rows for failed and busy nodes."""
    parts: list[RenderableType] = [_headline(progress, console)]
    if len(progress.nodes) <= min(WHOLE_GRID, max(8, console.height - 9)):
        parts.append(_grid(progress, console, list(progress.nodes)))
    else:
        shown = _worth_a_row(progress, console)
        parts += [_bars(progress), *([_grid(progress, console, shown)] if shown else [])]
    if progress.cells:
        parts.append(_legend(progress, console))
    if trouble:
        parts.append(Text(printable(trouble), style="yellow"))
    return Group(*parts)


def _headline(progress: Progress, console: Console) -> Text:
    record, at = progress.record, now()
    text = Text()
    text.append(f"{record.kind} of {record.cluster}  ", style="bold")
    text.append(*_phase(progress))
    text.append(f"  {_clock(progress.seconds(at))}")
    for style, count in _counts(progress):
        text.append(f"  {_symbol(style, console)} {count} {style.word}", style=style.colour)
    if progress.waiting():
        text.append(f"  {progress.waiting()} {'not tried' if record.verdict else 'waiting'}", style="bright_black")
    if not record.verdict:
        text.append(f"  {_spin(console, at.timestamp())} {len(progress.running())} busy", style="cyan")
    return text


def _phase(progress: Progress) -> tuple[str, str]:
    """What the run does now, and its style: the verdict, a pause with its reason, or the current turn."""
    record = progress.record
    if record.verdict:
        return VERDICT_STYLES[record.verdict].title.upper(), VERDICT_STYLES[record.verdict].colour
    turn = record.turn.name if record.turn else "not started"
    if progress.cancelling:
        return printable(f"{turn} STOPPING ({progress.cancelling})"), "bold yellow"
    if progress.paused:
        return printable(f"{turn} PAUSED ({progress.paused})"), "bold yellow"
    return turn, IN_PROGRESS.colour


def _counts(progress: Progress) -> Iterator[tuple[StatusStyle, int]]:
    """The nodes by outcome; of those that only were looked at, the refuted ones are counted apart."""
    refuted = [node for node in progress.refuted if progress.outcome(node) in _FINE]
    if refuted:
        yield REFUTED, len(refuted)
    for status, count in progress.counts().items():
        left = count - sum(progress.outcome(node) is status for node in refuted)
        if left:
            yield _style(progress, status), left


def _style(progress: Progress, status: Status) -> StatusStyle:
    """The style of a status; in a run that only reads, a node is not `unchanged` but checked."""
    style = STATUS_STYLES[status]
    return replace(style, word="checked") if status is Status.UNCHANGED and progress.kind.read_only else style


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
    """Widths of the columns that name a node: remarks must not squeeze them. The last ones go when space is short."""
    texts = {
        "node": nodes,
        "pool": [progress.nodes[node] for node in nodes],
        "wave": [progress.wave(node) for node in nodes],
    }
    if not any(stage.numbered for stage in progress.kind.stages):
        del texts["wave"]
    widths = {heading: min(_NAME, max(map(len, [heading, *held]))) for heading, held in texts.items()}
    while len(widths) > 1 and sum(width + 2 for width in widths.values()) > room:
        widths.popitem()
    return widths


def _cell(progress: Progress, console: Console, node: str, column: str) -> Text:
    if (node, column) not in progress.cells:
        return Text(".", style="bright_black")
    status = progress.cells[node, column]
    if status is None:
        return Text(_spin(console, now().timestamp()), style="cyan")
    style = REFUTED if _is_refuted(progress, node) and column == progress.kind.columns[-1] else STATUS_STYLES[status]
    return Text(_symbol(style, console), style=style.colour)


def _is_refuted(progress: Progress, node: str) -> bool:
    return node in progress.refuted and progress.outcome(node) in _FINE


def _remark(progress: Progress, node: str) -> Text:
    """The message that ended a node's part, or its outcome in one word."""
    only = progress.record.only
    if only and node not in only and node not in progress.reasons:
        return Text("not selected", style="bright_black")
    status = progress.outcome(node)
    if status is None:
        return Text("" if node in progress.running() or progress.record.verdict else "waiting", style="bright_black")
    style = REFUTED if _is_refuted(progress, node) else _style(progress, status)
    return Text(printable(progress.reasons.get(node) or style.word), style=style.colour)


def _legend(progress: Progress, console: Console) -> Text:
    """What the marks in the grid mean."""
    used = {status for status in progress.cells.values() if status}
    styles = [_style(progress, status) for status in Status if status in used]
    styles = [REFUTED, *styles] if any(_is_refuted(progress, node) for node in progress.refuted) else styles
    marks = "  ".join(f"{_symbol(style, console)} {style.word}" for style in styles)
    return Text(
        f"{marks}  . {'no step' if progress.record.verdict else 'not yet'}" if marks else "", style="bright_black"
    )


def _bars(progress: Progress) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), show_header=False, show_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(width=_BAR)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for turn in progress.record.turns:
        done, steps = progress.steps(turn)
        lost = progress.lost(turn.name).items()
        remark = Text("  ").join(Text(f"{count} {STATUS_STYLES[s].word}", STATUS_STYLES[s].colour) for s, count in lost)
        bar = ProgressBar(
            total=max(1, steps), completed=done, width=_BAR, complete_style="cyan", finished_style="green"
        )
        table.add_row(Text(turn.name), bar, Text(f"{done}/{steps} steps"), remark)
    return table


def _worth_a_row(progress: Progress, console: Console) -> list[str]:
    """The failed nodes first, then the busy ones, as many as fit on the screen."""
    room = max(3, min(2 * LISTED, console.height - 7 - len(progress.record.turns)))
    bad = [node for node in progress.nodes if node in progress.reasons]
    busy = [node for node in progress.running() if node not in progress.reasons]
    return [*bad[: max(LISTED, room - len(busy))], *busy][:room]


def _symbol(style: StatusStyle, console: Console) -> str:
    return style.symbol if console.encoding.lower().startswith("utf") else style.plain


def _spin(console: Console, at: float) -> str:
    frames = _SPINNER if console.encoding.lower().startswith("utf") else r"-\|/"
    return frames[int(at * 8) % len(frames)]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= _HOUR else f"{minutes}:{rest:02}"

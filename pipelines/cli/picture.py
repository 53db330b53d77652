"""The picture of a run that works: a headline, a row for each node or a bar for each turn, and why nodes ended early.

Drawn for a console of any width; needs neither a terminal nor a store.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipelines.report.alike import in_words, masked
from pipelines.report.layout import by_itself, cut, folded, name_ranges, printable
from pipelines.report.styles import IN_PROGRESS, REFUTED, STATUS_STYLES, VERDICT_STYLES, StatusStyle
from pipelines.run.progress import Progress
from tasks.ektron.wording import counted
from tasks.steering import verb_for_held
from workers.records import Status, Turn, now

__all__ = ["draw"]

WHOLE_GRID = 30  #: nodes that get a row each; more nodes are shown as one bar per turn
LISTED = 12  #: rows for busy nodes below the bars
_NAME = 15  #: letters of a name that are shown; the name of a node has no more
_REMARK = 12  #: letters for the remark on a node, however narrow the terminal: `not selected`
_REASON = 3  #: lines of a reason at most
_GATE = 8  #: lines that say what a person has to do
_BAR = 30  #: columns of a bar; less on a narrow terminal
_TURNS = 3  #: bars on the smallest terminal: the newest
_BESIDE = 9  #: lines that the bars leave for the rest
_HOUR = 60  #: minutes
_WORST = list(STATUS_STYLES)  #: the worst status first
_FINE = {Status.UNCHANGED, Status.CHANGED}
_SPINNER = "\u280b\u2819\u2839\u2838\u283c\u2834\u2826\u2827\u2807\u280f"


def draw(progress: Progress, console: Console, trouble: str = "") -> RenderableType:
    """The current picture: one row per node; with many nodes one bar per turn, and rows for the busy nodes.

    Why nodes ended early is shown in full: in their rows where it fits, otherwise below.
    """
    parts: list[RenderableType] = [_headline(progress, console)]
    if len(progress.nodes) <= min(WHOLE_GRID, max(8, console.height - 9)):
        room = max(3, console.height - 4 - len(progress.nodes))
        parts += _grid(progress, console, list(progress.nodes), room)
    else:
        turns = progress.record.turns[-max(_TURNS, console.height - _BESIDE) :]
        room = max(4, console.height - 5 - len(turns))
        reasons = _reasons(progress, console, max(3, room - min(len(progress.running()), room // 2)))
        busy = [node for node in progress.running() if node not in progress.reasons]
        shown = busy[: max(0, min(LISTED, room - len(reasons) - 1))]
        parts += [
            *_bars(progress, turns, console.width),
            *reasons,
            *(_grid(progress, console, shown, 0) if shown else []),
        ]
    if progress.said and not progress.record.verdict:
        lines = _GATE if progress.at_gate else _REASON
        parts += [Text(line) for line in folded(printable(progress.said), console.width, "", "  ")[:lines]]
    if progress.cells:
        parts.append(_legend(progress, console))
    if trouble:
        parts.append(Text(printable(trouble), style="magenta"))
    return Group(*parts)


def _reasons(progress: Progress, console: Console, room: int) -> list[Text]:
    """Why nodes ended early, the worst first, equal reasons together; the last line counts what has no room."""
    hosts = {node["name"]: str(node.get("host", node["name"])) for node in progress.record.spec["nodes"]}
    groups: dict[tuple[Status, str], list[str]] = {}
    for node in filter(progress.reasons.__contains__, progress.nodes):
        status = progress.outcome(node) or Status.FAILED
        groups.setdefault((status, masked(progress.reasons[node], node, hosts[node])), []).append(node)
    lines: list[Text] = []
    left = len(progress.reasons)
    for (status, text), nodes in sorted(groups.items(), key=lambda group: _WORST.index(group[0][0])):
        sentence = progress.reasons[nodes[0]] if len(nodes) == 1 else in_words(text, nodes[0])
        block = cut(folded(f"{name_ranges(nodes)}  {sentence}", console.width, "", "    "), _REASON, console.width)
        if len(lines) + len(block) > room - 1 and len(nodes) < left:
            lines.append(Text(f"and {left} more nodes that ended early: see the report", style="dim"))
            break
        left -= len(nodes)
        lines += [Text(part, style=STATUS_STYLES[status].colour) for part in block]
    return lines


def _headline(progress: Progress, console: Console) -> Text:
    record, at = progress.record, now()
    text = Text()
    text.append(f"{record.kind} of {record.cluster}  ", style="bold")
    text.append(*_phase(progress))
    text.append(f"  {_clock(progress.seconds(at))}")
    for style, count in _counts(progress):
        text.append(f"  {_symbol(style, console)} {count} {style.word}", style=style.colour)
    if progress.waiting():
        text.append(f"  {progress.waiting()} {'not tried' if record.verdict else 'waiting'}", style="dim")
    if unselected := sum(_only_looked_at(progress, node) for node in progress.nodes):
        text.append(f"  {unselected} not selected", style="dim")
    if not record.verdict:
        text.append(f"  {_spin(console, at.timestamp())} {len(progress.running())} busy", style="cyan")
    return text


def _phase(progress: Progress) -> tuple[str, str]:
    """What the run does now, and its style: the verdict, a pause or hold, or the current turn."""
    record = progress.record
    if record.verdict:
        return VERDICT_STYLES[record.verdict].title.upper(), VERDICT_STYLES[record.verdict].colour
    turn = record.turn.name if record.turn else "not started"
    if progress.cancelling:
        return printable(f"{turn} STOPPING ({progress.cancelling})"), "bold magenta"
    if progress.paused:
        return printable(f"{turn} PAUSED ({progress.paused})"), "bold magenta"
    if progress.held:
        verb = verb_for_held(unapproved=progress.unapproved)
        alone = by_itself(progress.begins_in)
        or_not = f"; {alone}" if alone else ""
        return printable(f"{turn} HELD before {progress.held} (esync {verb} {record.id}{or_not})"), "bold magenta"
    return turn, IN_PROGRESS.colour


def _counts(progress: Progress) -> Iterator[tuple[StatusStyle, int]]:
    """The nodes by outcome; of those that only were looked at, the refuted ones are counted apart."""
    refuted = [node for node in progress.nodes if _is_refuted(progress, node)]
    if refuted:
        yield REFUTED, len(refuted)
    apart = {*refuted, *(node for node in progress.nodes if _only_looked_at(progress, node))}
    for status, count in progress.counts().items():
        left = count - sum(progress.outcome(node) is status for node in apart)
        if left:
            yield _style(progress, status), left


def _only_looked_at(progress: Progress, node: str) -> bool:
    """Whether a node was not selected and nothing is wrong with it."""
    return progress.is_unselected(node) and node not in progress.reasons and not _is_refuted(progress, node)


def _style(progress: Progress, status: Status) -> StatusStyle:
    """The style of a status; in a run that only reads, a node is not `unchanged` but checked."""
    style = STATUS_STYLES[status]
    return replace(style, word="checked") if status is Status.UNCHANGED and progress.kind.read_only else style


def _grid(progress: Progress, console: Console, nodes: list[str], room: int) -> list[RenderableType]:
    """A row for each of these nodes; below it, in at most so many lines, the reasons that do not fit into a row."""
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim", show_edge=False)
    columns = _columns(progress)
    steps = sum(len(heading) + 2 for heading in columns)
    widths = _widths(progress, nodes, console.width - steps - _REMARK)
    for heading, width in widths.items():
        table.add_column(heading, no_wrap=True, width=width, overflow="ellipsis")
    for heading in columns:
        table.add_column(heading, justify="center", no_wrap=True, width=len(heading))
    space = max(_REMARK, console.width - steps - sum(width + 2 for width in widths.values()))
    table.add_column("", no_wrap=True, overflow="ellipsis", width=space)
    fits = all(len(reason) <= space for reason in progress.reasons.values())
    for node in nodes:
        cells = [_cell(progress, console, node, column) for column in columns]
        named = {"node": node, "pool": progress.nodes[node], "wave": progress.wave(node)}
        remark = _remark(progress, node, reason=fits)
        table.add_row(*(Text(named[heading]) for heading in widths), *cells, remark)
    return [table, *([] if fits or not room else _reasons(progress, console, room))]


def _columns(progress: Progress) -> list[str]:
    """The headings of the steps; of a run that has ended only those where a step ran."""
    used = {heading for _, heading in progress.cells}
    known = progress.kind.columns_of(balanced=bool(progress.record.spec.get("balancers")))
    return [heading for heading in known if not progress.record.verdict or heading in used]


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
        return Text(".", style="dim")
    status = progress.cells[node, column]
    if status is None:
        return Text(_spin(console, now().timestamp()), style="cyan")
    style = REFUTED if _is_refuted(progress, node) and column == _columns(progress)[-1] else STATUS_STYLES[status]
    return Text(_symbol(style, console), style=style.colour)


def _is_refuted(progress: Progress, node: str) -> bool:
    return node in progress.refuted and progress.outcome(node) in _FINE


def _remark(progress: Progress, node: str, *, reason: bool) -> Text:
    """The outcome of a node in one word, or why it ended early."""
    if _only_looked_at(progress, node):
        return Text("not selected", style="dim")
    status = progress.outcome(node)
    if status is None:
        return Text("" if node in progress.running() or progress.record.verdict else "waiting", style="dim")
    style = REFUTED if _is_refuted(progress, node) else _style(progress, status)
    return Text(printable((reason and progress.reasons.get(node)) or style.word), style=style.colour)


def _legend(progress: Progress, console: Console) -> Text:
    """What the marks in the grid mean."""
    used = {status for status in progress.cells.values() if status}
    styles = [_style(progress, status) for status in Status if status in used]
    styles = [REFUTED, *styles] if any(_is_refuted(progress, node) for node in progress.refuted) else styles
    marks = [f"{_symbol(style, console)} {style.word}" for style in styles]
    if any((node, column) not in progress.cells for node in progress.nodes for column in _columns(progress)):
        marks.append(f". {'no step' if progress.record.verdict else 'not yet'}")
    return Text("  ".join(marks) if styles else "", style="dim")


def _bars(progress: Progress, turns: Sequence[Turn], width: int) -> Iterator[RenderableType]:
    """A bar for each of these turns, the newest ones; those before them are counted."""
    names = [Text(turn.name) for turn in turns]
    steps = [progress.steps(turn) for turn in turns]
    counts = [Text(f"{done}/{whole} steps") for done, whole in steps]
    remarks = [_lost(progress, turn) for turn in turns]
    texts = sum(max(map(len, column), default=0) for column in (names, counts, remarks))
    columns = min(_BAR, max(4, width - texts - 6))
    table = Table(box=None, pad_edge=False, padding=(0, 1), show_header=False, show_edge=False)
    table.add_column(no_wrap=True, min_width=max(map(len, names), default=0))
    table.add_column(width=columns)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for name, (done, whole), count, remark in zip(names, steps, counts, remarks, strict=True):
        bar = ProgressBar(
            total=max(1, whole), completed=done, width=columns, complete_style="cyan", finished_style="green"
        )
        table.add_row(name, bar, count, remark)
    if before := len(progress.record.turns) - len(turns):
        yield Text(f"{counted(before, 'turn')} before", style="dim")
    yield table


def _lost(progress: Progress, turn: Turn) -> Text:
    lost = progress.lost(turn.name).items()
    return Text("  ").join(Text(f"{count} {STATUS_STYLES[one].word}", STATUS_STYLES[one].colour) for one, count in lost)


def _symbol(style: StatusStyle, console: Console) -> str:
    return style.symbol if console.encoding.lower().startswith("utf") else style.plain


def _spin(console: Console, at: float) -> str:
    frames = _SPINNER if console.encoding.lower().startswith("utf") else r"-\|/"
    return frames[int(at * 8) % len(frames)]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= _HOUR else f"{minutes}:{rest:02}"

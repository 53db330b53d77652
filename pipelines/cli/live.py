"""Shows a run while it works: a picture that changes on a terminal, plain lines elsewhere.

Output goes to the given console (stderr, for people), input comes from a `Feed`: neither a terminal nor a store is
needed to try it.
"""

import time
from collections.abc import Callable, Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from pipelines.cli.picture import draw
from pipelines.report.event_words import is_line, line
from pipelines.report.layout import printable
from pipelines.rollout import kind_of
from pipelines.run.budget_left import budget_so_far
from pipelines.run.progress import Progress
from pipelines.usecases.updates import Feed, RunUpdate, take
from workers.errors import StoreUnavailable
from workers.records import RunState

__all__ = ["show_run"]

INTERVAL = 0.2  #: seconds between two reads of the store
PATIENCE = 60.0  #: seconds to continue while the store does not answer


def show_run(feed: Feed, console: Console, *, interval: float = INTERVAL, verbose: bool = False) -> None:
    """Shows a run from its beginning until it is concluded.

    Args:
        feed: where its updates come from.
        console: a terminal gets a picture that changes; anything else a line for each turn and each failed step.
        interval: seconds between two updates.
        verbose: without a terminal, a line for each step.

    Raises:
        RunUnknown: there is no such run.
        StoreUnavailable: the store has not answered for a minute.
    """
    if console.is_terminal:
        _on_terminal(feed, console, interval)
    else:
        _as_lines(feed, console, interval, verbose=verbose)


def _updates(feed: Feed, interval: float, complain: Callable[[str], None]) -> Iterator[RunUpdate]:
    """Updates until the run is concluded and all its events were received; waits for a store that does not answer."""
    after, lost = "", 0.0
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
            time.sleep(interval)


def _as_lines(feed: Feed, console: Console, interval: float, *, verbose: bool) -> None:
    last = waiting = ""

    def complain(text: str) -> None:
        nonlocal last
        if text != last:
            last = text
            _print(console, text)

    for update in _updates(feed, interval, complain):
        for event in update.events:
            if is_line(event, verbose=verbose):
                _print(console, line(update.record, event))
        if bool(update.waiting) is not bool(waiting):
            _print(console, update.waiting or "a worker answers")
        waiting = update.waiting


def _print(console: Console, text: str) -> None:
    console.print(Text(printable(text)), soft_wrap=True)


def _on_terminal(feed: Feed, console: Console, interval: float) -> None:
    progress: Progress | None = None
    trouble = ""

    def complain(text: str) -> None:
        nonlocal trouble
        trouble = text

    def picture() -> RenderableType:
        if progress is None:
            return Text("waiting for the run ...")
        drawn, budget = draw(progress, console, trouble), budget_so_far(progress)
        return Group(drawn, Text(budget.left, style="dim")) if budget else drawn

    with Live(console=console, get_renderable=picture, refresh_per_second=6, vertical_overflow="crop") as live:
        for update in _updates(feed, interval, complain):
            trouble = update.waiting
            progress = progress or Progress(update.record, kind_of(update.record.kind, update.record.id))
            take(progress, update)
        live.refresh()

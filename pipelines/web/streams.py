"""Events of runs for many listeners: one reader per run and process, however many browsers look at it.

A listener that is too slow for the reader's memory reads what it missed from the store: nothing is lost, and nothing
waits for it.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from workers.errors import EsyncError, StoreUnavailable
from workers.records import Event, RunState
from workers.store.port import RunStore, event_position

__all__ = ["Sent", "Streams"]

EVERY = 0.25  #: seconds between two reads of a run that someone looks at
PAGE = 500  #: events read at once
KEPT = 2000  #: events that a reader remembers for its listeners
QUIET = 15.0  #: seconds without an event after which a listener hears that nothing is new


class Sent(NamedTuple):
    """An event as it is sent: its id and its JSON, encoded once for all listeners; and its position in the run."""

    id: str
    event: Event
    data: str
    place: tuple[int, int]


@dataclass
class _Reader:
    """What is read of one run for its listeners."""

    after: str  #: the event before the first one in `kept`
    kept: deque[Sent] = field(default_factory=deque)
    changed: asyncio.Event = field(default_factory=asyncio.Event)  #: set, and replaced, at each change
    listeners: int = 0
    ended: bool = False
    failure: EsyncError | None = None
    task: "asyncio.Task[None] | None" = None

    @property
    def last(self) -> str:
        """The id of the newest event that was read."""
        return self.kept[-1].id if self.kept else self.after


class Streams:
    """The events of all runs that someone looks at.

    Args:
        store: where they are.
        every: seconds between two reads.
    """

    def __init__(self, store: RunStore, every: float = EVERY) -> None:
        self._store = store
        self._every = every
        self._readers: dict[str, _Reader] = {}

    async def follow(self, run_id: str, after: str = "") -> AsyncIterator[tuple[Sent, ...]]:
        """The events of a run after that one, as they happen; ends with the run.

        An empty tuple comes when nothing has happened for some time, so that the caller can see whether the listener
        is still there.

        Raises:
            InputRefused: `after` is not the id of an event.
            RunUnknown: there is no such run, or it was forgotten.
        """
        event_position(after)
        reader = await self._reader(run_id)
        reader.listeners += 1
        try:
            while True:
                news = await self._news(reader, run_id, after)
                if news:
                    after = news[-1].id
                elif reader.ended:
                    return
                yield news
        finally:
            reader.listeners -= 1
            if not reader.listeners:
                self._stop(run_id, reader)

    async def close(self) -> None:
        """Ends all readers."""
        for run_id, reader in list(self._readers.items()):
            self._stop(run_id, reader)

    async def _reader(self, run_id: str) -> _Reader:
        known = self._readers.get(run_id)
        if known is not None and not known.ended and known.failure is None:
            return known
        record = await asyncio.to_thread(self._store.run, run_id)
        del record  # it is there
        known = self._readers.get(run_id)  # another listener may have come meanwhile
        if known is not None and not known.ended and known.failure is None:
            return known
        reader = self._readers[run_id] = _Reader(after="")
        reader.task = asyncio.create_task(self._read(run_id, reader), name=f"events of {run_id}")
        return reader

    def _stop(self, run_id: str, reader: _Reader) -> None:
        if reader.task is not None:
            reader.task.cancel()
        if self._readers.get(run_id) is reader:
            del self._readers[run_id]

    async def _read(self, run_id: str, reader: _Reader) -> None:
        """Reads the run again and again, until it has ended and all its events were read."""
        while not reader.ended:
            try:
                over, events = await asyncio.to_thread(self._once, run_id, reader.last)
            except StoreUnavailable:
                await asyncio.sleep(self._every)
                continue
            except EsyncError as error:
                reader.failure = error
                over, events = True, ()
            if events or over:
                self._tell(reader, events, over=over)
            if len(events) < PAGE and not over:
                await asyncio.sleep(self._every)

    def _once(self, run_id: str, after: str) -> tuple[bool, tuple[Sent, ...]]:
        # The record first: when it is concluded, no event that led to it can be missing.
        record = self._store.run(run_id)
        events = self._store.events(run_id, after, PAGE)
        return record.state is RunState.CONCLUDED and not events, tuple(map(_sent, events))

    @staticmethod
    def _tell(reader: _Reader, events: tuple[Sent, ...], *, over: bool) -> None:
        reader.kept.extend(events)
        while len(reader.kept) > KEPT:
            reader.after = reader.kept.popleft().id
        reader.ended = over
        told, reader.changed = reader.changed, asyncio.Event()
        told.set()

    async def _news(self, reader: _Reader, run_id: str, after: str) -> tuple[Sent, ...]:
        """What a listener has not seen: from the reader's memory, or, if that begins later, from the store."""
        place = event_position(after)
        if event_position(reader.last) <= place and not reader.ended:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.changed.wait(), QUIET)
        if reader.failure is not None:
            raise reader.failure
        # Looked at after the wait: the reader may have forgotten meanwhile what this listener has not seen.
        missed = place < event_position(reader.after)
        if missed and (events := await asyncio.to_thread(self._store.events, run_id, after, PAGE)):
            return tuple(map(_sent, events))
        newer = list(takewhile(lambda sent: sent.place > place, reversed(reader.kept)))
        return tuple(reversed(newer))


def _sent(event: Event) -> Sent:
    return Sent(event.id, event, event.model_dump_json(exclude_defaults=True), event_position(event.id))

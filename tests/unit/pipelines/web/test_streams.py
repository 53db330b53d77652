"""The event stream: each listener gets every event once and in order, wherever it begins and however slow it is."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.web import streams
from pipelines.web.streams import Sent, Streams
from tests.contract.test_store import a_run
from tests.sampling import examples
from workers.errors import InputRefused, RunUnknown, StoreUnavailable
from workers.records import Event, RunState, Verdict
from workers.store.memory import MemoryStore

QUICK = 0.001  #: seconds between two reads


@contextmanager
def small(kept: int, page: int) -> Iterator[None]:
    """A reader that remembers little."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "KEPT", kept)
        patch.setattr(streams, "PAGE", page)
        yield


def a_store(events: int) -> MemoryStore:
    """A run with its first event and so many others."""
    store = MemoryStore()
    store.create(a_run("r1"))
    note(store, events)
    return store


def note(store: MemoryStore, events: int) -> None:
    """So many things happen."""
    for number in range(events):
        store.note("r1", Event(kind="step.started", message=f"{number}"))


def conclude(store: MemoryStore) -> None:
    """The run ends."""
    ended = {"state": RunState.CONCLUDED, "verdict": Verdict.JOINED, "ended": datetime.now(UTC)}
    store.save(store.run("r1").model_copy(update=ended), Event(kind="run.concluded"))


async def ids(of: AsyncIterator[tuple[Sent, ...]], pause: float = 0.0) -> list[str]:
    """The ids of all events of a stream, read as slowly as that."""
    found: list[str] = []
    async for news in of:
        found += [sent.id for sent in news]
        await asyncio.sleep(pause)
    return found


@given(
    before=st.integers(0, 40),
    during=st.lists(st.integers(0, 15), max_size=4),
    begins=st.lists(st.integers(0, 45), min_size=1, max_size=5),
    kept=st.integers(1, 12),
    page=st.integers(1, 9),
)
@settings(max_examples=examples(500, 25))
def test_every_listener_gets_every_event_once(
    before: int, during: list[int], begins: list[int], kept: int, page: int
) -> None:
    """Whatever the reader still remembers, and whenever the listener comes."""
    store = a_store(before)

    async def play() -> list[list[str]]:
        following = Streams(store, QUICK)
        after = [f"{min(begin, before + 1)}-0" for begin in begins]
        listeners = [
            asyncio.create_task(ids(following.follow("r1", place), QUICK * number))
            for number, place in enumerate(after)
        ]
        for events in during:
            await asyncio.sleep(QUICK)
            note(store, events)
        conclude(store)
        found = await asyncio.gather(*listeners)
        assert not following._readers
        return found

    with small(kept, page):
        heard = asyncio.run(play())
    every = [event.id for event in store.events("r1", limit=10_000)]
    assert [every[min(begin, before + 1) :] for begin in begins] == heard


def test_a_store_that_does_not_answer_for_some_time_loses_nothing() -> None:
    """The reader continues where it was."""
    store = a_store(5)
    silent = 3

    class Silent(MemoryStore):
        def events(self, run_id: str, after: str = "", limit: int = 1000) -> tuple[Event, ...]:
            nonlocal silent
            if after and silent:
                silent -= 1
                raise StoreUnavailable("no answer")
            return super().events(run_id, after, limit)

    there = Silent(beside=store)

    async def play() -> list[str]:
        listener = asyncio.create_task(ids(Streams(there, QUICK).follow("r1")))
        await asyncio.sleep(QUICK * 10)
        note(store, 3)
        conclude(store)
        return await listener

    assert [event.id for event in store.events("r1")] + ["7-0", "8-0", "9-0", "10-0"] == asyncio.run(play())


def test_a_listener_of_nothing_is_refused() -> None:
    """An unknown run, a text that is no event id; a run that was forgotten meanwhile ends the stream."""
    store = a_store(1)

    async def forgotten() -> None:
        listener = asyncio.create_task(ids(Streams(store, QUICK).follow("r1")))
        await asyncio.sleep(QUICK * 10)
        store.forget("r1")
        await listener

    with pytest.raises(RunUnknown):
        asyncio.run(ids(Streams(store, QUICK).follow("r2")))
    with pytest.raises(InputRefused):
        asyncio.run(ids(Streams(store, QUICK).follow("r1", "soon")))
    with pytest.raises(RunUnknown):
        asyncio.run(forgotten())

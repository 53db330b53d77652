"""Many browsers on one stream over real sockets: the small sample of `tests/benchmarks/watchers.py`."""

import asyncio
import time
from pathlib import Path

from pipelines.engine import Engine
from pipelines.usecases.tokens import Role
from tests.benchmarks.watching import Watchers
from tests.browser.invented import engine_in_memory, keep, running, served
from workers.records import Event, RunState, Verdict

COUNT = 20


async def _lead(engine: Engine, run: str, watchers: Watchers) -> None:
    """Waits until everyone has the whole state, then marks three moments and ends the run."""
    store = engine.store
    for mark in range(1, 4):
        while watchers.messages < mark * COUNT:  # noqa: ASYNC110 - counted by others
            await asyncio.sleep(0.01)
        store.note(run, Event(kind="run.marked", message=f"mark {time.time()}"))
    record = store.run(run)
    ended = {"state": RunState.CONCLUDED, "verdict": Verdict.CANCELLED, "ended": record.created}
    store.save(record.model_copy(update=ended), Event(kind="run.concluded", status="cancelled"))


def test_everyone_sees_every_moment_and_the_end(tmp_path: Path) -> None:
    """Each browser gets each message once, and the end of the run; then its connection is closed."""
    engine = engine_in_memory(tmp_path)
    run = keep(engine, running(60))
    with served(engine, tmp_path / "clusters") as server:
        watchers, token = Watchers(), server.token(Role.VIEWER)

        async def all_of_them() -> None:
            async with asyncio.timeout(120):
                watching = (watchers.watch(server.url, run, token) for _ in range(COUNT))
                await asyncio.gather(_lead(engine, run, watchers), *watching)

        asyncio.run(all_of_them())
    assert COUNT == watchers.ended
    assert 0 == watchers.messages % COUNT
    assert len(watchers.late) >= 2 * COUNT

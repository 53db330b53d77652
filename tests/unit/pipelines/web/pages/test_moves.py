"""What is sent to all who look: once each, complete for those that come late, and short for those that wait."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.web.attendance import Waiting
from pipelines.web.pages import hub as hub_module
from pipelines.web.pages.hub import Hub
from pipelines.web.pages.moves import overview_source, run_source
from pipelines.web.pages.overview import Overview
from pipelines.web.pages.scene import Scenes
from tests.browser.invented import engine_in_memory, keep, running
from workers.errors import StoreUnavailable
from workers.records import Event, RunState, Verdict


class Script:
    """A source whose value the test sets; it counts how often it was asked."""

    def __init__(self) -> None:
        self.value, self.asked, self.over = 0, 0, False
        self._sent = -1

    def __call__(self) -> tuple[dict[str, Any] | None, dict[str, Any], bool]:
        """The newest value, if it has not been sent yet."""
        self.asked += 1
        news = {"value": self.value} if self.value != self._sent else None
        self._sent = self.value
        return news, {"whole": self.value}, self.over


def message(sent: bytes | None) -> dict[str, Any]:
    """A message as its listener reads it."""
    assert sent is not None
    found: dict[str, Any] = json.loads(sent.removeprefix(b"data: "))
    return found


async def until(condition: Callable[[], object]) -> None:
    """Lets the others work until something has happened."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a queue has no event for its length
            await asyncio.sleep(0.002)


def test_two_hundred_listeners_cost_one_look() -> None:
    """Each gets the whole state first, then every change, in order; the source is asked once for all of them."""

    async def watch() -> None:
        hub, script = Hub(every=0.01), Script()
        queues = [hub.listen("run", lambda: script) for _ in range(200)]
        await until(lambda: queues[0].qsize() == 1)
        script.value = 1
        await until(lambda: queues[0].qsize() == 2)
        script.value = 2
        await until(lambda: queues[0].qsize() == 3)
        script.value = 3
        await until(lambda: queues[-1].qsize() == 4)
        asked = script.asked
        late = hub.listen("run", lambda: script)
        assert {"whole": 3} == message(late.get_nowait())
        heard = [[message(queue.get_nowait()) for _ in range(4)] for queue in queues]
        assert [{"whole": 0}, {"value": 1}, {"value": 2}, {"value": 3}] == heard[0]
        assert heard[0] * 200 == [one for each in heard for one in each]
        assert asked < 100
        script.over = True
        await until(lambda: not late.empty() and not queues[0].empty())
        assert None is late.get_nowait() is queues[0].get_nowait()

    asyncio.run(watch())


def test_a_slow_listener_gets_the_whole_state_instead_of_all_messages() -> None:
    """Its queue stays short, whatever happens meanwhile."""

    async def watch() -> None:
        hub, script = Hub(every=0), Script()
        slow = hub.listen("run", lambda: script)
        longest = 0
        while script.asked < 300:
            script.value += 1
            await asyncio.sleep(0.001)
            longest = max(longest, slow.qsize())
        assert longest <= 64
        heard = [message(slow.get_nowait()) for _ in range(slow.qsize())]
        assert "whole" in heard[0]
        hub.leave("run", slow)

    asyncio.run(watch())


@pytest.mark.parametrize("slow", [0, 1])
def test_listeners_hear_that_the_store_does_not_answer_and_that_it_does_again(
    slow: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once each, whether it refuses or is silent; who comes meanwhile hears it too. Then comes the whole state."""
    monkeypatch.setattr(hub_module, "SLOW", 0.05)
    script, answers = Script(), threading.Event()

    def source() -> tuple[dict[str, Any] | None, dict[str, Any], bool]:
        found = script()
        if script.value == 1 and not answers.is_set():
            if not slow:
                raise StoreUnavailable("no")
            answers.wait(60)
        return found

    async def watch() -> None:
        hub = Hub(every=0.01)
        first = hub.listen("run", lambda: source)
        await until(lambda: first.qsize() == 1)
        script.value = 1
        await until(lambda: first.qsize() == 2)
        late = hub.listen("run", lambda: source)
        answers.set()
        await until(lambda: first.qsize() >= 3)
        heard = [[message(queue.get_nowait()) for _ in range(3)] for queue in (first, late)]
        lost = {"lost": "the run store does not answer: this is older than it looks"}
        assert [[{"whole": 0}, lost, {"whole": 1}]] * 2 == heard
        for queue in (first, late):
            hub.leave("run", queue)

    asyncio.run(watch())


def test_a_page_says_how_long_ago_things_were_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute its parts are made again, although nothing has happened."""
    look = overview_source(Overview(engine_in_memory(tmp_path), None))
    assert [True, False] == [look()[0] is not None for _ in range(2)]
    later = time.time() + 60
    monkeypatch.setattr(time, "time", lambda: later)
    assert look()[0] is not None


def test_nobody_is_read_for_when_nobody_looks() -> None:
    """The last listener that leaves ends the looking; the next one begins anew, with the whole state."""

    async def watch() -> None:
        hub, script = Hub(every=0.001), Script()
        queue = hub.listen("run", lambda: script)
        await until(lambda: not queue.empty())
        hub.leave("run", queue)
        await asyncio.sleep(0.02)
        asked = script.asked
        await asyncio.sleep(0.05)
        assert asked == script.asked
        again = hub.listen("run", lambda: script)
        await until(lambda: not again.empty())
        assert {"whole": 0} == message(again.get_nowait())
        hub.leave("run", again)

    asyncio.run(watch())


def test_a_run_tells_only_what_is_new(tmp_path: Path) -> None:
    """Letters of the nodes that moved, the lines since, the parts that changed; nothing while nothing happens."""
    engine = engine_in_memory(tmp_path)
    run = keep(engine, running(4))
    look = run_source(Scenes(engine), Waiting(engine), run)
    _, whole, over = look()
    assert (["S1", "S2", "P1", "P2"], False) == (list(whole["codes"]), over)
    assert (None, False) == look()[::2]
    engine.store.note(run, Event(kind="step.started", turn="wave-1", node="S1", step="config_edit"))
    news, _, _ = look()
    assert news is not None
    assert {"S1": "er...r"} == news["codes"]
    assert "lines" not in news
    engine.store.note(run, Event(kind="step.ended", turn="wave-1", node="S1", step="config_edit", status="failed"))
    news, _, _ = look()
    assert news is not None
    assert ("ef...f", True) == (news["codes"]["S1"], "S1  config_edit  failed" in news["said"])
    assert {"rows"} <= news["fetch"].keys()
    record = engine.store.run(run)
    ended = {"state": RunState.CONCLUDED, "verdict": Verdict.FAILED, "ended": record.created}
    engine.store.save(record.model_copy(update=ended), Event(kind="run.concluded", status="failed"))
    seen = [look() for _ in range(50)]
    assert "Failed" in "".join(news["parts"].get("head", "") for news, _, _ in seen if news and "parts" in news)


def test_a_run_that_is_larger_than_its_history_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first events of a very large run are not kept; what its steps did is."""
    monkeypatch.setattr("workers.store.memory_data.EVENT_CAP", 5)
    engine = engine_in_memory(tmp_path)
    run = keep(engine, running(4, done=["S1"]))
    assert engine.store.chain(run).dropped
    assert "edddd"[:4] == Scenes(engine).of(run).codes["S1"][:4]

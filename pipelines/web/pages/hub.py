"""Sends what moves to all who look: one look and one message, however many they are."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from workers.errors import EsyncError, StoreUnavailable

__all__ = ["Hub", "Message", "Source"]

EVERY = 0.25  #: seconds between two looks at what is watched
SLOW = 10.0  #: seconds of one look, after which the listeners hear that what they see may be old
_WAITING = 64  #: messages that a slow listener may be behind; then it gets the whole state instead

_OLD = "the run store does not answer: this is older than it looks"

Message = dict[str, Any]
#: Looks, and returns what is new (None for nothing), the whole state, and whether it is the last message.
Source = Callable[[], tuple[Message | None, Message, bool]]


class _Topic:
    """One thing that is watched: its listeners, and the whole state for those that come later."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.listeners: set[asyncio.Queue[bytes | None]] = set()
        self.whole: Message | None = None
        self.encoded: bytes | None = None
        self.task: asyncio.Task[None] | None = None
        self.over = False
        self.lost = ""  #: why nothing new can be seen; empty while it can

    def state(self) -> bytes:
        """The whole state, encoded once."""
        if self.encoded is None:
            self.encoded = _encoded(self.whole or {})
        return self.encoded


class Hub:
    """Sends what moves to all listeners of this process: one look, one message, however many they are."""

    def __init__(self, every: float = EVERY) -> None:
        self._every = every
        self._topics: dict[str, _Topic] = {}

    def listen(self, name: str, source: Callable[[], Source]) -> "asyncio.Queue[bytes | None]":
        """A queue of messages: first the whole state, then what changes; None is the end.

        Args:
            name: of what is watched.
            source: makes its source, where it is not watched yet.
        """
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        topic = self._topics.get(name)
        if topic is None or topic.over:
            topic = self._topics[name] = _Topic(source())
            topic.task = asyncio.create_task(self._watch(name, topic))
        elif topic.whole is not None:
            queue.put_nowait(topic.state())
            if topic.lost:
                queue.put_nowait(_encoded({"lost": topic.lost}))
        topic.listeners.add(queue)
        return queue

    def leave(self, name: str, queue: "asyncio.Queue[bytes | None]") -> None:
        """Ends listening."""
        topic = self._topics.get(name)
        if topic is not None:
            topic.listeners.discard(queue)

    async def _watch(self, name: str, topic: _Topic) -> None:
        try:
            while topic.listeners and not topic.over:
                try:
                    news, whole, topic.over = await self._look(topic)
                except EsyncError as error:  # what was seen stays, and it is asked again
                    self._lose(topic, _OLD if isinstance(error, StoreUnavailable) else error.message)
                else:
                    first = topic.whole is None or bool(topic.lost)
                    topic.lost = ""
                    self._send(topic, whole if first else news, whole)
                if not topic.over:
                    await asyncio.sleep(self._every)
        finally:
            topic.over = True
            for queue in topic.listeners:
                queue.put_nowait(None)
            if self._topics.get(name) is topic:
                del self._topics[name]

    async def _look(self, topic: _Topic) -> tuple[Message | None, Message, bool]:
        looking = asyncio.create_task(asyncio.to_thread(topic.source))
        if not (await asyncio.wait({looking}, timeout=SLOW))[0]:
            self._lose(topic, _OLD)
        return await looking

    def _lose(self, topic: _Topic, why: str) -> None:
        """Tells the listeners, once, that what they see may be old."""
        if topic.lost != why:
            topic.lost = why
            message = _encoded({"lost": why})
            for queue in topic.listeners:
                queue.put_nowait(message)

    def _send(self, topic: _Topic, news: Message | None, whole: Message) -> None:
        topic.whole = whole
        if news is None:
            return
        topic.encoded = None
        encoded = _encoded(news)
        for queue in topic.listeners:
            if queue.qsize() < _WAITING:
                queue.put_nowait(encoded)
            else:
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(topic.state())


def _encoded(message: Message) -> bytes:
    """A message as a server-sent event: JSON has no line ends of its own."""
    return f"data: {json.dumps(message, separators=(',', ':'))}\n\n".encode()

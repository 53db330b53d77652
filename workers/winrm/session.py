"""A session with the agent on one node: sends requests and returns results, within a deadline.

Two ways, one agent. *Conversation*: one PowerShell process answers all requests. *Batch*: one PowerShell process per
request, which reads its input to the end. `auto` starts as a conversation. If the first answer does not arrive in time,
`auto` closes the input of the same process, so that no request runs twice: either that process answers now, or its exit
status shows that it read nothing, and then a new process gets the request. The session continues as batch.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from workers.errors import ConnectionLost, DeadlineExceeded, SessionLost
from workers.records import Endpoint
from workers.settings import Secret
from workers.texts import escaped
from workers.winrm import operations
from workers.winrm.channel import OPEN, TURN, Channel, Counters, Gate, Limit, never
from workers.winrm.endings import AUTORUN, NOTHING_READ, Ending
from workers.winrm.greeting import Hello, hello_of
from workers.winrm.operations import Guard, Op, Reply
from workers.winrm.remembered import FilesOfNode
from workers.winrm.remote import WinRMChannel
from workers.winrm.wire import ReplyReader, command_line, encoded_request, readable, script_line

__all__ = ["AgentSession", "Session", "Way", "open_session", "piece_size"]

Way = Literal["auto", "conversation", "batch"]

PATIENCE = 20.0  #: seconds that `auto` waits for the first answer
HELLO_DEADLINE = 60.0  #: seconds
PIECE = 240_000  #: bytes of stdin in one message at most; in base64, less than the 500 kB that most servers accept
FIRST_PIECE = 100_000  #: before the node has reported its limit: WinRM 2.0 accepts messages of 150 kB
SMALLEST_PIECE = 8_000
_MESSAGE = 8192  #: bytes of a message around the input, encrypted too


class Session(Protocol):
    """A session with one node. For one thread at a time."""

    @property
    def counters(self) -> Counters:
        """What it has cost so far."""

    @property
    def fresh(self) -> bool:
        """Whether the session has not been used before."""

    @property
    def way(self) -> Way:
        """The current way; the first answer decides `auto`."""

    @property
    def greeting(self) -> Hello | None:
        """What the node reported about itself; None before its first answer. Sends no request."""

    def ask(
        self,
        ops: Sequence[Op],
        *,
        deadline: float,
        keep_going: bool = False,
        guard: Guard | None = None,
        look: Sequence[Op] = (),
        cancelled: Callable[[], bool] = never,
    ) -> list[Reply]:
        """Runs the operations on the node, in order.

        Args:
            ops: the operations.
            deadline: seconds from now for all of them.
            keep_going: run all operations and return failures as replies, instead of raising at the first failure.
            guard: the conditions that the node checks before an operation changes it.
            look: operations that read, run if none of the others failed; their replies come last, failures too.
            cancelled: called repeatedly during the wait.

        Raises:
            NodeError: an operation failed (without `keep_going`), mapped by `operations.error_of`.
            SessionLost: the connection broke; the operations may have run. The session is closed.
            DeadlineExceeded: no answer in time. The session is closed.
            Cancelled: the run was cancelled. The session is closed.
        """

    def hello(self) -> Hello:
        """What the node reports about itself, from the first exchange."""

    def leave(self, name: str, value: object, seconds: float) -> None:
        """Leaves what was just seen on the node for the next user of the session, for so many seconds.

        The next exchange drops it.
        """

    def found(self, name: str) -> object | None:
        """What was left under that name, once; None when its time is over, and after any exchange since."""

    def close(self) -> None:
        """Ends PowerShell and the shell on the node. Never raises."""


class AgentSession:
    """A session over any channel.

    Args:
        channel: where PowerShell runs.
        node: its name, for messages.
        way: conversation, batch, or `auto`.
        patience: seconds that `auto` waits for the first answer before it closes the input.

    Attributes:
        files: what files of the node held when they were read; None: every read transfers the bytes.
    """

    def __init__(self, channel: Channel, node: str, *, way: Way = "auto", patience: float = PATIENCE) -> None:
        self._channel = channel
        self._node = node
        self._patience = patience
        self._reader = ReplyReader()
        self._asked = 0
        self._running = False
        self._hello: Hello | None = None
        self._stderr = b""
        self._lost = ""
        self._lost_as = SessionLost
        self._left: _Left | None = None
        self.files: FilesOfNode | None = None
        self.way: Way = way
        self.fresh = True

    @property
    def counters(self) -> Counters:
        """What it has cost so far."""
        return self._channel.counters

    @property
    def greeting(self) -> Hello | None:
        """What the node reported about itself, also if other operations of the request failed."""
        return self._hello

    @property
    def keeps_for(self) -> float:
        """Seconds for which the node keeps the session without any message."""
        return self._channel.keeps_for

    @property
    def usable(self) -> bool:
        """Whether the session accepts another request."""
        return not self._lost

    def open(self, *, deadline: float, cancelled: Callable[[], bool] = never) -> None:
        """Logs on and starts PowerShell, before the first request.

        Raises:
            Unreachable, LogonRefused, NodeError: the session cannot be opened.
            Cancelled: the run was cancelled.
        """
        if not self._running:
            with self._limit(deadline, cancelled) as limit:
                self._start(limit)

    def ask(
        self,
        ops: Sequence[Op],
        *,
        deadline: float,
        keep_going: bool = False,
        guard: Guard | None = None,
        look: Sequence[Op] = (),
        cancelled: Callable[[], bool] = never,
    ) -> list[Reply]:
        """Runs the operations on the node, in order; see `Session`."""
        self._left = None
        greeted = self._hello is not None
        request = _Request(list(ops) if greeted else [operations.hello(), *ops], keep_going, guard, list(look))
        with self._limit(deadline, cancelled) as limit:
            replies = self._replies(request, limit)
        return replies if greeted else replies[1:]

    def leave(self, name: str, value: object, seconds: float) -> None:
        """Leaves what was just seen on the node for the next user of the session; see `Session`."""
        self._left = _Left(name, value, time.monotonic() + seconds)

    def found(self, name: str) -> object | None:
        """What was left under that name; see `Session`."""
        self.drop_old()
        left, self._left = self._left, None
        return left.value if left is not None and left.name == name else None

    def drop_old(self) -> None:
        """Drops what was left and is too old to be used: it takes memory."""
        if self._left is not None and time.monotonic() > self._left.until:
            self._left = None

    def hello(self) -> Hello:
        """What the node reports about itself."""
        if self._hello is None:
            self.ask([], deadline=HELLO_DEADLINE)
        if self._hello is None:
            raise SessionLost(f"{self._node} did not report its name and versions")
        return self._hello

    def close(self) -> None:
        """Ends PowerShell and the shell on the node."""
        self._lost = self._lost or "is closed"
        self._channel.close()

    @contextmanager
    def _limit(self, deadline: float, cancelled: Callable[[], bool]) -> Iterator[Limit]:
        limit = Limit(self._node, deadline, cancelled)
        try:
            yield limit
        finally:
            limit.over()

    def _replies(self, request: "_Request", limit: Limit) -> list[Reply]:
        files, asked = self.files, [*request.ops, *request.look]
        results = self._exchange(request.recalled(files) if files else request, limit)
        pairs = zip(asked, results, strict=False)
        replies = [Reply(op, files.completed(op, result) if files else result) for op, result in pairs]
        if self._hello is None and replies and replies[0].ok:
            self._hello = hello_of(replies[0])
        ops = request.ops
        failed = next((reply for reply in replies[: len(ops)] if not reply.ok), None)
        if failed is not None and (not request.keep_going or len(replies) < len(ops)):
            raise operations.error_of(failed, self._node)
        if len(results) != (len(ops) if failed is not None else len(asked)):
            self._lost = "was closed after an error: the number of results was wrong"
            raise SessionLost(f"{self._node} returned {len(results)} results for {len(asked)} operations")
        return replies

    def _exchange(self, request: "_Request", limit: Limit) -> list[dict[str, object]]:
        """One request, one reply. After any error the session accepts no further request."""
        if self._lost:
            raise self._lost_as(f"the session with {self._node} {self._lost}")
        self._asked += 1
        request_id = str(self._asked)
        line = request.line(request_id)
        try:
            results = self._answer(request_id, limit, first=self._begin(line, limit))
            if results is None:
                self.way, self._running = "batch", False
                results = self._answer(request_id, limit, first=self._begin(line, limit)) or []
        except BaseException as error:
            self._lost = f"was closed after an error: {str(error) or type(error).__name__}"
            self._lost_as = ConnectionLost if isinstance(error, ConnectionLost) else SessionLost
            raise
        if self.way == "batch":
            self._channel.stop()
            self._running = False
        return results

    def _begin(self, line: bytes, limit: Limit) -> bool:
        """Sends the request; returns whether it is the first one of its PowerShell process."""
        first = self._asked == 1 or not self._running
        if not self._running:
            self._start(limit)
        data = script_line() + line if first else line
        size = piece_size(self._hello)
        for start in range(0, len(data), size):
            end = start + size >= len(data) and self.way == "batch"
            self._channel.send(data[start : start + size], limit, end=end)
        return first

    def _start(self, limit: Limit) -> None:
        self._channel.stop()
        self._reader.clear()
        self._stderr = b""
        self._channel.start(command_line(batch=self.way == "batch"), limit)
        self._running = True

    def _answer(self, request_id: str, limit: Limit, *, first: bool) -> list[dict[str, object]] | None:
        """Waits for the reply; None if PowerShell ended without reading anything and batch may be tried."""
        auto = first and self.way == "auto"
        silent = auto
        while True:
            with self._noise_named(first=first):
                limit.check()
            chunk = self._channel.receive(limit, turn=min(TURN, self._patience) if silent else TURN)
            self._stderr = (self._stderr + chunk.stderr)[-4096:]
            results = self._reader.feed(chunk.stdout, request_id)
            if results is not None:
                self.way = "conversation" if self.way == "auto" else self.way
                return results
            if chunk.exit_status == NOTHING_READ and auto:
                return None
            if chunk.exit_status is not None:
                raise self._ended(chunk.exit_status, first=first)
            if silent and limit.passed >= self._patience:
                self._channel.send(b"", limit, end=True)
                self.way, silent = "batch", False

    @contextmanager
    def _noise_named(self, *, first: bool) -> Iterator[None]:
        """Adds to a deadline what was printed instead of the first answer."""
        try:
            yield
        except DeadlineExceeded as error:
            printed = readable(self._reader.noise) if first else ""
            if not printed:
                raise
            message = f"{error.message}; it printed {escaped(printed, len(printed))} instead"
            raise DeadlineExceeded(message, remedy=AUTORUN) from error

    def _ended(self, status: int, *, first: bool) -> Exception:
        """PowerShell ended without an answer."""
        page = self._hello.code_page if self._hello else 0
        printed = (readable(self._stderr, page), readable(self._reader.noise, page)) if first else ("", "")
        return Ending(self._node, status, first, printed).error()


def piece_size(hello: Hello | None) -> int:
    """Bytes of input for one message, by the limit that a node has reported (MaxEnvelopeSizekb, in KiB).

    A message contains the input in base64, which makes four bytes of three.
    """
    reported = hello.winrm.get("MaxEnvelopeSizekb", "") if hello else ""
    if not (reported.isascii() and reported.isdecimal()):
        return min(PIECE, FIRST_PIECE)
    return max(SMALLEST_PIECE, min(PIECE, (int(reported[:9]) * 1024 - _MESSAGE) * 3 // 4))


@dataclass(frozen=True, slots=True)
class _Request:
    ops: list[Op]
    keep_going: bool
    guard: Guard | None
    look: list[Op]

    def recalled(self, files: FilesOfNode) -> "_Request":
        """The same request, where reads name the content that is remembered."""
        ops, look = list(map(files.recalled, self.ops)), list(map(files.recalled, self.look))
        return _Request(ops, self.keep_going, self.guard, look)

    def line(self, request_id: str) -> bytes:
        """The request as the agent reads it."""
        return encoded_request(request_id, self.ops, keep_going=self.keep_going, guard=self.guard, look=self.look)


@dataclass(frozen=True, slots=True)
class _Left:
    name: str
    value: object
    until: float


def open_session(
    endpoint: Endpoint,
    secret: Secret,
    *,
    gate: Gate = OPEN,
    deadline: float = 60.0,
    way: Way = "auto",
    patience: float = PATIENCE,
    cancelled: Callable[[], bool] = never,
) -> AgentSession:
    """Logs on to a node and starts PowerShell there.

    Args:
        endpoint: address and account.
        secret: the password.
        gate: what the logon has to pass.
        deadline: seconds until PowerShell must have started.
        way: `auto`, or one fixed way.
        patience: seconds until `auto` falls back to batch.
        cancelled: called repeatedly during the wait.

    Raises:
        Unreachable: no connection, or a TLS certificate that is not trusted.
        LogonRefused: the node refused the credentials.
        NodeError: the node opens no shell: a quota, missing rights.
        Cancelled: the run was cancelled.
        InputRefused: the endpoint cannot be used: a missing CA file, a logon method that is not installed.
    """
    channel = WinRMChannel(endpoint, secret, gate)
    session = AgentSession(channel, endpoint.node, way=way, patience=patience)
    try:
        session.open(deadline=deadline, cancelled=cancelled)
    except BaseException:
        session.close()
        raise
    return session

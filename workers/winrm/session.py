"""A session with the agent on one node: sends requests and returns results, within a deadline.

Two ways, one agent. *Conversation*: one PowerShell process answers all requests. *Batch*: one PowerShell process per
request, which reads its input to the end. `auto` starts as a conversation. If the first answer does not arrive in time,
`auto` closes the input of the same process, so that no request runs twice: either that process answers now, or its exit
status shows that it read nothing, and then a new process gets the request. The session continues as batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from workers.errors import NodeRefused, SessionLost
from workers.records import Endpoint
from workers.settings import Secret
from workers.winrm import operations
from workers.winrm.channel import TURN, Channel, Counters, Limit, never
from workers.winrm.operations import Guard, Hello, Op, Reply
from workers.winrm.remote import WinRMChannel
from workers.winrm.wire import ReplyReader, command_line, encoded_request, readable, script_line

__all__ = ["AgentSession", "Session", "Way", "open_session"]

Way = Literal["auto", "conversation", "batch"]

PATIENCE = 20.0  #: seconds that `auto` waits for the first answer
HELLO_DEADLINE = 60.0  #: seconds
PIECE = 240_000  #: bytes of stdin in one message; encoded in base64 twice, less than the 500 kB that servers accept
_RESTRICTED, _NOTHING_READ = 3, 4  #: exit statuses of the bootstraps; the agent has not run


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
        cancelled: Callable[[], bool] = never,
    ) -> list[Reply]:
        """Runs the operations on the node, in order.

        Args:
            ops: the operations.
            deadline: seconds from now for all of them.
            keep_going: run all operations and return failures as replies, instead of raising at the first failure.
            guard: the conditions that the node checks before an operation changes it.
            cancelled: called repeatedly during the wait.

        Raises:
            NodeError: an operation failed (without `keep_going`), mapped by `operations.error_of`.
            SessionLost: the connection broke; the operations may have run. The session is closed.
            DeadlineExceeded: no answer in time. The session is closed.
            Cancelled: the run was cancelled. The session is closed.
        """

    def hello(self) -> Hello:
        """What the node reports about itself, from the first exchange."""

    def close(self) -> None:
        """Ends PowerShell and the shell on the node. Never raises."""


class AgentSession:
    """A session over any channel.

    Args:
        channel: where PowerShell runs.
        node: its name, for messages.
        way: conversation, batch, or `auto`.
        patience: seconds that `auto` waits for the first answer before it closes the input.
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
            self._start(Limit(self._node, deadline, cancelled))

    def ask(
        self,
        ops: Sequence[Op],
        *,
        deadline: float,
        keep_going: bool = False,
        guard: Guard | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> list[Reply]:
        """Runs the operations on the node, in order; see `Session`."""
        greeted = self._hello is not None
        request = _Request(list(ops) if greeted else [operations.hello(), *ops], keep_going, guard)
        replies = self._replies(request, Limit(self._node, deadline, cancelled))
        return replies if greeted else replies[1:]

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

    def _replies(self, request: "_Request", limit: Limit) -> list[Reply]:
        ops = request.ops
        results = self._exchange(request, limit)
        replies = [Reply(op, result) for op, result in zip(ops, results, strict=False)]
        if self._hello is None and replies and replies[0].ok:
            self._hello = operations.hello_of(replies[0])
        failed = next((reply for reply in replies if not reply.ok), None)
        if failed is not None and (not request.keep_going or len(replies) < len(ops)):
            raise operations.error_of(failed, self._node)
        if len(replies) < len(ops) or len(results) > len(ops):
            self._lost = "was closed after an error: the number of results was wrong"
            raise SessionLost(f"{self._node} returned {len(results)} results for {len(ops)} operations")
        return replies

    def _exchange(self, request: "_Request", limit: Limit) -> list[dict[str, object]]:
        """One request, one reply. After any error the session accepts no further request."""
        if self._lost:
            raise SessionLost(f"the session with {self._node} {self._lost}")
        self._asked += 1
        request_id = str(self._asked)
        line = encoded_request(request_id, request.ops, keep_going=request.keep_going, guard=request.guard)
        try:
            results = self._answer(request_id, limit, first=self._begin(line, limit))
            if results is None:
                self.way, self._running = "batch", False
                results = self._answer(request_id, limit, first=self._begin(line, limit)) or []
        except BaseException as error:
            self._lost = f"was closed after an error: {str(error) or type(error).__name__}"
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
        for start in range(0, len(data), PIECE):
            end = start + PIECE >= len(data) and self.way == "batch"
            self._channel.send(data[start : start + PIECE], limit, end=end)
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
            limit.check()
            chunk = self._channel.receive(limit, turn=min(TURN, self._patience) if silent else TURN)
            self._stderr = (self._stderr + chunk.stderr)[-4096:]
            results = self._reader.feed(chunk.stdout, request_id)
            if results is not None:
                self.way = "conversation" if self.way == "auto" else self.way
                return results
            if chunk.exit_status == _NOTHING_READ and auto:
                return None
            if chunk.exit_status is not None:
                raise self._ended(chunk.exit_status, first=first)
            if silent and limit.passed >= self._patience:
                self._channel.send(b"", limit, end=True)
                self.way, silent = "batch", False

    def _ended(self, status: int, *, first: bool) -> Exception:
        """PowerShell ended without an answer."""
        if first and status == _RESTRICTED:
            why = "PowerShell runs in a restricted language mode (AppLocker, WDAC)"
            return NodeRefused(f"{self._node}: {why}", remedy="allow full language mode for scripts of this account")
        if first and status == _NOTHING_READ:
            return NodeRefused(f"{self._node}: PowerShell received no input", remedy="test `winrs` manually")
        text = readable(self._stderr) if first else ""
        return SessionLost(f"{self._node}: PowerShell ended with status {status} before it answered. {text}".rstrip())


@dataclass(frozen=True, slots=True)
class _Request:
    ops: list[Op]
    keep_going: bool
    guard: Guard | None


def open_session(
    endpoint: Endpoint,
    secret: Secret,
    *,
    deadline: float = 60.0,
    way: Way = "auto",
    patience: float = PATIENCE,
    cancelled: Callable[[], bool] = never,
) -> AgentSession:
    """Logs on to a node and starts PowerShell there.

    Args:
        endpoint: address and account.
        secret: the password.
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
    channel = WinRMChannel(endpoint, secret)
    session = AgentSession(channel, endpoint.node, way=way, patience=patience)
    try:
        session.open(deadline=deadline, cancelled=cancelled)
    except BaseException:
        session.close()
        raise
    return session

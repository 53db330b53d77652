"""One open conversation with one node: requests go out, results come back, within a deadline that is ours.

Two ways, one agent. *Conversation*: one PowerShell stays and answers request after request. *Batch*: a new PowerShell
takes one request and the end of input. `auto` begins with the first. Where no first answer comes it closes the input of
the very same process, so that nothing is asked twice: either that process answers now, or it says that it was given
nothing, and then a new one is asked. From there on it is batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from workers.errors import NodeRefused, SessionLost
from workers.records import Endpoint
from workers.settings import Secret
from workers.winrm import agent
from workers.winrm.agent import Guard, Hello, Op, Reply
from workers.winrm.channel import TURN, Channel, Counters, Limit, never
from workers.winrm.remote import WinRMChannel
from workers.winrm.wire import ReplyReader, command_line, encoded_request, readable, script_line

__all__ = ["AgentSession", "Session", "Way", "open_session"]

Way = Literal["auto", "conversation", "batch"]

PATIENCE = 20.0  #: seconds `auto` waits for a first answer
HELLO_DEADLINE = 60.0  #: seconds
PIECE = 240_000  #: bytes of stdin in one message; in base64, twice, below the 500 kB that servers take
_RESTRICTED, _NOTHING_READ = 3, 4  #: exit statuses of the bootstraps; in either case nothing of ours ran


class Session(Protocol):
    """One open conversation with one node. Used by one thread at a time."""

    @property
    def counters(self) -> Counters:
        """What it has cost so far."""

    @property
    def fresh(self) -> bool:
        """Whether this is its first use since it was opened."""

    @property
    def way(self) -> Way:
        """How it talks now; `auto` is settled by the first answer."""

    @property
    def greeting(self) -> Hello | None:
        """What the node has said of itself so far; None before its first answer. Asks nobody."""

    def ask(
        self,
        ops: Sequence[Op],
        *,
        deadline: float,
        keep_going: bool = False,
        guard: Guard | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> list[Reply]:
        """Has the operations done, in order.

        Args:
            ops: what to do.
            deadline: seconds from now for all of it.
            keep_going: do all of them, giving failures in their places, instead of raising at the first.
            guard: what the node holds those of them to that change something.
            cancelled: asked at every turn of the wait.

        Raises:
            NodeError: an operation failed (without `keep_going`), mapped by `agent.error_of`.
            SessionLost: the conversation broke; what was asked may have happened. The session is of no more use.
            DeadlineExceeded: no answer in time. The session is of no more use.
            Cancelled: an operator asked to stop. The session is of no more use.
        """

    def hello(self) -> Hello:
        """What the node says of itself; taken with the first exchange."""

    def close(self) -> None:
        """Ends PowerShell on the node and the shell. Never raises."""


class AgentSession:
    """A session over any channel.

    Args:
        channel: where PowerShell runs.
        node: its name, for messages.
        way: how to talk.
        patience: seconds `auto` waits for the first answer before it closes the input.
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
        """What the node has said of itself so far; also when what was asked besides failed."""
        return self._hello

    @property
    def usable(self) -> bool:
        """Whether it may be asked again."""
        return not self._lost

    def open(self, *, deadline: float, cancelled: Callable[[], bool] = never) -> None:
        """Logs on and starts PowerShell, before anything is asked.

        Raises:
            Unreachable, LogonRefused, NodeError: it cannot be opened.
            Cancelled: an operator asked to stop.
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
        """Has the operations done, in order; see `Session`."""
        greeted = self._hello is not None
        asked = list(ops) if greeted else [agent.hello(), *ops]
        limit = Limit(self._node, deadline, cancelled)
        replies = self._replies(_Request(asked, keep_going, guard), limit)
        return replies if greeted else replies[1:]

    def hello(self) -> Hello:
        """What the node says of itself."""
        if self._hello is None:
            self.ask([], deadline=HELLO_DEADLINE)
        if self._hello is None:
            raise SessionLost(f"{self._node} did not say who it is")
        return self._hello

    def close(self) -> None:
        """Ends PowerShell on the node and lets go of it."""
        self._lost = self._lost or "it is closed"
        self._channel.close()

    def _replies(self, request: "_Request", limit: Limit) -> list[Reply]:
        ops, keep_going = request.ops, request.keep_going
        results = self._exchange(request, limit)
        replies = [Reply(op, result) for op, result in zip(ops, results, strict=False)]
        if self._hello is None and replies and replies[0].ok:
            self._hello = agent.hello_of(replies[0])
        failed = next((reply for reply in replies if not reply.ok), None)
        if failed is not None and (not keep_going or len(replies) < len(ops)):
            raise agent.error_of(failed, self._node)
        if len(replies) < len(ops) or len(results) > len(ops):
            self._lost = "it gave another number of results than was asked"
            raise SessionLost(f"{self._node} gave {len(results)} results for {len(ops)} operations")
        return replies

    def _exchange(self, request: "_Request", limit: Limit) -> list[dict[str, object]]:
        """One request, one reply. Any way out but the reply leaves the session of no more use."""
        if self._lost:
            raise SessionLost(f"the session with {self._node} is of no more use: {self._lost}")
        self._asked += 1
        request_id = str(self._asked)
        line = encoded_request(request_id, request.ops, keep_going=request.keep_going, guard=request.guard)
        try:
            results = self._answer(request_id, limit, first=self._begin(line, limit))
            if results is None:
                self.way, self._running = "batch", False
                results = self._answer(request_id, limit, first=self._begin(line, limit)) or []
        except BaseException as error:
            self._lost = str(error) or type(error).__name__
            raise
        if self.way == "batch":
            self._channel.stop()
            self._running = False
        return results

    def _begin(self, line: bytes, limit: Limit) -> bool:
        """Sends the request; says whether this is the first that a PowerShell gets."""
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
        """Waits for the reply; None when PowerShell ended and had read nothing, in a session that may try batch."""
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
        """PowerShell is gone without an answer."""
        if first and status == _RESTRICTED:
            why = "PowerShell there runs in a restricted language mode (AppLocker, WDAC)"
            return NodeRefused(f"{self._node}: {why}", remedy="allow this account's scripts full language mode")
        if first and status == _NOTHING_READ:
            return NodeRefused(f"{self._node}: PowerShell there does not get its input", remedy="try `winrs` by hand")
        said = readable(self._stderr) if first else ""
        return SessionLost(f"{self._node}: PowerShell ended with status {status} before it answered. {said}".rstrip())


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
        endpoint: where and as whom.
        secret: the password.
        deadline: seconds until PowerShell must have been started.
        way: `auto`, or one way only.
        patience: seconds until `auto` falls back to batch.
        cancelled: asked while waiting.

    Raises:
        Unreachable: no connection, or a TLS certificate that is not trusted.
        LogonRefused: the node refused the credentials.
        NodeError: it takes no shell: a quota, no rights.
        Cancelled: an operator asked to stop.
        InputRefused: the endpoint cannot be used: no such CA file, a logon method that is not installed.
    """
    channel = WinRMChannel(endpoint, secret)
    session = AgentSession(channel, endpoint.node, way=way, patience=patience)
    try:
        session.open(deadline=deadline, cancelled=cancelled)
    except BaseException:
        session.close()
        raise
    return session

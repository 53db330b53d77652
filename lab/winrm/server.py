"""The WS-Management server of one node: HTTP request, logon, message, shells, answer."""

import asyncio
import ssl
from weakref import WeakKeyDictionary

from aiohttp import web

from lab.machine.condition import Condition
from lab.machine.machine import Machine
from lab.winrm.envelope import Unreadable, is_encrypted
from lab.winrm.logon import Account, Connection, LogonAnswer
from lab.winrm.shells import CommandLine, Host, Shells
from lab.winrm.sockets import bound_socket
from lab.winrm.ways import DEFAULT, Ways
from lab.winrm.wsman import (
    Action,
    Fault,
    Malformed,
    Message,
    command_response,
    create_response,
    empty_response,
    fault_response,
    read,
    receive_response,
    recorded,
)

__all__ = ["WinrmServer"]

_CONTENT_TYPE = "application/soap+xml;charset=UTF-8"
_LAST_WORDS_SECONDS = 0.05  #: for open requests when the server closes; their connections are closed already


class _FaultAnswer(Exception):
    """The answer of a fault instead of the server's; without a response the connection is closed."""

    def __init__(self, response: web.Response | None) -> None:
        super().__init__()
        self.response = response


class WinrmServer:
    """One node's listener.

    Args:
        machine: its name is in the WinRM faults, and its quotas apply.
        host: runs the commands.
        account: the account that may log on.
        condition: the faults of the node, and its counters.
        ways: the scheme and the logon methods of the listener.
        certificate: of the listener, DER.
    """

    def __init__(
        self,
        machine: Machine,
        host: Host,
        account: Account,
        condition: Condition,
        ways: Ways = DEFAULT,
        *,
        certificate: bytes = b"",
    ) -> None:
        self.machine = machine
        self.shells = Shells(host, machine.quotas)
        self._account = account
        self._condition = condition
        self._ways = ways
        self._certificate = certificate if ways.scheme == "https" else b""
        self._connections: WeakKeyDictionary[asyncio.BaseTransport, Connection] = WeakKeyDictionary()
        self._runner: web.ServerRunner | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self, port: int, tls: ssl.SSLContext) -> None:
        """Starts to listen on the machine's address; over http the context is not used.

        Raises:
            ConfigRefused: the address is in use.
        """
        if self._runner:
            return
        listener = bound_socket(self.machine.address, port)
        server = web.Server(self._answer, access_log=None)
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=_LAST_WORDS_SECONDS)
        await self._runner.setup()
        await web.SockSite(self._runner, listener, ssl_context=tls if self._ways.scheme == "https" else None).start()

    async def close(self) -> None:
        """Stops listening and closes every connection; shells stay open, as after a network failure."""
        if runner := self._runner:
            self._runner = None
            self.break_connections()
            for site in list(runner.sites):
                await site.stop()
            # In a separate task: a request of this server may wait for the caller.
            closing = asyncio.create_task(runner.cleanup())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def closed(self) -> None:
        """Waits until `close` has completed."""
        await asyncio.gather(*self._closing, return_exceptions=True)

    def break_connections(self) -> None:
        """Resets every connection."""
        for transport in list(self._connections):
            if isinstance(transport, asyncio.Transport):
                transport.abort()

    # -- one request ---------------------------------------------------------------------------------------

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        counters, transport = self._condition.counters, request.transport
        if transport is None:
            return web.Response(status=400)
        connection = self._connections.get(transport)
        if connection is None:
            connection = self._connections[transport] = self._connected(transport)
        body = await request.content.read() if request.can_read_body else b""
        counters.round_trips += 1
        counters.bytes_received += len(body)
        await self._condition.wait()
        try:
            response = await self._judged(request, connection, body)
        except _FaultAnswer as fault:
            if fault.response is None:
                transport.abort()
            response = fault.response or web.Response(status=400)
        counters.bytes_sent += len(response.body) if isinstance(response.body, bytes) else 0
        if response.status != web.HTTPUnauthorized.status_code and self._condition.happens("reset_replies"):
            return await _cut_off(request, response)
        return response

    def _connected(self, transport: asyncio.BaseTransport) -> Connection:
        tls = transport.get_extra_info("ssl_object")
        shown = (tls.getpeercert(binary_form=True) or b"") if tls is not None else b""
        counters = self._condition.counters
        return Connection(self._account, counters, self._ways, certificate=self._certificate, shown=shown)

    async def _judged(self, request: web.BaseRequest, connection: Connection, body: bytes) -> web.Response:
        self._apply_request_faults(arriving=True)
        if request.path.lower() != "/wsman":
            return web.Response(status=404)
        header = request.headers.get("Authorization", "")
        if challenges := self._condition.faults.turned_away(header.partition(" ")[0]):
            return _challenged(web.Response(status=401), challenges)
        verdict = connection.judge(header)
        if verdict.user and self._condition.faults.refuse_logons:
            verdict = connection.turn_away()
        if not verdict.user:
            return _challenged(web.Response(status=401), verdict.challenges)
        if not body:
            return _challenged(web.Response(status=200, headers={"Content-Type": _CONTENT_TYPE}), verdict.challenges)
        if self._ways.scheme == "http":
            return await self._encrypted(request, connection, verdict, body)
        return await self._answered(connection, verdict, body)

    async def _encrypted(
        self, request: web.BaseRequest, connection: Connection, verdict: LogonAnswer, body: bytes
    ) -> web.Response:
        """Over http: the message is decrypted, and the answer is encrypted, also a fault."""
        if not is_encrypted(request.headers.get("Content-Type", "")):
            return web.Response(status=500, text="The message is not encrypted.")
        try:
            message = connection.decrypted(body)
        except Unreadable as error:
            return web.Response(status=400, text=f"The message cannot be decrypted: {error}")
        response = await self._answered(connection, verdict, message)
        sealed, kind = connection.encrypted(response.body if isinstance(response.body, bytes) else b"")
        answer = web.Response(body=sealed, status=response.status, headers={"Content-Type": kind})
        return _challenged(answer, verdict.challenges)

    async def _answered(self, connection: Connection, verdict: LogonAnswer, body: bytes) -> web.Response:
        try:
            message = read(body)
        except Malformed as error:
            return _challenged(web.Response(status=400, text=f"The message is invalid: {error}"), verdict.challenges)
        await self._reached(connection, message)
        response = await self._soap_answer(verdict.user, message, len(body))
        await self._reached(connection, message, after=True)
        return _challenged(response, verdict.challenges)

    async def _reached(self, connection: Connection, message: Message, *, after: bool = False) -> None:
        """Lets faults begin; new network faults affect the current message too."""
        await self._condition.reached(_name(message), after=after)
        self._apply_request_faults(arriving=not after)
        if self._condition.faults.refuse_logons:
            connection.turn_away()
            raise _FaultAnswer(web.Response(status=401))

    def _apply_request_faults(self, *, arriving: bool) -> None:
        if arriving and self._condition.happens("lose_requests"):
            raise _FaultAnswer(None)
        if self._condition.happens("http_errors"):
            status = self._condition.faults.http_errors.status
            raise _FaultAnswer(web.Response(status=status, text="A fault of the lab."))

    async def _soap_answer(self, user: str, message: Message, size: int) -> web.Response:
        try:
            if size > self.machine.quotas.envelope_bytes:
                raise Fault.too_large(self.machine.quotas.envelope_bytes)
            if self._condition.faults.deny_access:
                raise Fault.access_denied()
            self._not_too_many()
            answer, status = await self._do(user, message), 200
            self._not_too_many()
        except Fault as fault:
            answer, status = fault_response(message.id, fault, self.machine.name), 500
        return web.Response(body=answer, status=status, headers={"Content-Type": _CONTENT_TYPE})

    def _not_too_many(self) -> None:
        if self._condition.happens("refuse_operations"):
            raise Fault.too_many_operations(self.machine.quotas.operations_per_shell)

    async def _do(self, user: str, message: Message) -> bytes:
        self._condition.counters.actions[_name(message)] += 1
        if self._condition.conversation.mode == "record":
            self._condition.conversation.note(recorded(message))
        match message.action:
            case Action.CREATE:
                return self._create(user, message)
            case Action.COMMAND:
                return self._command(user, message)
            case Action.SEND:
                self.shells.send(user, message.shell, message.inputs())
                return empty_response(message)
            case Action.RECEIVE:
                return await self._receive(user, message)
            case Action.SIGNAL:
                self.shells.signal(user, message.shell, *message.signal())
                return empty_response(message)
            case Action.DELETE:
                self.shells.delete(user, message.shell)
                return empty_response(message)
        raise Fault.unsupported(message.action)

    def _create(self, user: str, message: Message) -> bytes:
        if self._condition.faults.forbid_shells:
            raise Fault.shells_forbidden()
        shell, idle = self.shells.create(user, message.idle_timeout())
        self._condition.counters.shells_opened += 1
        return create_response(message, shell, f"{self.machine.name}\\{user}", idle)

    def _command(self, user: str, message: Message) -> bytes:
        command, arguments = message.command_line()
        line = CommandLine(
            command,
            arguments,
            skip_cmd_shell=message.flag("WINRS_SKIP_CMD_SHELL"),
        )
        return command_response(message, self.shells.command(user, message.shell, line))

    async def _receive(self, user: str, message: Message) -> bytes:
        if self._late():
            raise Fault.timed_out()
        command = message.received_command()
        limit = _payload(min(message.envelope, self.machine.quotas.envelope_bytes))
        output = await self.shells.receive(user, message.shell, command, message.timeout, limit, self._late)
        return receive_response(message, command, output.chunks, output.exit_code)

    def _late(self) -> bool:
        return self._condition.happens("receive_timeouts")


def _name(message: Message) -> str:
    """The last part of its action: `Create`."""
    return message.action.rpartition("/")[2]


def _payload(envelope: int) -> int:
    """The bytes of output that fit into an answer: base64 makes four of three, and the message needs some."""
    return max(1024, (envelope - 4096) * 3 // 4)


def _challenged(response: web.Response, challenges: tuple[str, ...]) -> web.Response:
    for challenge in challenges:
        response.headers.add("WWW-Authenticate", challenge)
    return response


async def _cut_off(request: web.BaseRequest, response: web.Response) -> web.StreamResponse:
    """Sends half of the reply and resets the connection."""
    data = response.body if isinstance(response.body, bytes) else b""
    half = web.StreamResponse(status=response.status, headers={"Content-Type": _CONTENT_TYPE})
    half.content_length = len(data) + 1
    await half.prepare(request)
    await half.write(data[: len(data) // 2])
    if request.transport:
        request.transport.abort()
    return half

"""What every request passes and every answer gets: the host, the size of the body, security headers, a line of log."""

import asyncio
import time
from collections.abc import Collection
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.web.problems import AsPage, ProblemDocument, internal_problem, problem_answer
from workers.logger import logger
from workers.texts import cleaned

__all__ = ["MOST", "SLOWEST", "Guard"]

log = logger("esync.web")
MOST = 1_000_000  #: bytes of a body
HEALTH = "/api/v1/health"  #: says nothing but that it answers: a container or a proxy may not know its name
SLOWEST = 30.0  #: seconds in which a body has to arrive
_TOO_LARGE = f"the body has more than {MOST:,} bytes"

CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """ASGI middleware, outside of everything else.

    Args:
        app: what it guards.
        hosts: names that the server answers to, without port.
        as_page: how a browser sees a refusal.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], as_page: AsPage) -> None:
        self._app = app
        self._as_page = as_page
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)  # a report has a policy of its own, as strict
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answered = _without_body(answer) if scope["method"] == "HEAD" else answer

        try:
            await self._pass(scope, receive, answered)
        except Exception as error:
            problem = internal_problem(error, cleaned(scope["path"], 200))
            if status:  # the answer has begun: the connection ends
                raise
            await self._refuse(scope, receive, answered, problem)
        finally:
            # The path only: a query may have what a person searched for.
            log.info(
                "request",
                method=scope["method"],
                path=cleaned(scope["path"], 200),
                status=status,
                milliseconds=round((time.monotonic() - began) * 1000),
                client=(scope.get("client") or ("",))[0],
            )

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if scope["path"] != HEALTH and _name(headers.get("host", "")) not in self._hosts:
            refusal = _problem(HTTPStatus.MISDIRECTED_REQUEST, "this server has another name")
            await self._refuse(scope, receive, send, refusal)
            return
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:12]) > MOST:
            await self._refuse(scope, receive, send, _problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE))
            return
        asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        bare = length == "0" and "transfer-encoding" not in headers
        await self._app(asked, receive if bare else _limited(receive), send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, problem: ProblemDocument) -> None:
        answer = problem_answer(problem, scope["method"], scope["path"], self._as_page)
        await answer(scope, receive, send)


def _limited(receive: Receive) -> Receive:
    """The body of a request, refused when it is longer than it said, or does not arrive in time."""
    received, whole, until = 0, False, time.monotonic() + SLOWEST

    async def limited() -> Message:
        nonlocal received, whole
        if whole:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), until - time.monotonic())
        except TimeoutError:
            late = f"the body did not arrive within {SLOWEST:.0f} seconds"
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, late, {"Connection": "close"}) from None
        received += len(message.get("body", b""))
        if received > MOST:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE)
        whole = not message.get("more_body", False)
        return message

    return limited


def _without_body(send: Send) -> Send:
    """An answer to HEAD: that to GET, which ends with its headers; also one that would never end."""
    ended = False

    async def headers_only(message: Message) -> None:
        nonlocal ended
        if message["type"] == "http.response.start":
            await send(message)
        elif not ended:
            ended = True
            await send({"type": "http.response.body"})

    return headers_only


def _name(host: str) -> str:
    """The name in a Host header, without the port."""
    name, colon, port = host.strip().lower().rpartition(":")
    return name if colon and port.isdecimal() else host.strip().lower()


def _problem(status: HTTPStatus, message: str) -> ProblemDocument:
    return ProblemDocument(title=status.phrase, status=status, error="input_refused", message=message)

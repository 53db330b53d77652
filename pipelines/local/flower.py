"""Flower with a password on every route: `python -m pipelines.local.flower`.

Flower answers some routes without a password (`/metrics`, `/healthcheck`, unknown paths, OPTIONS). Here every request
is checked before routing, so that routes of later versions are protected too. It is always read-only. Address, port
and password come from FLOWER_ADDRESS, FLOWER_PORT and FLOWER_BASIC_AUTH, because arguments are public.

The queues are counted over our own connections: Flower's own know no TLS of Sentinels and no database behind them, and
ask the first Sentinel only.
"""

import base64
import binascii
import contextlib
import hmac
import signal
import sys
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Any, NoReturn

from celery import Celery
from flower.api.tasks import GetQueueLengths
from flower.app import Flower
from flower.command import apply_env_options, extract_settings, setup_logging
from flower.options import options
from flower.urls import settings as flower_settings
from flower.views.broker import BrokerView
from tornado.httputil import HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.web import RequestHandler

from pipelines.engine import CONTROL_TASKS
from workers.celery_app import make_app
from workers.errors import EsyncError
from workers.logs import configure
from workers.settings import load_settings

__all__ = ["ProtectedFlower", "main"]

MOST_TASKS = 20_000  #: tasks in memory: five runs with four steps on 1,000 nodes
#: Of the list of tasks. The arguments of a step are run, turn and node; the exception is why it failed.
COLUMNS = "name,args,state,exception,received,runtime,worker,uuid"


class _Refused(RequestHandler):
    """The answer to a request without the password, for any path and method."""

    def check_xsrf_cookie(self) -> None:
        """Does nothing: the check runs before `prepare`, and would answer the request."""

    def prepare(self) -> None:
        """Requests the password."""
        self.set_status(401)
        self.set_header("WWW-Authenticate", 'Basic realm="esync"')
        self.finish("the password is required")


class _Queues:
    """How many messages wait, as Flower asks its broker."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    async def queues(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Name and length of each queue."""
        return await IOLoop.current().run_in_executor(None, self._counted, list(names))

    def _counted(self, names: Sequence[str]) -> list[dict[str, Any]]:
        with self._app.connection_for_read() as connection:
            channel = connection.default_channel
            return [{"name": name, "messages": channel.queue_declare(name).message_count} for name in names]


class _QueuesPage(BrokerView):
    """The page of the queues."""

    def get_broker(self) -> _Queues:
        """Ours."""
        return _Queues(self.capp)


class _QueueLengths(GetQueueLengths):
    """The same for programs."""

    def get_broker(self) -> _Queues:
        """Ours."""
        return _Queues(self.capp)


class ProtectedFlower(Flower):
    """Flower that answers no request without the password."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - Flower's
        super().__init__(**options)
        before = f"/{self.options.url_prefix.strip('/')}" if self.options.url_prefix else ""
        own = [(f"{before}/broker", _QueuesPage), (f"{before}/api/queues/length", _QueueLengths)]
        self.add_handlers(".*", own)  # they come before Flower's

    def find_handler(self, request: HTTPServerRequest, **more: Any) -> Any:  # noqa: ANN401 - tornado's signature
        """The handler of a request; tornado calls this for every request before routing."""
        if not _is_authorized(request.headers.get("Authorization", ""), self.options.basic_auth):
            return self.get_handler_delegate(request, _Refused)
        return super().find_handler(request, **more)


def _is_authorized(header: str, logons: Sequence[str]) -> bool:
    scheme, _, token = header.partition(" ")
    given = b""
    with contextlib.suppress(binascii.Error, ValueError):
        given = base64.b64decode(token.strip(), validate=True)
    matches = [hmac.compare_digest(given, logon.encode()) for logon in logons]
    return scheme.lower() == "basic" and any(matches)


def main() -> None:
    """Serves until SIGTERM."""
    own = load_settings()
    configure(own.log_level)
    apply_env_options()
    if not all(":" in logon and not logon.endswith(":") for logon in options.basic_auth or [""]):
        sys.exit("set FLOWER_BASIC_AUTH to USER:PASSWORD; Flower does not start without it")
    options.read_only, options.persistent, options.max_tasks = True, False, MOST_TASKS
    options.tasks_columns = COLUMNS
    extract_settings()
    setup_logging()
    server = ProtectedFlower(capp=make_app(own, CONTROL_TASKS), options=options, **flower_settings)
    signal.signal(signal.SIGTERM, _end)
    server.start_http_server()
    try:
        server.start()
    finally:
        server.stop()


def _end(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise SystemExit(0)


if __name__ == "__main__":
    try:
        main()
    except EsyncError as refused:
        sys.exit(f"{refused}; {refused.remedy}")

"""Flower with a password on every route: `python -m pipelines.local.flower`.

Flower answers some routes without a password (`/metrics`, `/healthcheck`, unknown paths, OPTIONS). Here every request
is checked before routing, so that routes of later versions are protected too. It is always read-only. Address, port
and password come from FLOWER_ADDRESS, FLOWER_PORT and FLOWER_BASIC_AUTH, because arguments are public.
"""

import base64
import binascii
import contextlib
import hmac
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

from flower.app import Flower
from flower.command import apply_env_options, extract_settings, setup_logging
from flower.options import options
from flower.urls import settings as flower_settings
from tornado.httputil import HTTPServerRequest
from tornado.web import RequestHandler

from pipelines.engine import CONTROL_TASKS
from workers.celery_app import make_app
from workers.errors import EsyncError
from workers.logs import configure
from workers.redis.address import address_of
from workers.settings import Settings, load_settings

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


class ProtectedFlower(Flower):
    """Flower that answers no request without the password."""

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
    app = make_app(own, CONTROL_TASKS)
    app.conf.broker_transport_options |= _sentinel_logon(own)
    server = ProtectedFlower(capp=app, options=options, **flower_settings)
    signal.signal(signal.SIGTERM, _end)
    server.start_http_server()
    try:
        server.start()
    finally:
        server.stop()


def _sentinel_logon(own: Settings) -> dict[str, Any]:
    """How Flower's page of the queues logs on at the Sentinels: it asks them without our connections."""
    address = address_of(own.broker())
    logon = {"username": address.user or None, "password": address.password.reveal()}
    return {"sentinel_kwargs": logon} if logon["password"] else {}


def _end(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise SystemExit(0)


if __name__ == "__main__":
    try:
        main()
    except EsyncError as refused:
        sys.exit(f"{refused}; {refused.remedy}")

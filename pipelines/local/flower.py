"""Flower behind one door: `python -m pipelines.local.flower`. Nobody gets anything from it without the password.

Flower by itself answers some routes to anybody (`/metrics`, `/healthcheck`, what is not found, OPTIONS). Here every
request is looked at before any route is, so that a later Flower with more routes has the same door. It is always
read-only. Address, port and password come from FLOWER_ADDRESS, FLOWER_PORT and FLOWER_BASIC_AUTH: arguments are public.
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
from workers.settings import load_settings

__all__ = ["Window", "main"]

MOST_TASKS = 20_000  #: kept in memory: four steps on 1,000 nodes, five times over


class _Refused(RequestHandler):
    """The answer to whoever does not know the password, whatever was asked for and by which method."""

    def check_xsrf_cookie(self) -> None:
        """Comes before `prepare`, and would answer for us."""

    def prepare(self) -> None:
        """Asks for the password."""
        self.set_status(401)
        self.set_header("WWW-Authenticate", 'Basic realm="esync"')
        self.finish("the password is needed")


class Window(Flower):  # type: ignore[misc] # Flower has no types
    """Flower that answers nobody without the password."""

    def find_handler(self, request: HTTPServerRequest, **more: Any) -> Any:  # noqa: ANN401 - tornado's own
        """Where the request goes: tornado asks this for every one, before it looks for a route."""
        if not _is_known(request.headers.get("Authorization", ""), self.options.basic_auth):
            return self.get_handler_delegate(request, _Refused)
        return super().find_handler(request, **more)


def _is_known(header: str, logons: Sequence[str]) -> bool:
    scheme, _, token = header.partition(" ")
    given = b""
    with contextlib.suppress(binascii.Error, ValueError):
        given = base64.b64decode(token.strip(), validate=True)
    right = [hmac.compare_digest(given, logon.encode()) for logon in logons]
    return scheme.lower() == "basic" and any(right)


def main() -> None:
    """Serves until SIGTERM."""
    own = load_settings()
    configure(own.log_level)
    apply_env_options()
    if not all(":" in logon and not logon.endswith(":") for logon in options.basic_auth or [""]):
        sys.exit("set FLOWER_BASIC_AUTH to USER:PASSWORD; Flower is not started without")
    options.read_only, options.persistent, options.max_tasks = True, False, MOST_TASKS
    extract_settings()
    setup_logging()
    window = Window(capp=make_app(own, CONTROL_TASKS), options=options, **flower_settings)
    signal.signal(signal.SIGTERM, _end)
    window.start_http_server()
    try:
        window.start()
    finally:
        window.stop()


def _end(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise SystemExit(0)


if __name__ == "__main__":
    try:
        main()
    except EsyncError as refused:
        sys.exit(f"{refused}; {refused.remedy}")

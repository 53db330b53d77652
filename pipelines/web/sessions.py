"""Sessions of browsers: a cookie with a random secret, kept in the run store as a digest, for some hours.

A session holds nothing that a token or the access file does not grant at this moment: both are asked again at each
request.
"""

import hashlib
import hmac
import secrets
from typing import Literal

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from pipelines.usecases.origin import OneLine
from pipelines.usecases.tokens import Grant, token_by_id
from pipelines.web.served import Served
from workers.records import Record

__all__ = ["Session", "begin_session", "cookie_name", "end_session", "granted", "session_of"]

HOURS = 12.0
_KIND = "session"


class Session(Record):
    """A session as it is stored.

    Attributes:
        way: how the person logged on.
        name: the person.
        token: the id of the token it was begun with.
        groups: what the provider or the proxy said.
    """

    way: Literal["token", "openid", "proxy"]
    name: OneLine
    token: str = ""
    groups: tuple[str, ...] = ()
    csrf: str = ""  #: for forms; not stored, follows from the cookie


def cookie_name(served: Served) -> str:
    """The cookie; over HTTPS with the prefix that binds it to this host."""
    return "__Host-esync" if served.access.https else "esync-session"


def begin_session(served: Served, response: Response, session: Session) -> None:
    """Stores a session, and sets its cookie on the answer."""
    secret = secrets.token_hex(32)
    served.engine.store.remember(_KIND, _digest(secret), session.to_json(), HOURS * 3600)
    seconds = int(HOURS * 3600)
    https = served.access.https
    response.set_cookie(cookie_name(served), secret, seconds, httponly=True, secure=https, samesite="lax")


def session_of(served: Served, request: Request) -> Session | None:
    """The session of a request; None without one, or when its time has ended."""
    secret = request.cookies.get(cookie_name(served), "")
    if not secret or len(secret) > 200:  # noqa: PLR2004 - no cookie of ours is so long
        return None
    try:
        session = Session.model_validate_json(served.engine.store.remembered(_KIND, _digest(secret)))
    except ValidationError:
        return None
    return session.model_copy(update={"csrf": hmac.digest(secret.encode(), b"csrf", "sha256").hex()})


def end_session(served: Served, request: Request, response: Response) -> None:
    """Removes the session of a request, and its cookie."""
    served.engine.store.take(_KIND, _digest(request.cookies.get(cookie_name(served), "")))
    response.delete_cookie(cookie_name(served), httponly=True, secure=served.access.https, samesite="lax")


def granted(served: Served, session: Session) -> Grant | None:
    """What a session may do now; None when its token was revoked, or no rule fits any more."""
    if session.way == "token":
        return token_by_id(served.engine, session.token)
    return served.access.grant(session.name, frozenset(session.groups))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()

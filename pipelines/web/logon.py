"""Logging on by OpenID Connect, or as the user whom a trusted proxy names: each begins a session."""

import hashlib
import hmac
import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pipelines.web.identity import client_address, proxy_user
from pipelines.web.openid import Attempt, Provider
from pipelines.web.served import Served, served
from pipelines.web.sessions import Session, begin_session, granted
from workers.errors import NotAllowed, NotFound

__all__ = ["router"]

router = APIRouter(include_in_schema=False)
Of = Annotated[Served, Depends(served)]
COOKIE = "esync-logon"
SECONDS = 600  #: that a person has to log on at the provider
_KIND = "openid"
_SEE_OTHER = 303


@router.get("/logon/openid")
def to_provider(request: Request, of: Of) -> Response:
    """Sends the browser to the provider.

    Raises:
        NotFound: the access file names none.
        TooManyRequests: this address has begun, or failed in, as many as are allowed.
    """
    provider = _provider(of)
    of.logons.check(client_address(request))
    of.begun.count(client_address(request))
    state, browser = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    attempt = Attempt(verifier=secrets.token_urlsafe(48), nonce=secrets.token_urlsafe(32), browser=_digest(browser))
    answer = RedirectResponse(provider.address(state, attempt), _SEE_OTHER)
    of.engine.store.remember(_KIND, _digest(state), attempt.to_json(), SECONDS)
    https = of.access.https
    answer.set_cookie(COOKIE, browser, SECONDS, path="/logon", httponly=True, secure=https, samesite="lax")
    return answer


@router.get("/logon/openid/back")
def from_provider(
    request: Request,
    of: Of,
    state: Annotated[str, Query(max_length=200)] = "",
    code: Annotated[str, Query(max_length=4000)] = "",
) -> Response:
    """Begins a session for the person whom the provider names.

    Raises:
        NotAllowed: this browser did not begin this attempt, the code is not valid, or no rule fits the person.
    """
    provider = _provider(of)
    of.logons.check(client_address(request))
    try:
        attempt = _attempt(of, state, request.cookies.get(COOKIE, ""))
        person = provider.person(code, attempt)
        session = Session(way="openid", name=person.name, groups=person.groups)
        return _begun(of, session)
    except NotAllowed:
        of.logons.count(client_address(request))
        raise


@router.get("/logon/proxy")
def by_proxy(request: Request, of: Of) -> Response:
    """Begins a session for the user whom the proxy names; it ends when the proxy names another one.

    Raises:
        NotAllowed: no trusted proxy names a user, or no rule fits.
    """
    name, groups = proxy_user(request, of)
    if not name:
        raise NotAllowed("no trusted proxy names a user", remedy="log on with a token")
    return _begun(of, Session(way="proxy", name=name, groups=tuple(sorted(groups))))


def _begun(of: Served, session: Session) -> Response:
    """The answer that begins a session, for a person who may do something.

    Raises:
        NotAllowed: no rule fits.
    """
    if granted(of, session) is None:
        raise NotAllowed(f"{session.name} has no role here", remedy="an administrator adds a rule to the access file")
    answer = RedirectResponse("/", _SEE_OTHER)
    answer.delete_cookie(COOKIE, path="/logon")
    begin_session(of, answer, session)
    return answer


def _provider(of: Served) -> Provider:
    if of.openid is None:
        raise NotFound("this server has no OpenID Connect provider", remedy="log on with a token")
    return of.openid


def _attempt(of: Served, state: str, browser: str) -> Attempt:
    """The attempt with that state, which counts once, for the browser that began it.

    Raises:
        NotAllowed: there is none, or another browser began it.
    """
    text = of.engine.store.take(_KIND, _digest(state))
    refused = NotAllowed("this browser did not begin this logon, or too long ago", remedy="log on again")
    try:
        attempt = Attempt.model_validate_json(text)
    except ValidationError:
        raise refused from None
    if not hmac.compare_digest(attempt.browser, _digest(browser)):
        raise refused
    return attempt


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

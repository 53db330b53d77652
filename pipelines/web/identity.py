"""Who asks, and what that caller may do. Everything is refused unless a token or the access file allows it."""

import asyncio
import hmac
import ipaddress
from contextlib import suppress
from typing import Annotated, Literal

from fastapi import Depends
from starlette.requests import Request

from pipelines.usecases.origin import Origin
from pipelines.usecases.tokens import Grant, Role, token_of
from pipelines.web.served import Served, served
from pipelines.web.sessions import granted, session_of
from workers.errors import NotAllowed, NotLoggedOn, StoreUnavailable, TooManyRequests
from workers.texts import cleaned

__all__ = [
    "Allowed",
    "Caller",
    "allowed",
    "caller",
    "caller_or_none",
    "check_csrf",
    "client_address",
    "may_still_look",
    "origin",
    "proxy_user",
    "require",
]

CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf_token"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class Caller(Grant):
    """Who asks.

    Attributes:
        name: the person or program.
        via: how it is known.
        address: where the request came from.
        csrf: of a session: forms carry it in the field `csrf_token`, scripts in the header `X-CSRF-Token`.
    """

    name: str
    via: Literal["token", "openid", "proxy"]
    address: str
    session: bool = False
    csrf: str = ""

    @property
    def by(self) -> str:
        """The caller for the history of a run: who, as what, and from where."""
        return f"{self.name} ({self.role} by {self.via}) from {self.address}"

    def may(self, role: Role, cluster: str | None = None) -> bool:
        """Whether the caller has that role, for that cluster or, without one, for any."""
        return self.role.includes(role) and (cluster is None or self.covers(cluster))


def caller_or_none(request: Request, of: Annotated[Served, Depends(served)]) -> Caller | None:
    """Who asks: by the bearer token, otherwise by the session; None if neither is there or counts any more."""
    kind, _, text = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer":
        token = token_of(of.engine, text.strip())
        if token is None:
            of.logons.count(client_address(request))
            return None
        return _known(request, token, token.name, "token")
    session = session_of(of, request)
    if session is not None and session.way == "proxy":
        name, groups = proxy_user(request, of)
        session = session.model_copy(update={"groups": tuple(groups)}) if name == session.name else None
    grant = granted(of, session) if session else None
    if session is None or grant is None:
        return None
    return _known(request, grant, session.name, session.way, csrf=session.csrf)


def caller(found: Annotated[Caller | None, Depends(caller_or_none)]) -> Caller:
    """Who asks; a dependency of every route that is not open to all.

    Raises:
        NotLoggedOn: the request has neither a token nor a session that counts.
    """
    if found is None:
        raise NotLoggedOn(
            "this server does not know who you are", remedy="send a token (Authorization: Bearer ...), or log on"
        )
    return found


async def may_still_look(request: Request, cluster: str | None = None) -> bool:
    """Whether the caller of a stream that lasts may look at that cluster now; true while the store does not answer.

    A token may have been revoked since the stream began, a session ended, or its person lost a group.
    """
    try:
        found = await asyncio.to_thread(caller_or_none, request, served(request))
    except StoreUnavailable:
        return True
    except TooManyRequests:
        return False
    return found is not None and found.may(Role.VIEWER, cluster)


def require(asking: Caller, role: Role, cluster: str | None = None) -> None:
    """Passes if the caller has that role, for that cluster.

    Raises:
        NotAllowed: it has another role, or is for other clusters.
    """
    if not asking.may(role, cluster):
        where = f" for cluster {cluster}" if cluster is not None and not asking.covers(cluster) else ""
        raise NotAllowed(
            f"{asking.name} has the role {asking.role}{where and ', not'}{where}; this needs {role}",
            remedy="ask an administrator for a token with that role: esync token create",
        )


class Allowed:
    """A dependency: the caller, who has at least that role. A session has to send its CSRF token to change things.

    Args:
        role: the table of routes and roles is made from it.
    """

    def __init__(self, role: Role) -> None:
        self.role = role

    async def __call__(self, request: Request, asking: Annotated[Caller, Depends(caller)]) -> Caller:
        """The caller.

        Raises:
            NotAllowed: it has another role, or the request does not come from a page of its session.
        """
        require(asking, self.role)
        if request.method not in _SAFE and asking.session:
            token = request.headers.get(CSRF_HEADER, "")
            if not token and request.headers.get("Content-Type", "").startswith(_FORMS):
                token = str((await request.form()).get(CSRF_FIELD, ""))
            check_csrf(asking, token)
        return asking


def allowed(role: Role) -> Allowed:
    """A dependency: the caller, who has at least that role, for any cluster."""
    return Allowed(role)


def origin(asking: Caller, *, reason: str = "", key: str = "") -> Origin:
    """The caller for the record of a run."""
    return {"who": asking.name, "origin_host": asking.address, "reason": reason, "key": key}


def check_csrf(asking: Caller, token: str) -> None:
    """Passes if a request of a session carries its CSRF token: another site's page does not know it.

    Raises:
        NotAllowed: it does not.
    """
    if asking.session and not hmac.compare_digest(asking.csrf.encode(), token.encode()):
        raise NotAllowed("the form does not belong to this session; nothing was done", remedy="load the page again")


def client_address(request: Request) -> str:
    """Where the request came from; behind a trusted proxy, what that says.

    Some proxies add a line of their own below one that the client sent: the last address of the last line is theirs.
    """
    peer = _peer(request)
    proxy = served(request).access.proxy
    if proxy is None or not proxy.address_header or not _is_from(peer, proxy.addresses):
        return peer
    told = ",".join(request.headers.getlist(proxy.address_header)).rpartition(",")[2].strip()
    for text in (told, told.rpartition(":")[0].strip("[]")):  # some proxies add the port
        with suppress(ValueError):
            return str(ipaddress.ip_address(text))
    return peer


def proxy_user(request: Request, of: Served) -> tuple[str, frozenset[str]]:
    """The user and groups that a trusted proxy names; empty from every other address, or without such a proxy."""
    proxy = of.access.proxy
    if proxy is None or not proxy.user_header or not _is_from(_peer(request), proxy.addresses):
        return "", frozenset()
    groups = _only(request, proxy.groups_header) if proxy.groups_header else ""
    name = cleaned(_only(request, proxy.user_header).strip(), 80)
    return name, frozenset(filter(None, (one.strip() for one in groups.split(","))))


def _only(request: Request, header: str) -> str:
    """A header that is there once. Of several, one came from the client: a proxy that adds its own has to replace."""
    lines = request.headers.getlist(header)
    return lines[0] if len(lines) == 1 else ""


def _peer(request: Request) -> str:
    """The other end of the connection."""
    return request.client.host if request.client else "unknown"


def _is_from(address: str, networks: tuple[str, ...]) -> bool:
    try:
        here = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(here in ipaddress.ip_network(one) for one in networks)


def _known(request: Request, grant: Grant, name: str, via: str, *, csrf: str = "") -> Caller:
    return Caller.model_validate(
        {
            "role": grant.role,
            "clusters": grant.clusters,
            "name": name,
            "via": via,
            "address": client_address(request),
            "session": bool(csrf),
            "csrf": csrf,
        }
    )

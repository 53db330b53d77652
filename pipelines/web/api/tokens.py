"""Tokens, and who the caller is."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import Field

from pipelines.usecases.bodies import Body
from pipelines.usecases.origin import OneLine
from pipelines.usecases.tokens import (
    EVERY_CLUSTER,
    Grant,
    Role,
    TokenRow,
    create_token,
    listed_tokens,
    revoke_token,
    token_by_id,
)
from pipelines.web.bodies import StrictRoute
from pipelines.web.identity import Caller, allowed
from pipelines.web.served import Served, served
from workers.errors import NotAllowed, NotFound
from workers.records import Record

__all__ = ["router"]

router = APIRouter(tags=["access"], route_class=StrictRoute)
Of = Annotated[Served, Depends(served)]
Admin = Annotated[Caller, Depends(allowed(Role.ADMIN))]


class Me(Grant):
    """The caller as this server knows it."""

    name: str
    via: str


class TokenRequest(Grant, Body):
    """A request for a token."""

    name: Annotated[OneLine, Field(min_length=1, max_length=80, description="The person or program that holds it.")]
    days: Annotated[int, Field(ge=1, le=731)] = 90


class NewToken(Record):
    """A new token. `token` is its text, which is shown here and never again."""

    id: str
    token: str


class TokenList(Record):
    """All tokens, the newest first."""

    tokens: tuple[TokenRow, ...]


@router.get("/me")
def me(asking: Annotated[Caller, Depends(allowed(Role.VIEWER))]) -> Me:
    """Who the caller is, and what it may do."""
    return Me(role=asking.role, clusters=asking.clusters, name=asking.name, via=asking.via)


@router.get("/tokens")
def list_tokens(of: Of, asking: Admin) -> TokenList:
    """All tokens within the caller's clusters, without their texts."""
    return TokenList(tokens=tuple(row for row in listed_tokens(of.engine) if _within(asking, row)))


@router.post("/tokens", status_code=201)
def new_token(request: TokenRequest, of: Of, asking: Admin) -> NewToken:
    """Creates a token, for no more than the caller's own clusters."""
    if not _within(asking, request):
        raise NotAllowed(f"{asking.name} may not give access to other clusters than its own; nothing was created")
    grant = Grant(role=request.role, clusters=request.clusters)
    token, text = create_token(of.engine, request.name, grant, timedelta(days=request.days), by=asking.by)
    return NewToken(id=token.id, token=text.reveal())


@router.delete("/tokens/{token}", status_code=204)
def remove_token(token: Annotated[str, Path(pattern=r"^[0-9a-f]{12}$")], of: Of, asking: Admin) -> None:
    """Revokes a token. Sessions that were begun with it end."""
    known = token_by_id(of.engine, token)
    if known is None or not _within(asking, known):
        raise NotFound(f"there is no token {token}", remedy="list them: GET /api/v1/tokens")
    revoke_token(of.engine, token)


def _within(asking: Caller, grant: Grant) -> bool:
    """Whether a grant is for no more clusters than the caller's."""
    return EVERY_CLUSTER in asking.clusters or set(grant.clusters) <= set(asking.clusters)

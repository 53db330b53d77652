"""The description of this API, and whether the server lives."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request

from pipelines.usecases.tokens import Role
from pipelines.web.identity import Caller, allowed
from pipelines.web.openapi import description_of

__all__ = ["router"]

router = APIRouter()


@router.get("/openapi.json", include_in_schema=False)
def description(request: Request, asking: Annotated[Caller, Depends(allowed(Role.VIEWER))]) -> dict[str, Any]:
    """The OpenAPI document, as in docs/openapi.json."""
    del asking
    return description_of(request.app)


@router.api_route("/health", methods=["GET", "HEAD"], include_in_schema=False, status_code=204)
def health() -> None:
    """Says that this process answers; for proxies and containers, open to all."""

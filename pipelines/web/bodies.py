"""Bodies of requests: JSON in which each key stands once. Of two, the server and what stands before it may differ."""

import json
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import HTTPException
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

__all__ = ["StrictRoute"]


class StrictRoute(APIRoute):
    """A route whose JSON body has each key once."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Handles a request with such a body."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(_Request(request.scope, request.receive))

        return handler


class _Request(Request):
    async def json(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads(await self.body(), object_pairs_hook=_mapping)


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise HTTPException(
            HTTPStatus.UNPROCESSABLE_ENTITY, f"this request was not understood: body: {twice!r} stands there twice"
        )
    return found

"""The stream of what moves on the page of a run, or on those of all clusters."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import StreamingResponse

from pipelines.web.api.scope import visible_run
from pipelines.web.identity import may_still_look
from pipelines.web.pages.asking import Looking, Shared, Viewer
from pipelines.web.pages.hub import Source
from pipelines.web.pages.moves import overview_source, run_source

__all__ = ["router"]

router = APIRouter(include_in_schema=False)
_QUIET = 15.0  #: seconds after which a listener hears that nothing is new
_LONGEST = 600.0  #: seconds; then the browser asks again
_ASKED_AGAIN = 30.0  #: seconds after which it is checked again who looks


@router.get("/moves")
def moves(
    request: Request,
    asking: Viewer,
    looking: Looking,
    run: Annotated[str, Query(pattern=r"^[A-Za-z0-9._-]{0,120}$")] = "",
) -> StreamingResponse:
    """What moves on the page of a run; without one, that something has changed anywhere."""
    looking.served.open.check(asking.name)
    cluster = visible_run(looking.served, asking, run).cluster if run else None
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(
        _messages(looking, asking.name, run, lambda: may_still_look(request, cluster)),
        media_type="text/event-stream",
        headers=headers,
    )


async def _messages(
    looking: Shared, who: str, run: str, may_look: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    def source() -> Source:
        if not run:
            return overview_source(looking.overview)
        return run_source(looking.scenes, looking.waits, run)

    queue = looking.hub.listen(run, source)
    asked = time.monotonic()
    until = asked + _LONGEST
    try:
        with looking.served.open.one(who):
            yield b"retry: 1000\n\n"
            while time.monotonic() < until:
                if time.monotonic() - asked > _ASKED_AGAIN:
                    if not await may_look():
                        yield b"event: off\ndata: {}\n\n"
                        return
                    asked = time.monotonic()
                try:
                    message = await asyncio.wait_for(queue.get(), _QUIET)
                except TimeoutError:
                    yield b": nothing new\n\n"
                    continue
                if message is None:
                    yield b"event: end\ndata: {}\n\n"
                    return
                yield message
    finally:
        looking.hub.leave(run, queue)

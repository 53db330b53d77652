"""The events of a run, as server-sent events."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import StreamingResponse

from pipelines.usecases.bodies import Body
from pipelines.usecases.tokens import Role
from pipelines.web.api.scope import run_for
from pipelines.web.identity import Caller, caller, may_still_look
from pipelines.web.served import Served, served
from workers.errors import EsyncError, NotLoggedOn
from workers.records import Event, Record, RunRecord
from workers.store.port import event_position

__all__ = ["event_stream", "router"]

router = APIRouter(tags=["runs"])
MOST = 1000  #: events of a page
ASKED_AGAIN = 30.0  #: seconds after which it is checked again who listens


class HistoryFilter(Body):
    """Which events are listed: those after the one with that id."""

    after: Annotated[str, Field(pattern=r"^([0-9]{1,19}(-[0-9]{1,19})?)?$")] = ""
    limit: Annotated[int, Field(ge=1, le=MOST)] = MOST


class EventPage(Record):
    """Some events of a run, oldest first; none when there are no more yet."""

    events: tuple[Event, ...]


@router.get("/runs/{run}/history")
def history(
    record: Annotated[RunRecord, Depends(run_for(Role.VIEWER))],
    wanted: Annotated[HistoryFilter, Query()],
    of: Annotated[Served, Depends(served)],
) -> EventPage:
    """The events of a run so far, after the one with the id `after`."""
    return EventPage(events=of.engine.store.events(record.id, wanted.after, wanted.limit))


@router.get(
    "/runs/{run}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
def stream(
    request: Request,
    record: Annotated[RunRecord, Depends(run_for(Role.VIEWER))],
    asking: Annotated[Caller, Depends(caller)],
    of: Annotated[Served, Depends(served)],
    last: Annotated[str, Header(alias="Last-Event-ID", max_length=40)] = "",
    after: Annotated[str, Query(max_length=40, description="As `Last-Event-ID`, which outweighs it.")] = "",
) -> StreamingResponse:
    """The events of a run after `Last-Event-ID`, as they happen, until it has ended: then comes an event `end`."""
    event_position(last or after)
    of.open.check(asking.name)
    events = event_stream(of, record.id, last or after, asking.name, lambda: may_still_look(request, record.cluster))
    return StreamingResponse(events, media_type="text/event-stream")


async def event_stream(
    of: Served, run_id: str, after: str, who: str, may_look: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    """The events as text. A comment is sent now and then, so that a connection that broke is noticed.

    Args:
        of: this server.
        run_id: whose events.
        after: the id of the event before the first one.
        who: the caller.
        may_look: asked from time to time; the stream ends when the listener may not look any more.
    """
    yield b"retry: 1000\n\n"
    asked = time.monotonic()
    try:
        with of.open.one(who):
            async for news in of.streams.follow(run_id, after):
                if time.monotonic() - asked > ASKED_AGAIN:
                    if not await may_look():
                        raise NotLoggedOn("you may not look at this run any more", remedy="log on again")
                    asked = time.monotonic()
                texts = (f"id: {sent.id}\nevent: {sent.event.kind}\ndata: {sent.data}\n\n" for sent in news)
                yield "".join(texts).encode() or b": nothing new\n\n"
    except EsyncError as error:
        yield f"event: error\ndata: {error.problem.model_dump_json()}\n\n".encode()
        return
    yield b"event: end\ndata: {}\n\n"

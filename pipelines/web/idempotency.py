"""The same request twice is one run: `Idempotency-Key`, kept in the run store for a day."""

import hashlib
import uuid
from collections.abc import Callable
from typing import Annotated

from fastapi import Header

from pipelines.usecases.origin import KEY
from pipelines.web.identity import Caller
from pipelines.web.served import Served
from workers.errors import KeyReused
from workers.records import Record, RunRecord
from workers.store.chain import digest_of

__all__ = ["IdempotencyKey", "once"]

SECONDS = 86_400.0
_KIND = "request"
_ANSWERED = "answered request"  #: the request, of several at the same time, whose run is new

IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        pattern=f"^{KEY}$",
        description="The same key with the same body is one run, for a day; with another body it is refused.",
    ),
]


class _Asked(Record):
    """A request that was made with a key, and the run that it led to.

    Attributes:
        digest: of what was asked.
        run: empty until one is known.
        first: names the first request with the key, and no other one: when the day is over, the key is another run.
    """

    digest: str
    run: str = ""
    first: str = ""


def once(
    of: Served, asking: Caller, key: str, request: tuple[str, Record], start: Callable[[str], RunRecord]
) -> tuple[RunRecord, bool]:
    """The run of a request, and whether it is new: of several at the same time the answer to exactly one is that it is.

    Two servers that get the same request at the same time both start a run with the same key: the store creates one.

    Args:
        of: this server.
        asking: a key counts for its caller only.
        key: of the request; empty for none.
        request: what is asked for: the path and the body.
        start: starts the run with the key that it is given.

    Raises:
        KeyReused: the caller used the key for another request.
    """
    of.starts.count(asking.name)
    if not key:
        return start(""), True
    name = hashlib.sha256(f"{asking.name}\n{key}".encode()).hexdigest()
    path, body = request
    mine = _Asked(digest=digest_of([path, body.model_dump(mode="json")]), first=uuid.uuid4().hex)
    store = of.engine.store
    known = _Asked.model_validate_json(store.remember(_KIND, name, mine.to_json(), SECONDS))
    if known.digest != mine.digest:
        raise KeyReused(
            "this idempotency key was used for another request; nothing was started", remedy="use a new key"
        )
    if known.run:
        return store.run(known.run), False
    first = known.first or name[:32]
    record = start(f"api-{first}")
    new = store.remember(_ANSWERED, first, mine.first, SECONDS) == mine.first
    if new:
        store.remember(_KIND, name, known.model_copy(update={"run": record.id}).to_json(), SECONDS, replace=True)
    return record, new

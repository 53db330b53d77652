"""The same request twice is one run: `Idempotency-Key`, kept in the run store for a day."""

import hashlib
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

IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        pattern=f"^{KEY}$",
        description="The same key with the same body is one run, for a day; with another body it is refused.",
    ),
]


class _Asked(Record):
    """A request that was made with a key, and the run that it led to."""

    digest: str
    run: str = ""


def once(
    of: Served, asking: Caller, key: str, request: tuple[str, Record], start: Callable[[str], RunRecord]
) -> tuple[RunRecord, bool]:
    """The run of a request, and whether it is new.

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
    mine = _Asked(digest=digest_of([path, body.model_dump(mode="json")]))
    store = of.engine.store
    known = _Asked.model_validate_json(store.remember(_KIND, name, mine.to_json(), SECONDS))
    if known.digest != mine.digest:
        raise KeyReused(
            "this idempotency key was used for another request; nothing was started", remedy="use a new key"
        )
    if known.run:
        return store.run(known.run), False
    record = start(f"api-{name[:32]}")
    store.remember(_KIND, name, mine.model_copy(update={"run": record.id}).to_json(), SECONDS, replace=True)
    return record, True

"""Messages that were set aside because they are invalid: the newest ones, shortened, in one list in the broker.

Nothing executes them. `esync doctor` shows the list, so that the operator can find the sender.
"""

import json
from contextlib import suppress

from redis import Redis
from redis.exceptions import ResponseError as NotAList

from workers.broker.names import OWN
from workers.logger import logger
from workers.masks import scrubbed
from workers.records import Record, now
from workers.redis.connection import errors_mapped

__all__ = ["KEPT", "SET_ASIDE", "SetAside", "clear", "set_aside", "stored"]

SET_ASIDE = f"{OWN}.set_aside"  #: the list's key
KEPT = 100  #: the newest messages
LONGEST = 500  #: characters kept of one message
_LOOKED_AT = 2000  #: bytes of a message that are cleaned; masking URLs in long texts is slow

log = logger(__name__)


class SetAside(Record):
    """One message that was set aside."""

    at: str  #: ISO time
    queue: str
    reason: str
    message: str  #: its beginning, as text


def set_aside(client: Redis, queue: str, item: bytes, reason: str) -> None:
    """Stores the beginning of a message, and logs it.

    Raises:
        RedisError: no connection. When the key is not a list, that is only logged.
    """
    kept = SetAside(at=now().isoformat(timespec="seconds"), queue=queue, reason=reason, message=_readable(item))
    log.warning("a message was set aside", queue=queue, reason=reason, message=kept.message)
    try:
        with client.pipeline() as pipe:
            pipe.lpush(SET_ASIDE, kept.model_dump_json())
            pipe.ltrim(SET_ASIDE, 0, KEPT - 1)
            pipe.execute()
    except NotAList as error:
        log.warning("the list of messages set aside cannot be written", error=str(error)[:200])


def stored(client: Redis) -> tuple[SetAside, ...]:
    """The messages set aside, newest first.

    Raises:
        StoreUnavailable: the broker does not answer.
    """
    with errors_mapped():
        texts = client.lrange(SET_ASIDE, 0, KEPT - 1)
    found: list[SetAside] = []
    for text in texts:
        with suppress(ValueError):  # another program wrote it
            found.append(SetAside.model_validate_json(text))
    return tuple(found)


def clear(client: Redis) -> None:
    """Deletes the list.

    Raises:
        StoreUnavailable: the broker does not answer.
    """
    with errors_mapped():
        client.delete(SET_ASIDE)


def _readable(item: bytes) -> str:
    """The beginning of a message on one line, without control characters and known secrets."""
    text = item[:_LOOKED_AT].decode("utf-8", "backslashreplace")
    clean = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in scrubbed(text))
    return clean if len(clean) <= LONGEST else clean[:LONGEST] + f"... ({len(item):,} bytes)"

"""Other programs on the database of the broker: they can read, fill and empty what esync needs."""

import re
from collections.abc import Iterator
from typing import Any

from redis import Redis
from redis.client import NEVER_DECODE
from redis.exceptions import ResponseError

from workers.broker.names import OWN
from workers.redis.condition import Remark
from workers.redis.connection import errors_mapped
from workers.texts import cleaned

__all__ = ["neighbours_on"]

EXAMINED = 20_000  #: keys, at most: a database of another program may have millions
_AT_ONCE = 1_000
_NAMED = 3  #: examples in a message
_LONGEST = 60  #: characters of an example
_REMEDY = "give esync a database of its own: another number at the end of ESYNC_BROKER_URL"

_own = re.escape(OWN)
#: Our keys: of the run store, of queues, of what kombu records about them, and the answers to other programs.
_OURS = re.compile(
    rf"esync:.*|{_own}\..*|_kombu\.binding(_permanent)?\.(reply\.)?{_own}\..*|_kombu\.binding_deadlines"
    rf"|celery-task-meta-.*|.*\.{_own}\.pidbox.*",
    re.DOTALL,
)
#: Left by releases before this one, which used Celery's names. A Celery application that is there has other keys, too.
_OLDER = re.compile(
    r"unacked(_index|_mutex)?|celery-taskset-meta-.*|_kombu\.binding(_permanent)?\.(celeryev|(reply\.)?celery\.pidbox)"
    r"|[0-9a-f-]{36}\.reply\.celery\.pidbox"
)

#: What kombu records about a queue or exchange of any application.
_OF_CELERY = re.compile(r"_kombu\.binding(?:_permanent)?\.(.*)", re.DOTALL)


def neighbours_on(client: Redis) -> tuple[Remark, ...]:
    """Other Celery applications and other programs that have keys in this database. Reads only.

    Only the first EXAMINED keys are looked at, and nothing when the user of the URL may not list keys.

    Raises:
        StoreUnavailable: the broker does not answer.
    """
    with errors_mapped():
        try:
            foreign = [key for key in _first(client) if not _is_ours(key)]
        except ResponseError:  # not allowed
            return ()
    queues = {match[1] for key in foreign if (match := _OF_CELERY.fullmatch(key))}
    others = {key for key in foreign if not _OF_CELERY.fullmatch(key)} - queues
    return (*_celery(queues), *_others(others))


def _celery(queues: set[str]) -> Iterator[Remark]:
    if queues:
        yield Remark(f"another Celery application uses the database of the broker ({_examples(queues)})", _REMEDY)


def _others(keys: set[str]) -> Iterator[Remark]:
    if keys:
        count = f"{len(keys):,} {'key' if len(keys) == 1 else 'keys'}"
        yield Remark(f"the database of the broker has {count} of other programs ({_examples(keys)})", _REMEDY)


def _first(client: Redis) -> Iterator[str]:
    cursor, seen = 0, 0
    while seen < EXAMINED:
        cursor, keys = _ask(client, "SCAN", cursor, "COUNT", _AT_ONCE)
        seen += _AT_ONCE
        yield from map(_text, keys)
        if not cursor:
            return


def _ask(client: Redis, *command: str | int) -> Any:  # noqa: ANN401 - the server's answer
    # As bytes: a name that another program made need not be text.
    return client.execute_command(*command, **{NEVER_DECODE: []})  # type: ignore[no-untyped-call] # the library has no types here


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _is_ours(key: str) -> bool:
    return bool(_OURS.fullmatch(key) or _OLDER.fullmatch(key))


def _examples(names: set[str]) -> str:
    some = sorted(names)[:_NAMED]
    return ", ".join(cleaned(one, _LONGEST) for one in some) + (", ..." if len(names) > _NAMED else "")

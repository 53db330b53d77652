"""The border for messages from outside: what may come in, decided before Celery or kombu touch it. Pure.

Everybody who may write to the broker can put anything into a queue. Celery takes much of it on trust: one message of
a wrong shape ends its consumer, goes back to the queue, and ends the next one. So a message is opened here, once, by
rules that leave nothing to trust, and what does not pass is set aside (`workers.broker.set_aside`).
"""

import json
import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = ["Border", "Unfit", "opened", "task_of"]

LARGEST = 1_000_000  #: bytes of one message; ours have 3,000
_WORD = re.compile(r"[\x21-\x7e]{1,255}")
_BODY_ENCODINGS = frozenset({None, "base64", "utf-8"})
_CHARSETS = frozenset({None, "utf-8", "us-ascii", "ascii"})
_KINDS = frozenset({None, "group", "chain", "chord", "map", "starmap", "chunks"})
_SHOWN = 1024  #: characters of a text that is only shown
_DEEPEST = 20  #: levels of a signature in a signature


class Unfit(Exception):
    """A message that is not let in.

    Attributes:
        reason: why, in words for the operator.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Border:
    """Which queues are watched, and which tasks go to another queue than the one they came by.

    Attributes:
        queues: those whose messages are opened here, the most urgent first.
        moves: (queue, task) -> the queue it belongs to.
    """

    queues: tuple[str, ...] = ()
    moves: Mapping[tuple[str, str], str] = field(default_factory=dict)


def opened(item: bytes) -> dict[str, Any]:
    """The message as kombu wants it, without headers nobody knows.

    Raises:
        Unfit: it is not a message of Celery's task protocol 2 in JSON, or something in it has a wrong type.
    """
    if len(item) > LARGEST:
        raise Unfit(f"larger than {LARGEST:,} bytes")
    message = _parsed(item, "the message")
    if not isinstance(message, dict):
        raise Unfit("not a message of Celery: no JSON object")
    _checked(message, _MESSAGE)
    if message["headers"].get("eta") is not None:
        raise Unfit("eta and countdown are not supported: send it when it is due")
    if message["headers"].get("compression"):
        raise Unfit("compressed messages are not supported")
    _checked(message["headers"], _HEADERS, "header ")
    _checked(message["properties"], _PROPERTIES, "property ")
    _checked(message["properties"].get("delivery_info") or {}, _DELIVERY, "delivery_info ")
    _triple(_parsed(_body(message), "the body"))
    known = {name: _plain(value) for name, value in message["headers"].items() if name in _HEADERS}
    return {**message, "headers": known}


def task_of(message: Mapping[str, Any]) -> str:
    """The name of the task of an opened message."""
    return str(message["headers"]["task"])


def _parsed(data: bytes, what: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(data, parse_constant=_no_number)
    except RecursionError:
        raise Unfit(f"{what} is nested too deeply") from None
    except ValueError:  # bytes that are no UTF-8 are one, too
        raise Unfit(f"{what} is not JSON") from None


def _no_number(text: str) -> float:
    raise ValueError(text)


def _body(message: Mapping[str, Any]) -> bytes:
    body: str = message["body"]
    try:
        if message["properties"].get("body_encoding") == "base64":
            return b64decode(body, validate=True)
        return body.encode()
    except (NotBase64, ValueError):  # ValueError: characters that are none
        raise Unfit("the body is not base64, as its body_encoding says") from None


def _triple(body: object) -> None:
    if not (isinstance(body, list) and len(body) == 3):  # noqa: PLR2004 - protocol 2
        raise Unfit("the body is not [args, kwargs, embed]")
    args, kwargs, embed = body
    if not isinstance(args, list):
        raise Unfit("the body's args are not a list")
    if not isinstance(kwargs, dict):
        raise Unfit("the body's kwargs are not an object")
    if not (embed is None or isinstance(embed, dict)):
        raise Unfit("the body's embed is not an object")
    _checked(embed or {}, _EMBED, "embed ")
    unknown = (embed or {}).keys() - _EMBED.keys()
    if unknown:
        raise Unfit("embed has something that Celery does not know")


def _checked(given: Mapping[str, Any], rules: Mapping[str, Callable[[Any], bool]], of: str = "") -> None:
    """Each rule holds for what stands under its name, None where nothing does."""
    for name, rule in rules.items():
        if not rule(given.get(name)):
            raise Unfit(f"{of}{name!r} is {'missing' if given.get(name) is None else 'of a wrong type'}")


def _is_map(value: object) -> bool:
    return isinstance(value, dict)


def _is_word(value: object) -> bool:
    """Something that names: it becomes part of keys, logs and events."""
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _word(value: object) -> bool:
    return value is None or value == "" or _is_word(value)


def _text(value: object) -> bool:
    """Text that is only shown."""
    return value is None or isinstance(value, str)


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Text as it may be shown: arguments as their sender shows them have line feeds and what not in them."""
    if not isinstance(value, str) or (value.isprintable() and len(value) <= _SHOWN):
        return value
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in value[:_SHOWN])


def _flag(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _count(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9)


def _map(value: object) -> bool:
    return value is None or isinstance(value, dict)


def _moment(value: object) -> bool:
    if value is None:
        return True
    try:
        return isinstance(value, str) and datetime.fromisoformat(value) is not None
    except ValueError:
        return False


def _limits(value: object) -> bool:
    def limit(one: object) -> bool:
        return one is None or (isinstance(one, int | float) and not isinstance(one, bool) and 0 <= one < 10**9)

    return value is None or (isinstance(value, list) and len(value) == 2 and all(map(limit, value)))  # noqa: PLR2004


def _signature(value: object, depth: int = 0) -> bool:
    if not isinstance(value, dict) or depth > _DEEPEST:
        return False
    args, kwargs, options = value.get("args", []), value.get("kwargs", {}), value.get("options", {})
    if not (isinstance(args, list) and isinstance(kwargs, dict) and isinstance(options, dict)):
        return False
    inside = [kwargs[name] for name in ("tasks", "header") if isinstance(kwargs.get(name), list)]
    linked = [options[name] for name in ("link", "link_error", "chain") if options.get(name)]
    return (
        _is_word(value.get("task"))
        and value.get("subtask_type") in _KINDS
        and all(_signatures(some, depth + 1) for some in (*inside, *linked))
        and (not options.get("chord") or _signature(options["chord"], depth + 1))
        and all(_word(options.get(name)) for name in ("queue", "routing_key", "task_id", "reply_to"))
    )


def _signatures(value: object, depth: int = 0) -> bool:
    return value is None or (isinstance(value, list) and all(_signature(one, depth) for one in value))


def _chord(value: object) -> bool:
    return value is None or _signature(value)


_MESSAGE: Mapping[str, Callable[[Any], bool]] = {
    "properties": _is_map,
    "headers": _is_map,
    "body": lambda value: isinstance(value, str),
    "content-type": lambda value: value == "application/json",
    "content-encoding": lambda value: isinstance(value, str | None) and (value and value.lower()) in _CHARSETS,
}
_PROPERTIES: Mapping[str, Callable[[Any], bool]] = {
    "delivery_tag": _is_word,
    "delivery_info": _map,
    "body_encoding": lambda value: isinstance(value, str | None) and value in _BODY_ENCODINGS,
    "correlation_id": _word,
    "reply_to": _word,
    "priority": lambda value: _count(value) and (value or 0) < 256,  # noqa: PLR2004 - the protocol's limit
}
_DELIVERY: Mapping[str, Callable[[Any], bool]] = {"exchange": _word, "routing_key": _word}
#: Of task protocol 2; others are not passed on: Celery makes attributes of the request of them.
_HEADERS: Mapping[str, Callable[[Any], bool]] = {
    "task": _is_word,
    "id": _is_word,
    "lang": _word,
    "shadow": _word,
    "expires": _moment,
    "group": _word,
    "group_index": _count,
    "retries": _count,
    "timelimit": _limits,
    "root_id": _word,
    "parent_id": _word,
    "argsrepr": _text,
    "kwargsrepr": _text,
    "origin": _text,
    "ignore_result": _flag,
    "replaced_task_nesting": _count,
    "redelivered": _flag,
}
_EMBED: Mapping[str, Callable[[Any], bool]] = {
    "callbacks": _signatures,
    "errbacks": _signatures,
    "chain": _signatures,
    "chord": _chord,
}

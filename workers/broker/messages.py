"""Validation of incoming messages, before Celery or kombu use them. Pure functions.

Every program that can write to the broker can put anything into a queue. Celery trusts most of it: one message of a
wrong shape ends its consumer, returns to the queue, and ends the next one. So each message is parsed and validated here
first, and an invalid one is set aside (`workers.broker.set_aside`).
"""

import json
import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = ["InvalidMessage", "QueueRules", "task_of", "validated"]

LARGEST = 1_000_000  #: bytes of one message; ours have 3,000
Rule = Callable[[Any], bool]  #: value of a field, None when it is missing -> whether it is valid
_WORD = re.compile(r"[\x21-\x7e]{1,255}")
_BODY_ENCODINGS = frozenset({None, "base64", "utf-8"})
_CHARSETS = frozenset({None, "utf-8", "us-ascii", "ascii"})
_KINDS = (None, "group", "chain", "chord", "map", "starmap", "chunks")  # no set: the value may not be hashable
_SHOWN = 1024  #: characters kept of a text that is only displayed
_DEEPEST = 20  #: levels of nested signatures


class InvalidMessage(Exception):
    """A message is not accepted.

    Attributes:
        reason: why, as text for the operator.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class QueueRules:
    """The queues whose messages are validated, besides those of sites, and the tasks that are moved to another queue.

    Attributes:
        queues: the most urgent first.
        moves: (queue, task) -> the queue that the task belongs to.
    """

    queues: tuple[str, ...] = ()
    moves: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def __json__(self) -> list[str]:
        """The queues, for `celery inspect stats`: a worker's answer has the options of its connection in it."""
        return list(self.queues)


def validated(item: bytes) -> dict[str, Any]:
    """The message in the form that kombu expects, without unknown headers.

    Raises:
        InvalidMessage: it is not a message of Celery's task protocol 2 in JSON, or a field has a wrong type.
    """
    if len(item) > LARGEST:
        raise InvalidMessage(f"larger than {LARGEST:,} bytes")
    message = _parsed(item, "the message")
    if not isinstance(message, dict):
        raise InvalidMessage("not a Celery message: not a JSON object")
    _checked(message, _MESSAGE)
    if message["headers"].get("eta") is not None:
        raise InvalidMessage("eta and countdown are not supported: send the message when it is due")
    if message["headers"].get("compression"):
        raise InvalidMessage("compressed messages are not supported")
    _checked(message["headers"], _HEADERS, "header ")
    _checked(message["properties"], _PROPERTIES, "property ")
    _checked(message["properties"].get("delivery_info") or {}, _DELIVERY, "delivery_info ")
    _triple(_parsed(_body(message), "the body"))
    known = {name: _plain(value) for name, value in message["headers"].items() if name in _HEADERS}
    return {**message, "headers": known}


def task_of(message: Mapping[str, Any]) -> str:
    """The task of a validated message."""
    return str(message["headers"]["task"])


def _parsed(data: bytes, what: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidMessage(f"{what} is nested too deeply") from None
    except ValueError:  # also for bytes that are not UTF-8
        raise InvalidMessage(f"{what} is not JSON") from None


def _refuse_constant(text: str) -> float:
    raise ValueError(text)


def _body(message: Mapping[str, Any]) -> bytes:
    body: str = message["body"]
    try:
        if message["properties"].get("body_encoding") == "base64":
            return b64decode(body, validate=True)
        return body.encode()
    except (NotBase64, ValueError):  # ValueError: surrogates, or characters outside of ASCII
        raise InvalidMessage("the body is not base64, although its body_encoding is") from None


def _triple(body: object) -> None:
    if not (isinstance(body, list) and len(body) == 3):  # noqa: PLR2004 - protocol 2
        raise InvalidMessage("the body is not [args, kwargs, embed]")
    args, kwargs, embed = body
    if not isinstance(args, list):
        raise InvalidMessage("the body's args are not a list")
    if not isinstance(kwargs, dict):
        raise InvalidMessage("the body's kwargs are not an object")
    if not (embed is None or isinstance(embed, dict)):
        raise InvalidMessage("the body's embed is not an object")
    _checked(embed or {}, _EMBED, "embed ")
    unknown = (embed or {}).keys() - _EMBED.keys()
    if unknown:
        raise InvalidMessage("embed has a field that Celery does not know")


def _checked(given: Mapping[str, Any], rules: Mapping[str, Rule], of: str = "") -> None:
    """Checks each rule with the value of its field; a missing field has the value None."""
    for name, rule in rules.items():
        if not rule(given.get(name)):
            raise InvalidMessage(f"{of}{name!r} is {'missing' if given.get(name) is None else 'of a wrong type'}")


def _of(kind: type) -> Rule:
    return lambda value: isinstance(value, kind)


def _optional(rule: Rule) -> Rule:
    return lambda value: value is None or rule(value)


def _is_name(value: object) -> bool:
    """A name: it becomes part of keys, logs and events."""
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Text made printable: the sender's display of the arguments may have line feeds and other controls."""
    if not isinstance(value, str) or (value.isprintable() and len(value) <= _SHOWN):
        return value
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in value[:_SHOWN])


def _is_moment(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value) is not None
    except ValueError:
        return False


def _are_limits(value: object) -> bool:
    def limit(one: object) -> bool:
        return isinstance(one, int | float) and not isinstance(one, bool) and 0 <= one < 10**9

    return isinstance(value, list) and len(value) == 2 and all(map(_optional(limit), value))  # noqa: PLR2004 - soft and hard


def _signature(value: object, depth: int = 0) -> bool:
    if not isinstance(value, dict) or depth > _DEEPEST:
        return False
    args, kwargs, options = value.get("args", []), value.get("kwargs", {}), value.get("options", {})
    if not (isinstance(args, list) and isinstance(kwargs, dict) and isinstance(options, dict)):
        return False
    inside = [kwargs[name] for name in ("tasks", "header") if isinstance(kwargs.get(name), list)]
    linked = [options[name] for name in ("link", "link_error", "chain") if options.get(name)]
    return (
        _is_name(value.get("task"))
        and value.get("subtask_type") in _KINDS
        and all(_signatures(some, depth + 1) for some in (*inside, *linked))
        and (not options.get("chord") or _signature(options["chord"], depth + 1))
        and all(_name(options.get(name)) for name in ("queue", "routing_key", "task_id", "reply_to"))
    )


def _signatures(value: object, depth: int = 0) -> bool:
    return value is None or (isinstance(value, list) and all(_signature(one, depth) for one in value))


_name = _optional(lambda value: value == "" or _is_name(value))
_text = _optional(_of(str))  #: it is only displayed
_flag = _optional(_of(bool))
_count = _optional(_is_count)
_MESSAGE: Mapping[str, Rule] = {
    "properties": _of(dict),
    "headers": _of(dict),
    "body": _of(str),
    "content-type": lambda value: value == "application/json",
    "content-encoding": lambda value: isinstance(value, str | None) and (value and value.lower()) in _CHARSETS,
}
_PROPERTIES: Mapping[str, Rule] = {
    "delivery_tag": _is_name,
    "delivery_info": _optional(_of(dict)),
    "body_encoding": lambda value: isinstance(value, str | None) and value in _BODY_ENCODINGS,
    "correlation_id": _name,
    "reply_to": _name,
    "priority": lambda value: _count(value) and (value or 0) < 256,  # noqa: PLR2004 - the protocol's limit
}
_DELIVERY: Mapping[str, Rule] = {"exchange": _name, "routing_key": _name}
#: Of task protocol 2. Others are removed: Celery would make attributes of the request from them.
_HEADERS: Mapping[str, Rule] = {
    "task": _is_name,
    "id": _is_name,
    "lang": _name,
    "shadow": _name,
    "expires": _optional(_is_moment),
    "group": _name,
    "group_index": _count,
    "retries": _count,
    "timelimit": _optional(_are_limits),
    "root_id": _name,
    "parent_id": _name,
    "argsrepr": _text,
    "kwargsrepr": _text,
    "origin": _text,
    "ignore_result": _flag,
    "replaced_task_nesting": _count,
    "redelivered": _flag,
}
_EMBED: Mapping[str, Rule] = {
    "callbacks": _signatures,
    "errbacks": _signatures,
    "chain": _signatures,
    "chord": _optional(_signature),
}

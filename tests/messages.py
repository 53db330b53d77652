"""A valid message in the form that Celery sends, and invalid ones."""

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from workers.celery_app import CONTROL_QUEUE

__all__ = ["INVALID", "body", "good"]


def body(content: object = None, raw: bytes | None = None) -> str:
    """A body in the form that kombu sends."""
    return b64encode(json.dumps(content).encode() if raw is None else raw).decode()


def good(task: str = "esync.status", queue: str = CONTROL_QUEUE, **kwargs: object) -> dict[str, Any]:
    """A message in the form that Celery sends."""
    no_links = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return {
        "body": body([[], kwargs or {"run": "none"}, no_links]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": task,
            "id": "11111111-2222-3333-4444-555555555555",
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": "11111111-2222-3333-4444-555555555555",
            "parent_id": None,
            "argsrepr": "()",
            "kwargsrepr": "{}",
            "origin": "gen1@host",
            "ignore_result": False,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
        },
        "properties": {
            "correlation_id": "11111111-2222-3333-4444-555555555555",
            "reply_to": "aaaaaaaa-2222-3333-4444-555555555555",
            "delivery_mode": 2,
            "delivery_info": {"exchange": queue, "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "bbbbbbbb-2222-3333-4444-555555555555",
        },
    }


def _with(change: Callable[[dict[str, Any]], object]) -> bytes:
    message = good()
    change(message)
    return json.dumps(message).encode()


def _put(where: str, name: str, value: object) -> bytes:
    return _with(lambda message: message[where].update({name: value}))


def _each(where: str, name: str, *values: object) -> dict[str, bytes]:
    return {f"{name} is {value!r}": _put(where, name, value) for value in values}


def _body(content: object) -> bytes:
    return _with(lambda message: message.update(body=body(content)))


def _embed(**embed: object) -> bytes:
    return _body([[], {"run": "none"}, embed])


_OTHER_TYPES: tuple[object, ...] = (5, True, [], {}, [[]], "\n", "\ud800", 1e300, -1)

#: Messages that must be set aside, by their error.
INVALID: dict[str, bytes] = {
    "nothing": b"",
    "random bytes": bytes(range(256)),
    "not JSON": b"hello",
    "null": b"null",
    "a number": b"17",
    "a list": b"[]",
    "text": b'"text"',
    "an empty object": b"{}",
    "NaN": b"NaN",
    "nested deeply": b"[" * 100_000,
    "nested deeply in headers": b'{"headers":' * 5000 + b"{}" + b"}" * 5000,
    "huge": b'"' + b"x" * 3_000_000 + b'"',
    "no headers": _with(lambda message: message.pop("headers")),
    "headers are a list": _with(lambda message: message.update(headers=[])),
    "no properties": _with(lambda message: message.pop("properties")),
    "properties are null": _with(lambda message: message.update(properties=None)),
    "no delivery tag": _with(lambda message: message["properties"].pop("delivery_tag")),
    "delivery_info is text": _put("properties", "delivery_info", "text"),
    "no body": _with(lambda message: message.pop("body")),
    "body is an object": _with(lambda message: message.update(body={})),
    "bad base64": _with(lambda message: message.update(body="!!!!")),
    "cut base64": _with(lambda message: message.update(body=message["body"][:-3])),
    "unknown body encoding": _put("properties", "body_encoding", "rot13"),
    "a body of random bytes": _with(lambda message: message.update(body=body(raw=bytes(range(256))))),
    "application/data": _with(lambda message: message.update({"content-type": "application/data"})),
    "pickle": _with(lambda message: message.update({"content-type": "application/x-python-serialize"})),
    "no content type": _with(lambda message: message.pop("content-type")),
    "unknown encoding": _with(lambda message: message.update({"content-encoding": "klingon"})),
    "an encoding that unpacks": _with(lambda message: message.update({"content-encoding": "zlib"})),
    "unknown compression": _put("headers", "compression", "klingon"),
    "compressed": _put("headers", "compression", "application/x-gzip"),
    "no task": _with(lambda message: message["headers"].pop("task")),
    "no id": _with(lambda message: message["headers"].pop("id")),
    "unknown task": _put("headers", "task", "esync.nothing"),
    "a task of Celery's": _put("headers", "task", "celery.chord_unlock"),
    "an eta": _put("headers", "eta", "2099-01-01T00:00:00+00:00"),
    "body []": _body([]),
    "body null": _body(None),
    "body a dict": _body({"args": [], "kwargs": {}}),
    "body of two": _body([[], {}]),
    "body of four": _body([[], {}, {}, {}]),
    "args are text": _body(["text", {}, {}]),
    "kwargs are a list": _body([[], [], {}]),
    "embed is a list": _body([[], {}, []]),
    "embed is text": _body([[], {}, "text"]),
    "embed unknown": _embed(taskset=1),
    "embed overrides the request": _embed(id=5, called_directly=True),
    "body nested deeply": _with(lambda message: message.update(body=body(raw=b"[" * 50_000))),
    "callbacks are text": _embed(callbacks="text"),
    "callbacks of text": _embed(callbacks=["text"]),
    "a callback without a task": _embed(callbacks=[{"args": []}]),
    "errbacks are a number": _embed(errbacks=5),
    "chord is a number": _embed(chord=5),
    "chord is a list": _embed(chord=[]),
    "chain of nulls": _embed(chain=[None]),
    "a chain with options of a wrong type": _embed(chain=[{"task": "esync.status", "options": []}]),
    "a group of numbers": _embed(
        callbacks=[{"task": "celery.group", "subtask_type": "group", "kwargs": {"tasks": [5]}}]
    ),
    **_each("headers", "eta", *_OTHER_TYPES),
    **_each("headers", "expires", *_OTHER_TYPES, "yesterday"),
    **_each("headers", "retries", "1", [], {}, -1, 1e300),
    **_each("headers", "timelimit", *_OTHER_TYPES, ["a", "b"], [1], "1,2"),
    **_each("headers", "task", *_OTHER_TYPES, "", "a b", "x" * 300),
    **_each("headers", "id", *_OTHER_TYPES, "", "x" * 300),
    **_each("headers", "group", *_OTHER_TYPES),
    **_each("headers", "root_id", *_OTHER_TYPES),
    **_each("properties", "reply_to", *_OTHER_TYPES),
    **_each("properties", "correlation_id", *_OTHER_TYPES),
    **_each("properties", "delivery_tag", *_OTHER_TYPES, ""),
    **_each("properties", "priority", "high", [], 1e300, -1),
}

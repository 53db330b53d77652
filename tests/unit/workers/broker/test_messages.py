"""Validation of messages: each invalid one is refused with a reason, and a valid one is returned for kombu."""

import json
from typing import Any

import pytest

from tests.messages import INVALID, body, good
from workers.broker.messages import LARGEST, InvalidMessage, task_of, validated

#: Valid as messages; the worker refuses these later, because it has no such task.
UNKNOWN_TASKS = {"unknown task", "a task of Celery's"}
SIGNATURE: dict[str, Any] = {"task": "esync.cert_copy", "args": ["r1"], "kwargs": {}, "options": {"queue": "q"}}
OPTIONS = ("queue", "routing_key", "task_id", "reply_to")


def message(embed: object = None, **changes: object) -> bytes:
    """A valid message with this `embed`, and with changed fields, named `headers.expires` for example."""
    made = good()
    made["body"] = body([[], {"run": "none"}, embed])
    for name, value in changes.items():
        place, _, field = name.partition("__")
        made[place][field] = value
    return json.dumps(made).encode()


def nested(levels: int) -> dict[str, Any]:
    """A signature in a signature, so many levels deep."""
    return SIGNATURE if levels == 0 else SIGNATURE | {"options": {"link": [nested(levels - 1)]}}


@pytest.mark.parametrize("name", [name for name in INVALID if name not in UNKNOWN_TASKS])
def test_an_invalid_message_is_refused(name: str) -> None:
    """The reason is a printable text."""
    with pytest.raises(InvalidMessage) as caught:
        validated(INVALID[name])
    assert caught.value.reason.isprintable()


@pytest.mark.parametrize("name", sorted(UNKNOWN_TASKS))
def test_a_message_for_an_unknown_task_is_valid(name: str) -> None:
    """Only the worker knows its tasks."""
    assert task_of(validated(INVALID[name]))


def test_a_valid_message_is_returned_unchanged() -> None:
    """Only headers outside of the protocol are removed, because Celery would make attributes from them."""
    given = good()
    found = validated(json.dumps(given).encode())
    removed = {"eta", "stamped_headers", "stamps"}
    assert found == given | {"headers": {k: v for k, v in given["headers"].items() if k not in removed}}
    assert "esync.status" == task_of(found)


@pytest.mark.parametrize(
    "embed",
    [
        None,
        {},
        {"callbacks": None, "errbacks": [], "chain": [SIGNATURE], "chord": SIGNATURE},
        {"chain": [nested(20)]},
        {"callbacks": [{"task": "celery.group", "subtask_type": "group", "kwargs": {"tasks": [SIGNATURE]}}]},
        {"chord": {"task": "celery.chord", "subtask_type": "chord", "kwargs": {"header": [SIGNATURE]}}},
        {"chord": {"task": "celery.chord", "kwargs": {"header": SIGNATURE}, "options": {"chord": None}}},
        {"errbacks": [SIGNATURE | {"options": {"link": None, "link_error": [SIGNATURE], "chord": SIGNATURE}}]},
    ],
    ids=str,
)
def test_valid_signatures_are_accepted(embed: object) -> None:
    """Chains, groups, chords and callbacks, as Celery nests them."""
    assert validated(message(embed))


@pytest.mark.parametrize(
    "embed",
    [
        {"chain": [nested(21)]},
        {"callbacks": [{"task": "x", "subtask_type": "other"}]},
        {"callbacks": [{"task": "x", "subtask_type": []}]},
        {"callbacks": [{"task": "x", "args": {}}]},
        {"callbacks": [{"task": "x", "kwargs": []}]},
        {"callbacks": [{"task": "x", "kwargs": {"header": [{"task": "a b"}]}}]},
        {"chain": [SIGNATURE | {"options": {"link_error": "x"}}]},
        {"chain": [SIGNATURE | {"options": {"chain": [5]}}]},
        {"chain": [SIGNATURE | {"options": {"chord": {"args": []}}}]},
        *(
            {"chain": [SIGNATURE | {"options": {name: "a b"}}]}
            for name in ("queue", "routing_key", "task_id", "reply_to")
        ),
    ],
    ids=str,
)
def test_invalid_signatures_are_refused(embed: object) -> None:
    """Each of these would fail in Celery after the task."""
    with pytest.raises(InvalidMessage, match="embed"):
        validated(message(embed))


@pytest.mark.parametrize(
    ("field", "valid", "invalid"),
    [
        ("headers__retries", 10**9 - 1, 10**9),
        ("headers__retries", 0, -1),
        ("headers__group_index", 3, True),
        ("headers__timelimit", [0, 10**9 - 1], [0, 10**9]),
        ("headers__timelimit", [0.5, None], [None, True]),
        ("headers__timelimit", None, [None, None, None]),
        ("headers__expires", "2030-01-01T00:00:00+00:00", "2030-13-01"),
        ("headers__task", "x" * 255, "x" * 256),
        ("headers__group", "", "\x7f"),
        ("headers__origin", "any text \n", 5),
        ("headers__ignore_result", True, 1),
        ("headers__redelivered", None, "no"),
        ("properties__priority", 255, 256),
        ("properties__priority", None, -1),
        ("properties__delivery_tag", "!", " "),
        ("properties__delivery_info", None, []),
        ("properties__delivery_info", {"exchange": "", "routing_key": None}, {"exchange": 5}),
        ("properties__delivery_info", {}, {"routing_key": "a b"}),
    ],
)
def test_the_limits_of_each_field(field: str, valid: object, invalid: object) -> None:
    """The last valid value is accepted, and the first invalid one is refused with the name of its field."""
    assert validated(message(**{field: valid}))
    with pytest.raises(InvalidMessage, match=field.partition("__")[2] if "delivery_info" not in field else "."):
        validated(message(**{field: invalid}))


def test_the_size_has_a_limit() -> None:
    """A message of exactly the largest size is accepted, one byte more is refused."""
    item = message()
    assert validated(item + b" " * (LARGEST - len(item)))
    with pytest.raises(InvalidMessage, match="larger than 1,000,000 bytes"):
        validated(item + b" " * (LARGEST - len(item) + 1))


@pytest.mark.parametrize("encoding", [None, "utf-8"])
def test_a_body_may_be_plain_text(encoding: str | None) -> None:
    """With no body_encoding, or with utf-8, the body is JSON and not base64."""
    given = good()
    given["properties"]["body_encoding"] = encoding
    given["body"] = json.dumps([[], {}, None])
    assert validated(json.dumps(given).encode())["body"] == given["body"]


@pytest.mark.parametrize("charset", [None, "UTF-8", "utf-8", "us-ascii", "ASCII"])
def test_the_charset_may_be_in_upper_case(charset: str | None) -> None:
    """UTF-8 and ASCII are accepted under their usual names."""
    given = good()
    given["content-encoding"] = charset
    assert validated(json.dumps(given).encode())


def test_displayed_texts_are_printable_and_short() -> None:
    """Controls are escaped, a long text is cut, and other values stay."""
    found = validated(message(headers__argsrepr="a\n\x1bü", headers__kwargsrepr="x" * 5000, headers__origin="x" * 1024))
    headers = found["headers"]
    assert ("a\\n\\x1bü", "x" * 1024, "x" * 1024, 0) == tuple(
        headers[name] for name in ("argsrepr", "kwargsrepr", "origin", "retries")
    )

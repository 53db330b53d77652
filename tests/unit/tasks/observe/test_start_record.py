"""The start record: what the agent writes is read, and everything else is no record."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ektron.facts.service import ServiceEvidence, ServiceFacts, StartRecord
from tasks.observe import start_record
from workers.winrm import operations as ops
from workers.winrm.operations import Reply

OWN = r"C:\ProgramData\esync-rollout"
STARTED = datetime(2026, 11, 23, 12, tzinfo=UTC)
WHOLE = {"service": "S", "pid": 4, "started": "2026-11-23T12:00:00.0000000Z", "loaded": {"a": "1"}}


def read(data: bytes) -> StartRecord | None:
    """The record in a file with these bytes."""
    content = base64.b64encode(data).decode()
    return start_record.record_in(Reply(start_record.question(OWN), {"ok": True, "data": content}))


def test_what_the_agent_writes_is_read() -> None:
    """With the time of the node, whose last digit is dropped as in every time."""
    expected = StartRecord(service="S", pid=4, started=STARTED, loaded={"a": "1"})
    assert expected == read(json.dumps(WHOLE).encode() + b"\n")
    assert expected.model_copy(update={"loaded": None}) == read(json.dumps({**WHOLE, "loaded": None}).encode())


@pytest.mark.parametrize(
    "wrong",
    [
        {"service": 7},
        {"service": "x" * 1025},
        {"pid": "four"},
        {"started": "yesterday"},
        {"started": "2026-11-23T12:00:00"},
        {"loaded": ["a"]},
        {"loaded": {"a": 1}},
        {"loaded": {str(n): "h" for n in range(101)}},
        {"more": 1},
    ],
    ids=str,
)
def test_another_shape_is_no_record(wrong: dict[str, object]) -> None:
    """Fields of other types, of any length, or that we do not know."""
    assert read(json.dumps({**WHOLE, **wrong}).encode()) is None


nested = st.recursive(st.none() | st.text() | st.integers(), st.lists)


@given(st.binary(max_size=200) | nested.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_are_an_error(data: bytes) -> None:
    """Whatever is in the file, it is a record or it is none."""
    assert read(data) is None


@pytest.mark.parametrize("error", ["not_found", "invalid", "access_denied", "failed"])
def test_a_file_that_cannot_be_read_is_no_record(error: str) -> None:
    """Missing, too large, or forbidden."""
    assert start_record.record_in(Reply(start_record.question(OWN), {"ok": False, "error": error})) is None


@given(st.integers(1, 2**31), st.none() | st.integers(0, 10**9).map(lambda us: STARTED + timedelta(microseconds=us)))
def test_an_outdated_process_is_recognised(pid: int, started: datetime | None) -> None:
    """What is written about a process is about this process, and about no other one."""
    service = ServiceFacts(name="S", pid=pid, started=started)
    fields: dict[str, Any] = dict(start_record.outdated(OWN, service).fields)
    record = read(ops.data_of(Reply(ops.hello(), {"ok": True, "data": fields["data"]})))
    assert record is not None
    assert (True, None) == (record.is_about(service), record.loaded)
    assert not record.is_about(service.model_copy(update={"pid": pid + 1}))
    assert not record.is_about(service.model_copy(update={"started": STARTED - timedelta(seconds=1)}))
    assert not record.is_about(service.model_copy(update={"name": "T"}))


@given(st.integers(1, 2**31), st.integers(0, 10**9), st.dictionaries(st.text(max_size=20), st.text(max_size=64)))
def test_a_start_that_was_seen_is_recognised(pid: int, microseconds: int, inputs: dict[str, str]) -> None:
    """The record of a process that we did not start says that this process has loaded what was seen."""
    started = STARTED + timedelta(microseconds=microseconds)
    evidence = ServiceEvidence(service=ServiceFacts(name="S", pid=pid, started=started), inputs=inputs)
    fields: dict[str, Any] = dict(start_record.seen(OWN, evidence).fields)
    record = read(ops.data_of(Reply(ops.hello(), {"ok": True, "data": fields["data"]})))
    assert record is not None
    assert (True, inputs) == (record.is_about(evidence.service), record.loaded)

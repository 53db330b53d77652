"""Which event a worker sends about a step that has ended, and what it says."""

from types import SimpleNamespace
from unittest.mock import Mock, call

import pytest

from workers.broker.consumer import Request
from workers.broker.notes import FAILURE


def request(task_id: str) -> tuple[Request, Mock]:
    """A request without a message, and what it sends its events with."""
    made: Request = Request.__new__(Request)
    made.id, made._eventer, made._task = task_id, Mock(enabled=True), SimpleNamespace(send_events=True)
    return made, made._eventer.send


def test_a_noted_failure_is_sent_in_place_of_the_success() -> None:
    """The success of a task with a noted failure is sent as one event `task-failed`, with text and run time only."""
    made, sent = request("a")
    FAILURE.write("a", "P1: disk full")
    made.send_event("task-succeeded", result="{'status': 'failed'}", runtime=1.5)
    assert [call("task-failed", uuid="a", exception="P1: disk full", runtime=1.5)] == sent.mock_calls


@pytest.mark.parametrize("event", ["task-started", "task-rejected", "task-retried", "task-failed"])
def test_every_other_event_is_sent_as_it_is(event: str) -> None:
    """Only `task-succeeded` is replaced; a note made before another event stays for it."""
    made, sent = request("a")
    FAILURE.write("a", "P1: disk full")
    made.send_event(event, exception="e")
    assert [call(event, uuid="a", exception="e")] == sent.mock_calls
    assert FAILURE.take("a") == "P1: disk full"


def test_a_note_is_for_one_task_and_once() -> None:
    """The next task of the same thread, and the same task again, are sent as succeeded."""
    for noted, ended in (("a", "b"), ("a", "a"), ("", "a")):
        if noted:
            FAILURE.write(noted, "P1: disk full")
        made, sent = request(ended)
        made.send_event("task-succeeded", result="r", runtime=1)
        wanted = "task-failed" if noted == ended else "task-succeeded"
        assert [wanted] == [sent_call.args[0] for sent_call in sent.mock_calls]

"""What the task of a step notes for Flower."""

from unittest.mock import Mock

import pytest
from celery import Celery

from tasks.celery_tasks import register_steps
from workers.broker.notes import FAILURE
from workers.masks import hide
from workers.records import Status, StepOutcome, now
from workers.settings import Secret


def noted(status: Status, message: str) -> tuple[dict[str, str], str]:
    """The result of a task whose step ended so, and the failure that it noted."""
    begun = now()
    outcome = StepOutcome(
        run="r", turn="t", node="P1", step="config_edit", status=status, slug="agent_failed", message=message,
        started=begun, ended=begun,
    )  # fmt: skip
    app = Celery("test", set_as_current=False)
    register_steps(app, lambda: Mock(run=Mock(return_value=outcome)))
    task = app.tasks["esync.config_edit"]
    task.push_request(id="task-1")
    result: dict[str, str] = task("r", "t", "P1")
    return result, FAILURE.take("task-1")


@pytest.mark.parametrize("status", [Status.FAILED, Status.UNREACHABLE])
def test_a_failure_is_noted_with_node_and_message(status: Status) -> None:
    """A failed or unreachable step notes node, step, status, slug and message; the task's result has none of it."""
    result, text = noted(status, "P1: the disk is full")
    assert f"P1: config_edit {status} (agent_failed): the disk is full" == text
    assert {"run": "r", "node": "P1", "step": "config_edit", "status": status.value} == result


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.FAILED, Status.UNREACHABLE}))
def test_every_other_status_is_a_success(status: Status) -> None:
    """A step that changed something, changed nothing, was skipped or cancelled notes no failure."""
    assert noted(status, "no failure")[1] == ""


def test_the_message_of_a_node_is_made_safe() -> None:
    """Control characters and lines of a node's message become one short line, and a known secret is masked."""
    hide(Secret("PLANTED-SECRET"))
    _, text = noted(Status.FAILED, "a\x1b[2J\nfake line\u202e password PLANTED-SECRET " + "x" * 5000)
    assert text.startswith("P1: config_edit failed (agent_failed): a [2J fake line\ufffd password *** xxx")
    assert text.isprintable()
    assert len(text) == 1000

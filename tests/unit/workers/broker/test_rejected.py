"""What stays in memory of a message that goes back to its queue."""

import gc
import weakref
from types import SimpleNamespace
from unittest.mock import Mock, call

from celery import Celery
from celery.app.trace import build_tracer
from celery.exceptions import Reject

from tasks.execution.logons import NoSlot
from workers.broker.consumer import Request


def test_nothing_stays_of_a_rejected_message() -> None:
    """What Celery makes of the rejection, half a megabyte, goes without a search for garbage."""
    app = Celery("rejecting", broker="memory://", set_as_current=False)

    def claimed() -> None:
        raise NoSlot("the node is busy")

    @app.task(name="rejecting")  # type: ignore[untyped-decorator] # Celery has no types
    def rejecting() -> None:
        try:
            claimed()
        except NoSlot as busy:
            raise Reject(str(busy), requeue=True) from None

    made: Request = Request.__new__(Request)
    made.id, made._eventer, made._task = "a", Mock(enabled=True), SimpleNamespace(send_events=True)
    made.acknowledged, made._on_reject, made._connection_errors = False, Mock(), ()
    gc.disable()
    try:
        failed = build_tracer("rejecting", rejecting, app=app)("a", (), {}).retval
        rest = weakref.ref(failed)
        made.on_failure(failed, return_ok=True)
        del failed
        assert rest() is None
    finally:
        gc.enable()
    assert [call("task-rejected", uuid="a", requeue=True)] == made._eventer.send.mock_calls
    assert made.acknowledged

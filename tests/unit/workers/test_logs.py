"""Logs: what a line contains, and what it never contains."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from celery import Celery
from celery.app.trace import build_tracer
from celery.exceptions import Reject
from hypothesis import given
from hypothesis import strategies as st

from workers import logs, masks
from workers.errors import InputRefused
from workers.logger import logger
from workers.settings import Secret

PLANTED = 'Pl4nted "Pass\\w0rd" ü'


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Restores the logging of the test process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    masks._hidden.clear()


def written(*, as_json: bool = True) -> io.StringIO:
    """A stream that logging is configured with."""
    stream = io.StringIO()
    logs.configure("INFO", as_json=as_json, stream=stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    """The lines of a stream, parsed as JSON."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_run_and_node() -> None:
    """Inside `bound` each line has run, node and step; outside it has none."""
    stream = written()
    with logs.bound(run="r1", node="S1", step="config_edit"):
        logger("esync.test").info("written", files=3)
    logger("esync.test").info("idle")
    inside, outside = lines(stream)
    assert {"run": "r1", "node": "S1", "step": "config_edit", "files": 3, "event": "written"}.items() <= inside.items()
    assert {"level": "info", "logger": "esync.test"}.items() <= inside.items()
    assert "run" not in outside


def test_lines_of_libraries_have_the_same_form() -> None:
    """A record of the standard library becomes one JSON line with the bound values and its extra fields."""
    stream = written()
    with logs.bound(run="r1"):
        logging.getLogger("celery.worker").warning("lost %s", "connection", extra={"tries": 2})
    assert {"event": "lost connection", "run": "r1", "tries": 2, "level": "warning"}.items() <= lines(stream)[0].items()


@pytest.mark.parametrize("as_json", [True, False])
def test_a_hidden_value_is_masked(*, as_json: bool) -> None:
    """In the event, in data, in a repr and in a traceback, in both formats."""
    stream = written(as_json=as_json)
    masks.hide(Secret(PLANTED))
    log = logger("esync.test")
    event = f"password is {PLANTED}"
    log.info(event, data={"inner": [PLANTED]}, secret=Secret(PLANTED), error=ValueError(PLANTED))
    logging.getLogger("lib").info("sent %r", PLANTED)
    log.error("failed", exc_info=RuntimeError(PLANTED))
    output = stream.getvalue()
    assert "Pl4nted" not in output
    assert "RuntimeError" in output


@pytest.mark.parametrize("as_json", [True, False])
def test_a_password_in_a_url_is_masked(*, as_json: bool) -> None:
    """User and host of a URL stay readable."""
    stream = written(as_json=as_json)
    logger("esync.test").info("connecting", url="redis://ops:hunter2@db.example:6379/0")
    logger("esync.test").info("connecting to rediss://:hunter2@db.example/0")
    output = stream.getvalue()
    assert "hunter2" not in output
    assert "redis://ops:***@db.example:6379/0" in output


def test_a_traceback_has_no_local_variables() -> None:
    """The text format has the traceback without the values of variables."""
    stream = written(as_json=False)

    def fail(password: str) -> None:
        raise RuntimeError(f"{len(password)} characters")

    try:
        fail("eulav-l4col"[::-1])
    except RuntimeError:
        logger("esync.test").exception("failed")
    assert "loc4l-value" not in stream.getvalue()


@given(st.text(min_size=masks.SHORTEST, max_size=30), st.text(max_size=20))
def test_scrubbing_removes_any_value(value: str, around: str) -> None:
    """A hidden value is not in a JSON line, whatever its characters, unless it is part of the mask."""
    masks._hidden.clear()
    masks.hide(Secret(value))
    scrubbed = masks.scrubbed(json.dumps({"event": value}))
    masks._hidden.clear()
    assert {"event": "***"} == json.loads(scrubbed) or value in '{"event": "***"}'
    assert around == masks.scrubbed(around) or "://" in around


def test_short_values_are_not_masked() -> None:
    """Masking one to three characters would make every line unreadable."""
    masks.hide(Secret("e"))
    assert "event" == masks.scrubbed("event")


def test_debug_does_not_log_complete_messages_of_libraries() -> None:
    """At DEBUG our own lines are logged, those of the message library are not."""
    stream = io.StringIO()
    logs.configure("debug", as_json=True, stream=stream)
    logging.getLogger("kombu.transport").debug("body: ...")
    logger("esync.test").debug("ours")
    assert ["ours"] == [line["event"] for line in lines(stream)]


@pytest.mark.parametrize(("level", "shown"), [("DEBUG", True), ("INFO", False), ("ERROR", False)])
def test_a_line_for_each_task_is_only_for_debugging(level: str, *, shown: bool) -> None:
    """Celery has two lines for each task; its errors are logged at every level."""
    stream = io.StringIO()
    logs.configure(level, as_json=True, stream=stream)
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).info("a task")
        logging.getLogger(name).error("an error")
    said = stream.getvalue()
    assert (2 * shown, 2) == (said.count("a task"), said.count("an error"))


@pytest.mark.parametrize(("level", "shown"), [("INFO", 1), ("WARNING", 0)])
def test_a_step_that_waits_is_one_line_and_no_error(level: str, shown: int) -> None:
    """Celery warns of a task that returns to its queue, with two tracebacks. A failed one keeps its traceback."""
    app = Celery(set_as_current=False)
    stream = io.StringIO()
    logs.configure(level, as_json=True, stream=stream)

    @app.task(name="esync.install_check", shared=False)  # type: ignore[untyped-decorator] # Celery has no types
    def waits() -> None:
        raise Reject("S1: other nodes are logging on", requeue=True)

    @app.task(name="esync.other", shared=False)  # type: ignore[untyped-decorator] # the same
    def fails() -> None:
        raise KeyError("x")

    for task in (waits, fails):
        build_tracer(task.name, task, app=app)("an-id", (), {}, {"id": "an-id", "delivery_info": {}})
    *said, other = lines(stream)
    same = {"level": "info", "task": "esync.install_check", "reason": "S1: other nodes are logging on"}
    assert [{"event": "a step returns to its queue", "logger": "celery.app.trace", **same}] * shown == [
        {name: value for name, value in line.items() if name != "timestamp"} for line in said
    ]
    assert "KeyError" in str(other["exception"])


def test_an_unknown_level_is_refused() -> None:
    """The error names the variable."""
    with pytest.raises(InputRefused) as caught:
        logs.configure("LOUD")
    assert "ESYNC_LOG_LEVEL" in caught.value.remedy

"""Logs: one line per event on stderr, as JSON or for people, with run, node and step where they are known.

No secret should reach a log; they are masked here all the same (`masks`).
"""

import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TextIO

import structlog
from structlog.contextvars import bound_contextvars
from structlog.typing import EventDict, Processor, WrappedLogger

from workers.errors import InputRefused
from workers.masks import scrubbed
from workers.texts import cleaned

__all__ = ["bound", "configure", "writer"]

# Libraries that log complete messages, headers or requests at DEBUG.
_VERBOSE = ("amqp", "kombu", "spnego", "winrm", "asyncio")
_TRACE = "celery.app.trace"
# Two lines a task. The run store has more about each step, and a line costs as much as a request to the store.
_PER_TASK = ("celery.worker.strategy", _TRACE)
_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def _through_logging() -> None:
    """Our lines become records of `logging`. By default they would go to stdout."""
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


_through_logging()  # also in a process that configures its logs later, or never


def bound(*, run: str = "", turn: str = "", node: str = "", step: str = "") -> AbstractContextManager[object]:
    """Adds these to every line of this thread inside the `with` block."""
    given = {"run": run, "turn": turn, "node": node, "step": step}
    return bound_contextvars(**{name: value for name, value in given.items() if value})


def writer(name: str) -> structlog.stdlib.BoundLogger:
    """What writes the lines of one module's logger."""
    found: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return found


def _scrubbing(render: Callable[[WrappedLogger, str, EventDict], str | bytes]) -> Processor:
    """Masks the complete line as the last processor: no traceback or repr is added after it."""

    def scrub(log: WrappedLogger, method: str, event: EventDict) -> str:
        rendered = render(log, method, event)
        return scrubbed(rendered if isinstance(rendered, str) else rendered.decode())

    return scrub


def _renderer(stream: TextIO, *, as_json: bool) -> tuple[Processor, ...]:
    if as_json:
        return (structlog.processors.format_exc_info, _scrubbing(structlog.processors.JSONRenderer()))
    # A plain traceback: the formatted one shows local variables.
    console = structlog.dev.ConsoleRenderer(
        colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
    )
    return (_one_line, _scrubbing(console))


def _one_line(log: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Cleans texts for a terminal; JSON escapes them anyway. A traceback keeps its lines."""
    del log, method
    kept = {"exception", "stack"}
    return {
        name: cleaned(value) if isinstance(value, str) and name not in kept else value for name, value in event.items()
    }


def _waits(record: logging.LogRecord) -> bool:
    """A step that waits returns to its queue: one line. Celery warns of it with two tracebacks and all arguments."""
    told = getattr(record, "data", {})
    if told.get("description") == "rejected" and record.exc_info:
        reason = getattr(record.exc_info[1], "reason", "")
        record.levelno, record.levelname, record.exc_info = logging.INFO, "INFO", None
        record.msg, record.args = "a step returns to its queue", ()
        del record.data  # type: ignore[attr-defined] # Celery's
        vars(record).update(task=told["name"], reason=reason)
        return logging.getLogger().isEnabledFor(logging.INFO)
    return True


def configure(level: str = "INFO", *, as_json: bool | None = None, stream: TextIO | None = None) -> None:
    """Configures all logging of this process: ours and that of every library.

    Args:
        level: a name such as `INFO`.
        as_json: one JSON object per line; by default when the stream is not a terminal.
        stream: stderr by default; stdout is for data.

    Raises:
        InputRefused: there is no such level.
    """
    out = stream or sys.stderr
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise InputRefused(
            f"there is no log level {level[:20]!r}", remedy="set ESYNC_LOG_LEVEL to DEBUG, INFO or WARNING"
        )
    _through_logging()
    final = _renderer(out, as_json=not out.isatty() if as_json is None else as_json)
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    logging.getLogger(_TRACE).addFilter(_waits)
    for name in _VERBOSE:
        logging.getLogger(name).setLevel(max(number, logging.INFO))
    for name in _PER_TASK:
        logging.getLogger(name).setLevel(number if number <= logging.DEBUG else max(number, logging.WARNING))

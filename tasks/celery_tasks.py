"""The Celery tasks of the steps: explicit names, ids as arguments, no logic of their own."""

import time
from collections import UserDict
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Protocol

from celery import Celery
from celery.exceptions import Reject
from pydantic import ConfigDict, Field, ValidationError, validate_call

from tasks.execution.runner import NodeBusy, NoSuchStep, NotReady, StepRunner
from tasks.steps.registry import STEPS
from workers.broker.notes import COMPLETE, FAILURE
from workers.broker.phases import report_phase
from workers.errors import RecordRefused, RunUnknown, StoreUnavailable
from workers.logger import logger
from workers.logs import bound
from workers.masks import scrubbed
from workers.records import Status, StepOutcome
from workers.texts import cleaned

__all__ = ["register_steps"]

log = logger(__name__)
Id = Annotated[str, Field(max_length=200)]
_SHOWN = 1000  #: characters of a failure in Flower at most


class _Task(Protocol):
    """What is used of Celery's task, which has no types."""

    request: Any  #: its `id` is the task's


class _Told(UserDict[str, str]):
    """What a task returns, for Flower and for who asked. No dict: of one, Celery makes a display that takes a while."""

    def __json__(self) -> dict[str, str]:
        """As a stored result."""
        return self.data


def register_steps(app: Celery, runner: Callable[[], StepRunner]) -> None:
    """Registers a task `esync.<step>` for each step.

    Args:
        app: the application that serves them.
        runner: returns the one runner of this process; called at each message, so that it may be created late.
    """
    for step in STEPS:
        _register(app, runner, step)


def _register(app: Celery, runner: Callable[[], StepRunner], step: str) -> None:
    # No result is stored: nothing reads it.
    @app.task(name=f"esync.{step}", bind=True, shared=False, ignore_result=True)  # type: ignore[untyped-decorator] # Celery has no types
    def shell(task: _Task, *args: object, **kwargs: object) -> _Told:
        """Runs the step on the node (`run`, `turn`, `node`). Flower shows what is returned; the run store counts."""
        try:
            run, turn, node = _named(*args, **kwargs)
        except ValidationError as error:
            return _Told(step=step, status="refused", message=f"{error.error_count()} arguments are wrong")
        with bound(run=run, turn=turn, node=node, step=step):
            return _Told(run=run, node=node, step=step, status=_run(runner(), task, (run, turn, node, step)))


def _ids(run: Id, turn: Id, node: Id) -> tuple[str, str, str]:
    return run, turn, node


_named: Callable[..., tuple[str, str, str]] = validate_call(config=ConfigDict(strict=True))(_ids)


def _run(runner: StepRunner, task: _Task, names: tuple[str, str, str, str]) -> str:
    """The status of the outcome; or the reason why there is none."""
    try:
        COMPLETE.write(task.request.id, False)
        return _ended(task, runner.run(*names, report_phase=_send_phase, report_end=partial(_note_end, task)))
    except NodeBusy as busy:
        # Back to the end of the queue: the chord stays intact, and no thread waits.
        raise Reject(str(busy), requeue=True) from None
    except NotReady:
        # Not back to the queue, where it would return again and again: a resume sends the step again.
        return "not_now"
    except RunUnknown:
        return "forgotten"
    except (NoSuchStep, RecordRefused) as error:
        log.warning("the step is not run", reason=str(error))
        return "refused"
    except StoreUnavailable as error:
        log.warning("the run store does not answer; the step goes back to the queue", error=str(error))
        time.sleep(1)
        raise Reject("run store unavailable", requeue=True) from None


def _note_end(task: _Task, complete: bool) -> None:  # noqa: FBT001 - as the runner calls it
    COMPLETE.write(task.request.id, complete)


def _ended(task: _Task, outcome: StepOutcome) -> str:
    """The status of the outcome; a failure is noted for Flower. A node's message is text from another machine."""
    if outcome.status in {Status.FAILED, Status.UNREACHABLE}:
        message = outcome.message.removeprefix(f"{outcome.node}: ")
        what = f"{outcome.node}: {outcome.step} {outcome.status} ({outcome.slug}): {message}"
        FAILURE.write(task.request.id, cleaned(scrubbed(what), _SHOWN))
    return outcome.status.value


def _send_phase(phase: str) -> None:
    """Reports the phase to Flower. Never raises: a problem with Flower must not make a step slower or fail."""
    try:
        report_phase(phase)
    except Exception as error:  # noqa: BLE001 - any library below Celery may raise
        log.debug("Flower could not be notified", phase=phase, error=type(error).__name__)

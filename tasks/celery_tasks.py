"""The Celery shells around the steps: explicit names, ids as arguments, and nothing else."""

import time
from collections.abc import Callable
from typing import Annotated, Any

from celery import Celery
from celery.exceptions import Reject
from pydantic import ConfigDict, Field, ValidationError, validate_call

from tasks.execution.runner import NodeBusy, NotAsked, NotNow, StepRunner
from tasks.steps.registry import STEPS
from workers.errors import RecordRefused, RunUnknown, StoreUnavailable
from workers.logs import bound, logger

__all__ = ["register_steps"]

log = logger(__name__)
Id = Annotated[str, Field(max_length=200)]


def register_steps(app: Celery, runner: Callable[[], StepRunner]) -> None:
    """Registers a task `esync.<step>` for each step.

    Args:
        app: the application that serves them.
        runner: gives the process's one runner; asked at each message, so that it may be made late.
    """
    for step in STEPS:
        _register(app, runner, step)


def _register(app: Celery, runner: Callable[[], StepRunner], step: str) -> None:
    @app.task(name=f"esync.{step}", bind=True)  # type: ignore[untyped-decorator]
    def shell(task: Any, *args: Any, **kwargs: Any) -> dict[str, str]:  # noqa: ANN401 - Celery's task has no type
        """Runs the step on the node (`run`, `turn`, `node`); the result is a bell, the record lies in the run store."""
        try:
            run, turn, node = _named(*args, **kwargs)
        except ValidationError as error:
            return {"step": step, "status": "refused", "message": f"{error.error_count()} arguments are wrong"}
        with bound(run=run, turn=turn, node=node, step=step):
            return {"run": run, "node": node, "step": step, "status": _ran(runner(), task, run, turn, node, step)}


@validate_call(config=ConfigDict(strict=True))
def _named(run: Id, turn: Id, node: Id) -> tuple[str, str, str]:
    return run, turn, node


def _ran(runner: StepRunner, task: Any, run: str, turn: str, node: str, step: str) -> str:  # noqa: ANN401 - Celery's task; a step's names
    """The outcome's status; or why there is none."""
    try:
        return runner.run(run, turn, node, step, say=lambda phase: _told(task, phase)).status.value
    except NodeBusy as busy:
        # Back to the end of the queue: the chord stays intact, and nobody's thread is held.
        raise Reject(str(busy), requeue=True) from None
    except NotNow:
        # Not back to the queue, where it would go round and round: whoever resumes the run sends it again.
        return "not_now"
    except RunUnknown:
        return "forgotten"
    except (NotAsked, RecordRefused) as error:
        log.warning("the step is left alone", reason=str(error))
        return "refused"
    except StoreUnavailable as error:
        log.warning("the run store does not answer; the step goes back to the queue", error=str(error))
        time.sleep(1)
        raise Reject("run store unavailable", requeue=True) from None


def _told(task: Any, phase: str) -> None:  # noqa: ANN401 - Celery's task has no type
    """Tells Flower. Not at any price: a window must not hold up a step, nor make it fail."""
    try:
        task.send_event(f"task-{phase}", retry=False)
    except Exception as error:  # noqa: BLE001 - of whatever library
        log.debug("Flower was not told", phase=phase, error=type(error).__name__)

"""Damaged data in the shared store: whatever esync did not write in that form becomes one error about one run."""

import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from pydantic import ValidationError
from redis.exceptions import ResponseError

from workers.errors import RecordRefused, StoreUnavailable
from workers.records import RunRecord, StepOutcome
from workers.redis.connection import takes_no_writes
from workers.secrets.seal import InvalidSeal
from workers.store.documents import place_in

__all__ = ["damage_reported", "reports_damage"]

P = ParamSpec("P")
R = TypeVar("R")

#: Errors of the server for a key of another type, or of a script for a value that it cannot use.
_DAMAGED = re.compile(
    r"WRONGTYPE|user_script|Error running script|not an? (integer|float)|equal or smaller", re.IGNORECASE
)


class damage_reported:  # noqa: N801 - like a function; no generator: all that is read passes here
    """Maps errors of reading to RecordRefused, which names the run.

    Args:
        run_id: the run.
        what: the noun for what is read.

    Raises:
        RecordRefused: a text is not sealed, not JSON, lacks a field or is not UTF-8; a key has another type.
    """

    __slots__ = ("_run_id", "_what")

    def __init__(self, run_id: str, what: str = "record") -> None:
        self._run_id = run_id
        self._what = what

    def __enter__(self) -> None:
        """Begins."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Maps the error, if there is one that says that data is damaged."""
        if isinstance(error, InvalidSeal):
            raise RecordRefused(self._run_id, f"the {self._what} of run {self._run_id} {error}") from None
        if isinstance(error, ValueError | LookupError | TypeError) or _is_damage(error):
            raise _unreadable(self._run_id, self._what, error) from error


def _is_damage(error: BaseException | None) -> bool:
    """Whether the server says so."""
    cause = error.__cause__ if isinstance(error, StoreUnavailable) else None
    if type(cause) is not ResponseError or takes_no_writes(cause):  # every error of a script names the script
        return False
    return _DAMAGED.search(str(cause)) is not None


def _unreadable(run_id: str, what: str, error: BaseException | None) -> RecordRefused:
    if isinstance(error, ValidationError):
        wrong = f"({place_in(error)}): another version of esync wrote it, or another program"
        return RecordRefused(run_id, f"the {what} of run {run_id} cannot be read {wrong}")
    return RecordRefused(run_id, f"the {what} of run {run_id} cannot be read: it was not written by esync")


def reports_damage(what: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Applies `damage_reported` to a method; its first argument is the id of a run, a run, or an outcome."""

    def decorated(method: Callable[P, R]) -> Callable[P, R]:
        @wraps(method)
        def call(*args: P.args, **named: P.kwargs) -> R:
            with damage_reported(_run_of(args[1]), what):
                return method(*args, **named)

        return call

    return decorated


def _run_of(argument: object) -> str:
    if isinstance(argument, RunRecord):
        return argument.id
    return argument.run if isinstance(argument, StepOutcome) else str(argument)

"""The border to what lies in the shared store: whatever is not as we wrote it becomes one sentence about one run."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

from redis.exceptions import ResponseError

from workers.errors import RecordRefused, StoreUnavailable
from workers.secrets.seal import NotOurs

__all__ = ["about", "of_a_run"]

C = TypeVar("C", bound=Callable[..., Any])

#: What the server says of a key of another type, or a script of a value it cannot work with.
_DAMAGED = re.compile(
    r"WRONGTYPE|user_script|Error running script|not an? (integer|float)|equal or smaller", re.IGNORECASE
)


@contextmanager
def about(run_id: str, what: str = "record") -> Iterator[None]:
    """Maps what cannot be read to RecordRefused, which names the run.

    Raises:
        RecordRefused: a text is not ours, is no JSON, lacks a field or is no UTF-8; a key has another type.
    """
    try:
        yield
    except NotOurs as why:
        raise RecordRefused(run_id, f"the {what} of run {run_id} {why}") from None
    except (ValueError, LookupError, TypeError) as error:
        raise _unreadable(run_id, what) from error
    except StoreUnavailable as error:
        if type(error.__cause__) is ResponseError and _DAMAGED.search(str(error.__cause__)):
            raise _unreadable(run_id, what) from error
        raise


def _unreadable(run_id: str, what: str) -> RecordRefused:
    return RecordRefused(run_id, f"the {what} of run {run_id} cannot be read: something else than esync wrote there")


def of_a_run(method: C) -> C:
    """A method of the store about the run that its first argument names, or is a record or outcome of."""

    @wraps(method)
    def call(store: object, first: Any, *args: Any, **named: Any) -> Any:  # noqa: ANN401 - passed through
        run_id = first if isinstance(first, str) else getattr(first, "run", None) or first.id
        with about(run_id, _WORDS.get(method.__name__, method.__name__)):
            return method(store, first, *args, **named)

    return cast("C", call)


_WORDS = {
    "create": "record",
    "run": "record",
    "save": "record",
    "forget": "record",
    "progress": "record",
    "flags": "flag",
    "record": "outcome",
    "outcomes": "outcome",
    "note": "history",
    "events": "history",
    "chain": "history",
    "put": "document",
    "documents": "document",
    "claim": "lease",
    "renew": "lease",
    "release": "lease",
    "reap": "lease",
    "leases": "lease",
    "number": "lease",
}

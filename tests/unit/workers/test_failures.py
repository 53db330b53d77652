"""Every error of the tree has one failure class, and retries are counted by it."""

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.cluster import Retries
from tests.places import DOCS
from workers import errors
from workers.errors import (
    AccessDenied,
    AgentFailed,
    BalancerFailed,
    BundleRefused,
    Cancelled,
    ClusterLocked,
    Conflict,
    ConnectionLost,
    DeadlineExceeded,
    EsyncError,
    Failure,
    FileTrouble,
    InputRefused,
    KeyReused,
    LeftDrained,
    LogonRefused,
    MethodRefused,
    Misused,
    NodeError,
    NodeRefused,
    NotAllowed,
    NotEditable,
    NotFound,
    NotLoggedOn,
    PoolTooSmall,
    RecordRefused,
    RunUnknown,
    SecretUnavailable,
    ServiceLost,
    SessionLost,
    Stale,
    StoreUnavailable,
    TooManyRequests,
    TooManyRuns,
    Unreachable,
)
from workers.records import Status, StepOutcome, now

#: The whole tree, leaves and branches.
CLASSES: dict[type[EsyncError], Failure | None] = {
    EsyncError: Failure.FAILED,
    InputRefused: Failure.FAILED,
    Misused: Failure.FAILED,
    SecretUnavailable: Failure.FAILED,
    FileTrouble: Failure.FAILED,
    ServiceLost: Failure.FAILED,
    StoreUnavailable: Failure.FAILED,
    RunUnknown: Failure.FAILED,
    RecordRefused: Failure.FAILED,
    ClusterLocked: Failure.FAILED,
    TooManyRuns: Failure.FAILED,
    NotLoggedOn: Failure.FAILED,
    NotAllowed: Failure.FAILED,
    NotFound: Failure.FAILED,
    KeyReused: Failure.FAILED,
    TooManyRequests: Failure.FAILED,
    BundleRefused: Failure.FAILED,
    Cancelled: None,
    NodeError: Failure.FAILED,
    Unreachable: Failure.UNREACHABLE,
    SessionLost: Failure.UNREACHABLE,
    ConnectionLost: Failure.UNREACHABLE,
    LogonRefused: Failure.REFUSED,
    MethodRefused: Failure.REFUSED,
    AccessDenied: Failure.REFUSED,
    Conflict: Failure.CONFLICT,
    Stale: Failure.STALE,
    DeadlineExceeded: Failure.TIMEOUT,
    NodeRefused: Failure.FAILED,
    NotEditable: Failure.FAILED,
    BalancerFailed: Failure.FAILED,
    PoolTooSmall: Failure.TIMEOUT,
    LeftDrained: Failure.FAILED,
    AgentFailed: Failure.FAILED,
}


def _tree(root: type[EsyncError]) -> Iterator[type[EsyncError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child)


def test_every_error_has_one_class() -> None:
    """The table covers the whole tree; only a cancel by the operator is no failure."""
    assert CLASSES == {error: error.failure for error in _tree(EsyncError)}


def test_every_class_has_an_error() -> None:
    """Each class is used by an error."""
    assert set(Failure) == {failure for failure in CLASSES.values() if failure}


def test_the_drawing_names_the_classes() -> None:
    """The drawn tree names the class of each error whose class is not `failed`."""
    drawn = {line.split()[1]: line for line in (errors.__doc__ or "").splitlines() if "-- " in line}
    for error, failure in CLASSES.items():
        if error.__name__ in drawn:
            marked = "" if failure is Failure.FAILED else f"[{failure or 'no failure'}]"
            assert drawn[error.__name__].endswith(marked)
            assert bool(marked) == drawn[error.__name__].endswith("]")


def test_the_operators_page_names_every_class_with_its_tries() -> None:
    """docs/operating.md has a row for each class, with the default number of attempts."""
    page = (DOCS / "operating.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (\d+)(, always)? \|", page, re.MULTILINE)
    never_retried = (Failure.REFUSED, Failure.STALE)
    assert [(f.value, str(Retries().attempts(f)), ", always" if f in never_retried else "") for f in Failure] == rows


@given(st.builds(Retries))
def test_retries_are_counted_by_class(retries: Retries) -> None:
    """The policy uses the names of the classes; a refused or stale step gets one attempt."""
    for failure in Failure:
        assert getattr(retries, failure.value, 1) == retries.attempts(failure)
    assert {1} == {retries.attempts(failure) for failure in (Failure.REFUSED, Failure.STALE, None)}


@pytest.mark.parametrize("key", ["refused", "stale", "session_lost"])
def test_no_policy_can_retry_a_refused_or_stale_step(key: str) -> None:
    """There is no key that would retry a refused logon."""
    with pytest.raises(ValueError, match=key):
        Retries.model_validate({key: 2})


def test_a_problem_stays_whole() -> None:
    """An error, and the outcome of the step that it ended, give the same record."""
    error = AccessDenied("the file is read-only", remedy="clear the attribute", file="C:\\x")
    at = now()
    outcome = StepOutcome(
        run="r", turn="wave-1", node="P1", step="config_edit", status=Status.FAILED, started=at, ended=at,
        **dict(error.problem),
    )  # fmt: skip
    assert outcome.problem == error.problem
    assert (Failure.REFUSED, "access_denied") == (error.problem.failure, error.problem.slug)
    assert "about" not in outcome.to_json()

"""A client that knows only the API's description, and asks what it allows and what it does not."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import schemathesis
from hypothesis import settings
from schemathesis import Case
from schemathesis.checks import load_all_checks
from schemathesis.core.errors import InvalidSchema
from schemathesis.core.result import Err, Result
from schemathesis.pytest.lazy import get_all_tests

from pipelines.web.openapi import description_of
from tests.openapi_page import application
from tests.sampling import rotated
from tests.unit.pipelines.web.served_site import ServedSite

__all__ = ["conversations"]

_Found = TypeVar("_Found")


def conversations(most: int) -> Iterator[tuple[str, Callable[..., None]]]:
    """Operations of the API, each with its test, which takes the server and the headers of each request.

    All of them in `make exhaustive`, half of them in `make test`: each asks some thirty requests at least.

    Args:
        most: examples that hypothesis generates, beyond those that cover each part of the description.
    """
    load_all_checks()
    api = schemathesis.openapi.from_dict(description_of(application()))
    labels = [_right(one).label for one in api.get_all_operations()]
    chosen = api.include(name=[labels[number] for number in rotated(len(labels), 2, "operations of the API")])
    found = get_all_tests(schema=chosen, test_func=_ask, settings=settings(max_examples=most), given_kwargs=None)
    for one in found:
        operation, test = _right(one)
        yield operation.label, test


def _right(found: Result[_Found, InvalidSchema]) -> _Found:
    if isinstance(found, Err):
        raise found.err()
    return found.ok()


def _ask(case: Case[Any], served: ServedSite, headers: dict[str, str]) -> None:
    ended = served.site.store.names()[-1]
    if case.path_parameters.get("run") and case.meta and case.meta.generation.mode.is_positive:
        case.path_parameters["run"] = ended
    if case.path_parameters.get("cluster") and case.meta and case.meta.generation.mode.is_positive:
        case.path_parameters["cluster"] = "shop"
    case.call_and_validate(base_url=served.server.url, headers=headers)

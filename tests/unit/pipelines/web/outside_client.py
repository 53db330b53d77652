"""A client that knows only the API's description, and asks what it allows and what it does not."""

from collections.abc import Callable, Iterator
from typing import Any

import schemathesis
from hypothesis import settings
from schemathesis import Case
from schemathesis.checks import load_all_checks
from schemathesis.core.result import Err
from schemathesis.pytest.lazy import get_all_tests

from pipelines.web.openapi import description_of
from tests.openapi_page import application
from tests.unit.pipelines.web.served_site import ServedSite

__all__ = ["conversations"]


def conversations(most: int) -> Iterator[tuple[str, Callable[..., None]]]:
    """Each operation of the API with its test, which takes the server and the headers of each request.

    Args:
        most: examples that hypothesis generates, beyond those that cover each part of the description.
    """
    load_all_checks()
    api = schemathesis.openapi.from_dict(description_of(application()))
    found = get_all_tests(schema=api, test_func=_ask, settings=settings(max_examples=most), given_kwargs=None)
    for one in found:
        if isinstance(one, Err):
            raise one.err()
        operation, test = one.ok()
        yield operation.label, test


def _ask(case: Case[Any], served: ServedSite, headers: dict[str, str]) -> None:
    ended = served.site.store.names()[-1]
    if case.path_parameters.get("run") and case.meta and case.meta.generation.mode.is_positive:
        case.path_parameters["run"] = ended
    if case.path_parameters.get("cluster") and case.meta and case.meta.generation.mode.is_positive:
        case.path_parameters["cluster"] = "shop"
    case.call_and_validate(base_url=served.server.url, headers=headers)

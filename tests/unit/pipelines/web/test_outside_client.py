"""An outside client that knows only the API's description asks what it allows, and what it does not."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import settings
from schemathesis import Case

from pipelines.usecases.tokens import Role
from pipelines.web.access import Access
from pipelines.web.openapi import description_of
from tests.openapi_page import application
from tests.sampling import examples
from tests.unit.pipelines.web.served_site import ServedSite, served_site

API = schemathesis.openapi.from_dict(description_of(application()))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedSite]:
    """A server with a run that has ended; no test reaches its rate limits."""
    with served_site(tmp_path_factory.mktemp("clusters"), Access(logons=100_000, starts=100_000)) as started:
        answer = started.client().post("/api/v1/runs", json={"kind": "verify", "cluster": "shop"})
        started.finish(answer.json()["run"])
        yield started


@pytest.fixture(scope="module")
def headers(served: ServedSite) -> dict[str, str]:
    """An administrator's."""
    return {"Authorization": f"Bearer {served.server.token(Role.ADMIN)}"}


@API.parametrize()
@settings(max_examples=examples(100, 2))
def test_every_answer_is_as_described(case: Case[Any], served: ServedSite, headers: dict[str, str]) -> None:
    """No server error, no status, type, body or header but the described ones; what is not allowed is refused."""
    ended = served.site.store.names()[-1]
    if case.path_parameters.get("run") and case.meta and case.meta.generation.mode.is_positive:
        case.path_parameters["run"] = ended
    if case.path_parameters.get("cluster") and case.meta and case.meta.generation.mode.is_positive:
        case.path_parameters["cluster"] = "shop"
    case.call_and_validate(base_url=served.server.url, headers=headers)

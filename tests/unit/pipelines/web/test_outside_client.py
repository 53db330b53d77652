"""An outside client that knows only the API's description asks what it allows, and what it does not."""

from collections.abc import Iterator

import pytest

from pipelines.usecases.tokens import Role
from pipelines.web.access import Access
from tests.sampling import examples
from tests.unit.pipelines.web.served_site import ServedSite, served_site


@pytest.fixture
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedSite]:
    """A server with a run that has ended; no test reaches its rate limits."""
    with served_site(tmp_path_factory.mktemp("clusters"), Access(logons=100_000, starts=100_000)) as started:
        answer = started.client().post("/api/v1/runs", json={"kind": "verify", "cluster": "shop"})
        started.finish(answer.json()["run"])
        yield started


@pytest.mark.timeout(7200)
def test_every_answer_is_as_described(served: ServedSite, subtests: pytest.Subtests) -> None:
    """No server error, no status, type, body or header but the described ones; what is not allowed is refused.

    `make test` asks of half of the operations, chosen by the seed.
    """
    # Not before: loaded while tests are collected, it takes a second of each process of pytest-xdist.
    from tests.unit.pipelines.web.outside_client import conversations  # noqa: PLC0415

    headers = {"Authorization": f"Bearer {served.server.token(Role.ADMIN)}"}
    for operation, test in conversations(examples(100, 2)):
        with subtests.test(operation):
            test(served=served, headers=headers)

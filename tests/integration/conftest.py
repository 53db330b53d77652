"""One broker and worker, shared by the tests of a file that leave them running."""

from collections.abc import Iterator

import pytest

from tests.integration.harness import Harness, harness_at


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """A broker and a worker with short times."""
    with harness_at(tmp_path_factory.mktemp("harness")) as started:
        yield started

"""One worker and broker for the tests of a file that do not harm them."""

from collections.abc import Iterator

import pytest

from tests.integration.harness import Harness, rig_at


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """A broker and a worker with short times."""
    with rig_at(tmp_path_factory.mktemp("rig")) as started:
        yield started

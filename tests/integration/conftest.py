"""One worker and broker for the tests of a file that do not harm them."""

from collections.abc import Iterator

import pytest

from tests.integration.rig import Rig, rig_at


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A broker and a worker with short times."""
    with rig_at(tmp_path_factory.mktemp("rig")) as started:
        yield started

"""One broker and worker, shared by the tests of a file that leave them running; one `esync` that is there at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.harness import Harness, harness_at
from tests.warm_command import warm_esync


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """A broker and a worker with short times."""
    with harness_at(tmp_path_factory.mktemp("harness")) as started:
        yield started


@pytest.fixture(scope="session")
def esync(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The program `esync`, without the time that it takes to load."""
    with warm_esync(tmp_path_factory.mktemp("esync")) as program:
        yield program

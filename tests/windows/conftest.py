"""Nearly-Windows machines for all tests of this folder, and one worker and broker for most of them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.harness import Harness, harness_at, on_disk
from tests.windows.machines import EXE, MEMBERS, NAMES, SERVICE, Farm, farm_at

_MISSING = "put wine-node on PATH and install Debian's packages wine and wine64 (docs/testing.md)"


def need_machines() -> None:
    """Skips the test where such machines cannot run."""
    if not shutil.which("wine-node"):
        pytest.skip(_MISSING)
    if not (shutil.which("wine64") or shutil.which("wine") or Path("/usr/lib/wine/wine64").exists()):
        if os.environ.get("CI"):
            pytest.fail(_MISSING)
        pytest.skip(_MISSING)


@contextmanager
def machines_folder() -> Iterator[Path]:
    """A folder on the disk: a machine's system is linked from there, and would take 700 MB of memory."""
    with tempfile.TemporaryDirectory(prefix="machines-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def farm() -> Iterator[Farm]:
    """Running machines, each with the product's files and a running service, and a simulated server beside them."""
    need_machines()
    with machines_folder() as folder, farm_at(folder, simulated=1, origin=NAMES[0]) as made:
        program = rf"{SERVICE}\{EXE}.exe"  # one to practise on: all servers need the same build
        on_disk(made.lab, MEMBERS[-1], program).write_bytes(made.machines[NAMES[0]].at(program).read_bytes())
        yield made


@pytest.fixture(scope="session")
def harness(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """A broker and a worker process with short times."""
    del farm  # skips before anything is started
    with harness_at(tmp_path_factory.mktemp("harness")) as started:
        yield started

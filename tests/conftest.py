"""What all tests share: a clean environment, and a real Valkey on loopback for those that ask.

A missing server skips on a laptop, with the reason, and fails where CI is set.
"""

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from itertools import count
from pathlib import Path
from typing import NoReturn

import pytest
from redis import Redis
from xdist.scheduler import LoadFileScheduling

from tests.places import folder_in_memory
from tests.sampling import seed  # loads the profile of hypothesis, too, before the first test is imported
from tests.second_try import SecondTry
from workers.errors import InputRefused
from workers.redis.connection import connect
from workers.redis.embedded import EmbeddedBroker, find_server
from workers.secrets.seal import Seal
from workers.secrets.vault import new_seal_key
from workers.settings import Secret, load_settings
from workers.store.redis_store import RedisStore

# Compiled files are kept, also where the environment says otherwise: else compiling takes half of a collection, in each
# process of pytest-xdist, and a tenth of every short process that a test starts. Git ignores them.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# A script that runs the tests in the background makes them ignore Ctrl-C, and every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# A PowerShell of a test lives for seconds: to count its calls, so as to optimise them later, costs more than it gains.
os.environ.setdefault("DOTNET_TieredPGO", "0")
# Tests write many small files and replace them. A disk takes a millisecond for each, and several times the CPU time.
if IN_MEMORY := folder_in_memory():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", IN_MEMORY)


_PLACES = count()


def absent(reason: str) -> NoReturn:
    """Skips the test on a laptop, fails it in CI: there, nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


#: The files that take longest, the longest first: begun last, they would keep one process busy after all others.
LONGEST = (
    "integration/test_fault_matrix.py",
    "integration/test_readme_walk.py",
    "windows/test_windows_rollout.py",
    "windows/test_live_ladder.py",
    "integration/test_rollback.py",
    "integration/test_trouble.py",
    "browser/test_pages.py",
    "contract/test_agent_protocol.py",
    "integration/test_life.py",
    "integration/test_waiting_for_workers.py",
    "integration/test_restart_owed_for_real.py",
    "integration/test_services.py",
    "integration/test_broker_restarts.py",
    "integration/test_restart_owed.py",
    "integration/test_clocks.py",
    "integration/test_sync.py",
    "unit/workers/winrm/test_scripts.py",
    "windows/test_windows_agent_cases.py",
    "contract/test_session_powershell.py",
    "hostile/test_hostile_nodes.py",
    "integration/test_plan.py",
    "integration/test_worker_process.py",
    "integration/test_pools_for_real.py",
    "integration/test_supervision.py",
    "integration/test_poison.py",
    "contract/test_agent_killed.py",
    "integration/test_breakages.py",
    "integration/test_doctor.py",
    "hostile/test_hostile_runs.py",
    "browser/test_invented.py",
    "integration/test_told.py",
    "integration/test_trigger_flood.py",
    "integration/test_rollout.py",
    "integration/test_page_browser.py",
    "integration/test_sentinel.py",
    "integration/test_renewal.py",
    "integration/test_web_server.py",
    "chaos/test_chaos.py",
    "integration/test_restart_evidence.py",
    "integration/test_neighbours.py",
    "integration/test_field_cases.py",
    "unit/pipelines/cli/test_start.py",
    "unit/pipelines/cluster_file/test_hostile_files.py",
    "unit/tasks/ektron/rules/test_sensitivity.py",
    "unit/pipelines/web/test_outside_client.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Registers what concerns whole runs."""
    config.pluginmanager.register(SecondTry(Path(__file__).parent))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is loaded stays: to search it for garbage takes a third of the time, and time of the tests afterwards."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """With `--dist loadfile`: the files that share nearly-Windows machines go to one process."""
    if config.getvalue("dist") != "loadfile":
        return None  # as always
    found = LoadFileScheduling(config, log)
    file_of = found._split_scope
    found._split_scope = lambda test: "machines" if "tests/windows/test_windows_" in test else file_of(test)
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests of the longest files first; with `--no-loadscope-reorder` that is how they are dealt out."""
    here = Path(__file__).parent
    place = {here / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests measured (`record_property("measured", ...)`), wherever they ran."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    told = [value for report in reports for name, value in getattr(report, "user_properties", ()) if name == "measured"]
    for line in dict.fromkeys(told):
        terminalreporter.write_line(str(line))
    terminalreporter.write_line(f"samples: SAMPLE_SEED={seed()} plays the same ones")


@pytest.fixture(scope="session", autouse=True)
def _scrubbed() -> Iterator[None]:
    """No ESYNC_* variable of the developer's shell reaches any test, session fixtures included."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("ESYNC_")]:
            patch.delenv(name)
        yield


@pytest.fixture(autouse=True)
def _fresh_settings(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Each test reads its own settings and never writes to the developer's state folder.

    Most tests need no folder: making one takes longer than they do.
    """
    own = "tmp_path" in request.fixturenames
    folder = request.getfixturevalue("tmp_path") if own else tmp_path_factory.getbasetemp() / f"none-{next(_PLACES)}"
    monkeypatch.setenv("ESYNC_STATE", str(folder / "state"))
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secret]:
    """A real server of this session: loopback, password, AOF."""
    try:
        find_server()
    except InputRefused as error:
        absent(f"{error}; {error.remedy}")
    with EmbeddedBroker(tmp_path_factory.mktemp("valkey")) as broker:
        yield broker.url


@pytest.fixture
def valkey(valkey_url: Secret) -> Iterator[Redis]:
    """A client of the session's server, emptied."""
    with connect(valkey_url) as client:
        client.flushall()
        yield client


class Clock:
    """A monotonic clock that a test moves on."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        """Its time, in seconds."""
        return self.time

    def passes(self, seconds: float) -> None:
        """So many seconds later."""
        self.time += seconds


@pytest.fixture
def clock() -> Clock:
    """What the stores of this test measure time by."""
    return Clock()


@pytest.fixture
def redis_store(valkey: Redis, clock: Clock) -> RedisStore:
    """The shared run store, empty."""
    return RedisStore(valkey, Seal(new_seal_key()), clock=clock)

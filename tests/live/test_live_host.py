"""The session and the agent on a real Windows host. Writes to one own folder and removes it again."""

import os
import time
from collections.abc import Iterator

import pytest

from tests.live.host import MISSING, host_from_environment
from workers.records import Endpoint
from workers.settings import Secret
from workers.winrm import operations as ops
from workers.winrm.operations import digest
from workers.winrm.session import AgentSession, Way, open_session

ROOT = rf"C:\ProgramData\esync-rollout\test-{os.getpid()}"
FILE = ROOT + "\\gr\u00fc\u00dfe [1] $x.txt"


@pytest.fixture(scope="module")
def host() -> tuple[Endpoint, Secret]:
    """The host in the environment."""
    return host_from_environment() or pytest.skip(MISSING)


@pytest.fixture(params=["conversation", "batch"])
def session(request: pytest.FixtureRequest, host: tuple[Endpoint, Secret]) -> Iterator[AgentSession]:
    """An open session in each way, with a folder for files."""
    way: Way = request.param
    opened = open_session(*host, way=way)
    opened.ask([ops.mkdir(ROOT)], deadline=60)
    yield opened
    opened.ask([ops.remove(FILE), ops.remove(ROOT)], deadline=60)
    opened.close()


def test_the_host_describes_itself(session: AgentSession) -> None:
    """A supported PowerShell in full language mode, with a correct clock."""
    hello = session.hello()
    (clock,) = session.ask([ops.clock()], deadline=60)
    assert (1, "FullLanguage") == (hello.agent, hello.language_mode)
    assert int(hello.powershell.split(".")[0]) >= 3
    assert abs(ops.time_of(clock["now"]).timestamp() - time.time()) < 300


def test_a_file_is_written_replaced_and_read(session: AgentSession) -> None:
    """Bytes are unchanged, a wrong expectation is refused, no other file is left."""
    small, large = b"\x00\xff\r\n", bytes(range(256)) * 1000
    made, same, replaced, read, beside = session.ask(
        [
            ops.write(FILE, small, expect=ops.ABSENT),
            ops.write(FILE, small, expect=ops.ABSENT),
            ops.write(FILE, large, expect=digest(small)),
            ops.read(FILE),
            ops.list_folder(ROOT),
        ],
        deadline=60,
    )
    assert (True, False, True) == (made["changed"], same["changed"], replaced["changed"])
    assert large == ops.data_of(read)
    assert [FILE.rpartition("\\")[2]] == [entry["name"] for entry in beside["entries"]]
    (refused,) = session.ask([ops.write(FILE, b"x", expect=digest(small))], deadline=60, keep_going=True)
    assert "conflict" == refused.error


def test_a_service_is_queried(session: AgentSession) -> None:
    """The RPC service runs on every Windows; a missing service is not found."""
    there, absent = session.ask([ops.service("RpcSs"), ops.service("NoSuchService")], deadline=60, keep_going=True)
    assert ("running", True) == (there["state"], there["pid"] > 0)
    assert "not_found" == absent.error

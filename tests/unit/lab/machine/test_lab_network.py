"""The network between the machines of one lab, and the logon."""

import asyncio
import base64
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.machine.condition import Condition, Counters
from lab.machine.errors import Refusal
from lab.machine.faults import Faults
from lab.machine.network import Network
from lab.machine.web import Page, Request
from lab.winrm.logon import Account, Connection

ACCOUNT = Account("esync", "pass:word", "N1")


class Hello:
    """A site with one page."""

    async def answer(self, request: Request) -> Page:
        """Returns the path."""
        return Page(200, request.path.encode())


@pytest.fixture
def wire() -> Network:
    """Two machines; B has a site and a port."""
    network = Network()
    network.join("A", "127.0.99.1")
    network.join("B", "127.0.99.2")
    network.serve("127.0.99.2", 80, Hello())
    network.listen("127.0.99.2", 8732, lambda: b"{}")
    return network


@pytest.mark.parametrize("host", ["B", "b", "b.example.org", "127.0.99.2"])
def test_a_machine_is_reachable_by_all_its_names(wire: Network, host: str) -> None:
    """By name in any case, with a domain, by address; on open ports."""
    assert "" == asyncio.run(wire.reach("A", host, 8732, 1))
    assert Page(200, b"/x") == asyncio.run(wire.get("A", f"http://{host}/x", 1))
    assert asyncio.run(wire.reach("A", host, 8733, 1))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "B"])
def test_a_machine_can_reach_itself(wire: Network, host: str) -> None:
    """Its own site, by every name."""
    assert 200 == asyncio.run(wire.get("B", f"http://{host}/", 1)).status


def test_a_cut_has_one_direction(wire: Network) -> None:
    """A cannot reach B, B can reach itself."""
    wire.cut.add(("a", "B"))
    assert [True, False] == [bool(asyncio.run(wire.reach(source, "B", 8732, 1))) for source in ("A", "B")]


def test_a_machine_that_is_away_is_unreachable(wire: Network) -> None:
    """Its port and its site."""
    wire.away.add("127.0.99.2")
    assert "unreachable" in asyncio.run(wire.reach("A", "B", 8732, 1))
    with pytest.raises(Refusal):
        asyncio.run(wire.get("A", "http://B/", 1))


@pytest.fixture
def account() -> Iterator[Account]:
    """User esync, with a colon in the password."""
    found = Account("esync", "pass:word", "N1")
    yield found
    found.close()


@given(st.text(max_size=40))
def test_an_invalid_header_does_not_log_on(header: str) -> None:
    """For any text in Authorization, without an exception."""
    connection = Connection(ACCOUNT, Counters())
    for scheme in ("", "Basic ", "Negotiate ", "NTLM "):
        assert "" == connection.judge(scheme + header).user


@given(st.binary(max_size=60), st.sampled_from([b"", b"NTLMSSP\0\1\0\0\0", b"NTLMSSP\0\3\0\0\0", b"\x60"]))
def test_an_invalid_token_does_not_log_on(token: bytes, start: bytes) -> None:
    """Broken NTLM and SPNEGO tokens are refused, also twice in a row."""
    connection = Connection(ACCOUNT, Counters())
    header = "Negotiate " + base64.b64encode(start + token).decode()
    assert ["", ""] == [connection.judge(header).user for _ in range(2)]


def test_basic_is_required_with_every_request(account: Account) -> None:
    """A connection does not stay logged on; repeated correct headers count as one logon."""
    counters = Counters()
    connection = Connection(account, counters)
    header = "Basic " + base64.b64encode(b"esync:pass:word").decode()
    assert ["", "esync", "", "esync"] == [connection.judge(text).user for text in ("", header, "", header)]
    assert (1, 0) == (counters.logons_tried, counters.logons_refused)


def test_the_file_of_accounts_has_no_password(account: Account) -> None:
    """Only a hash, in memory, until the account is closed."""
    text = account.store.read_text()
    assert ("esync:" in text, "pass:word" in text) == (True, False)
    account.close()
    assert not account.store.exists()


def test_counted_faults_end() -> None:
    """After two occurrences; setting them again restarts the count."""
    condition = Condition()
    for _ in range(2):
        condition.set(Faults(reset_replies=2))
        assert [True, True, False] == [condition.happens("reset_replies") for _ in range(3)]

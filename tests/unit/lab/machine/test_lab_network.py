"""Machines of one lab among each other, and who may log on to them."""

import asyncio
import base64
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.machine.condition import Condition, Counters
from lab.machine.errors import Refusal
from lab.machine.faults import Faults
from lab.machine.network import Network, Page
from lab.winrm.logon import Account, Connection

ACCOUNT = Account("esync", "pass:word", "N1")


class Hello:
    """A site with one page."""

    def get(self, path: str) -> Page:
        """Gives the path back."""
        return Page(200, path.encode())


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
def test_a_machine_is_reached_by_any_of_its_names(wire: Network, host: str) -> None:
    """By name in any case, with a domain, by address; on open ports."""
    assert "" == asyncio.run(wire.reach("A", host, 8732, 1))
    assert Page(200, b"/x") == asyncio.run(wire.get("A", f"http://{host}/x", 1))
    assert asyncio.run(wire.reach("A", host, 8733, 1))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "B"])
def test_a_machine_reaches_itself(wire: Network, host: str) -> None:
    """Its own site under every name for itself."""
    assert 200 == asyncio.run(wire.get("B", f"http://{host}/", 1)).status


def test_a_cut_goes_one_way(wire: Network) -> None:
    """A does not reach B, B reaches itself."""
    wire.cut.add(("a", "B"))
    assert [True, False] == [bool(asyncio.run(wire.reach(source, "B", 8732, 1))) for source in ("A", "B")]


def test_who_is_away_is_reached_by_nobody(wire: Network) -> None:
    """Neither port nor site."""
    wire.away.add("127.0.99.2")
    assert "unreachable" in asyncio.run(wire.reach("A", "B", 8732, 1))
    with pytest.raises(Refusal):
        asyncio.run(wire.get("A", "http://B/", 1))


@pytest.fixture
def account() -> Iterator[Account]:
    """User esync, with a password that has a colon in it."""
    found = Account("esync", "pass:word", "N1")
    yield found
    found.close()


@given(st.text(max_size=40))
def test_no_header_logs_on_by_accident(header: str) -> None:
    """Whatever stands in Authorization, nobody is let in and nothing breaks."""
    connection = Connection(ACCOUNT, Counters())
    for scheme in ("", "Basic ", "Negotiate ", "NTLM "):
        assert "" == connection.judge(scheme + header).user


@given(st.binary(max_size=60), st.sampled_from([b"", b"NTLMSSP\0\1\0\0\0", b"NTLMSSP\0\3\0\0\0", b"\x60"]))
def test_no_token_logs_on_by_accident(token: bytes, start: bytes) -> None:
    """Broken NTLM and SPNEGO tokens are refused, twice in a row as well."""
    connection = Connection(ACCOUNT, Counters())
    header = "Negotiate " + base64.b64encode(start + token).decode()
    assert ["", ""] == [connection.judge(header).user for _ in range(2)]


def test_basic_is_wanted_with_every_request(account: Account) -> None:
    """A connection does not stay logged on by basic; the right password counts one logon."""
    counters = Counters()
    connection = Connection(account, counters)
    header = "Basic " + base64.b64encode(b"esync:pass:word").decode()
    assert ["", "esync", "", "esync"] == [connection.judge(text).user for text in ("", header, "", header)]
    assert (1, 0) == (counters.logons_tried, counters.logons_refused)


def test_the_file_of_accounts_holds_no_password(account: Account) -> None:
    """A hash in memory, gone with the account."""
    text = account.store.read_text()
    assert ("esync:" in text, "pass:word" in text) == (True, False)
    account.close()
    assert not account.store.exists()


def test_faults_that_count_down_are_used_up() -> None:
    """Twice, then no more; setting them anew starts anew."""
    condition = Condition()
    for _ in range(2):
        condition.set(Faults(reset_replies=2))
        assert [True, True, False] == [condition.happens("reset_replies") for _ in range(3)]

"""However many nodes refuse an account at once, it collects no more refusals in a run than the policy says."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.execution.logons import Logons, NoSlot, NotTried
from tests.sampling import examples
from workers.errors import LogonRefused
from workers.records import Endpoint, RunRecord
from workers.settings import Secret
from workers.store import MemoryStore, RunStore

SECRET = Secret("planted-s3cret")


def a_store() -> MemoryStore:
    """One run."""
    store = MemoryStore()
    store.create(RunRecord(id="r1", cluster="shop", spec={}))
    return store


class Nodes:
    """Nodes that accept an account or refuse it, and what was tried on them."""

    def __init__(self, refusing: set[str]) -> None:
        self.refusing = refusing
        self.refused: list[str] = []
        self.accepted: list[str] = []
        self.skipped: list[str] = []
        self.guard = threading.Lock()

    def log_on(self, logons: Logons, node: str, most: int = 2) -> None:
        """As a step does it, again and again while others log on."""
        endpoint = Endpoint(node=node, host=node, user="svc", secret="env:X")
        while True:
            try:
                with logons.of("r1", endpoint, most) as logon:
                    assert SECRET == logon.admit(lambda: SECRET)
                    time.sleep(0.002)
                    if node in self.refusing:
                        with self.guard:
                            self.refused.append(node)
                        raise LogonRefused(f"{node} said no")  # noqa: TRY301 - as a session does
                    logon.accepted()
                with self.guard:
                    self.accepted.append(node)
            except NoSlot:
                continue
            except NotTried:
                with self.guard:
                    self.skipped.append(node)
            except LogonRefused:
                pass
            return


def several(store: RunStore) -> list[Logons]:
    """Two worker processes."""
    return [Logons(store, f"worker-{number}", 0.1) for number in (1, 2)]


@settings(max_examples=examples(300, 25), deadline=None)
@given(bad=st.sets(st.integers(0, 15)), most=st.integers(0, 4), first=st.integers(0, 15))
def test_an_account_collects_no_more_refusals_than_it_may(bad: set[int], most: int, first: int) -> None:
    """One where nobody accepts it first; else the policy's number, whatever happens at once. The rest is skipped."""
    nodes, names = Nodes({f"N{number}" for number in bad}), [f"N{number}" for number in range(16)]
    logons = several(a_store())
    nodes.log_on(logons[0], f"N{first}", most)
    with ThreadPoolExecutor(16) as pool:
        rest = [name for name in names if name != f"N{first}"]
        list(pool.map(lambda name: nodes.log_on(logons[int(name[1:]) % 2], name, most), rest))
    assert len(nodes.refused) <= (1 if first in bad else max(1, most))
    assert len(nodes.refused) == len(set(nodes.refused))
    assert not nodes.refusing & set(nodes.accepted)
    assert set(names) == {*nodes.refused, *nodes.accepted, *nodes.skipped}
    if len(bad) < max(1, most) and first not in bad:
        assert [] == nodes.skipped


def test_nodes_that_have_logged_on_before_may_do_so_again() -> None:
    """When the account may collect no more, they are let on one at a time; until one of them refuses it too."""
    nodes, (logons, other) = Nodes({"B1", "B2"}), several(a_store())
    for node in ("A", "C", "B1", "B2", "D"):
        nodes.log_on(logons, node)
    assert (["A", "C"], ["B1", "B2"], ["D"]) == (nodes.accepted, nodes.refused, nodes.skipped)
    nodes.log_on(other, "A")
    assert ["A", "C", "A"] == nodes.accepted
    nodes.refusing.add("A")
    nodes.log_on(other, "A")
    nodes.log_on(other, "C")
    assert (["B1", "B2", "A"], ["D", "C"]) == (nodes.refused, nodes.skipped)


def test_a_node_that_refused_is_not_asked_again() -> None:
    """Its message was delivered twice: the second says so, and sends nothing."""
    nodes, (logons, other) = Nodes({"B"}), several(a_store())
    nodes.log_on(logons, "A")
    nodes.log_on(logons, "B")
    nodes.log_on(other, "B")
    assert ["B"] == nodes.refused
    with (
        pytest.raises(LogonRefused, match="B refused the logon before in this run"),
        other.of("r1", Endpoint(node="B", host="B", user="svc", secret="env:X"), 2) as logon,
    ):
        logon.admit(lambda: SECRET)


def test_a_refusal_in_mid_session_counts() -> None:
    """A node that asks for the logon again on a connection of its own is counted as well."""
    nodes, (logons, _) = Nodes(set()), several(a_store())
    nodes.log_on(logons, "A")
    with pytest.raises(LogonRefused), logons.of("r1", Endpoint(node="A", host="A", user="svc", secret="env:X"), 2):
        raise LogonRefused("A said no")
    nodes.log_on(logons, "B")
    assert (["A"], ["B"]) == (nodes.accepted, nodes.skipped)

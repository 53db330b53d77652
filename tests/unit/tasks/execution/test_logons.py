"""An account collects no more refusals in a run than the policy allows, however many nodes refuse it at once."""

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
from workers.store.memory import MemoryStore
from workers.store.port import RunStore

SECRET = Secret("planted-s3cret")


def a_store() -> MemoryStore:
    """A store with one run."""
    store = MemoryStore()
    store.create(RunRecord(id="r1", cluster="shop", spec={}))
    return store


class Nodes:
    """Nodes that accept an account or refuse it, and the logons that were tried."""

    def __init__(self, refusing: set[str]) -> None:
        self.refusing = refusing
        self.refused: list[str] = []
        self.accepted: list[str] = []
        self.skipped: list[str] = []
        self.guard = threading.Lock()

    def log_on(self, logons: Logons, node: str, most: int = 2) -> None:
        """Logs on as a step does: again and again while other nodes log on."""
        endpoint = Endpoint(node=node, host=node, user="svc", secret="env:X")
        while True:
            try:
                with logons.of("r1", endpoint, most) as logon:
                    assert SECRET == logon.secret(lambda: SECRET)
                    logon.admit()
                    time.sleep(0.002)
                    if node in self.refusing:
                        with self.guard:
                            self.refused.append(node)
                        raise LogonRefused(f"{node} refused")  # noqa: TRY301 - as a session does
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


@settings(max_examples=examples(300, 25))
@given(bad=st.sets(st.integers(0, 15)), most=st.integers(0, 4), first=st.integers(0, 15))
def test_an_account_collects_no_more_refusals_than_allowed(bad: set[int], most: int, first: int) -> None:
    """One if no node has accepted it; else the number in the policy. All other nodes are skipped."""
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
    """When the limit is reached they log on one at a time, until one of them refuses too."""
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


def test_a_node_that_refused_is_not_tried_again() -> None:
    """If its message is delivered twice, the second attempt is refused without a logon."""
    nodes, (logons, other) = Nodes({"B"}), several(a_store())
    nodes.log_on(logons, "A")
    nodes.log_on(logons, "B")
    nodes.log_on(other, "B")
    assert ["B"] == nodes.refused
    with (
        pytest.raises(LogonRefused, match="B refused the logon before in this run"),
        other.of("r1", Endpoint(node="B", host="B", user="svc", secret="env:X"), 2) as logon,
    ):
        logon.secret(lambda: SECRET)


def test_a_refusal_during_a_session_counts() -> None:
    """A node may require the logon again on a new connection; a refusal there counts too."""
    nodes, (logons, _) = Nodes(set()), several(a_store())
    nodes.log_on(logons, "A")
    with pytest.raises(LogonRefused), logons.of("r1", Endpoint(node="A", host="A", user="svc", secret="env:X"), 2):
        raise LogonRefused("A refused")
    nodes.log_on(logons, "B")
    assert (["A"], ["B"]) == (nodes.accepted, nodes.skipped)

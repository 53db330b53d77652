"""The chain over a run's events, kept by both run stores."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.test_store import a_run, an_outcome, at_once, text
from tests.sampling import examples
from workers.records import Change, Event, RunState, Verdict, now
from workers.store.chain import GENESIS, Chain, broken_at, digest_of, identity
from workers.store.memory import MemoryStore
from workers.store.port import RunStore


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> RunStore:
    """Both adapters, empty."""
    if request.param == "memory":
        return MemoryStore()
    found: RunStore = request.getfixturevalue("redis_store")
    return found


def history(store: RunStore) -> tuple[Event, ...]:
    """All events of run r1."""
    return store.events("r1", limit=100_000)


class TestChain:
    """The chain over a run's events."""

    def test_a_run_begins_with_what_was_asked_for(self, store: RunStore) -> None:
        """The first event says who, from where and why, and has the digest of the run as it was asked for."""
        record = store.create(a_run(who="ops", origin_host="desk-7", reason="new servers", plan_fingerprint="9f"))
        (first,) = history(store)
        assert ("run.created", identity(record)) == (first.kind, first.digest)
        assert all(word in first.message for word in ("ops", "desk-7", "new servers", "9f"))

    def test_what_becomes_of_a_run_is_not_what_was_asked_for(self, store: RunStore) -> None:
        """The digest of a run as asked for stays the same to its end; another cluster has another one."""
        record = store.create(a_run())
        ended = record.model_copy(update={"state": RunState.CONCLUDED, "verdict": Verdict.JOINED, "ended": now()})
        assert identity(record) == identity(ended)
        assert identity(record) != identity(record.model_copy(update={"spec": {"name": "shop", "nodes": ["S1"]}}))

    def test_creating_twice_is_one_event(self, store: RunStore) -> None:
        """A creation sent again adds nothing to the history."""
        store.create(a_run(key="k"))
        store.create(a_run(key="k"))
        store.create(a_run("r2", key="k"))
        assert 1 == store.chain("r1").count

    def test_an_outcome_is_noted_with_its_digest(self, store: RunStore) -> None:
        """Recording and noting are one: the first outcome has its event, another one adds nothing."""
        store.create(a_run())
        outcome = store.record(an_outcome(changes=(Change(what="key", after="1"),)), 0)
        store.record(an_outcome(message="second"), 0)
        _, noted = history(store)
        assert ("step.ended", "S1", "config_edit", digest_of(outcome)) == (
            noted.kind,
            noted.node,
            noted.step,
            noted.digest,
        )

    def test_a_transition_is_noted_by_the_one_who_wins_it(self, store: RunStore) -> None:
        """Of many who save the same transition with an event, one event is noted."""
        record = store.create(a_run())
        at_once(8, lambda number: store.save(record, Event(kind="run.concluded", message=str(number))))
        assert ["run.created", "run.concluded"] == [event.kind for event in history(store)]

    def test_a_history_is_whole(self, store: RunStore) -> None:
        """Each event follows from those before it, and the last one is the chain's head."""
        record = store.create(a_run())
        store.note("r1", Event(kind="run.started", message="größer \u2028"))
        store.record(an_outcome(), 0)
        store.save(record, Event(kind="turn.opened"), Event(kind="run.concluded"))
        chain, events = store.chain("r1"), history(store)
        assert (5, 0, GENESIS, events[-1].chain) == (chain.count, chain.dropped, chain.root, chain.head)
        assert "" == broken_at(chain, events)

    def test_noting_at_once_keeps_one_chain(self, store: RunStore) -> None:
        """32 threads that note at the same time make one unbroken chain."""
        store.create(a_run())
        at_once(32, lambda number: [store.note("r1", Event(kind="step.started", node=f"S{number}")) for _ in range(20)])
        assert 641 == store.chain("r1").count
        assert "" == broken_at(store.chain("r1"), history(store))

    def test_the_cap_moves_the_beginning(self, store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the oldest events go, the chain begins after the last of them and is whole from there."""
        for adapter in ("memory", "redis_store"):
            monkeypatch.setattr(f"workers.store.{adapter}.EVENT_CAP", 10)
        store.create(a_run())
        noted = [store.note("r1", Event(kind="step.started", message=str(number))) for number in range(25)]
        chain, events = store.chain("r1"), history(store)
        assert tuple(noted[-10:]) == events
        assert (26, 16, noted[14].chain) == (chain.count, chain.dropped, chain.root)
        assert "" == broken_at(chain, events)
        assert broken_at(chain, (noted[14], *events))
        assert broken_at(chain, events[1:])

    def test_an_unknown_run_has_no_chain(self, store: RunStore) -> None:
        """Nor does a forgotten one, and a new run of that id begins anew."""
        store.create(a_run())
        store.note("r1", Event(kind="run.started"))
        store.forget("r1")
        assert Chain() == store.chain("r1")
        store.create(a_run())
        assert 1 == store.chain("r1").count


@settings(max_examples=examples(whole=600, sample=30))
@given(messages=st.lists(text, min_size=4, max_size=8), data=st.data())
def test_whatever_is_done_to_a_history_is_told(store: RunStore, messages: list[str], data: st.DataObject) -> None:
    """Changing, removing, doubling or moving any event of a history breaks it."""
    store.create(a_run())
    try:
        for message in messages:
            store.note("r1", Event(kind="step.ended", node="S1", message=message))
        chain, events = store.chain("r1"), list(history(store))
    finally:
        store.forget("r1")
    assert "" == broken_at(chain, events)
    place = data.draw(st.integers(0, len(events) - 1))
    other = data.draw(st.integers(0, len(events) - 1).filter(lambda number: number != place))
    field = data.draw(st.sampled_from(["id", "at", "kind", "node", "message", "digest", "chain"]))
    values: dict[str, object] = {"id": "9-9", "at": now(), "chain": GENESIS}
    value = values.get(field) or f"{getattr(events[place], field)}x"
    changed = events[place].model_copy(update={field: value})
    for tampered in (
        [*events[:place], changed, *events[place + 1 :]],
        [*events[:place], *events[place + 1 :]],
        [*events[: place + 1], *events[place:]],
        [*(events[other] if event is events[place] else event for event in events)],
    ):
        assert "" != broken_at(chain, tampered)

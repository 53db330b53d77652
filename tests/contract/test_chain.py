"""The chain over the events of a run, in both run stores."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.test_store import a_run, an_outcome, at_once, text
from tests.sampling import examples
from workers.records import Change, Event, RunRecord, RunState, Turn, Verdict, now
from workers.store.chain import GENESIS, Chain, digest_of, first_break, identity
from workers.store.memory import MemoryStore
from workers.store.port import RunStore

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
#: Another value for each field of a run.
CHANGES: dict[str, object] = {
    "id": "r2",
    "kind": "verify",
    "cluster": "blog",
    "servers": "0f",
    "spec": {"name": "shop", "nodes": ["S1"]},
    "state": RunState.CONCLUDED,
    "version": 7,
    "turns": (Turn(name="observe", stage="observe", steps=("install_check",), nodes=("S1",)),),
    "joined": ("observe",),
    "verdict": Verdict.JOINED,
    "summary": "joined",
    "plan_fingerprint": "9f",
    "created": CREATED + timedelta(seconds=1),
    "began": CREATED,
    "ended": CREATED,
    "who": "ops",
    "origin_host": "desk-7",
    "reason": "new servers",
    "parent": "r3",
    "only": ("S1",),
    "options": ("force",),
    "key": "k",
}
#: The fields that change during a run.
PROGRESS = {"state", "version", "turns", "joined", "verdict", "summary", "plan_fingerprint", "began", "ended"}


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

    def test_a_history_begins_with_the_request(self, store: RunStore) -> None:
        """The first event has who requested the run, where and why, and the digest of the request."""
        record = store.create(a_run(who="ops", origin_host="desk-7", reason="new servers", plan_fingerprint="9f"))
        (first,) = history(store)
        assert ("run.created", identity(record)) == (first.kind, first.digest)
        assert all(word in first.message for word in ("ops", "desk-7", "new servers", "9f"))

    @pytest.mark.parametrize("field", CHANGES)
    def test_the_identity_of_a_run_covers_its_request_only(self, field: str) -> None:
        """A field that changes during the run does not change the digest of the request, every other field does."""
        record = a_run(parent="r0", created=CREATED)
        changed = record.model_copy(update={field: CHANGES[field]})
        assert (identity(changed) == identity(record)) == (field in PROGRESS)

    def test_the_identity_considers_every_field(self) -> None:
        """The table of changes has every field of a run."""
        assert RunRecord.model_fields.keys() == CHANGES.keys()

    def test_creating_twice_notes_one_event(self, store: RunStore) -> None:
        """A repeated creation adds nothing to the history."""
        store.create(a_run(key="k"))
        store.create(a_run(key="k"))
        store.create(a_run("r2", key="k"))
        assert 1 == store.chain("r1").count

    def test_an_outcome_is_noted_with_its_digest(self, store: RunStore) -> None:
        """Recording notes the event too: the first outcome has one, a second outcome adds none."""
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

    def test_a_transition_is_noted_once(self, store: RunStore) -> None:
        """When many threads save the same transition with an event, one event is noted."""
        record = store.create(a_run())
        at_once(8, lambda number: store.save(record, Event(kind="run.concluded", message=str(number))))
        assert ["run.created", "run.concluded"] == [event.kind for event in history(store)]

    def test_a_history_is_complete(self, store: RunStore) -> None:
        """Each event is linked to those before it, and the last one is the head of the chain."""
        record = store.create(a_run())
        store.note("r1", Event(kind="run.started", message="größer \u2028"))
        store.record(an_outcome(), 0)
        store.save(record, Event(kind="turn.opened"), Event(kind="run.concluded"))
        chain, events = store.chain("r1"), history(store)
        assert (5, 0, GENESIS, events[-1].chain) == (chain.count, chain.dropped, chain.root, chain.head)
        assert "" == first_break(chain, events)

    def test_parallel_notes_make_one_chain(self, store: RunStore) -> None:
        """32 threads that note events at the same time make one unbroken chain."""
        store.create(a_run())
        at_once(32, lambda number: [store.note("r1", Event(kind="step.started", node=f"S{number}")) for _ in range(20)])
        assert 641 == store.chain("r1").count
        assert "" == first_break(store.chain("r1"), history(store))

    def test_the_cap_moves_the_beginning(self, store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """After the oldest events were removed, the chain begins after the last of them and is complete from there."""
        for adapter in ("memory_data", "redis_store"):
            monkeypatch.setattr(f"workers.store.{adapter}.EVENT_CAP", 10)
        store.create(a_run())
        noted = [store.note("r1", Event(kind="step.started", message=str(number))) for number in range(25)]
        chain, events = store.chain("r1"), history(store)
        assert tuple(noted[-10:]) == events
        assert (26, 16, noted[14].chain) == (chain.count, chain.dropped, chain.root)
        assert "" == first_break(chain, events)
        assert first_break(chain, (noted[14], *events))
        assert first_break(chain, events[1:])

    def test_an_unknown_run_has_no_chain(self, store: RunStore) -> None:
        """A forgotten run has none either, and a new run with its id begins a new chain."""
        store.create(a_run())
        store.note("r1", Event(kind="run.started"))
        store.forget("r1")
        assert Chain() == store.chain("r1")
        store.create(a_run())
        assert 1 == store.chain("r1").count


@settings(max_examples=examples(whole=600, sample=30))
@given(messages=st.lists(text, min_size=4, max_size=8), data=st.data())
def test_every_change_of_a_history_is_found(store: RunStore, messages: list[str], data: st.DataObject) -> None:
    """Changing, removing, duplicating or moving any event breaks the chain."""
    store.create(a_run())
    try:
        for message in messages:
            store.note("r1", Event(kind="step.ended", node="S1", message=message))
        chain, events = store.chain("r1"), list(history(store))
    finally:
        store.forget("r1")
    assert "" == first_break(chain, events)
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
        assert "" != first_break(chain, tampered)

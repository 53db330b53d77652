"""One contract for both run stores: how a step begins and ends, each in one operation."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from tests.conftest import Clock
from tests.contract.test_store import BRIEF, a_run, an_outcome, at_once, claimed, lapse
from tests.sampling import examples
from workers.errors import Conflict, RecordRefused, RunUnknown
from workers.records import RunRecord, Status
from workers.store.port import ANY_CLAIM, Beginning, Finishing, RunStore
from workers.store.redis_store import RedisStore

STEP = Beginning(
    run="r1", version=0, turn="wave-1", node="S1", step="cert_copy", earlier="config_edit", holder="w1", ttl=BRIEF,
    limit=0, waiting="pause", ending="cancel",
)  # fmt: skip
FIRST = replace(STEP, step="config_edit", earlier="")


def begun_events(store: RunStore) -> list[str]:
    """The steps whose begin was noted, without those that only claim a node."""
    noted = [event for event in store.events("r1") if event.kind == "step.started" and event.step != "claim"]
    return [f"{event.turn} {event.node} {event.step}" for event in noted]


def fence_of(store: RunStore, beginning: Beginning) -> int | None:
    """Of the claim with which it began; None when it did not."""
    begun = store.begin(beginning)
    return begun.claim if begun else None


@pytest.fixture
def run(store: RunStore) -> RunRecord:
    """The run r1."""
    return store.create(a_run())


@pytest.mark.usefixtures("run")
class TestBegin:
    """Reading, claiming and noting at once."""

    def test_a_step_gets_its_node_the_flags_and_the_outcome_before(self, store: RunStore) -> None:
        """The node is claimed, the begin is noted, and everything is read that the step needs to know."""
        before = store.record(an_outcome(), 0)
        store.flag("r1", "note", "why")
        begun = store.begin(STEP)
        assert begun is not None
        assert begun.claim
        assert ({"note": "why"}, before, None) == (begun.flags, begun.before, begun.outcome)
        assert ({"S1": "w1"}, ["wave-1 S1 cert_copy"]) == (store.leases("r1"), begun_events(store))

    def test_the_named_documents_are_read(self, store: RunStore) -> None:
        """None for one that does not exist; the flags are read too."""
        store.put("r1", "facts", "S1", "{}")
        store.flag("r1", "note", "why")
        begun = store.begin(replace(FIRST, documents=(("facts", "S2"), ("facts", "S1"), ("plan", "plan"))))
        assert begun is not None
        assert {("facts", "S2"): None, ("facts", "S1"): "{}", ("plan", "plan"): None} == begun.documents
        assert begun.claim
        assert {"note": "why"} == begun.flags

    def test_the_same_worker_begins_again_with_its_claim(self, store: RunStore) -> None:
        """A begin that is repeated after a lost reply keeps the fence."""
        first, again = (begun.claim for begun in (store.begin(FIRST), store.begin(FIRST)) if begun)
        assert first
        assert first == again

    def test_a_step_gets_the_number_of_the_run_on_its_node(self, store: RunStore) -> None:
        """The one that an earlier step got; 0 before that."""
        store.lock_servers(("shop:5986",), "r1", 60)
        first = store.begin(FIRST)
        assert first is not None
        assert (0, 8) == (first.number, store.number("r1", "S1", first.claim or 0, seen=7))
        store.record(an_outcome(), first.claim or 0, holder="w1")
        second = store.begin(replace(STEP, holder="w2"))
        assert second is not None
        assert 8 == second.number

    def test_a_step_with_an_outcome_is_not_begun(self, store: RunStore) -> None:
        """Its outcome is returned; nothing is claimed or noted."""
        ended = store.record(an_outcome(), 0)
        begun = store.begin(FIRST)
        assert begun is not None
        assert (ended, None, {}, []) == (begun.outcome, begun.claim, store.leases("r1"), begun_events(store))

    def test_a_step_waits_for_the_one_before(self, store: RunStore) -> None:
        """Without an outcome of the earlier step nothing is claimed."""
        begun = store.begin(STEP)
        assert begun is not None
        assert (None, None, {}) == (begun.before, begun.claim, store.leases("r1"))

    @pytest.mark.parametrize(
        ("flags", "claims"), [(("pause",), False), (("pause", "cancel"), True), (("other",), True)]
    )
    def test_nothing_begins_while_the_run_waits(self, *, flags: tuple[str, ...], claims: bool, store: RunStore) -> None:
        """A flag keeps every step from beginning, unless another flag outweighs it."""
        for flag in flags:
            store.flag("r1", flag)
        begun = store.begin(FIRST)
        assert begun is not None
        assert (claims, set(flags)) == (begun.claim is not None, set(begun.flags))

    @pytest.mark.parametrize("status", list(Status))
    def test_the_begin_of_an_untried_step_is_not_noted(self, status: Status, store: RunStore) -> None:
        """After a step that ended the node, the step is claimed, to be recorded as skipped, but has not begun."""
        store.record(an_outcome(status=status, message='"status":"changed"'), 0)
        begun = store.begin(STEP)
        assert begun is not None
        assert begun.claim
        assert (not status.ends_node) is bool(begun_events(store))
        store.begin(replace(STEP, always=True))
        assert begun_events(store)[-1:] == ["wave-1 S1 cert_copy"]

    def test_the_begin_of_a_cancelled_step_is_not_noted(self, store: RunStore) -> None:
        """With the flag that ends steps untried; a step that is always tried is noted."""
        store.flag("r1", "cancel")
        assert store.begin(FIRST) is not None
        assert [] == begun_events(store)
        assert store.begin(replace(FIRST, always=True)) is not None
        assert ["wave-1 S1 config_edit"] == begun_events(store)

    def test_another_version_of_the_run_begins_nothing(self, store: RunStore, run: RunRecord) -> None:
        """A worker that knows an old record has to read it again."""
        store.save(run)
        assert store.begin(FIRST) is None
        assert {} == store.leases("r1")
        begun = store.begin(replace(FIRST, version=1))
        assert begun is not None
        assert begun.claim

    def test_an_unknown_run_begins_nothing(self, store: RunStore) -> None:
        """It is an error."""
        with pytest.raises(RunUnknown):
            store.begin(replace(FIRST, run="r9"))

    def test_a_node_of_another_worker_is_not_begun_until_its_lease_lapses(self, store: RunStore, clock: Clock) -> None:
        """As with a claim; the next holder has a new fence."""
        earlier = claimed(store, "r1", "S1", "w2", BRIEF)
        begun = store.begin(FIRST)
        assert begun is not None
        assert (None, []) == (begun.claim, begun_events(store))
        lapse(store, clock)
        begun = store.begin(FIRST)
        assert begun is not None
        assert (begun.claim or 0) > earlier
        assert ["wave-1 S1 config_edit"] == begun_events(store)

    def test_the_number_of_begun_nodes_has_a_limit(self, store: RunStore, clock: Clock) -> None:
        """A node more is begun when another one was released, or its lease lapsed."""
        nodes = [replace(FIRST, node=f"N{number}", limit=2, holder=f"w{number}") for number in range(4)]
        first, second, third = (begun.claim for begun in map(store.begin, nodes[:3]) if begun)
        assert first
        assert second
        assert third is None
        store.record(an_outcome("N0"), first, holder="w0")
        assert [True, False] == [begun.claim is not None for begun in map(store.begin, nodes[2:]) if begun]
        lapse(store, clock)
        assert [True] == [begun.claim is not None for begun in map(store.begin, nodes[3:]) if begun]

    def test_a_node_is_in_work_until_its_last_step_has_ended(self, store: RunStore) -> None:
        """It keeps its place between its steps; its end names the one that has waited longest, each once."""
        one = replace(FIRST, limit=1)
        second, third = (replace(one, node=node) for node in ("S3", "S2"))
        assert fence_of(store, one)
        assert [True, True, True] == [begun.waits for begun in map(store.begin, (second, third, second)) if begun]
        between = store.finish(Finishing(outcome=an_outcome(), fence=ANY_CLAIM, holder="w1", more=True))
        assert ("", {}) == (between.following, store.leases("r1"))
        assert fence_of(store, second) is None
        fence = fence_of(store, replace(STEP, limit=1, holder="w2"))
        assert fence
        last = Finishing(outcome=an_outcome(step="cert_copy"), fence=fence, holder="w2")
        assert ["S3", ""] == [store.finish(last).following for _ in range(2)]
        fence = fence_of(store, second)
        assert fence
        assert fence_of(store, third) is None
        assert "S2" == store.finish(Finishing(outcome=an_outcome("S3"), fence=fence, holder="w1")).following
        assert fence_of(store, third)
        assert "" == store.finish(Finishing(outcome=an_outcome("S2"), fence=ANY_CLAIM, holder="w1")).following

    def test_a_node_in_work_does_not_wait_for_a_place(self, store: RunStore) -> None:
        """Also when its worker has died, and another node has begun meanwhile."""
        store.record(an_outcome(), 0)
        assert fence_of(store, replace(FIRST, node="S2", limit=1))
        assert fence_of(store, replace(STEP, limit=1))

    def test_the_places_of_an_earlier_turn_do_not_count(self, store: RunStore) -> None:
        """Nor do the nodes that waited in it."""
        assert fence_of(store, replace(FIRST, limit=1))
        assert fence_of(store, replace(FIRST, node="S2", limit=1)) is None
        store.finish(Finishing(outcome=an_outcome(), fence=ANY_CLAIM, holder="w1", more=True))
        fence = fence_of(store, replace(FIRST, turn="wave-2", node="S3", limit=1))
        assert fence
        assert (
            "" == store.finish(Finishing(outcome=an_outcome("S3", turn="wave-2"), fence=fence, holder="w1")).following
        )

    def test_an_ended_node_frees_its_place_whoever_records_its_end(self, store: RunStore) -> None:
        """Of a node that was between two steps when its run was cancelled."""
        assert fence_of(store, replace(FIRST, limit=1))
        store.finish(Finishing(outcome=an_outcome(), fence=ANY_CLAIM, holder="w1", more=True))
        store.record(an_outcome(step="cert_copy"), ANY_CLAIM)
        assert fence_of(store, replace(FIRST, node="S2", limit=1))

    def test_one_of_many_workers_begins_a_step(self, store: RunStore) -> None:
        """However many ask at the same time, one of them gets the node, and one begin is noted."""
        found = at_once(8, lambda number: store.begin(replace(FIRST, holder=f"w{number}")))
        assert 1 == len([begun for begun in found if begun and begun.claim])  # type: ignore[attr-defined]
        assert 1 == len(begun_events(store))


@pytest.mark.usefixtures("run")
class TestEnd:
    """Recording and releasing at once."""

    def test_recording_releases_the_lease_of_its_holder(self, store: RunStore) -> None:
        """Its own lease, also when the outcome existed; that of another worker stays."""
        fence = claimed(store, "r1", "S1", "w1")
        store.record(an_outcome(), fence, holder="w2")
        assert {"S1": "w1"} == store.leases("r1")
        store.record(an_outcome(), fence, holder="w1")
        assert {} == store.leases("r1")

    def test_a_late_holder_releases_nothing(self, store: RunStore, clock: Clock) -> None:
        """The node belongs to the worker that took it over."""
        late = claimed(store, "r1", "S1", "w1", BRIEF)
        lapse(store, clock)
        store.record(an_outcome(), claimed(store, "r1", "S1", "w2"))
        store.record(an_outcome(), late, holder="w1")
        assert {"S1": "w2"} == store.leases("r1")

    def test_documents_are_kept_with_the_outcome_or_not_at_all(self, store: RunStore, clock: Clock) -> None:
        """Those of a second outcome of the step, and of a worker that lost its node, are not stored."""
        late = claimed(store, "r1", "S2", "w1", BRIEF)
        lapse(store, clock)
        claimed(store, "r1", "S2", "w2")
        for outcome, text in ((an_outcome(), "first"), (an_outcome(), "second")):
            done = store.finish(Finishing(outcome=outcome, fence=0, documents={("facts", "S1"): text}))
            assert not done.complete
        with pytest.raises(Conflict):
            store.finish(Finishing(outcome=an_outcome("S2"), fence=late, documents={("facts", "S2"): "late"}))
        assert {"S1": "first"} == store.documents("r1", "facts")

    def test_the_last_outcome_of_a_turn_is_known_as_such(self, store: RunStore) -> None:
        """Also when it is recorded again; outcomes of other turns do not count."""
        store.record(an_outcome("S3", turn="wave-2"), 0)
        ended = [Finishing(outcome=an_outcome(node, step), fence=0, of=4) for node in ("S1", "S2") for step in "ab"]
        assert [False, False, False, True] == [store.finish(one).complete for one in ended]
        assert store.finish(ended[0]).complete
        assert not store.finish(replace(ended[0], of=0)).complete

    def test_outcomes_are_counted_by_node_and_turn(self, store: RunStore) -> None:
        """Nodes without an outcome in the turn are not named."""
        for node, step, turn in (("S1", "a", "t1"), ("S1", "b", "t1"), ("S2", "a", "t1"), ("S3", "a", "t2")):
            store.record(an_outcome(node, step, turn), 0)
        assert ({"S1": 2, "S2": 1}, {"S3": 1}) == (store.counts("r1", "t1"), store.counts("r1", "t2"))
        assert ({}, {}) == (store.counts("r1", "t3"), store.counts("r9", "t1"))


def test_forged_data_begins_nothing(redis_store: RedisStore, valkey: Redis) -> None:
    """An outcome or flag without a seal is an error that names the run."""
    redis_store.create(a_run())
    redis_store.record(an_outcome(), 0)
    valkey.hset("esync:run:r1:outcomes:wave-1", "S1\x1fconfig_edit", an_outcome().to_json())
    with pytest.raises(RecordRefused, match="outcome of run r1"):
        redis_store.begin(STEP)
    valkey.hset("esync:run:r1", "flags", '{"cancel": "1"}')
    with pytest.raises(RecordRefused, match="flag of run r1"):
        redis_store.begin(replace(FIRST, node="S2"))


@settings(max_examples=examples(whole=300, sample=25))
@given(
    moves=st.lists(
        st.tuples(st.sampled_from(["begin", "record", "lapse"]), st.sampled_from(["w1", "w2"]), st.sampled_from("abc")),
        max_size=25,
    )
)
def test_at_most_one_worker_has_a_node(store: RunStore, clock: Clock, moves: list[tuple[str, str, str]]) -> None:
    """In any order of begins, ends and lapses: fences only rise, and only the newest one records."""
    store.create(a_run())
    try:
        newest, claims, steps = 0, dict[str, int](), iter(range(100))
        for move, worker, _ in moves:
            if move == "lapse":
                lapse(store, clock)
            elif move == "begin":
                wanted = (("facts", "S1"),)
                begun = store.begin(replace(FIRST, holder=worker, step=f"s{next(steps)}", documents=wanted))
                if begun and begun.claim:
                    assert begun.claim >= newest
                    newest = claims[worker] = begun.claim
            elif claims.get(worker) == newest:
                store.record(an_outcome(step=f"s{next(steps)}"), newest, holder=worker)
                assert worker not in store.leases("r1").values()
    finally:
        store.forget("r1")

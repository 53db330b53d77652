"""One contract for both run stores."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from tests.claiming import claim
from tests.conftest import Clock
from tests.sampling import examples
from workers.errors import ClusterLocked, Conflict, InputRefused, RunUnknown
from workers.records import Change, DocumentKind, Event, RunRecord, RunState, Status, StepOutcome, Turn, Verdict, now
from workers.store.kept import DRAINED, attested
from workers.store.port import ANY_CLAIM, Look, RunStore
from workers.store.redis_store import RedisStore

BRIEF = 2.0  #: seconds of a lease that lapses in the test


def a_run(name: str = "r1", **more: object) -> RunRecord:
    """A run on cluster `shop`."""
    values: dict[str, object] = {"id": name, "cluster": "shop", "spec": {"name": "shop", "nodes": ["S1", "S2"]}}
    return RunRecord.model_validate(values | more)


def an_outcome(node: str = "S1", step: str = "config_edit", turn: str = "wave-1", **more: object) -> StepOutcome:
    """A changed step of run r1."""
    values: dict[str, object] = {
        "run": "r1",
        "turn": turn,
        "node": node,
        "step": step,
        "status": Status.CHANGED,
        "started": now(),
        "ended": now(),
    }
    return StepOutcome.model_validate(values | more)


def conclude(store: RunStore, run: str) -> None:
    """Ends a run."""
    assert store.save(store.run(run).model_copy(update={"state": RunState.CONCLUDED})) is not None


def claimed(store: RunStore, run: str, node: str, holder: str, ttl: float = 60) -> int:
    """The fence of a claim that must succeed."""
    fence = claim(store, run, node, holder, ttl)
    assert fence is not None
    return fence


def lapse(store: RunStore, clock: Clock) -> None:
    """Observes the leases of r1 now, and lets their duration pass without a renewal."""
    store.leases("r1")
    clock.passes(BRIEF)


def at_once(calls: int, request: Callable[[int], object]) -> list[object]:
    """The answers to `calls` calls that start at the same time, each in its own thread."""
    ready = threading.Barrier(calls)

    def call(number: int) -> object:
        ready.wait()
        return request(number)

    with ThreadPoolExecutor(calls) as pool:
        return list(pool.map(call, range(calls)))


class TestRuns:
    """Runs and their transitions."""

    def test_a_run_is_read_as_it_was_written(self, store: RunStore) -> None:
        """Every field of a record is kept."""
        record = a_run(
            turns=(Turn(name="wave-1", stage="apply", steps=("config_edit",), nodes=("S1",)),),
            joined=("observe",),
            verdict=Verdict.JOINED,
            summary="größer \u2028 than ASCII",
            who="ops",
            key="k",
            ended=now(),
        )
        store.create(record)
        assert record == store.run("r1")

    def test_it_has_a_clock(self, store: RunStore) -> None:
        """The same for all processes; here that of this machine."""
        began = now() - timedelta(seconds=1)
        assert began < store.time_of_day() < now() + timedelta(seconds=1)

    def test_an_unknown_run_is_an_error(self, store: RunStore) -> None:
        """The error has the id."""
        with pytest.raises(RunUnknown, match="r9"):
            store.run("r9")

    def test_one_key_is_one_run(self, store: RunStore) -> None:
        """The same non-empty key on a cluster returns the first run."""
        store.create(a_run("r1", key="deploy-7"))
        assert "r1" == store.create(a_run("r2", key="deploy-7")).id
        assert ("r1", "") == (store.keyed("shop", "deploy-7"), store.keyed("shop", "deploy-8"))
        assert ("r1",) == tuple(run.id for run in store.runs())

    def test_keys_of_different_clusters_are_different(self, store: RunStore) -> None:
        """An idempotency key is valid for its cluster."""
        store.create(a_run("r1", key="k"))
        assert "r2" == store.create(a_run("r2", cluster="blog", key="k")).id
        assert "r3" == store.create(a_run("r3", servers="0123456789ab", key="k")).id
        assert ("r1", "r3") == (store.keyed("shop", "k"), store.keyed("shop@0123456789ab", "k"))

    def test_runs_without_a_key_are_different(self, store: RunStore) -> None:
        """An empty key is not a key."""
        store.create(a_run("r1"))
        assert "r2" == store.create(a_run("r2")).id

    def test_the_same_id_twice_is_one_run(self, store: RunStore) -> None:
        """A creation that is repeated after a lost reply changes nothing."""
        first = store.create(a_run("r1", who="ops"))
        assert first == store.create(a_run("r1", who="someone else"))

    def test_creating_at_once_with_one_key_makes_one_run(self, store: RunStore) -> None:
        """Many simultaneous creations with one key return the same run."""
        names = at_once(8, lambda number: store.create(a_run(f"r{number}", key="k")).id)
        assert 1 == len(set(names))
        assert 1 == len(store.runs())

    def test_runs_are_newest_first(self, store: RunStore) -> None:
        """The list begins with the newest run and ends at the limit."""
        for number in range(5):
            store.create(a_run(f"r{number}"))
        assert ("r4", "r3") == tuple(run.id for run in store.runs(limit=2))
        assert () == store.runs(limit=0)
        assert ("r4", "r3", "r2", "r1", "r0") == store.names()
        assert (("r4", "r3"), ()) == (store.names(limit=2), store.names(limit=0))

    def test_saving_counts_the_version(self, store: RunStore) -> None:
        """A save returns and stores the record with its version one higher."""
        record = store.create(a_run())
        saved = store.save(record.model_copy(update={"state": RunState.RUNNING}))
        assert saved is not None
        assert (1, RunState.RUNNING) == (saved.version, saved.state)
        assert saved == store.run("r1")

    def test_a_slower_writer_is_refused(self, store: RunStore) -> None:
        """A save of an older version is refused and changes nothing."""
        record = store.create(a_run())
        first = store.save(record.model_copy(update={"summary": "first"}))
        assert store.save(record.model_copy(update={"summary": "second"})) is None
        assert first == store.run("r1")

    def test_a_transition_is_saved_once(self, store: RunStore) -> None:
        """Of many identical simultaneous saves exactly one succeeds, so a join is decided once."""
        record = store.create(a_run())
        answers = at_once(8, lambda _: store.save(record.model_copy(update={"joined": ("observe",)})))
        assert 1 == sum(answer is not None for answer in answers)

    def test_saving_an_unknown_run_is_an_error(self, store: RunStore) -> None:
        """A run that was never created, or was forgotten, cannot be saved."""
        with pytest.raises(RunUnknown):
            store.save(a_run())

    def test_the_active_index_follows_the_state(self, store: RunStore) -> None:
        """A run is active from its creation until it is saved as concluded."""
        store.create(a_run("r2"))
        record = store.create(a_run("r1"))
        assert ("r1", "r2") == store.active()
        store.save(record.model_copy(update={"state": RunState.CONCLUDED}))
        assert ("r2",) == store.active()

    def test_forgetting_leaves_nothing(self, store: RunStore) -> None:
        """A forgotten run has no record, history, documents, leases, key or lock."""
        store.create(a_run(key="k"))
        store.record(an_outcome(), 0)
        store.note("r1", Event(kind="run.started"))
        store.put("r1", "facts", "S1", "{}")
        claim(store, "r1", "S1", "w1", 60)
        store.flag("r1", "cancel")
        store.lock_servers(("shop:5986",), "r1", 60)
        store.forget("r1")
        assert ((), (), (), ()) == (store.runs(), store.active(), store.outcomes("r1"), store.events("r1"))
        assert ({}, {}, {}) == (store.documents("r1", "facts"), store.leases("r1"), store.flags("r1"))
        store.create(a_run("r2"))
        assert store.lock_servers(("shop:5986",), "r2", 60) is None
        assert "r3" == store.create(a_run("r3", key="k")).id

    def test_forgetting_changes_no_other_run(self, store: RunStore) -> None:
        """Another run, and a lock of another run, stay unchanged."""
        store.create(a_run("r1"))
        store.create(a_run("r2"))
        store.lock_servers(("shop:5986",), "r2", 60)
        store.forget("r1")
        store.forget("r1")
        assert "r2" == store.run("r2").id
        assert "r2" == store.lock_servers(("shop:5986",), "r3", 60)

    @pytest.mark.parametrize(
        "write",
        [
            lambda store: store.record(an_outcome(), 0),
            lambda store: store.note("r1", Event(kind="run.started")),
            lambda store: store.put("r1", "facts", "S1", "{}"),
            lambda store: claim(store, "r1", "S1", "w1", 60),
            lambda store: store.flag("r1", "cancel"),
            lambda store: store.progress("r1"),
            lambda store: store.number("r1", "S1", 1),
        ],
        ids=["record", "note", "put", "claim", "flag", "progress", "number"],
    )
    def test_a_late_writer_does_not_bring_a_run_back(
        self, store: RunStore, write: Callable[[RunStore], object]
    ) -> None:
        """A write to a forgotten run is an error, and the run stays forgotten."""
        store.create(a_run())
        store.forget("r1")
        with pytest.raises(RunUnknown):
            write(store)
        assert () == store.runs()

    def test_progress_is_the_time_since_the_last_change(self, store: RunStore, clock: Clock) -> None:
        """Any outcome, event, document, claim, renewal or save restarts the count; a flag does not."""
        record = store.create(a_run())
        fence = claimed(store, "r1", "S1", "w1")
        for change in (
            lambda: store.record(an_outcome(), fence),
            lambda: store.note("r1", Event(kind="run.started")),
            lambda: store.put("r1", "facts", "S1", "{}"),
            lambda: store.renew("r1", ["S1"], "w1", 60),
            lambda: claim(store, "r1", "S2", "w1", 60),
            lambda: store.save(record),
        ):
            assert 0 == store.progress("r1")
            clock.passes(7)
            store.flag("r1", "pause")
            assert [7, 7] == [store.progress("r1"), store.look("r1").idle]
            change()
            assert 0 == store.progress("r1")

    def test_one_look_shows_the_run_its_flags_and_its_present_turn(self, store: RunStore) -> None:
        """Outcomes of other turns do not count."""
        created = store.create(a_run())
        assert Look(created, {}, {}) == store.look("r1")
        turn = Turn(name="wave-1", stage="wave", nodes=("S1", "S2"), steps=("config_edit", "cert_copy"))
        store.save(created.model_copy(update={"turns": (turn,)}))
        store.flag("r1", "pause", "lunch")
        store.record(an_outcome("S1"), 0)
        store.record(an_outcome("S1", "cert_copy"), 0)
        store.record(an_outcome("S2", turn="wave-0"), 0)
        assert Look(store.run("r1"), {"pause": "lunch"}, {"S1": 2}) == store.look("r1")
        with pytest.raises(RunUnknown):
            store.look("r9")

    def test_flags_are_set_and_removed(self, store: RunStore) -> None:
        """A flag has a value, and an empty value removes it."""
        store.create(a_run())
        store.flag("r1", "cancel")
        store.flag("r1", "logon_refused", "S1")
        assert {"cancel": "1", "logon_refused": "S1"} == store.flags("r1")
        store.flag("r1", "cancel", "")
        assert {"logon_refused": "S1"} == store.flags("r1")

    def test_a_flag_and_the_event_that_says_so_are_one(self, store: RunStore) -> None:
        """Of several processes that set the same value at the same time, one has its event noted."""
        store.create(a_run())
        at_once(8, lambda who: store.flag("r1", "promoted", "wave-2", Event(kind="run.promoted", message=f"by {who}")))
        assert {"promoted": "wave-2"} == store.flags("r1")
        assert 1 == sum(event.kind == "run.promoted" for event in store.events("r1"))
        store.flag("r1", "promoted", "wave-3", Event(kind="run.promoted"), Event(kind="run.promoted"))
        assert 3 == sum(event.kind == "run.promoted" for event in store.events("r1"))
        store.flag("r1", "nothing", "", Event(kind="run.resumed"))
        assert "run.resumed" not in {event.kind for event in store.events("r1")}


class TestHistory:
    """Outcomes, events and documents."""

    def test_an_outcome_is_read_as_it_was_written(self, store: RunStore) -> None:
        """Every field of an outcome is kept."""
        outcome = an_outcome(changes=(Change(what="key", before="0", after="1"),), message="ünï", round_trips=3)
        store.create(a_run())
        assert outcome == store.record(outcome, 0)
        assert outcome == store.outcome("r1", "wave-1", "S1", "config_edit")
        assert (outcome,) == store.outcomes("r1")

    def test_the_first_outcome_is_kept(self, store: RunStore) -> None:
        """A second outcome of the same step is not stored; the first one is returned."""
        store.create(a_run())
        first = store.record(an_outcome(message="first"), 0)
        assert first == store.record(an_outcome(message="second", status=Status.FAILED), 0)
        assert (first,) == store.outcomes("r1")

    def test_no_outcome_yet_is_none(self, store: RunStore) -> None:
        """A step that has not ended has no outcome."""
        store.create(a_run())
        assert store.outcome("r1", "wave-1", "S1", "config_edit") is None

    def test_a_former_holder_cannot_record(self, store: RunStore, clock: Clock) -> None:
        """After another worker claimed a node, the fence of the former holder is refused and nothing is stored."""
        store.create(a_run())
        old = claimed(store, "r1", "S1", "w1", BRIEF)
        lapse(store, clock)
        new = claimed(store, "r1", "S1", "w2")
        assert new > old
        with pytest.raises(Conflict, match="S1"):
            store.record(an_outcome(), old)
        assert () == store.outcomes("r1")
        store.record(an_outcome(), new)

    def test_a_claim_that_the_store_has_lost_cannot_record(self, store: RunStore) -> None:
        """Its step would have an outcome and no begin: only the worker that begins it again records one."""
        store.create(a_run())
        lost = claimed(store, "r1", "S1", "w1") + 1000
        with pytest.raises(Conflict, match="S1"):
            store.record(an_outcome(), lost)
        assert () == store.outcomes("r1")

    def test_a_step_that_is_given_up_ends_whichever_worker_has_its_node(self, store: RunStore) -> None:
        """What decides about the run records it; the worker gets that outcome."""
        store.create(a_run())
        fence = claimed(store, "r1", "S1", "w1")
        stored = store.record(an_outcome(message="given up"), ANY_CLAIM)
        assert stored == store.record(an_outcome(message="ours"), fence)

    def test_a_former_holder_gets_the_stored_outcome(self, store: RunStore, clock: Clock) -> None:
        """When an outcome is stored already, a late writer gets it, whatever its fence."""
        store.create(a_run())
        claim(store, "r1", "S1", "w1", BRIEF)
        lapse(store, clock)
        newest = claimed(store, "r1", "S1", "w2")
        stored = store.record(an_outcome(message="theirs"), newest)
        assert stored == store.record(an_outcome(message="ours"), newest - 1)

    def test_outcomes_can_be_read_per_turn(self, store: RunStore) -> None:
        """Only the outcomes of that turn are returned, in the order in which the steps ended."""
        store.create(a_run())
        start = now()
        late = an_outcome("S1", started=start, ended=start + timedelta(seconds=2))
        early = an_outcome("S2", started=start, ended=start + timedelta(seconds=1))
        other = an_outcome("S1", turn="wave", started=start, ended=start)
        for outcome in (late, early, other):
            store.record(outcome, 0)
        assert (early, late) == store.outcomes("r1", "wave-1")
        assert (other, early, late) == store.outcomes("r1")

    def test_events_get_increasing_ids(self, store: RunStore) -> None:
        """Events are read in order with their ids, and reading can continue after an id."""
        store.create(a_run())
        noted = [store.note("r1", Event(kind="step.ended", node=f"S{number}")) for number in range(5)]
        assert tuple(noted) == store.events("r1")[1:]
        assert tuple(noted[2:4]) == store.events("r1", after=noted[1].id, limit=2)
        assert () == store.events("r1", after=noted[-1].id)
        assert () == store.events("r1", limit=0)

    def test_the_verdict_ends_the_history(self, store: RunStore) -> None:
        """A worker that was stopped for long may note something later: it is ignored, and is no progress."""
        store.create(a_run())
        ended = {"state": RunState.CONCLUDED, "verdict": Verdict.JOINED}
        concluded = store.save(store.run("r1").model_copy(update=ended), Event(kind="run.concluded"))
        assert concluded is not None
        history, chain = store.events("r1"), store.chain("r1")
        assert "" == store.note("r1", Event(kind="step.postponed")).id
        store.flag("r1", "promoted", "wave-2", Event(kind="run.promoted"))
        assert (history, chain) == (store.events("r1"), store.chain("r1"))
        assert "run.concluded" == history[-1].kind
        assert {"promoted": "wave-2"} == store.flags("r1")

    def test_events_belong_to_one_run(self, store: RunStore) -> None:
        """A run has its own history."""
        store.create(a_run("r1"))
        store.create(a_run("r2"))
        store.note("r1", Event(kind="run.started"))
        assert ["run.created"] == [event.kind for event in store.events("r2")]

    @pytest.mark.parametrize("after", ["x", "-", "1-", "1-2-3", "$", "+", "(1-1", "1" * 30, "\u0661-\u0661"])
    def test_an_invalid_event_id_is_refused(self, store: RunStore, after: str) -> None:
        """An impossible id is an error of the caller, not of the store."""
        store.create(a_run())
        with pytest.raises(InputRefused):
            store.events("r1", after=after)

    def test_documents_are_kept_by_kind_and_name(self, store: RunStore) -> None:
        """The last text for a kind and name is kept."""
        store.create(a_run())
        store.put("r1", "facts", "S1", "{}")
        store.put("r1", "facts", "S1", '{"a": "ü"}')
        store.put("r1", "facts", "S2", "")
        store.put("r1", "plan", "S1", "p")
        assert {"S1": '{"a": "ü"}', "S2": ""} == store.documents("r1", "facts")
        assert "p" == store.document("r1", "plan", "S1")
        assert store.document("r1", "plan", "S2") is None
        assert {} == store.documents("r1", "findings")
        kinds = {"plan": {"S1": "p"}, "findings": {}, "facts": store.documents("r1", "facts")}
        assert kinds == store.documents_of("r1", iter(kinds))
        assert {"plan": {}} == store.documents_of("r9", ["plan"])


class TestHolds:
    """Leases, the cluster lock and the leader."""

    def test_a_node_has_one_holder(self, store: RunStore) -> None:
        """A second worker is refused until the first one releases the node; then the fence is higher."""
        store.create(a_run())
        first = claimed(store, "r1", "S1", "w1")
        assert claim(store, "r1", "S1", "w2", 60) is None
        store.release("r1", "S1", "w2")
        assert {"S1": "w1"} == store.leases("r1")
        store.release("r1", "S1", "w1")
        assert {} == store.leases("r1")
        assert claimed(store, "r1", "S1", "w2") > first

    def test_fences_grow_with_each_claim_of_a_run(self, store: RunStore) -> None:
        """Each claim after a release has a larger fence, by node and run."""
        store.create(a_run())
        store.create(a_run("r2"))
        fences = []
        for holder in ("w1", "w2", "w1"):
            fences.append(claimed(store, "r1", "S1", holder))
            store.release("r1", "S1", holder)
        assert sorted(set(fences)) == fences
        assert claimed(store, "r1", "S2", "w1") <= 2 * 16**4
        assert claimed(store, "r2", "S1", "w1") <= 2 * 16**4

    def test_the_holder_can_claim_again(self, store: RunStore, clock: Clock) -> None:
        """A claim by the holder renews the lease and keeps its fence."""
        store.create(a_run())
        first = claim(store, "r1", "S1", "w1", BRIEF)
        lapse(store, clock)
        assert first == claimed(store, "r1", "S1", "w1")
        assert {"S1": "w1"} == store.leases("r1")

    def test_one_of_many_claims_succeeds(self, store: RunStore) -> None:
        """Of many simultaneous claims exactly one gets the node."""
        store.create(a_run())
        fences = at_once(8, lambda number: claim(store, "r1", "S1", f"w{number}", 60))
        assert 7 == fences.count(None)

    def test_the_number_of_held_nodes_has_a_limit(self, store: RunStore, clock: Clock) -> None:
        """At the limit the next claim is refused; holders can still renew, and a lapsed lease does not count."""
        store.create(a_run())
        first, _, third = (claim(store, "r1", node, "w1", 60, limit=2) for node in ("S1", "S2", "S3"))
        assert third is None
        assert first == claim(store, "r1", "S1", "w1", BRIEF, limit=2)
        lapse(store, clock)
        assert claim(store, "r1", "S3", "w1", 60, limit=2) is not None

    def test_the_limit_is_kept_by_simultaneous_claims(self, store: RunStore) -> None:
        """Of many simultaneous claims on different nodes, as many succeed as the limit allows."""
        store.create(a_run())
        fences = at_once(8, lambda number: claim(store, "r1", f"S{number}", "w1", 60, limit=3))
        assert 5 == fences.count(None)

    def test_a_lease_lapses(self, store: RunStore, clock: Clock) -> None:
        """A lease that was seen without a renewal for its duration has lapsed, and the next fence is higher."""
        store.create(a_run())
        first = claimed(store, "r1", "S1", "w1", BRIEF)
        lapse(store, clock)
        assert {} == store.leases("r1")
        assert claimed(store, "r1", "S1", "w2") > first
        assert not store.renew("r1", ["S1"], "w1", 60)

    def test_a_new_observer_sees_no_lapse_yet(self, store: RunStore, clock: Clock) -> None:
        """A lease is valid until it was observed for its full duration, however old it is."""
        store.create(a_run())
        claim(store, "r1", "S1", "w1", BRIEF)
        clock.passes(1000)
        assert claim(store, "r1", "S1", "w2", 60) is None
        clock.passes(BRIEF * 0.9)
        assert claim(store, "r1", "S1", "w2", 60) is None
        clock.passes(BRIEF * 0.2)
        assert claim(store, "r1", "S1", "w2", 60)

    def test_a_renewal_restarts_the_duration(self, store: RunStore, clock: Clock) -> None:
        """A lease that is renewed in time never lapses."""
        store.create(a_run())
        claim(store, "r1", "S1", "w1", BRIEF)
        for _ in range(5):
            lapse(store, clock)
            store.renew("r1", ["S1"], "w1", BRIEF)
            assert {"S1": "w1"} == store.leases("r1")
            assert claim(store, "r1", "S1", "w2", 60) is None

    def test_a_lapsed_lease_is_removed_once(self, store: RunStore, clock: Clock) -> None:
        """Reaping returns the nodes whose lease lapsed, once, and keeps the other leases."""
        store.create(a_run())
        for node, ttl in (("S1", BRIEF), ("S2", BRIEF), ("S3", 60)):
            claim(store, "r1", node, "w1", ttl)
        assert () == store.reap("r1")
        lapse(store, clock)
        store.renew("r1", ["S2"], "w1", BRIEF)
        assert ("S1",) == store.reap("r1")
        assert () == store.reap("r1")
        assert {"S2": "w1", "S3": "w1"} == store.leases("r1")
        assert {"S2"} == store.renew("r1", ["S1", "S2", "S4"], "w1", 60)
        assert () == store.reap("r9")

    def test_a_lapsed_lease_without_a_new_holder_can_be_renewed(self, store: RunStore, clock: Clock) -> None:
        """Its fence is still the newest, so its holder may continue."""
        store.create(a_run())
        claim(store, "r1", "S1", "w1", BRIEF)
        lapse(store, clock)
        assert store.renew("r1", ["S1"], "w1", 60)
        assert {"S1": "w1"} == store.leases("r1")

    def test_a_missing_lease_cannot_be_renewed(self, store: RunStore) -> None:
        """That of a free node, of an unknown run, or of a released node."""
        store.create(a_run())
        claim(store, "r1", "S2", "w1", 60)
        store.release("r1", "S2", "w1")
        assert [False] * 3 == [
            bool(store.renew(run, [node], "w1", 60)) for run, node in [("r1", "S1"), ("r9", "S1"), ("r1", "S2")]
        ]

    def test_leases_belong_to_one_run(self, store: RunStore) -> None:
        """The same node in another run has its own lease."""
        store.create(a_run("r1"))
        store.create(a_run("r2"))
        claim(store, "r1", "S1", "w1", 60)
        assert claim(store, "r2", "S1", "w2", 60) is not None

    def test_a_cluster_has_one_run(self, store: RunStore) -> None:
        """All other runs get the id of the run with the lock, until that run is concluded."""
        for name in ("r1", "r2", "r3"):
            store.create(a_run(name))
        assert store.lock_servers(("shop:5986",), "r1", 60) is None
        assert store.lock_servers(("shop:5986",), "r1", 60) is None
        assert "r1" == store.lock_servers(("shop:5986",), "r2", 60)
        conclude(store, "r3")
        assert "r1" == store.lock_servers(("shop:5986",), "r2", 60)
        conclude(store, "r1")
        assert store.lock_servers(("shop:5986",), "r2", 60) is None
        assert "r2" == store.lock_servers(("shop:5986",), "r1", 60)

    @pytest.mark.parametrize("late", ["concluded", "unknown"])
    def test_a_concluded_run_gets_no_lock(self, store: RunStore, late: str) -> None:
        """A renewal by a process that read the run before its end leaves the cluster free for the next run."""
        for name in ("concluded", "next"):
            store.create(a_run(name))
        store.lock_servers(("shop:5986",), "concluded", 60)
        conclude(store, "concluded")
        assert store.lock_servers(("shop:5986",), late, 60) is None
        assert store.lock_servers(("shop:5986",), "next", 60) is None

    def test_a_cluster_lock_lapses(self, store: RunStore, clock: Clock) -> None:
        """A run that does not renew loses the lock to a run that observed that for its duration."""
        store.create(a_run("r1"))
        store.create(a_run("r2"))
        store.lock_servers(("shop:5986",), "r1", BRIEF)
        clock.passes(1000)
        assert "r1" == store.lock_servers(("shop:5986",), "r2", 60)
        clock.passes(BRIEF)
        assert store.lock_servers(("shop:5986",), "r2", 60) is None

    def test_a_run_without_its_cluster_lock_gets_no_node(self, store: RunStore, clock: Clock) -> None:
        """A run that lost the lock on its cluster gets no claim and no number until it has the lock again."""
        for run in ("r1", "r2"):
            store.create(a_run(run))
        store.lock_servers(("shop:5986",), "r1", BRIEF)
        fence = claimed(store, "r1", "S1", "w1")
        assert 6 == store.number("r1", "S1", fence, seen=5)
        store.lock_servers(("shop:5986",), "r2", BRIEF)
        clock.passes(BRIEF)
        assert store.lock_servers(("shop:5986",), "r2", 60) is None
        assert claim(store, "r1", "S2", "w1", 60) is None
        with pytest.raises(ClusterLocked, match="r1"):
            store.number("r1", "S1", fence)
        assert claim(store, "r2", "S2", "w1", 60)
        conclude(store, "r2")
        assert store.lock_servers(("shop:5986",), "r1", 60) is None
        assert claim(store, "r1", "S2", "w1", 60)

    def test_a_run_gets_all_servers_or_none(self, store: RunStore) -> None:
        """One server that another run has is enough; the others stay free, and so they do when that run ends."""
        for run in ("r1", "r2", "r3"):
            store.create(a_run(run))
        forty = [f"s{number}:5986" for number in range(40)]
        assert store.lock_servers(forty[39:], "r1", 60) is None
        assert "r1" == store.lock_servers(forty, "r2", 60)
        assert store.lock_servers(forty[:1], "r3", 60) is None
        conclude(store, "r1")
        assert "r3" == store.lock_servers(forty, "r2", 60)
        conclude(store, "r3")
        assert store.lock_servers(forty, "r2", 60) is None

    def test_runs_of_one_cluster_name_on_other_servers_do_not_meet(self, store: RunStore) -> None:
        """Both runs get their servers, and every node of them."""
        for number in (1, 2):
            store.create(a_run(f"r{number}"))
            assert store.lock_servers((f"10.0.0.{number}:5986",), f"r{number}", 60) is None
            fence = claimed(store, f"r{number}", "S1", "w1")
            assert store.number(f"r{number}", "S1", fence, seen=5) > 5

    def test_all_silent_runs_lose_their_servers_at_the_same_time(self, store: RunStore, clock: Clock) -> None:
        """A run on forty servers waits once for all runs that have lapsed; each of them loses all its servers."""
        for run in ("r1", "r2", "r3"):
            store.create(a_run(run))
        store.lock_servers(("a:1", "b:1"), "r1", BRIEF)
        store.lock_servers(("c:1", "d:1"), "r2", BRIEF)
        assert store.lock_servers(("a:1", "c:1"), "r3", 60) in {"r1", "r2"}
        clock.passes(BRIEF)
        assert store.lock_servers(("a:1", "c:1"), "r3", 60) is None
        for run, server in (("r1", "b:1"), ("r2", "d:1")):
            assert claim(store, run, "S1", "w1", 60) is None
            assert "r3" == store.lock_servers(("a:1", "c:1", server), run, 60)
        store.create(a_run("r4"))
        assert store.lock_servers(("b:1", "d:1"), "r4", 60) is None

    def test_whether_a_run_has_its_servers(self, store: RunStore, clock: Clock) -> None:
        """From the lock to its end, and while this process sees it renewed; never for a run that does not exist."""
        store.create(a_run())
        assert not store.has_servers("r1")
        assert not store.has_servers("nosuch")
        store.lock_servers(("a:1",), "r1", BRIEF)
        assert store.has_servers("r1")
        clock.passes(BRIEF)
        assert not store.has_servers("r1")
        store.lock_servers(("a:1",), "r1", BRIEF)
        assert store.has_servers("r1")
        conclude(store, "r1")
        assert not store.has_servers("r1")

    def test_one_of_many_runs_gets_the_servers(self, store: RunStore) -> None:
        """Of simultaneous runs on overlapping servers exactly one is not refused."""
        for number in range(8):
            store.create(a_run(f"r{number}"))
        found = at_once(8, lambda number: store.lock_servers((f"own{number}:1", "shared:1"), f"r{number}", 60))
        assert 1 == found.count(None)

    def test_a_run_has_one_number_on_a_node(self, store: RunStore, clock: Clock) -> None:
        """It is larger than all that the node has seen, never decreases, and only the newest claim gets it."""
        store.create(a_run())
        store.lock_servers(("shop:5986",), "r1", 60)
        first = claimed(store, "r1", "S1", "w1", BRIEF)
        assert 0 == store.number("r1", "S1", first)
        assert 8 == store.number("r1", "S1", first, seen=7)
        assert 8 == store.number("r1", "S1", first, seen=3) == store.number("r1", "S1", first)
        large = 2**62
        assert large + 1 == store.number("r1", "S1", first, seen=large)
        assert 1 == store.number("r1", "S2", claimed(store, "r1", "S2", "w1"), seen=0)
        lapse(store, clock)
        second = claimed(store, "r1", "S1", "w2")
        with pytest.raises(Conflict, match="S1"):
            store.number("r1", "S1", first)
        assert store.number("r1", "S1", second, seen=9) > 9

    def test_two_runs_never_get_the_same_number(self, store: RunStore) -> None:
        """The number of a later run is larger than all before, also when the node has not seen those."""
        for run, wanted in (("r1", 6), ("r2", 7), ("r3", 8)):
            store.create(a_run(run))
            store.lock_servers(("shop:5986",), run, 60)
            fence = claimed(store, run, "S1", "w1")
            assert (0, wanted) == (store.number(run, "S1", fence), store.number(run, "S1", fence, seen=5))
            conclude(store, run)

    def test_a_run_without_a_cluster_lock_gets_no_number(self, store: RunStore) -> None:
        """A read-only run claims nodes, and may not change them."""
        store.create(a_run())
        fence = claimed(store, "r1", "S1", "w1")
        with pytest.raises(ClusterLocked, match="r1"):
            store.number("r1", "S1", fence, seen=5)

    def test_there_is_one_leader(self, store: RunStore, clock: Clock) -> None:
        """The first caller leads until others observed that it does not renew."""
        assert store.elect("reconciler", "w1", BRIEF)
        assert not store.elect("reconciler", "w2", 60)
        clock.passes(BRIEF * 0.6)
        assert store.elect("reconciler", "w1", BRIEF)
        clock.passes(BRIEF * 0.6)
        assert not store.elect("reconciler", "w2", 60)
        clock.passes(BRIEF)
        assert store.elect("reconciler", "w2", 60)
        assert store.elect("janitor", "w1", 60)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=examples(whole=500, sample=25))
@given(name=text, document=text, holder=text.filter(bool), message=text, node=text.filter(bool))
def test_any_text_is_kept(store: RunStore, name: str, document: str, holder: str, message: str, node: str) -> None:
    """Names, holders, messages and documents are read unchanged, whatever their characters."""
    store.create(a_run())
    store.put("r1", "facts", name, document)
    store.record(an_outcome(node, message=message), claimed(store, "r1", node, holder))
    try:
        assert document == store.document("r1", "facts", name)
        assert {node: holder} == store.leases("r1")
        found = store.outcome("r1", "wave-1", node, "config_edit")
        assert found is not None
        assert (node, message) == (found.node, found.message)
    finally:
        store.forget("r1")


def test_a_released_node_frees_a_place_below_the_limit(store: RunStore) -> None:
    """A claim beyond the limit is refused until a node is released; a renewal takes no place."""
    run = store.create(a_run()).id
    first, _ = (claim(store, run, node, "w1", 30, limit=2) for node in ("A", "B"))
    assert claim(store, run, "C", "w2", 30, limit=2) is None
    assert first == claim(store, run, "A", "w1", 30, limit=2)
    store.release(run, "B", "w1")
    assert claim(store, run, "C", "w2", 30, limit=2) is not None


def test_a_measurement_from_outside_is_no_progress(store: RunStore, clock: Clock) -> None:
    """A run that stands still is measured, too: it would never count as stalled."""
    store.create(a_run())
    store.progress("r1")
    clock.passes(7)
    store.put("r1", DocumentKind.AVAILABILITY, "a", "{}")
    assert 7 == store.progress("r1")
    assert {"a": "{}"} == store.documents("r1", DocumentKind.AVAILABILITY)
    store.put("r1", DocumentKind.PLAN, "plan", "{}")
    assert 0 == store.progress("r1")
    store.forget("r1")
    assert {} == store.documents("r1", DocumentKind.AVAILABILITY)


def test_what_persons_confirmed_is_kept_by_cluster_and_rule(store: RunStore) -> None:
    """The newest text counts, other clusters and rules are apart, an empty text removes it, no run is needed."""
    assert {} == store.all_kept(attested("shop@1"))
    store.keep(attested("shop@1"), "balancer.sticky-sessions", "old")
    store.keep(attested("shop@1"), "balancer.sticky-sessions", "mk, \u00fcber HTTPS")
    store.keep(attested("shop@1"), "licence", "ab")
    store.keep(attested("shop@2"), "licence", "cd")
    assert {"balancer.sticky-sessions": "mk, \u00fcber HTTPS", "licence": "ab"} == store.all_kept(attested("shop@1"))
    store.keep(attested("shop@1"), "licence", "")
    store.keep(attested("shop@1"), "licence", "")
    assert {"balancer.sticky-sessions"} == store.all_kept(attested("shop@1")).keys()
    assert {"licence": "cd"} == store.all_kept(attested("shop@2"))


def test_forgetting_a_run_leaves_what_persons_confirmed(store: RunStore) -> None:
    """It is about the cluster, not about the run."""
    store.create(a_run())
    store.keep(attested("shop"), "licence", "ab")
    store.forget("r1")
    assert {"licence": "ab"} == store.all_kept(attested("shop"))


def test_marks_of_drained_servers_are_kept_by_server(store: RunStore) -> None:
    """The newest text counts, an empty text removes it, and forgetting a run leaves them."""
    assert {} == store.all_kept(DRAINED)
    store.create(a_run())
    store.keep(DRAINED, "p1:5986", "old")
    store.keep(DRAINED, "p1:5986", "{}")
    store.keep(DRAINED, "p2:5986", "{}")
    store.keep(DRAINED, "p2:5986", "")
    store.keep(DRAINED, "p2:5986", "")
    store.forget("r1")
    assert {"p1:5986": "{}"} == store.all_kept(DRAINED)


def test_a_claim_that_a_replica_did_not_know_is_not_given_again(redis_store: RedisStore, valkey: Redis) -> None:
    """A server that has lost the last claim in a fail-over gives another one: a node can tell both workers apart."""
    redis_store.create(a_run())
    lost = claimed(redis_store, "r1", "S1", "w1")
    valkey.delete("esync:run:r1:claims")
    assert lost != claimed(redis_store, "r1", "S1", "w2")


def test_a_look_sees_the_turn_that_another_process_has_opened(redis_store: RedisStore, valkey: Redis) -> None:
    """A process remembers the run that it has read, and reads it again when it was saved since."""
    other = RedisStore(valkey, redis_store._seal)
    created = other.create(a_run())
    assert created == redis_store.look("r1").record
    for number, outcomes in enumerate(({"S1": 1}, {}), start=1):
        turn = Turn(name=f"wave-{number}", stage="wave", nodes=("S1", "S2"), steps=("config_edit",))
        created = created.model_copy(update={"turns": (*created.turns, turn), "version": number - 1})
        saved = other.save(created)
        other.record(an_outcome(), 0)
        assert saved is not None
        assert Look(saved, {}, outcomes) == redis_store.look("r1")

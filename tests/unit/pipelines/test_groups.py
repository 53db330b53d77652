"""Runs of many clusters take turns: never too many, never two on one server, and none is lost when processes die."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.audit.bundle import bundle_of
from pipelines.audit.check import check
from pipelines.cli import steering
from pipelines.cli.steer import SteeredRuns
from pipelines.coordinator import begin, waits_in_group
from pipelines.engine import Engine
from pipelines.reconcile import Reconciler, begin_or_continue, resume_stalled
from pipelines.run.groups import Place, in_line, next_ones, waits_for
from pipelines.usecases import control
from pipelines.usecases.doing import steered
from pipelines.usecases.groups import Member, already_running, start_group, start_group_by_names
from pipelines.usecases.listing import runs_of
from pipelines.usecases.runs import cluster_by_name, start, summary
from tasks.cluster import Cluster
from tasks.steering import Steering, hold_before
from tests.sampling import examples
from tests.unit.pipelines.audit.bundled_run import the_cluster
from tests.unit.pipelines.steered_workers import Messages
from workers.errors import ClusterLocked, InputRefused, RecordRefused, TooManyRuns
from workers.records import RunRecord, RunState, Verdict
from workers.secrets.vault import Vault, new_seal_key
from workers.settings import Settings
from workers.store.memory import MemoryStore

_DATA = the_cluster().model_dump()


def cluster(number: int, shares: int | None = None) -> Cluster:
    """A cluster of two servers of its own; or the second one is that of another cluster."""
    hosts = {"S1": f"10.0.{number}.1", "P1": f"10.0.{number if shares is None else shares}.2"}
    nodes = [node | {"host": hosts[node["name"]]} for node in _DATA["nodes"] if node["name"] in hosts]
    return Cluster.model_validate(_DATA | {"name": f"shop-{number}", "nodes": nodes, "origin": "S1"})


class Office:
    """An engine without workers: its messages wait in a list."""

    def __init__(self, **limits: object) -> None:
        self.passed = 0.0
        self.store = MemoryStore(lambda: self.passed)
        self.app = Messages()
        known = Settings(seal_key=new_seal_key(), **limits)
        self.engine = Engine(known, self.store, Vault(self.store, known.seal_key), self.app)
        self.reconciler = Reconciler(self.engine, "one")

    def running(self) -> list[RunRecord]:
        """The runs that have begun and are not concluded."""
        records = map(self.store.run, self.store.active())
        return [record for record in records if record.turns]

    def begins(self) -> list[str]:
        """Takes the messages that begin runs."""
        found = [message.args[0] for message in self.app.waiting if message.name == "esync.begin"]
        self.app.waiting.clear()
        return found

    def conclude(self, run: str) -> None:
        """Ends a run that has begun."""
        control.cancel(self.engine, run, "enough")
        resume_stalled(self.engine, run)
        assert self.store.run(run).state is RunState.CONCLUDED

    def reconcile(self) -> None:
        """The guarantee acts: two rounds with time between them."""
        self.reconciler.check_runs()
        self.passed += 60
        self.reconciler.check_runs()


def started(engine: Engine, clusters: Sequence[Cluster], at_most: int, kind: str = "rollout") -> list[str]:
    """Ids of a new group."""
    return [record.id for record in start_group(engine, [Member(one) for one in clusters], at_most=at_most, kind=kind)]


def move(place: Office, what: str, number: int, runs: Sequence[str], messages: list[str]) -> None:
    """One thing that happens: a message arrives or is lost, a run ends or is cancelled, the reconciler looks."""
    going = place.running()
    if what == "look":
        place.reconcile()
    elif what == "end" and going:
        place.conclude(going[number % len(going)].id)
    elif what == "cancel":
        control.cancel(place.engine, runs[number % len(runs)], "not this one")
    elif what == "deliver" and messages:
        begin_or_continue(place.engine, messages.pop(number % len(messages)))
    elif what == "lose" and messages:
        messages.pop(number % len(messages))


@settings(max_examples=examples(600, 20))
@given(
    sharing=st.lists(st.none() | st.integers(0, 6), min_size=1, max_size=7),
    at_most=st.integers(1, 4),
    moves=st.lists(st.tuples(st.sampled_from(["deliver", "lose", "end", "look", "cancel"]), st.integers(0, 9))),
)
def test_a_group_takes_turns_whatever_is_lost(
    sharing: list[int | None], at_most: int, moves: list[tuple[str, int]]
) -> None:
    """Never more running than allowed, never two on one server, none ends as locked, and every run begins or ends."""
    place = Office()
    chosen = [cluster(number, shares) for number, shares in enumerate(sharing)]
    runs = started(place.engine, chosen, at_most)
    begun: set[str] = set()
    messages = place.begins()

    def check() -> None:
        records = place.running()
        begun.update(record.id for record in records)
        assert len(records) <= at_most
        for one, other in itertools.combinations(records, 2):
            assert set(Cluster.of_run(one).servers).isdisjoint(Cluster.of_run(other).servers)
        assert all(place.store.run(run).verdict is not Verdict.LOCKED for run in runs)

    for what, number in moves:
        messages += place.begins()
        move(place, what, number, runs, messages)
        check()
    for _ in range(2 * len(runs)):  # all messages are lost from here on
        place.reconcile()
        check()
        for record in place.running():
            place.conclude(record.id)
    assert place.store.active() == ()
    cancelled = {run for run in runs if Steering.of(place.store, run).cancelled == "not this one"}
    assert begun | cancelled == set(runs)


def test_the_next_run_begins_when_another_ends() -> None:
    """By a message of the one that ended, in the order of the request."""
    place = Office()
    runs = started(place.engine, [cluster(number) for number in range(3)], 1)
    for run in place.begins():
        begin(place.engine, run)
    assert [record.id for record in place.running()] == runs[:1]
    place.conclude(runs[0])
    assert runs[1] in place.begins()


def test_the_time_of_a_run_counts_from_its_turn() -> None:
    """Not from the request: the last of many would have taken as long as all of them. Its bundle is valid."""
    place = Office()
    runs = started(place.engine, [cluster(0), cluster(1)], 1)
    begin(place.engine, runs[0])
    place.conclude(runs[0])
    begin(place.engine, runs[1])
    place.conclude(runs[1])
    first, second = (place.store.run(run) for run in runs)
    assert first.ended
    assert second.began
    assert first.ended <= second.began == second.since
    assert second.seconds(second.began) < (second.ended or second.began).timestamp() - second.created.timestamp()
    check(bundle_of(place.store, summary(place.engine, second.id)))
    alone = start(place.engine, cluster(2))
    assert (alone.began, alone.since) == (None, alone.created)


def unreadable(error: RecordRefused) -> None:
    """All runs of these tests can be read."""
    raise error


def test_a_refused_message_uses_no_key_up(tmp_path: Path) -> None:
    """A run works on one of its clusters: no run is created, and the same message starts them all later."""
    place = Office(clusters=tmp_path)
    for number in range(2):
        written = cluster(number).model_dump(mode="json", exclude_defaults=True)
        (tmp_path / f"shop-{number}.yaml").write_text(json.dumps(written))
    names = ["shop-0", "shop-1"]
    alone = start(place.engine, cluster_by_name(place.engine, "shop-1"))
    begin(place.engine, alone.id)
    with pytest.raises(ClusterLocked, match=alone.id):
        start_group_by_names(place.engine, names, key="deploy")
    assert (alone.id,) == place.store.active()
    place.conclude(alone.id)
    runs = start_group_by_names(place.engine, names, key="deploy")
    begin(place.engine, runs["shop-0"].id)
    assert runs.keys() == set(names)
    assert {one.id for one in runs.values()} == set(place.store.active())
    again = start_group_by_names(place.engine, names, key="deploy")
    assert [one.id for one in runs.values()] == [one.id for one in again.values()]


def test_a_list_says_what_runs_wait_for_and_can_be_of_some_clusters() -> None:
    """A run that is held or paused, or waits for its turn, does not just run."""
    place = Office()
    runs = started(place.engine, [cluster(number) for number in range(5)], 3)
    for run in runs[:3]:
        begin(place.engine, run)
    control.pause(place.engine, runs[0])
    hold_before(place.store, runs[1], "wave-2")
    of_two = runs_of(place.store, [cluster(0), cluster(4)], 9, unreadable)
    assert [runs[4], runs[0]] == [record.id for record in of_two]
    assert [runs[4]] == [record.id for record in runs_of(place.store, [cluster(0), cluster(4)], 1, unreadable)]
    doing = steered(place.store, map(place.store.run, runs))
    assert doing == {runs[0]: "paused", runs[1]: "held before wave-2"} | dict.fromkeys(runs[3:], "waits for its turn")
    control.cancel(place.engine, runs[1], "enough")
    assert steered(place.store, [place.store.run(runs[1])]) == {runs[1]: "stopping"}


def test_a_list_does_not_say_that_a_run_that_only_looks_waits_for_servers() -> None:
    """It needs no lock on them: what it waits for, until a worker has begun it, is a worker."""
    place = Office()
    members = [Member(cluster(0)), Member(cluster(1, 0))]
    runs = list(start_group(place.engine, members, at_most=2, kind="verify"))
    assert {} == steered(place.store, runs)


def test_a_list_says_that_a_run_waits_for_the_servers_of_one_before_it() -> None:
    """Others of the group may have begun meanwhile; it waits for its turn, too."""
    place = Office()
    runs = started(place.engine, [cluster(0), cluster(1, 0), cluster(2)], 3)
    for run in runs:
        begin(place.engine, run)
    assert {runs[1]: "waits for its turn"} == steered(place.store, map(place.store.run, runs))
    place.conclude(runs[0])
    begin(place.engine, runs[1])
    assert {} == steered(place.store, map(place.store.run, runs))


def test_a_command_that_dies_loses_no_run_that_it_created() -> None:
    """Those before its death are done, in their order; the others do not exist, and the same request creates them."""
    place = Office()
    members = [Member(cluster(number)) for number in range(3)]
    asking = start_group(place.engine, members, at_most=1)
    runs = [next(asking).id, next(asking).id]
    del asking
    assert place.store.active() == tuple(sorted(runs))
    for run in runs:
        place.reconcile()
        assert [record.id for record in place.running()] == [run]
        place.conclude(run)
    assert already_running(place.engine, members[2], "rollout", ()) is None


def test_runs_that_only_look_may_share_servers() -> None:
    """A second verify of a server does not wait for the first one."""
    place = Office()
    runs = started(place.engine, [cluster(0), cluster(1, 0)], 2, kind="verify")
    for run in runs:
        begin(place.engine, run)
    assert [record.id for record in place.running()] == runs


def test_a_waiting_run_that_is_cancelled_ends_at_once() -> None:
    """Without a turn, and without taking the place of another one."""
    place = Office()
    runs = started(place.engine, [cluster(0), cluster(1)], 1)
    begin(place.engine, runs[0])
    control.cancel(place.engine, runs[1], "not this one")
    begin_or_continue(place.engine, runs[1])
    record = place.store.run(runs[1])
    assert (record.verdict, record.turns, record.summary) == (Verdict.CANCELLED, (), "cancelled: not this one")


def test_a_whole_group_is_cancelled() -> None:
    """The last ones first: none of them begins because one before it has ended. Another group is left alone."""
    place = Office()
    runs, other = started(place.engine, [cluster(0), cluster(1), cluster(2)], 1), started(place.engine, [cluster(3)], 1)
    begin(place.engine, runs[0])
    own = Place.of(runs[0])
    assert own is not None
    steering.cancel(SteeredRuns(place.engine), own.group, "enough")
    for run in place.begins():
        begin_or_continue(place.engine, run)
    records = [place.store.run(run) for run in runs]
    assert [(record.verdict, bool(record.turns)) for record in records] == [
        (Verdict.CANCELLED, True), (Verdict.CANCELLED, False), (Verdict.CANCELLED, False),
    ]  # fmt: skip
    assert place.store.run(other[0]).state is not RunState.CONCLUDED


def test_a_whole_group_is_paused_and_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    """Also the runs that wait: none of them sends a step when its turn comes. Resumed are those that are paused."""
    place = Office()
    runs, group = started(place.engine, [cluster(0), cluster(1), cluster(2)], 2), ""
    begin(place.engine, runs[0])
    if own := Place.of(runs[0]):
        group = own.group
    steered = SteeredRuns(place.engine)
    steering.pause(steered, group, "wait")
    assert all(Steering.of(place.store, run).paused for run in runs)
    assert f"3 runs of group {group} are paused; to continue: esync resume {group}" in capsys.readouterr().err
    control.resume(place.engine, runs[1])
    place.conclude(runs[0])
    steering.resume(steered, group)
    assert f"1 run of group {group} is resumed; to see them: esync watch {group}" in capsys.readouterr().err
    assert not any(Steering.of(place.store, run).paused for run in runs[1:])
    with pytest.raises(InputRefused, match=f"no run of group {group} can be resumed"):
        steering.resume(steered, group)


def test_the_held_runs_of_a_group_begin_together(capsys: pytest.CaptureFixture[str]) -> None:
    """Those that wait for a second person do not."""
    place = Office()
    runs = started(place.engine, [cluster(0), cluster(1), cluster(2)], 3)
    own = Place.of(runs[0])
    assert own is not None
    with pytest.raises(InputRefused, match="can be promoted"):
        steering.promote(SteeredRuns(place.engine), own.group, "")
    for run in runs:
        begin(place.engine, run)
    hold_before(place.store, runs[0], "wave-2")
    hold_before(place.store, runs[1], "wave-2", approval=True)
    steering.promote(SteeredRuns(place.engine), own.group, "")
    assert f"1 run of group {own.group} is promoted" in capsys.readouterr().err
    assert ["", "wave-2", ""] == [Steering.of(place.store, run).held for run in runs]


def test_a_waiting_run_spends_no_time_and_locks_nothing() -> None:
    """Its deadline begins when it does; a run that was requested alone gets its servers first."""
    place = Office()
    runs = started(place.engine, [cluster(0), cluster(1)], 1)
    begin(place.engine, runs[0])
    place.reconcile()
    assert waits_in_group(place.engine, place.store.run(runs[1]))
    assert place.store.flags(runs[1]) == {}
    assert not place.store.has_servers(runs[1])


def test_only_runs_that_may_be_running_count_against_the_limit() -> None:
    """A group of many is accepted where its runs at the same time are; then one more run is refused."""
    place = Office(max_active=2)
    with pytest.raises(TooManyRuns, match="the limit is 2"):
        started(place.engine, [cluster(number) for number in range(5)], 3)
    assert place.store.active() == ()
    started(place.engine, [cluster(number) for number in range(5)], 2)
    with pytest.raises(TooManyRuns):
        start(place.engine, cluster(9))


def test_the_same_request_again_finds_what_is_running() -> None:
    """The same kind for the same description; another kind, another option or another description is another run."""
    place = Office()
    runs = started(place.engine, [cluster(0), cluster(1)], 1)
    assert [already_running(place.engine, Member(cluster(number)), "rollout", ()) for number in (0, 1)] == [
        place.store.run(run) for run in runs
    ]
    assert already_running(place.engine, Member(cluster(0)), "verify", ()) is None
    assert already_running(place.engine, Member(cluster(0)), "rollout", ("prune",)) is None
    assert already_running(place.engine, Member(cluster(0, 1)), "rollout", ()) is None


def test_a_key_makes_a_repeated_request_one() -> None:
    """For each cluster of it: the runs of the first request are returned."""
    place = Office()
    members = [Member(cluster(0)), Member(cluster(1))]
    first = [record.id for record in start_group(place.engine, members, key="k")]
    assert [record.id for record in start_group(place.engine, members, key="k")] == first


def test_a_group_needs_room_for_one() -> None:
    """None at a time is refused."""
    with pytest.raises(InputRefused):
        started(Office().engine, [cluster(0)], 0)


@given(
    at_most=st.integers(1, 5),
    numbers=st.sets(st.integers(0, 30)),
    others=st.lists(st.from_regex(r"\A[a-z0-9-]{1,20}-[0-9a-f]{6}\Z"), max_size=4),
)
def test_ids_alone_say_who_waits(at_most: int, numbers: set[int], others: list[str]) -> None:
    """The first so many by place do not wait; runs that were requested alone never do."""
    runs = [f"20261123-191500-x-{Place('7f3a1c22', at_most, number)}" for number in sorted(numbers)]
    active = [*others, *reversed(runs)]
    assert in_line(active) == set(runs[at_most:])
    for number, run in enumerate(runs):
        assert waits_for(run, ("here",), active, lambda _: ("here", "there")) == "".join(runs[: min(number, 1)])
        assert waits_for(run, ("here",), active, {**dict.fromkeys(runs, ()), run: ("here",)}.__getitem__) == ""
        assert next_ones(run, active) == tuple(runs[:at_most])
    assert not any(next_ones(other, active) for other in others)
    assert not any(waits_for(other, ("here",), active, lambda _: ("here",)) for other in others)

"""What a retry includes, what `last` means, and which run has to wait: decided by the store alone."""

from collections.abc import Collection
from typing import Any

import pytest
from celery import Celery

from pipelines.cli.results import find_run, is_active
from pipelines.coordinator import LOCK_TTL, begin
from pipelines.engine import Engine
from pipelines.reconcile import resume_stalled
from pipelines.report.runs_text import run_lines
from pipelines.usecases import control
from pipelines.usecases import rollback as undoing
from pipelines.usecases.naming import newest_run
from pipelines.usecases.runs import start
from tasks.cluster import Cluster
from tasks.ektron.certificates.family import Family
from tasks.ektron.certificates.making import generate_family
from tasks.steering import Steering, hold_before
from tests.unit.pipelines.report.sample_run import sample
from workers.errors import InputRefused, RunUnknown
from workers.records import RunRecord, RunState, Status, Verdict, now
from workers.secrets.vault import Vault, new_seal_key
from workers.settings import Settings
from workers.store.memory import MemoryStore


@pytest.fixture
def engine() -> Engine:
    """An engine without nodes and without a broker."""
    store = MemoryStore()
    return Engine(Settings(), store, Vault(store, new_seal_key()), Celery(broker="memory://"))


def kept(
    engine: Engine,
    run: str,
    *,
    outcomes: bool = True,
    failed: Collection[str] = (),
    **fields: Any,  # noqa: ANN401 - RunRecord checks them
) -> str:
    """A rollout in the store, with that id; P2 was unreachable."""
    made = sample(failed=tuple(failed), unreachable=("P2",))
    engine.store.create(made.record.model_copy(update={"id": run, **fields}))
    for outcome in made.outcomes if outcomes else ():
        engine.store.record(outcome.model_copy(update={"run": run}), 0)
    return run


def left(engine: Engine, run: str) -> dict[str, str]:
    """What a run left unfinished, by node."""
    return control.unfinished(engine, run)


def test_a_retry_names_its_parent_and_takes_the_unfinished_nodes(engine: Engine) -> None:
    """The nodes that failed or were unreachable; no others."""
    run = kept(engine, "first", failed=["P1"])
    assert {"P1": "failed", "P2": "unreachable"} == left(engine, run)
    again = control.retry(engine, run)
    assert (("P1", "P2"), run) == (again.only, again.parent)


def test_a_retry_has_the_options_of_its_parent(engine: Engine) -> None:
    """What a rollout with `--prune` left on a node is removed by its retry."""
    assert control.retry(engine, kept(engine, "first", options=("prune",))).options == ("prune",)


def test_each_kind_can_be_chosen(engine: Engine) -> None:
    """Only the unreachable, only the failed."""
    run = kept(engine, "first", failed=["P1"])
    assert control.retry(engine, run, {"unreachable"}).only == ("P2",)
    assert control.retry(engine, run, {"failed"}).only == ("P1",)


def test_the_retry_of_a_retry_takes_the_unfinished_nodes_of_both(engine: Engine) -> None:
    """A node that the retry did not select is as the first run left it; a node that the retry finished is done."""
    first = kept(engine, "first", failed=["S2", "P1"])
    second = kept(engine, "second", failed=["P1"], parent=first, only=("P1",))
    assert {"S2": "failed", "P1": "failed", "P2": "unreachable"} == left(engine, second)
    third = kept(engine, "third", parent=second, only=("S2", "P1"))
    assert {"P2": "unreachable"} == left(engine, third)


def test_a_retry_has_the_certificates_that_were_handed_out(engine: Engine) -> None:
    """By the run or by one that it retries; if none of them has changed a node, those that count on the nodes now."""
    made, look = generate_family("S1"), sample().record.turns[:1]

    def retried(run: str, **fields: Any) -> bool:  # noqa: ANN401 - RunRecord checks them
        kept(engine, run, failed=["P1"], **fields)
        engine.documents(engine.store.run(run)).keep_family(made)
        return engine.documents(control.retry(engine, run)).family() == made

    assert retried("first")
    assert not retried("looked", turns=look)
    assert retried("second", turns=look, parent="first", only=("P1",))
    assert not retried("third", turns=look, parent="looked", only=("P1",))
    assert retried("fourth", turns=look, parent="gone", only=("P1",))


def test_a_retry_is_refused_when_a_later_run_has_handed_out_other_certificates(engine: Engine) -> None:
    """Its nodes and the others would refuse each other. One that only looked, or has the same, does not count."""
    ours, other, look = generate_family("S1"), generate_family("S1"), sample().record.turns[:1]

    def done(run: str, family: Family, **fields: Any) -> str:  # noqa: ANN401 - RunRecord checks them
        kept(engine, run, failed=["P1"], **fields)
        engine.documents(engine.store.run(run)).keep_family(family)
        return run

    first = done("20261123-191501-shop-a", ours)
    done("20261123-191502-shop-b", ours)
    done("20261123-191503-shop-c", other, turns=look)
    assert control.retry(engine, first).only == ("P1", "P2")
    renewed = done("20261123-191504-shop-d", other)
    with pytest.raises(InputRefused, match=f"run {renewed} has handed out other certificates since run {first}") as why:
        control.retry(engine, first)
    assert why.value.remedy.endswith("esync rollout FILE")
    assert control.retry(engine, renewed).only == ("P1", "P2")


def test_a_deleted_parent_left_nothing(engine: Engine) -> None:
    """Runs are kept for a limited time; without its parent, a run counts alone."""
    assert left(engine, kept(engine, "second", failed=["P1"], parent="gone", only=("P1",))) == {"P1": "failed"}


def test_nothing_left_is_refused_with_the_reason(engine: Engine) -> None:
    """A retry of a complete run says so; a retry with the wrong option names the right one."""
    run = kept(engine, "first", only=("S1",))
    with pytest.raises(InputRefused, match="run first left nothing to retry: no node failed"):
        control.retry(engine, run)
    other = kept(engine, "second", failed=["P1"])
    with pytest.raises(
        InputRefused, match="no node of run second is not started; left are P1 failed, P2 unreac"
    ) as why:
        control.retry(engine, other, {"not_started"})
    assert why.value.remedy == "choose --failed, --unreachable, or all"


@pytest.mark.parametrize(
    ("fields", "reason", "remedy"),
    [
        ({"kind": "verify", "turns": ()}, "is a verify", "esync runs"),
        ({"kind": "rollback", "parent": "zero", "turns": ()}, "is a rollback", "esync rollback zero"),
        ({"state": RunState.RUNNING, "verdict": None}, "has not ended", "esync watch first"),
    ],
)
def test_what_cannot_be_retried_says_what_to_do(
    fields: dict[str, Any], reason: str, remedy: str, engine: Engine
) -> None:
    """Other kinds of runs, and a run that has not ended."""
    with pytest.raises(InputRefused, match=reason) as why:
        control.retry(engine, kept(engine, "first", **fields))
    assert remedy in why.value.remedy


def test_last_is_the_newest_that_fits(engine: Engine) -> None:
    """To steer: the newest active run. To roll back: the newest run that wrote. Never a run that was refused."""
    kept(engine, "one")
    kept(engine, "two", state=RunState.RUNNING, verdict=None)
    kept(engine, "three", turns=(), verdict=Verdict.LOCKED)
    assert find_run(engine, "last").id == "two"
    assert find_run(engine, "three").id == "three"
    assert find_run(engine, "last", is_active).id == "two"
    assert find_run(engine, "one", is_active).id == "one"
    assert find_run(engine, "last", lambda run: undoing.changed_a_node(engine, run)).id == "two"
    with pytest.raises(RunUnknown, match="there is no unicorn among the newest 3 runs"):
        find_run(engine, "last", lambda _: False, "unicorn")


@pytest.mark.parametrize(
    ("statuses", "selected"),
    [
        ([Status.UNCHANGED, Status.UNCHANGED], False),
        ([Status.CANCELLED, Status.SKIPPED], False),
        ([Status.UNCHANGED, Status.CHANGED], True),
        ([Status.FAILED, Status.SKIPPED], True),
        ([Status.CHANGED], True),
        ([], True),
    ],
)
def test_rollback_last_passes_over_runs_that_changed_nothing(
    statuses: list[Status], engine: Engine, *, selected: bool
) -> None:
    """A run counts when a step that writes changed a node, failed halfway, or has no outcome: it may have written."""
    record = sample().record.model_copy(update={"id": "one", "joined": ()})
    wave = record.turns[2].model_copy(update={"nodes": ("S1",)})
    engine.store.create(record.model_copy(update={"turns": (*record.turns[:2], wave)}))
    for step, status in zip(("config_edit", "cert_copy"), statuses, strict=False):
        made = next(o for o in sample().outcomes if (o.turn, o.node, o.step) == (wave.name, "S1", step))
        engine.store.record(made.model_copy(update={"run": "one", "status": status}), 0)
    assert undoing.changed_a_node(engine, engine.store.run("one")) is selected


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("20261123-1915", "did you mean 20261123-191500-shop-7f3a2c? "),
        ("20261123-191500-shop-7f3a2d", "did you mean 20261123-191500-shop-7f3a2c? "),
        ("nosuch", "Give the id of a run, a cluster, or `last` for the newest run; to list them: esync runs"),
    ],
)
def test_an_unknown_run_is_refused_with_similar_ids(name: str, words: str, engine: Engine) -> None:
    """Part of an id or a misspelt one suggests the id; anything else `last` and the list."""
    kept(engine, "20261123-191500-shop-7f3a2c")
    with pytest.raises(RunUnknown, match=f"there is no run '{name}'") as caught:
        find_run(engine, name)
    assert caught.value.remedy.startswith(words)


def test_a_held_run_is_not_resumed_but_promoted(engine: Engine) -> None:
    """Who resumes it believes that it continues; one that is paused as well is resumed, and stays held."""
    run = kept(engine, "first", state=RunState.RUNNING, verdict=None, ended=None)
    hold_before(engine.store, run, "wave-2")
    with pytest.raises(InputRefused, match="run first is not paused: it is held before wave-2") as why:
        control.resume(engine, run)
    assert why.value.remedy == "to let it begin: esync promote first"
    control.pause(engine, run)
    control.resume(engine, run)
    assert ("", "wave-2") == (Steering.of(engine.store, run).paused, Steering.of(engine.store, run).held)
    assert ["run.pause_asked", "run.resume_asked"] == [e.kind for e in engine.store.events(run) if "asked" in e.kind]


def test_a_promotion_that_is_repeated_lets_no_later_wave_begin(engine: Engine) -> None:
    """It names the wave that is meant; without one it returns which began, for the person who asked."""
    run = kept(engine, "first", state=RunState.RUNNING, verdict=None, ended=None)
    hold_before(engine.store, run, "wave-2")
    assert "wave-2" == control.promote(engine, run, "ann", "wave-2")
    with pytest.raises(InputRefused, match=r"run first is not held before wave-2$"):
        control.promote(engine, run, "ann", "wave-2")
    hold_before(engine.store, run, "wave-3")
    with pytest.raises(InputRefused, match=r"run first is not held before wave-2: it is held before wave-3$"):
        control.promote(engine, run, "ann", "wave-2")
    assert "wave-3" == control.promote(engine, run, "ann")


def fresh(engine: Engine, run: str) -> RunRecord:
    """A rollout that has not begun."""
    made = sample().record.model_copy(update={"state": RunState.CREATED, "turns": (), "joined": (), "verdict": None})
    return engine.store.create(made.model_copy(update={"id": run, "summary": "", "ended": None}))


def test_a_second_run_names_the_run_that_holds_the_cluster(engine: Engine) -> None:
    """Its id, who started it and where, since when, and how to steer it."""
    fresh(engine, "holder")
    engine.store.lock_servers(sample().cluster.servers, "holder", LOCK_TTL)
    begin(engine, fresh(engine, "late").id)
    late = engine.store.run("late")
    assert late.verdict is Verdict.LOCKED
    assert "run holder (rollout by mkeller on ops-1, since 2026-11-23 19:15:00 UTC) works on" in late.summary
    assert late.summary.endswith("esync watch holder; or stop it: esync cancel holder")


def test_a_run_of_another_cluster_on_one_of_the_servers_is_named(engine: Engine) -> None:
    """Its id, its cluster, and which servers they share: a server has one writer, whatever cluster files say."""
    mine = sample().cluster
    whole = mine.model_copy(update={"name": "blog", "nodes": mine.nodes[:1], "origin": mine.nodes[0].name})
    other = start(engine, whole, who="mkeller")
    begin_lock(engine, other)
    late = start(engine, mine)
    begin(engine, late.id)
    told = engine.store.run(late.id).summary
    assert Verdict.LOCKED is engine.store.run(late.id).verdict
    assert f"run {other.id}" in told
    assert f"of cluster blog works on servers of cluster {mine.name}: {mine.nodes[0].name}" in told


def test_two_clusters_of_one_name_on_other_servers_do_not_meet(engine: Engine) -> None:
    """Both begin; the same idempotency key is another request; a list of runs tells them apart."""
    mine = sample().cluster
    elsewhere = [node.model_copy(update={"host": f"other-{node.host}"}) for node in mine.nodes]
    other = mine.model_copy(update={"nodes": tuple(elsewhere)})
    first, second = start(engine, mine, key="k"), start(engine, other, key="k")
    assert first.id != second.id
    assert [first.id, second.id] == [start(engine, one, key="k").id for one in (mine, other)]
    for one in (first, second):
        begin_lock(engine, one)
    assert "@" in "\n".join(run_lines(engine.store.runs(), now()))


def test_last_of_several_clusters_is_not_guessed(engine: Engine) -> None:
    """What changes servers takes the newest run of the cluster that is named: by file name, name or digest."""
    mine = sample().cluster
    other = mine.model_copy(update={"name": "blog"})
    twin = mine.model_copy(update={"nodes": (mine.nodes[0].model_copy(update={"host": "far"}),), "origin": "S1"})
    mine_run, other_run = start(engine, mine), start(engine, other)
    with pytest.raises(InputRefused, match="runs of several clusters") as caught:
        find_run(engine, "last", is_active, "active run")
    assert "NAME@DIGEST" in caught.value.remedy
    assert other_run.id == find_run(engine, "last").id
    assert mine_run.id == find_run(engine, "shop", is_active).id
    twin_run = start(engine, twin)
    with pytest.raises(InputRefused, match="shop can mean"):
        find_run(engine, "shop", is_active)
    assert twin_run.id == find_run(engine, f"shop@{twin.digest[:4]}", is_active).id
    assert mine_run.id == newest_run(engine, mine).id
    with pytest.raises(RunUnknown, match="there is no run of cluster"):
        newest_run(engine, mine.model_copy(update={"name": "nosuch"}))


def begin_lock(engine: Engine, record: RunRecord) -> None:
    """What the beginning of a run does to the store."""
    assert engine.store.lock_servers(Cluster.of_run(record).servers, record.id, LOCK_TTL) is None


def test_a_run_whose_lock_lapsed_waits_for_the_one_that_took_it(engine: Engine) -> None:
    """Two runs never work on one cluster: the stalled run continues only when the other one has ended."""
    fresh(engine, "forgotten")
    engine.store.lock_servers(sample().cluster.servers, fresh(engine, "other").id, LOCK_TTL)
    patient = Engine(Settings(stall_after=0.01), engine.store, engine.vault, engine.app)
    assert resume_stalled(patient, "forgotten") == ""
    assert engine.store.run("forgotten").state is RunState.CREATED


def test_an_ended_run_is_left_alone(engine: Engine) -> None:
    """It cannot be paused; a cancel is not an error and changes nothing."""
    run = kept(engine, "first")
    with pytest.raises(InputRefused, match="has ended: unreachable"):
        control.pause(engine, run)
    control.cancel(engine, run)
    assert engine.store.flags(run) == {}
    assert {Status.UNREACHABLE} == {o.status for o in engine.store.outcomes(run) if o.node == "P2"}

"""When the reconciler acts on a run, at both sides of each deadline."""

import io
import os
from typing import cast

import pytest
from rich.console import Console

from pipelines.cli.picture import draw
from pipelines.coordinator import LOCK_TTL, begin, join_and_verify, publish
from pipelines.reconcile import GRACE, SOON, Joins, Reconciler, begin_or_continue, resume_stalled
from pipelines.report.build import build
from pipelines.run.elapsed import Stopwatch
from pipelines.usecases import control, runs
from pipelines.usecases.run_views import status, summary
from pipelines.usecases.updates import progress_of
from pipelines.web.pages.grid import codes_of
from pipelines.web.pages.run_view import head_values
from tasks.cluster import Cluster
from tasks.steering import Steering
from tests.claiming import claim
from tests.unit.pipelines.steered_workers import PASSWORD, Site
from tests.unit.pipelines.test_steered_runs import drained, in_the_wave, outcome, stuck_in_config_edit, taken
from tests.unit.pipelines.test_steering_machine import CANCEL, RUN, STEP, a_cluster
from workers.errors import InputRefused
from workers.records import DocumentKind, RunRecord, RunState, Status, Verdict

STALL = 15  #: seconds, as the site's settings have it


@pytest.fixture
def site() -> Site:
    """Four nodes without workers."""
    os.environ[PASSWORD] = "no node checks it"
    return Site()


def watching(site: Site, run: str) -> Stopwatch:
    """An observer that has seen the run begin."""
    watch = Stopwatch(5, site.clock)
    resume_stalled(site.engine, run, watch)
    return watch


def events(site: Site, run: str, kind: str) -> list[str]:
    """The messages of the events of one kind."""
    return [event.message for event in site.store.events(run) if event.kind == kind]


def test_a_run_is_cancelled_at_its_deadline_and_not_before(site: Site) -> None:
    """With the deadline as the reason."""
    run = in_the_wave(site)
    watch = watching(site, run)
    spent = float(site.store.flags(run)["spent"])
    site.passed += RUN - spent - 1
    resume_stalled(site.engine, run, watch)
    assert Steering() == Steering.of(site.store, run)
    assert watch.due == pytest.approx(1, abs=0.1)
    site.passed += 1.1
    resume_stalled(site.engine, run, watch)
    assert "the run took longer than its deadline of 1000 s" == Steering.of(site.store, run).cancelled


def test_a_cancel_of_an_operator_keeps_its_reason_beyond_the_deadline(site: Site) -> None:
    """The deadline does not replace it."""
    run = in_the_wave(site)
    watch = watching(site, run)
    stuck_in_config_edit(site, asking="read")
    control.cancel(site.engine, run, "wrong window")
    site.passed += RUN
    resume_stalled(site.engine, run, watch)
    assert "wrong window" == Steering.of(site.store, run).cancelled


def test_deadlines_are_enforced_only_by_an_observer_that_measures(site: Site) -> None:
    """A message that has a run checked does not."""
    run = in_the_wave(site)
    site.passed += 2 * RUN
    begin_or_continue(site.engine, run)
    assert Steering() == Steering.of(site.store, run)
    assert "spent" not in site.store.flags(run)


def test_the_time_of_a_pause_does_not_count(site: Site) -> None:
    """Neither is it added when the run continues."""
    run = in_the_wave(site)
    watch = watching(site, run)
    control.pause(site.engine, run)
    site.passed += 2 * RUN
    resume_stalled(site.engine, run, watch)
    control.resume(site.engine, run)
    site.passed += 100
    resume_stalled(site.engine, run, watch)
    assert not Steering.of(site.store, run).cancelled
    assert 100 <= float(site.store.flags(run)["spent"]) <= 106


def test_a_hanging_step_is_ended_at_its_deadline_and_not_before(site: Site) -> None:
    """A few seconds later, so that the step can end by itself."""
    run = in_the_wave(site)
    stuck_in_config_edit(site, asking="read")
    drained(site)
    watch = watching(site, run)
    site.pass_by(STEP + GRACE - 1)
    resume_stalled(site.engine, run, watch)
    assert site.store.outcome(run, "wave-1", "S1", "config_edit") is None
    assert watch.due == pytest.approx(1)
    site.pass_by(1)
    resume_stalled(site.engine, run, watch)
    assert Status.FAILED is outcome(site, run, "S1", "config_edit").status


def test_a_running_step_of_a_cancelled_run_is_ended_after_the_grace_period(site: Site) -> None:
    """`policy.deadlines.cancel` after the cancel was first seen; until then it is checked every second."""
    run = in_the_wave(site)
    stuck_in_config_edit(site, asking="read")
    watch = watching(site, run)
    control.cancel(site.engine, run, "enough")
    resume_stalled(site.engine, run, watch)
    assert SOON == watch.due
    site.pass_by(CANCEL)
    resume_stalled(site.engine, run, watch)
    assert site.store.outcome(run, "wave-1", "S1", "config_edit") is None
    site.pass_by(1)
    resume_stalled(site.engine, run, watch)
    assert Status.CANCELLED is outcome(site, run, "S1", "config_edit").status
    assert Verdict.CANCELLED is site.store.run(run).verdict


def test_missing_steps_are_sent_again_only_without_progress(site: Site) -> None:
    """After `stall_after` seconds in which nothing happened; the event says so."""
    run = in_the_wave(site)
    site.app.waiting.clear()
    watch = watching(site, run)
    site.pass_by(STALL)
    assert "" == resume_stalled(site.engine, run, watch)
    site.pass_by(1)
    assert "no progress on 2 nodes; resending" == resume_stalled(site.engine, run, watch)
    assert ["no progress on 2 nodes; resending"] == events(site, run, "turn.pushed_on")
    assert {"S1", "S2"} == {message.args[2] for message in site.app.waiting}


def test_a_node_that_was_begun_with_comes_before_others_when_it_is_sent_again(site: Site) -> None:
    """It waits between its changes and its restart; the other one waits for its first step."""
    run = in_the_wave(site)
    record = site.store.run(run)
    assert record.turn is not None
    site.app.waiting.clear()
    publish(site.engine, record, record.turn.nodes)
    begun_with, other = sorted(site.app.waiting, key=lambda message: message.args)
    assert begun_with.priority == other.priority
    site.app.waiting.clear()
    publish(site.engine, record, record.turn.nodes, begun=["S1"])
    begun_with, other = sorted(site.app.waiting, key=lambda message: message.args)
    assert begun_with.priority < other.priority
    watch = watching(site, run)
    site.app.waiting.clear()
    site.pass_by(STALL + 1)
    resume_stalled(site.engine, run, watch)
    assert {begun_with.priority} == {message.priority for message in site.app.waiting}


def test_a_leased_node_is_not_sent_again(site: Site) -> None:
    """Its worker lives: neither it nor, as long as it works, the other node is stalled."""
    run = in_the_wave(site)
    stuck_in_config_edit(site, asking="read")
    site.app.waiting.clear()
    watch = watching(site, run)
    site.pass_by(STALL + 1)
    assert "" == resume_stalled(site.engine, run, watch)
    assert [] == site.app.waiting


def test_the_nodes_of_a_dead_worker_are_sent_again_at_once(site: Site) -> None:
    """When its lease has lapsed; a node without a lapsed lease is not, while another node is leased."""
    run = in_the_wave(site)
    site.kill(stuck_in_config_edit(site, asking="read"))
    site.take(next(message for message in site.app.waiting if message.args[2] == "S2"))
    watch = watching(site, run)
    site.pass_by(61)
    assert "no progress on 1 node; resending" == resume_stalled(site.engine, run, watch)
    assert ["S1"] == [message.args[2] for message in site.app.waiting if message.name == "esync.install_check"]


def test_what_a_dead_worker_had_not_begun_is_sent_again_at_once(site: Site) -> None:
    """It has left no lease, or died while it joined a turn: no worker works on it now, and it need not stall."""
    fresh = runs.start(site.engine, a_cluster()).id
    watch = watching(site, fresh)
    watch.only([fresh], died=True)
    assert "begun" == resume_stalled(site.engine, fresh, watch)
    site.app.waiting.clear()
    watch.only([fresh], died=True)
    assert "no progress on 1 node; resending" == resume_stalled(site.engine, fresh, watch)
    watch.only([fresh])
    assert "" == resume_stalled(site.engine, fresh, watch)


def test_beside_a_living_worker_what_a_dead_one_had_not_begun_is_sent_again_soon(site: Site) -> None:
    """The other one has two seconds to take it from its queue; a second death does not make it wait longer."""
    run = in_the_wave(site)
    stuck_in_config_edit(site, asking="read")
    site.app.waiting.clear()
    watch = watching(site, run)
    for died, seconds, done in ((True, 0, ""), (True, 1, ""), (False, 1, "no progress on 1 node; resending")):
        site.pass_by(seconds)
        watch.only([run], died=died)
        assert done == resume_stalled(site.engine, run, watch)


def test_a_message_that_died_with_a_worker_is_sent_again_once(site: Site) -> None:
    """Beside a living worker: a lease after the death, unless the node is worked on by then."""
    run = in_the_wave(site)
    site.kill(stuck_in_config_edit(site, asking="read"))
    site.app.waiting.clear()
    claim(site.store, run, "P1", "another", 600)
    watch, lease = watching(site, run), site.engine.settings.lease
    sent = []
    for seconds in (61, lease - 1, 1, lease):
        site.pass_by(seconds)
        resume_stalled(site.engine, run, watch)
        sent.append([message.args[2] for message in site.app.waiting if message.name == "esync.install_check"])
        site.app.waiting.clear()
    assert [["S1"], [], ["S2"], []] == sent


@pytest.mark.parametrize(("longest", "again"), [(60, False), (0, True)])
def test_a_turn_that_this_process_joins_is_left_to_that_join(site: Site, longest: float, *, again: bool) -> None:
    """Unless it takes too long. After its end the reconciler looks at the run as before."""
    run, joins = runs.start(site.engine, a_cluster()).id, Joins(longest)
    drained(site)
    reconciler = Reconciler(site.engine, "w1", joined_here=joins.has)
    turns = len(site.store.run(run).turns)
    with joins.of("another"), joins.of(run):
        reconciler.check_runs()
        assert again == (len(site.store.run(run).turns) > turns)
    assert not joins.has(run)
    reconciler.check_runs()
    assert len(site.store.run(run).turns) > turns


def test_no_process_leads_while_no_run_is_active(site: Site) -> None:
    """A process that has led, or ends, resigns: the next one leads at once, and an idle one asks for nothing."""
    first, second = (Reconciler(site.engine, name) for name in ("w1", "w2"))
    run = in_the_wave(site)
    first.check_runs()
    assert not site.store.elect("reconciler", "probe", 1)
    site.store.save(site.store.run(run).model_copy(update={"state": RunState.CONCLUDED}))
    first.check_runs()
    assert site.store.elect("reconciler", "probe", 0)
    site.store.create(RunRecord(id="next", cluster="shop", spec={}))
    second.check_runs()
    assert not site.store.elect("reconciler", "probe", 1)
    second.close()
    assert site.store.elect("reconciler", "probe", 0)


def test_a_resumed_run_says_so_and_leaves_leased_nodes_alone(site: Site) -> None:
    """The request is acknowledged: it is acted on once."""
    run = in_the_wave(site)
    stuck_in_config_edit(site, asking="read")
    control.pause(site.engine, run)
    site.app.waiting.clear()
    control.resume(site.engine, run)
    assert "resuming 1 node" == resume_stalled(site.engine, run)
    assert ["resuming 1 node"] == events(site, run, "turn.pushed_on")
    assert {"S2"} == {message.args[2] for message in site.app.waiting if len(message.args) == 3}
    assert "" == resume_stalled(site.engine, run)


def test_a_turn_without_missing_outcomes_is_joined(site: Site) -> None:
    """When the message of the join was lost."""
    run = runs.start(site.engine, a_cluster()).id
    drained(site)
    assert "joined" == resume_stalled(site.engine, run)
    assert "observe" == site.store.run(run).turns[-1].name


def test_a_run_that_was_never_begun_begins_when_it_stalls(site: Site) -> None:
    """Not before."""
    run = runs.start(site.engine, a_cluster()).id
    watch = watching(site, run)
    assert () == site.store.run(run).turns
    site.pass_by(STALL + 1)
    assert "begun" == resume_stalled(site.engine, run, watch)
    assert ["canary"] == [turn.name for turn in site.store.run(run).turns]


def test_a_run_waits_for_the_run_that_has_taken_its_cluster(site: Site) -> None:
    """Whatever is missing; it continues when that one has ended."""
    run = in_the_wave(site)
    site.app.waiting.clear()
    other = site.store.create(RunRecord(id="other", cluster="shop", spec={}))
    site.store.lock_servers(a_cluster().servers, "other", LOCK_TTL)
    site.passed += LOCK_TTL + 1
    assert site.store.lock_servers(a_cluster().servers, "other", LOCK_TTL) is None
    assert site.store.progress(run) == 0
    site.pass_by(STALL + 1)
    assert "" == resume_stalled(site.engine, run)
    assert [] == site.app.waiting
    site.store.save(other.model_copy(update={"state": RunState.CONCLUDED}))
    assert "no progress on 2 nodes; resending" == resume_stalled(site.engine, run)


def test_a_run_is_begun_once(site: Site) -> None:
    """A second call sends nothing, and a run that has ended is left alone."""
    run = runs.start(site.engine, a_cluster()).id
    site.app.waiting.clear()
    begin(site.engine, run)
    sent = list(site.app.waiting)
    begin(site.engine, run)
    assert sent == site.app.waiting
    assert ["esync.install_check"] == [message.name for message in sent]


def test_only_the_elected_process_acts(site: Site) -> None:
    """Another one observes, so that it knows who is silent when it is elected."""
    run = in_the_wave(site)
    site.app.waiting.clear()
    leader, other = (Reconciler(site.engine, name) for name in ("w1", "w2"))
    for seconds in (0, STALL - 5, 6):
        site.pass_by(seconds)
        if seconds != 6:
            leader.check_runs()
        other.check_runs()
    assert [] == events(site, run, "turn.pushed_on")
    leader.check_runs()
    assert ["no progress on 2 nodes; resending"] == events(site, run, "turn.pushed_on")


def test_a_run_that_cannot_be_decided_says_so_once_and_keeps_no_other_from_its_turn(site: Site) -> None:
    """The guarantee is for each run; this one can be cancelled."""
    broken = in_the_wave(site)
    site.store.put(broken, DocumentKind.PLAN, DocumentKind.PLAN, "{}")
    drained(site)
    other = runs.start(site.engine, a_cluster().model_copy(update={"name": "zoo"}), kind="verify")
    reconciler = Reconciler(site.engine, "one")
    for _ in range(3):
        reconciler.check_runs()
        site.pass_by(STALL + 1)
    assert site.store.run(other.id).turns
    (said,) = events(site, broken, "run.failing")
    assert said.startswith(f"a document of run {broken} cannot be read (")
    assert "another version of esync wrote it" in said
    assert said.endswith(f"esync cancel {broken}")
    control.cancel(site.engine, broken, "enough")
    reconciler.check_runs()
    assert Verdict.CANCELLED is site.store.run(broken).verdict


def test_the_next_round_comes_when_it_is_due(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the usual time where a deadline is near; after a failed round at the usual time."""
    reconciler, waits = Reconciler(site.engine, "w1"), list[float]()

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) == 3

    def check() -> None:
        reconciler._watch.only([])
        if len(waits) == 1:
            raise OSError("the store is gone")
        reconciler._watch.within(2 - len(waits))

    monkeypatch.setattr(reconciler, "check_runs", check)
    monkeypatch.setattr(reconciler._stop, "wait", wait)
    reconciler._loop()
    assert [2, 5, 0.05] == waits


def held(site: Site, **policy: object) -> str:
    """A run that waits before its second wave."""
    data = a_cluster().model_dump()
    data["policy"] |= {"waves": (2,), "hold": "after-canary"} | policy
    run = runs.start(site.engine, Cluster.model_validate(data)).id
    while not Steering.of(site.store, run).held:
        drained(site)
        join_and_verify(site.engine, run, site.store.run(run).turns[-1].name)
    return run


def waves(site: Site, run: str) -> int:
    """How many waves have begun."""
    return sum(turn.stage == "wave" for turn in site.store.run(run).turns)


def test_a_held_run_waits_as_long_as_its_policy_says(site: Site) -> None:
    """Measured by the observer, also when another one continues to measure; a paused second does not count."""
    run = held(site, hold_for=100)
    watch = watching(site, run)
    site.passed += 60
    resume_stalled(site.engine, run, watch)
    assert watch.due == pytest.approx(5)
    control.pause(site.engine, run)
    site.passed += 500
    resume_stalled(site.engine, run, watch)
    control.resume(site.engine, run)
    another = watching(site, run)
    site.passed += 39
    resume_stalled(site.engine, run, another)
    assert waves(site, run) == 1
    assert another.due == pytest.approx(1, abs=0.1)
    site.passed += 2
    resume_stalled(site.engine, run, another)
    assert waves(site, run) == 2
    assert ["100 s have passed (policy.hold_for)"] == events(site, run, "run.promoted")


def test_what_shows_a_held_run_says_how_long_it_still_waits(site: Site) -> None:
    """Page, terminal and status count what is left; a run that waits for a person only has no time."""
    run = held(site, hold_for=600)
    watch = watching(site, run)
    site.passed += 75
    resume_stalled(site.engine, run, watch)
    progress, steering = progress_of(site.store, site.store.run(run)), Steering.of(site.store, run)
    screen = Console(file=io.StringIO(), width=200)
    screen.print(draw(progress, screen))
    head = head_values(progress, codes_of(progress), steering, build(summary(site.engine, run)))
    left = "begins by itself in 8 min 45 s (policy.hold_for)"
    assert left in cast("io.StringIO", screen.file).getvalue()
    assert f"until a person lets it begin, or {left}." in head["summary"]
    assert status(site.engine, run).begins_in == pytest.approx(525, abs=1)
    other = Site()
    assert status(other.engine, held(other)).begins_in is None


def test_a_held_run_waits_for_a_person_whatever_time_passes(site: Site) -> None:
    """Its deadline is suspended, and it keeps its servers. It is said once that it is held."""
    run = held(site)
    watch = watching(site, run)
    for _ in range(30):
        site.passed += LOCK_TTL - 1
        resume_stalled(site.engine, run, watch)
    assert waves(site, run) == 1
    assert "" == Steering.of(site.store, run).cancelled
    assert site.store.has_servers(run)
    assert [f"wave-1 is done; 2 nodes of wave-2 wait for: esync promote {run}"] == events(site, run, "run.held")
    control.promote(site.engine, run, "ann")
    drained(site, until="esync.install_check")
    assert waves(site, run) == 2
    assert ["by ann"] == events(site, run, "run.promoted")
    with pytest.raises(InputRefused, match="is not held"):
        control.promote(site.engine, run)


def test_a_held_run_can_be_paused_and_promoted_in_any_order(site: Site) -> None:
    """A promoted run that is paused begins its wave when it is resumed."""
    run = held(site)
    control.pause(site.engine, run)
    control.promote(site.engine, run)
    drained(site)
    assert waves(site, run) == 1
    control.resume(site.engine, run)
    drained(site, until="esync.install_check")
    assert waves(site, run) == 2


def test_a_held_run_can_be_cancelled(site: Site) -> None:
    """It ends at once, and cannot be promoted any more."""
    run = held(site)
    control.cancel(site.engine, run, "wrong window")
    drained(site)
    assert Verdict.CANCELLED is site.store.run(run).verdict
    with pytest.raises(InputRefused, match="has ended"):
        control.promote(site.engine, run)


@pytest.mark.parametrize("most", [1, 2])
def test_a_limit_by_label_holds_although_messages_are_lost_and_sent_again(site: Site, most: int) -> None:
    """Only nodes that may be in work get messages, in the wave and after a stall; at the end all had their turn."""
    data = a_cluster().model_dump()
    data["policy"] |= {"waves": "all", "at_most": {"site": most}}
    for node in data["nodes"]:
        node["labels"] = {"site": "ams"}
    run = runs.start(site.engine, Cluster.model_validate(data)).id
    watch, lose = watching(site, run), True
    for _ in range(200):
        if site.store.run(run).state is RunState.CONCLUDED:
            break
        turn = site.store.run(run).turns[-1] if site.store.run(run).turns else None
        if turn and turn.stage == "wave":
            done = {o.node for o in site.store.outcomes(run, turn.name) if o.step == turn.steps[-1]}
            sent = {message.args[2] for message in site.app.waiting if message.name == "esync.install_check"}
            assert len(sent - done) <= most
            if lose and done:
                site.app.waiting.clear()
                lose = False
        if site.app.waiting:
            taken(site, site.app.waiting[0])
        elif turn:
            join_and_verify(site.engine, run, turn.name)
        site.pass_by(1)
        resume_stalled(site.engine, run, watch)
    assert Verdict.JOINED is site.store.run(run).verdict, site.store.run(run).summary
    assert not lose

"""A run whose plan a second person has to approve changes nothing before that."""

from contextlib import suppress

import pytest

from pipelines.audit.bundle import bundle_of
from pipelines.audit.check import check
from pipelines.coordinator import join_and_verify
from pipelines.reconcile import resume_stalled
from pipelines.usecases import control, runs
from tasks.cluster import Cluster
from tasks.steering import Steering, let_begin
from tests.contract.test_store import at_once
from tests.unit.pipelines.steered_workers import Site
from tests.unit.pipelines.test_reconcile import events, site, watching, waves
from tests.unit.pipelines.test_steered_runs import drained
from tests.unit.pipelines.test_steering_machine import a_cluster
from workers.errors import BundleRefused, InputRefused

__all__ = ["site"]


def waiting_run(site: Site, who: str = "ann") -> str:
    """A rollout that was requested by that person, and waits with its plan."""
    data = a_cluster().model_dump()
    data["policy"] |= {"waves": ("100%",), "approval": "second-person", "hold_for": 1}
    run = runs.start(site.engine, Cluster.model_validate(data), who=who).id
    while not Steering.of(site.store, run).held:
        drained(site)
        join_and_verify(site.engine, run, site.store.run(run).turns[-1].name)
    return run


def test_a_plan_waits_for_another_person_whatever_time_passes(site: Site) -> None:
    """Its plan can be seen; neither the time nor a promotion nor the same person lets it begin."""
    run = waiting_run(site)
    watch = watching(site, run)
    site.passed += 1000
    resume_stalled(site.engine, run, watch)
    status, plan = runs.status(site.engine, run), runs.summary(site.engine, run).plan
    assert (True, "wave-1", 0) == (status.unapproved, status.held, waves(site, run))
    assert plan is not None
    with pytest.raises(InputRefused, match="second person"):
        control.promote(site.engine, run)
    with pytest.raises(InputRefused, match="cannot approve its plan as well"):
        control.approve(site.engine, run, who=" Ann ")
    with pytest.raises(InputRefused, match="another plan"):
        control.approve(site.engine, run, who="bob", plan="0" * 64)
    assert 0 == waves(site, run)


def test_an_approved_run_changes_what_was_approved_and_its_chain_says_who_did_it(site: Site) -> None:
    """The event has the fingerprint of the plan, which is that of the run afterwards."""
    run = waiting_run(site)
    plan = runs.summary(site.engine, run).plan
    assert plan is not None
    control.approve(site.engine, run, who="bob", where="10.0.0.7", plan=plan.fingerprint)
    drained(site, until="esync.install_check")
    assert 1 == waves(site, run)
    assert plan.fingerprint == site.store.run(run).plan_fingerprint
    (approved,) = [event for event in site.store.events(run) if event.kind == "run.approved"]
    assert ("plan approved by bob on 10.0.0.7", plan.fingerprint) == (approved.message, approved.digest)
    assert 1 == len(events(site, run, "run.held"))
    with pytest.raises(InputRefused, match="does not wait for an approval"):
        control.approve(site.engine, run, who="bob")


def test_one_of_several_approvals_at_the_same_time_is_noted(site: Site) -> None:
    """The run has one approver; the others learn that it begins."""
    run = waiting_run(site)

    def approve(number: int) -> None:
        with suppress(InputRefused):  # it was too late
            control.approve(site.engine, run, who=f"approver {number}")

    at_once(3, approve)
    assert 1 == len([event for event in site.store.events(run) if event.kind == "run.approved"])


def test_a_bundle_proves_the_approval(site: Site) -> None:
    """A run that began without one, by a change of the store, has no valid bundle."""
    approved = waiting_run(site)
    control.approve(site.engine, approved, who="bob", where="10.0.0.7")
    finished(site, approved)
    checked = check(bundle_of(site.store, runs.summary(site.engine, approved)))
    assert "a second person approved the plan: plan approved by bob on 10.0.0.7" in checked.checked
    forced = waiting_run(site)
    let_begin(site.store, forced, "wave-1")
    finished(site, forced)
    with pytest.raises(BundleRefused, match="no second person approved the plan"):
        check(bundle_of(site.store, runs.summary(site.engine, forced)))


def finished(site: Site, run: str) -> None:
    """Handles all messages until the run has ended."""
    while site.store.run(run).verdict is None:
        turn = site.store.run(run).turn
        assert turn is not None
        join_and_verify(site.engine, run, turn.name)
        drained(site)

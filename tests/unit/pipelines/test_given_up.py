"""A step whose thread hangs is ended at its deadline: its node keeps no place that another one waits for."""

import os

import pytest

from pipelines.coordinator import join_and_verify
from pipelines.reconcile import GRACE, resume_stalled
from pipelines.run.elapsed import Stopwatch
from pipelines.usecases import control, runs
from tasks.cluster import Cluster
from tests.unit.pipelines.steered_workers import PASSWORD, Site
from tests.unit.pipelines.test_steered_runs import drained
from tests.unit.pipelines.test_steering_machine import STEP, a_cluster
from workers.records import Status, Verdict

ONE_AT_A_TIME = pytest.mark.parametrize("policy", [{"at_most": {"room": 1}}, {"concurrency": 1}])


def hanging(policy: dict[str, object]) -> tuple[Site, str, Stopwatch]:
    """Four nodes in a wave that works on one at a time; the worker of the first one gets no more answers."""
    os.environ[PASSWORD] = "no node checks it"
    site, data = Site(), a_cluster().model_dump()
    data["policy"] |= {"waves": "all", "max_failed": "100%", **policy}
    for node in data["nodes"]:
        node["labels"] = {"room": "r1"}
    run, watch = runs.start(site.engine, Cluster.model_validate(data)).id, Stopwatch(5, site.clock)
    for turn in ("canary", "observe"):
        drained(site)
        join_and_verify(site.engine, run, turn)
    for step in ("install_check", "config_edit"):
        site.take(next(one for one in site.app.waiting if one.name == f"esync.{step}" and one.args[2] == "S1"))
        site.proceed(site.workers[0])
    assert ["change"] == [worker.asking for worker in site.workers]
    refused = [one for one in site.app.waiting if one.name == "esync.install_check"]
    for message in refused:  # by the limit: Celery sends no message of such a node afterwards
        site.take(message)
    site.app.waiting.clear()
    resume_stalled(site.engine, run, watch)
    return site, run, watch


@ONE_AT_A_TIME
def test_the_next_node_begins_in_the_place_of_one_that_hangs(policy: dict[str, object]) -> None:
    """Its worker lives and still renews its lease; the run does not wait for it, and changes the others."""
    site, run, watch = hanging(policy)
    site.pass_by(STEP + GRACE - 1)
    resume_stalled(site.engine, run, watch)
    assert [] == site.app.waiting
    site.pass_by(2)
    resume_stalled(site.engine, run, watch)
    drained(site)
    done = {one.node for one in site.store.outcomes(run, "wave-1") if one.status is not Status.SKIPPED}
    assert {"S1", "S2"} <= done
    for _ in range(20):
        site.pass_by(5)
        resume_stalled(site.engine, run, watch)
        drained(site)
    record = site.store.run(run)
    assert Verdict.FAILED is record.verdict
    assert record.summary.startswith("S1 failed: config_edit exceeded the deadline of a step")
    assert {"S2", "P1", "P2"} == {node for _, node, _ in site.changes} - {"S1"}


@ONE_AT_A_TIME
def test_no_node_begins_in_its_place_while_the_run_is_paused(policy: dict[str, object]) -> None:
    """After the resume they do."""
    site, run, watch = hanging(policy)
    control.pause(site.engine, run, "ann")
    site.app.waiting.clear()
    site.pass_by(STEP + GRACE + 1)
    resume_stalled(site.engine, run, watch)
    assert [] == site.app.waiting
    control.resume(site.engine, run)
    drained(site)
    assert any(node == "S2" for _, node, _ in site.changes)

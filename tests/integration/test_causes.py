"""A cause that a server names reaches the operator: one server for each class of failure, in one run.

Words of the cause and of its remedy are on the terminal, on the page and in the JSON, with the class of the failure.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from pipelines.report.build import build
from pipelines.usecases.runs import RunSummary
from tests.integration.harness import SITE, Harness, cluster_of, four_servers
from tests.integration.test_field_cases import renderings
from workers.errors import Failure, NodeError
from workers.records import Verdict

pytestmark = pytest.mark.integration


class Cause(NamedTuple):
    """A fault of one server; the slug and class of the failure; words of message and remedy."""

    faults: dict[str, Any]
    slug: str
    failure: Failure
    words: str
    remedy: str


CAUSES = {
    "S2": Cause({"refuse_connections": True}, "unreachable", Failure.UNREACHABLE, "refused the connection", "WinRM"),
    "P1": Cause({"refuse_logons": True}, "logon_refused", Failure.REFUSED, "refused the logon of", "secret"),
    "P2": Cause({"deny_access": True}, "access_denied", Failure.REFUSED, "not allowed to use WinRM", "administrator"),
    "P4": Cause({"locked": (rf"{SITE}\web.config",)}, "conflict", Failure.CONFLICT, "another p", "close"),
    "P5": Cause({"disk_free": 0}, "agent_failed", Failure.FAILED, "not enough space", "free space on C:"),
    "P6": Cause({"service": {"start_error": 1069}}, "agent_failed", Failure.FAILED, "1069", "password of the service"),
    "P7": Cause(
        {"service": {"start_error": 2}}, "agent_failed", Failure.FAILED, "2", "program of the service is missing"
    ),
    "P8": Cause({"service": {"never_listens": True}}, "timeout", Failure.TIMEOUT, "nothing listens on", "log"),
    "P9": Cause({"service": {"never_stops": True}}, "timeout", Failure.TIMEOUT, "stop", "event log"),
}


@pytest.fixture(scope="module")
def ended(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunSummary]:
    """A rollout to an origin without faults and one server for each cause, all in one wave."""
    more = [name for name in CAUSES if name not in {"S2", "P1", "P2"}]
    with four_servers(tmp_path_factory.mktemp("causes") / "lab", more=more) as lab:
        lab.run_configurator("S1")
        for node, cause in CAUSES.items():
            lab.break_node(node, **cause.faults)
        policy = {"waves": "all", "max_failed": 20, "unreachable": "continue", "retries": {"backoff": 0}}
        run = harness.rollout(cluster_of(lab, **policy, deadlines={"service": 3}))
        assert run.record.verdict is Verdict.FAILED, run.record.summary
        yield run


@pytest.mark.parametrize("node", CAUSES)
def test_a_cause_reaches_the_operator(ended: RunSummary, node: str) -> None:
    """The words of the node, and the remedy for it, everywhere a person or a program looks."""
    cause = CAUSES[node]
    problem = next(row.problem for row in build(ended).nodes if row.node == node)
    assert (cause.slug, cause.failure) == (problem.slug, problem.failure), problem
    assert (True, True) == (cause.words in problem.message, cause.remedy in problem.remedy), problem
    for place, shown in renderings(ended, verbose=True).items():
        for words in (problem.message, problem.remedy):
            assert " ".join(words.split()) in shown, place


def test_every_class_of_failure_of_a_node_is_tried() -> None:
    """Except those with tests of their own: stale plans, uneditable files, sessions that break in a step, balancers."""
    elsewhere = {"stale", "not_editable", "node_refused", "session_lost", "error"}
    elsewhere |= {"balancer_failed", "left_drained", "pool_too_small"}
    assert {error.slug for error in NodeError.__subclasses__()} - elsewhere == {cause.slug for cause in CAUSES.values()}

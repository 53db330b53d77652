"""The report as JUnit XML: what failed on which node, and which statement does not hold."""

import pytest
from lxml import etree

from pipelines.report.build import build
from pipelines.report.junit import to_junit
from pipelines.usecases import runs
from tests.unit.pipelines.audit.bundled_run import MadeUpRun
from tests.unit.pipelines.audit.test_bundle import RUNS
from workers.records import Status


@pytest.mark.parametrize("name", sorted(RUNS))
def test_every_report_is_well_formed_and_counts_right(name: str) -> None:
    """Each node is a case; the totals are those of the cases."""
    made = RUNS[name]()
    report = build(runs.summary(made.engine, made.id))
    root = etree.fromstring(to_junit(report).encode())
    assert [row.node for row in report.nodes] == root.xpath("testsuite[@name='nodes']/testcase/@name")
    failed = [row.node for row in report.nodes if row.status in {Status.FAILED, Status.UNREACHABLE}]
    assert failed == root.xpath("testsuite[@name='nodes']/testcase[failure]/@name")
    refuted = [row.invariant for row in report.findings if row.label == "refuted"]
    assert refuted == root.xpath("testsuite[@name='statements']/testcase[failure]/@name")
    for counted, tag in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
        assert len(root.findall(f".//{tag}")) == int(root.attrib[counted])


def test_a_hostile_name_stays_text() -> None:
    """What a node says cannot end an element or begin another one."""
    made = MadeUpRun()
    report = build(runs.summary(made.engine, made.id))
    row = report.nodes[0].model_copy(update={"node": '"/><failure/><!--', "status": Status.FAILED})
    text = to_junit(report.model_copy(update={"nodes": (row,)}))
    assert [row.node] == etree.fromstring(text.encode()).xpath("testsuite[@name='nodes']/testcase/@name")

"""A report as JUnit XML, which build servers show as tests: a case for each node and for each statement."""

from xml.etree.ElementTree import Element, SubElement, tostring  # this module only writes XML

from pipelines.report.rows import FindingRow, NodeRow, Report
from workers.records import Status

__all__ = ["to_junit"]

_FAILED = {Status.FAILED, Status.UNREACHABLE}
_NOT_DONE = {Status.SKIPPED, Status.CANCELLED}


def to_junit(report: Report) -> str:
    """The report as one `testsuites` document: the suites `nodes` and `statements`. Times are seconds."""
    root = Element("testsuites", name=f"{report.kind} of {report.cluster}", time=f"{report.seconds:.3f}")
    nodes = SubElement(root, "testsuite", name="nodes", timestamp=report.created.isoformat())
    for row in report.nodes:
        _node(nodes, row)
    statements = SubElement(root, "testsuite", name="statements", timestamp=report.created.isoformat())
    for finding in report.findings:
        _statement(statements, finding)
    for suite in (nodes, statements, root):
        _count(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, "unicode") + "\n"


def _node(suite: Element, row: NodeRow) -> None:
    case = SubElement(suite, "testcase", classname=f"nodes.{row.pool}", name=row.node, time=f"{row.seconds:.3f}")
    problem = row.problem
    if row.status in _FAILED:
        SubElement(case, "failure", type=problem.slug or row.status, message=problem.message).text = problem.remedy
    elif row.status in _NOT_DONE:
        SubElement(case, "skipped", message=problem.message or row.status)


def _statement(suite: Element, finding: FindingRow) -> None:
    case = SubElement(suite, "testcase", classname="statements", name=finding.invariant, time="0")
    if finding.label == "refuted":
        SubElement(case, "failure", type="refuted", message=finding.evidence).text = finding.remedy
    elif finding.label != "proven":
        SubElement(case, "skipped", message=f"{finding.label}: {finding.evidence}")


def _count(suite: Element) -> None:
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
        suite.set(name, str(sum(1 for _ in suite.iter(tag))))

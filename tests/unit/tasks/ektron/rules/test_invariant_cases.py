"""Case files of whole clusters: the facts, the refuted and unknown rules, and the answer of an expert.

A case changes facts of a joined cluster (`asset__load_balanced` reaches into a part). Each is judged twice: as it is,
and after its facts went through the store as JSON, in another order.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.rules.explain import explain
from tasks.ektron.rules.findings import Findings, InvariantState
from tasks.ektron.rules.invariants import judge, judge_readiness
from tests.places import CASE_FOLDERS
from tests.unit.tasks.ektron.joined import FOUR, changed, joined_cluster

CASES = sorted((CASE_FOLDERS / "invariants").glob("*.json"))


def cluster_of(case: dict[str, Any]) -> ClusterFacts:
    """The joined cluster with the changes of the case, without its unseen nodes."""
    whole = joined_cluster(tuple(case.get("nodes", FOUR)))
    changes, unseen = case.get("change", {}), case.get("unseen", {})
    seen = {node: changed(facts, **changes.get(node, {})) for node, facts in whole.seen.items() if node not in unseen}
    declared = {name: case[name] for name in ("pools", "shared_database", "weaker_ways", "drained") if name in case}
    return replace(whole, seen=seen, reasons=unseen, **declared)


def stored(cluster: ClusterFacts) -> ClusterFacts:
    """The same facts, read back from JSON, in the opposite order."""
    facts = reversed(list(cluster.seen.items()))
    seen = {node: NodeFacts.model_validate_json(one.model_dump_json(exclude_defaults=True)) for node, one in facts}
    return replace(cluster, seen=seen)


def with_verdict(findings: Findings, verdict: InvariantState) -> dict[str, list[str]]:
    """Invariant -> nodes."""
    return {f.invariant: list(f.nodes) for f in findings.findings if f.verdict is verdict}


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    """Exactly these rules are refuted, at least these are unknown, and the answer is that of the case; twice."""
    case = json.loads(path.read_text(encoding="ascii"))
    decide = judge_readiness if case.get("rules") == "readiness" else judge
    cluster = cluster_of(case)
    findings = decide(cluster)
    assert case["refuted"] == with_verdict(findings, InvariantState.REFUTED)
    unknown = with_verdict(findings, InvariantState.UNKNOWN)
    expected = case.get("unknown", {})
    assert expected == {invariant: nodes for invariant, nodes in unknown.items() if invariant in expected}
    if not case.get("unseen") and not expected:
        assert {} == unknown
    for node, (answer, cause) in case.get("explain", {}).items():
        answered = explain(node, findings)
        assert (answer, cause) == (answered.answer.value, answered.cause.invariant if answered.cause else "")
    assert findings == decide(stored(cluster))


def test_there_are_cases() -> None:
    """The test finds the files, and each has a sentence that describes it."""
    assert len(CASES) >= 50
    assert all(json.loads(path.read_text(encoding="ascii"))["says"] for path in CASES)

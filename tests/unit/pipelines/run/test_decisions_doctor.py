"""Whether a rollout could begin: what outweighs what."""

import pytest

from pipelines.run import decisions_doctor
from pipelines.run.snapshot import Snapshot
from tasks.ektron.facts.machine import ReadinessFacts
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.rules.findings import Findings
from tests.unit.pipelines.run.snapshots import a_cluster, a_snapshot, facts_of, numbered, outcome, turn
from workers.errors import LogonRefused
from workers.records import DocumentKind, Status, StepOutcome, Verdict

THREE = numbered(3)


def checked(
    *outcomes: StepOutcome,
    facts: dict[str, NodeFacts] | None = None,
    family: bool = True,
    generate: bool = False,
    names: tuple[str, ...] = THREE,
) -> Snapshot:
    """A run of kind `doctor` that has observed its nodes."""
    cluster = a_cluster(names, generate_certificates=generate)
    turns = [turn("canary", names[:1]), turn("doctor", names[1:])]
    seen = facts if facts is not None else facts_of(cluster)
    return a_snapshot(
        cluster, *outcomes, turns=turns, facts={DocumentKind.OBSERVED: seen}, family=family, kind="doctor"
    )


def without_family(names: tuple[str, ...] = THREE) -> dict[str, NodeFacts]:
    """Nodes whose origin has no certificates."""
    facts = facts_of(a_cluster(names))
    return facts | {"N1": facts["N1"].model_copy(update={"origin_family": {}})}


def unready(facts: NodeFacts) -> NodeFacts:
    """A node on which a rollout cannot begin."""
    assert facts.system is not None
    return facts.model_copy(update={"system": facts.system.model_copy(update={"admin": False})})


def test_all_nodes_are_observed_that_the_canary_could_reach() -> None:
    """Also one that is unfit; none twice."""
    snapshot = a_snapshot(
        a_cluster(numbered(5)),
        outcome("N1", Status.FAILED, slug="not_editable"),
        outcome("N2", Status.UNREACHABLE),
        outcome("N3", Status.FAILED, slug=LogonRefused.slug),
        turns=[turn("canary", ["N1", "N2", "N3"]), turn("doctor", ["N4"])],
        facts={},
    )
    assert ["N1", "N5"] == decisions_doctor.reachable(snapshot)


def test_a_ready_cluster() -> None:
    """The findings are saved with the verdict; warnings are counted."""
    stop = decisions_doctor.ready(checked())
    assert Verdict.READY is stop.verdict
    assert stop.summary.startswith("all 3 nodes are ready for a rollout")
    assert [(DocumentKind.FINDINGS, "assess")] == [(one.kind, one.name) for one in stop.documents]


def test_a_node_that_could_not_be_checked_comes_first() -> None:
    """Before a failed prerequisite; the outcome of the second turn counts, and not one that went well."""
    facts = facts_of(a_cluster(THREE))
    bad = facts | {"N2": unready(facts["N2"])}
    failed = outcome("N3", Status.FAILED, turn="doctor", message="N3: no")
    silent = outcome("N2", Status.UNREACHABLE, turn="doctor", message="no answer")
    fine = outcome("N1", turn="canary")
    stop = decisions_doctor.ready(checked(fine, silent, failed, facts=bad))
    assert (Verdict.FAILED, "1 could not be checked, 1 unreachable; N3: no") == (stop.verdict, stop.summary)
    blocked = decisions_doctor.ready(checked(fine, silent, facts=bad))
    assert Verdict.REFUTED is blocked.verdict
    assert blocked.summary.startswith("not ready: ")
    lost = decisions_doctor.ready(checked(fine, silent))
    assert (Verdict.UNREACHABLE, "N2 did not answer: no answer") == (lost.verdict, lost.summary)
    two = decisions_doctor.ready(checked(silent, outcome("N1", Status.UNREACHABLE, message="first")))
    assert "N1, N2 did not answer: first" == two.summary


def test_a_node_that_answered_later_is_not_lost() -> None:
    """The last outcome counts."""
    first = outcome("N1", Status.UNREACHABLE)
    assert Verdict.READY is decisions_doctor.ready(checked(first, outcome("N1", turn="doctor", at=9))).verdict


def test_several_refuted_prerequisites_are_counted() -> None:
    """The first is shown."""
    facts = facts_of(a_cluster(THREE))
    stop = decisions_doctor.ready(checked(facts=without_family() | {"N2": unready(facts["N2"])}))
    assert "and" not in stop.summary.partition(":")[0]
    other = facts["N3"].model_copy(
        update={"web": facts["N3"].web.model_copy(update={"builds": {"ek_buildNumber": "1"}})}
    )
    more = decisions_doctor.ready(checked(facts=facts | {"N2": unready(facts["N2"]), "N3": other}))
    assert more.summary.startswith("not ready (and 1 more): ")


@pytest.mark.parametrize("generate", [False, True])
def test_a_missing_family_stops_unless_the_rollout_generates_one(generate: bool) -> None:  # noqa: FBT001 - a parameter
    """The summary says what a person has to do."""
    stop = decisions_doctor.ready(checked(facts=without_family(), generate=generate))
    if generate:
        assert Verdict.READY is stop.verdict
        assert "family.origin-present" not in stop.documents[0].text
    else:
        assert Verdict.STOPPED is stop.verdict
        assert "Security Configurator" in stop.summary
        assert "family.origin-present" in stop.documents[0].text


def test_an_unknown_prerequisite_is_inconclusive() -> None:
    """Without facts of a node, and without a reason."""
    facts = facts_of(a_cluster(THREE))
    stop = decisions_doctor.ready(checked(facts={name: facts[name] for name in ("N1", "N2")}))
    assert Verdict.INCONCLUSIVE is stop.verdict
    first = Findings.model_validate_json(stop.documents[0].text).unknown_errors
    assert len(first) > 1
    assert f"{first[0].invariant} could not be decided: {first[0].evidence}" == stop.summary


def test_warnings_are_counted() -> None:
    """They do not stop a rollout."""
    facts = facts_of(a_cluster(THREE))
    limits = {"MaxShellsPerUser": "5", "MaxMemoryPerShellMB": "150"}
    small = facts["N2"].model_copy(update={"readiness": ReadinessFacts(limits=limits)})
    plain, warned = (decisions_doctor.ready(checked(facts=one)) for one in (facts, facts | {"N2": small}))
    assert (Verdict.READY, Verdict.READY) == (plain.verdict, warned.verdict)
    assert "warning" not in plain.summary
    assert warned.summary.endswith(" warning") or warned.summary.endswith(" warnings")

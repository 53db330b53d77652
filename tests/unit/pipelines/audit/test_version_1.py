"""Bundles and states that an older version of esync wrote are still read and checked."""

import json

import pytest

from pipelines.audit.archive import unpack
from pipelines.audit.check import check
from pipelines.audit.manifest import MANIFEST, RUN, BundledRun, Manifest, manifest_of
from pipelines.run.node_state import NodeState
from pipelines.usecases.status import RunStatus
from tests.places import CASE_FOLDERS
from workers.errors import BundleRefused, Failure, Problem

CASES = CASE_FOLDERS / "version-1"


def as_version_1(members: dict[str, bytes], **changed: bytes) -> dict[str, bytes]:
    """The members with changes, under an adapted manifest of version 1."""
    made = {name: data for name, data in {**members, **changed}.items() if name != MANIFEST}
    manifest = manifest_of(BundledRun.model_validate_json(made[RUN]), made)
    return {**made, MANIFEST: manifest.model_copy(update={"version": 1}).sealed().to_bytes()}


@pytest.mark.parametrize(("name", "verdict"), [("interrupted", "cancelled"), ("verified", "joined")])
def test_a_bundle_of_version_1_is_checked(name: str, verdict: str) -> None:
    """Digests, history, plan and decisions are checked; sentences and reports are not compared."""
    members = unpack((CASES / f"{name}.zip").read_bytes())
    assert Manifest.model_validate_json(members[MANIFEST]).version == 1
    found = check(members)
    assert verdict == found.verdict
    assert any(f"lead to the verdict {verdict}; sentences of an older version" in text for text in found.checked)
    assert any("were built by other versions and were not compared" in text for text in found.checked)


def test_a_changed_bundle_of_version_1_is_refused() -> None:
    """The older version has no weaker check: another verdict, fact, outcome or finding is found."""
    members = unpack((CASES / "verified.zip").read_bytes())
    for name, old, new in (
        (RUN, b'"verdict": "joined"', b'"verdict": "failed"'),
        ("facts/verified/S1.json", b'"running"', b'"stopped"'),
        ("findings/verify.json", b'"family.complete"', b'"family.x"'),
        ("outcomes.json", b"install_check unchanged", b"install_check skipped"),
        ("findings/verify.json", b'"proven"', b'"refuted"'),
    ):
        assert old in members[name]
        with pytest.raises(BundleRefused):
            check(as_version_1(members, **{name: members[name].replace(old, new, 1)}))


def test_a_state_of_version_1_is_read() -> None:
    """The fields of a problem become one record, and the older name of a node state is understood."""
    status = RunStatus.model_validate_json((CASES / "interrupted-status.json").read_text())
    done, interrupted = status.nodes["S1"], status.nodes["S2"]
    assert (NodeState.DONE, Problem()) == (done.state, done.problem)
    assert (NodeState.INTERRUPTED, "cert_copy") == (interrupted.state, interrupted.step)
    assert interrupted.description.startswith("broken off in cert_copy")
    expected = Problem(
        failure=Failure.REFUSED,
        slug="access_denied",
        message="the file is read-only",
        file="C:\\x\\web.config",
        remedy="clear the read-only attribute",
        about="S2, Windows",
    )
    assert expected == interrupted.problem
    assert 2 == json.loads(status.model_dump_json())["version"]


def test_an_unknown_state_is_refused() -> None:
    """Only the one older name is understood."""
    with pytest.raises(ValueError, match="broken"):
        NodeState("broken")

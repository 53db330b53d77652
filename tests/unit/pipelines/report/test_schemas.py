"""The JSON that programs read is the documented one."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pipelines.cluster_file.loader import ClusterRefused, read_cluster
from pipelines.cluster_file.positions import parse
from pipelines.report.build import build
from pipelines.report.schemas import SCHEMAS, schema
from pipelines.usecases import runs as commands
from pipelines.usecases.listing import row_of
from pipelines.usecases.plan_file import SavedPlan
from tasks.ektron.facts.node import NodeFacts
from tests.places import DOCS, ROOT
from tests.unit.pipelines.audit.bundled_run import MadeUpRun
from tests.unit.pipelines.cluster_file.test_loader import VALID
from workers.records import Status


def _documented(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS / f"{name}-schema.json").read_text("utf-8"))
    return found


def _complaints(name: str, written: object) -> list[str]:
    return [error.message for error in Draft202012Validator(_documented(name)).iter_errors(written)]


def _unset(facts: NodeFacts) -> NodeFacts:
    return facts.model_copy(update={"asset": facts.asset.model_copy(update={"load_balanced": "0"})})


@pytest.fixture(scope="module")
def planned() -> MadeUpRun:
    """A run that planned, and found something to do."""
    return MadeUpRun("plan", before={"P2": _unset})


@pytest.fixture(scope="module")
def failed() -> MadeUpRun:
    """A rollout in which a node failed and another did not answer."""
    return MadeUpRun(ends={("P1", "cert_copy"): Status.FAILED, ("P2", "install_check"): Status.UNREACHABLE})


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_documented_schema_is_the_real_one(name: str) -> None:
    """Each docs/*-schema.json describes what is written now (`python -m pipelines.report.schemas docs`)."""
    assert schema(name) == _documented(name)
    Draft202012Validator.check_schema(_documented(name))


def test_every_schema_in_the_documents_is_checked() -> None:
    """Every schema in docs/ is compared with the code."""
    assert {f"{name}-schema.json" for name in SCHEMAS} == {path.name for path in DOCS.glob("*-schema.json")}


def test_a_saved_plan_follows_its_schema(planned: MadeUpRun) -> None:
    """A plan with changes is valid, and reads back as the same plan."""
    saved = commands.saved_plan(planned.engine, planned.id)
    assert not saved.plan.empty
    text = saved.model_dump_json()
    assert [] == _complaints("plan", json.loads(text))
    assert saved == SavedPlan.model_validate_json(text)


@pytest.mark.parametrize("without", ["fingerprint", "plan", "spec", "facts", "made"])
def test_a_plan_that_lacks_something_does_not_follow(planned: MadeUpRun, without: str) -> None:
    """The schema is exact: every field is required, and no other is allowed."""
    written = commands.saved_plan(planned.engine, planned.id).model_dump(mode="json")
    assert [f"{without!r} is a required property"] == _complaints(
        "plan", {k: v for k, v in written.items() if k != without}
    )
    assert len(_complaints("plan", {**written, "more": 1})) == 1


@pytest.mark.parametrize("run", ["planned", "failed"])
def test_reports_status_and_lists_follow_theirs(run: str, request: pytest.FixtureRequest) -> None:
    """Report, status and list row of a plan and of a failed rollout are valid."""
    made: MadeUpRun = request.getfixturevalue(run)
    report = build(commands.summary(made.engine, made.id))
    assert [] == _complaints("report", report.model_dump(mode="json"))
    assert [] == _complaints("status", commands.status(made.engine, made.id).model_dump(mode="json"))
    assert [] == _complaints("runs", [row_of(made.record).model_dump(mode="json")])


def _cluster_complaints(text: str) -> list[str]:
    return _complaints("cluster", parse(text).data)


def test_good_cluster_files_follow_their_schema() -> None:
    """The shipped one, the excerpt of the README, and one with numbers where texts are meant, and a merge key."""
    excerpt = (ROOT / "README.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    for text in ((ROOT / "lab" / "cluster.yaml").read_text(), excerpt, VALID):
        assert [] == _cluster_complaints(text)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("role: staging", "role: stage"),
        ("transport: kerberos", "transport: kerbros"),
        ("port: 5987", "port: '5987'"),
        ("origin: s1\n", ""),
        ("secret: env:", "password: env:"),
        ("edition: 8.5", "edition: '8.9'"),
        ('"50%"', "true"),
    ],
)
def test_an_editor_shows_a_mistake_in_a_cluster_file(right: str, wrong: str) -> None:
    """A wrong value, an unknown key, a missing key: the schema refuses what the loader refuses."""
    assert right in VALID
    assert _cluster_complaints(VALID.replace(right, wrong))
    with pytest.raises(ClusterRefused):
        read_cluster(VALID.replace(right, wrong).encode(), file="cluster.yaml", folder=ROOT)

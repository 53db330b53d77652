"""Runs that another version of esync wrote: what cannot be read is said of its run, and hides no other one."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pipelines.usecases import run_views
from pipelines.usecases.rollback import rollback
from tests.unit.pipelines.web.served_site import ServedSite, browser, served_site
from workers.errors import InputRefused, RecordRefused
from workers.records import DocumentKind, RunState, Verdict

SAID = "another version of esync wrote it"
OF_RUN = ("", "/nodes", "/record", "/history", "/plan", "/report.json", "/report.html", "/report.xml", "/bundle")
OF_PAGES = ("/", "/runs", "/clusters/shop")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedSite]:
    """A server with a run that has ended."""
    with served_site(tmp_path) as started:
        yield started


def ended_run(served: ServedSite) -> str:
    """A rollout that has ended."""
    client = served.client()
    run = str(client.post("/api/v1/runs", json={"kind": "rollout", "cluster": "shop"}).json()["run"])
    served.finish(run)
    assert served.site.store.run(run).state is RunState.CONCLUDED
    return run


@pytest.mark.parametrize("change", ["a newer field", "a field less"])
@pytest.mark.parametrize(
    "kind",
    [DocumentKind.OBSERVED, DocumentKind.VERIFIED, DocumentKind.PLAN, DocumentKind.FINDINGS, DocumentKind.FAMILY],
)
def test_a_document_of_another_version_is_no_internal_error(
    kind: DocumentKind, change: str, served: ServedSite
) -> None:
    """Each answer is the usual one, or says which run cannot be read and why; lists and clusters are shown."""
    run, store = ended_run(served), served.site.store
    documents = store.documents(run, kind)
    assert documents
    for name, text in documents.items():
        document = json.loads(text)
        changed = {**document, "zz_new": 1} if change == "a newer field" else dict(list(document.items())[1:])
        store.put(run, kind, name, json.dumps(changed))
    client = served.client()
    with browser(served) as person:
        answers = [client.get(f"/api/v1/runs/{run}{part}") for part in OF_RUN]
        answers += [client.get(f"/api/v1/explanations/S1?target={run}"), person.get(f"/runs/{run}")]
        answers.append(person.get(f"/runs/{run}/plan"))
        others = [client.get("/api/v1/runs"), client.get("/api/v1/clusters"), *map(person.get, OF_PAGES)]
    assert {200} == {answer.status_code for answer in others}
    assert {200, 409, 502} >= {answer.status_code for answer in answers}
    assert all(SAID in answer.text for answer in answers if answer.status_code == 502)
    for use in (run_views.summary, run_views.status, rollback):
        with suppress(RecordRefused, InputRefused):
            use(served.site.engine, run)


def test_findings_that_cannot_be_read_hide_no_cluster(served: ServedSite) -> None:
    """Which nodes are named is not known then; that the cluster was refuted is."""
    run, store = ended_run(served), served.site.store
    record = store.run(run)
    store.save(record.model_copy(update={"verdict": Verdict.REFUTED}))
    for name in store.documents(run, DocumentKind.FINDINGS):
        store.put(run, DocumentKind.FINDINGS, name, '{"zz_new": 1}')
    listed = served.client().get("/api/v1/clusters")
    assert (200, "refuted") == (listed.status_code, listed.json()["clusters"][1]["verdict"])


def test_a_cluster_that_cannot_be_read_is_said_of_its_run(served: ServedSite) -> None:
    """Its page, too: the picture of a run needs the names of its nodes."""
    run, store = ended_run(served), served.site.store
    record = store.run(run)
    store.save(record.model_copy(update={"spec": {**record.spec, "nodes": [{"title": "S1"}]}}))
    with browser(served) as person:
        page, listed = person.get(f"/runs/{run}"), person.get("/runs")
    assert (502, 200) == (page.status_code, listed.status_code)
    assert SAID in page.text

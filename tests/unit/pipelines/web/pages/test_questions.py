"""The questions that only a person can answer, and cleanup, on the pages of a cluster and of a run."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipelines.reconcile import begin_or_continue
from pipelines.usecases import attest, runs
from pipelines.usecases.cluster_files import cluster_named
from pipelines.usecases.tokens import Role
from tests.unit.pipelines.web.served_site import ServedSite, browser, sent, served_site
from workers.records import now

RULE = "balancer.sticky-sessions"
TODAY = now().date().isoformat()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ServedSite]:
    """A server with the cluster `shop`."""
    with served_site(tmp_path) as started:
        yield started


def answered(site: ServedSite) -> dict[str, str]:
    """Who has answered what about the cluster."""
    known = attest.questions(site.site.engine, cluster_named(site.folder, "shop"))
    return {one.id: one.confirmed.by for one in known.questions if one.confirmed}


def forms(client: httpx.Client, path: str) -> list[str]:
    """Where the forms of a page lead."""
    return re.findall(r'<form method="post" action="([^"]+)"', client.get(path).text)


def test_an_approver_answers_a_question_and_withdraws_the_answer(site: ServedSite) -> None:
    """With the name of the person who is logged on, until a day; what is typed is shown as text."""
    path = f"/clusters/shop/questions/{RULE}"
    with browser(site, Role.APPROVER, name="bob") as client:
        assert path in forms(client, "/clusters/shop")
        told = sent(client, path, note="<b>looked</b>", until=TODAY)
        assert (303, "/clusters/shop#questions") == (told.status_code, told.headers["location"])
        assert {RULE: "bob"} == answered(site)
        page = client.get("/clusters/shop").text
        assert f"confirmed by bob until {TODAY}: &lt;b&gt;looked&lt;/b&gt;" in page
        assert f"{path}/withdraw" in forms(client, "/clusters/shop")
        assert 303 == sent(client, f"{path}/withdraw").status_code
        assert {} == answered(site)
        assert 409 == sent(client, f"{path}/withdraw").status_code


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"note": "looked", "until": "1999-01-01"}, 409),
        ({"note": "looked", "until": "soon"}, 422),
        ({"note": "", "until": TODAY}, 422),
        ({"note": "x" * 501, "until": TODAY}, 422),
        ({"until": TODAY}, 422),
    ],
)
def test_an_answer_that_means_nothing_is_refused(site: ServedSite, fields: dict[str, str], status: int) -> None:
    """As a page; nothing is recorded."""
    with browser(site, Role.APPROVER) as client:
        told = sent(client, f"/clusters/shop/questions/{RULE}", **fields)
        assert (status, True) == (told.status_code, told.headers["content-type"].startswith("text/html"))
        assert 409 == sent(client, "/clusters/shop/questions/no.rule", note="looked", until=TODAY).status_code
    assert {} == answered(site)


def test_only_an_approver_of_the_cluster_answers(site: ServedSite) -> None:
    """Others read the questions without a form; a form that is sent nevertheless, or of another site, does nothing."""
    path = f"/clusters/shop/questions/{RULE}"
    with browser(site, Role.OPERATOR) as operator, browser(site, Role.ADMIN, "another") as other:
        assert "Questions that no program can answer" in operator.get("/clusters/shop").text
        assert not [where for where in forms(operator, "/clusters/shop") if "/questions/" in where]
        for client in (operator, other):
            for where in (path, f"{path}/withdraw"):
                assert 403 == sent(client, where, note="looked", until=TODAY).status_code
    with browser(site, Role.APPROVER) as client:
        told = client.post(path, data={"note": "looked", "until": TODAY, "csrf_token": "x"})
        assert (403, True) == (told.status_code, "does not belong to this session" in told.text)
    assert {} == answered(site)


def test_a_cleanup_is_started_when_the_name_of_the_cluster_was_typed(site: ServedSite) -> None:
    """Of expired backups, or of all where that was ticked; by an operator."""
    before = site.site.store.names()
    with browser(site, Role.VIEWER) as viewer:
        assert 403 == sent(viewer, "/clusters/shop/cleanup", confirm="shop").status_code
    with browser(site) as client:
        refused = sent(client, "/clusters/shop/cleanup", confirm="Shop")
        assert (409, True) == (refused.status_code, "nothing was done" in refused.text)
        assert before == site.site.store.names()
        for fields, options in (({}, ()), ({"everything": "true"}, ("all",))):
            told = sent(client, "/clusters/shop/cleanup", confirm="shop", **fields)
            run = told.headers["location"].rpartition("/")[2]
            record = site.site.store.run(run)
            assert ("cleanup", options, "ann") == (record.kind, record.options, record.who)
            assert 303 == sent(client, f"/runs/{run}/cancel", confirm="shop").status_code
            begin_or_continue(site.site.engine, run)


def test_the_page_of_a_run_leads_to_both(site: ServedSite) -> None:
    """A run that has ended and may have left backups offers a cleanup; a plan has left none."""
    cluster = cluster_named(site.folder, "shop")
    rollout = runs.start(site.site.engine, cluster, kind="rollout").id
    with browser(site, Role.APPROVER) as client:
        assert "/clusters/shop/cleanup" not in forms(client, f"/runs/{rollout}")
        site.finish(rollout)
        plan = runs.start(site.site.engine, cluster, kind="plan").id
        site.finish(plan)
        assert "/clusters/shop/cleanup" in forms(client, f"/runs/{rollout}")
        assert "/clusters/shop/cleanup" not in forms(client, f"/runs/{plan}")
        assert f"/clusters/shop/questions/{RULE}" in forms(client, f"/runs/{rollout}")
    with browser(site, Role.VIEWER) as client:
        assert [] == forms(client, f"/runs/{rollout}")

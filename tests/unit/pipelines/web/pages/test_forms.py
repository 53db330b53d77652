"""Pages and forms over HTTP: what a browser is given, what a form may do, and what is refused how."""

import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest

from pipelines.run.decisions_rollback import ALL_AT_ONCE
from pipelines.usecases import control, runs
from pipelines.usecases.cluster_files import cluster_named
from pipelines.usecases.tokens import Role
from pipelines.web.access import Access
from tasks.steering import hold_before
from tests.browser.invented import named
from tests.integration.web_server import PLAIN
from tests.unit.pipelines.report.sample_run import cluster_of
from tests.unit.pipelines.web.served_site import PLANTED, ServedSite, browser, sent, served_site
from workers.records import Change, DocumentKind, RunState

POLICY = "{approval: second-person, whole_pool: true, max_unreachable: '100%'}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedSite]:
    """A server with the cluster `shop`, whose rate limits no test reaches."""
    with served_site(tmp_path_factory.mktemp("clusters"), Access(logons=1000, starts=1000)) as started:
        yield started


@pytest.fixture(scope="module")
def ended(site: ServedSite) -> str:
    """A run of that server, with a plan, that has ended."""
    run = runs.start(site.site.engine, cluster_named(site.folder, "shop"), kind="plan").id
    site.finish(run)
    return run


def test_without_a_session_there_is_only_the_page_to_log_on(site: ServedSite) -> None:
    """Every page leads there; a wrong token is refused in words, and sets no cookie."""
    with httpx.Client(base_url=site.server.url, timeout=60, verify=PLAIN) as client:
        for path in ("/", "/runs", "/clusters/shop", "/compare", "/moves", "/runs/x/plan"):
            answer = client.get(path)
            assert (303, "/logon") == (answer.status_code, answer.headers["location"]), path
        wrong = client.post("/logon", data={"token": f"esync-{'0' * 12}-{'0' * 64}"})
        assert (403, True) == (wrong.status_code, "not known, was revoked, or has expired" in wrong.text)
        assert not client.cookies


@pytest.mark.parametrize("origin", ["cross-site", "same-site"])
def test_another_site_logs_nobody_on(site: ServedSite, origin: str) -> None:
    """Its form would put the reader into a session of the attacker; browsers say where a form comes from."""
    with httpx.Client(base_url=site.server.url, headers={"Sec-Fetch-Site": origin}, verify=PLAIN) as client:
        answer = client.post("/logon", data={"token": site.server.token(Role.ADMIN)})
        assert (403, True) == (answer.status_code, "this form is of another site" in answer.text)
        assert "set-cookie" not in answer.headers


def test_a_session_ends_when_its_person_logs_off(site: ServedSite) -> None:
    """The cookie cannot be read by a script or sent by another site, and opens nothing afterwards."""
    with browser(site) as client:
        cookie = client.post("/logon", data={"token": site.server.token()}).headers["set-cookie"].lower()
        assert all(word in cookie for word in ("httponly", "samesite=lax"))
        kept = dict(client.cookies)
        assert 303 == sent(client, "/logoff").status_code
        assert 303 == httpx.get(f"{site.server.url}/", cookies=kept, verify=PLAIN).status_code


def test_a_form_of_another_site_does_nothing(site: ServedSite) -> None:
    """Without the token of the session, or with that of another one, no run is started and none is steered."""
    with browser(site) as client, browser(site) as other:
        found = re.search(r'name="csrf_token" value="(\w+)"', other.get("/").text)
        assert found is not None
        before = site.site.store.names()
        for token in ("", "x", found[1]):
            for path in ("/clusters/shop/verify", "/runs/x/cancel", "/runs/x/apply", "/logoff"):
                answer = client.post(path, data={"csrf_token": token, "fingerprint": "0" * 64})
                assert (403, True) == (answer.status_code, "does not belong to this session" in answer.text), path
        assert before == site.site.store.names()
        assert 200 == client.get("/").status_code


def test_who_only_looks_has_no_buttons(site: ServedSite) -> None:
    """And a form that is sent nevertheless is refused as a page; another cluster is as if it were not there."""
    with browser(site, Role.VIEWER) as client:
        assert "Plan a rollout" not in client.get("/clusters/shop").text
        refused = sent(client, "/clusters/shop/verify")
        assert (403, "text/html") == (refused.status_code, refused.headers["content-type"].partition(";")[0])
        assert "this needs operator" in refused.text
    with browser(site, Role.OPERATOR, "another") as client:
        assert "/clusters/shop" not in client.get("/").text
        assert 404 == client.get("/clusters/shop").status_code
        assert 403 == sent(client, "/clusters/shop/verify").status_code


def test_what_changes_servers_needs_the_name_of_the_cluster(site: ServedSite) -> None:
    """Typed as it is; otherwise nothing is started, and the page says so."""
    with browser(site) as client:
        before = site.site.store.names()
        answer = sent(client, "/clusters/shop/rollout", confirm="Shop")
        assert (409, True) == (answer.status_code, "was not typed as it is (shop); nothing was done" in answer.text)
        assert before == site.site.store.names()
        started = sent(client, "/clusters/shop/rollout", confirm=" shop ")
        run = started.headers["location"].rpartition("/")[2]
        record = site.site.store.run(run)
        assert ("rollout", "ann", "127.0.0.1") == (record.kind, record.who, record.origin_host)
        assert 409 == sent(client, f"/runs/{run}/cancel", confirm="x").status_code
        assert 303 == sent(client, f"/runs/{run}/cancel", confirm="shop").status_code
        assert "Stopping" in client.get(f"/runs/{run}").text
        site.finish(run)
        assert RunState.CONCLUDED is site.site.store.run(run).state


def with_a_change(site: ServedSite, run: str) -> None:
    """Gives the plan of a run something to do: the servers of this site are as they should be."""
    plan = runs.summary(site.site.engine, run).plan
    assert plan is not None
    first = plan.nodes[0].model_copy(update={"changes": (Change(what="LoadBalanced", before="0", after="1"),)})
    changed = plan.model_copy(update={"nodes": (first, *plan.nodes[1:])})
    site.site.store.put(run, DocumentKind.PLAN, DocumentKind.PLAN, changed.to_json())


def test_only_the_plan_that_was_shown_is_applied(site: ServedSite) -> None:
    """The form carries its fingerprint: another plan, or none, starts nothing."""
    with browser(site) as client:
        run = sent(client, "/clusters/shop/plan").headers["location"].split("/")[2]
        assert "The plan is being made" in client.get(f"/runs/{run}/plan").text
        site.finish(run)
        with_a_change(site, run)
        shown = client.get(f"/runs/{run}/plan").text
        found = re.search(r'name="fingerprint" value="(\w+)"', shown)
        assert found is not None, shown
        assert found[1] == runs.saved_plan(site.site.engine, run).fingerprint
        before = site.site.store.names()
        assert 409 == sent(client, f"/runs/{run}/apply", fingerprint="0" * 64).status_code
        assert before == site.site.store.names()
        applied = sent(client, f"/runs/{run}/apply", fingerprint=found[1]).headers["location"].rpartition("/")[2]
        assert found[1] == site.site.store.run(applied).plan_fingerprint
        site.finish(applied)
        assert 200 == client.get(f"/compare?run={run}&run={applied}").status_code


@pytest.mark.parametrize("at_once", [{}, {"all_at_once": "true"}])
def test_a_rollback_goes_in_waves_unless_the_form_says_otherwise(tmp_path: Path, at_once: dict[str, str]) -> None:
    """The choice of `--all-at-once`; the name of the cluster has to be typed for it."""
    with served_site(tmp_path) as site, browser(site) as client:
        plan = sent(client, "/clusters/shop/plan").headers["location"].split("/")[2]
        site.finish(plan)
        with_a_change(site, plan)
        fingerprint = runs.saved_plan(site.site.engine, plan).fingerprint
        applied = sent(client, f"/runs/{plan}/apply", fingerprint=fingerprint).headers["location"].rpartition("/")[2]
        site.finish(applied)
        assert 409 == sent(client, f"/runs/{applied}/rollback", confirm="x", **at_once).status_code
        begun = sent(client, f"/runs/{applied}/rollback", confirm="shop", **at_once).headers["location"]
        record = site.site.store.run(begun.rpartition("/")[2])
        assert ("rollback", applied, bool(at_once)) == (record.kind, record.parent, ALL_AT_ONCE in record.options)


def test_a_plan_that_waits_is_approved_by_another_person(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Not by the one who requested it; a rejected one ends without a change."""
    with served_site(tmp_path_factory.mktemp("clusters"), policy=POLICY) as site:
        for end in ("approve", "reject"):
            with browser(site, name="ann") as ann, browser(site, Role.APPROVER, name="bob") as bob:
                run = sent(ann, "/clusters/shop/rollout", confirm="shop").headers["location"].rpartition("/")[2]
                site.finish(run)
                shown = ann.get(f"/runs/{run}").text
                assert "Waiting for approval" in shown
                assert f'href="/runs/{run}/plan">Look at the plan, and approve it<' in shown
                assert "waits for the approval of another person" in ann.get(f"/runs/{run}/plan").text
                found = re.search(r'name="fingerprint" value="(\w+)"', bob.get(f"/runs/{run}/plan").text)
                assert found is not None
                assert 403 == sent(ann, f"/runs/{run}/approve", fingerprint=found[1]).status_code
                assert 303 == sent(bob, f"/runs/{run}/{end}", fingerprint=found[1], why="not today").status_code
                site.finish(run)
                record = site.site.store.run(run)
                events = {event.kind: event.message for event in site.site.store.events(run)}
                late = sent(bob, f"/runs/{run}/reject", why="too late")
                assert (409, True) == (late.status_code, "does not wait for an approval" in late.text)
                if end == "approve":
                    assert "run.cancel_asked" not in events
                    assert "plan approved by bob" in events["run.approved"]
                else:
                    assert ("cancelled", True) == (record.verdict, "plan rejected: not today" in record.summary)


def test_refusals_are_pages_with_the_words_of_the_terminal(site: ServedSite, ended: str) -> None:
    """An unknown run, cluster, server, page or part; two runs too few; a filter that means nothing."""
    with browser(site) as client:
        run = ended
        for path, status, words in (
            ("/runs/none", 404, "there is no run none"),
            ("/clusters/none", 404, "there is no cluster"),
            (f"/runs/{run}/nodes/none", 404, "has no server"),
            ("/static/none.js", 404, "there is no such file"),
            ("/?part=nothing", 409, "the page has no such part"),
            (f"/compare?run={run}", 409, "two runs can be compared"),
            (f"/runs/{run}?page=x", 422, "was not understood: query.page"),
            (f"/moves?run={'x' * 200}", 422, "was not understood"),
            ("/nothing", 404, "there is nothing at this address"),
            ("/runs/..%2F..%2Fetc%2Fpasswd", 404, "there is nothing at this address"),
            ("/clusters/%7B%7B7*7%7D%7D", 404, "there is no cluster"),
            (f"/runs/{run}/nodes/%3Cscript%3E", 404, "&lt;script&gt;"),
            ("/logoff", 405, "this address does not take this method"),
            ("/logon/openid", 404, "this server has no OpenID Connect provider"),
            ("/logon/proxy", 403, "no trusted proxy names a user"),
        ):
            answer = client.get(path)
            assert (status, True) == (answer.status_code, words in answer.text), (path, answer.text)
            assert f"<title>{HTTPStatus(status).phrase} " in answer.text
            assert "<script>" not in answer.text
            assert answer.headers["content-type"].startswith("text/html"), path
            assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'"), path
            assert "/api/v1" not in answer.text, path
        assert "broken" in client.get("/").text


@pytest.mark.parametrize(
    "path", ["//evil.example/x", "/%5Cevil.example/x", "///evil.example/x", "/%2F%2Fevil.example/x"]
)
def test_the_way_from_a_refusal_leads_to_this_server(site: ServedSite, path: str) -> None:
    """Whatever address was asked for."""
    with browser(site) as client:
        found = re.search(r'href="([^"]*)">Back', client.post(site.server.url + path).text)
        assert found is not None
        assert re.match(r"/(?![/\\])", found[1]), found[1]


def test_no_answer_leads_to_another_scheme(site: ServedSite) -> None:
    """A redirect with a scheme would be http behind a proxy that speaks HTTPS."""
    with browser(site) as client:
        for path in ("/runs/", "/clusters/shop/", "/api/v1/runs/"):
            assert "location" not in client.get(path).headers, path


def test_a_run_that_waits_for_a_person_does_not_just_run(tmp_path: Path) -> None:
    """The lists and the clusters say so, and a page that is open learns of it."""
    with served_site(tmp_path) as site, browser(site) as client:
        run = runs.start(site.site.engine, cluster_named(site.folder, "shop"), kind="verify").id
        seen = set()
        for word in ("In progress", "Held before wave-2", "Held before wave-3", "Paused"):
            if word.startswith("Held"):
                hold_before(site.site.store, run, word.rpartition(" ")[2])
            elif word == "Paused":
                control.pause(site.site.engine, run, "lunch")
            pages = [client.get(path).text for path in ("/", "/clusters/shop", "/runs")]
            assert all(f'<span class="verdict busy">{word}</span>' in page for page in pages), word
            seen |= set(re.findall(r'data-overview="(\w+)"', pages[2]))
        assert 4 == len(seen)


def test_what_is_no_file_hides_no_cluster(site: ServedSite) -> None:
    """A folder, a link that leads nowhere, a file with an odd name: the others are shown, and nothing else is named."""
    (site.folder / "folder.yaml").mkdir()
    (site.folder / "nowhere.yaml").symlink_to("gone")
    (site.folder / "loop.yaml").symlink_to("loop.yaml")
    (site.folder / "<b>.yaml").write_text("x")
    with browser(site) as client:
        page = client.get("/")
        assert (200, True) == (page.status_code, "/clusters/shop" in page.text)
        assert "nowhere" not in page.text
        listed = site.client().get("/api/v1/clusters").json()["clusters"]
        assert ["broken", "shop"] == [one["name"] for one in listed]


def test_a_cluster_without_a_file_is_shown_and_cannot_be_started(site: ServedSite) -> None:
    """Its runs came from elsewhere: the page knows it from them, says so, and offers no start."""
    runs.start(site.site.engine, named(cluster_of(), "elsewhere"), kind="verify")
    with browser(site) as client:
        assert "no file here" in client.get("/").text
        assert "Plan a rollout" not in client.get("/clusters/elsewhere").text
        assert "Plan a rollout" in client.get("/clusters/shop").text
        refused = sent(client, "/clusters/elsewhere/verify")
        assert (404, True) == (refused.status_code, "has no file here" in refused.text)


def test_static_files_are_kept_by_browsers(site: ServedSite) -> None:
    """Their address changes with their content; a page has neither inline scripts nor inline styles."""
    with browser(site) as client:
        page = client.get("/").text
        for name in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
            assert "immutable" in client.get(name).headers["cache-control"]
        assert not re.search(r"<style|style=|<script(?! src=)|\son\w+=", page)


def test_no_secret_is_on_any_page(site: ServedSite, ended: str) -> None:
    """Neither the password of the cluster's account, nor the seal key, nor the token or cookie of a session."""
    with browser(site, Role.ADMIN) as client:
        run = ended
        key = site.site.engine.settings.seal_key
        secrets = [PLANTED, *client.cookies.values(), *([key.reveal()] if key else [])]
        for path in ("/", "/clusters/shop", "/runs", f"/runs/{run}", f"/runs/{run}/plan", f"/runs/{run}/nodes/S1"):
            text = client.get(path).text
            assert [] == [secret for secret in secrets if secret in text], path

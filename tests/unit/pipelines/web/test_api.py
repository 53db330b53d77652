"""What programs get from the API: the use cases of the command line, refused in its words."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from pipelines.cli.entry import run
from pipelines.reconcile import begin_or_continue
from pipelines.report.rows import Report
from pipelines.rollout import KINDS
from pipelines.usecases import runs
from pipelines.usecases import sync as syncs
from pipelines.usecases.cluster_files import cluster_named
from pipelines.usecases.tokens import Role
from pipelines.web import idempotency
from pipelines.web.guard import Guard
from pipelines.web.pages.asking import problem_page
from tasks.syncing.options import SyncOptions
from tests.unit.pipelines.web.served_site import ServedSite, browser, sent, served_site
from workers.records import RunState, Verdict, now
from workers.settings import load_settings


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedSite]:
    """A server with two cluster files, one of them with mistakes."""
    with served_site(tmp_path) as started:
        yield started


def start(served: ServedSite, kind: str = "verify", **more: object) -> str:
    """A run that was started by the API."""
    answer = served.client().post("/api/v1/runs", json={"kind": kind, "cluster": "shop", **more})
    assert 201 == answer.status_code, answer.text
    return str(answer.json()["run"])


def test_a_run_is_started_followed_and_reported(served: ServedSite) -> None:
    """Status, nodes and every form of the report are those of the command line."""
    run = start(served, reason="ticket 5")
    served.finish(run)
    client = served.client(Role.VIEWER)
    status = client.get(f"/api/v1/runs/{run}").json()
    assert ("concluded", "ann", "ticket 5") == (
        status["state"],
        served.site.store.run(run).who,
        served.site.store.run(run).reason,
    )
    page = client.get(f"/api/v1/runs/{run}/nodes", params={"limit": 3}).json()
    rest = client.get(f"/api/v1/runs/{run}/nodes", params={"limit": 3, "after": page["next"]}).json()
    assert (["S1", "S2", "P1"], ["P2"], "") == (
        [node["node"] for node in page["nodes"]],
        [node["node"] for node in rest["nodes"]],
        rest["next"],
    )
    assert run == Report.model_validate(client.get(f"/api/v1/runs/{run}/report.json").json()).run
    html = client.get(f"/api/v1/runs/{run}/report.html")
    assert html.headers["content-security-policy"].endswith("sandbox")
    xml = client.get(f"/api/v1/runs/{run}/report.xml").text
    assert '<testsuite name="nodes"' in xml
    bundle = client.get(f"/api/v1/runs/{run}/bundle")
    assert (200, b"PK") == (bundle.status_code, bundle.content[:2])


def test_the_caller_and_its_address_are_in_the_history(served: ServedSite) -> None:
    """Also for each request that steers a run."""
    run = start(served, "rollout")
    client = served.client(Role.OPERATOR, name="bob")
    assert 200 == client.post(f"/api/v1/runs/{run}/pause", json={"reason": "lunch"}).status_code
    assert 200 == client.post(f"/api/v1/runs/{run}/resume").status_code
    assert 200 == client.post(f"/api/v1/runs/{run}/cancel", json={}).status_code
    told = {event.kind: event.message for event in served.site.store.events(run)}
    assert "rollout of shop requested by ann on 127.0.0.1" in told["run.created"]
    assert "lunch (by bob (operator by token) from 127.0.0.1)" == told["run.pause_asked"]
    assert "by bob (operator by token) from 127.0.0.1" == told["run.resume_asked"] == told["run.cancel_asked"]


def test_the_same_key_twice_is_one_run(served: ServedSite) -> None:
    """With another body it is refused; for another caller it is another key."""
    body, key = {"kind": "verify", "cluster": "shop"}, {"Idempotency-Key": "k1"}
    client = served.client()
    first = client.post("/api/v1/runs", json=body, headers=key)
    (served.folder / "shop.yaml").write_text((served.folder / "shop.yaml").read_text().replace("s2.", "s9."))
    again = client.post("/api/v1/runs", json=body, headers=key)
    assert (201, 200, first.json()["run"]) == (first.status_code, again.status_code, again.json()["run"])
    other = client.post("/api/v1/runs", json={**body, "kind": "plan"}, headers=key)
    assert (409, "key_reused") == (other.status_code, other.json()["error"])
    assert first.json()["run"] != served.client(name="bob").post("/api/v1/runs", json=body, headers=key).json()["run"]


def test_the_same_key_is_another_run_when_the_day_is_over(served: ServedSite) -> None:
    """The run of before is still in the store: it is not given as one that was started now."""
    body, key, client = {"kind": "verify", "cluster": "shop"}, {"Idempotency-Key": "k1"}, served.client()
    first = client.post("/api/v1/runs", json=body, headers=key)
    served.site.passed += idempotency.SECONDS
    again = client.post("/api/v1/runs", json=body, headers=key)
    assert (201, 201) == (first.status_code, again.status_code)
    assert first.json()["run"] != again.json()["run"]


def test_a_request_that_was_refused_can_be_repeated_with_its_key(served: ServedSite) -> None:
    """The key is not used up by a refusal."""
    first = start(served, "rollout")
    client = served.client()
    body = {"cluster": "shop"}
    refused = client.post("/api/v1/runs", json=body, headers={"Idempotency-Key": "k"})
    assert (409, "cluster_locked") == (refused.status_code, refused.json()["error"])
    client.post(f"/api/v1/runs/{first}/cancel", json={})
    served.finish(first)
    assert 201 == client.post("/api/v1/runs", json=body, headers={"Idempotency-Key": "k"}).status_code


def test_runs_are_listed_in_pages_with_filters(served: ServedSite) -> None:
    """Every run comes once, the newest first; a cursor of something else is refused."""
    made = [start(served) for _ in range(5)]
    client, seen, after = served.client(), [], ""
    while True:
        page = client.get("/api/v1/runs", params={"limit": 2, "after": after}).json()
        seen += [row["run"] for row in page["runs"]]
        after = page["next"]
        if not after:
            break
    assert made[::-1] == seen
    assert [] == client.get("/api/v1/runs", params={"kind": "rollout"}).json()["runs"]
    assert 5 == len(client.get("/api/v1/runs", params={"who": "ann", "state": "active"}).json()["runs"])
    assert 409 == client.get("/api/v1/runs", params={"after": "MSA"}).status_code
    for wrong in ({"after": "x" * 301}, {"unknown": "1"}, {"limit": "101"}):
        assert 422 == client.get("/api/v1/runs", params=wrong).status_code


def test_a_cluster_file_is_shown_with_its_mistakes(served: ServedSite) -> None:
    """Each has its line; messages do not have the folder of the server."""
    client = served.client()
    known = client.get("/api/v1/clusters/broken/file").json()
    assert not known["ok"]
    assert all(mistake["line"] >= 1 for mistake in known["mistakes"])
    assert known["mistakes"]
    refused = client.post("/api/v1/runs", json={"cluster": "broken"})
    assert (409, "cluster_refused") == (refused.status_code, refused.json()["error"])
    assert refused.json()["mistakes"] == known["mistakes"]
    assert str(served.folder) not in refused.text


def test_a_password_in_a_cluster_file_is_shown_to_nobody(served: ServedSite) -> None:
    """It stands there by mistake, for as long as the file is not corrected; references are shown."""
    text = (served.folder / "shop.yaml").read_text()
    inline = text.replace('secret: "env:', 'token: "planted-1, x", secret: "env:')
    below = text.replace(
        "policy:", "secret: >-\n    planted-2\n  # planted-3 of it\nurl: http://ann:planted-4@h/\npolicy:"
    )
    (served.folder / "broken.yaml").write_text(f"{inline}\n{below}")
    client = served.client(Role.VIEWER)
    shown = client.get("/api/v1/clusters/broken/file")
    assert "planted" not in shown.text + client.get("/").text
    assert "http://ann:***@h/" in shown.json()["text"]
    assert text == client.get("/api/v1/clusters/shop/file").json()["text"]


@pytest.mark.parametrize("name", ["../shop", "..%2Fshop", "none", ".hidden", "shop.yaml", "a" * 65])
def test_only_files_of_the_folder_can_be_named(served: ServedSite, name: str) -> None:
    """No path leads out of it, and the answer lists nothing."""
    answer = served.client().get(f"/api/v1/clusters/{name}")
    assert answer.status_code in {404, 422}
    assert "shop," not in answer.text


def test_a_cluster_that_was_proven_and_then_refuted_has_drifted(served: ServedSite) -> None:
    """The overview says since when it was proven, and which nodes are named now."""
    run = start(served)
    served.finish(run)
    proven = served.site.store.run(run)
    assert proven.verdict is Verdict.JOINED
    known = served.client().get("/api/v1/clusters/shop").json()
    assert (4, "joined", False) == (known["nodes"], known["verdict"], known["drift"])
    assert known["proven"]
    assert ["broken", "shop"] == [one["name"] for one in served.client().get("/api/v1/clusters").json()["clusters"]]


def test_questions_are_answered_by_the_caller(served: ServedSite) -> None:
    """The answer has the caller's name, counts until its day, and can be withdrawn."""
    client = served.client(Role.APPROVER, name="ann")
    rule = client.get("/api/v1/clusters/shop/questions").json()["questions"][0]["id"]
    path = f"/api/v1/clusters/shop/questions/{rule}"
    assert 409 == client.put(path, json={"until": "1999-01-01", "note": "looked"}).status_code
    answered = client.put(path, json={"until": now().date().isoformat(), "note": "looked"})
    assert (200, "ann") == (answered.status_code, answered.json()["by"])
    asked = {one["id"]: one["answered"] for one in client.get("/api/v1/clusters/shop/questions").json()["questions"]}
    assert asked[rule]
    assert 204 == client.delete(path).status_code
    assert 409 == client.delete(path).status_code


def test_a_command_elsewhere_answers_a_question(
    served: ServedSite, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the name of its token; it lists and withdraws answers as the command at the broker does."""
    monkeypatch.setenv("ESYNC_SERVER", served.server.url)
    monkeypatch.setenv("ESYNC_TOKEN", served.server.token(Role.APPROVER, name="ann"))
    load_settings.cache_clear()
    rule, day = "balancer.sticky-sessions", now().date().isoformat()
    assert 0 == run(["attest", "shop", rule, "--until", day, "--note", "looked", "--json"])
    assert "ann" == json.loads(capfd.readouterr().out)["by"]
    assert 0 == run(["attest", "shop"])
    assert f"{rule}\n" in (listed := capfd.readouterr().out)
    assert "ann" in listed
    assert 0 == run(["attest", "shop", rule, "--withdraw"])
    assert 0 == run(["attest", "shop", "--json"])
    assert {False} == {one["answered"] for one in json.loads(capfd.readouterr().out)["questions"]}
    assert 1 == run(["attest", "shop", rule, "--withdraw"])
    assert "there is no answer to" in capfd.readouterr().err
    assert 64 == run(["attest", "shop", rule, "--note", "looked"])
    assert "--until is missing" in capfd.readouterr().err


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_proxy_asks_whether_the_server_lives_as_it_likes(served: ServedSite, method: str) -> None:
    """Without a token, and without a body in the answer."""
    answer = served.client(None).request(method, "/api/v1/health")
    assert (204, b"") == (answer.status_code, answer.content)


def test_a_contradictory_request_is_refused_before_any_contact(served: ServedSite) -> None:
    """The remedy names the field."""
    client = served.client()
    wrong: list[dict[str, object]] = [
        {"kind": "verify", "prune": True},
        {"kind": "plan", "plan": "x"},
        {"kind": "rollout", "plan": "x", "prune": True},
        {"kind": "cleanup", "nodes": ["S1"]},
        {"kind": "rollout", "everything": True},
        {"kind": "rollout", "nodes": ["nowhere"]},
        {"kind": "rollout", "force": True},
        {"kind": "renew"},
    ]
    for body in wrong:
        answer = client.post("/api/v1/runs", json={"cluster": "shop", **body})
        assert answer.status_code in {409, 422}, body
        assert "application/problem+json" == answer.headers["content-type"]
    assert () == served.site.store.names()


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"rollout", "verify", "plan", "doctor", "cleanup"}))
def test_what_needs_a_person_at_a_terminal_cannot_be_started(served: ServedSite, kind: str) -> None:
    """A sync, its proof, a renewal: by no request, and its options by none either."""
    client = served.client(Role.ADMIN)
    for more in ({}, {"options": ["repair"]}, {"repair": True}, {"node": "S1", "start": "http"}):
        answer = client.post("/api/v1/runs", json={"cluster": "shop", "kind": kind, **more})
        assert 422 == answer.status_code, (more, answer.text)
    assert () == served.site.store.names()


@pytest.mark.parametrize("kind", [syncs.START, syncs.PROVE, syncs.BALANCE, syncs.CLEAR, syncs.STATUS])
def test_a_run_about_a_sync_is_not_begun_again(served: ServedSite, kind: str) -> None:
    """Neither by a retry nor by a rollback: who started it was at a terminal. It can be seen, and cancelled."""
    cluster = cluster_named(served.folder, "shop")
    run = syncs.begin(served.site.engine, cluster, kind, SyncOptions(node="S1", start="gate", repair=True)).id
    client = served.client(Role.OPERATOR)
    assert 200 == client.post(f"/api/v1/runs/{run}/cancel", json={}).status_code
    begin_or_continue(served.site.engine, run)
    assert RunState.CONCLUDED is served.site.store.run(run).state
    for verb in ("retry", "rollback"):
        answer = client.post(f"/api/v1/runs/{run}/{verb}", json={})
        assert (409, "input_refused") == (answer.status_code, answer.json()["error"])
    with browser(served) as client:
        page = sent(client, f"/runs/{run}/retry")
        assert (409, True) == (page.status_code, "a person at a terminal begins a sync" in page.text)
    assert (run,) == served.site.store.names()


@pytest.mark.parametrize(("path", "kind"), [("/api/v1/runs", "application/problem+json"), ("/runs", "text/html")])
def test_an_unforeseen_error_is_a_short_sentence_with_the_headers_of_every_answer(path: str, kind: str) -> None:
    """For a program a document, for a browser a page. Its text may be secret: only the log has it."""

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive, send
        raise KeyError("planted-secret")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Guard(fails, ["localhost"], problem_page))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(f"{path}?secret=1")

    answer = asyncio.run(ask())
    assert (500, kind) == (answer.status_code, answer.headers["content-type"].partition(";")[0])
    assert "internal error: KeyError" in answer.text
    assert "planted" not in answer.text
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_another_person_approves_a_plan_by_the_api(tmp_path: Path) -> None:
    """Not the one who requested the run, not an operator, and not another plan than the one that was seen."""
    with served_site(tmp_path, policy="{approval: second-person, waves: all, whole_pool: true}") as served:
        run = served.client(Role.APPROVER, name="ann").post("/api/v1/runs", json={"cluster": "shop"}).json()["run"]
        served.finish(run)
        status = served.client(Role.VIEWER).get(f"/api/v1/runs/{run}").json()
        assert ("wave-1", True, None) == (status["held"], status["unapproved"], status["verdict"])
        plan = runs.summary(served.site.engine, run).plan
        assert plan is not None
        asked = [
            (served.client(Role.APPROVER, name="ann"), "approve", {"plan": plan.fingerprint}, 409),
            (served.client(Role.OPERATOR, name="bob"), "approve", {"plan": plan.fingerprint}, 403),
            (served.client(Role.OPERATOR, name="bob"), "promote", {"turn": "wave-1"}, 409),
            (served.client(Role.APPROVER, name="bob"), "approve", {"plan": "0" * 64}, 409),
            (served.client(Role.APPROVER, name="bob"), "approve", {"plan": plan.fingerprint}, 200),
        ]
        statuses = [client.post(f"/api/v1/runs/{run}/{verb}", json=body).status_code for client, verb, body, _ in asked]
        assert [expected for *_, expected in asked] == statuses
        served.finish(run)
        assert Verdict.JOINED is served.site.store.run(run).verdict

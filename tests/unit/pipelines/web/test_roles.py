"""Who may do what: every route, with every role."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipelines.usecases import paging
from pipelines.usecases.tokens import Role
from pipelines.web.access import Access
from pipelines.web.openapi import Place, places_of
from tests.openapi_page import application, document, with_table
from tests.places import DOCS
from tests.unit.pipelines.web.served_site import ServedSite, served_site

#: What needs no role.
OPEN = {"/api/v1/health", "/logon", "/logon/openid", "/logon/openid/back", "/logon/proxy", "/static/{name}"}
PLACES = sorted(
    place for place in places_of(application()) if place.path.startswith("/api/") and place.path not in OPEN
)
_PARTS = {"run": "none", "cluster": "shop", "rule": "some.rule", "token": "0" * 12, "node": "S1"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedSite]:
    """A server whose rate limits no test reaches."""
    with served_site(tmp_path_factory.mktemp("clusters"), Access(logons=1000, starts=1000)) as started:
        yield started


def ask(client: httpx.Client, place: Place) -> httpx.Response:
    """A request that is well formed, apart from what it names."""
    path = re.sub(r"\{(\w+)\}", lambda part: _PARTS[part[1]], place.path)
    body: dict[str, str] | None = None if place.method == "GET" else {}
    return client.request(place.method, path, json=body)


def test_every_route_needs_a_role_unless_it_is_listed() -> None:
    """A route without a role would be open to all."""
    assert len(PLACES) > 25
    assert set() == {place.path for place in places_of(application()) if place.role is None} - OPEN


@pytest.mark.parametrize("role", [None, *Role])
def test_a_role_opens_its_routes_and_no_others(served: ServedSite, role: Role | None) -> None:
    """Without a token 401, with a lower role 403, and otherwise whatever the request deserves."""
    client = served.client(role)
    for place in PLACES:
        assert place.role is not None
        status = ask(client, place).status_code
        allowed = role is not None and role.includes(place.role)
        refusal = 401 if role is None else 403
        assert (status not in {401, 403}) if allowed else (status == refusal), (place, status)


def test_other_clusters_are_as_if_they_were_not_there(served: ServedSite) -> None:
    """Neither their files nor their runs can be seen, started or told from what does not exist."""
    run = served.client().post("/api/v1/runs", json={"kind": "verify", "cluster": "shop"}).json()["run"]
    client = served.client(Role.ADMIN, "another")
    assert [] == client.get("/api/v1/clusters").json()["clusters"]
    assert [] == client.get("/api/v1/runs").json()["runs"]
    for name in ("shop", "nothing"):
        assert f"there is no cluster {name}" == client.get(f"/api/v1/clusters/{name}").json()["message"]
        refused = client.post("/api/v1/runs", json={"cluster": name})
        assert (404, f"there is no cluster {name}") == (refused.status_code, refused.json()["message"])
    for path in ("", "/nodes", "/events", "/report.json", "/bundle", "/plan"):
        answers = [client.get(f"/api/v1/runs/{one}{path}") for one in (run, "nothing")]
        assert [404, 404] == [answer.status_code for answer in answers]
        assert answers[0].json()["message"].replace(run, "nothing") == answers[1].json()["message"]
    assert 404 == client.post(f"/api/v1/runs/{run}/cancel", json={}).status_code
    (served.folder / "another.yaml").write_text(
        (served.folder / "shop.yaml").read_text().replace("name: shop", "name: another")
    )
    plans = [client.post("/api/v1/runs", json={"cluster": "another", "plan": one}) for one in (run, "nothing")]
    assert [404, 404] == [answer.status_code for answer in plans]
    assert plans[0].text.replace(run, "nothing") == plans[1].text


def test_no_page_of_a_list_names_what_is_not_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even in the cursor, which stands for the last run that was looked at; every page is reached with it."""
    monkeypatch.setattr(paging, "SEARCHED", 2)
    with served_site(tmp_path) as served:
        every = served.client()
        asked = {"kind": "verify", "cluster": "shop"}
        runs = {every.post("/api/v1/runs", json=asked).json()["run"] for _ in range(5)}
        for client, expected in ((every, runs), (served.client(Role.VIEWER, "another"), set())):
            seen, cursors = set(), [""]
            while len(cursors) == 1 or cursors[-1]:
                page = client.get("/api/v1/runs", params={"after": cursors[-1]}).json()
                seen |= {row["run"] for row in page["runs"]}
                cursors.append(page["next"])
            assert (expected, 4) == (seen, len(cursors))
            assert not any(b"shop" in base64.urlsafe_b64decode(cursor + "==") for cursor in cursors)


def test_a_file_with_mistakes_is_for_those_of_its_cluster(served: ServedSite) -> None:
    """The name of the file may be that of another cluster."""
    (served.folder / "another.yaml").write_text("# Our shop.\nname: shop\nnodes: 7\n")
    seen = {}
    for cluster in ("shop", "another"):
        client = served.client(Role.VIEWER, cluster)
        seen[cluster] = (
            client.get("/api/v1/clusters/another/file").status_code,
            "nodes: 7 must be" in client.get("/").text,
        )
    assert {"shop": (200, True), "another": (404, False)} == seen


def test_an_admin_of_some_clusters_gives_access_to_no_others(served: ServedSite) -> None:
    """Neither by a new token, nor to the tokens of others."""
    client = served.client(Role.ADMIN, "shop")
    wider = client.post("/api/v1/tokens", json={"name": "x", "role": "viewer"})
    assert (403, "not_allowed") == (wider.status_code, wider.json()["error"])
    made = client.post("/api/v1/tokens", json={"name": "x", "role": "viewer", "clusters": ["shop"]})
    assert 201 == made.status_code
    assert {("shop",)} == {tuple(row["clusters"]) for row in client.get("/api/v1/tokens").json()["tokens"]}
    foreign = served.client(Role.ADMIN).post("/api/v1/tokens", json={"name": "y", "role": "viewer"}).json()["id"]
    assert 404 == client.delete(f"/api/v1/tokens/{foreign}").status_code
    assert 204 == client.delete(f"/api/v1/tokens/{made.json()['id']}").status_code


def test_the_documents_describe_the_api_as_it_is() -> None:
    """docs/openapi.json and the table in docs/api.md: `python -m tests.openapi_page docs` writes them again."""
    page = (DOCS / "api.md").read_text("utf-8")
    assert (DOCS / "openapi.json").read_text("utf-8") == document(), "run: python -m tests.openapi_page docs"
    assert page == with_table(page), "run: python -m tests.openapi_page docs"


def test_a_generated_client_has_one_readable_name_for_everything() -> None:
    """Operations have the names of our functions; no two schemas have the same title."""
    described = json.loads(document())
    operations = [one["operationId"] for path in described["paths"].values() for one in path.values()]
    titles = [one["title"] for one in described["components"]["schemas"].values()]
    for names in operations, titles:
        assert len(names) == len(set(names))
        assert all("api" not in name and name.isidentifier() for name in names)

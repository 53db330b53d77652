"""Who is believed: tokens, sessions, a provider, a proxy; and what a request must carry to change something."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from starlette.responses import Response

from pipelines.usecases.tokens import Grant, Role, create_token, revoke_token, token_of
from pipelines.web.access import Access, OpenId, Proxy, Rule, load_access
from pipelines.web.app import create_app
from pipelines.web.sessions import Session, begin_session
from tests.integration.web_server import PLAIN
from tests.unit.pipelines.web.served_site import ServedSite, served_site
from tests.waiting import wait_until
from workers.errors import InputRefused

RUN = {"kind": "verify", "cluster": "shop"}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedSite]:
    """A server that allows five wrong tokens in a minute."""
    with served_site(tmp_path, Access(logons=5, starts=3)) as started:
        yield started


def session(served: ServedSite, role: Role = Role.OPERATOR) -> tuple[httpx.Client, str, str]:
    """A browser with a session: its client, its token's id, and the attributes of its cookie."""
    grant = Grant(role=role)
    token, _ = create_token(served.site.engine, "ann", grant, timedelta(hours=1))
    answer = Response()
    parts = create_app(served.site.engine, served.server.access).state.served
    begin_session(parts, answer, Session(way="token", name="ann", token=token.id))
    cookie = answer.headers["set-cookie"]
    client = served.client(None)
    client.headers["Cookie"] = cookie.partition(";")[0]
    return client, token.id, cookie


def test_a_session_has_what_its_token_grants_and_ends_with_it(served: ServedSite) -> None:
    """Its cookie cannot be read by scripts; the store has neither the cookie nor the token."""
    client, token, cookie = session(served)
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert {"role": "operator", "clusters": ["*"], "name": "ann", "via": "token"} == client.get("/api/v1/me").json()
    secret = cookie.partition(";")[0].partition("=")[2]
    shelf = served.site.store._shelf
    assert secret not in str(shelf.kept) + str(shelf.lent)
    revoke_token(served.site.engine, token)
    assert 401 == client.get("/api/v1/me").status_code


def test_a_request_of_a_session_carries_its_csrf_token(served: ServedSite) -> None:
    """Without it, or with another session's, nothing is started; reading needs none."""
    client, _, _ = session(served)
    assert 200 == client.get("/api/v1/runs").status_code
    for wrong in ({}, {"X-CSRF-Token": "0" * 64}):
        refused = client.post("/api/v1/runs", json=RUN, headers=wrong)
        assert (403, "not_allowed") == (refused.status_code, refused.json()["error"])
    assert () == served.site.store.names()


def test_wrong_tokens_are_limited_by_address_and_right_ones_are_not(served: ServedSite) -> None:
    """The limit is counted for failures; a token with a changed secret is as wrong as an invented one."""
    good = served.client(Role.VIEWER)
    text = good.headers["Authorization"].removeprefix("Bearer ")
    wrong = served.client(None)
    tokens = [text[:-1] + ("0" if text[-1] != "0" else "1"), "x", "esync-", "esync-0-0", text.upper(), text + "0"]
    statuses = [wrong.get("/api/v1/me", headers={"Authorization": f"Bearer {one}"}).status_code for one in tokens]
    assert [401] * 5 + [429] == statuses
    assert 200 == good.get("/api/v1/me").status_code


def test_requests_for_runs_are_limited_by_caller(served: ServedSite) -> None:
    """Another caller still may."""
    client = served.client(Role.OPERATOR, name="ann")
    assert [201, 201, 201, 429] == [client.post("/api/v1/runs", json=RUN).status_code for _ in range(4)]
    assert 201 == served.client(Role.OPERATOR, name="bob").post("/api/v1/runs", json=RUN).status_code


def test_large_bodies_are_refused_whether_or_not_they_say_so(served: ServedSite) -> None:
    """1 MB is more than any request needs."""
    client = served.client(Role.OPERATOR)
    large = b"x" * 1_000_001
    assert 413 == client.post("/api/v1/runs", content=large).status_code
    pieces = (large[start : start + 100_000] for start in range(0, len(large), 100_000))
    headers = {"Content-Type": "application/json"}
    assert 413 == client.post("/api/v1/runs", content=pieces, headers=headers).status_code


def test_what_is_refused_is_not_repeated(served: ServedSite) -> None:
    """A value in the wrong place may be secret."""
    answer = served.client().post("/api/v1/runs", json={"cluster": "shop", "password": "hunter2-planted"})
    assert 422 == answer.status_code
    assert "password" in answer.json()["message"]
    assert "hunter2" not in answer.text


def test_an_expired_token_opens_nothing(served: ServedSite) -> None:
    """It is listed until it is revoked."""
    engine = served.site.engine
    token, text = create_token(engine, "ann", Grant(role=Role.ADMIN), timedelta(hours=1))
    assert token_of(engine, text.reveal()) is not None
    expired = token.model_copy(update={"expires": token.created})
    engine.store.keep("token", token.id, expired.to_json())
    assert token_of(engine, text.reveal()) is None
    assert text.reveal() not in engine.store.kept("token", token.id)


class TestProxy:
    """A proxy that has logged its users on."""

    RULES = (Rule(group="ops", role=Role.OPERATOR), Rule(user="eve", role=Role.VIEWER, clusters=("other",)))

    def access(self, address: str) -> Access:
        """A server that trusts the proxy at that address."""
        headers = {"user_header": "X-Remote-User", "groups_header": "X-Groups", "address_header": "X-Forwarded-For"}
        return Access(proxy=Proxy(addresses=(address,), **headers), rules=self.RULES)

    def test_its_user_has_the_role_of_the_rule_while_it_names_that_user(self, tmp_path: Path) -> None:
        """A session of one user is none for another one, and groups count as they are now."""
        with served_site(tmp_path, self.access("127.0.0.1/32")) as served:
            client = served.client(None)
            known = {"X-Remote-User": "ann", "X-Groups": "all, ops"}
            assert 303 == client.get("/logon/proxy", headers=known).status_code
            assert ("ann", "operator", "proxy") == tuple(
                client.get("/api/v1/me", headers=known).json()[name] for name in ("name", "role", "via")
            )
            for wrong in ({}, {**known, "X-Remote-User": "bob"}, {**known, "X-Groups": "all"}):
                assert 401 == client.get("/api/v1/me", headers=wrong).status_code
            unknown = {"X-Remote-User": "bob", "X-Groups": "all"}
            assert 403 == client.get("/logon/proxy", headers=unknown).status_code

    def test_its_header_counts_from_its_address_only(self, tmp_path: Path) -> None:
        """From every other address it is ignored, and opens nothing."""
        with served_site(tmp_path, self.access("10.1.2.3/32")) as served:
            client = served.client(None)
            headers = {"X-Remote-User": "ann", "X-Groups": "ops"}
            assert 403 == client.get("/logon/proxy", headers=headers).status_code
            assert 401 == client.get("/api/v1/me", headers=headers).status_code

    @pytest.mark.parametrize(
        ("proxy", "said", "seen"),
        [
            ("127.0.0.1/32", "6.6.6.6, 203.0.113.9", "203.0.113.9"),
            ("127.0.0.1/32", "6.6.6.6, 203.0.113.9:4711", "203.0.113.9"),
            ("127.0.0.1/32", "[2001:db8::1]:4711", "2001:db8::1"),
            ("127.0.0.1/32", "2001:db8::2", "2001:db8::2"),
            ("127.0.0.1/32", "<script>", "127.0.0.1"),
            ("10.1.2.3/32", "203.0.113.9", "127.0.0.1"),
        ],
    )
    def test_the_address_that_it_names_is_in_the_history(
        self, tmp_path: Path, proxy: str, said: str, seen: str
    ) -> None:
        """The one that the proxy itself has added, if it is the proxy and an address."""
        with served_site(tmp_path, self.access(proxy)) as served:
            headers = {"X-Forwarded-For": said}
            answer = served.client(Role.OPERATOR).post("/api/v1/runs", json=RUN, headers=headers)
            assert seen == answer.json()["origin_host"]

    def test_a_line_that_its_client_sent_as_well_counts_for_nothing(self, tmp_path: Path) -> None:
        """Some proxies add a line below that of the client: the address is theirs, and no user is named."""
        with served_site(tmp_path, self.access("127.0.0.1/32")) as served:
            twice = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "203.0.113.9")]
            answer = served.client(Role.OPERATOR).post("/api/v1/runs", json=RUN, headers=twice)
            assert "203.0.113.9" == answer.json()["origin_host"]
            known = [("X-Remote-User", "ann"), ("X-Groups", "ops")]
            for more in (("X-Remote-User", "bob"), ("X-Groups", "all")):
                for lines in ([*known, more], [more, *known]):
                    assert 403 == served.client(None).get("/logon/proxy", headers=lines).status_code


@contextmanager
def provider(*users: dict[str, object]) -> Iterator[str]:
    """A real OpenID Connect provider as a process; its issuer."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "oidc_provider_mock",
        "--port",
        str(port),
        "--require-nonce",
        "true",
    ]
    for user in users:
        command += ["--user-claims", json.dumps(user)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            issuer = f"http://127.0.0.1:{port}"
            wait_until(lambda: _answers(issuer))
            yield issuer
        finally:
            process.terminate()


def _answers(issuer: str) -> bool:
    try:
        return httpx.get(f"{issuer}/.well-known/openid-configuration", verify=PLAIN).is_success
    except httpx.TransportError:
        return False


def test_a_person_logs_on_at_a_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, in the browser that began it; the groups decide the role, and a person without a rule gets none."""
    monkeypatch.setenv("OPENID_SECRET", "planted-openid-secret")
    people: tuple[dict[str, object], ...] = (
        {"sub": "ann", "email": "ann@example.net", "groups": ["ops"]},
        {"sub": "bob", "email": "bob@example.net"},
    )
    with provider(*people) as issuer:
        access = Access(
            url="http://127.0.0.1:1",
            logons=5,
            openid=OpenId(issuer=issuer, client_id="esync", secret="env:OPENID_SECRET"),
            rules=(Rule(group="ops", role=Role.APPROVER, clusters=("shop",)),),
        )
        with served_site(tmp_path, access) as served:
            client = served.client(None)
            back = at_provider(client, "ann")
            assert 403 == served.client(None).get(back).status_code  # another browser
            assert 403 == client.get(back).status_code  # and now the attempt has been used
            back = at_provider(client, "ann")
            begun = client.get(back)
            assert (303, "/") == (begun.status_code, begun.headers["location"]), begun.text
            me = {"role": "approver", "clusters": ["shop"], "name": "ann@example.net", "via": "openid"}
            assert me == client.get("/api/v1/me").json()
            assert 403 == client.get(back).status_code
            refused = served.client(None)
            no_role = refused.get(at_provider(refused, "bob"))
            assert (403, True) == (no_role.status_code, "bob@example.net has no role here" in no_role.text)
            assert "planted-openid-secret" not in begun.text + no_role.text + str(begun.headers)
            more = [refused.get("/logon/openid").status_code for _ in range(4)]  # three were begun before
            assert [303, 303, 429, 429] == more


def at_provider(client: httpx.Client, person: str) -> str:
    """Logs on at the provider as that person; the path that it sends the browser back to."""
    there = client.get("/logon/openid")
    assert 303 == there.status_code, there.text
    assert "code_challenge_method=S256" in there.headers["location"]
    answer = httpx.post(there.headers["location"], data={"sub": person}, verify=PLAIN)
    assert 302 == answer.status_code, answer.text
    return answer.headers["location"].removeprefix("http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: [{role: king}]", "rules.0.role"),
        ("proxy: {addresses: [everywhere]}", "proxy.addresses"),
        ("proxy: {addresses: []}", "proxy.addresses"),
        ("openid: {issuer: 'https://i', client_id: c, secret: 'env:X'}", "needs `url`"),
        ("unknown: 1", "unknown"),
        ("hosts: [a]\na: [", "not YAML in UTF-8 in line 3: "),
        ("https: true\nhttps: false", "in line 2: found duplicate key"),
    ],
)
def test_a_wrong_access_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """Before anything is served; the message names the place."""
    file = tmp_path / "access.yaml"
    file.write_text(text)
    with pytest.raises(InputRefused, match=said):
        load_access(file)

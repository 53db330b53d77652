"""The application over a site of one process: real use cases, rules and reconciler; messages are taken by the test."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from pipelines.coordinator import begin, join_and_verify
from pipelines.reconcile import begin_or_continue
from pipelines.usecases.tokens import Role
from pipelines.web.access import Access
from tests.integration.web_server import PLAIN, WebServer, web_server
from tests.unit.pipelines.steered_workers import PASSWORD, Site
from tests.unit.pipelines.test_steered_runs import drained

__all__ = ["CLUSTER", "PLANTED", "ServedSite", "browser", "sent", "served_site"]

CLUSTER = f"""\
name: shop
edition: "8.0"
origin: S1
site: {{path: 'C:\\inetpub\\wwwroot\\CMS400'}}
connection: {{user: svc, secret: "env:{PASSWORD}"}}
policy: {{POLICY}}
nodes:
  - {{name: S1, host: s1.example.net, role: staging, pool: staging}}
  - {{name: S2, host: s2.example.net, role: staging, pool: staging}}
  - {{name: P1, host: p1.example.net, role: production, pool: live}}
  - {{name: P2, host: p2.example.net, role: production, pool: live}}
"""
PLANTED = "planted-4711-secret"  #: the password of the cluster's account


@dataclass
class ServedSite:
    """A server, its run store, and who may ask."""

    site: Site
    folder: Path
    server: WebServer

    def client(self, role: Role | None = Role.ADMIN, *clusters: str, name: str = "ann") -> httpx.Client:
        """A client with a token of that role; with None it has none."""
        return self.server.client(role, *clusters, name=name)

    def finish(self, run: str) -> None:
        """Handles all messages of a run, and joins its turns, until it has ended or waits for a person."""
        begin(self.site.engine, run)
        while self.site.store.run(run).verdict is None:
            before = self.site.store.run(run).version
            drained(self.site, until="esync.begin")
            if turn := self.site.store.run(run).turn:
                join_and_verify(self.site.engine, run, turn.name)
            begin_or_continue(self.site.engine, run)
            if self.site.store.run(run).version == before:
                return


@contextmanager
def served_site(folder: Path, access: Access | None = None, policy: str = "{}") -> Iterator[ServedSite]:
    """A server with the cluster file `shop` and one that has mistakes."""
    os.environ[PASSWORD] = PLANTED
    (folder / "shop.yaml").write_text(CLUSTER.replace("{POLICY}", policy))
    (folder / "broken.yaml").write_text("name: broken\nnodes: 7\n")
    site = Site()
    with web_server(site.engine, folder, access) as server:
        yield ServedSite(site, folder, server)


@contextmanager
def browser(site: ServedSite, role: Role = Role.OPERATOR, *clusters: str, name: str = "ann") -> Iterator[httpx.Client]:
    """What a browser is without a screen: it keeps cookies, and has logged on."""
    with httpx.Client(base_url=site.server.url, timeout=60, verify=PLAIN) as client:
        answer = client.post("/logon", data={"token": site.server.token(role, *clusters, name=name)})
        assert (303, "/") == (answer.status_code, answer.headers["location"])
        yield client


def sent(client: httpx.Client, path: str, **fields: str) -> httpx.Response:
    """A form of the session, sent."""
    found = re.search(r'name="csrf_token" value="(\w+)"', client.get("/").text)
    assert found is not None
    return client.post(path, data={"csrf_token": found[1], **fields})

"""A lab's sites over real sockets, and its faults as `esync lab --fault` sets them."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.config import generated
from lab.control.remote import spare_addresses
from lab.control.running import Lab
from lab.machine.faults import Faults
from lab.product.installation import Installation
from tests.unit.lab.product.sites import join

pytestmark = pytest.mark.integration

NAMES = ("S1", "S2", "P1", "P2")
FILE = "news.aspx"
HANDLERS = "/WorkArea/sync"


class Joined:
    """A joined lab in the test's own process, with real sockets."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def product(self, name: str) -> Installation:
        """The product of a node."""
        node = self.lab.node(name)
        assert node
        assert isinstance(node.product, Installation)
        return node.product

    async def suffer(self, name: str, **faults: Any) -> None:  # noqa: ANN401 - JSON of faults
        """Sets exactly these faults of a node."""
        node = self.lab.node(name)
        assert node
        await node.apply(Faults.model_validate(faults))

    def put(self, name: str, data: bytes) -> None:
        """Writes the file on a node."""
        self.product(name).machine.disk.put(self.product(name).site.child(FILE), data)

    def having(self, data: bytes) -> set[str]:
        """The nodes that have the file."""
        found = {name: self.product(name) for name in NAMES}
        files = {name: (one.machine.disk, one.site.child(FILE)) for name, one in found.items()}
        return {name for name, (disk, file) in files.items() if disk.stat(file) and disk.read(file) == data}

    async def reached(self, data: bytes) -> set[str]:
        """The nodes that have the file when no service works any more."""
        while tasks := [task for name in NAMES for task in self.product(name).program._tasks]:
            await asyncio.wait(tasks)
        return self.having(data)

    def client(self, name: str) -> httpx.AsyncClient:
        """A browser that trusts the lab's authority."""
        node = self.lab.node(name)
        assert node
        trusted = ssl.create_default_context(cafile=self.lab.folder / "ca.pem")
        url = f"{node.site_scheme}://{node.machine.address}:{node.site_port}"
        return httpx.AsyncClient(base_url=url, timeout=30, verify=trusted)

    @asynccontextmanager
    async def browser(self, name: str) -> AsyncIterator[httpx.AsyncClient]:
        """A browser that is logged in."""
        async with self.client(name) as client:
            page = (await client.get("/WorkArea/login.aspx")).text
            hidden = dict(re.findall(r'type="hidden" name="(\w+)".*?value="([^"]*)"', page))
            password = (self.lab.folder / "site-password").read_text().strip()
            reply = await client.post("/WorkArea/login.aspx", data=hidden | {"username": "admin", "password": password})
            assert httpx.codes.FOUND == reply.status_code
            yield client

    async def sync(self, name: str, number: int = 1) -> dict[str, Any]:
        """Starts a sync, waits for its end; returns the answer."""
        async with self.browser(name) as client:
            return dict((await client.get(f"{HANDLERS}/SyncHandler.ashx?action=Sync&id={number}")).json())


@asynccontextmanager
async def joined(folder: Path, **settings: str) -> AsyncIterator[Joined]:
    """Four joined nodes."""
    config = generated(4, spare_addresses()).model_copy(update={"disk": "memory", "sync_seconds": 0.0, **settings})
    lab = Lab(config, folder)
    await lab.start()
    try:
        site = Joined(lab)
        for name in NAMES:
            join(site.product(name), NAMES)
            site.product(name).service.request_stop()
            site.product(name).service.request_start()
        yield site
    finally:
        await lab.stop()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_sync_over_real_sockets(tmp_path: Path, scheme: str) -> None:
    """Login with cookies, start, status; the file is on every disk, and no password is in an answer."""

    async def play() -> None:
        async with joined(tmp_path, site_scheme=scheme) as site:
            site.put("S1", b"new")
            assert (await site.sync("S1"))["Success"]
            assert set(NAMES) == await site.reached(b"new")
            async with site.client("S1") as client:
                reply = await client.get(f"{HANDLERS}/SyncStatusHandler.ashx", params={"action": "Status", "id": 1})
            assert (200, True) == (reply.status_code, reply.json()["IsComplete"])
            assert (tmp_path / "site-password").read_text().strip() not in reply.text

    asyncio.run(play())


def test_a_fault_begins_at_an_entry_of_the_status(tmp_path: Path) -> None:
    """The way to the other end is cut in the middle; a new sync without the fault brings the file."""

    async def play() -> None:
        async with joined(tmp_path) as site:
            site.put("S1", b"new")
            later = {"at": {"operation": "Sync", "target": "SyncDatabaseEnded"}, "faults": {"cut": ["P1"]}}
            await site.suffer("S1", later=[later])
            answer = await site.sync("S1")
            assert "Could not connect to P1:8732" in answer["Messages"][0]
            assert {"S1"} == site.having(b"new")
            await site.suffer("S1")
            assert (await site.sync("S1"))["Success"]
            assert set(NAMES) == await site.reached(b"new")

    asyncio.run(play())


def test_a_node_that_is_away_has_no_site(tmp_path: Path) -> None:
    """Its port is closed, and open again afterwards; a site that is down answers 503."""

    async def status(site: Joined) -> int:
        async with site.client("P2") as client:
            return (await client.get("/health.htm")).status_code

    async def play() -> list[object]:
        async with joined(tmp_path) as site:
            seen: list[object] = [await status(site)]
            for faults in ({"away": True}, {"site": {"down": True}}, {}):
                await site.suffer("P2", **faults)
                try:
                    seen.append(await status(site))
                except httpx.ConnectError:
                    seen.append("refused")
            return seen

    assert [200, "refused", 503, 200] == asyncio.run(play())


def test_a_login_is_lost_in_the_middle(tmp_path: Path) -> None:
    """The handlers that ask for a role answer `null`; a new login works."""

    async def play() -> tuple[object, object]:
        async with joined(tmp_path) as site, site.browser("S1") as client:
            later = {
                "at": {"operation": "Sync", "target": "SyncDatabaseEnded"},
                "faults": {"site": {"logged_out": True}},
            }
            await site.suffer("S1", later=[later])
            await client.get(f"{HANDLERS}/SyncHandler.ashx?action=Sync&id=1")
            after = (await client.get(f"{HANDLERS}/SyncHandler.ashx?action=IsSyncInProgress")).json()
            async with site.browser("S1") as again:
                return after, (await again.get(f"{HANDLERS}/SyncHandler.ashx?action=IsSyncInProgress")).json()

    lost, found = asyncio.run(play())
    assert (None, True) == (lost, bool(found))

"""Joined servers of two pools in the test's own process, as a person who syncs sees them: their sites and disks."""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from lab.machine.machine import Machine
from lab.machine.memory_disk import MemoryDisk
from lab.machine.network import Network
from lab.machine.web import Page, request_of
from lab.product.database import ADMINISTRATORS, SYNC_ADMIN, SYNC_USER, Database, Databases, Direction, User
from lab.product.family import Family, make_family
from lab.product.installation import Installation, install
from lab.product.service import Farm
from lab.product.site import Edition, Options, connection_of

__all__ = ["FAMILY", "PASSWORD", "Browser", "Servers", "join", "servers"]

FAMILY = make_family()
PASSWORD = "Site-Pa55"
FORM = {"content-type": "application/x-www-form-urlencoded"}
USERS = {"admin": (ADMINISTRATORS, SYNC_ADMIN), "syncuser": (SYNC_USER,), "editor": ()}


def join(server: Installation, names: tuple[str, ...], family: Family = FAMILY, *, flag: str = "1") -> None:
    """Does to the files of a server what a rollout does."""
    disk, name = server.machine.disk, server.machine.name
    for other in names:
        for file, data in family.files(other):
            disk.put(server.service_folder.child(file), data)
    for file, data in family.files(name):
        if "_SyncClient." in file:
            disk.put(server.site.child(file), data)
    keys = "".join(f'<add key="{other}_SyncClient.cer" encodedValue="{family.client.encoded}"/>' for other in names)
    edit(server, "service", rb"<publickCertKeys>.*?</publickCertKeys>|<publickCertKeys/>", b"<publickCertKeys/>")
    edit(server, "service", rb"<publickCertKeys/>", f"<publickCertKeys>{keys}</publickCertKeys>".encode())
    edit(server, "service", rb'"(EktronSyncServer|\w+_SyncServer)\.pfx"', f'"{name}_SyncServer.pfx"'.encode())
    edit(server, "service", rb'(<add key="LoadBalanced" value=)"."', rb'\1"' + flag.encode() + b'"')
    edit(server, "asset", rb'(\sLoadBalanced=)"."( ServicePort)', rb'\1"' + flag.encode() + rb'"\2')
    edit(server, "web", rb'"EktronSyncClient\.pfx"', f'"{name}_SyncClient.pfx"'.encode())
    edit(server, "web", rb'key="encodedValue" value=""', f'key="encodedValue" value="{family.client.encoded}"'.encode())


def edit(server: Installation, what: str, old: bytes, new: bytes) -> None:
    """Replaces a pattern in a configuration file of a server."""
    path = {
        "asset": server.site.child("AssetManagement.config"),
        "service": server.edition.service_config,
        "sitedb": server.service_folder.child("sitedb.config"),
        "web": server.site.child("web.config"),
    }[what]
    server.machine.disk.put(path, re.sub(old, new, server.machine.disk.read(path), flags=re.DOTALL))


@dataclass
class Browser:
    """A user's browser at the site of one server."""

    server: Installation
    cookies: dict[str, str] = field(default_factory=dict)

    async def ask(self, target: str, form: Mapping[str, str] | None = None, host: str = "") -> Page:
        """One request; cookies of the answer are kept."""
        headers = {"host": host, "cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        body = "&".join(f"{name}={value}" for name, value in (form or {}).items()).encode()
        method = "GET" if form is None else "POST"
        page = await self.server.pages.answer(request_of(method, target, headers | FORM, body))
        for name, value in page.headers:
            if name == "Set-Cookie":
                cookie, _, rest = value.partition("=")
                self.cookies[cookie] = rest.partition(";")[0]
        return page

    async def login(self, user: str = "admin", password: str = PASSWORD) -> Page:
        """Fills in the login page."""
        page = (await self.ask("/WorkArea/login.aspx")).body.decode()
        hidden = dict(re.findall(r'type="hidden" name="(\w+)".*?value="([^"]*)"', page))
        return await self.ask("/WorkArea/login.aspx", hidden | {"username": user, "password": password})

    async def handler(self, name: str, action: str, **fields: object) -> Any:  # noqa: ANN401 - JSON
        """The answer of a handler; None for `null`, and for an empty body."""
        query = "".join(f"&{key}={value}" for key, value in fields.items())
        page = await self.ask(f"/WorkArea/sync/{name}.ashx?action={action}{query}")
        assert (200, "text/plain; charset=utf-8") == (page.status, page.kind)
        return json.loads(page.body) if page.body else None

    async def sync(self, name: str) -> dict[str, Any]:
        """Starts the first profile whose name begins so; returns the answer after its end."""
        relationships = (await self.handler("SyncHandler", "GetProfiles"))["Relationships"]
        profiles = [profile for one in relationships for profile in one["Profiles"]]
        number = next(one["ProfileId"] for one in profiles if one["ProfileName"].startswith(name))
        return dict(await self.handler("SyncHandler", "Sync", id=number))

    async def status(self, number: int) -> dict[str, Any]:
        """The status of a profile."""
        return dict(await self.handler("SyncStatusHandler", "Status", id=number))


@dataclass
class Servers:
    """Servers by name, and what they share."""

    all: dict[str, Installation]
    farm: Farm
    network: Network

    def __getitem__(self, name: str) -> Installation:
        return self.all[name]

    def put(self, name: str, path: str, data: bytes | None) -> None:
        """Writes a file below the site of a server, or removes it."""
        server = self.all[name]
        file = server.site.below(path)
        if data is None:
            server.machine.disk.remove(file)
            return
        server.machine.disk.make_folder(file.parent)
        server.machine.disk.put(file, data)

    def having(self, path: str, data: bytes) -> set[str]:
        """The servers that have a file with these bytes."""
        disks = {name: (server.machine.disk, server.site.below(path)) for name, server in self.all.items()}
        return {name for name, (disk, file) in disks.items() if disk.stat(file) and disk.read(file) == data}

    def restart(self, name: str) -> None:
        """Restarts the service of a server."""
        service = self.all[name].service
        service.request_stop()
        service.request_start()

    async def browser(self, name: str, user: str = "admin") -> Browser:
        """A browser that is logged in."""
        browser = Browser(self.all[name])
        await browser.login(user)
        return browser

    async def synced(self, name: str, profile: str) -> dict[str, Any]:
        """Runs a sync, and waits until all that it caused has ended; returns its answer."""
        answer = await (await self.browser(name)).sync(profile)
        await self.quiet()
        return answer

    async def quiet(self) -> None:
        """Waits until no service works."""
        while tasks := [task for server in self.all.values() for task in server.program._tasks]:
            await asyncio.wait(tasks)

    @classmethod
    def of(
        cls,
        *names: str,
        edition: str = "8.0",
        joined: bool = True,
        options: Mapping[str, Options] = {},
        pools: Mapping[str, str] = {},
    ) -> Self:
        """Servers; by default those with an S are the staging pool, the others the production pool."""
        pools = dict.fromkeys(names, "production") | {n: "staging" for n in names if n.startswith("S")} | dict(pools)
        farm, network = Farm(Databases(prepare=_users), pace=0.0), Network()
        made: dict[str, Installation] = {}
        for number, name in enumerate(names, 1):
            machine = Machine(name, MemoryDisk(), address=f"127.0.99.{number}", network=network)
            option = options.get(name) or Options(connection=connection_of(pools[name]))
            made[name] = install(machine, Edition.of(edition), option, farm)
        for server in made.values() if joined else ():
            join(server, names)
            server.service.request_start()
        _relate(farm, names, pools)
        return cls(made, farm, network)


def _relate(farm: Farm, names: tuple[str, ...], pools: Mapping[str, str]) -> None:
    """Relationships of every pool with every other one, whose first server is at the remote end."""
    first = {pools[name]: name for name in reversed(names)}
    for local in dict.fromkeys(pools.values()):
        for remote in dict.fromkeys(pools.values()):
            if local not in {remote, "production"}:
                profiles = {f"{word.value.lower()} {remote}": word for word in Direction}
                farm.databases.relate(connection_of(local), connection_of(remote), first[remote], profiles)


def _users(database: Database) -> None:
    database.users = {name: User(name, PASSWORD, frozenset(roles)) for name, roles in USERS.items()}


def servers(edition: str = "8.0") -> Servers:
    """Two staging and two production servers, joined."""
    return Servers.of("S1", "S2", "P1", "P2", edition=edition)

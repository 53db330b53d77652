"""The web site of the product on one machine: web services, the login page, the sync handlers, and files.

It loads AssetManagement.config when it starts: with its first request, and again after web.config has changed, because
a change of AssetManagement.config alone does not restart it (ektron-facts 2.1).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from lxml import etree

from lab.machine.errors import Refusal
from lab.machine.machine import Machine
from lab.machine.paths import WindowsPath
from lab.machine.web import Page, Request
from lab.product.asked import Asked, Handler
from lab.product.database import Database
from lab.product.link import site_problem
from lab.product.login import Logins
from lab.product.service import EktronService
from lab.product.xml import parse_or_none, parses

__all__ = ["EktronSite"]

_KINDS = {"htm": "text/html", "html": "text/html", "txt": "text/plain", "css": "text/css", "js": "text/javascript"}
_HIDDEN = (".config", ".pfx", ".pvk", ".cer", ".cs", ".dll")


def _error(status: int, title: str) -> Page:
    return Page(status, f"<html><title>{title}</title></html>".encode())


@dataclass
class EktronSite:
    """The site of one machine.

    Attributes:
        handlers: of syncs, by lower-case file name. running: whether the service runs.
        hosts: the only host names that it answers, in lower case; if empty, all.
        down: its application pool is stopped. no_roles: no user may sync. catch_all: something else answers.
    """

    machine: Machine
    folder: WindowsPath
    service: EktronService
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    running: Callable[[], bool] = lambda: True
    hosts: frozenset[str] = frozenset()
    down: bool = False
    no_roles: bool = False
    catch_all: bool = False
    logins: Logins = field(default_factory=Logins)
    _loaded: tuple[bytes, int, str] = (b"", 0, "")

    async def answer(self, request: Request) -> Page:
        """Answers one request."""
        if self.hosts and request.host not in self.hosts:
            return _error(400, "Bad Request - Invalid Hostname")
        if self.catch_all:
            return _error(200, f"Welcome to {request.path}")
        if self.down:
            return _error(503, "Service Unavailable")
        if not self._configured():
            return _error(500, "Configuration Error")
        self._load()
        try:
            return await self._answered(request)
        except Refusal:
            return _error(404, "404")

    async def _answered(self, request: Request) -> Page:
        path = request.path.lower()
        page, _, operation = path.partition(".asmx")
        if path.startswith(f"{page}.asmx"):
            return self._web_service(f"{page}.asmx", operation, request)
        if path == "/":
            return self._health(Page(200, b"<html><title>CMS400</title></html>"))
        file = self._file(path)
        self.machine.disk.check_file(file)
        if path.endswith(_HIDDEN):
            return _error(404, "404")
        if path == "/workarea/login.aspx":
            return self.logins.page(request, self._database())
        if path.startswith("/workarea/sync/") and file.name in self.handlers:
            return await self.handlers[file.name](self._asked(request))
        kind = _KINDS.get(file.name.rpartition(".")[2], "text/html")
        return self._health(Page(200, self.machine.disk.read(file), kind))

    def _health(self, page: Page) -> Page:
        """What a balancer asks for: the page, while the service runs, too."""
        return page if self.running() else _error(503, "Service Unavailable")

    def _file(self, path: str) -> WindowsPath:
        return self.folder.below(path.strip("/").replace("/", "\\"))

    def _web_service(self, path: str, operation: str, request: Request) -> Page:
        """Web services answer 403 to an address that is not allowed (ektron-facts 10)."""
        file = self._file(path)
        self.machine.disk.check_file(file)
        if not self._allowed(request):
            return _error(403, "403 - Forbidden")
        if operation == "/testconnection":
            return Page(200, b'<?xml version="1.0" encoding="utf-8"?>\r\n<boolean>true</boolean>', "text/xml")
        return _error(200, f"{file.name.removesuffix('.asmx')} Web Service")

    def _allowed(self, request: Request) -> bool:
        allowed = self.folder.child("ektron.cms.security.whitelist.config")
        if self.machine.disk.stat(allowed) is None:
            return True
        address = request.source or self.machine.address
        return address.encode() in self.machine.disk.read(allowed)

    # -- handlers -------------------------------------------------------------------------------------------

    def _asked(self, request: Request) -> Asked:
        database = self._database()
        user = self.logins.user(request, database)
        return Asked(
            request,
            replace(user, roles=frozenset()) if user and self.no_roles else user,
            database,
            self.service,
            self.folder.text,
            problem=site_problem(self.machine, self.folder, self.service.loaded),
            load_balanced=self._loaded[2] == "1",
            culture=_culture(self._web()),
        )

    def _web(self) -> etree._Element:
        web = parse_or_none(self.machine.disk.read(self.folder.child("web.config")))
        if web is None:
            raise TypeError("web.config is XML, as was checked before")
        return web

    def _database(self) -> Database:
        """The database that web.config names."""
        strings = self._web().xpath("connectionStrings/add[@name='Ektron.DbConnection']/@connectionString")
        return self.service.farm.databases.of(str(strings[-1]) if strings else "")

    def _load(self) -> None:
        config = self.folder.child("web.config")
        entry = self.machine.disk.stat(config)
        now = (self.machine.disk.read(config), entry.mtime if entry else 0)
        if now != self._loaded[:2]:
            asset = parse_or_none(self.machine.disk.read(self.folder.child("AssetManagement.config")))
            self._loaded = (*now, asset.get("LoadBalanced", "") if asset is not None else "")

    def _configured(self) -> bool:
        try:
            return all(
                parses(self.machine.disk.read(self.folder.child(name)))
                for name in ("web.config", "AssetManagement.config")
            )
        except Refusal:
            return False


def _culture(web: etree._Element) -> str:
    found = web.xpath("system.web/globalization/@culture")
    return str(found[-1]) if found else "en-US"

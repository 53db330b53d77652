"""A small product for `esync sync` in one process: sites that are functions, and syncs that copy files between disks.

A sync proceeds with the polls of its status: each poll does the next thing of its script. So a test decides what
happens, needs no time, and sees every request.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from lab.machine.paths import WindowsPath
from tasks.cluster import Cluster
from tests.integration.one_process import PASSWORD, Esync
from workers.sites.memory import Asked, MemorySite, Page
from workers.sites.port import Address, Site

__all__ = ["FOLDER", "SITE_PASSWORD", "SITE_SECRET", "Deed", "World", "a_sync_cluster"]

SITE = r"C:\inetpub\wwwroot\CMS400"
FOLDER = rf"{SITE}\uploadedfiles"
SITE_PASSWORD, SITE_SECRET = "SYNC_WORLD_PASSWORD", "planted-Site-Secret-58214"
Deed = Callable[[], None]


def a_sync_cluster(balancers: Mapping[str, object] | None = None, **sync: object) -> Cluster:
    """Two staging and two production servers, with short times."""
    return Cluster.model_validate(
        {
            "name": "four",
            "edition": "8.0",
            "origin": "S1",
            "site": {"path": SITE},
            "connection": {"user": "esync", "secret": f"env:{PASSWORD}"},
            "policy": {"waves": "all", "deadlines": {"service": 10, "settle": 0, "step": 30}},
            "balancers": balancers or {},
            "site_login": {"user": "admin", "secret": f"env:{SITE_PASSWORD}", "over_http": True},
            "sync": {
                "start": "http",
                "profile": "Nightly",
                "url": "http://www.example.org",
                "every": 0.05,
                "arrives": 0.3,
                "begins": 1,
                "lasts": 3,
                **sync,
            },
            "nodes": [
                {"name": name, "host": f"10.0.0.{place}", "role": role, "pool": role}
                for place, (name, role) in enumerate(
                    (("S1", "staging"), ("S2", "staging"), ("P1", "production"), ("P2", "production"))
                )
            ],
        }
    )


@dataclass
class World:
    """The sites of a cluster, and what was asked of them.

    Attributes:
        direction: of the only profile, 7.
        script: what a sync does, one thing a poll; made when the sync is requested.
        refuse: messages with which the next start is refused.
        logged_out: times that the session of the site ends at the next question.
        roles: whether the user has the role that profiles need.
        requests: path and values of every request.
    """

    esync: Esync
    direction: str = "Upload"
    script: Callable[["World"], list[Deed]] = lambda world: world.usual()
    refuse: list[str] = field(default_factory=list)
    logged_out: int = 0
    roles: bool = True
    running: str = ""
    entries: list[dict[str, str]] = field(default_factory=list)
    balance: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    deeds: list[Deed] = field(default_factory=list)
    syncs: int = 0

    def __post_init__(self) -> None:
        self.esync.open_site = self.site
        for server in self.esync.servers.values():
            if server.disk.stat(WindowsPath.of(FOLDER)) is None:
                server.disk.make_folder(WindowsPath.of(FOLDER))

    def site(self, address: Address) -> Site:
        """The site of a node."""
        return MemorySite(address, self.answer)

    # -- what a sync does ------------------------------------------------------------------------------------

    def note(self, code: str, message: str = "", details: str = "") -> Deed:
        """Adds an entry."""
        entry = {
            "Code": code,
            "DateCreated": f"26.11.2026 19:{self.syncs:02}",
            "Message": message,
            "Details": details,
        }
        return lambda: self.entries.append(entry)

    def copied(self, source: str, target: str) -> Deed:
        """Copies what the folder of one server has, and the other lacks."""

        def copy() -> None:
            ours, theirs = self.esync.servers[source].disk, self.esync.servers[target].disk
            for name in ours.names(WindowsPath.of(FOLDER)):
                path = WindowsPath.of(rf"{FOLDER}\{name}")
                if theirs.stat(path) is None:
                    theirs.put(path, ours.read(path))

        return copy

    def done(self) -> None:
        """Nothing runs any more."""
        self.running = ""

    def usual(self, reached: Sequence[str] = ("S2", "P1", "P2")) -> list[Deed]:
        """A sync that reaches these servers."""
        return [
            self.note("SyncStarted"),
            self.note("SyncUploadedFilesStarted"),
            *(self.copied("S1", target) for target in reached),
            self.note("SyncUploadedFilesEnded"),
            self.note("SyncEnded"),
            self.done,
        ]

    # -- the site --------------------------------------------------------------------------------------------

    def answer(self, asked: Asked) -> Page:
        """One request."""
        self.requests.append((asked.address.node, asked.path, dict(asked.values)))
        name = asked.path.rpartition("/")[2]
        if name == "login.aspx":
            return self._login(asked)
        logged_in = "ecm=1" in asked.cookies and not self._logs_out()
        action = asked.values.get("action", "").lower()
        answered = {
            ("SyncHandler.ashx", "getprofiles"): self._profiles,
            ("SyncHandler.ashx", "issyncinprogress"): self._in_progress,
            ("SyncHandler.ashx", "sync"): self._sync,
        }.get((name, action))
        if answered is not None:
            return _json(answered() if logged_in and self.roles else None)
        if name == "SyncStatusHandler.ashx":
            return _json(self._status())
        if name == "LoadBalancingStatusHandler.ashx":
            entries = self.balance.get(asked.address.node, [])
            return _json({"Success": True, "IsAuthorized": True, "IsComplete": False, "Entries": entries})
        return Page(b"", 404)

    def _logs_out(self) -> bool:
        self.logged_out -= 1
        return self.logged_out >= 0

    def _login(self, asked: Asked) -> Page:
        if asked.method == "GET":
            state = escape("/wEPDwUK&<>")
            form = (
                f'<form method="post" action="login.aspx?x=1"><input type="hidden" name="__VIEWSTATE" value="{state}">'
            )
            fields = '<input name="ctl00$username"><input type="password" name="ctl00$password">'
            return Page(f"<html>{form}{fields}<input type=submit name=ctl00$go value=Login></form>".encode())
        right = (
            asked.values.get("__VIEWSTATE") == "/wEPDwUK&<>"
            and asked.values.get("ctl00$username") == "admin"
            and asked.values.get("ctl00$password") == SITE_SECRET
        )
        if not right:
            return Page(b'<form><input name="username"><input type="password" name="password"></form>')
        return Page(status=302, location="/WorkArea/workarea.aspx", cookies=("ecm=1; path=/; HttpOnly",))

    def _profiles(self) -> object:
        profile = {"ProfileId": 7, "ProfileName": "Nightly", "Direction": self.direction, "Items": ["Database"]}
        related = {"RelationshipId": 1, "DatabaseName": "Production", "ServerName": "P1", "Profiles": [profile]}
        return {"Success": True, "Relationships": [related]}

    def _in_progress(self) -> object:
        return {"Success": True, "IsSyncInProgress": bool(self.running), "ProfileId": self.running or 0, "Messages": []}

    def _sync(self) -> object:
        if self.refuse:
            return {"Success": False, "Messages": [self.refuse.pop(0)], "ProfileId": 7}
        if self.running:
            return {"Success": False, "Messages": ["already in progress"], "ProfileId": 7}
        self.start()
        return {"Success": True, "Messages": [], "ProfileId": 7, "ProfileName": "Nightly"}

    def start(self) -> None:
        """A sync begins; by this run or by another."""
        self.syncs += 1
        self.running, self.entries = "7", []
        self.deeds = self.script(self)

    def _status(self) -> object:
        if self.deeds:
            self.deeds.pop(0)()
        failed = any("failed" in entry["Code"].lower() for entry in self.entries)
        complete = bool(self.entries) and self.entries[-1]["Code"] == "SyncEnded"
        return {"Success": not failed, "IsComplete": complete, "Messages": [], "Entries": list(self.entries)}

    # -- disks -----------------------------------------------------------------------------------------------

    def canaries(self) -> dict[str, list[str]]:
        """Node -> canary files on its disk; nodes without one are left out."""
        found = {
            name: [one for one in server.disk.names(WindowsPath.of(FOLDER)) if one.startswith("esync-canary")]
            for name, server in self.esync.servers.items()
        }
        return {name: names for name, names in found.items() if names}


def _json(answer: object) -> Page:
    return Page(json.dumps(answer).encode())

"""The site of a simulated server: login, handlers, health page, host names; and the requests that it reads."""

import asyncio
import json
import re
from collections.abc import Awaitable
from typing import Any, TypeVar
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.machine.web import Page, Request, request_of
from lab.product.login import COOKIE
from lab.product.replica import Replica, Version, item_of
from lab.product.service import SYNC_PORT
from tests.sampling import examples
from tests.unit.lab.product.sites import PASSWORD, Browser, Servers, edit, servers

T = TypeVar("T")
SITE = servers()  #: for questions that change nothing
FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
HANDLERS = ("SyncHandler", "SyncStatusHandler", "LoadBalancingHandler", "LoadBalancingStatusHandler")


def ran(work: Awaitable[T]) -> T:
    """The result of a coroutine."""

    async def wait() -> T:
        return await work

    return asyncio.run(wait())


def get(site: Servers, path: str, host: str = "") -> Page:
    """A GET at the site of S1."""
    return ran(Browser(site["S1"]).ask(path, host=host))


# -- login ---------------------------------------------------------------------------------------------------


def test_a_login_needs_the_view_state_of_the_page() -> None:
    """Without it, or with another one, the answer is an error as of ASP.NET, and no cookie."""
    browser = Browser(servers()["S1"])
    for hidden in ({}, {"__VIEWSTATE": "x"}, {"__VIEWSTATE": "x", "__EVENTVALIDATION": "x"}):
        page = ran(browser.ask("/WorkArea/login.aspx", hidden | {"username": "admin", "password": PASSWORD}))
        assert (500, {}) == (page.status, browser.cookies)


@pytest.mark.parametrize(
    ("user", "password", "status"),
    [("admin", PASSWORD, 302), ("ADMIN", PASSWORD, 302), ("admin", "wrong", 200), ("nobody", PASSWORD, 200)],
)
def test_a_login_sets_cookies_only_for_a_right_password(user: str, password: str, status: int) -> None:
    """The ticket and those of the product; else the page again, with an error."""
    browser = Browser(servers()["S1"])
    page = ran(browser.login(user, password))
    assert (status, status == 302) == (page.status, {COOKIE, "ecm", "EktGUID"} == set(browser.cookies))
    assert (b"not correct" in page.body) == (status == 200)


def test_a_login_ends_after_its_time_and_is_of_one_server_only() -> None:
    """A ticket of S1 is nothing to S2."""
    site = servers()
    browser = ran(site.browser("S1"))
    assert ran(browser.handler("SyncHandler", "GetProfiles"))
    assert None is ran(Browser(site["S2"], browser.cookies).handler("SyncHandler", "GetProfiles"))
    site["S1"].pages.logins.seconds = 0
    ran(browser.login())
    assert None is ran(browser.handler("SyncHandler", "GetProfiles"))


# -- handlers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("user", "allowed"), [("admin", True), ("syncuser", True), ("editor", False), ("", False)])
def test_a_user_without_a_role_gets_null_with_status_200(user: str, allowed: bool) -> None:  # noqa: FBT001 - a case
    """From SyncHandler; the handlers of status check no role (facts 4.2)."""
    site = servers()
    browser = Browser(site["S1"])
    if user:
        ran(browser.login(user))
    answers = [ran(browser.handler("SyncHandler", action)) for action in ("GetProfiles", "IsSyncInProgress", "Sites")]
    assert [allowed] * 3 == [answer is not None for answer in answers]
    assert {"Success": True, "IsComplete": False, "Messages": [], "Entries": []} == ran(browser.status(1))


def test_an_unknown_action_is_null_or_empty() -> None:
    """As the product answers (facts 4.1)."""
    browser = ran(servers().browser("S1"))
    pages = [ran(browser.ask(f"/workarea/SYNC/{name.upper()}.ashx?action=none")) for name in HANDLERS]
    assert [b"null", b"null", b"", b""] == [page.body for page in pages]
    assert ("Cache-Control", "no-cache") in pages[0].headers


def test_profiles_are_known_on_the_staging_servers_only() -> None:
    """The relationship is in their database; a start elsewhere finds no profile."""
    site = servers()
    known, unknown = (ran(ran(site.browser(name)).handler("SyncHandler", "GetProfiles")) for name in ("S2", "P1"))
    assert ["P1", "CMS400Production"] == [known["Relationships"][0][word] for word in ("ServerName", "DatabaseName")]
    profile = known["Relationships"][0]["Profiles"][0]
    assert (1, "Upload", ["Database", "Templates", "Workarea", "Bin"]) == tuple(
        profile[word] for word in ("ProfileId", "Direction", "Items")
    )
    refused = ran(ran(site.browser("P1")).handler("SyncHandler", "Sync", id=1))
    assert ([], [False, "The synchronization profile was not found."]) == (
        unknown["Relationships"],
        [refused["Success"], *refused["Messages"]],
    )


@settings(max_examples=examples(300, 20))
@given(number=st.text(max_size=12))
def test_any_id_of_a_profile_gets_an_answer(number: str) -> None:
    """An id that is no number is an unknown profile."""
    page = ran(SITE.browser("S2"))
    fields = {"action": "sync", "id": f"x{number}"}
    asked = Request("GET", "/WorkArea/sync/SyncHandler.ashx", fields=fields, cookies=page.cookies)
    answer = json.loads(ran(SITE["S2"].pages.answer(asked)).body)
    assert answer["Success"] is False


def test_only_one_sync_runs_at_a_time() -> None:
    """A second start is refused with the id of the first, on both sides' databases."""
    site = servers()

    async def both() -> list[dict[str, Any]]:
        browsers = [await site.browser("S1"), await site.browser("S2")]
        return list(await asyncio.gather(*(browser.sync("upload") for browser in browsers)))

    first, second = ran(both())
    assert (True, ["A synchronization is already in progress.", "1"]) == (first["Success"], second["Messages"])


def test_the_sites_of_another_server_are_found_by_the_name_of_its_certificate() -> None:
    """Only where the address equals the name, and only over the sync port (facts 4.3; rows 9 and 10)."""
    site = servers()
    browser = ran(site.browser("S1"))

    def found(**fields: str) -> list[str]:
        answer = ran(browser.handler("SyncHandler", "Sites", local="false", **fields))
        return [*(one["ServerName"] for one in answer["Sites"]), *answer.get("Messages", [])]

    assert ["P1"] == found(server="P1", certificate="p1")
    assert [] == found(server="P1", certificate="P2")
    site["P1"].service.request_stop()
    assert "Could not connect to P1:8732" in found(server="P1", certificate="P1")[0]


@pytest.mark.parametrize(
    ("user", "flag", "authorized"), [("admin", True, True), ("syncuser", True, False), ("admin", False, False)]
)
def test_a_refresh_needs_an_administrator_and_the_flag(user: str, flag: bool, authorized: bool) -> None:  # noqa: FBT001
    """Of AssetManagement.config, which the site reads at its own start (row 27)."""
    site = servers()
    if not flag:
        edit(site["S1"], "asset", rb'(\sLoadBalanced=)"1"', rb'\1"0"')
    browser = ran(site.browser("S1", user))
    answer = ran(browser.handler("LoadBalancingHandler", "loadbalance"))
    assert authorized == answer["IsAuthorized"], answer


@pytest.mark.parametrize("edition", ["8.0", "9.1"])
def test_a_refresh_carries_assets_only_and_names_each_peer(edition: str) -> None:
    """Library files need their own settings, templates are not carried (facts 4.5, 5)."""
    site = servers(edition)
    for path in (r"assets\a.bin", r"uploadedfiles\u.bin", "t.aspx"):
        site.put("P2", path, b"new")

    async def refreshed() -> tuple[Any, Any]:
        browser = await site.browser("P2")
        answer = await browser.handler("LoadBalancingHandler", "loadbalance")
        return answer, await browser.handler("LoadBalancingStatusHandler", "status")

    answer, status = ran(refreshed())
    peers = [entry["Message"] for entry in status["Entries"] if entry["Code"] == "SyncPerformingLoadBalance"]
    assert (True, ["P1"], True) == (answer["Success"], peers, status["IsComplete"])
    assert [{"P1", "P2"}, {"P2"}, {"P2"}] == [
        site.having(path, b"new") for path in (r"assets\a.bin", r"uploadedfiles\u.bin", "t.aspx")
    ]


# -- pages ---------------------------------------------------------------------------------------------------


def test_the_health_page_follows_site_service_and_its_file() -> None:
    """200; 503 without the service or the site; 404 if the file is renamed."""
    site = servers()
    assert [200, 200] == [get(site, path).status for path in ("/", "/Health.htm")]
    site["S1"].service.request_stop()
    assert [503, 503] == [get(site, path).status for path in ("/", "/health.htm")]
    site["S1"].service.request_start()
    site["S1"].pages.down = True
    assert 503 == get(site, "/health.htm").status
    site["S1"].pages.down = False
    site.put("S1", "health.htm", None)
    assert [200, 404] == [get(site, path).status for path in ("/", "/health.htm")]


def test_a_site_with_a_host_name_answers_no_other() -> None:
    """As IIS with a binding."""
    site = servers()
    site["S1"].pages.hosts = frozenset({"www.example.org"})
    answers = [get(site, "/", host).status for host in ("WWW.example.org:8780", "www.example.org", "other", "")]
    assert [200, 200, 400, 400] == answers


@pytest.mark.parametrize("path", ["/web.config", "/S1_SyncClient.pfx", "/bin/Ektron.Cms.Common.dll"])
def test_files_that_iis_hides_are_not_shown(path: str) -> None:
    """Configurations, certificates, libraries: 404."""
    assert 404 == get(servers(), path).status


@given(path=st.text(st.characters(codec="utf-8"), max_size=40))
def test_any_path_gets_an_answer(path: str) -> None:
    """Never an exception, and never a file outside the site."""
    assert ran(SITE["S1"].pages.answer(Request("GET", f"/{path}"))).status in {200, 404}


# -- requests ------------------------------------------------------------------------------------------------

NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)


@given(fields=st.dictionaries(NAMES.map(str.lower), st.text(max_size=12), max_size=5), form=st.booleans())
def test_fields_are_read_as_they_were_sent(fields: dict[str, str], form: bool) -> None:  # noqa: FBT001
    """In a query or in a form, with any character."""
    text = urlencode(fields)
    read = request_of("post", "/x" if form else f"/x?{text}", FORM, text.encode() if form else b"")
    assert ("POST", "/x", fields) == (read.method, read.path, read.fields)


@given(target=st.text(max_size=60), headers=st.dictionaries(st.sampled_from(["host", "cookie"]), st.text(max_size=40)))
def test_any_request_is_read_or_refused(target: str, headers: dict[str, str]) -> None:
    """The only error is ValueError."""
    try:
        read = request_of("GET", target, headers, b"\xff=\xff")
    except ValueError:
        return
    assert read.path.startswith("/")
    assert not re.search(r":\d+$", read.host)


# -- files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "item"),
    [
        ("default.aspx", "Templates"),
        (r"App_Code\x.cs", "Templates"),
        (r"bin\x.dll", "Bin"),
        (r"WorkArea\x.aspx", "Workarea"),
        (r"workarea\Sync\x.aspx", None),
        (r"assets\x.bin", "Database"),
        (r"UploadedImages\x.png", "Database"),
        ("Web.Config", None),
        (r"sub\other.config", None),
        (r"App_GlobalResources\x.resx", None),
        (r"EktSyncStatus\x.xml", None),
        ("S1_SyncClient.pfx", None),
    ],
)
def test_a_file_is_carried_by_its_item_or_by_none(path: str, item: str | None) -> None:
    """As ektron-facts 5 has it."""
    assert item == item_of(tuple(path.upper().split("\\")))


PATHS = st.sampled_from(["a.aspx", r"sub\b.aspx", r"assets\c.bin"])
EDITS = st.lists(st.tuples(st.sampled_from(["S1", "P1"]), PATHS, st.none() | st.binary(max_size=3)), max_size=4)


@settings(max_examples=examples(300, 25))
@given(edits=EDITS)
def test_after_a_sync_in_both_directions_all_have_the_last_change(edits: list[tuple[str, str, bytes | None]]) -> None:
    """Whatever was added, changed and removed before, on either side, each change seen by its server."""
    site = Servers.of("S1", "P1")
    last: dict[str, bytes | None] = {}
    for number, (name, path, data) in enumerate(edits):
        server = site[name]
        file = server.site.below(path)
        server.machine.clock.skew = number
        if data is not None or server.machine.disk.stat(file):
            site.put(name, path, data)
            last[path] = data
        server.program.replica.look()
        ran(site.synced("S1", "bidirectional"))
    for path, data in last.items():
        there = {name: server.machine.disk.stat(server.site.below(path)) for name, server in site.all.items()}
        assert ({"S1", "P1"} if data is not None else set()) == {name for name, entry in there.items() if entry}
        assert data is None or {"S1", "P1"} == site.having(path, data)


def test_a_removed_file_is_not_newer_for_one_that_never_had_it() -> None:
    """A tombstone goes only to replicas that know the file."""
    site = Servers.of("S1", "P1")
    ours, theirs = site["S1"].program.replica, Replica(site["P1"].machine.disk, site["P1"].site)
    ours.versions["X.ASPX",] = Version("x.aspx", "", 5)
    assert not ours.newer_than(theirs, lambda one: one.name == "x.aspx")


def test_the_service_shows_what_it_has_loaded_but_no_connection_string() -> None:
    """`GET /` on its port."""
    site = servers()
    port = (site["S1"].machine.address, SYNC_PORT)
    words = site.network._open[port]().decode()
    assert "S1_SyncClient.cer" in words
    assert "pwd=" not in words

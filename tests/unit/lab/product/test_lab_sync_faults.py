"""Each fault of a sync shows on the disks and in the answers: exactly the servers behind it lack the file."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from lab.machine.faults import SyncFaults
from lab.machine.paths import WindowsPath
from lab.product.causes import CAUSES
from lab.product.database import Running
from lab.product.family import make_family
from lab.product.replica import STATUS_FOLDER
from lab.product.site import Options, connection_of
from tests.unit.lab.product.sites import Browser, Servers, edit, join, servers

ALL = {"S1", "S2", "P1", "P2"}
NAMES = ("S1", "S2", "P1", "P2")
FILE = "news.aspx"
SEED = r"uploadedfiles\metaconfig.doc"
Break = Callable[[Servers], object]


def suffer(name: str, **faults: Any) -> Break:  # noqa: ANN401 - fields of the faults
    """A fault of one service."""
    return lambda site: site[name].program.suffer(SyncFaults(**faults))


def cut(source: str, target: str) -> Break:
    """A firewall between two servers."""
    return lambda site: site.network.cut.add((source, target))


def away(name: str) -> Break:
    """A server without a network."""
    return lambda site: site.network.away.add(site[name].machine.address)


def stopped(name: str) -> Break:
    """A service that is stopped."""
    return lambda site: site[name].service.request_stop()


def late(name: str) -> Break:
    """A clock ten minutes ahead."""
    return lambda site: setattr(site[name].machine.clock, "skew", 600)


def full(name: str) -> Break:
    """A full disk."""
    return lambda site: setattr(site[name].machine.disk, "free", 0)


def denied(name: str) -> Break:
    """A site folder that the service may not write to."""
    return lambda site: setattr(site[name].machine.disk, "denied", frozenset({site[name].site}))


def restarted(name: str, what: str, old: bytes, new: bytes) -> Break:
    """An edit of a configuration, and a restart."""

    def change(site: Servers) -> None:
        edit(site[name], what, old, new)
        site.restart(name)

    return change


def edited(name: str, what: str, old: bytes, new: bytes) -> Break:
    """An edit of a configuration."""
    return lambda site: edit(site[name], what, old, new)


def without_key(name: str, other: str) -> Break:
    """A key list without one server, and a restart."""
    return restarted(name, "service", rb'<add key="' + other.encode() + rb'_SyncClient.cer"[^>]*>', b"")


def nothing(site: Servers) -> None:
    """The servers are made with the fault."""
    del site


def unlistening(name: str) -> Break:
    """A service that runs and never opens its port."""

    def change(site: Servers) -> None:
        site[name].service.never_listens = True
        site.restart(name)

    return change


def other_family(name: str) -> Break:
    """A server with the files and keys of another family."""

    def change(site: Servers) -> None:
        join(site[name], NAMES, make_family())
        site.restart(name)

    return change


def without(name: str, ending: str) -> Break:
    """A file is missing in the site's folder."""
    return lambda site: site.put(name, f"{name}_SyncClient.{ending}", None)


OFF = (rb'(<add key="LoadBalanced" value=)"1"', rb'\1"0"')
OWN = rb'"\w+_SyncServer\.pfx"'

#: what is broken -> the servers with the file after an upload from S1, words of its answer
FAULTS: dict[str, tuple[Break, set[str], str]] = {
    "2 service stopped": (stopped("S1"), {"S1"}, "Faulted"),
    "3 another encoded value": (edited("S1", "web", b'"encodedValue"', b'"x"'), {"S1"}, "Faulted"),
    "4 client file deleted": (without("S1", "pvk"), {"S1"}, "cannot find the file specified"),
    "1 no end points": (edited("S1", "web", rb"<add contract[^>]*>", b""), {"S1"}, "Object reference"),
    "5 no key of the other end": (without_key("S1", "P1"), {"S1"}, "no key for P1"),
    "5 no key at the other end": (without_key("P1", "S1"), {"S1"}, "no key for S1"),
    "5 no key of a peer": (without_key("P1", "P2"), {"S1", "S2", "P1"}, ""),
    "5 old key list loaded": (suffer("P1", old_keys=("S1",)), {"S1"}, "P1 has no key for S1"),
    "5 old key list of a peer": (suffer("S2", old_keys=("S1",)), {"S1", "P1", "P2"}, "S2 has no key for S1"),
    "6 factory end points": (edited("S1", "web", rb"S1_SyncClient\.pfx", b"Factory.pfx"), {"S1"}, "cannot find"),
    "9 foreign certificate": (suffer("P2", foreign_certificate=True), {"S1", "S2", "P1"}, ""),
    "9 another family": (other_family("P1"), {"S1"}, "another key"),
    "10 clock of the other end": (late("P1"), {"S1"}, "clocks"),
    "14 clock of a peer": (late("P2"), {"S1", "S2", "P1"}, ""),
    "11 firewall to the other end": (cut("S1", "P1"), {"S1"}, "Could not connect to P1:8732"),
    "11 firewall to a peer": (cut("S1", "S2"), {"S1", "P1", "P2"}, ""),
    "12 a service without a listener": (unlistening("P1"), {"S1"}, "P1:8732"),
    "15 another build": (nothing, {"S1"}, "ContractFilter"),
    "21 seed file deleted": (lambda s: s.put("P1", SEED, None), {"S1"}, "Could not find file"),
    "25 stale status file": (suffer("P2", stale_status=True), {"S1", "S2", "P1"}, ""),
    "29 dead neighbour": (away("P2"), {"S1", "S2", "P1"}, ""),
    "29 dead other end": (away("P1"), {"S1"}, "Could not connect to P1:8732"),
    "30 flag set, not restarted": (nothing, {"S1", "P1", "P2"}, ""),
    "30 not load-balanced": (restarted("P2", "service", *OFF), {"S1", "S2", "P1"}, ""),
    "42 another server certificate": (restarted("P1", "service", OWN, b'"S1_SyncServer.pfx"'), {"S1"}, "P1:8732"),
    "33 another path": (nothing, {"S1", "P1", "P2"}, ""),
    "39 old sitedb.config": (restarted("S1", "sitedb", b"database=", b"database=Old"), {"S1"}, "not found"),
    "41 access denied": (denied("P1"), {"S1"}, "access to the path is denied"),
    "full disk": (full("P1"), {"S1"}, "not enough space"),
    "full disk of a peer": (full("S2"), {"S1", "P1", "P2"}, "S2: there is not enough space"),
    "43 expired, and checked": (suffer("P1", checks_expiry=True), {"S1"}, "has expired"),
    "46 another sync in progress": (suffer("P1", someone_else=True), {"S1"}, "already in progress"),
}  # fmt: skip


def broken(name: str) -> Servers:
    """Joined servers with a fault."""
    site = servers("9.1")
    if name.startswith("15"):
        other = Options(connection=connection_of("production"), build="9.1.0.999")
        site = Servers.of(*NAMES, edition="9.1", options={"P1": other})
    if name.startswith("33"):
        other = Options(connection=connection_of("staging"), site_path=r"C:\inetpub\wwwroot\Elsewhere")
        site = Servers.of(*NAMES, edition="9.1", options={"S2": other})
    if name.startswith("30 flag set"):
        restarted("S2", "service", *OFF)(site)
        edit(site["S2"], "service", *reversed((rb'\1"1"', rb'(<add key="LoadBalanced" value=)"0"')))
    FAULTS[name][0](site)
    return site


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_keeps_the_file_from_exactly_the_servers_behind_it(name: str) -> None:
    """An upload from S1; the numbers are the rows of the failure table."""
    site, (_, reached, words) = broken(name), FAULTS[name]
    site.put("S1", FILE, b"new")

    async def started() -> dict[str, Any]:
        answer = await (await site.browser("S1")).sync("upload")
        if "stale" not in name:
            await site.quiet()
        return answer

    answer = asyncio.run(started())
    assert (reached, not words) == (site.having(FILE, b"new"), answer["Success"]), answer
    assert words in " ".join(answer["Messages"])


@pytest.mark.parametrize("name", CAUSES)
def test_a_named_cause_ends_the_sync_in_its_phase_without_an_end(name: str) -> None:
    """The status has the failed phase with the message, then SyncFailed, and is never complete (facts 4.4)."""
    site, cause = servers(), CAUSES[name]  # type: ignore[index]
    site.put("S1", FILE, b"new")
    suffer("P1", fails=name)(site)
    asyncio.run(site.synced("S1", "upload"))
    status = asyncio.run(Browser(site["S1"]).status(1))
    codes = [(entry["Code"], entry["Message"]) for entry in status["Entries"]]
    assert [(f"Sync{cause.phase}Failed", cause.message), ("SyncFailed", cause.message)] == codes[-2:]
    assert (False, False) == (status["Success"], status["IsComplete"])
    assert "P2" not in site.having(FILE, b"new")


@pytest.mark.parametrize(("edition", "told"), [("8.0", True), ("8.5", False)])
def test_a_dead_peer_is_told_only_before_8_5(edition: str, told: bool) -> None:  # noqa: FBT001 - a case
    """Later editions drop it from load balancing without a message (facts 5)."""
    site = servers(edition)
    away("S2")(site)
    asyncio.run(site.synced("S1", "upload"))
    entries = asyncio.run(Browser(site["S1"]).status(1))["Entries"]
    assert told == (("SyncLoadBalanceNotAvailable", "S2") in {(e["Code"], e["Message"]) for e in entries})
    assert "SyncPerformingLoadBalance" not in {entry["Code"] for entry in entries}
    assert "SyncEnded" == entries[-1]["Code"]


def test_a_service_that_dies_in_a_sync_leaves_its_status_file_and_a_sync_in_progress() -> None:
    """Rows 16, 25 and 46: the next start is refused until the file is gone and the service has restarted."""
    site = servers()
    site.put("S1", FILE, b"new")
    program = site["S1"].program

    async def killed(code: str) -> None:
        if code == "SyncTemplatesStarted":
            site["S1"].service.die()

    async def attempt() -> list[str]:
        browser = await site.browser("S1")
        answer = await browser.sync("upload")
        return list(answer["Messages"])

    program.reached = killed
    assert [] == asyncio.run(attempt())
    program.reached = unheard
    left = program.machine.disk.names(program.status_folder)
    assert (["Sync_1.xml"], {"S1"}) == (left, site.having(FILE, b"new"))
    site["S1"].service.request_start()
    assert ["A synchronization is already in progress.", "1"] == asyncio.run(attempt())
    site.put("S1", rf"{STATUS_FOLDER}\Sync_1.xml", None)
    site.restart("S1")
    assert [] == asyncio.run(attempt())


async def unheard(code: str) -> None:
    """Hears nothing."""
    del code


def test_an_expired_login_is_not_authorised_any_more() -> None:
    """During a sync the handlers answer `null`, while its status continues (rows 47 and 48)."""
    site = servers()
    answers: list[object] = []

    async def sync() -> object:
        browser = await site.browser("S1")
        watcher = Browser(site["S1"], dict(browser.cookies))

        async def lost(code: str) -> None:
            if code == "SyncDatabaseEnded":
                site["S1"].pages.logins.forget()
                answers.append(await watcher.handler("SyncHandler", "IsSyncInProgress"))

        site["S1"].program.reached = lost
        return await browser.sync("upload")

    answer = asyncio.run(sync())
    status = asyncio.run(Browser(site["S1"]).status(1))
    assert ([None], True) == (answers, status["IsComplete"]), answer


@pytest.mark.parametrize(
    ("culture", "text"),
    [("en-US", "1/2/2026 12:04:05 AM"), ("de-DE", "02.01.2026 00:04:05"), ("en-GB", "02/01/2026 00:04:05")],
)
def test_times_are_written_as_the_server_does(culture: str, text: str) -> None:
    """By the culture of web.config, and by the server's own clock."""
    site = servers()
    edit(site["S1"], "web", b"en-US", culture.encode())
    clock = site["S1"].machine.clock
    asyncio.run(site.synced("S1", "upload"))
    when = int(datetime(2026, 1, 2, 0, 4, 5, tzinfo=UTC).timestamp()) * 10**9
    entries = site["S1"].program.database.status[1]
    entries[0] = type(entries[0])(entries[0].code, when)
    assert clock.skew == 0
    assert text == asyncio.run(Browser(site["S1"]).status(1))["Entries"][0]["DateCreated"]


def test_a_stale_status_file_ends_a_wait_when_it_is_removed() -> None:
    """Load balancing continues as soon as the file is gone, and reaches the server."""
    site = servers()
    site.put("S1", FILE, b"new")
    suffer("P2", stale_status=True)(site)

    async def sync() -> set[str]:
        await (await site.browser("S1")).sync("upload")
        before = site.having(FILE, b"new")
        suffer("P2")(site)
        await site.quiet()
        return before

    assert (ALL - {"P2"}, ALL) == (asyncio.run(sync()), site.having(FILE, b"new"))


def test_faults_of_what_is_loaded_end_with_the_next_start() -> None:
    """A restart loads the files on the disk, as a real one does."""
    site = servers()
    suffer("P1", old_keys=("S1",), foreign_certificate=True)(site)
    site.restart("P1")
    site.put("S1", FILE, b"new")
    asyncio.run(site.synced("S1", "upload"))
    assert ALL == site.having(FILE, b"new")


def test_a_sync_of_another_user_does_not_end_ours() -> None:
    """The fault takes the place of no sync of the lab, and gives up only its own."""
    site = servers()
    database = site["S1"].program.database
    database.running = ours = Running(1, "S1")
    suffer("S1", someone_else=True)(site)
    suffer("S1")(site)
    assert ours == database.running
    assert WindowsPath.of(r"C:\inetpub\wwwroot\CMS400") == site["S1"].site


@pytest.mark.parametrize(
    ("flag", "count", "reached"),
    [("1", "2", ALL), ("0", "2", {"S1", "P1"}), ("1", "3", {"S1", "P1"})],
)
def test_library_files_need_their_flag_and_the_number_of_servers(flag: str, count: str, reached: set[str]) -> None:
    """Row 31: else they reach the other end, and none of the peers."""
    site = servers()
    for name in NAMES:
        edit(site[name], "service", rb'("LibraryLoadBalanced"\s+value=)"0"', rb'\1"' + flag.encode() + b'"')
        edit(site[name], "service", rb'("LoadBalServerCount" value=)"1"', rb'\1"' + count.encode() + b'"')
        site.restart(name)
    site.put("S1", r"uploadedfiles\a.pdf", b"new")
    asyncio.run(site.synced("S1", "upload"))
    assert reached == site.having(r"uploadedfiles\a.pdf", b"new")


def test_the_peers_of_the_other_end_have_a_file_later() -> None:
    """Row 32: when the sync is said to be complete, its server at the other end has only begun to update the others."""
    site = servers()
    site.put("S1", FILE, b"new")

    async def sync() -> set[str]:
        await (await site.browser("S1")).sync("upload")
        at_once = site.having(FILE, b"new")
        await site.quiet()
        return at_once

    suffer("P1", seconds=0.02)(site)
    assert (ALL - {"P2"}, ALL) == (asyncio.run(sync()), site.having(FILE, b"new"))


def test_a_newer_page_of_the_other_end_comes_back() -> None:
    """Row 44: a newer login.aspx of a min site overwrites that of staging."""
    site = servers()
    site.put("P1", "login.aspx", b"of the min site")
    asyncio.run(site.synced("S1", "bidirectional"))
    assert "S1" in site.having("login.aspx", b"of the min site")


def test_a_sync_that_hangs_is_in_progress_until_the_fault_ends() -> None:
    """Row 50, and any other that takes too long: not complete, no failed entry, and nothing else may start."""
    site = servers()

    async def play() -> list[Any]:
        browser, begun = await site.browser("S1"), asyncio.Event()

        async def noticed(code: str) -> None:
            del code
            begun.set()

        site["S1"].program.reached = noticed
        suffer("S1", hangs=True)(site)
        waiting = asyncio.create_task(browser.sync("upload"))
        await begun.wait()
        status = await browser.status(1)
        busy = await browser.handler("SyncHandler", "IsSyncInProgress")
        suffer("S1")(site)
        return [status["Success"], status["IsComplete"], busy["IsSyncInProgress"], (await waiting)["Success"]]

    assert [True, False, True, True] == asyncio.run(play())


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (suffer("S2", stale_status=True), "Load balancing is in progress on S2."),
        (restarted("S1", "service", *OFF), "There is no status."),
        (stopped("S1"), "Faulted"),
    ],
)
def test_a_refresh_that_cannot_start_says_so(breaks: Break, message: str) -> None:
    """Rows 26 and 28: a status file of another server, and a server that is not set up for load balancing."""
    site = servers()
    breaks(site)

    async def refresh() -> Any:  # noqa: ANN401 - JSON
        return await (await site.browser("S1")).handler("LoadBalancingHandler", "loadbalance")

    answer = asyncio.run(refresh())
    assert (False, True) == (answer["Success"], message in answer["Message"])


def test_a_service_without_keys_has_no_certificates_to_offer() -> None:
    """Rows 7 and 8: the page that creates a relationship finds none, or the service is stopped."""
    site = Servers.of("S1", "P1", joined=False)
    site["S1"].service.request_start()

    async def certificates() -> Any:  # noqa: ANN401 - JSON
        return await (await site.browser("S1")).handler("SyncHandler", "Certificates")

    assert {"Success": False, "Certificates": []} == asyncio.run(certificates())
    join(site["S1"], ("S1", "P1"))
    site.restart("S1")
    assert {"Success": True, "Certificates": ["P1", "S1"]} == asyncio.run(certificates())


def test_a_refresh_that_ended_with_its_service_is_forgotten_at_the_next_start() -> None:
    """Row 25: once no status file is left, load balancing can start again."""
    site = servers()
    program = site["P1"].program

    async def killed(code: str) -> None:
        if code == "SyncPerformingLoadBalance":
            site["P1"].service.die()

    async def refresh() -> Any:  # noqa: ANN401 - JSON
        return await (await site.browser("P1")).handler("LoadBalancingHandler", "loadbalance")

    program.reached = killed
    asyncio.run(refresh())
    program.reached = unheard
    site["P1"].service.request_start()
    left = site["P2"].program.marks()
    refused = asyncio.run(refresh())
    site.put("P2", rf"{STATUS_FOLDER}\{left[0]}", None)
    assert (["LoadBalance_P1.xml"], False, True) == (left, refused["Success"], asyncio.run(refresh())["Success"])

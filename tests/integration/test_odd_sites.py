"""Sites that answer something else than their handlers: what is said, what is done about it, and what is not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from lab.machine.paths import WindowsPath
from pipelines.coordinator import snapshot_of
from pipelines.report.sync_rows import build_sync
from pipelines.usecases import sync as syncs
from pipelines.usecases.runs import RunSummary
from tasks.syncing.options import SyncOptions
from tests.integration.one_process import Esync, families_known
from tests.integration.sync_world import SITE, SITE_PASSWORD, SITE_SECRET, World, a_sync_cluster
from workers.records import Verdict
from workers.sites.memory import Asked, Page

_SETTINGS = b'<appSettings><add key="WSPath" value="http://real.example/WorkArea/ServerControlWS.asmx"/></appSettings>'


@pytest.fixture
def worlds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    """Makes four servers with the product, and their sites."""
    monkeypatch.setenv(SITE_PASSWORD, SITE_SECRET)
    made: list[Esync] = []

    def of(**sync: object) -> World:
        made.append(Esync(a_sync_cluster(None, **sync)))
        return World(made[-1])

    with families_known():
        yield of
    for esync in made:
        esync.close()


def run(world: World, kind: str) -> RunSummary:
    """A whole run."""
    asked = SyncOptions() if kind == syncs.STATUS else SyncOptions(node="S1", profile="Nightly", start="http")
    return world.esync.ended(syncs.begin(world.esync.engine, world.esync.cluster, kind, asked))


def told(known: RunSummary) -> str:
    """All that the steps said."""
    return " ".join(f"{one.message} {one.remedy}" for one in known.outcomes)


@dataclass(frozen=True)
class Odd:
    """A page in place of others, and what is said of it."""

    place: str
    page: Page
    words: tuple[str, ...]


ODD = {
    "https only": Odd(
        "ashx",
        Page(status=301, location="https://www.example.org/WorkArea/sync/SyncHandler.ashx"),
        (
            "redirects LoadBalancingStatusHandler.ashx to https, at www.example.org",
            "set sync.url to https://www.example.org",
        ),
    ),
    "https for the login only": Odd(
        "login.aspx",
        Page(status=302, location="https://www.example.org/WorkArea/secure.aspx"),
        ("redirects its login page to https", "set sync.url to https://www.example.org"),
    ),
    "no login page": Odd("login.aspx", Page(b"gone", 404), ("its login page with status 404: it has no such page",)),
    "login forbidden": Odd("login.aspx", Page(b"no", 403), ("its login page with status 403", "whitelist.config")),
    "windows logon": Odd("ashx", Page(b"", 401), ("status 401: it requires a logon of Windows", "anonymous access")),
    "below another path": Odd("ashx", Page(b"", 404), ("status 404: it has no such page", "ek_sitePath")),
    "error": Odd("ashx", Page(b"", 500), ("status 500: it has an error", "event log Application")),
    "gateway": Odd("ashx", Page(b"", 502), ("status 502: a gateway on the way", "site_port")),
    "pool stopped": Odd("ashx", Page(b"", 503), ("status 503: it is not available", "application pool")),
    "gateway is late": Odd("ashx", Page(b"", 504), ("status 504: a gateway on the way", "site_port")),
    "teapot": Odd("ashx", Page(b"", 418), ("status 418", "open the page on the server itself")),
    "maintenance": Odd(
        "ashx",
        Page(b"<html><title>\n Back  soon </title>"),
        ("the answer is no JSON; it is the page 'Back soon'",),
    ),
    "text": Odd(
        "ashx", Page(b"Runtime Error\x1b[31m in ..."), ("the answer is no JSON; it begins with 'Runtime Error",)
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_what_a_site_answers_instead_is_said_with_what_to_do(worlds: Callable[..., World], name: str) -> None:
    """Each page and status has a sentence and a remedy of its own, and nothing is started."""
    odd, world = ODD[name], worlds()
    usual = world.answer
    world.answer = lambda asked: odd.page if asked.path.endswith(odd.place) else usual(asked)  # type: ignore[method-assign]
    known = run(world, syncs.START)
    assert known.record.verdict is Verdict.FAILED, known.record.summary
    assert [words for words in odd.words if words not in told(known)] == [], told(known)
    assert (0, "\x1b" in told(known)) == (world.syncs, False)


def test_a_start_whose_answer_is_lost_on_the_way_is_followed(worlds: Callable[..., World]) -> None:
    """A gateway gives up before the first sign of the sync; the sync is not requested again."""
    world = worlds()
    usual = world.answer

    def slow(asked: Asked) -> Page:
        if asked.values.get("action", "").lower() != "sync":
            return usual(asked)
        world.syncs += 1
        world.deeds = [lambda: None, lambda: None, *world.usual()]
        return Page(b"", 504)

    world.answer = slow  # type: ignore[method-assign]
    known = run(world, syncs.START)
    assert (Verdict.SYNCED, 1) == (known.record.verdict, world.syncs), known.record.summary


def test_a_login_page_in_place_of_an_answer_means_that_the_session_has_ended(worlds: Callable[..., World]) -> None:
    """Sites that show it without a redirect: the user logs in, once, and the question is asked again."""
    world = worlds()
    usual = world.answer
    form = b'<form><input name="username"><input type="password" name="password"></form>'

    def shows_login(asked: Asked) -> Page:
        outside = asked.path.endswith("/SyncHandler.ashx") and "ecm=1" not in asked.cookies
        return Page(form) if outside else usual(asked)

    world.answer = shows_login  # type: ignore[method-assign]
    known = run(world, syncs.START)
    assert (Verdict.SYNCED, 1) == (known.record.verdict, world.syncs), known.record.summary


def test_a_login_that_has_to_be_sent_over_https_is_no_refused_user(worlds: Callable[..., World]) -> None:
    """The page is shown over http, and what is sent from there is redirected: every node says so."""
    world = worlds()
    usual, secure = world.answer, Page(status=302, location="https://www.example.org/WorkArea/login.aspx")
    world.answer = lambda asked: secure if asked.method == "POST" else usual(asked)  # type: ignore[method-assign]
    known = run(world, syncs.STATUS)
    servers = build_sync(snapshot_of(world.esync.engine, known.record)).servers
    assert 4 == len(servers)
    assert all("redirects the login to https" in server.profiles_problem for server in servers), servers


@pytest.mark.parametrize("attribute", [b"file", b"configSource"])
def test_the_site_is_asked_at_the_wspath_that_is_in_force(worlds: Callable[..., World], attribute: bytes) -> None:
    """Also where another file has the settings of the site."""
    world = worlds(url=None)
    for server in world.esync.servers.values():
        path = WindowsPath.of(rf"{SITE}\web.config")
        before, found, after = server.disk.read(path).partition(b'<appSettings file="Application.config">')
        inside, end, rest = after.partition(b"</appSettings>")
        assert found
        assert end
        own = inside if attribute == b"file" else b""
        server.disk.put(path, before + b"<appSettings " + attribute + b'="Settings.config">' + own + end + rest)
        server.disk.put(WindowsPath.of(rf"{SITE}\Settings.config"), _SETTINGS)
    usual, names = world.answer, set[str]()

    def answered(asked: Asked) -> Page:
        names.add(asked.address.name)
        return usual(asked)

    world.answer = answered  # type: ignore[method-assign]
    known = run(world, syncs.STATUS)
    assert (Verdict.ANSWERED, {"real.example"}) == (known.record.verdict, names), known.record.summary

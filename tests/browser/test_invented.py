"""The pages in a real browser with invented runs: two thousand servers, hostile texts, several clusters, paper."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from pipelines.engine import Engine
from pipelines.usecases.tokens import listed_tokens, revoke_token
from pipelines.web.pages import stream
from tasks.steering import hold_before
from tests.browser.conftest import PHONE, person, picture
from tests.browser.invented import engine_in_memory, file_of, keep, named, running, served, several
from tests.browsing import violations
from tests.integration.web_server import WebServer
from tests.sampling import EXHAUSTIVE
from tests.unit.pipelines.report.sample_run import cluster_of, sample
from tests.waiting import wait_until
from workers.records import Change, Event, RunState, Verdict, now

pytestmark = pytest.mark.integration

MEGABYTE = 1_000_000
EVIL = (
    '"><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>',
    "</title></textarea><svg onload=window.hacked=1>'\"`{{7*7}}${7*7}\u202e",
)


@dataclass(frozen=True)
class Place:
    """An invented server and a browser before it."""

    engine: Engine
    folder: Path
    server: WebServer
    browser: Browser


@pytest.fixture
def place(tmp_path: Path, browser: Browser) -> Iterator[Place]:
    """A server without any cluster."""
    engine = engine_in_memory(tmp_path)
    with served(engine, tmp_path / "clusters") as server:
        yield Place(engine, tmp_path / "clusters", server, browser)


def test_two_thousand_servers_are_readable(place: Place) -> None:
    """Less than a megabyte; a square each; the failures are rows already; a filter finds the others.

    Axe judges it in `make exhaustive`; in `make test` it judges a smaller one, which moves.
    """
    cluster = file_of(cluster_of(1000, 1000), place.folder)
    made = sample(cluster, failed=["P4", "P77", "P900"], unreachable=["P11", "P12"])
    run = keep(place.engine, made)
    with person(place.browser, place.server) as page:
        for path in (f"/runs/{run}", "/clusters/shop", f"/runs/{run}/plan", f"/runs/{run}?what=all", "/"):
            answer = page.request.get(place.server.url + path)
            assert (200, True) == (answer.status, len(answer.body()) < MEGABYTE), path
        page.goto(f"{place.server.url}/runs/{run}")
        expect(page.locator(".map a")).to_have_count(2000)
        expect(page.locator("tr[data-node]")).to_have_count(5)
        expect(page.locator(".problems")).to_contain_text("P4, P77, P900")
        picture(page, "run-2000", size=(1400, 1160), whole=False)
        page.get_by_label("with the name").fill("p19?")
        page.get_by_role("button", name="Show").click()
        expect(page.locator("tr[data-node]")).to_have_count(10)
        page.get_by_role("link", name="Jump to failures").click()
        expect(page.locator("tr[data-node]")).to_have_count(5)
        page.locator(".map a[data-node=P501]").click()
        expect(page.locator("tr[data-node='P501']")).to_be_visible()
        page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        assert not EXHAUSTIVE or {} == violations(page, contrast=False)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]


def test_texts_from_servers_and_people_are_only_text(place: Place) -> None:
    """Nothing that a server or a person wrote becomes part of a page: neither when it is loaded nor when it moves."""
    cluster = file_of(cluster_of(), place.folder)
    made = sample(cluster, failed=["P1"], reason=EVIL[0])
    change = Change(what=EVIL[0], file=EVIL[1], before=EVIL[0], after=EVIL[1])
    outcomes = tuple(
        one.model_copy(
            update={"message": EVIL[0], "file": EVIL[1], "remedy": EVIL[0], "about": EVIL[1], "changes": (change,)}
        )
        for one in made.outcomes
    )
    plan = made.plan and made.plan.model_copy(
        update={
            "notes": EVIL,
            "nodes": tuple(
                part.model_copy(update={"changes": (change,), "restart": EVIL[1]}) for part in made.plan.nodes
            ),
        }
    )
    evil = replace(made, outcomes=outcomes, plan=plan)
    first = keep(place.engine, evil, "first", who=EVIL[1], summary=EVIL[0])
    second = keep(place.engine, evil, "second", kind="plan", verdict=Verdict.CHANGES_PENDING, who=EVIL[0])
    live = keep(place.engine, running(4), "third", timedelta(0), who=EVIL[0], reason=EVIL[1])
    (place.folder / "broken.yaml").write_text(f"name: '{EVIL[0]}'\n{EVIL[1]}: 1\n")
    paths = ["/", "/clusters/shop", "/runs", f"/runs/{first}", f"/runs/{first}/nodes/P1", f"/runs/{second}/plan"]
    paths += [f"/compare?run={first}&run={second}", f"/runs/{first}/nodes/%3Cscript%3E", "/clusters/%3Cscript%3E"]
    with person(place.browser, place.server) as page:
        for path in paths:
            page.goto(place.server.url + path)
            _is_clean(page, path)
        page.goto(f"{place.server.url}/runs/{live}")
        note = Event(kind="step.ended", turn="wave-1", node="S1", step="config_edit", status="failed", message=EVIL[0])
        place.engine.store.note(live, note)
        expect(page.locator("#log")).to_contain_text("window.hacked")
        expect(page.locator("tr[data-node='S1'] .why")).to_contain_text("window.hacked")
        _is_clean(page, "live")


def _is_clean(page: Page, path: str) -> None:
    assert page.evaluate("window.hacked") is None, path
    assert 0 == page.locator("main img, main svg, main script, [onerror], [onload]").count(), path
    assert "49" not in page.title(), path


def test_several_clusters_at_a_glance(place: Place) -> None:
    """Each with its state, the age of its proof, its drift and its last runs; a new run is seen without loading."""
    several(place.engine, place.folder)
    (place.folder / "typo.yaml").write_text("name: typo\nnodes: []\n")
    with person(place.browser, place.server) as page:
        news = page.locator(".clusters > li", has_text="news")
        expect(page.locator(".clusters > li")).to_have_count(6)
        expect(news).to_contain_text("Failed")
        expect(page.locator(".clusters > li", has_text="intranet")).to_contain_text("found by verify")
        expect(page.locator(".clusters > li", has_text="shop")).to_contain_text("a plan has changes")
        expect(page.locator(".clusters > li", has_text="portal")).to_contain_text("no run yet")
        picture(page, "clusters", size=(1400, 700))
        picture(page, "clusters-dark", dark=True, size=(1400, 700))
        picture(page, "clusters-phone", size=PHONE, whole=False)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            assert {} == violations(page), scheme
        keep(place.engine, replace(running(4), cluster=named(cluster_of(6, 12), "news")), "next")
        expect(news).to_contain_text("In progress")
        page.get_by_role("link", name="Runs").click()
        page.get_by_label("Result").select_option("in progress")
        page.get_by_role("button", name="Show").click()
        expect(page.locator("tbody tr")).to_have_count(1)
        picture(page, "runs", size=(1400, 500))


#: What the window or a frame cuts: the page itself, tables in their frames, forms behind buttons when they are open.
CUT = """() => {
    for (const one of document.querySelectorAll('details.typed')) one.removeAttribute('name'), one.open = true;
    const wide = [...document.querySelectorAll('.scroll, .sheet, .banner, .card')].filter(
        one => one.scrollWidth > one.clientWidth + 1 || one.getBoundingClientRect().right > innerWidth);
    return [document.documentElement.scrollWidth > innerWidth, wide.map(one => one.className)];
}"""


@pytest.mark.parametrize("width", [1440, 1100, 800, 400])
def test_nothing_is_cut_on_a_window_of_any_width(place: Place, width: int) -> None:
    """Long names of clusters, people and reasons in lists, grids and forms: no table has to be moved sideways."""
    cluster = file_of(named(cluster_of(5, 7), "intranet-production-europe-west-2019"), place.folder)
    made = sample(
        cluster, failed=["P4", "P5"], unreachable=["P7"], reason="CHG-2026-11-27-004711: before Friday evening"
    )
    failed = keep(place.engine, made, f"20261127-101500-{cluster.name}-7f3a2c_8_0012", who=r"CORP\margarethe.schmidt")
    held = keep(place.engine, running(12), "20261128-100100-shop-1a2b3c", timedelta(0))
    hold_before(place.engine.store, held, "wave-2")
    gate = keep(place.engine, running(12), "20261128-100200-shop-1a2b3c", timedelta(0))
    hold_before(place.engine.store, gate, "wave-1", approval=True)
    plan = keep(place.engine, made, "20261127-101500-plan", kind="plan", verdict=Verdict.CHANGES_PENDING)
    paths = ["/", "/runs", f"/clusters/{cluster.name}", f"/compare?run={failed}&run={plan}", f"/runs/{failed}/nodes/P4"]
    paths += [f"/runs/{run}{part}" for run in (failed, held, gate, plan) for part in ("", "/plan")]
    with person(place.browser, place.server, name="margarethe.schmidt-keller") as page:
        page.set_viewport_size({"width": width, "height": 900})
        for path in paths:
            page.goto(place.server.url + path)
            assert page.evaluate(CUT) == [False, []], path


def test_a_run_that_cannot_be_read_hides_no_cluster(place: Place) -> None:
    """The page of its cluster says so, and has everything else."""
    file_of(cluster_of(), place.folder)
    keep(place.engine, sample(), "20261127-101500-shop", kind="verify", verdict=Verdict.REFUTED)  # with other stages
    with person(place.browser, place.server) as page:
        page.goto(f"{place.server.url}/clusters/shop")
        expect(page.get_by_role("heading", name="History")).to_be_visible()
        expect(page.get_by_text("cannot be read: turn observe")).to_be_visible()


def test_a_large_run_moves(place: Place) -> None:
    """Squares change as events come, failures become rows, and the line for screen readers says what failed."""
    made = running(200)
    run = keep(place.engine, made)
    with person(place.browser, place.server) as page:
        page.goto(f"{place.server.url}/runs/{run}")
        expect(page.get_by_text("No server fits")).to_be_visible()
        ended = Event(kind="step.ended", turn="wave-1", node="S1", step="service_restart", status="changed")
        place.engine.store.note(run, ended)
        expect(page.locator(".map a[data-node=S1]")).to_have_class("s-changed")
        # Only now the page is known to listen: what ended before is shown, but not said.
        place.engine.store.note(run, ended.model_copy(update={"node": "S2", "status": "failed"}))
        expect(page.locator("tr[data-node=S2]")).to_be_visible()
        expect(page.locator("#said")).to_contain_text("S2  service_restart  failed")
        page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        assert {} == violations(page, contrast=False)
        record = place.engine.store.run(run)
        update = {
            "state": RunState.CONCLUDED,
            "verdict": Verdict.CANCELLED,
            "ended": record.created,
            "summary": "enough",
        }
        place.engine.store.save(record.model_copy(update=update), Event(kind="run.concluded", status="cancelled"))
        expect(page.locator("h1")).to_have_text("Cancelled")


def test_what_comes_while_a_part_is_fetched_is_not_lost(place: Place) -> None:
    """The answer to the fetch is older than the last message: the part is fetched again."""
    run = keep(place.engine, running(200))
    overtaken: list[str] = []

    def slow(route: Route) -> None:
        answer = route.fetch()
        if not overtaken:
            overtaken.append(route.request.url)
            wanted = "document.getElementById('rows').dataset.fetchWanted"
            before = page.evaluate(wanted)
            fail(place, run, "S1")
            wait_until(lambda: page.evaluate(wanted) != before)
        route.fulfill(response=answer)

    with person(place.browser, place.server) as page:
        page.goto(f"{place.server.url}/runs/{run}")
        expect(page.get_by_text("No server fits")).to_be_visible()
        page.route("**/*part=rows", slow)
        fail(place, run, "S2")
        for node in ("S2", "S1"):
            expect(page.locator(f"tr[data-node={node}]")).to_be_visible()
        assert overtaken


def fail(place: Place, run: str, node: str) -> None:
    """Notes that a step has failed on a node."""
    note = Event(kind="step.ended", turn="wave-1", node=node, step="service_restart", status="failed")
    place.engine.store.note(run, note)


def test_a_page_that_stays_open_tells_the_right_time_and_the_end_of_its_session(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the clock of the browser says; and it does not try again and again to connect."""
    monkeypatch.setattr(stream, "_QUIET", 0.1)
    monkeypatch.setattr(stream, "_ASKED_AGAIN", 0.0)
    made = running(4)
    made = replace(made, record=made.record.model_copy(update={"created": now()}))
    run = keep(place.engine, made)
    with person(place.browser, place.server) as page:
        page.add_init_script("const real = Date.now; Date.now = () => real() + 36_000_000;")
        page.goto(f"{place.server.url}/runs/{run}")
        page.evaluate("document.querySelector('[data-since]').textContent = ''")
        expect(page.locator("[data-since]")).to_have_text(re.compile(r"^(\d+ s|[0-5] min \d\d s)$"))
        expect(page.locator("#link")).to_have_text("")
        for token in listed_tokens(place.engine):
            revoke_token(place.engine, token.id)
        expect(page.locator("#link")).to_contain_text("logged off: load the page again")
        page.reload()
        expect(page.get_by_label("Token")).to_be_visible()


def test_paper_has_everything(place: Place) -> None:
    """Printed, a run has no buttons, its log is not cut, and nothing is wider than the page."""
    run = keep(place.engine, sample(failed=["P1"]))
    with person(place.browser, place.server) as page:
        page.goto(f"{place.server.url}/runs/{run}")
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 768, "height": 1000})
        expect(page.locator("#actions")).not_to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 768
        folded = page.locator("details:not(.typed) > :not(summary)")
        hidden = "all => all.filter(one => !one.getBoundingClientRect().height).map(one => one.outerHTML)"
        assert [] == folded.evaluate_all(hidden)


def test_the_keyboard_is_enough(place: Place) -> None:
    """The first key leads past the header; what has the focus can be seen; a typed confirmation opens with Enter."""
    run = keep(place.engine, sample())
    with person(place.browser, place.server) as page:
        page.goto(f"{place.server.url}/runs/{run}")
        page.keyboard.press("Tab")
        assert "Skip to the content" == page.evaluate("document.activeElement.textContent")
        page.keyboard.press("Enter")
        summary = page.locator("summary", has_text="Roll back")
        for _ in range(12):
            if summary.evaluate("one => one === document.activeElement"):
                break
            page.keyboard.press("Tab")
        assert "none" != summary.evaluate("one => getComputedStyle(one).outlineStyle")
        page.keyboard.press("Enter")
        expect(page.get_by_role("textbox")).to_be_visible()

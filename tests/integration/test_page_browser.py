"""The report page in a real browser: what its first screen shows, what fits, and what axe has to say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page

from pipelines.cli.entry import run
from pipelines.report.build import build
from pipelines.report.html import to_html
from tests.browsing import chromium, opened, violations
from tests.integration.harness import Harness, cluster_of, four_servers
from tests.integration.invented_reports import REPORTS
from tests.sampling import rotated
from tests.unit.pipelines.report.sample_run import cluster_of as cluster_of_pools
from tests.unit.pipelines.report.sample_run import sample

pytestmark = pytest.mark.integration

PHONE, WIDE = 390, 1400
WIDTHS = (PHONE, 768, 1000, WIDE, 1920)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
FOLD = {PHONE: 844, WIDE: 600}  #: pixels of the first screen
CUT = """() => [...document.querySelectorAll('body *')].filter(one => !one.closest('.scroll, .unseen')
    && (one.getBoundingClientRect().right > innerWidth || one.scrollWidth > one.clientWidth + 1 && one.clientWidth))
    .map(one => one.outerHTML.slice(0, 200))"""
BOTTOM = "all => Math.max(0, ...all.map(one => one.getBoundingClientRect().bottom))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests here."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module", params=REPORTS)
def reported(
    request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """The page of one report, for all tests of it: to open one takes longer than what they ask of it."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(to_html(REPORTS[request.param]))
    with opened(browser, file) as shown:
        yield shown


@pytest.fixture
def page(reported: Page) -> Page:
    """The page of one report, as it is first shown."""
    reported.emulate_media(media="null", color_scheme="null")
    reported.evaluate("scrollTo(0, 0)")
    return reported


def resized(page: Page, width: int) -> None:
    """Gives the window that width, and the height of a usual one."""
    page.set_viewport_size({"width": width, "height": 844 if width == PHONE else 900})


def test_the_first_screen_answers(page: Page) -> None:
    """The verdict with its counts, every line about the servers, the command and the first fix are above the fold."""
    for width, fold in FOLD.items():
        resized(page, width)
        answers = ("h1", ".totals .pill", ".standing", ".to-do li:first-child", ".to-do li:has(.fix) >> nth=0")
        bottoms = {answer: page.locator(answer).evaluate_all(BOTTOM) for answer in answers}
        assert min(bottoms[answer] for answer in answers[:4]) > 0
        assert {} == {answer: bottom for answer, bottom in bottoms.items() if bottom > fold}


def test_nothing_is_cut_off(page: Page) -> None:
    """At no width is the page wider than its window, and no text leaves its box; at 1,000 pixels all columns fit."""
    for width in WIDTHS:
        resized(page, width)
        assert [] == page.evaluate(CUT), width
        hidden = "all => all.map(one => one.scrollWidth - one.clientWidth).filter(rest => rest > 0)"
        assert width < WIDTHS[2] or [] == page.locator(".scroll").evaluate_all(hidden), width
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_axe_finds_nothing(page: Page, request: pytest.FixtureRequest) -> None:
    """Neither in light nor in dark, at no width: contrast, focus, names, headings, tables, landmarks."""
    papers, looks = set(), rotated(len(SCHEMES), 2, request.node.name)
    for number, scheme in enumerate(SCHEMES):
        page.emulate_media(color_scheme=scheme)
        papers.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        for width in (PHONE, 768, WIDE) if number in looks else ():
            resized(page, width)
            assert {} == violations(page, contrast=width == PHONE), (width, scheme)
    assert len(papers) == 2


def test_the_printed_page_has_everything(page: Page) -> None:
    """What is folded on the screen is unfolded on paper, and nothing is cut off there."""
    page.emulate_media(media="print")
    resized(page, 768)
    folded = page.locator("details > :not(summary)")
    assert [] == folded.evaluate_all(
        "all => all.filter(one => !one.getBoundingClientRect().height).map(x => x.outerHTML)"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 768


def test_a_page_of_many_nodes_is_shown_at_once(browser: Browser, tmp_path: Path) -> None:
    """Of 300 nodes less than a megabyte, and no row is laid out before its wave is opened; axe accepts it opened."""
    file = tmp_path / "report.html"
    large = to_html(build(sample(cluster_of_pools(150, 150), failed=["P4"])))
    assert len(large.encode()) < 1_000_000
    file.write_text(large)
    with opened(browser, file) as shown:
        rows = shown.locator(".grid tbody tr")
        assert (300, False) == (rows.count(), rows.last.is_visible())
        wave = shown.get_by_text("wave-2")
        assert "149 changed, 1 failed" in wave.first.inner_text()
        wave.first.click()
        assert rows.last.is_visible()
    file.write_text(to_html(build(sample(cluster_of_pools(31, 30), failed=["P4"]))))
    with opened(browser, file) as shown:
        shown.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        assert {} == violations(shown, contrast=False)
        for width in (PHONE, WIDE):
            resized(shown, width)
            assert [] == shown.evaluate(CUT), width


def test_axe_is_heard(browser: Browser, tmp_path: Path) -> None:
    """The judge works: a page with too little contrast and an empty heading of a column is refused for both."""
    file = tmp_path / "bad.html"
    table = "<table><tr><th></th></tr><tr><td>a</td></tr></table>"
    file.write_text(f"<html lang=en><title>a</title><main><h1 style='color:#ccc'>pale</h1>{table}</main></html>")
    with opened(browser, file) as shown:
        assert {"color-contrast", "empty-table-header"} == violations(shown).keys()


def test_the_written_file_opens(
    browser: Browser, harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`esync report -o x.html` writes the page of the newest run; the browser shows its verdict."""
    with four_servers(tmp_path / "lab") as lab:
        done = harness.rollout(cluster_of(lab), kind="doctor")
    for name, value in harness.environment.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "x.html"
    assert 0 == run(["report", "-o", str(file)])
    with opened(browser, file) as shown:
        assert ("Ready", done.record.id) == (shown.locator("h1").inner_text(), shown.locator("dd").first.inner_text())
        assert {} == violations(shown)

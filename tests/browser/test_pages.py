"""The pages in a real browser before a lab: what an operator does with a mouse, and what a second one sees."""

import re

import pytest
from playwright.sync_api import Page, expect

from pipelines.usecases.tokens import Role
from tests.browser.conftest import PHONE, WIDE, Desk, person, picture
from tests.browsing import violations
from tests.sampling import rotated
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

CERTIFICATE = "Program Files/Ektron/EktronWindowsService30/P1_SyncClient.cer"
#: Milliseconds that a server takes for each answer while a test looks at what passes.
SLOW = 1000
#: Notes when the title changes, every turn, and every class that a cell of the grid had.
NOTES = """() => {
    window.titles = {}; window.turns = new Set(); window.classes = new Set();
    const note = () => {
        const title = document.querySelector('h1')?.textContent;
        window.titles[title] ??= Date.now();
        window.turns.add(document.querySelector('.turn label')?.textContent);
        for (const cell of document.querySelectorAll('.grid td.step')) window.classes.add(cell.className);
    };
    new MutationObserver(note).observe(document.body, {subtree: true, childList: true, attributes: true});
    note();
}"""


def title(page: Page, text: str) -> None:
    """Waits for the title, and for the buttons that belong to it."""
    expect(page.locator("h1")).to_have_text(text)


def noted(page: Page, what: str) -> None:
    """Waits until the notes of the page have it, though it may have passed since."""
    wait_until(lambda: page.evaluate(f"Boolean(window.{what})"))


def planned(page: Page) -> None:
    """From the page of the cluster to its plan, with the mouse."""
    page.get_by_role("button", name="Plan a rollout").click()
    title(page, "What would change")


def test_a_person_rolls_out_with_the_mouse_and_another_one_sees_it(desk: Desk) -> None:
    """From the list of clusters to a joined cluster; the second browser shows each moment within a second."""
    with person(desk.browser, desk.server) as page, person(desk.browser, desk.server, Role.VIEWER, "guest") as other:
        other.get_by_role("link", name="shop", exact=True).click()
        page.get_by_role("link", name="shop", exact=True).click()
        planned(page)
        expect(page.get_by_text("Changes by server")).to_be_visible()
        expect(page.locator(".diff ins").first).to_contain_text("+ 1")
        picture(page, "plan", size=(1100, 900), whole=False)
        desk.lab.break_node("S1", latency_ms=SLOW)
        page.get_by_role("button", name="Approve and roll out").click()
        title(page, "In progress")
        page.evaluate(NOTES)
        other.locator(".active a").click()
        title(other, "In progress")
        other.evaluate(NOTES)
        for each in (page, other):
            noted(each, "classes.has('step s-running')")
            noted(each, "turns.has('wave-1')")
        picture(page, "run-live")
        desk.lab.heal("S1")
        for each in (page, other):
            title(each, "Joined")
            assert {"step s-running", "step s-changed", "step s-unchanged"} <= set(each.evaluate("[...window.classes]"))
        ends = [each.evaluate("window.titles['Joined']") for each in (page, other)]
        assert abs(ends[0] - ends[1]) < 1000
        expect(page.get_by_text("Roll back…")).to_be_visible()
        assert other.get_by_text("Roll back…").count() == 0
        picture(page, "run")


def test_a_broken_server_is_seen_explained_retried_and_rolled_back(desk: Desk) -> None:
    """Its cause and its remedy are on the page; a retry repairs it; a rollback needs the name of the cluster."""
    first = desk.rollout()
    with person(desk.browser, desk.server) as page:
        with (desk.lab.disk("P1") / CERTIFICATE).open("ab") as file:
            file.write(b"x")
        desk.lab.break_node("P1", disk_free=0)
        page.get_by_role("link", name="shop", exact=True).click()
        page.get_by_role("button", name="Verify").click()
        title(page, "Refuted")
        page.get_by_role("link", name="shop").first.click()
        expect(page.get_by_text("P1_SyncClient.cer differ").first).to_be_visible()
        picture(page, "cluster")
        planned(page)
        page.get_by_role("button", name="Approve and roll out").click()
        title(page, "Failed")
        expect(page.locator(".problems")).to_contain_text("not enough space on the disk")
        expect(page.locator(".problems .fix")).to_contain_text("free space on C: of P1")
        expect(page.get_by_role("button", name="Retry what is left")).to_be_visible()
        picture(page, "run-failed", whole=False)
        page.get_by_role("link", name="P1", exact=True).click()
        expect(page.locator("tr", has_text="cert_copy").first).to_contain_text("failed")
        picture(page, "server")
        page.go_back()
        desk.lab.heal("P1")
        page.get_by_role("button", name="Retry what is left").click()
        title(page, "Joined")
        page.goto(f"{desk.server.url}/runs/{first.id}")
        page.get_by_text("Roll back…").click()
        sheet = page.get_by_role("group").locator("form.sheet")
        sheet.get_by_role("textbox").fill("shopping")
        sheet.get_by_role("button", name="Roll back").click()
        expect(page.locator(".banner")).to_contain_text("was not typed as it is (shop); nothing was done")
        page.go_back()
        page.get_by_text("Roll back…").click()
        sheet.get_by_role("textbox").fill("shop")
        sheet.get_by_role("button", name="Roll back").click()
        expect(page.locator("h1")).to_have_text(re.compile("Restored|Failed"))
        expect(page.locator("#actions")).to_contain_text("Compare with its parent")


def test_pause_resume_and_cancel(desk: Desk) -> None:
    """A paused run says so and waits, a resumed one works, a cancelled one needs the name of the cluster and ends."""
    for node in ("S1", "S2", "P1", "P2"):
        desk.lab.break_node(node, latency_ms=SLOW)
    with person(desk.browser, desk.server) as page:
        page.get_by_role("link", name="shop", exact=True).click()
        page.get_by_text("Roll out at once…").click()
        page.get_by_role("textbox").fill("shop")
        page.get_by_role("button", name="Roll out at once").click()
        page.get_by_role("button", name="Pause").click()
        title(page, "Paused")
        page.get_by_role("button", name="Resume").click()
        title(page, "In progress")
        page.get_by_text("Cancel…").click()
        page.get_by_role("textbox").fill("shop")
        page.get_by_role("button", name="Cancel").click()
        title(page, "Cancelled")


def test_a_page_without_javascript_is_complete(desk: Desk) -> None:
    """Forms post, links lead on, a run that moves is loaded again by itself; nothing on it needs a script."""
    with person(desk.browser, desk.server, script=False) as page:
        page.get_by_role("link", name="shop", exact=True).click()
        page.get_by_role("button", name="Doctor").click()
        title(page, "Ready")  # of a page that the browser loads again, every few seconds
        expect(page.locator(".grid tbody tr[data-node]")).to_have_count(4)
        page.get_by_role("button", name="Log off").click()
        page.get_by_role("heading", name="Log on").wait_for()


def test_axe_finds_nothing_on_any_page(desk: Desk) -> None:
    """In light on a phone, in dark on a wide screen: contrast, names, focus, headings, tables, landmarks.

    `make test` looks at each page in one of the two.
    """
    desk.lab.break_node("P1", disk_free=0)
    failed = desk.rollout().id
    desk.lab.heal("P1")
    joined = desk.rollout().id
    paths = (
        *("/", "/clusters/shop", "/runs", f"/runs/{failed}", f"/runs/{failed}/plan", f"/runs/{failed}/nodes/P1"),
        *(f"/compare?run={failed}&run={joined}", "/runs/none"),
    )
    with person(desk.browser, desk.server) as page:
        for number, path in enumerate(paths):
            page.goto(f"{desk.server.url}{path}")
            _judge(page, path, number)
        page.get_by_role("link", name="esync").click()
        page.get_by_role("button", name="Log off").click()
        picture(page, "logon", size=(900, 520))
        _judge(page, "/logon", len(paths))


def _judge(page: Page, path: str, number: int) -> None:
    looks = (("light", PHONE), ("dark", WIDE))
    for scheme, (width, height) in [looks[look] for look in rotated(2, 2, f"look of page {number}")]:
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.set_viewport_size({"width": width, "height": height})
        assert {} == violations(page), (path, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path

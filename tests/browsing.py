"""A real browser for tests: Chromium of the system, without a window, that reaches nothing but local files."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, sync_playwright

from tests.conftest import absent

__all__ = ["browser_is_expected", "chromium", "opened", "violations"]

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
#: The address bar, which is never shown, has two pages of its own for its suggestions, in each window: they take more
#: CPU time than the page under test. Only the last list on the command line counts, so Playwright's own follows.
_WITHOUT = [
    *("WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "AvoidUnnecessaryBeforeUnloadCheckSync"),
    *("DestroyProfileOnBrowserClose", "HttpsUpgrades", "HttpsFirstBalancedModeAutoEnable", "LensOverlay"),
    *("MediaRouter", "PaintHolding", "ThirdPartyStoragePartitioning", "AvoidCorsURLLoaderRestartOnRedirect"),
    *("OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled", "PreconnectToSearch"),
]
_QUIET = [
    "--no-sandbox",  # containers run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--disable-features={','.join(_WITHOUT)}",
]
#: Every rule of axe, also those that are still tried out; stricter than AA is only the contrast of `wcag2aaa`.
_RULES = {
    "runOnly": [
        *("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "section508", "EN-301-549", "best-practice"),
        "experimental",
    ],
    "resultTypes": ["violations"],
}
#: Rule -> elements.
_JUDGE = """async rules => Object.fromEntries((await axe.run(rules)).violations.map(
    rule => [rule.id, rule.nodes.map(node => node.html)]))"""


def browser_is_expected() -> bool:
    """Whether a browser is on PATH, or has to be because this is CI."""
    return any(map(shutil.which, _PROGRAMS)) or bool(os.environ.get("CI"))


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, with a profile of its own; ends with the block. Skips the test where there is none, fails in CI."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        absent("no browser on this machine: install Debian's package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_QUIET)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, file: Path) -> Iterator[Page]:
    """A page with that file. The file is all that the page may request: anything else fails the test at the end."""
    asked: list[str] = []
    with browser.new_context(offline=True) as context:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        yield page
    assert [file.as_uri()] == asked


def violations(page: Page, *, contrast: bool = True) -> dict[str, list[str]]:
    """What axe has to say against the page as it is shown now: rule -> the elements.

    Args:
        page: the page.
        contrast: whether to judge the contrast of each text too, which takes longest and is the same at all widths.
    """
    rules = _RULES if contrast else {**_RULES, "rules": {"color-contrast": {"enabled": False}}}
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    found: dict[str, list[str]] = page.evaluate(_JUDGE, rules)
    return found

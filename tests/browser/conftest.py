"""A server with a lab and a worker for each test, and a browser that the tests of a file share."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request, expect
from ruamel.yaml import YAML

from lab.control.remote import LabProcess
from pipelines.cluster_file.loader import load_cluster
from pipelines.engine import Engine
from pipelines.usecases.tokens import Role
from tests.browsing import chromium
from tests.integration.harness import Harness, four_servers, harness_at
from tests.integration.web_server import WebServer, web_server
from tests.places import DOCS
from workers.records import RunRecord

PICTURES = "PICTURES"  #: a variable; when it is set, pictures of the pages are written to docs/pictures
PATIENCE = 120_000  #: milliseconds for anything that has to happen on a page: only a failure takes so long
PHONE, WIDE = (390, 844), (1400, 900)
expect.set_options(timeout=PATIENCE)  # its own five seconds are not enough on a busy machine


@dataclass
class Desk:
    """Where an operator sits: a browser before a server with a cluster of four servers."""

    harness: Harness
    cluster: Path
    lab: LabProcess
    server: WebServer
    browser: Browser

    @property
    def engine(self) -> Engine:
        """The engine behind the server."""
        return self.harness.engine

    def rollout(self) -> RunRecord:
        """A rollout that was not started on a page, after its end."""
        return self.harness.rollout(load_cluster(self.cluster)).record


@contextmanager
def person(
    browser: Browser, server: WebServer, role: Role = Role.OPERATOR, name: str = "mkeller", *, script: bool = True
) -> Iterator[Page]:
    """The page of a person who has logged on by typing a token.

    The test fails when a script fails, when the page loads anything from another server, or when its content security
    policy refuses something.
    """
    with browser.new_context(java_script_enabled=script, viewport={"width": WIDE[0], "height": WIDE[1]}) as context:
        context.set_default_timeout(PATIENCE)
        page, wrong = watched(context, server)
        log_on(page, server, role, name)
        yield page
        assert wrong == []


def watched(context: BrowserContext, server: WebServer) -> tuple[Page, list[str]]:
    """A page, and a list of what went wrong on it."""
    page = context.new_page()
    wrong: list[str] = []

    def refused(dialog: Dialog) -> None:
        wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def asked(request: Request) -> None:
        if not request.url.startswith((f"{server.url}/", "data:")):
            wrong.append(request.url)

    def told(line: ConsoleMessage) -> None:
        if "Content Security Policy" in line.text:
            wrong.append(line.text)

    page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
    page.on("console", told)
    page.on("dialog", refused)
    page.on("request", asked)
    return page, wrong


def log_on(page: Page, server: WebServer, role: Role, name: str) -> None:
    """Logs on with a new token, as a person does."""
    page.goto(f"{server.url}/")
    page.get_by_label("Token").fill(server.token(role, name=name))
    page.get_by_role("button", name="Log on").click()
    page.get_by_role("heading", name="Clusters").wait_for()


def picture(page: Page, name: str, *, dark: bool = False, size: tuple[int, int] = WIDE, whole: bool = True) -> None:
    """Writes a picture of the page for the documents, where that is wanted."""
    if not os.environ.get(PICTURES):
        return
    folder = DOCS / "pictures"
    folder.mkdir(exist_ok=True)
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.screenshot(path=folder / f"{name}.png", full_page=whole, animations="disabled", scale="css")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of a file."""
    with chromium() as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path, browser: Browser) -> Iterator[Desk]:
    """Untouched servers, a worker, and a server of pages."""
    clusters = tmp_path / "clusters"
    clusters.mkdir()
    with ExitStack() as stack:
        lab = stack.enter_context(four_servers(tmp_path / "lab"))
        harness = stack.enter_context(harness_at(tmp_path / "harness", ESYNC_CLUSTERS=str(clusters)))
        server = stack.enter_context(web_server(harness.engine, clusters))
        yield Desk(harness, shop(lab, clusters), lab, server, browser)


def shop(lab: LabProcess, folder: Path) -> Path:
    """The cluster file of the lab as `shop`: a failure is final, and nothing is waited for."""
    yaml = YAML()
    data = yaml.load(lab.cluster.read_text())
    data["name"] = "shop"
    data["policy"] = {
        "whole_pool": True,
        "judge_waves": False,
        "retry_in_wave": 0,
        "max_failed": "100%",
        "max_unreachable": "100%",
        "deadlines": {"settle": 0},
    }
    for name in ("ca.pem", "password"):
        (folder / name).write_bytes((lab.cluster.parent / name).read_bytes())
    file = folder / "shop.yaml"
    with file.open("w") as out:
        yaml.dump(data, out)
    (folder / "password").chmod(0o600)
    return file

"""The report page of a run: its size, and the time until a browser shows it."""

import tempfile
import time
from pathlib import Path

import pytest

from pipelines.engine import Engine
from pipelines.report.build import build
from pipelines.report.html import to_html
from pipelines.usecases import runs
from tests.benchmarks.bars import Values
from tests.benchmarks.installation import Job
from tests.browsing import chromium

__all__ = ["opening_seconds", "page"]


def page(engine: Engine, job: Job) -> Values:
    """The page of a run."""
    started = time.process_time()
    text = to_html(build(runs.summary(engine, job.run)))
    made, at = time.process_time() - started, f"page.{job.nodes}"
    return {f"{at}.cpu": made, f"{at}.size": len(text.encode()) / 1000, f"{at}.opened": opening_seconds(text)}


def opening_seconds(text: str) -> float | str:
    """Until the page is laid out and its heading is visible, the second time; or why that is not known."""
    with tempfile.TemporaryDirectory(prefix="esync-bench-") as name:
        file = Path(name, "report.html")
        file.write_text(text)
        try:
            with chromium() as browser, browser.new_context(offline=True) as context:
                for _ in range(2):  # the first page also pays for the start of the browser's processes
                    shown = context.new_page()
                    started = time.perf_counter()
                    shown.goto(file.as_uri())
                    shown.locator("h1").bounding_box()
                    seconds = time.perf_counter() - started
        except pytest.skip.Exception as absent:
            return str(absent)
    return seconds

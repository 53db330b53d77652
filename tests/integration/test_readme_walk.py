"""The walk of the README, line by line, as pasted into a terminal."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.control.remote import spare_addresses
from tests.browsing import browser_is_expected, chromium, opened
from tests.places import ROOT
from tests.waiting import PATIENCE

pytestmark = pytest.mark.integration

README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent
ACTIVATE = ". .venv/bin/activate"
#: A person waits some seconds for the first wave; a busy machine may need more.
AS_RUN = {"sleep 8": "until grep -q wave-1 rollout.log; do sleep 0.1; done"}


def walk() -> list[list[str]]:
    """The blocks of lines of the walk: the first is for the first terminal, the others for the second."""
    text = README[README.index("## The walk") : README.index("## What a run does")]
    blocks = re.findall(r"(?:^    .*\n)+", re.sub(r"```yaml.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return [[line.removeprefix("    ") for line in block.splitlines()] for block in blocks]


def expected(line: str) -> int:
    """The exit status in the comment of the line; 0 if the comment has none."""
    promised = re.search(r"#.*Exit (\d+)", line)
    return int(promised[1]) if promised else 0


@contextmanager
def terminal(folder: Path, environment: dict[str, str], ready: str, *command: str) -> Iterator[None]:
    """A long-running command in its own terminal; yields when the command has printed that it is ready."""
    log = folder / f"{command[0]}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(BIN / "esync"), *command], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        until = time.monotonic() + PATIENCE
        while ready not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.mark.timeout(1800)
def test_every_line_does_what_its_comment_says(tmp_path: Path, esync: Path) -> None:
    """Plan, rollout, failure, retry, rollback, pause, cancel and report: every exit status is the documented one.

    `esync lab` and `esync up` start as they do for an operator, the other commands from a process that has loaded them.
    """
    first, *rest = walk()
    assert first[-1] == "esync lab --dir .lab"
    lines = [line for block in rest for line in block if line != ACTIVATE]
    assert {"plan", "rollout", "verify", "retry", "rollback", "pause", "resume", "cancel", "cleanup"} <= {
        line.split()[1] for line in lines if line.startswith("esync ")
    }
    assert set(AS_RUN) <= set(lines)
    script = "\n".join(f'{AS_RUN.get(line, line)}\necho "exit $? of {number}" >&3' for number, line in enumerate(lines))
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{esync.parent}:{BIN}:{os.environ['PATH']}"}
    environment = {name: value for name, value in environment.items() if not name.startswith(("ESYNC_", "XDG_"))}
    environment |= {"ESYNC_WORKERS": "1"}  # one a processor costs a start, and is no part of the walk
    lab = ("lab", "--dir", ".lab", "--nodes", "4", "--address", spare_addresses())
    with (
        terminal(tmp_path, environment, "simulated servers are running", *lab),
        terminal(tmp_path, environment, "Ctrl-C stops them", "up"),
    ):
        done = subprocess.run(
            ["bash", "-c", f"exec 3>statuses; {script}"],
            cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
    statuses = [
        int(status) for status in re.findall(r"^exit (\d+) of", (tmp_path / "statuses").read_text(), re.MULTILINE)
    ]
    came = dict(zip(lines, statuses, strict=True))
    assert {line: expected(line) for line in lines} == came, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    if browser_is_expected():
        with chromium() as browser, opened(browser, tmp_path / "report.html") as page:
            assert page.locator("h1").is_visible()

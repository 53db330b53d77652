"""Tests with real processes and real time are tried once more when they fail; these are named, and few are allowed.

On a busy machine a process may be held up for longer than a test can foresee. A fault of the product fails twice.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.sampling import EXHAUSTIVE

__all__ = ["FOLDERS", "MOST", "SecondTry"]

#: With real processes and real time.
FOLDERS = ("integration", "browser", "hostile", "chaos", "windows", "contract", "live")
MOST = 5  #: tests that may need a second try in one run


class SecondTry:
    """A plugin of pytest.

    Args:
        tests: the folder that has `FOLDERS`.
        most: how many tests may need a second try; with more, the run fails.
    """

    def __init__(self, tests: Path, most: int = MOST) -> None:
        self._folders = [tests / name for name in FOLDERS]
        self._most = most

    def pytest_collection_modifyitems(self, items: Sequence[pytest.Item]) -> None:
        """Allows those tests a second try, except where everything is played."""
        paths = {item.path for item in items}
        flaky = {path for path in paths if any(path.is_relative_to(folder) for folder in self._folders)}
        for item in () if EXHAUSTIVE else items:
            if item.path in flaky:
                item.add_marker(pytest.mark.flaky(reruns=1))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fails a run in which too many tests needed it."""
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and len(_named(reporter)) > self._most and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Names each of them, with the error of its first try."""
        named = _named(terminalreporter)
        for test, error in named.items():
            terminalreporter.write_line(f"steady only at the second try: {test}: {error}")
        if len(named) > self._most:
            terminalreporter.write_line(f"{len(named)} tests needed a second try, at most {self._most} may", red=True)


def _named(reporter: pytest.TerminalReporter) -> dict[str, str]:
    """The tests that passed at the second try, and the first line of the error of their first one."""
    failed = {report.nodeid for name in ("failed", "error") for report in reporter.stats.get(name, ())}
    first = [report for report in reporter.stats.get("rerun", ()) if report.nodeid not in failed]
    return {report.nodeid: next(iter(_error(report).splitlines()), "") for report in first}


def _error(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr)

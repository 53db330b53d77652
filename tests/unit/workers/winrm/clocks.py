"""A clock that a test moves, in place of the monotonic clock of the modules that read it."""

from dataclasses import dataclass

import pytest

__all__ = ["Clock", "clock_in"]


@dataclass
class Clock:
    """Replaces the module `time`; `sleep` moves it."""

    now: float = 1000.0

    def monotonic(self) -> float:
        """The current time in seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Moves the clock."""
        self.now += seconds


def clock_in(monkeypatch: pytest.MonkeyPatch, *modules: str) -> Clock:
    """A clock for these modules of `workers.winrm`."""
    clock = Clock()
    for module in modules:
        monkeypatch.setattr(f"workers.winrm.{module}.time", clock)
    return clock

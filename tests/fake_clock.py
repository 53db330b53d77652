"""Programs with a wrong clock, by libfaketime."""

from pathlib import Path

from tests.conftest import absent

__all__ = ["fake_clock"]


def fake_clock(shift: str) -> tuple[str, ...]:
    """The environment variables of a program whose clock is wrong by that much (`+1h`, `-30d`, `+0 x3`).

    Its monotonic clock is right. Without the library the test is skipped.
    """
    library = next(iter(sorted(Path("/usr/lib").rglob("libfaketimeMT.so.1"))), None)
    if library is None:
        absent("no libfaketime on this machine: install Debian's package faketime")
    return f"LD_PRELOAD={library}", f"FAKETIME={shift}", "FAKETIME_DONT_FAKE_MONOTONIC=1"

"""The environment's decisions: what is taken, what is refused before anything starts."""

import pytest

from workers.errors import InputRefused
from workers.settings import load_settings


@pytest.mark.parametrize(
    ("name", "value", "taken"),
    [
        ("CONCURRENCY", "abc", "a whole number from 1 to 512"),
        ("CONCURRENCY", "0", "a whole number from 1 to 512"),
        ("CONCURRENCY", "-1", "a whole number from 1 to 512"),
        ("CONCURRENCY", "1000000000", "a whole number from 1 to 512"),
        ("CONCURRENCY", "", "a whole number from 1 to 512"),
        ("LEASE", "nan", "seconds from 0.1 to 3600"),
        ("LEASE", "0", "seconds from 0.1 to 3600"),
        ("STALL_AFTER", "inf", "seconds from 0.01 to 86400"),
        ("RECONCILE_EVERY", "-5", "seconds from 0.05 to 3600"),
        ("VISIBILITY_TIMEOUT", "1.5", "whole seconds from 1 to 86400"),
        ("LOG_LEVEL", "LOUD", "one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("STATE", "", "a folder"),
        ("STATE", "~nobody-of-that-name/x", "a folder"),
        ("CLUSTERS", " ", "a folder"),
        ("BROKER_URL", "", "a URL"),
        ("SEAL_KEY", "", "a Fernet key"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, taken: str
) -> None:
    """The variable is named with what it takes."""
    monkeypatch.setenv(f"ESYNC_{name}", value)
    with pytest.raises(InputRefused, match=f"ESYNC_{name} cannot be used") as caught:
        load_settings()
    assert f"ESYNC_{name} takes {taken}" in caught.value.remedy


def test_usable_settings_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers within their bounds, and a level in any case."""
    for name, value in {"CONCURRENCY": "512", "LEASE": "0.5", "LOG_LEVEL": "debug"}.items():
        monkeypatch.setenv(f"ESYNC_{name}", value)
    settings = load_settings()
    assert (512, 0.5, "DEBUG") == (settings.concurrency, settings.lease, settings.log_level)

"""Settings from the environment: which values are accepted, and which are refused at the start."""

import pytest

from workers.errors import InputRefused
from workers.settings import load_settings


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
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
        ("STATE", "~no-such-user/x", "a folder"),
        ("CLUSTERS", " ", "a folder"),
        ("BROKER_URL", "", "a URL"),
        ("SEAL_KEY", "", "a Fernet key"),
    ],
)
def test_an_invalid_setting_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str, accepted: str) -> None:
    """The error names the variable with its value, and its valid values."""
    monkeypatch.setenv(f"ESYNC_{name}", value)
    with pytest.raises(InputRefused, match="environment variable has an invalid value") as caught:
        load_settings()
    quoted = "" if name in {"BROKER_URL", "SEAL_KEY"} else f"={value!r}"
    assert f": ESYNC_{name}{quoted};" in caught.value.message
    assert f"ESYNC_{name} must be {accepted}" in caught.value.remedy


def test_several_invalid_settings_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """One error has every wrong variable; a long value is shortened, and a secret one is not shown."""
    monkeypatch.setenv("ESYNC_LEASE", "9" * 300)
    monkeypatch.setenv("ESYNC_CONCURRENCY", "many")
    monkeypatch.setenv("ESYNC_SEAL_KEY", " ")
    with pytest.raises(InputRefused) as caught:
        load_settings()
    assert "ESYNC_CONCURRENCY='many'" in caught.value.message
    assert f"ESYNC_LEASE='{'9' * 60}...'" in caught.value.message
    assert "ESYNC_SEAL_KEY, " in caught.value.message


def test_valid_settings_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers within their limits, and a log level in upper or lower case."""
    for name, value in {"CONCURRENCY": "512", "LEASE": "0.5", "LOG_LEVEL": "debug"}.items():
        monkeypatch.setenv(f"ESYNC_{name}", value)
    settings = load_settings()
    assert (512, 0.5, "DEBUG") == (settings.concurrency, settings.lease, settings.log_level)

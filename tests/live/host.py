"""A real Windows host for tests, if the environment names one. See docs/testing.md."""

import os

from workers.records import Endpoint, Transport
from workers.settings import Secret

__all__ = ["MISSING", "REQUIRED", "host_from_environment", "practice_from_environment"]

REQUIRED = ("WINDOWS_TEST_HOST", "WINDOWS_TEST_USER", "WINDOWS_TEST_PASSWORD")
MISSING = f"set {', '.join(REQUIRED)} to try this on a real Windows host (docs/testing.md)"


def host_from_environment() -> tuple[Endpoint, Secret] | None:
    """The endpoint of the host and the password; None if no host is named."""
    given = {name: os.environ.get(name, "") for name in REQUIRED}
    if not all(given.values()):
        return None
    endpoint = Endpoint(
        node=given["WINDOWS_TEST_HOST"],
        host=given["WINDOWS_TEST_HOST"],
        port=int(os.environ.get("WINDOWS_TEST_PORT", "5986")),
        transport=Transport(os.environ.get("WINDOWS_TEST_TRANSPORT", "ntlm")),
        user=given["WINDOWS_TEST_USER"],
        secret="env:WINDOWS_TEST_PASSWORD",
        ca_file=os.environ.get("WINDOWS_TEST_CA_FILE"),
    )
    return endpoint, Secret(given["WINDOWS_TEST_PASSWORD"])


def practice_from_environment() -> str:
    """The path of the practice service's program on the host; empty if there is none."""
    return os.environ.get("WINDOWS_TEST_SERVICE_PROGRAM", "")

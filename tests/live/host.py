"""A real Windows host for tests, if the environment names one. See docs/testing.md."""

import os
from collections.abc import Mapping

from workers.records import Endpoint, Transport
from workers.settings import Secret

__all__ = ["MISSING", "REQUIRED", "environment_of", "host_from_environment", "practice_from_environment"]

REQUIRED = ("WINDOWS_TEST_HOST", "WINDOWS_TEST_USER", "WINDOWS_TEST_PASSWORD")
MISSING = f"set {', '.join(REQUIRED)} to try this on a real Windows host (docs/testing.md)"
_DEFAULT_PORT = {"https": "5986", "http": "5985"}


def host_from_environment() -> tuple[Endpoint, Secret] | None:
    """The endpoint of the host and the password; None if no host is named."""
    given = {name: os.environ.get(name, "") for name in REQUIRED}
    if not all(given.values()):
        return None
    scheme = os.environ.get("WINDOWS_TEST_SCHEME", "https")
    endpoint = Endpoint(
        node=given["WINDOWS_TEST_HOST"],
        host=given["WINDOWS_TEST_HOST"],
        port=int(os.environ.get("WINDOWS_TEST_PORT", _DEFAULT_PORT[scheme])),
        scheme="http" if scheme == "http" else "https",
        transport=Transport(os.environ.get("WINDOWS_TEST_TRANSPORT", "ntlm")),
        user=given["WINDOWS_TEST_USER"],
        secret="env:WINDOWS_TEST_PASSWORD",
        ca_file=os.environ.get("WINDOWS_TEST_CA_FILE"),
        fingerprint=os.environ.get("WINDOWS_TEST_FINGERPRINT", "").replace(":", "").lower(),
    )
    return endpoint, Secret(given["WINDOWS_TEST_PASSWORD"])


def environment_of(endpoint: Endpoint, secret: Secret, practice: str) -> Mapping[str, str]:
    """The variables that name a host, for a child process."""
    given = {
        "WINDOWS_TEST_HOST": endpoint.host,
        "WINDOWS_TEST_PORT": str(endpoint.port),
        "WINDOWS_TEST_SCHEME": endpoint.scheme,
        "WINDOWS_TEST_TRANSPORT": endpoint.transport.value,
        "WINDOWS_TEST_USER": endpoint.user,
        "WINDOWS_TEST_PASSWORD": secret.reveal(),
        "WINDOWS_TEST_CA_FILE": endpoint.ca_file or "",
        "WINDOWS_TEST_FINGERPRINT": endpoint.fingerprint,
        "WINDOWS_TEST_SERVICE_PROGRAM": practice,
    }
    return {name: value for name, value in given.items() if value}


def practice_from_environment() -> str:
    """The path of the practice service's program on the host; empty if there is none."""
    return os.environ.get("WINDOWS_TEST_SERVICE_PROGRAM", "")

r"""Tries esync on one real Windows host and writes a report without secrets.

    python -m tests.live HOST --user 'DOMAIN\name'

The password is asked for, or named with --secret env:NAME. See docs/testing.md.
"""

import argparse
import getpass
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from tests.live.ladder import Ladder, Rung
from workers.records import Endpoint, Transport, now
from workers.settings import Secret
from workers.winrm.listener import grouped, listener_certificate
from workers.winrm.not_connected import NotConnected, fingerprint_of
from workers.winrm.tls import fetch_certificate

_OURS = ("esync", "esync-test")  #: accounts that are named in docs/testing.md, and words of every report
_PORTS = {"https": 5986, "http": 5985}
_say = Console(highlight=False, markup=False, soft_wrap=True).print


def main() -> int:
    """Climbs the ladder. Exit status: 0 nothing failed, 1 something did, 2 not begun."""
    given = _arguments()
    at = Endpoint(
        node=given.host,
        host=given.host,
        port=given.port or _PORTS[given.scheme],
        scheme=given.scheme,
        transport=Transport(given.transport),
        user=given.user,
        secret="env:WINDOWS_TEST_PASSWORD",
        ca_file=given.ca_file,
        fingerprint=given.fingerprint.replace(":", "").lower(),
    )
    at = at if at.ca_file or at.fingerprint or at.scheme == "http" else _pinned(at, yes=given.yes)
    secret = Secret(os.environ[given.secret.removeprefix("env:")] if given.secret else getpass.getpass("Password: "))
    ladder = Ladder(at, secret, practice=given.service_program, cases=given.cases, tell=_say)
    well = ladder.climb()
    report = _report(at, secret, ladder.rungs)
    given.report.write_text(report, "utf-8")
    _say(report)
    _say(f"report: {given.report}; it has no password, no account and no host name in it")
    return 0 if well else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.live", description=__doc__)
    parser.add_argument("host", help="name or address")
    parser.add_argument("--user", required=True, help=r"an administrator: DOMAIN\name, or a local account")
    parser.add_argument("--secret", default="", help="env:NAME of the password; asked for by default")
    parser.add_argument("--port", type=int)
    parser.add_argument("--scheme", choices=_PORTS, default="https")
    parser.add_argument("--transport", choices=[one.value for one in Transport], default="ntlm")
    parser.add_argument("--ca-file", help="authorities of the host's certificate, PEM")
    parser.add_argument("--fingerprint", default="", help="SHA-256 of the host's certificate")
    parser.add_argument("-y", "--yes", action="store_true", help="trust the certificate that the host shows")
    parser.add_argument("--service-program", default="", help="path of a practice service's program on the host")
    parser.add_argument("--cases", choices=("all", "some", "none"), default="some", help="the agent's cases")
    parser.add_argument("--report", type=Path, default=Path("live-report.txt"))
    return parser.parse_args()


def _pinned(at: Endpoint, *, yes: bool) -> Endpoint:
    """The endpoint with the certificate that the host shows, after a yes."""
    try:
        der = fetch_certificate(at.host, at.port, at.connect_timeout)
    except NotConnected:
        return at  # the first rung says why
    shown = listener_certificate(der)
    about = f"{shown.subject}, issued by {shown.issuer}, until {shown.ends:%Y-%m-%d}" if shown else "cannot be read"
    _say(f"the host shows this certificate: {about}\n  SHA-256 {grouped(fingerprint_of(der))}")
    if not yes and input("Is it the one of this host? [y/N] ").strip().lower() not in {"y", "yes"}:
        sys.exit("nothing was tried; compare the fingerprint on the host, or use --ca-file")
    return at.model_copy(update={"fingerprint": fingerprint_of(der)})


def _report(at: Endpoint, secret: Secret, rungs: list[Rung]) -> str:
    """The report, with the names of host and account, and the password, replaced."""
    lines = [
        f"esync {version('esync-rollout')}, {now():%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}",
        f"{at.scheme}, port {at.port}, {at.transport.value}, {'pinned certificate' if at.fingerprint else 'CA file'}",
    ]
    for rung in rungs:
        lines += ["", f"{rung.state.upper():8} {rung.name} ({rung.seconds:g} s)", *(f"  {line}" for line in rung.seen)]
    text = "\n".join([*lines, ""])
    computer = next((line.split(",")[0] for rung in rungs if rung.name.startswith("log on") for line in rung.seen), "")
    account = "" if at.user in _OURS else at.user
    hidden = {secret.reveal(): "PASSWORD", account: "ACCOUNT", at.host: "HOST", computer: "COMPUTER"}
    for value, word in sorted(hidden.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(value, word) if value else text
    return text


if __name__ == "__main__":
    sys.exit(main())

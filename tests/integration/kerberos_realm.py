"""A real Kerberos realm for tests: MIT's KDC on loopback, in a folder of its own."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ports import kept_ports
from tests.waiting import wait_until

__all__ = ["REALM", "Realm", "running_realm"]

REALM = "TEST.EXAMPLE.ORG"
_PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")


@dataclass(frozen=True)
class Realm:
    """A running realm.

    Attributes:
        kdc: its address. environment: what a program needs to belong to it.
    """

    folder: Path
    kdc: str
    environment: dict[str, str]

    def admin(self, command: str) -> None:
        """Changes the realm's database."""
        _run(["kadmin.local", "-r", REALM, "-q", command], self.environment)

    def keytab(self, principal: str) -> Path:
        """A keytab with the key of a principal; its password stays."""
        path = self.folder / f"{principal.replace('/', '_')}.keytab"
        self.admin(f"ktadd -norandkey -k {path} {principal}")
        return path

    def tickets(self, principal: str, password: str, life: str = "1h") -> Path:
        """A ticket cache, as `kinit` leaves it."""
        path = self.folder / f"{principal}.tickets"
        _run(["kinit", "-l", life, "-c", str(path), f"{principal}@{REALM}"], self.environment, password + "\n")
        return path

    def expired(self, cache: Path) -> bool:
        """Whether a ticket cache has no valid ticket any more."""
        command = ["klist", "-s", "-c", str(cache)]
        return subprocess.run(command, env={**os.environ, **self.environment}, check=False).returncode != 0


def _run(command: list[str], environment: dict[str, str], text: str = "") -> None:
    done = subprocess.run(
        command, env={**os.environ, **environment}, input=text, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stderr
    assert "rror" not in done.stderr, done.stderr


@contextmanager
def running_realm(folder: Path) -> Iterator[Realm]:
    """A realm without principals."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    if missing := [name for name in _PROGRAMS if not shutil.which(name, path=path)]:
        why = f"{', '.join(missing)} not found (Debian: krb5-kdc, krb5-admin-server, krb5-user)"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    with kept_ports() as (port,):
        yield from _realm_at(folder, path, port)


def _realm_at(folder: Path, path: str, port: int) -> Iterator[Realm]:
    (folder / "krb5.conf").write_text(
        f"[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n rdns = false\n udp_preference_limit = 1\n"
        f" dns_canonicalize_hostname = false\n[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{port}\n }}\n"
    )
    (folder / "kdc.conf").write_text(
        f"[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n[realms]\n {REALM} = {{\n"
        f"  database_name = {folder}/principal\n  key_stash_file = {folder}/stash\n  max_life = 10h\n }}\n"
        f"[logging]\n kdc = FILE:{folder}/kdc.log\n admin_server = FILE:{folder}/admin.log\n"
    )
    environment = {
        "KRB5_CONFIG": str(folder / "krb5.conf"), "KRB5_KDC_PROFILE": str(folder / "kdc.conf"), "PATH": path,
    }  # fmt: skip
    realm = Realm(folder, f"127.0.0.1:{port}", environment)
    _run(["kdb5_util", "create", "-s", "-r", REALM, "-P", "master"], environment)
    with subprocess.Popen(["krb5kdc", "-n", "-r", REALM], env={**os.environ, **environment}) as server:
        try:
            wait_until(lambda: _listens(port))
            yield realm
        finally:
            server.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

"""Kerberos with a real key distribution center and the lab's listener with a keytab, over https and http."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from lab.config import FIRST_ADDRESS
from lab.control.remote import LabProcess, running_lab, spare_addresses
from tests.integration.kerberos_realm import REALM, Realm, running_realm
from tests.waiting import wait_until
from workers.errors import EsyncError, InputRefused, LogonRefused, NodeRefused, Unreachable
from workers.records import Endpoint, Transport
from workers.settings import Secret
from workers.winrm import operations as ops
from workers.winrm.methods import missing_package
from workers.winrm.session import AgentSession, open_session

pytestmark = pytest.mark.integration

PASSWORD = "planted: kerberos"
SPN = "HTTP/server.example.org"


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    """A realm with an account, one whose tickets live 60 seconds, and a server."""
    if package := missing_package(Transport.KERBEROS):
        why = f"{package} is not installed: make kerberos"
        pytest.skip(why)
    with running_realm(tmp_path_factory.mktemp("realm")) as running:
        running.admin(f'addprinc -pw "{PASSWORD}" esync')
        running.admin(f'addprinc -pw "{PASSWORD}" -maxlife "60 seconds" brief')
        running.admin(f'addprinc -pw "{PASSWORD}" -expire "2020-01-01" old')
        running.admin(f"addprinc -randkey {SPN}")
        yield running


@pytest.fixture(scope="module")
def lab(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    """Servers that offer Kerberos only, one over https and two over http; one of these has a brief account."""
    folder = tmp_path_factory.mktemp("lab")
    base = spare_addresses().rpartition(".")[0]
    known: dict[str, dict[str, Any]] = {
        "TLS": {"ways": {"offers": ["kerberos"], "strict_binding": True}},
        "PLAIN": {"ways": {"offers": ["kerberos"], "scheme": "http"}},
        "BRIEF": {"ways": {"offers": ["kerberos"], "scheme": "http"}, "user": "brief"},
    }
    nodes = [
        {"name": name, "address": f"{base}.{number}", **more}
        for number, (name, more) in enumerate(known.items(), FIRST_ADDRESS)
    ]
    YAML().dump({"origin": "TLS", "disk": "memory", "nodes": nodes}, folder / "lab.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KRB5_CONFIG", realm.environment["KRB5_CONFIG"])
        patch.setenv("KRB5_KTNAME", str(realm.keytab(SPN)))
        with running_lab(folder, "--config", str(folder / "lab.yaml")) as running:
            patch.undo()
            yield running


def endpoint(lab: LabProcess, kerberos: Realm, node: str, **different: Any) -> Endpoint:  # noqa: ANN401 - fields
    """How to reach a server. Only the cluster file says where the realm is: this process has no configuration of it."""
    known = lab.nodes[node]
    return Endpoint.model_validate(
        {
            "node": node, "host": known["address"], "port": known["port"], "transport": "kerberos", "user": "esync",
            "secret": "env:X", "scheme": "https" if node == "TLS" else "http", "ca_file": str(lab.ca_file),
            "realm": REALM, "kdc": kerberos.kdc, "spn": SPN,
        } | different
    )  # fmt: skip


def opened(at: Endpoint, secret: str = PASSWORD) -> AgentSession:
    """A session."""
    return open_session(at, Secret(secret))


def computer(at: Endpoint, secret: str = PASSWORD) -> str:
    """What a server says its name is, with a message that is not small."""
    session = opened(at, secret)
    try:
        session.ask([ops.write(r"C:\x", os.urandom(100_000), expect=ops.ANY)], deadline=30)
        return session.hello().computer
    finally:
        session.close()


@pytest.mark.parametrize("node", ["TLS", "PLAIN"])
@pytest.mark.parametrize("source", ["password", "keytab", "tickets"])
def test_each_source_of_a_ticket_logs_on(lab: LabProcess, realm: Realm, node: str, source: str) -> None:
    """Over https bound to its certificate, over http with encrypted messages."""
    secret, reference = PASSWORD, "env:X"
    if source == "keytab":
        secret, reference = str(realm.keytab("esync")), "keytab:x"
    if source == "tickets":
        secret, reference = str(realm.tickets("esync", PASSWORD)), "tickets:x"
    assert node == computer(endpoint(lab, realm, node, secret=reference), secret)


_WORKER = """
import sys
from workers.host.unneeded import leave_out
leave_out()
from workers.errors import EsyncError
from workers.records import Endpoint
from workers.settings import Secret
from workers.winrm.session import open_session
assert not sys.modules["gssapi"] and not sys.modules["krb5"]
for secret in sys.argv[2:]:
    try:
        session = open_session(Endpoint.model_validate_json(sys.argv[1]), Secret(secret))
        print(session.hello().computer)
        session.close()
    except EsyncError as error:
        print(error.message)
"""


def test_a_worker_loads_kerberos_for_the_first_node_that_needs_it(lab: LabProcess, realm: Realm) -> None:
    """It starts without; then it logs on, and says what the realm says."""
    at = endpoint(lab, realm, "TLS").model_dump_json()
    command = [sys.executable, "-c", _WORKER, at, PASSWORD, "wrong"]
    said = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    assert said[0] == "TLS"
    assert "the realm refused the password or key of esync" in said[1]


@pytest.mark.parametrize(
    ("different", "secret", "kind", "said", "remedy"),
    [
        ({}, "wrong", LogonRefused, "the realm refused the password or key of esync@", "`secret`"),
        ({"user": "nobody"}, PASSWORD, LogonRefused, "the realm does not know the account nobody@", "`realm`"),
        ({"user": "old"}, PASSWORD, LogonRefused, "locked, disabled or expired", "administrator"),
        ({"spn": ""}, PASSWORD, NodeRefused, "the realm does not know the service HTTP/127.", "`spn`"),
        ({"secret": "tickets:x"}, "/nowhere", LogonRefused, "there is no ticket in the cache", "kinit"),
        ({"user": "DOMAIN\\esync", "realm": ""}, PASSWORD, InputRefused, "names no Kerberos realm", "`realm`"),
        ({"user": "x@ELSEWHERE.ORG"}, PASSWORD, InputRefused, "no key distribution center is known", "`kdc`"),
        ({"realm": "SILENT.ORG", "kdc": "127.0.0.1:1"}, PASSWORD, Unreachable, "no key distribution center answers",
         "port 88"),
    ],
)  # fmt: skip
def test_what_the_realm_says_is_said(
    lab: LabProcess,
    realm: Realm,
    different: dict[str, str],
    secret: str,
    kind: type[EsyncError],
    said: str,
    remedy: str,
) -> None:
    """Each with its remedy; the node has not seen a logon, and no secret is in the message."""
    before = lab.report("TLS")["logons_tried"]
    with pytest.raises(kind) as caught:
        computer(endpoint(lab, realm, "TLS", **different), secret)
    assert said in caught.value.message
    assert remedy in caught.value.remedy
    assert PASSWORD not in str(caught.value) + caught.value.remedy
    assert before == lab.report("TLS")["logons_tried"]


def test_a_ticket_that_would_expire_in_mid_run_is_renewed(lab: LabProcess, realm: Realm) -> None:
    """With a password: before each message of which the answer could come too late, there is a new logon."""
    session = opened(endpoint(lab, realm, "BRIEF", user="brief"))
    before = lab.report("BRIEF")["logons_tried"]
    session.ask([ops.clock()], deadline=30)
    assert lab.report("BRIEF")["logons_tried"] > before
    session.close()


def test_an_expired_ticket_of_a_cache_is_said(lab: LabProcess, realm: Realm) -> None:
    """Nothing can renew it but the program that made it."""
    cache = realm.tickets("esync", PASSWORD, life="1s")
    wait_until(lambda: realm.expired(cache), lambda: "the ticket has not expired")
    with pytest.raises(LogonRefused, match=r"the ticket of esync@.* has expired|there is no ticket") as caught:
        opened(endpoint(lab, realm, "PLAIN", secret="tickets:x"), str(cache))
    assert "kinit" in caught.value.remedy


def test_a_center_that_never_answers_is_given_up(lab: LabProcess, realm: Realm) -> None:
    """It accepts connections, and is silent: after the seconds that a connection may take, that is said."""
    with socket.create_server(("127.0.0.1", 0)) as center:
        silent = {"realm": "QUIET.ORG", "kdc": f"127.0.0.1:{center.getsockname()[1]}", "connect_timeout": 0.5}
        with pytest.raises(Unreachable, match=r"no key distribution center answers within 0\.5 s \(127\.") as caught:
            opened(endpoint(lab, realm, "TLS", **silent))
    assert "port 88" in caught.value.remedy


def test_no_password_is_left_in_files_or_variables(lab: LabProcess, realm: Realm, tmp_path: Path) -> None:
    """Tickets stay in memory; the variable of the configuration names only files in memory."""
    assert "TLS" == computer(endpoint(lab, realm, "TLS"))
    assert PASSWORD not in "".join(os.environ.values())
    assert all(part.startswith(("/proc/self/fd/", "/etc/")) for part in os.environ["KRB5_CONFIG"].split(":"))
    assert [] == list(tmp_path.iterdir())

"""What a cluster file needs on the machine that logs on, found without contact, each with its line."""

import sys
from pathlib import Path

import pytest

from pipelines.cluster_file.here import Here, found_here
from pipelines.cluster_file.loader import load_with_document
from workers.records import Transport
from workers.settings import Settings
from workers.winrm.methods import missing_package

EVERYWHERE = "in the environment of every worker"
INSTALL = "pip install 'esync-rollout[kerberos]'; or use ntlm"
CLUSTER = """\
name: shop
edition: 8.5
origin: S1
site: {path: 'C:\\inetpub\\wwwroot\\shop'}
connection: &all
  user: svc
  transport: TRANSPORT
  secret: SECRET
nodes:
  - {name: S1, host: s1, role: staging, pool: staging}
  - name: P1
    host: p1
    role: production
    pool: live
    connection:
      <<: *all
      secret: env:SHOP_P1
"""


def here(folder: Path, *, transport: str = "ntlm", secret: str = "env:SHOP") -> Here:  # noqa: S107 - a reference
    """What is found about a cluster file."""
    path = folder / "cluster.yaml"
    path.write_text(CLUSTER.replace("TRANSPORT", transport).replace("SECRET", secret))
    return found_here(path, *load_with_document(path), Settings(state=folder / "state"))


def found(folder: Path, *, transport: str = "ntlm", secret: str = "env:SHOP") -> list[str]:  # noqa: S107 - a reference
    """The messages about what is missing, without the file."""
    missing = here(folder, transport=transport, secret=secret).missing
    return [str(mistake).removeprefix(f"{folder / 'cluster.yaml'}:") for mistake in missing]


def test_a_complete_machine_misses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All variables are set, and NTLM needs no package."""
    monkeypatch.setenv("SHOP", "x")
    monkeypatch.setenv("SHOP_P1", "x")
    assert found(tmp_path) == []


def test_variables_that_are_not_set_or_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the cluster and of single nodes, each once and with its own line."""
    monkeypatch.setenv("SHOP_P1", "")
    assert found(tmp_path) == [
        f"8: connection.secret: secret env:SHOP: the variable is not set; set SHOP {EVERYWHERE}",
        f"17: nodes[1].connection.secret: secret env:SHOP_P1: the variable is empty; set SHOP_P1 {EVERYWHERE}",
    ]


def test_a_secret_file_outside_the_allowed_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be refused at the logon of every node; here it has its line, and its content is not shown."""
    monkeypatch.setenv("SHOP_P1", "x")
    (tmp_path / "elsewhere").write_text("pl4nted")
    (tmp_path / "in").mkdir()
    (problem,) = found(tmp_path / "in", secret=f"file:{tmp_path}/elsewhere")
    assert problem.startswith("8: connection.secret: secret file:")
    assert "pl4nted" not in problem


def test_a_transport_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line of the transport, once although a node merges it, and the package to install."""
    monkeypatch.setenv("SHOP", "x")
    monkeypatch.setenv("SHOP_P1", "x")
    monkeypatch.setitem(sys.modules, "gssapi", None)
    assert found(tmp_path, transport="kerberos") == [
        f"7: connection.transport: kerberos needs a package that is not installed here: {INSTALL}"
    ]
    assert found(tmp_path, transport="credssp") == []


def test_windows_has_kerberos_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """There no package is missing, and elsewhere none when it is installed."""
    monkeypatch.setitem(sys.modules, "gssapi", sys)
    monkeypatch.setitem(sys.modules, "krb5", None)
    assert missing_package(Transport.KERBEROS) != ""
    monkeypatch.setitem(sys.modules, "krb5", sys)
    assert missing_package(Transport.KERBEROS) == ""
    monkeypatch.setitem(sys.modules, "gssapi", None)
    assert missing_package(Transport.KERBEROS) != ""
    monkeypatch.setattr(sys, "platform", "win32")
    assert missing_package(Transport.KERBEROS) == ""


def test_a_secret_file_that_others_can_read_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One warning with the line and the remedy; none for a private file; the password is not in it."""
    monkeypatch.setenv("SHOP_P1", "x")
    secret = tmp_path / "password"
    secret.write_text("pl4nted")
    secret.chmod(0o644)
    seen = here(tmp_path, secret="file:password")
    (warning,) = seen.warnings
    assert seen.missing == ()
    assert (8, "connection.secret") == (warning.line, warning.path)
    assert warning.message == f"{secret} can be read by other users of this machine; chmod 600 it"
    secret.chmod(0o600)
    assert here(tmp_path, secret="file:password").warnings == ()


REST = """\
site_login: {user: admin, secret: "file:gone"}
balancers:
  live: {kind: command, program: [PROGRAM], env: {LB_TOKEN: "env:SHOP_LB"}}
"""


def test_what_is_only_read_later_is_found_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password of the site, the program of a balancer and its variables: each with its line."""
    monkeypatch.setenv("SHOP", "x")
    monkeypatch.setenv("SHOP_P1", "x")
    inside = tmp_path / "in"
    inside.mkdir()
    (program := tmp_path / "take.sh").write_text("")
    program.chmod(0o700)
    path = inside / "cluster.yaml"
    text = CLUSTER.replace("TRANSPORT", "ntlm").replace("SECRET", "env:SHOP")
    path.write_text(text + REST.replace("PROGRAM", str(program)))
    seen = found_here(path, *load_with_document(path), Settings(state=tmp_path / "state"))
    gone, outside = (
        "No such file or directory; the file must be",
        "the file is in none of the allowed folders; move the",
    )
    place = "below the folder of the cluster file, or add its folder to ESYNC_SECRETS on every worker"
    assert [str(one).removeprefix(f"{path}:") for one in seen.missing] == [
        f"18: site_login.secret: secret file:{inside}/gone: {gone} readable on every worker",
        f"20: balancers.live.program: program: {outside} program {place}",
        f"20: balancers.live.env.LB_TOKEN: secret env:SHOP_LB: the variable is not set; set SHOP_LB {EVERYWHERE}",
    ]


def test_a_file_in_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker finds `~/password`, so it is no mistake."""
    monkeypatch.setenv("SHOP_P1", "x")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "password").write_text("pl4nted")
    assert found(tmp_path, secret="file:~/password") == []

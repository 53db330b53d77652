"""The judge of connections: it finds every pair that can connect, and why another one cannot."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from lab.machine.folder_disk import FolderDisk
from lab.machine.machine import Machine
from lab.product.family import Family, make_family
from lab.product.site import DEFAULT_SITE, Edition, install_files
from tests.connections import Server, as_loaded, connections, expected, private_keys, refusal, server_at

NODES = ("S1", "S2", "P1")
FAMILY, OTHER = make_family(), make_family()
SITE = DEFAULT_SITE.replace("C:\\", "").replace("\\", "/")
SERVICE = "Program Files/Ektron/EktronWindowsService30"
CONFIG = f"{SERVICE}/Ektron.ASM.EktronServices30.exe.config"


def installed(root: Path, name: str) -> Path:
    """The drive of a server with a new installation."""
    disk = FolderDisk(root / name)
    install_files(Machine(name, disk), Edition.of("8.0"))
    return disk.folder()


def replaced(path: Path, old: str, new: str) -> None:
    """Changes a text in a file."""
    text = path.read_bytes().decode("utf-8-sig")
    assert old in text
    path.write_bytes(text.replace(old, new).encode())


def join(drive: Path, name: str, families: Mapping[str, Family]) -> None:
    """Does by hand what the procedure requires of one server; `families` has that of each server that it knows."""
    for node, family in families.items():
        for file, data in family.files(node):
            (drive / SERVICE / file).write_bytes(data)
            if node == name and "Client" in file:
                (drive / SITE / file).write_bytes(data)
    keys = "".join(
        f'<add key="{node}_SyncClient.cer" encodedValue="{family.client.encoded}"/>'
        for node, family in families.items()
    )
    replaced(drive / CONFIG, "</publickCertKeys>", f"{keys}</publickCertKeys>")
    replaced(drive / CONFIG, "EktronSyncServer.pfx", f"{name}_SyncServer.pfx")
    replaced(drive / SITE / "web.config", "EktronSyncClient.pfx", f"{name}_SyncClient.pfx")
    value = f'key="encodedValue" value="{families[name].client.encoded}"'
    replaced(drive / SITE / "web.config", 'key="encodedValue" value=""', value)


@pytest.fixture
def drives(tmp_path: Path) -> dict[str, Path]:
    """Three servers that are joined by hand."""
    found = {name: installed(tmp_path, name) for name in NODES}
    for name, drive in found.items():
        join(drive, name, dict.fromkeys(NODES, FAMILY))
    return found


def servers(drives: Mapping[str, Path]) -> list[Server]:
    """What the judge reads."""
    return [server_at(name, drive) for name, drive in drives.items()]


def test_untouched_servers_do_not_connect(tmp_path: Path) -> None:
    """Servers with a new installation connect to no other server."""
    assert connections(servers({name: installed(tmp_path, name) for name in NODES})) == set()


@pytest.mark.parametrize("by_value", [False, True])
def test_joined_servers_all_connect(drives: dict[str, Path], *, by_value: bool) -> None:
    """Every pair of servers that were joined by the procedure can connect, in both directions."""
    assert connections(servers(drives), by_value=by_value) == expected(NODES)


def _no_key(drive: Path) -> None:
    replaced(drive / CONFIG, 'key="S1_SyncClient.cer"', 'key="X9_SyncClient.cer"')


def _other_key(drive: Path) -> None:
    old, new = FAMILY.client.encoded, OTHER.client.encoded
    replaced(drive / CONFIG, f'S1_SyncClient.cer" encodedValue="{old}', f'S1_SyncClient.cer" encodedValue="{new}')


def _no_identity(drive: Path) -> None:
    (drive / SERVICE / "P1_SyncServer.pfx").unlink()


def _other_name(drive: Path) -> None:
    replaced(drive / CONFIG, "P1_SyncServer.pfx", "S2_SyncServer.pfx")


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        (_no_key, {("s1", "p1")}),
        (_other_key, {("s1", "p1")}),
        (_no_identity, {("s1", "p1"), ("s2", "p1")}),
        (_other_name, {("s1", "p1"), ("s2", "p1")}),
        (lambda drive: (drive / SITE / "P1_SyncClient.pfx").unlink(), {("p1", "s1"), ("p1", "s2")}),
        (lambda drive: (drive / SERVICE / "S2_SyncClient.cer").unlink(), {("p1", "s2")}),
        (lambda drive: (drive / SERVICE / "S2_SyncServer.cer").write_bytes(OTHER.server.cer), {("p1", "s2")}),
    ],
)
def test_one_deviation_costs_exactly_its_connections(
    drives: dict[str, Path], change: Callable[[Path], None], lost: set[tuple[str, str]]
) -> None:
    """What is missing or different on P1 cuts the connections that need it, and no other."""
    change(drives["P1"])
    assert connections(servers(drives)) == expected(NODES) - lost


def test_a_stranger_with_the_family_connects_by_value_only(drives: dict[str, Path], tmp_path: Path) -> None:
    """A server that no other one has a key for is refused by its name, but its certificate is one that they accept."""
    stranger = installed(tmp_path, "X1")
    join(stranger, "X1", dict.fromkeys(("X1", *NODES), FAMILY))
    all_servers = [*servers(drives), server_at("X1", stranger)]
    assert connections(all_servers) == expected(NODES)
    assert ("x1", "s1") in connections(all_servers, by_value=True)


def test_the_keys_in_memory_count_for_a_running_service(drives: dict[str, Path]) -> None:
    """A key that only the file has does not count, nor any key of a service that does not listen."""
    s1, s2, _ = servers(drives)
    answer = {"clients": {"S2_SyncClient.cer": s2.keys["s2"]}, "server_certificate": s1.shown_as_server}
    assert refusal(s2, as_loaded(s1, answer)) == ""
    assert refusal(s2, as_loaded(s1, answer | {"clients": {}})) == "the server has no key for the client"
    assert refusal(s2, as_loaded(s1, None)) == "the server has no certificate to show"


def test_partners_connect_with_nodes_only() -> None:
    """A partner connects with every node in both directions; what two partners do is not the cluster's affair."""
    assert expected(["A"], ["X", "Y"]) == {("a", "x"), ("x", "a"), ("a", "y"), ("y", "a")}


def test_private_keys_are_found_wherever_they_are(drives: dict[str, Path]) -> None:
    """Every .pfx and .pvk file on a disk is listed, except backups."""
    backup = drives["S1"] / "ProgramData" / "esync-rollout" / "r" / "files"
    backup.mkdir(parents=True)
    (backup / "1.pfx").write_bytes(b"")
    found = private_keys(drives["S1"])
    assert f"{SITE}/S1_SyncClient.pvk" in found
    assert len(found) == 3 * 4 + 2

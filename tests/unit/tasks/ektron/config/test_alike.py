"""Files of several nodes that are read and edited once: each node gets what it would get alone."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ektron.certificates.family import thumbprint
from tasks.ektron.config.alike import Alike
from tasks.ektron.config.readers import read_service
from tasks.ektron.config.sections import Content
from tasks.ektron.desired.config_files import ConfigFile
from tasks.ektron.desired.settings import edited
from tasks.ektron.desired.target import Target
from tasks.ektron.kept import Kept

VALUE = "TkVX"
NODES = ("S1", "P1", "K-1")
TARGET = Target(node="S1", nodes=NODES, is_origin=False, hashes={}, thumbprint=thumbprint(VALUE))
NAMES = [
    "EktronSyncServer.pfx",
    "S1_SyncServer.pfx",
    "P1_SyncServer.pfx",
    "s1_syncserver.pfx",
    "\u017f1_SyncServer.pfx",
]


def service(certificates: list[str], keys: list[str], quote: str = '"') -> bytes:
    """A configuration of the service."""
    services = "".join(f"<add serverCertificate={quote}{name}{quote}/>" for name in certificates)
    entries = "".join(f'<add key="{key}_SyncClient.cer" encodedValue="{VALUE}"/>' for key in keys)
    model = f"<publickCertKeys>{entries}</publickCertKeys><services>{services}</services>"
    settings = '<appSettings><add key="LoadBalanced" value="0"/></appSettings>'
    return f"<configuration>{settings}<ektron.serviceModel>{model}</ektron.serviceModel></configuration>".encode()


@given(
    names=st.lists(st.sampled_from([*NAMES, f"{Alike.STAND_IN}_SyncServer.pfx"]), max_size=3),
    keys=st.lists(st.sampled_from(NODES), unique=True),
    quote=st.sampled_from("\"'"),
    encoding=st.sampled_from(["utf-8", "utf-16"]),
)
def test_each_node_gets_its_own_edit(names: list[str], keys: list[str], quote: str, encoding: str) -> None:
    """Its own name is in it, and what is read from it says so, whatever other nodes had before."""
    data = service(names, keys, quote).decode().encode(encoding)
    for node in NODES:
        edit = edited(ConfigFile.SERVICE, Content(data), replace(TARGET, node=node), VALUE)
        text, own = edit.data.decode(encoding), f"{node}_SyncServer.pfx"
        found = read_service(Content(edit.data)).server_certificates
        assert bool(names) == bool(found)
        assert {own.casefold()} >= {name.casefold() for name in found}
        assert Alike.STAND_IN not in text
        assert edit.data == edited(ConfigFile.SERVICE, Content(edit.data), replace(TARGET, node=node), VALUE).data


def test_facts_have_the_names_of_their_own_file() -> None:
    """The second file of several that are alike is not read as the first one."""
    for node in NODES:
        name = f"{node}_SyncServer.pfx"
        assert (name,) == read_service(Content(service([name, name], []))).server_certificates


def test_a_kept_result_is_computed_once_and_bounds_hold() -> None:
    """Results that were used least are dropped; an exception is not kept."""
    kept, made = Kept[str, str](entries=3, size=10), list[str]()

    def computed(key: str) -> str:
        made.append(key)
        return key.upper()

    def of(key: str, size: int) -> str:
        return kept.of(key, lambda: computed(key), size)

    assert ["A", "A", "B", "A", "C", "A"] == [of(key, 3) for key in "aabaca"]
    assert ["a", "b", "c"] == made
    of("d", 3)
    assert ["A", "D", "B"] == [of(key, 3) for key in "adb"]
    assert ["a", "b", "c", "d", "b"] == made
    with pytest.raises(ZeroDivisionError):
        kept.of("x", lambda: str(1 // 0))
    assert "y" == kept.of("x", lambda: "y")

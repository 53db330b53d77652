"""Ansible inventories: what is read, what it means in a cluster file, and back again."""

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipelines.cluster_file.ansible import draft_of
from pipelines.cluster_file.export import ansible_inventory
from pipelines.cluster_file.init import Draft, DraftNode, text_of
from pipelines.cluster_file.inventory import Inventory, read_inventory
from pipelines.cluster_file.loader import ClusterRefused, read_cluster
from pipelines.cluster_file.mistakes import FILL_IN
from tasks.cluster import Cluster
from tests.sampling import examples
from workers.errors import InputRefused
from workers.records import Transport

PLANTED = "pl4nted-Passw0rd"
INI = f"""\
# A comment
lonely ansible_connection=ssh

[stage_web]
web[01:03].example.net ansible_user='CORP\\svc esync'   # behind the balancer
[live]
p1 ansible_host=10.0.0.7 ansible_port=5985 ansible_winrm_transport=kerberos ansible_password={PLANTED}
p2:5999
[windows:children]
stage_web
live
[windows:vars]
ansible_connection = winrm
ansible_user = svc
ansible_winrm_server_cert_validation=ignore
ansible_winrm_ca_trust_path="/etc/ca bundle.pem"
"""


def read(folder: Path, text: str, name: str = "hosts") -> Inventory:
    """The inventory with that text."""
    (folder / name).write_text(text)
    return read_inventory(folder / name)


def drafted(folder: Path, text: str, name: str = "hosts") -> Draft:
    """The draft of an inventory with that text."""
    return draft_of(read(folder, text, name), source="from a test")


def test_the_ini_form_is_read(tmp_path: Path) -> None:
    """Ranges, quotes, comments, ports, groups of groups; a host is stronger than its group."""
    inventory = read(tmp_path, INI)
    names = [f"web0{n}.example.net" for n in (1, 2, 3)]
    assert ["lonely", *names, "p1", "p2"] == list(inventory.hosts)
    assert {"stage_web": (*names,), "live": ("p1", "p2"), "windows": (*names, "p1", "p2")} == inventory.groups
    assert r"CORP\svc esync" == inventory.hosts[names[0]]["ansible_user"]
    assert ("svc", "5999", "/etc/ca bundle.pem") == tuple(
        inventory.hosts["p2"][name] for name in ("ansible_user", "ansible_port", "ansible_winrm_ca_trust_path")
    )


def test_groups_become_pools_and_passwords_references(tmp_path: Path) -> None:
    """The smallest group is the pool, its name gives the role; no password is copied; the note says whose."""
    draft = drafted(tmp_path, INI)
    nodes = {node.name: node for node in draft.nodes}
    assert ["web01", "web02", "web03", "p1", "p2"] == list(nodes)
    assert ("web01.example.net", "staging", "stage_web") == (
        nodes["web01"].host,
        nodes["web01"].role,
        nodes["web01"].pool,
    )
    assert ("10.0.0.7", "production", "live") == (nodes["p1"].host, nodes["p1"].role, nodes["p1"].pool)
    assert {
        "transport": "ntlm",
        "user": r"CORP\svc esync",
        "ca_file": "/etc/ca bundle.pem",
        "secret": "env:ESYNC_PASSWORD",
    } == draft.connection
    assert {"transport": "kerberos", "scheme": "http", "user": "svc", "secret": "env:ESYNC_PASSWORD_SVC"} == nodes[
        "p1"
    ].connection
    assert {"port": 5999, "user": "svc", "secret": "env:ESYNC_PASSWORD_SVC"} == nodes["p2"].connection
    said = " ".join(draft.notes)
    assert all(word in said for word in ("not copied (p1)", "verifies no certificate of web01", "over WinRM: lonely"))
    assert PLANTED not in text_of(draft)


def test_the_yaml_form_with_files_beside_it(tmp_path: Path) -> None:
    """group_vars and host_vars count, as a file or a folder; an encrypted file is named, a vaulted value is no text."""
    (tmp_path / "group_vars" / "live").mkdir(parents=True)
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text("ansible_user: everyone\n")
    (tmp_path / "group_vars" / "live" / "main.yml").write_text(
        "ansible_user: live\nansible_password: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\n"
    )
    (tmp_path / "group_vars" / "live" / "secret.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    (tmp_path / "host_vars" / "P2.yml").write_text(
        "ansible_user: two\nansible_password: \"{{ lookup('env', 'P2_PW') }}\"\n"
    )
    text = "all:\n  children:\n    live: {hosts: {P1: , P2: {ansible_host: 10.0.0.2}}}\n  hosts: {S1: {}}\n"
    inventory = read(tmp_path, text, "hosts.yml")
    assert ["live", "two", "everyone"] == [inventory.hosts[name]["ansible_user"] for name in ("P1", "P2", "S1")]
    assert (str(tmp_path / "group_vars" / "live" / "secret.yml"),) == inventory.unread
    draft = draft_of(inventory, source="from a test")
    secrets = {node.name: node.connection.get("secret", draft.connection["secret"]) for node in draft.nodes}
    assert "env:P2_PW" == secrets["P2"]
    assert {"env:ESYNC_PASSWORD", "env:ESYNC_PASSWORD_LIVE"} == {secrets["P1"], secrets["S1"]}
    assert "ANSIBLE_VAULT" not in text_of(draft)


def test_what_an_inventory_does_not_say_is_left_to_fill_in(tmp_path: Path) -> None:
    """Templates, addresses in place of names and groups without a role: every open line is named by the check."""
    draft = drafted(tmp_path, "[servers]\n10.0.0.1 ansible_user={{who}}\n10.0.0.2\n")
    with pytest.raises(ClusterRefused) as caught:
        read_cluster(text_of(draft).encode(), file="c.yaml", folder=tmp_path)
    assert {"is not filled in yet"} == {mistake.message for mistake in caught.value.mistakes}
    paths = {mistake.path for mistake in caught.value.mistakes}
    assert {"name", "edition", "origin", "site.path", "connection.user", "nodes[0].name", "nodes[1].role"} <= paths
    assert "nodes[0].host" not in paths


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("web[1:99999]", "a range of more than 5,000 hosts"),
        ("web[1:70][1:80]", "a range of more than 5,000 hosts"),
        ("web[1:x]", "a range is neither of numbers nor of letters"),
        ("web[01:04:0]", "a range is neither of numbers nor of letters"),
        ("web1 'ansible_user=x", "a quote is not closed"),
        ("web1 ansible_user", "only variables are allowed, as name=value"),
        ("[a:children]\nb\n[b:children]\na", "contains itself"),
        ("#!/bin/sh\necho", "is a program"),
    ],
)
def test_an_inventory_that_cannot_be_read_is_refused(tmp_path: Path, text: str, why: str) -> None:
    """With the reason and the command that writes another form of it."""
    with pytest.raises(InputRefused, match=why) as caught:
        read(tmp_path, text)
    assert "ansible-inventory" in caught.value.remedy


@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from(["[a]", "[a:vars]", "x=1", "h[1:3]", "[b:children]", "a", "'", "="])).map("\n".join)
)
def test_no_text_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever an inventory contains, it is read or refused, in both forms; and its draft can be written and parsed."""
    folder = tmp_path_factory.getbasetemp()
    for name in ("fuzz", "fuzz.yml"):
        (folder / name).write_text(text, "utf-8", "replace")
        try:
            draft = draft_of(read_inventory(folder / name), source=text)
        except InputRefused:
            continue
        with pytest.raises(ClusterRefused) as caught:
            read_cluster(text_of(draft).encode(), file="c.yaml", folder=folder)
        assert not [mistake for mistake in caught.value.mistakes if "YAML" in mistake.message]


words = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,12}", fullmatch=True).filter(lambda text: text != FILL_IN)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,14}", fullmatch=True).filter(lambda text: text != FILL_IN)
accounts = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20).filter(
    lambda text: "{{" not in text and text != FILL_IN
)
references = st.from_regex(r"env:[A-Z_]{1,9}", fullmatch=True)
hosts = st.sampled_from(["::{}", "fe80::{}%eth0", "10.0.0.{}", "web_{}", "s{}.example.net"])


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Any cluster that a file can describe, apart from files that would have to exist."""
    labels = draw(st.lists(names, min_size=1, max_size=6, unique_by=str.upper))
    pools = draw(st.lists(words, min_size=1, max_size=3, unique=True))
    connection = st.fixed_dictionaries(
        {"user": accounts, "secret": references, "transport": st.sampled_from([one.value for one in Transport])},
        optional={
            "port": st.integers(1, 65535),
            "scheme": st.sampled_from(["https", "http"]),
            "fingerprint": st.just("AB" * 32),
            "tls_minimum": st.just("1.0"),
            "realm": st.just("CORP.EXAMPLE"),
            "kdc": st.just("kdc1:88"),
            "spn": st.just("HTTP/p1.example.net"),
        },
    )
    roles = {pool: draw(st.sampled_from(["staging", "production"])) for pool in pools}
    nodes = []
    for number, name in enumerate(labels):
        pool = draw(st.sampled_from(pools))
        own = draw(connection) if draw(st.booleans()) else {}
        nodes.append(
            {"name": name, "host": draw(hosts).format(number), "role": roles[pool], "pool": pool, "connection": own}
        )
    site = {"path": "C:\\inetpub\\it's a #site", "database": draw(st.sampled_from(["per-pool", "shared"]))}
    about = {"name": draw(words), "edition": "8.5", "origin": labels[0], "site": site}
    cluster = Cluster.model_validate({**about, "connection": draw(connection), "nodes": nodes})
    endpoints = [cluster.endpoint(name) for name in labels]
    assume(all(one.scheme == "https" or one.transport not in {"basic", "certificate"} for one in endpoints))
    return cluster


def same(one: Cluster, other: Cluster) -> bool:
    """Whether two clusters have the same servers, reached in the same way."""
    about = {"name", "edition", "origin", "site", "partners"}
    nodes = [[(n.name, n.host, n.role, n.pool, c.endpoint(n.name)) for n in c.nodes] for c in (one, other)]
    by_name = [sorted(listed, key=lambda node: node[0]) for listed in nodes]
    return by_name[0] == by_name[1] and one.model_dump(include=about) == other.model_dump(include=about)


@settings(max_examples=examples(1000, 20))
@given(cluster=clusters(), known=st.booleans())
def test_an_exported_cluster_comes_back(
    tmp_path_factory: pytest.TempPathFactory, cluster: Cluster, *, known: bool
) -> None:
    """Cluster -> inventory -> cluster file -> the same cluster, also with a file of pinned certificates for Ansible."""
    folder = tmp_path_factory.getbasetemp()
    pinned = [name for name in cluster.node_names if cluster.endpoint(name).fingerprint] if known else []
    text = ansible_inventory(cluster, str(folder / "pins.pem"), pinned)
    assert text.count("pins.pem") >= bool(pinned)
    assert {"all"} == YAML(typ="safe").load(text).keys()
    (folder / "export.yml").write_text(text)
    draft = draft_of(read_inventory(folder / "export.yml"), source="from a test")
    again = read_cluster(text_of(draft).encode(), file="c.yaml", folder=folder)
    assert same(cluster, again)


@given(
    st.builds(
        Draft,
        source=st.text(),
        name=st.text(min_size=1),
        notes=st.lists(st.text(), max_size=2).map(tuple),
        nodes=st.lists(
            st.builds(DraftNode, name=st.text(), host=st.text(), notes=st.tuples(st.text())), max_size=3
        ).map(tuple),
    )
)
def test_no_value_leaves_its_line(draft: Draft) -> None:
    """Whatever a source says, the file has the keys that it should have, and the name as it was, cleaned."""
    loaded = YAML(typ="safe").load(text_of(draft))
    assert {"name", "edition", "origin", "site", "connection", "nodes"} == loaded.keys()
    assert loaded["name"].isprintable()
    assert max(1, len(draft.nodes)) == len(loaded["nodes"])
    assert all({"name", "host", "role", "pool"} == node.keys() for node in loaded["nodes"])

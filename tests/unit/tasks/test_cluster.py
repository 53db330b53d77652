"""The cluster as a value: nodes by name, and what each key of a cluster file may contain."""

import pytest
from pydantic import ValidationError

from tasks.cluster import Cluster, Site
from tests.unit.pipelines.audit.bundled_run import the_cluster
from workers.records import Endpoint, RunRecord


def test_a_node_is_found_by_name_ignoring_case() -> None:
    """Any spelling of a name finds the node; an unknown name is an error."""
    cluster = the_cluster()
    assert cluster.nodes[2] == cluster.node("P1") == cluster.node("p1")
    with pytest.raises(KeyError):
        cluster.node("X9")


def test_a_copy_with_other_nodes_finds_those() -> None:
    """Nodes that were found before the copy was made do not stay in it."""
    cluster = the_cluster()
    assert "p1.example.net" == cluster.endpoint("P1").host
    moved = tuple(node.model_copy(update={"host": f"new-{node.host}"}) for node in cluster.nodes)
    assert "new-p1.example.net" == cluster.model_copy(update={"nodes": moved}).endpoint("P1").host
    assert "p1.example.net" == cluster.endpoint("P1").host
    assert cluster == the_cluster()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P1.Example.NET.", "p1.example.net"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::FFFF:a00:1", "10.0.0.1"),
    ],
)
def test_a_server_is_the_same_however_its_host_is_written(one: str, other: str) -> None:
    """So two runs never work on it at the same time."""
    data = the_cluster().model_dump(mode="json")
    written = [Cluster.model_validate(data | {"nodes": [data["nodes"][0] | {"host": host}]}) for host in (one, other)]
    assert [f"{other}:5986"] * 2 == [cluster.server(cluster.nodes[0].name) for cluster in written]


def test_a_run_of_an_earlier_version_keeps_the_meaning_of_its_policy() -> None:
    """Its waves, and what ended it, are decided as they were; a cluster file of today has today's defaults."""
    data = the_cluster(policy={"max_failed": 3}).model_dump(mode="json")
    assert not Cluster.model_validate(data).policy.whole_pool
    earlier = {**data, "policy": {"max_failed": 3}}
    policy = Cluster.of_run(RunRecord(id="r", cluster="shop", spec=earlier)).policy
    assert (True, False, 0, 4) == (
        policy.whole_pool, policy.judge_waves, policy.retry_in_wave, policy.allowed_unreachable(4),
    )  # fmt: skip
    assert policy.max_failed == 3
    assert Cluster.of_run(RunRecord(id="r", cluster="shop", spec=data)) == Cluster.model_validate(data)


def test_names_that_differ_only_in_case_are_refused() -> None:
    """The message has each name once, however often it is repeated."""
    data = the_cluster().model_dump(mode="json")
    data["nodes"] += [{**data["nodes"][0], "name": "s1"}, {**data["nodes"][0], "name": "S1"}]
    with pytest.raises(ValueError, match=r"same name \(ignoring case\): S1$|same name \(ignoring case\): S1 "):
        Cluster.model_validate(data)


def clustered(ours: dict[str, object], own: dict[str, object]) -> Cluster:
    """A cluster whose node has settings of its own."""
    known = {"user": "u", "secret": "env:X", **ours}
    node = {"name": "S1", "host": "s1", "role": "staging", "pool": "a", "connection": own}
    site = {"path": "C:\\site"}
    data = {"name": "c", "edition": "8.0", "origin": "S1", "site": site, "connection": known, "nodes": [node]}
    return Cluster.model_validate(data)


def reached(ours: dict[str, object], own: dict[str, object]) -> Endpoint:
    """The endpoint of that node."""
    cluster = clustered(ours, own)
    assert cluster.servers == (f"s1:{cluster.endpoint('S1').port}",)
    return cluster.endpoint("S1")


@pytest.mark.parametrize(
    ("ours", "own", "scheme", "port"),
    [
        ({}, {}, "https", 5986),
        ({"scheme": "http"}, {}, "http", 5985),
        ({"port": 15986}, {}, "https", 15986),
        ({"port": 15986}, {"scheme": "http"}, "http", 5985),
        ({"port": 15986}, {"scheme": "https"}, "https", 15986),
        ({"scheme": "http", "port": 80}, {"scheme": "https"}, "https", 5986),
        ({"port": 15986}, {"scheme": "http", "port": 15985}, "http", 15985),
    ],
)
def test_the_port_follows_the_scheme(ours: dict[str, object], own: dict[str, object], scheme: str, port: int) -> None:
    """A port that was meant for the other scheme is not used."""
    found = reached(ours, own)
    assert (scheme, port) == (found.scheme, found.port)


PIN = "ab" * 32


@pytest.mark.parametrize(
    ("ours", "own", "ca_file", "fingerprint"),
    [
        ({"ca_file": "/ca.pem"}, {}, "/ca.pem", ""),
        ({"ca_file": "/ca.pem"}, {"fingerprint": ":".join(["AB"] * 32)}, None, PIN),
        ({"ca_file": "/ca.pem"}, {"ca_file": "system"}, None, ""),
        ({"fingerprint": PIN.upper()}, {}, None, PIN),
        ({"fingerprint": PIN}, {"ca_file": "/own.pem"}, "/own.pem", ""),
        ({"fingerprint": PIN}, {"ca_file": "system"}, None, ""),
        ({"ca_file": "system"}, {"ca_file": "/own.pem"}, "/own.pem", ""),
    ],
)
def test_pins_files_and_the_system_are_mixed_by_node(
    ours: dict[str, object], own: dict[str, object], ca_file: str | None, fingerprint: str
) -> None:
    """Whom to trust is decided as a whole: a node's own choice replaces the cluster's."""
    found = reached(ours, own)
    assert (ca_file, fingerprint) == (found.ca_file, found.fingerprint)


@pytest.mark.parametrize(
    ("ours", "own", "said"),
    [
        ({}, {}, ""),
        ({"transport": "basic", "tls_minimum": "1.2"}, {}, ""),
        ({"scheme": "http"}, {}, "NTLM encrypts the messages (RC4"),
        ({}, {"scheme": "http", "transport": "kerberos"}, "Kerberos encrypts the messages"),
        ({"scheme": "http", "transport": "credssp"}, {}, "the server gets the password"),
        ({"scheme": "http"}, {"scheme": "https"}, ""),
        ({"tls_minimum": "1.0"}, {}, "TLS 1.0 is accepted"),
        ({"tls_minimum": "1.0"}, {"tls_minimum": "1.2"}, ""),
    ],
)
def test_what_is_weaker_than_https_is_said(ours: dict[str, object], own: dict[str, object], said: str) -> None:
    """By the settings of the node, else those of the cluster; nothing where nothing is weaker."""
    found = clustered(ours, own).weaker_way("S1")
    assert (bool(said), True) == (bool(found), said in found)


@pytest.mark.parametrize(
    ("path", "is_right"),
    [
        (r"C:\site", True),
        (r"d:\inetpub\\wwwroot\It's [1] & (2)\\", True),
        ("E:\\", False),
        (r"E:\..", False),
        (r"C:\inetpub\..\site", False),
        (r"C:\inetpub\.\site", False),
        (r"C:\site.", False),
        ("C:\\site ", False),
        (r"C:\site:stream", False),
        (r"\\nas\site", False),
        ("C:\\" + "x" * 157, True),
        ("C:\\" + "x" * 158, False),
    ],
)
def test_a_path_is_one_that_a_node_accepts(path: str, *, is_right: bool) -> None:
    """What no agent would take is a mistake of the cluster file, known before any contact; so is a whole drive."""
    if is_right:
        assert Site(path=path).path == path
    else:
        with pytest.raises(ValidationError):
            Site(path=path)

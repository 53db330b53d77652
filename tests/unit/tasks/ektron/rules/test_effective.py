"""Rules about what is in force on a node, each at its border."""

import dataclasses
from collections.abc import Mapping

import pytest

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.rules.findings import InvariantState
from tasks.ektron.rules.invariants import judge, judge_prerequisites
from tests.unit.tasks.ektron.joined import changed, joined_cluster

PROVEN, REFUTED, UNKNOWN = InvariantState.PROVEN, InvariantState.REFUTED, InvariantState.UNKNOWN


def cluster_with(fields: Mapping[str, object], *, edition: str = "") -> ClusterFacts:
    """The joined cluster with fields of P1 changed. S1 and P1 are named by address in the cluster file, S2 by name."""
    whole = joined_cluster()
    seen = {**whole.seen, "P1": changed(whole.seen["P1"], **fields)}
    hosts = {"S1": "10.0.0.11", "S2": "web2.corp.example", "P1": "10.0.0.13"}
    return dataclasses.replace(whole, seen=seen, edition=edition, hosts=hosts)


def builds(number: str) -> dict[str, str]:
    """The builds of a site."""
    return {"ek_buildNumber": number}


@pytest.mark.parametrize(
    ("edition", "fields", "state", "reason"),
    [
        ("8.0", {}, PROVEN, ""),
        ("", {"web__builds": builds("9.1.0.184")}, PROVEN, ""),
        ("8.0", {"web__builds": builds("9.1.0.184")}, REFUTED, "9.1.0.184, the cluster file says edition 8.0"),
        ("8.0", {"web__builds": {"ek_cmsversion": "8.50"}}, REFUTED, "ek_cmsversion in web.config is 8.50"),
        ("8.0", {"web__builds": {"ek_cmsversion": "8.02"}}, PROVEN, ""),
        ("8.0", {"web__builds": {}}, UNKNOWN, "no build"),
        ("8.0", {"web__builds": {"ek_buildNumber": "?"}}, UNKNOWN, "no build"),
        ("8.0", {"service_config__install_version": "7.6.6.1", "binaries": []}, REFUTED, "the service is 7.6.6.1"),
        ("8.0", {"service_config__install_version": "9.1 (9.1.0.184) SP1"}, PROVEN, ""),
    ],
)
def test_the_edition_is_the_declared_one(
    edition: str, fields: dict[str, object], state: InvariantState, reason: str
) -> None:
    """A site of another release, or a service older than the edition, refutes; a newer service does not."""
    finding = judge(cluster_with(fields, edition=edition)).of("version.as-declared")
    assert (finding.verdict, finding.nodes) == (state, ("P1",) if state is not PROVEN else ())
    assert reason in finding.reasons.get("P1", "")


def test_another_edition_stops_a_run_before_it_writes() -> None:
    """The rule is a prerequisite: a wrong edition leads to folders of another installation."""
    findings = judge_prerequisites(cluster_with({"web__builds": builds("9.1.0.184")}, edition="8.0"))
    assert "version.as-declared" in [finding.invariant for finding in findings.refuted_errors]


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("9.1 (9.1.0.184) SP1 (.1) CU 4 (.304)", PROVEN),
        ("9.1", PROVEN),
        ("9.1 (9.1.0.183) SP1", REFUTED),
        ("9.0", REFUTED),
    ],
)
def test_the_service_is_compared_by_the_build_in_its_text(text: str, state: InvariantState) -> None:
    """The form of the vendor names release and build; a text with the release only is not older than its builds."""
    fields: dict[str, object] = {
        "web__builds": builds("9.1.0.184"),
        "service_config__install_version": text,
        "binaries": [],
    }
    assert judge(cluster_with(fields)).of("version.service-newer-or-equal").verdict is state


def site(ws_path: str, *addresses: str, **probes: object) -> dict[str, object]:
    """WSPath of P1, and what P1 resolves its host to."""
    fields: dict[str, object] = {"web__ws_path": ws_path, "probes__ws_addresses": addresses}
    return fields | {f"probes__{name}": value for name, value in probes.items()}


ELSEWHERE = {
    "its own name": (site("http://P1/x", "10.0.0.13"), PROVEN, ""),
    "loopback": (site("http://localhost/x", "::1", "127.0.0.1"), PROVEN, ""),
    "a balanced address of every server": (site("http://www.site.example/", "10.0.0.9", "10.0.0.13"), PROVEN, ""),
    "an outer name": (site("https://www.site.example/", "192.0.2.1"), PROVEN, ""),
    "another node by name": (site("http://S2/WorkArea/ServerControlWS.asmx"), REFUTED, "WSPath names s2, which is S2"),
    "another node by its full name": (site("http://s2.corp.example/"), REFUTED, "which is S2"),
    "another node by its host in the cluster file": (site("http://WEB2.corp.example:8080/"), REFUTED, "which is S2"),
    "another node by its address": (site("http://10.0.0.11/", "10.0.0.11"), REFUTED, "the address of S1"),
    "another node by an address that only it knows": (site("http://10.0.0.12/", "10.0.0.12"), REFUTED, "address of S2"),
    "its own name, resolved to another node": (
        site("http://P1/x", "10.0.0.11"), REFUTED, "p1, which is 10.0.0.11 on this node: the address of S1",
    ),
    "another name, resolved to itself": (site("http://S1/x", "10.0.0.13"), PROVEN, ""),
    "a balancer whose name begins like a node": (site("http://s2.shop.example/", "192.0.2.1"), PROVEN, ""),
    "no address": (site("/WorkArea/ServerControlWS.asmx"), PROVEN, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_site_that_is_asked_on_another_node_proves_nothing(name: str) -> None:
    """WSPath that leads to another node, by name or by what the node resolves it to, refutes with both named."""
    fields, state, reason = ELSEWHERE[name]
    finding = judge(cluster_with(fields)).of("site.wspath-no-other-node")
    assert (finding.verdict, finding.nodes) == (state, ("P1",) if state is REFUTED else ())
    assert reason in finding.evidence


def test_a_balancer_in_front_of_the_site_is_a_warning() -> None:
    """An address of no server: the site may be answered by any of them, but the cluster is not broken."""
    findings = judge(cluster_with(site("https://www.site.example/", "192.0.2.1")))
    assert [finding.invariant for finding in findings.refuted_warnings] == ["site.wspath-own-address"]
    assert findings.refuted_errors == ()
    other = judge(cluster_with(site("http://S2/", "10.0.0.12")))
    assert [finding.invariant for finding in other.refuted_errors] == ["site.wspath-no-other-node"]
    assert other.refuted_warnings == ()


@pytest.mark.parametrize(
    ("status", "refuted", "reason"),
    [
        (200, [], ""),
        (401, ["site.service-files-allowed"], "a logon is required"),
        (403, ["site.service-files-allowed"], "the site refuses this server"),
        (404, ["site.wspath-answers"], "http://P1/x returns HTTP 404"),
        (500, ["site.wspath-answers"], "http://P1/x returns HTTP 500"),
        (302, ["site.wspath-answers"], "http://P1/x returns HTTP 302, a redirect: WSPath has to name the address"),
        (0, ["site.wspath-answers"], "http://P1/x does not answer (no route)"),
    ],
)
def test_an_answer_of_the_site_has_its_own_remedy(status: int, refuted: list[str], reason: str) -> None:
    """A refusal names the list of allowed servers; a site that does not work is another finding."""
    probes = {"ws_status": status, "ws_url": "http://P1/x", "ws_problem": "" if status else "no route"}
    findings = judge(cluster_with(site("http://P1/x", "10.0.0.13", **probes))).refuted_errors
    assert [finding.invariant for finding in findings] == refuted
    for finding in findings:
        assert reason in finding.evidence
        assert ("whitelist" in finding.remedy) is (status in (401, 403))


def test_an_answer_to_everything_proves_nothing() -> None:
    """A catch-all page says HTTP 200 too: then it is not known whether the site answers."""
    probes = {"ws_status": 200, "ws_url": "http://P1/x", "ws_catch_all": True}
    findings = judge(cluster_with(site("http://P1/x", "10.0.0.13", **probes)))
    assert findings.refuted_errors == ()
    assert "so does a page that cannot exist" in findings.of("site.wspath-answers").reasons["P1"]


def test_a_path_without_a_host_is_said() -> None:
    """WSPath without scheme and host cannot be asked, and the value is shown."""
    finding = judge(cluster_with({"web__ws_path": "/WorkArea/x.asmx", "probes__ws_status": None})).of(
        "site.wspath-answers"
    )
    assert finding.reasons["P1"] == "WSPath is no absolute http or https address: '/WorkArea/x.asmx'"


def encrypted(**ciphers: str) -> ClusterFacts:
    """The joined cluster in two pools of two; these nodes have an encrypted connection string."""
    whole = joined_cluster()
    why = "the section connectionStrings is encrypted"
    seen = dict(whole.seen)
    for node, cipher in ciphers.items():
        fields = {"web__connection_digest": None, "web__connection_cipher": cipher, "web__connection_problem": why}
        seen[node] = changed(seen[node], **fields)
    return dataclasses.replace(whole, seen=seen, pools={"S1": "s", "S2": "s", "P1": "p", "P2": "p"})


@pytest.mark.parametrize(
    ("ciphers", "state", "nodes"),
    [
        ({"P1": "aa", "P2": "aa"}, PROVEN, ()),
        ({"P1": "aa", "P2": "bb"}, UNKNOWN, ("P1", "P2")),
        ({"P1": "aa"}, UNKNOWN, ("P1",)),
        ({}, PROVEN, ()),
    ],
)
def test_encrypted_connection_strings_are_compared_as_far_as_they_can_be(
    ciphers: dict[str, str], state: InvariantState, nodes: tuple[str, ...]
) -> None:
    """Equal bytes in a pool are equal strings; different ones are no counter-example, and a person can compare them."""
    finding = judge(encrypted(**ciphers)).of("database.same-connection-string")
    assert (finding.verdict, finding.nodes) == (state, nodes)
    for node in nodes:
        assert "is encrypted; decrypt a copy on each node" in finding.reasons[node]
        assert "esync attest" in finding.reasons[node]


@pytest.mark.parametrize(
    ("source", "state"),
    [
        ("AssetManagement.config", PROVEN),
        (r".\assetmanagement.CONFIG", PROVEN),
        (None, PROVEN),
        ("", REFUTED),
        ("Other.config", REFUTED),
        (r"sub\AssetManagement.config", REFUTED),
    ],
)
def test_the_asset_settings_are_those_of_the_file_that_is_edited(source: str | None, state: InvariantState) -> None:
    """Another file, or the section in web.config itself, would be in force instead of the edited one."""
    finding = judge(cluster_with({"web__asset_source": source})).of("config.asset-source")
    assert (finding.verdict, finding.nodes) == (state, ("P1",) if state is REFUTED else ())


def test_a_server_without_eSync_is_no_node() -> None:  # noqa: N802 - the name of the product
    """It is said so once, with what to do, and its missing endpoints are no finding of their own."""
    findings = judge_prerequisites(cluster_with({"web__service_model": False, "web__endpoints": []}))
    (finding,) = findings.refuted_errors
    assert (finding.invariant, finding.nodes) == ("node.syncs", ("P1",))
    assert "`nodes` in the cluster file" in finding.remedy


def test_what_is_encrypted_is_said_once() -> None:
    """Values in an encrypted section are unknown, not wrong: the finding is about the section."""
    hidden = {"service_config__encrypted": ["appSettings"], "service_config__load_balanced": None}
    findings = judge(cluster_with(hidden | {"service_config__install_version": None}))
    assert [finding.invariant for finding in findings.refuted_errors] == ["config.not-encrypted"]
    assert "config.service-load-balanced" in [finding.invariant for finding in findings.unknown_errors]
    model = {"web__encrypted": ["ektron.serviceModel"], "web__service_model": False, "web__endpoints": []}
    assert [f.invariant for f in judge(cluster_with(model)).refuted_errors] == ["config.not-encrypted"]

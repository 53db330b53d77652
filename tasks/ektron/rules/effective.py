"""Invariants about what is in force on a node, as opposed to what one file or the cluster file says."""

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.rules.findings import (
    Invariant,
    Judged,
    Unknown,
    Violated,
    each_node,
    each_node_in,
    prerequisite,
    warning,
)
from tasks.ektron.versions import dotted, is_older, most_exact, release_of
from tasks.ektron.wording import decryption, named, shortened
from tasks.ektron.wspath import host_of

__all__ = ["CONNECTION", "EFFECTIVE_RULES", "comparable_connection", "service_build", "why_not_comparable"]

#: The facts by which connection strings are compared, or from which follows why they cannot be.
CONNECTION = ("web.connection_digest", "web.connection_cipher", "web.connection_problem")
_FIRST_CMS_MAJOR = 7  #: lower numbers are the generation of the service, 3.0.0.0 (ektron-facts 1.3)
_OK = 200
_REFUSED = {401: "a logon is required", 403: "the site refuses this server"}
_REDIRECTS = (301, 302, 303, 307, 308)
_BY_HAND = (
    "decrypt a copy on each node (aspnet_regiis -pdf connectionStrings <folder of the copy>), compare the copies, and "
    "vouch for it with esync attest"
)
_LOOPBACK = ("127.0.0.1", "::1")
_RELEASES = ("ek_buildNumber", "ek_InstallBuild", "ek_cmsversion")  #: the most exact first


def service_build(facts: NodeFacts) -> tuple[int, ...] | None:
    """The build of the Windows service: by its configuration or its program, whichever says more."""
    exe = facts.binaries[0].version if facts.binaries else None
    return most_exact((facts.service_config.install_version, exe), _FIRST_CMS_MAJOR)


def _declared_edition(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    """Paths follow from the edition: with another one, files of another installation are read and edited.

    The service may be newer than its sites, but not older (ektron-facts 1.4).
    """
    declared = cluster.edition
    if not declared:
        return None
    builds = facts.web.builds
    name = next((key for key in _RELEASES if release_of(builds.get(key))), "")
    if name and release_of(builds[name]) != declared:
        return Violated(f"{name} in web.config is {builds[name]}, the cluster file says edition {declared}")
    service = service_build(facts)
    numbers = tuple(int(part) for part in declared.split("."))
    if service is not None and is_older(service, numbers):
        return Violated(f"the service is {dotted(service)}, the cluster file says edition {declared}")
    return None if name else Unknown(_hidden(facts) or "web.config names no build")


def _hidden(facts: NodeFacts) -> str:
    """Why the settings of the site are not known; empty where they are, and a missing one is not set."""
    if not facts.web.file.exists:
        return "web.config is missing"
    if facts.web.file.problem:
        return "web.config cannot be read"
    return "appSettings in web.config is encrypted" if "appSettings" in facts.web.encrypted else ""


def comparable_connection(cluster: ClusterFacts, facts: NodeFacts) -> str | None:
    """What the connection strings of nodes are compared by, shortened; None when it cannot be compared.

    It shows which node differs and nothing else. Encrypted sections are equal only where all nodes that are compared
    have the same bytes; different bytes may hold the same string.
    """
    web = facts.web
    if web.connection_cipher is None:
        return web.connection_digest[:12] if web.connection_digest else None
    pool = cluster.pool_of(facts.node)
    others = (one for node, one in cluster.facts.items() if cluster.pool_of(node) == pool)
    same = all(one.web.connection_cipher == web.connection_cipher for one in others)
    return f"encrypted {web.connection_cipher[:12]}" if same else None


def why_not_comparable(facts: NodeFacts) -> str:
    """Why the connection string of a node cannot be compared, and how a person can."""
    if facts.web.connection_cipher is not None:
        return f"connection string unknown: {facts.web.connection_problem}; {_BY_HAND}"
    problem = f": {facts.web.connection_problem}" if facts.web.connection_problem else ""
    return f"connection string unknown{problem}"


def _asset_settings(facts: NodeFacts) -> Judged:
    """The site reads its asset settings from the file that web.config names (ektron-facts 2.1)."""
    source, expected = facts.web.asset_source, facts.asset.file.path.rpartition("\\")[2]
    if source is None:
        return None
    if not source:
        return Violated("web.config holds the section DocumentManagerData itself")
    if source.replace("/", "\\").removeprefix(".\\").casefold() == expected.casefold():
        return None
    return Violated(f"DocumentManagerData in web.config is read from {shortened(source)!r}")


def _syncs(facts: NodeFacts) -> Judged:
    """A server that only presents the site has no eSync sections in its web.config (ektron-facts 2.3)."""
    hidden = "ektron.serviceModel" in facts.web.encrypted
    if facts.web.service_model or hidden or not facts.web.file.exists or facts.web.file.problem:
        return None
    return Violated("web.config has no section ektron.serviceModel: this server presents the site and does not sync")


def _decrypted(facts: NodeFacts) -> Judged:
    """A value in an encrypted section can be neither read nor edited."""
    parts = ((facts.web, "web.config"), (facts.service_config, "the configuration of the service"))
    found = [f"{section} of {name}" for part, name in parts for section in part.encrypted]
    return Violated(f"encrypted: {named(found)}") if found else None


def _answers(facts: NodeFacts) -> Judged:
    """A refusal is an answer; another rule reports it. Only scheme and host of WSPath matter (ektron-facts 10)."""
    status, web = facts.probes.ws_status, facts.web
    if web.ws_path and not host_of(web.ws_path):
        return Violated(f"WSPath is no absolute http or https address: {shortened(web.ws_path)!r}")
    if status is None:
        return Unknown("was not tested" if web.ws_path else _hidden(facts) or "web.config has no WSPath")
    if status == _OK and facts.probes.ws_catch_all:
        return Unknown(f"{facts.probes.ws_url} returns HTTP 200, and so does a page that cannot exist on that host")
    if status == _OK or status in _REFUSED:
        return None
    where = facts.probes.ws_url or "the address in WSPath"
    if status:
        redirected = ", a redirect: WSPath has to name the address where it leads" if status in _REDIRECTS else ""
        return Violated(f"{where} returns HTTP {status}{redirected}")
    why = f" ({facts.probes.ws_problem})" if facts.probes.ws_problem else ""
    return Violated(f"{where} does not answer{why}")


def _allowed(facts: NodeFacts) -> Judged:
    status = facts.probes.ws_status
    if status in _REFUSED:
        return Violated(f"{facts.probes.ws_url or 'the address in WSPath'} returns HTTP {status}: {_REFUSED[status]}")
    return Unknown("was not tested") if status is None else None


def _leads_to_no_other(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    """What the node resolves the host to decides; its name decides where that is not known."""
    host = host_of(facts.web.ws_path)
    if not host or _leads_here(facts):
        return None
    for other in (node for node in cluster.nodes if node != facts.node):
        theirs = _addresses_of(cluster, other)
        address = next((one for one in facts.probes.ws_addresses or () if one in theirs), "")
        if address:
            return Violated(f"WSPath names {host}, which is {address} on this node: the address of {other}")
    named_other = _named(cluster, host) or _by_first_label(cluster, facts, host)
    if named_other not in ("", facts.node):
        return Violated(f"WSPath names {host}, which is {named_other}")
    return None


def _stays_here(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    """Behind a balancer any server may answer in place of this one."""
    found, own = facts.probes.ws_addresses, facts.probes.own_addresses
    if _leads_to_no_other(cluster, facts) is not None:
        return None  # the other rule says so
    if not found or not own:
        return Unknown("was not tested" if found is None else "the addresses of this node or of WSPath are unknown")
    if _leads_here(facts):
        return None
    return Violated(f"WSPath names {host_of(facts.web.ws_path)}, which is {named(found)}: no address of this node")


def _leads_here(facts: NodeFacts) -> bool:
    own = {*facts.probes.own_addresses, *_LOOPBACK}
    return any(address in own for address in facts.probes.ws_addresses or ())


def _addresses_of(cluster: ClusterFacts, node: str) -> set[str]:
    """What is known of the addresses of a node: its own words, and the address in the cluster file."""
    facts = cluster.of(node)
    return {cluster.hosts.get(node, ""), *(facts.probes.own_addresses if facts else ())} - {"", *_LOOPBACK}


def _named(cluster: ClusterFacts, host: str) -> str:
    """The node with that host name, by the cluster file or by its own name; empty when there is none."""
    names = {cluster.hosts.get(node, "").casefold(): node for node in cluster.nodes}
    return (names | _nodes_by_name(cluster)).get(host, "")


def _by_first_label(cluster: ClusterFacts, facts: NodeFacts, host: str) -> str:
    """The node that a full name may mean; `web.shop.example` of a balancer means no node WEB, as addresses show."""
    node = "" if _is_address(host) else _nodes_by_name(cluster).get(host.partition(".")[0], "")
    other = cluster.of(node) if node else None
    return "" if other and other.probes.own_addresses and facts.probes.ws_addresses else node


def _nodes_by_name(cluster: ClusterFacts) -> dict[str, str]:
    return {node.casefold(): node for node in cluster.nodes}


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdecimal()


EFFECTIVE_RULES = (
    prerequisite(
        id="version.as-declared",
        statement="The site and the Windows service on each node are of the edition in the cluster file.",
        remedy="correct `edition` in the cluster file, or finish the upgrade of this server; folders of an earlier "
        "edition may be left over, and nothing may be written to them",
        source="ektron-facts 1.2, 1.3, 1.4",
        decide=each_node_in(_declared_edition),
        reads=(
            "cluster.edition",
            "web.builds",
            "web.file",
            "web.encrypted",
            "service_config.install_version",
            "binaries",
        ),
        proves="the release in web.config is that of the edition, and the build of the service is not older",
        cannot_know="which release the product folder of another edition belonged to",
    ),
    prerequisite(
        id="node.syncs",
        statement="Each node takes part in eSync: its web.config has the section ektron.serviceModel.",
        remedy="remove a server that only presents the site from `nodes` in the cluster file; if it does sync, install "
        "the eSync component again, or copy the section from another server with this build",
        source="ektron-facts 2.3",
        decide=each_node(_syncs),
        reads=("web.service_model", "web.encrypted", "web.file"),
        proves="the section exists",
        cannot_know="whether a sync was ever set up on the server",
    ),
    prerequisite(
        id="config.asset-source",
        statement="web.config takes the asset settings from AssetManagement.config in the site folder.",
        remedy='set <DocumentManagerData configSource="AssetManagement.config" /> in web.config, as the product does',
        source="ektron-facts 2.1",
        decide=each_node(_asset_settings),
        reads=("web.asset_source", "asset.file.path"),
        proves="web.config names that file, or has no such section",
        cannot_know="whether the site was recycled since; the time of web.config tells the rollout",
    ),
    prerequisite(
        id="config.not-encrypted",
        statement="No section with values that esync reads and edits is encrypted, except connectionStrings.",
        remedy=decryption(),
        source=".NET protected configuration",
        decide=each_node(_decrypted),
        reads=("web.encrypted", "service_config.encrypted"),
        proves="appSettings and ektron.serviceModel are in clear text in both files",
        cannot_know="whether other sections are encrypted; none of them matters here",
    ),
    Invariant(
        id="site.wspath-answers",
        statement="The site answers on each node, at the scheme and host of WSPath.",
        remedy="open the address in a browser on that server; repair the site, its certificate, or WSPath",
        source="ektron-facts 2.3; 10, WSPath; 6, rows 1 and 12",
        decide=each_node(_answers),
        reads=(
            "probes.ws_status",
            "probes.ws_url",
            "probes.ws_problem",
            "probes.ws_catch_all",
            "web.ws_path",
            "web.file",
            "web.encrypted",
        ),
        proves="a web service of the site answers on the node, over http or https as WSPath says; where any page is "
        "answered with HTTP 200, the answer describes the service",
        cannot_know="what the web service answers to the service itself, with its account and its certificates",
    ),
    Invariant(
        id="site.service-files-allowed",
        statement="The site lets each node use its service files.",
        remedy="HTTP 403: allow the addresses of all servers in ektron.cms.security.whitelist.config in the site root "
        "(9.1 SP2 CU3 and later) and in the IP restrictions of IIS, or write https into WSPath, if the site requires "
        "it; HTTP 401: allow anonymous access to these files",
        source="ektron-facts 10, 403 on service files",
        decide=each_node(_allowed),
        reads=("probes.ws_status", "probes.ws_url"),
        proves="the site answers its own node with another status than HTTP 401 and 403",
        cannot_know="whether the other servers are allowed too: each is asked by itself only",
    ),
    Invariant(
        id="site.wspath-no-other-node",
        statement="WSPath of no node leads to another node.",
        remedy="set WSPath in web.config to the server's own name; if the name is right, correct DNS or the hosts file "
        "on that server",
        source="ektron-facts 2.3; 4: address each node explicitly, bypassing the balancer; 10, WSPath",
        decide=each_node_in(_leads_to_no_other),
        reads=("node", "web.ws_path", "probes.ws_addresses", "probes.own_addresses", "cluster.hosts"),
        proves="the node resolves the host to one of its own addresses, or to none of another node",
        cannot_know="which server answers behind an address that belongs to no node",
    ),
    warning(
        id="site.wspath-own-address",
        statement="WSPath leads each node to itself, not to a balancer.",
        remedy="set WSPath in web.config to the server's own name, or let the name lead to 127.0.0.1 in the hosts "
        "file of that server",
        source="ektron-facts 4: address each node explicitly, bypassing the balancer",
        decide=each_node_in(_stays_here),
        reads=("node", "web.ws_path", "probes.ws_addresses", "probes.own_addresses", "cluster.hosts"),
        proves="the node resolves the host to one of its own addresses",
        cannot_know="whether the site is bound to that address: another rule asks it",
    ),
)
